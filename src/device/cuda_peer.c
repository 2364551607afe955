/* SPDX-License-Identifier: MIT */
/* Memory of other processes' GPUs of the host, by CUDA IPC; words that streams set and wait for (stream memory
 * operations), which need no multiprocessor. */
#include <cuda.h>
#include <cuda_runtime.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/device.h"

_Static_assert(sizeof(cudaIpcMemHandle_t) <= RINGX_HANDLE_BYTES, "a handle fits");

/* ---- the driver's functions, which the runtime finds ------------------------------------------------------------- */

typedef struct driver {
    CUresult (*range)(CUdeviceptr *base, size_t *size, CUdeviceptr at);
    CUresult (*batch)(CUstream stream, unsigned count, CUstreamBatchMemOpParams *ops, unsigned flags);
} driver;

static bool find(const char *name, void *function)
{
    enum cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
    void *entry = NULL;
#if CUDART_VERSION >= 12050
    cudaError_t error = cudaGetDriverEntryPointByVersion(name, &entry, 12000, cudaEnableDefault, &result);
#else
    cudaError_t error = cudaGetDriverEntryPoint(name, &entry, cudaEnableDefault, &result);
#endif
    if (error != cudaSuccess || result != cudaDriverEntryPointSuccess)
        entry = NULL;
    memcpy(function, &entry, sizeof entry);
    return entry != NULL;
}

static driver found;
static bool has_all, blocking; /* blocking: each launch is waited for */

static void find_all(void)
{
    const char *wanted = getenv("CUDA_LAUNCH_BLOCKING");
    blocking = wanted && strcmp(wanted, "0") != 0;
    has_all = find("cuMemGetAddressRange", &found.range) && find("cuStreamBatchMemOp", &found.batch);
    cudaGetLastError();
}

/* NULL: a driver without stream memory operations, older than CUDA 12.0. */
static const driver *the_driver(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_all);
    return has_all ? &found : NULL;
}

/* ---- reaching ---------------------------------------------------------------------------------------------------- */

static uint64_t this_process(void)
{
    static _Atomic uint64_t number;
    uint64_t mine = atomic_load(&number), none = 0;
    while (mine == 0) {
        int file = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
        if (file < 0 || read(file, &mine, sizeof mine) != (ssize_t)sizeof mine)
            mine = (uint64_t)(uintptr_t)&number ^ (uint64_t)getpid() << 32 ^ (uint64_t)(ringx__now() * 1e9);
        if (file >= 0)
            close(file);
    }
    return atomic_compare_exchange_strong(&number, &none, mine) ? mine : atomic_load(&number);
}

/* By where the current device is plugged in, which all processes see alike. */
static ringx_status find_unit(int32_t unit[3])
{
    static const enum cudaDeviceAttr place[] = {cudaDevAttrPciDomainId, cudaDevAttrPciBusId, cudaDevAttrPciDeviceId};
    int device = 0, value = 0;
    cudaError_t error = cudaGetDevice(&device);
    for (int i = 0; i < 3 && error == cudaSuccess; i++) {
        error = cudaDeviceGetAttribute(&value, place[i], device);
        unit[i] = value;
    }
    if (error != cudaSuccess)
        RINGX_FAIL(RINGX_DEVICE, "where the GPU is plugged in: %s", cudaGetErrorString(error));
    return RINGX_OK;
}

static ringx_status cuda_share(const void *memory, ringx_reach *reach)
{
    const driver *d = the_driver();
    CUdeviceptr base = 0;
    size_t size = 0;
    cudaIpcMemHandle_t handle;
    memset(reach, 0, sizeof *reach);
    if (!d) /* of no process: nobody reaches it */
        return RINGX_OK;
    if (d->range(&base, &size, (CUdeviceptr)(uintptr_t)memory) != CUDA_SUCCESS)
        RINGX_FAIL(RINGX_INVALID, "%p is no device memory that other ranks could reach", memory);
    reach->process = this_process();
    reach->offset = (int64_t)((uintptr_t)memory - (uintptr_t)base);
    gethostname(reach->host, sizeof reach->host - 1);
    RINGX_TRY(find_unit(reach->unit));
    if (cudaIpcGetMemHandle(&handle, (void *)(uintptr_t)base) == cudaSuccess)
        memcpy(reach->handle, &handle, sizeof handle);
    else
        cudaGetLastError(); /* memory of a pool: nobody reaches it */
    return RINGX_OK;
}

static ringx_status cuda_open(const ringx_reach *reach, void **memory, void **opened)
{
    char host[sizeof reach->host] = "";
    cudaIpcMemHandle_t handle;
    static const unsigned char none[RINGX_HANDLE_BYTES];
    *memory = *opened = NULL;
    gethostname(host, sizeof host - 1);
    if (strcmp(host, reach->host) != 0)
        return RINGX_OK;
    /* Ranks of one process share its driver's locks: one that waits in a call of the driver for a stream that waits for
     * another rank would keep that rank from making the call it is waited for. */
    if (reach->process == this_process() || memcmp(reach->handle, none, sizeof none) == 0)
        return RINGX_OK;
    memcpy(&handle, reach->handle, sizeof handle);
    if (cudaIpcOpenMemHandle(opened, handle, cudaIpcMemLazyEnablePeerAccess) == cudaSuccess)
        *memory = (char *)*opened + reach->offset;
    else
        *opened = NULL;
    cudaGetLastError();
    return RINGX_OK;
}

