# SPDX-License-Identifier: MIT
# Instruction sets by file name: *_avx2.c, *_avx512.c.  Which of them runs is decided at run time.  No fusing of
# multiply-adds behind our back: masked and full variants of a loop must give the same bits.
set(RINGX_SIMD_FLAGS -O3 -ffp-contract=off)
foreach(source IN LISTS RINGX_SOURCES)
  if(source MATCHES "_avx2\\.c$")
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c;${RINGX_SIMD_FLAGS}")
  elseif(source MATCHES "_avx512\\.c$")
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
                                "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mfma;-mf16c;-mprefer-vector-width=512;${RINGX_SIMD_FLAGS}")
  elseif(source MATCHES "_portable\\.c$")
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${RINGX_SIMD_FLAGS}")
  endif()
endforeach()
