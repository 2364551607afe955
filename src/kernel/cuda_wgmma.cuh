/* SPDX-License-Identifier: MIT */
/* wgmma.m64nNk16, fp32 sums: ss takes both operands from shared memory by descriptor, rs takes A from registers.
 * One specialisation per N, each for bf16 and f16.  TransA / TransB: the operand's M (N) dimension is contiguous. */
#ifndef RINGX_KERNEL_CUDA_WGMMA_CUH
#define RINGX_KERNEL_CUDA_WGMMA_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

template <typename T, int N> struct ringx_wgmma;

#define RINGX_OUT8(i)                                                                                                  \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]),        \
        "+f"(d[i + 7])
#define RINGX_LIST_32 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define RINGX_OUTS_32 RINGX_OUT8(0), RINGX_OUT8(8)
#define RINGX_LIST_64                                                                                                  \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define RINGX_OUTS_64 RINGX_OUT8(0), RINGX_OUT8(8), RINGX_OUT8(16), RINGX_OUT8(24)
#define RINGX_LIST_80                                                                                                  \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                                 \
    "%32, %33, %34, %35, %36, %37, %38, %39"
#define RINGX_OUTS_80 RINGX_OUT8(0), RINGX_OUT8(8), RINGX_OUT8(16), RINGX_OUT8(24), RINGX_OUT8(32)
#define RINGX_LIST_96                                                                                                  \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                                 \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define RINGX_OUTS_96 RINGX_OUT8(0), RINGX_OUT8(8), RINGX_OUT8(16), RINGX_OUT8(24), RINGX_OUT8(32), RINGX_OUT8(40)
#define RINGX_LIST_128                                                                                                 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                                 \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                                 \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define RINGX_OUTS_128                                                                                                 \
    RINGX_OUT8(0), RINGX_OUT8(8), RINGX_OUT8(16), RINGX_OUT8(24), RINGX_OUT8(32), RINGX_OUT8(40), RINGX_OUT8(48),      \
        RINGX_OUT8(56)
#define RINGX_LIST_176                                                                                                 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                                 \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                                 \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "                                 \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                                 \
    "%80, %81, %82, %83, %84, %85, %86, %87"
#define RINGX_OUTS_176                                                                                                 \
    RINGX_OUT8(0), RINGX_OUT8(8), RINGX_OUT8(16), RINGX_OUT8(24), RINGX_OUT8(32), RINGX_OUT8(40), RINGX_OUT8(48),      \
        RINGX_OUT8(56), RINGX_OUT8(64), RINGX_OUT8(72), RINGX_OUT8(80)
#define RINGX_LIST_192                                                                                                 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                                 \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                                 \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "                                 \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                                 \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define RINGX_OUTS_192                                                                                                 \
    RINGX_OUT8(0), RINGX_OUT8(8), RINGX_OUT8(16), RINGX_OUT8(24), RINGX_OUT8(32), RINGX_OUT8(40), RINGX_OUT8(48),      \
        RINGX_OUT8(56), RINGX_OUT8(64), RINGX_OUT8(72), RINGX_OUT8(80), RINGX_OUT8(88)
#define RINGX_LIST_256                                                                                                 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                                 \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                                 \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "                                 \
    "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                                 \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                                 \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "                     \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define RINGX_OUTS_256                                                                                                 \
    RINGX_OUT8(0), RINGX_OUT8(8), RINGX_OUT8(16), RINGX_OUT8(24), RINGX_OUT8(32), RINGX_OUT8(40), RINGX_OUT8(48),      \
        RINGX_OUT8(56), RINGX_OUT8(64), RINGX_OUT8(72), RINGX_OUT8(80), RINGX_OUT8(88), RINGX_OUT8(96),                \
        RINGX_OUT8(104), RINGX_OUT8(112), RINGX_OUT8(120)

#define RINGX_WGMMA(T, TYPE, N, SS_A, SS_B, SS_S, SS_TA, SS_TB, RS_0, RS_1, RS_2, RS_3, RS_B, RS_S, RS_TB)             \
    template <> struct ringx_wgmma<T, N> {                                                                             \
        template <int TransA, int TransB>                                                                              \
        static __device__ __forceinline__ void ss(float (&d)[N / 2], uint64_t a, uint64_t b, int add)                  \
        {                                                                                                              \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" SS_S ", 0;\n"                                            \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" RINGX_LIST_##N           \
                         "}, %" SS_A ", %" SS_B ", p, 1, 1, %" SS_TA ", %" SS_TB ";\n}\n"                              \
                         : RINGX_OUTS_##N                                                                              \
                         : "l"(a), "l"(b), "r"(add), "n"(TransA), "n"(TransB));                                        \
        }                                                                                                              \
        template <int TransB>                                                                                          \
        static __device__ __forceinline__ void rs(float (&d)[N / 2], const uint32_t *a, uint64_t b, int add)           \
        {                                                                                                              \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" RS_S ", 0;\n"                                            \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" RINGX_LIST_##N           \
                         "}, {%" RS_0 ", %" RS_1 ", %" RS_2 ", %" RS_3 "}, %" RS_B ", p, 1, 1, %" RS_TB ";\n}\n"       \
                         : RINGX_OUTS_##N                                                                              \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(TransB));                 \
        }                                                                                                              \
    }
#define RINGX_WGMMA_BOTH(N, ...)                                                                                       \
    RINGX_WGMMA(__nv_bfloat16, "bf16", N, __VA_ARGS__);                                                                \
    RINGX_WGMMA(__half, "f16", N, __VA_ARGS__)

/* The operands behind the N/2 sums are numbered from N/2. */
RINGX_WGMMA_BOTH(32, "16", "17", "18", "19", "20", "16", "17", "18", "19", "20", "21", "22");
RINGX_WGMMA_BOTH(64, "32", "33", "34", "35", "36", "32", "33", "34", "35", "36", "37", "38");
RINGX_WGMMA_BOTH(80, "40", "41", "42", "43", "44", "40", "41", "42", "43", "44", "45", "46");
RINGX_WGMMA_BOTH(96, "48", "49", "50", "51", "52", "48", "49", "50", "51", "52", "53", "54");
RINGX_WGMMA_BOTH(128, "64", "65", "66", "67", "68", "64", "65", "66", "67", "68", "69", "70");
RINGX_WGMMA_BOTH(176, "88", "89", "90", "91", "92", "88", "89", "90", "91", "92", "93", "94");
RINGX_WGMMA_BOTH(192, "96", "97", "98", "99", "100", "96", "97", "98", "99", "100", "101", "102");
RINGX_WGMMA_BOTH(256, "128", "129", "130", "131", "132", "128", "129", "130", "131", "132", "133", "134");

#endif
