/* SPDX-License-Identifier: MIT */
/* Matrix products and linear layers on CUDA devices, by cublasLt.
 *
 * Products of float are in float (never TF32), those of halves sum in float.  What cublasLt does not take as it is
 * (factors of different dtypes, a half result of floats) goes through float copies in scratch memory.  The algorithm of
 * a shape is chosen once and kept, none with atomics is admitted: the same call gives the same bits. */
#include "nn/nn_cuda.cuh"

#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>

enum { WORKSPACE = 32 << 20, PLANS = 512 };

typedef struct key { /* of an algorithm; without padding, compared by its bytes */
    int64_t m, n, k, lda, ldb, ldc;
    int32_t a_transposed, b_transposed, type, result, add, bias, a_align, b_align, c_align, bias_type;
} key;

typedef struct plan {
    key shape;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algorithm;
    bool good; /* else cublasLt has no algorithm for it */
} plan;

typedef struct blas {
    cublasLtHandle_t lt;
    void *workspace;
    plan plans[PLANS];
    int count, next; /* next: to be replaced when all are taken */
} blas;

static int failed(cublasStatus_t status, const char *what, const key *shape)
{
    return fail(CODE_IO, "cuda: %s of %lld x %lld x %lld: cublasLt: %s", what, (long long)shape->m, (long long)shape->n,
                (long long)shape->k, cublasLtGetStatusString(status));
}

int nn_cuda_blas_open(void **result)
{
    blas *b = (blas *)allocate(sizeof *b);
    if (!b)
        return CODE_NO_MEMORY;
    *result = b;
    cublasStatus_t status = cublasLtCreate(&b->lt);
    if (status != CUBLAS_STATUS_SUCCESS)
        return fail(CODE_IO, "cuda: a cublasLt handle: %s", cublasLtGetStatusString(status));
    cudaError_t error = cudaMalloc(&b->workspace, WORKSPACE);
    return error == cudaSuccess ? CODE_GOOD : nn_cuda_failed(error, "workspace of products");
}

static void forget(plan *p)
{
    if (p->a)
        cublasLtMatrixLayoutDestroy(p->a);
    if (p->b)
        cublasLtMatrixLayoutDestroy(p->b);
    if (p->c)
        cublasLtMatrixLayoutDestroy(p->c);
    if (p->op)
        cublasLtMatmulDescDestroy(p->op);
    memset(p, 0, sizeof *p);
}

void nn_cuda_blas_close(void *given)
{
    blas *b = (blas *)given;
    if (!b)
        return;
    for (int i = 0; i < b->count; i++)
        forget(&b->plans[i]);
    if (b->lt)
        cublasLtDestroy(b->lt);
    cudaFree(b->workspace);
    free(b);
}

