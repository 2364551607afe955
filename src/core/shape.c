/* SPDX-License-Identifier: MIT */
/* Validation of problems. */
#include "core/shape.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"

#define MAX_DIM    256
#define MAX_TOKENS (INT64_C(1) << 32) /* dropout counts queries in 32 bits */

size_t ringx__dtype_bytes(ringx_dtype dtype)
{
    return dtype == RINGX_F32 ? 4 : 2;
}

const char *ringx__dtype_name(ringx_dtype dtype)
{
    static const char *const names[] = {[RINGX_F32] = "f32", [RINGX_BF16] = "bf16", [RINGX_F16] = "f16"};
    return names[dtype];
}

bool ringx__multiply(size_t a, size_t b, size_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

static ringx_status in_range(const char *name, int64_t value, int64_t low, int64_t high)
{
    if (value >= low && value <= high)
        return RINGX_OK;
    RINGX_FAIL(RINGX_INVALID, "%s is %" PRId64 "; it must be %" PRId64 " … %" PRId64, name, value, low, high);
}

static ringx_status check_sizes(const ringx_problem *p)
{
    int64_t value_dim = p->value_dim ? p->value_dim : p->head_dim;
    RINGX_TRY(in_range("batch", p->batch, 0, INT32_MAX));
    RINGX_TRY(in_range("tokens", p->tokens, 0, MAX_TOKENS));
    RINGX_TRY(in_range("q_heads", p->q_heads, 1, INT32_MAX));
    RINGX_TRY(in_range("kv_heads", p->kv_heads, 1, INT32_MAX));
    RINGX_TRY(in_range("head_dim", p->head_dim, 1, MAX_DIM));
    RINGX_TRY(in_range("value_dim", value_dim, 1, MAX_DIM));
    if (p->q_heads % p->kv_heads)
        RINGX_FAIL(RINGX_INVALID, "q_heads is %" PRId64 ", which kv_heads %" PRId64 " does not divide", p->q_heads,
                   p->kv_heads);
    size_t elements = (size_t)p->batch;
    int64_t widest = p->head_dim > value_dim ? p->head_dim : value_dim;
    if (!ringx__multiply(elements, (size_t)p->tokens, &elements) ||
        !ringx__multiply(elements, (size_t)p->q_heads, &elements) ||
        !ringx__multiply(elements, (size_t)widest, &elements) || elements > (SIZE_MAX >> 6))
        RINGX_FAIL(RINGX_INVALID,
                   "batch %" PRId64 " × tokens %" PRId64 " × q_heads %" PRId64 " × dim %" PRId64
                   " overflows the address space; make one of them smaller",
                   p->batch, p->tokens, p->q_heads, widest);
    return RINGX_OK;
}

static ringx_status check_numbers(const ringx_problem *p)
{
    if ((unsigned)p->dtype > RINGX_F16)
        RINGX_FAIL(RINGX_INVALID, "dtype is %d; it must be RINGX_F32, RINGX_BF16 or RINGX_F16", (int)p->dtype);
    if (!isfinite(p->scale))
        RINGX_FAIL(RINGX_INVALID, "scale is %g; it must be finite (0: 1/sqrt(head_dim))", p->scale);
    if (!(isfinite(p->softcap) && p->softcap >= 0))
        RINGX_FAIL(RINGX_INVALID, "softcap is %g; it must be finite and >= 0 (0: off)", p->softcap);
    if (!(p->dropout >= 0 && p->dropout < 1))
        RINGX_FAIL(RINGX_INVALID, "dropout is %g; it must be in [0, 1)", p->dropout);
    if (p->window_left < -1)
        RINGX_FAIL(RINGX_INVALID, "window_left is %" PRId64 "; it must be >= 0, or -1 for unlimited", p->window_left);
    if (p->window_right < -1)
        RINGX_FAIL(RINGX_INVALID, "window_right is %" PRId64 "; it must be >= 0, or -1 for unlimited", p->window_right);
    return RINGX_OK;
}

static ringx_status check_documents(const ringx_problem *p)
{
    if (p->documents == 0)
        return RINGX_OK;
    if (p->documents >= SIZE_MAX / sizeof *p->document_starts)
        RINGX_FAIL(RINGX_INVALID, "documents is %zu; it must be at most %zu", p->documents,
                   SIZE_MAX / sizeof *p->document_starts - 1);
    if (!p->document_starts)
        RINGX_FAIL(RINGX_INVALID, "document_starts is NULL; documents is %zu, so it must point to %zu bounds",
                   p->documents, p->documents + 1);
    int64_t before = 0;
    for (size_t i = 0; i <= p->documents; i++) {
        int64_t bound = p->document_starts[i];
        if (bound < before || bound > p->tokens)
            RINGX_FAIL(RINGX_INVALID, "document_starts[%zu] is %" PRId64 "; it must be %" PRId64 " … %" PRId64, i,
                       bound, before, p->tokens);
        before = bound;
    }
    return RINGX_OK;
}

static int64_t reach(int64_t window, int64_t tokens)
{
    return window < 0 || window > tokens ? tokens : window;
}

ringx_status ringx__shape_create(ringx_shape *shape, const ringx_problem *problem)
{
    memset(shape, 0, sizeof *shape);
    if (!problem)
        RINGX_FAIL(RINGX_INVALID, "problem is NULL; it must point to a ringx_problem");
    if (problem->size != sizeof *problem)
        RINGX_FAIL(RINGX_INVALID, "problem.size is %zu; it must be sizeof(ringx_problem) = %zu: use RINGX_PROBLEM_INIT",
                   problem->size, sizeof *problem);
    RINGX_TRY(check_sizes(problem));
    RINGX_TRY(check_numbers(problem));
    RINGX_TRY(check_documents(problem));

    int64_t value_dim = problem->value_dim ? problem->value_dim : problem->head_dim;
    *shape = (ringx_shape){
        .batch = problem->batch,
        .tokens = problem->tokens,
        .q_heads = problem->q_heads,
        .kv_heads = problem->kv_heads,
        .group = problem->q_heads / problem->kv_heads,
        .head_dim = problem->head_dim,
        .value_dim = value_dim,
        .dtype = problem->dtype,
        .scale = problem->scale != 0 ? problem->scale : 1.0 / sqrt((double)problem->head_dim),
        .softcap = problem->softcap,
        .dropout = problem->dropout,
        .seed = problem->seed,
        .causal = problem->causal,
        .mask = {.tokens = problem->tokens,
                 .left = reach(problem->window_left, problem->tokens),
                 .right = problem->causal ? 0 : reach(problem->window_right, problem->tokens),
                 .documents = problem->documents},
    };
    if (problem->documents) {
        int64_t *starts = malloc((problem->documents + 1) * sizeof *starts);
        if (!starts)
            RINGX_FAIL(RINGX_NO_MEMORY, "no memory for %zu document bounds", problem->documents + 1);
        memcpy(starts, problem->document_starts, (problem->documents + 1) * sizeof *starts);
        shape->mask.starts = starts;
    }
    return RINGX_OK;
}

void ringx__shape_destroy(ringx_shape *shape)
{
    free((void *)(uintptr_t)shape->mask.starts);
    shape->mask.starts = NULL;
}

double ringx__shape_flops(const ringx_shape *shape, double area)
{
    return 2.0 * (double)(shape->head_dim + shape->value_dim) * area * (double)shape->batch * (double)shape->q_heads;
}
