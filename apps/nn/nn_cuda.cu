/* SPDX-License-Identifier: MIT */
/* CUDA's row of the operator table: contexts, scratch memory, copies. */
#include "nn/nn_cuda.cuh"

#include <stdlib.h>

int nn_cuda_failed(cudaError_t error, const char *what)
{
    cudaGetLastError(); /* or the next launch would be blamed for it */
    return fail(error == cudaErrorMemoryAllocation ? CODE_NO_MEMORY : CODE_IO, "cuda: %s: %s (%s)", what,
                cudaGetErrorString(error), cudaGetErrorName(error));
}

#define TRY(call, what)                                                                                                \
    do {                                                                                                               \
        cudaError_t error = (call);                                                                                    \
        if (error != cudaSuccess)                                                                                      \
            return nn_cuda_failed(error, what);                                                                        \
    } while (0)

static int grow(nn_cuda_own *own, cudaStream_t stream, size_t bytes)
{
    TRY(cudaStreamSynchronize(stream), "work before scratch memory grows");
    cudaFree(own->scratch);
    own->scratch = NULL, own->scratch_bytes = 0;
    cudaError_t error = cudaMalloc(&own->scratch, bytes);
    if (error != cudaSuccess) {
        cudaGetLastError();
        return fail(CODE_NO_MEMORY, "cuda: %zu bytes of scratch memory: %s", bytes, cudaGetErrorString(error));
    }
    own->scratch_bytes = bytes;
    return CODE_GOOD;
}

char *nn_cuda_scratch(const nn_context *on, size_t bytes)
{
    nn_cuda_own *own = nn_cuda_own_of(on);
    if (bytes > own->scratch_bytes && grow(own, nn_cuda_stream(on), nn_cuda_rounded(bytes)))
        return NULL;
    return (char *)own->scratch;
}

/* ---- copies ---- */

static int zero(const nn_context *on, void *memory, size_t bytes)
{
    if (bytes)
        TRY(cudaMemsetAsync(memory, 0, bytes, nn_cuda_stream(on)), "zero");
    return CODE_GOOD;
}

static int host_alloc(size_t bytes, void **memory)
{
    cudaError_t error = cudaHostAlloc(memory, bytes ? bytes : 1, cudaHostAllocPortable);
    if (error == cudaSuccess)
        return CODE_GOOD;
    *memory = NULL;
    cudaGetLastError();
    return fail(CODE_NO_MEMORY, "%zu bytes of pinned memory: %s", bytes, cudaGetErrorString(error));
}

static void host_free(void *memory)
{
    if (memory)
        cudaFreeHost(memory);
}

/* Each direction has a stream, so that copies in and out go at the same time. */
static int copy_begin(const nn_context *on, void *to, const void *from, size_t bytes)
{
    nn_cuda_own *own = nn_cuda_own_of(on);
    struct cudaPointerAttributes target;
    if (!bytes)
        return CODE_GOOD;
    TRY(cudaPointerGetAttributes(&target, to), "copy_begin");
    cudaStream_t copies = own->copies[target.type == cudaMemoryTypeDevice];
    TRY(cudaEventRecord(own->begin, nn_cuda_stream(on)), "copy_begin");
    TRY(cudaStreamWaitEvent(copies, own->begin, 0), "copy_begin");
    TRY(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, copies), "copy_begin");
    return CODE_GOOD;
}

static int copy_wait(const nn_context *on)
{
    nn_cuda_own *own = nn_cuda_own_of(on);
    for (int i = 0; i < 2; i++) {
        TRY(cudaEventRecord(own->end, own->copies[i]), "copy_wait");
        TRY(cudaStreamWaitEvent(nn_cuda_stream(on), own->end, 0), "copy_wait");
    }
    return CODE_GOOD;
}

static int wait(const nn_context *on)
{
    for (int i = 0; i < 2; i++)
        TRY(cudaStreamSynchronize(nn_cuda_own_of(on)->copies[i]), "copies");
    TRY(cudaStreamSynchronize(nn_cuda_stream(on)), "operators");
    return CODE_GOOD;
}