static cudaDataType_t type_of(int dtype)
{
    return dtype == RINGX_F32 ? CUDA_R_32F : dtype == RINGX_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

/* ---- algorithms ---- */

#define LT(call)                                                                                                       \
    do {                                                                                                               \
        cublasStatus_t status = (call);                                                                                \
        if (status != CUBLAS_STATUS_SUCCESS)                                                                           \
            return status;                                                                                             \
    } while (0)

#define SET(name, value) LT(cublasLtMatmulDescSetAttribute(p->op, name, &(value), sizeof(value)))

static cublasStatus_t describe(plan *p)
{
    const key *s = &p->shape;
    cudaDataType_t type = type_of(s->type), result = type_of(s->result), bias = type_of(s->bias_type);
    cublasOperation_t ta = s->a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
                      tb = s->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    LT(cublasLtMatmulDescCreate(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    SET(CUBLASLT_MATMUL_DESC_TRANSA, ta);
    SET(CUBLASLT_MATMUL_DESC_TRANSB, tb);
    if (s->bias) {
        SET(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
        SET(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, bias);
    }
    uint64_t m = (uint64_t)s->m, n = (uint64_t)s->n, k = (uint64_t)s->k;
    LT(cublasLtMatrixLayoutCreate(&p->a, type, s->a_transposed ? k : m, s->a_transposed ? m : k, s->lda));
    LT(cublasLtMatrixLayoutCreate(&p->b, type, s->b_transposed ? n : k, s->b_transposed ? k : n, s->ldb));
    return cublasLtMatrixLayoutCreate(&p->c, result, m, n, s->ldc);
}

#define PREFER(name, value) LT(cublasLtMatmulPreferenceSetAttribute(preference, name, &(value), sizeof(value)))

static cublasStatus_t ask(blas *b, plan *p, cublasLtMatmulPreference_t preference)
{
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* parts of sums go through the workspace */
    const uint64_t workspace = WORKSPACE;
    const uint32_t a = (uint32_t)p->shape.a_align, c = (uint32_t)p->shape.c_align, b_align = (uint32_t)p->shape.b_align;
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    PREFER(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
    PREFER(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes);
    PREFER(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a);
    PREFER(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b_align);
    PREFER(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c);
    PREFER(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c);
    cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(b->lt, p->op, p->a, p->b, p->c, p->c, preference, 1, &result, &found);
    p->good = status == CUBLAS_STATUS_SUCCESS && found > 0;
    if (p->good)
        p->algorithm = result.algo;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t choose(blas *b, plan *p)
{
    cublasLtMatmulPreference_t preference = NULL;
    LT(describe(p));
    LT(cublasLtMatmulPreferenceCreate(&preference));
    cublasStatus_t status = ask(b, p, preference);
    cublasLtMatmulPreferenceDestroy(preference);
    return status;
}

static int find(blas *b, const key *shape, plan **result)
{
    for (int i = 0; i < b->count; i++)
        if (memcmp(&b->plans[i].shape, shape, sizeof *shape) == 0) {
            *result = &b->plans[i];
            return CODE_GOOD;
        }
    int at = b->count < PLANS ? b->count++ : b->next++ % PLANS;
    plan *p = &b->plans[at];
    forget(p);
    p->shape = *shape;
    cublasStatus_t status = choose(b, p);
    if (status != CUBLAS_STATUS_SUCCESS) {
        int code = failed(status, "choosing a product", shape);
        forget(p);
        return code;
    }
    *result = p;
    return CODE_GOOD;
}

/* ---- products ---- */

/* Alignment, in bytes, that algorithms may rely on. */
static int32_t align_of(const void *data)
{
    uintptr_t at = (uintptr_t)data | 16;
    return (int32_t)(at & (~at + 1));
}

/* cublasLt's matrices go by columns: theirs is the transposed of ours, so its first factor is our second. */
static key key_of(const nn_product *p, bool bias)
{
    key s;
    memset(&s, 0, sizeof s);
    s.m = p->columns, s.n = p->rows, s.k = p->depth;
    s.lda = p->b.stride, s.ldb = p->a.stride, s.ldc = p->c.stride;
    s.a_transposed = p->b_transposed, s.b_transposed = p->a_transposed;
    s.type = p->a.dtype, s.result = p->c.dtype, s.add = p->add;
    s.bias = bias, s.bias_type = bias ? p->bias.dtype : 0;
    s.a_align = align_of(p->b.data), s.b_align = align_of(p->a.data), s.c_align = align_of(p->c.data);
    return s;
}

static int run(const nn_context *on, const nn_product *p, plan *chosen)
{
    blas *b = (blas *)nn_cuda_own_of(on)->blas;
    float one = 1, beta = p->add ? 1 : 0;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    if (chosen->shape.bias)
        status = cublasLtMatmulDescSetAttribute(chosen->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias.data,
                                                sizeof p->bias.data);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmul(b->lt, chosen->op, &one, p->b.data, chosen->a, p->a.data, chosen->b, &beta, p->c.data,
                                chosen->c, p->c.data, chosen->c, &chosen->algorithm, b->workspace, WORKSPACE,
                                nn_cuda_stream(on));
    return status == CUBLAS_STATUS_SUCCESS ? CODE_GOOD : failed(status, "a product", &chosen->shape);
}

/* The plan for factors of one dtype and a result of it or of float; one that is not good if cublasLt has none. */
static int plan_of(const nn_context *on, const nn_product *p, plan **chosen)
{
    blas *b = (blas *)nn_cuda_own_of(on)->blas;
    bool bias = p->bias.data && p->bias.dtype == p->c.dtype && align_of(p->bias.data) == 16;
    if (bias) {
        key with = key_of(p, true);
        int code = find(b, &with, chosen);
        if (code || (*chosen)->good)
            return code;
    }
    key without = key_of(p, false);
    return find(b, &without, chosen);
}

static int direct(const nn_context *on, const nn_product *p, plan *chosen)
{
    int code = run(on, p, chosen);
    bool bias = p->bias.data && !chosen->shape.bias;
    return code || !bias ? code : nn_cuda_add_row(on, p->rows, p->columns, p->bias, p->c);
}

static int cast(const nn_context *on, int64_t rows, int64_t columns, nn_array from, nn_array to)
{
    nn_map m = {};
    m.tokens = rows, m.width = columns, m.x = from, m.y = to;
    return nn_cuda_cast(on, &m);
}

/* Rows and columns of a factor as it is stored. */
typedef struct stored {
    int64_t rows, columns;
} stored;

/* The factor as float, packed, at *to, which moves on; a float one stays where it is. */
static int widen(const nn_context *on, nn_array *factor, stored size, char **to)
{
    if (factor->dtype == RINGX_F32)
        return CODE_GOOD;
    nn_array wide = {*to, RINGX_F32, size.columns};
    int code = cast(on, size.rows, size.columns, *factor, wide);
    *to += nn_cuda_rounded((size_t)(size.rows * size.columns) * sizeof(float));
    *factor = wide;
    return code;
}

static size_t wide_bytes(const nn_array *m, stored size)
{
    return m->dtype == RINGX_F32 ? 0 : nn_cuda_rounded((size_t)(size.rows * size.columns) * sizeof(float));
}

static int of_floats(const nn_context *on, const nn_product *p)
{
    plan *chosen = NULL;
    int code = plan_of(on, p, &chosen);
    if (!code && !chosen->good)
        code = failed(CUBLAS_STATUS_NOT_SUPPORTED, "a product", &chosen->shape);
    return code ? code : direct(on, p, chosen);
}

/* Through float copies of all that is half. */
static int converted(const nn_context *on, const nn_product *p)
{
    stored a = p->a_transposed ? stored{p->depth, p->rows} : stored{p->rows, p->depth};
    stored b = p->b_transposed ? stored{p->columns, p->depth} : stored{p->depth, p->columns};
    stored c = {p->rows, p->columns};
    size_t bytes = wide_bytes(&p->a, a) + wide_bytes(&p->b, b) + wide_bytes(&p->c, c);
    char *at = nn_cuda_scratch(on, bytes + 1);
    if (!at)
        return CODE_NO_MEMORY;
    nn_product q = *p;
    int code = widen(on, &q.a, a, &at);
    if (!code)
        code = widen(on, &q.b, b, &at);
    if (code || p->c.dtype == RINGX_F32)
        return code ? code : of_floats(on, &q);
    q.c = {at, RINGX_F32, p->columns};
    q.add = false;
    code = of_floats(on, &q);
    nn_sum sum = {p->rows, p->columns, p->c, q.c, p->c};
    if (code)
        return code;
    return p->add ? nn_cuda_add(on, &sum) : cast(on, p->rows, p->columns, q.c, p->c);
}

/* A sum of nothing: bias or 0. */
static int nothing(const nn_context *on, const nn_product *p)
{
    size_t size = dtype_bytes(p->c.dtype);
    cudaError_t error = p->add ? cudaSuccess
                               : cudaMemset2DAsync(p->c.data, (size_t)p->c.stride * size, 0, (size_t)p->columns * size,
                                                   (size_t)p->rows, nn_cuda_stream(on));
    if (error != cudaSuccess)
        return nn_cuda_failed(error, "a product of depth 0");
    return p->bias.data ? nn_cuda_add_row(on, p->rows, p->columns, p->bias, p->c) : CODE_GOOD;
}

int nn_cuda_multiply(const nn_context *on, const nn_product *p)
{
    if (p->rows <= 0 || p->columns <= 0)
        return CODE_GOOD;
    if (p->depth <= 0)
        return nothing(on, p);
    plan *chosen = NULL;
    bool same = p->a.dtype == p->b.dtype && (p->c.dtype == RINGX_F32 || p->c.dtype == p->a.dtype);
    int code = same ? plan_of(on, p, &chosen) : CODE_GOOD;
    if (code)
        return code;
    return chosen && chosen->good ? direct(on, p, chosen) : converted(on, p);
}

/* ---- linear layers ---- */

/* Rows of tokens from the first on, as many of its tile as there are: tiles are the same whatever the calls. */
static nn_linear tile_of(const nn_linear *l, int64_t first)
{
    nn_linear t = *l;
    int64_t rest = l->tokens - first, most = nn_tile(RINGX_CUDA);
    t.tokens = rest < most ? rest : most;
    struct {
        nn_array *rows;
        int64_t width;
    } const all[] = {{&t.x, l->in}, {&t.y, l->out}, {&t.dy, l->out}, {&t.dx, l->in}};
    for (int i = 0; i < 4; i++) {
        nn_array *a = all[i].rows;
        int64_t stride = a->stride ? a->stride : all[i].width;
        if (a->data)
            a->data = (char *)a->data + (size_t)(first * stride) * dtype_bytes(a->dtype);
    }
    return t;
}

static int by_tiles(const nn_context *on, const nn_linear *l, nn_linear_step step)
{
    int code = CODE_GOOD;
    for (int64_t first = 0; first < l->tokens && !code; first += nn_tile(RINGX_CUDA)) {
        nn_linear tile = tile_of(l, first);
        nn_product p = nn_linear_product(&tile, step);
        code = nn_cuda_multiply(on, &p);
    }
    return code;
}

int nn_cuda_linear_forward(const nn_context *on, const nn_linear *l)
{
    return by_tiles(on, l, NN_LINEAR_FORWARD);
}

int nn_cuda_linear_backward_input(const nn_context *on, const nn_linear *l)
{
    return by_tiles(on, l, NN_LINEAR_BACKWARD_INPUT);
}

int nn_cuda_linear_backward_weight(const nn_context *on, const nn_linear *l)
{
    int code = by_tiles(on, l, NN_LINEAR_BACKWARD_WEIGHT);
    return code || !l->dbias ? code : nn_cuda_sum_columns(on, l->tokens, l->out, l->dy, l->dbias);
}
