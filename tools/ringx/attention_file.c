/* SPDX-License-Identifier: MIT */
/* Attention problems in safetensors files. */
#include "attention_file.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int bad_value(const attention_file *a, const char *key, const char *value, const char *right)
{
    return fail(CODE_BAD_INPUT, "%s: metadata %s is '%.100s'; it must be %s", a->file.path, key, value, right);
}

static int read_bool(const attention_file *a, const char *key, bool *value)
{
    const char *text = st_metadata(&a->file, key);
    if (!text)
        return CODE_GOOD;
    *value = strcmp(text, "1") == 0 || strcmp(text, "true") == 0;
    if (!*value && strcmp(text, "0") != 0 && strcmp(text, "false") != 0)
        return bad_value(a, key, text, "0 or 1");
    return CODE_GOOD;
}

static int read_whole(const attention_file *a, const char *key, int64_t *value)
{
    const char *text = st_metadata(&a->file, key);
    char *end;
    if (!text)
        return CODE_GOOD;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (end == text || *end || errno || *value < -1)
        return bad_value(a, key, text, "a whole number >= -1 (-1: unlimited)");
    return CODE_GOOD;
}

static int read_real(const attention_file *a, const char *key, double *value)
{
    const char *text = st_metadata(&a->file, key);
    char *end;
    if (!text)
        return CODE_GOOD;
    *value = strtod(text, &end);
    if (end == text || *end || !isfinite(*value))
        return bad_value(a, key, text, "a finite number");
    return CODE_GOOD;
}

static int read_starts(attention_file *a)
{
    const char *text = st_metadata(&a->file, "cu_seqlens"), *at = text;
    if (!text || !*text)
        return CODE_GOOD;
    size_t count = 1;
    for (const char *c = text; *c; c++)
        count += *c == ',';
    a->starts = allocate(count * sizeof *a->starts);
    if (!a->starts)
        return CODE_NO_MEMORY;
    static const char right[] = "non-decreasing token positions with commas between, or empty";
    for (size_t i = 0; i < count; i++) {
        char *end;
        errno = 0;
        a->starts[i] = strtoll(at, &end, 10);
        if (end == at || errno || (*end && *end != ',') || a->starts[i] < 0 || a->starts[i] > a->problem.tokens ||
            (i && a->starts[i] < a->starts[i - 1]))
            return bad_value(a, "cu_seqlens", text, right);
        at = end + (*end == ',');
    }
    if (count < 2 || *at)
        return bad_value(a, "cu_seqlens", text, right);
    a->problem.document_starts = a->starts;
    a->problem.documents = count - 1;
    return CODE_GOOD;
}

static int read_metadata(attention_file *a)
{
    ringx_problem *p = &a->problem;
    int code = read_bool(a, "causal", &p->causal);
    if (!code)
        code = read_whole(a, "window_left", &p->window_left);
    if (!code)
        code = read_whole(a, "window_right", &p->window_right);
    if (!code)
        code = read_real(a, "softcap", &p->softcap);
    if (!code)
        code = read_real(a, "scale", &p->scale);
    if (!code && p->softcap < 0)
        code = bad_value(a, "softcap", st_metadata(&a->file, "softcap"), ">= 0 (0: off)");
    return code ? code : read_starts(a);
}

/* ---- shapes ---- */

static bool is_float(st_dtype dtype)
{
    return dtype == ST_F64 || dtype == ST_F32 || dtype == ST_BF16 || dtype == ST_F16;
}

static int find_tensors(attention_file *a)
{
    for (int id = 0; id < TENSORS; id++) {
        const st_tensor *t = st_find(&a->file, tensor_names[id]);
        a->tensors[id] = t;
        if (!t && id <= T_V)
            return fail(CODE_BAD_INPUT, "%s: tensor '%s' is missing; q, k and v are needed", a->file.path,
                        tensor_names[id]);
        if (t && !is_float(t->dtype))
            return fail(CODE_BAD_INPUT, "%s: tensor '%s' is %s; it must be F64, F32, BF16 or F16", a->file.path,
                        t->name, st_dtype_names[t->dtype]);
        int rank = id == T_LSE ? 3 : 4;
        if (t && t->rank != rank)
            return fail(CODE_BAD_INPUT, "%s: tensor '%s' has %d dimensions; it must have %d: %s", a->file.path, t->name,
                        t->rank, rank, rank == 3 ? "batch, heads, tokens" : "batch, tokens, heads, head_dim");
    }
    return CODE_GOOD;
}

static int check_shapes(const attention_file *a)
{
    for (tensor_id id = 0; id < TENSORS; id++) {
        const st_tensor *t = a->tensors[id];
        int64_t want[4];
        if (!t)
            continue;
        tensor_sizes(&a->problem, id, a->problem.tokens, want);
        if (id == T_LSE) { /* batch, heads, tokens */
            want[1] = want[2];
            want[2] = want[3];
        }
        if (memcmp(t->shape, want, (size_t)t->rank * sizeof *want) == 0)
            continue;
        st_tensor right = *t;
        char is[256], must[256];
        memcpy(right.shape, want, (size_t)t->rank * sizeof *want);
        return fail(CODE_BAD_INPUT, "%s: tensor '%s' is %s; with q, k and v as they are it must be %s", a->file.path,
                    t->name, st_shape_text(t, is, sizeof is), st_shape_text(&right, must, sizeof must));
    }
    return CODE_GOOD;
}