/* ---- the table ---- */

static const nn_ops nn_cuda = {
    .name = "cuda",
    .device = RINGX_CUDA,
    .linear_forward = nn_cuda_linear_forward,
    .linear_backward_input = nn_cuda_linear_backward_input,
    .linear_backward_weight = nn_cuda_linear_backward_weight,
    .rms_norm_forward = nn_cuda_rms_norm_forward,
    .rms_norm_backward = nn_cuda_rms_norm_backward,
    .layer_norm_forward = nn_cuda_layer_norm_forward,
    .layer_norm_backward = nn_cuda_layer_norm_backward,
    .gelu_forward = nn_cuda_gelu_forward,
    .gelu_backward = nn_cuda_gelu_backward,
    .silu_gate_forward = nn_cuda_silu_gate_forward,
    .silu_gate_backward = nn_cuda_silu_gate_backward,
    .add = nn_cuda_add,
    .dropout = nn_cuda_dropout,
    .scale = nn_cuda_scale,
    .cast = nn_cuda_cast,
    .rope_table = nn_cuda_rope_table,
    .rope = nn_cuda_rope,
    .embedding_forward = nn_cuda_embedding_forward,
    .embedding_backward = nn_cuda_embedding_backward,
    .loss = nn_cuda_loss,
    .decode = nn_cuda_decode,
    .patches_gather = nn_cuda_patches_gather,
    .patches_scatter = nn_cuda_patches_scatter,
    .sum_squares = nn_cuda_sum_squares,
    .adam = nn_cuda_adam,
    .lamb_moments = nn_cuda_lamb_moments,
    .lamb_apply = nn_cuda_lamb_apply,
    .zero = zero,
    .host_alloc = host_alloc,
    .host_free = host_free,
    .copy_begin = copy_begin,
    .copy_wait = copy_wait,
    .wait = wait,
};

static int fill(nn_context *on, nn_cuda_own *own)
{
    cudaStream_t stream = NULL;
    TRY(cudaStreamCreate(&stream), "a stream");
    on->stream = stream;
    for (int i = 0; i < 2; i++)
        TRY(cudaStreamCreate(&own->copies[i]), "a stream for copies");
    TRY(cudaEventCreateWithFlags(&own->begin, cudaEventDisableTiming), "an event");
    TRY(cudaEventCreateWithFlags(&own->end, cudaEventDisableTiming), "an event");
    TRY(cudaMalloc(&own->parts, 2 * NN_CUDA_PARTS * sizeof *own->parts), "memory of sums");
    return nn_cuda_blas_open(&own->blas);
}

int nn_cuda_open(nn_context *on)
{
    int devices = 0;
    cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess || devices == 0) {
        cudaGetLastError();
        return fail(CODE_CONFIGURATION, "the device is cuda, but there is none: %s; it must be cpu",
                    error != cudaSuccess ? cudaGetErrorString(error) : "no device found");
    }
    nn_cuda_own *own = (nn_cuda_own *)allocate(sizeof *own);
    if (!own)
        return CODE_NO_MEMORY;
    *on = {&nn_cuda, NULL, own};
    int code = fill(on, own);
    if (code) {
        nn_cuda_close(on);
        *on = {NULL, NULL, NULL};
    }
    return code;
}

void nn_cuda_close(nn_context *on)
{
    nn_cuda_own *own = nn_cuda_own_of(on);
    if (on->stream)
        cudaStreamSynchronize(nn_cuda_stream(on));
    for (int i = 0; i < 2; i++)
        if (own->copies[i]) {
            cudaStreamSynchronize(own->copies[i]);
            cudaStreamDestroy(own->copies[i]);
        }
    if (own->begin)
        cudaEventDestroy(own->begin);
    if (own->end)
        cudaEventDestroy(own->end);
    nn_cuda_blas_close(own->blas);
    cudaFree(own->parts);
    cudaFree(own->scratch);
    if (on->stream)
        cudaStreamDestroy(nn_cuda_stream(on));
    free(own);
}