static void cuda_close(void *opened)
{
    if (opened && cudaIpcCloseMemHandle(opened) != cudaSuccess)
        cudaGetLastError();
}

static ringx_status cuda_copy_rows(void *to, const void *from, size_t width, size_t pitch, size_t rows, void *stream)
{
    cudaError_t error =
        pitch == width || rows == 1
            ? cudaMemcpyAsync(to, from, width * rows, cudaMemcpyDefault, (cudaStream_t)stream)
            : cudaMemcpy2DAsync(to, width, from, pitch, width, rows, cudaMemcpyDefault, (cudaStream_t)stream);
    if (error != cudaSuccess)
        RINGX_FAIL(RINGX_DEVICE, "copying %zu rows of %zu bytes to another rank: %s", rows, width,
                   cudaGetErrorString(error));
    return RINGX_OK;
}

/* ---- words ------------------------------------------------------------------------------------------------------- */

static CUstreamBatchMemOpParams writing(uint32_t *word, bool set)
{
    CUstreamBatchMemOpParams op;
    memset(&op, 0, sizeof op);
    op.writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
    op.writeValue.address = (CUdeviceptr)(uintptr_t)word;
    op.writeValue.value = set;
    op.writeValue.flags = CU_STREAM_WRITE_VALUE_DEFAULT; /* after a barrier for the whole system */
    return op;
}

static CUstreamBatchMemOpParams waiting(uint32_t *word)
{
    CUstreamBatchMemOpParams op;
    memset(&op, 0, sizeof op);
    op.waitValue.operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
    op.waitValue.address = (CUdeviceptr)(uintptr_t)word;
    op.waitValue.value = 1;
    op.waitValue.flags = CU_STREAM_WAIT_VALUE_EQ;
    return op;
}

static ringx_status cuda_words(const ringx_word_op *op, size_t count, void *stream)
{
    const driver *d = the_driver(); /* there: something is reached */
    CUstreamBatchMemOpParams ops[2 * RINGX_MOST_WORD_OPS];
    unsigned n = 0;
    for (size_t i = 0; i < count; i++) {
        if (op[i].use == RINGX_WORD_AWAIT)
            ops[n++] = waiting(op[i].word);
        ops[n++] = writing(op[i].word, op[i].use == RINGX_WORD_SET);
    }
    CUresult result = n ? d->batch((CUstream)stream, n, ops, 0) : CUDA_SUCCESS;
    if (result != CUDA_SUCCESS)
        RINGX_FAIL(RINGX_DEVICE, "words between ranks: stream memory operation failed (CUDA driver error %d)",
                   (int)result);
    return RINGX_OK;
}

static bool cuda_serial(void *stream)
{
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (blocking) /* known: something is reached */
        return true;
    return cudaStreamIsCapturing((cudaStream_t)stream, &status) != cudaSuccess || status != cudaStreamCaptureStatusNone;
}

static ringx_status cuda_clear(uint32_t *words, size_t count, void *stream)
{
    cudaError_t error = cudaMemsetAsync(words, 0, count * sizeof *words, (cudaStream_t)stream);
    if (error != cudaSuccess)
        RINGX_FAIL(RINGX_DEVICE, "clearing %zu words: %s", count, cudaGetErrorString(error));
    return RINGX_OK;
}

static void cuda_release(uint32_t *words, size_t count, void *stream, double seconds)
{
    uint32_t ones[256];
    cudaStream_t beside = NULL;
    double end = ringx__now() + seconds;
    for (size_t i = 0; i < sizeof ones / sizeof *ones; i++)
        ones[i] = 1;
    if (cudaStreamCreateWithFlags(&beside, cudaStreamNonBlocking) != cudaSuccess)
        return;
    do { /* at least once: for a kernel that waits where the stream does not */
        for (size_t i = 0; i < count; i += 256)
            cudaMemcpyAsync(words + i, ones, (count - i < 256 ? count - i : 256) * sizeof *ones, cudaMemcpyHostToDevice,
                            beside);
        sched_yield();
    } while (cudaStreamQuery((cudaStream_t)stream) == cudaErrorNotReady && ringx__now() < end);
    cudaStreamDestroy(beside);
    cudaGetLastError();
}

const ringx_peer_ops ringx__peer_cuda = {
    .share = cuda_share,
    .open = cuda_open,
    .close = cuda_close,
    .copy_rows = cuda_copy_rows,
    .words = cuda_words,
    .clear = cuda_clear,
    .serial = cuda_serial,
    .release = cuda_release,
};