static ringx_dtype common_dtype(const attention_file *a)
{
    st_dtype first = a->tensors[T_Q]->dtype;
    for (tensor_id id = T_Q; id <= T_DOUT; id++)
        if (a->tensors[id] && a->tensors[id]->dtype != first)
            return RINGX_F32;
    return first == ST_BF16 ? RINGX_BF16 : first == ST_F16 ? RINGX_F16 : RINGX_F32;
}

static int read_sizes(attention_file *a)
{
    const int64_t *q = a->tensors[T_Q]->shape, *k = a->tensors[T_K]->shape, *v = a->tensors[T_V]->shape;
    ringx_problem *p = &a->problem;
    p->batch = q[0];
    p->tokens = q[1];
    p->q_heads = q[2];
    p->kv_heads = k[2];
    p->head_dim = q[3];
    p->value_dim = v[3];
    p->dtype = common_dtype(a);
    if (p->q_heads < 1 || p->kv_heads < 1 || p->q_heads % p->kv_heads)
        return fail(CODE_BAD_INPUT, "%s: q has %lld heads and k has %lld; the second must divide the first",
                    a->file.path, (long long)p->q_heads, (long long)p->kv_heads);
    if (p->head_dim < 1 || p->head_dim > 256 || p->value_dim < 1 || p->value_dim > 256)
        return fail(CODE_BAD_INPUT, "%s: head_dim is %lld and that of v is %lld; both must be 1 … 256", a->file.path,
                    (long long)p->head_dim, (long long)p->value_dim);
    return check_shapes(a);
}

int attention_open(attention_file *a, const char *path)
{
    *a = (attention_file){.problem = RINGX_PROBLEM_INIT};
    int code = st_open(&a->file, path);
    if (!code)
        code = find_tensors(a);
    if (!code)
        code = read_sizes(a);
    if (!code)
        code = read_metadata(a);
    if (code)
        attention_close(a);
    return code;
}

void attention_close(attention_file *a)
{
    st_close(&a->file);
    free(a->starts);
    a->starts = NULL;
}

/* ---- values ---- */

static ringx_dtype half_of(st_dtype dtype)
{
    return dtype == ST_BF16 ? RINGX_BF16 : RINGX_F16;
}

static double value_of(st_dtype dtype, const void *values, size_t i)
{
    if (dtype == ST_F64)
        return ((const double *)values)[i];
    if (dtype == ST_F32)
        return (double)((const float *)values)[i];
    return (double)half_to_float(half_of(dtype), ((const uint16_t *)values)[i]);
}

static int load_raw(const attention_file *a, tensor_id id, void **raw, size_t *count)
{
    const st_tensor *t = a->tensors[id];
    *count = (t->end - t->begin) / st_dtype_bytes(t->dtype);
    *raw = allocate(t->end - t->begin);
    return *raw ? st_read(&a->file, t, *raw) : CODE_NO_MEMORY;
}

static int narrow(const attention_file *a, const st_tensor *t, const void *raw, ringx_dtype to, void *result,
                  size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double x = value_of(t->dtype, raw, i);
        float y = (float)x;
        if (to != RINGX_F32) {
            ((uint16_t *)result)[i] = float_to_half(to, y);
            y = half_to_float(to, ((uint16_t *)result)[i]);
        } else {
            ((float *)result)[i] = y;
        }
        if (isfinite(x) && !isfinite(y))
            return fail(CODE_BAD_INPUT, "%s: tensor '%s', element %zu is %g, which %s cannot hold", a->file.path,
                        t->name, i, x,
                        to == RINGX_F32    ? "float32"
                        : to == RINGX_BF16 ? "bfloat16"
                                           : "float16");
    }
    return CODE_GOOD;
}

int attention_load(const attention_file *a, tensor_id id, ringx_dtype to, void **data)
{
    const st_tensor *t = a->tensors[id];
    void *raw = NULL;
    size_t count = 0;
    *data = NULL;
    int code = load_raw(a, id, &raw, &count);
    bool same = (t->dtype == ST_F32 && to == RINGX_F32) || (t->dtype == ST_BF16 && to == RINGX_BF16) ||
                (t->dtype == ST_F16 && to == RINGX_F16);
    if (!code && same) {
        *data = raw;
        return CODE_GOOD;
    }
    if (!code && !(*data = allocate(count * dtype_bytes(to))))
        code = CODE_NO_MEMORY;
    if (!code)
        code = narrow(a, t, raw, to, *data, count);
    if (code) {
        free(*data);
        *data = NULL;
    }
    free(raw);
    return code;
}

int attention_load_double(const attention_file *a, tensor_id id, double **data)
{
    void *raw = NULL;
    size_t count = 0;
    *data = NULL;
    int code = load_raw(a, id, &raw, &count);
    if (!code && !(*data = allocate(count * sizeof(double))))
        code = CODE_NO_MEMORY;
    for (size_t i = 0; i < count && !code; i++)
        (*data)[i] = value_of(a->tensors[id]->dtype, raw, i);
    free(raw);
    return code;
}

void attention_convert(ringx_dtype from, const void *values, st_dtype to, void *result, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float x = from == RINGX_F32 ? ((const float *)values)[i] : half_to_float(from, ((const uint16_t *)values)[i]);
        if (to == ST_F64)
            ((double *)result)[i] = (double)x;
        else if (to == ST_F32)
            ((float *)result)[i] = x;
        else if (from != RINGX_F32 && half_of(to) == from)
            ((uint16_t *)result)[i] = ((const uint16_t *)values)[i];
        else
            ((uint16_t *)result)[i] = float_to_half(half_of(to), x);
    }
}
