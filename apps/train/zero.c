/* SPDX-License-Identifier: MIT */
/* Gradient sums, norms, clipping and updates over the gradient group. */
#include "train/zero.h"

#include "nn/formulas.h"
#include "shared/numbers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool zero_overlap(const zero_tensor *t, size_t first, size_t count, size_t *begin, size_t *n)
{
    size_t from = t->offset > first ? t->offset : first;
    size_t end = t->offset + t->count, limit = first + count;
    end = end < limit ? end : limit;
    *begin = from - t->offset;
    *n = from < end ? end - from : 0;
    return from < end;
}

static int owner(const zero *z)
{
    return group_rank(z->ranks->gradient);
}

static size_t own_first(const zero *z)
{
    return z->bounds[owner(z)];
}

static size_t own_count(const zero *z)
{
    return z->bounds[owner(z) + 1] - z->bounds[owner(z)];
}

void zero_destroy(zero *z)
{
    free(z->bounds);
    if (z->own_master)
        free(z->master);
    free(z->m);
    free(z->v);
    free(z->sum);
    *z = (zero){.step = 0};
}

int zero_create(zero *z, const zero_model *model, const zero_settings *settings, const parallel *ranks)
{
    *z = (zero){.model = *model, .set = *settings, .ranks = ranks, .own_master = model->dtype != RINGX_F32};
    size_t n = (size_t)group_ranks(ranks->gradient);
    z->bounds = allocate((n + 1) * sizeof *z->bounds);
    for (size_t r = 0; z->bounds && r <= n; r++)
        z->bounds[r] = model->elements / n * r + model->elements % n * r / n;
    bool good = z->bounds;
    z->first = good && settings->stage ? own_first(z) : 0;
    z->count = good && settings->stage ? own_count(z) : model->elements;
    z->m = allocate(z->count * sizeof(float));
    z->v = allocate(z->count * sizeof(float));
    z->master = z->own_master ? allocate(z->count * sizeof(float)) : (float *)model->weights + z->first;
    if (good && settings->stage == 2)
        z->sum = allocate(own_count(z) * sizeof(float));
    good = good && z->m && z->v && z->master && (settings->stage != 2 || z->sum);
    int code = group_agree(ranks->world, good ? CODE_GOOD : CODE_NO_MEMORY);
    if (code)
        zero_destroy(z);
    return code;
}

size_t zero_bytes(const zero *z)
{
    size_t arrays = z->own_master ? 3 : 2;
    return (arrays * z->count + (z->sum ? own_count(z) : 0)) * sizeof(float);
}

/* from and to: elements of any two dtypes. */
static int convert(const zero *z, nn_array from, nn_array to, size_t count)
{
    nn_map m = {.tokens = 1, .width = (int64_t)count, .x = from, .y = to};
    return count ? z->model.on->ops->cast(z->model.on, &m) : CODE_GOOD;
}

static nn_array weights_at(const zero *z, size_t element)
{
    return (nn_array){(char *)z->model.weights + element * dtype_bytes(z->model.dtype), z->model.dtype, 0};
}

int zero_adopt(zero *z)
{
    return z->own_master ? convert(z, weights_at(z, z->first), (nn_array){z->master, RINGX_F32, 0}, z->count)
                         : CODE_GOOD;
}

int zero_spread(zero *z)
{
    int code = CODE_GOOD, n = group_ranks(z->ranks->gradient);
    if (z->own_master)
        code = convert(z, (nn_array){z->master, RINGX_F32, 0}, weights_at(z, z->first), z->count);
    if (code || z->set.stage == 0)
        return code;
    size_t *bytes = allocate(((size_t)n + 1) * sizeof *bytes);
    if (!bytes)
        return CODE_NO_MEMORY;
    for (int r = 0; r <= n; r++)
        bytes[r] = z->bounds[r] * dtype_bytes(z->model.dtype);
    code = group_all_gather(z->ranks->gradient, z->model.weights, bytes);
    free(bytes);
    return code;
}

/* ---- gradients ---- */

/* Every owner's part of the sum comes to it, in place. */
static int reduce_to_owners(zero *z)
{
    float *g = z->model.gradients;
    return group_reduce_scatter(z->ranks->gradient, GROUP_SUM, GROUP_F32, g, z->bounds, g + own_first(z));
}

static int reduce_whole(zero *z)
{
    int code = CODE_GOOD;
    size_t all = z->model.elements, bucket = z->set.bucket ? z->set.bucket : all;
    for (size_t at = 0; at < all && !code; at += bucket)
        code = group_all_reduce(z->ranks->gradient, GROUP_SUM, GROUP_F32, z->model.gradients + at,
                                all - at < bucket ? all - at : bucket);
    return code;
}

int zero_accumulate(zero *z, bool last)
{
    if (z->set.stage == 0)
        return last ? reduce_whole(z) : CODE_GOOD;
    if (z->set.stage == 1)
        return last ? reduce_to_owners(z) : CODE_GOOD;
    int code = reduce_to_owners(z);
    float *own = z->model.gradients + own_first(z);
    size_t n = own_count(z);
    for (size_t i = 0; i < n && !code; i++)
        z->sum[i] += own[i];
    if (!code && last)
        memcpy(own, z->sum, n * sizeof(float));
    else if (!code)
        code = z->model.on->ops->zero(z->model.on, z->model.gradients, z->model.elements * sizeof(float));
    return code;
}

int zero_clear(zero *z)
{
    if (z->sum)
        memset(z->sum, 0, own_count(z) * sizeof(float));
    return z->model.on->ops->zero(z->model.on, z->model.gradients, z->model.elements * sizeof(float));
}

/* Whether this rank adds a tensor to sums over the tensor group. */
static bool counts(const zero *z, const zero_tensor *t)
{
    return t->split || group_rank(z->ranks->tensor) == 0;
}

int zero_norm(zero *z, double scale, double *norm)
{
    double squares = 0;
    int code = CODE_GOOD;
    for (size_t t = 0; t < z->model.n_tensors && !code; t++) {
        const zero_tensor *tensor = &z->model.tensors[t];
        size_t begin, n;
        double sum = 0;
        if (!counts(z, tensor) || !zero_overlap(tensor, own_first(z), own_count(z), &begin, &n))
            continue;
        code =
            z->model.on->ops->sum_squares(z->model.on, z->model.gradients + tensor->offset + begin, (int64_t)n, &sum);
        squares += sum;
    }
    code = group_agree(z->ranks->world, code);
    if (!code)
        code = group_sum(z->ranks->gradient, &squares);
    if (!code)
        code = group_sum(z->ranks->tensor, &squares);
    *norm = sqrt(squares) * scale;
    return code;
}

/* ---- update ---- */

static nn_update piece(const zero *z, const zero_tensor *t, size_t begin, size_t n, const nn_update *common)
{
    nn_update u = *common;
    size_t at = t->offset + begin, state = at - z->first;
    u.count = (int64_t)n;
    u.weight = z->master + state;
    u.m = z->m + state;
    u.v = z->v + state;
    u.gradient = z->model.gradients + at;
    u.decay = t->decays ? z->set.decay : 0;
    return u;
}

static int adam_step(zero *z, const nn_update *common)
{
    int code = CODE_GOOD;
    for (size_t t = 0; t < z->model.n_tensors && !code; t++) {
        size_t begin, n;
        if (!zero_overlap(&z->model.tensors[t], z->first, z->count, &begin, &n))
            continue;
        nn_update u = piece(z, &z->model.tensors[t], begin, n, common);
        code = z->model.on->ops->adam(z->model.on, &u);
    }
    return code;
}

/* Moments of all tensors, and the sums of squares of what lies here: owner by owner, so that their sum over the owners
 * is the same bit for bit whether it is taken here or over the group. */
static int lamb_moments(zero *z, const nn_update *common, double *squares)
{
    int code = CODE_GOOD, owners = group_ranks(z->ranks->gradient);
    int from = z->set.stage ? owner(z) : 0, to = z->set.stage ? owner(z) + 1 : owners;
    for (int r = from; r < to; r++)
        for (size_t t = 0; t < z->model.n_tensors && !code; t++) {
            size_t begin, n;
            double part[2] = {0, 0};
            if (!zero_overlap(&z->model.tensors[t], z->bounds[r], z->bounds[r + 1] - z->bounds[r], &begin, &n))
                continue;
            nn_update u = piece(z, &z->model.tensors[t], begin, n, common);
            code = z->model.on->ops->lamb_moments(z->model.on, &u, part);
            squares[2 * t] += part[0];
            squares[2 * t + 1] += part[1];
        }
    return code;
}

/* Sums of a split tensor over its parts; others are whole on every tensor rank already. */
static int sum_over_tensor(zero *z, double *squares)
{
    size_t n = z->model.n_tensors;
    for (size_t t = 0; t < n; t++)
        if (!counts(z, &z->model.tensors[t]))
            squares[2 * t] = squares[2 * t + 1] = 0;
    return group_all_reduce(z->ranks->tensor, GROUP_SUM, GROUP_F64, squares, 2 * n);
}

static int lamb_step(zero *z, const nn_update *common)
{
    size_t n = z->model.n_tensors;
    double *squares = allocate(2 * n * sizeof(double));
    int code = squares ? lamb_moments(z, common, squares) : CODE_NO_MEMORY;
    code = group_agree(z->ranks->world, code);
    if (!code && z->set.stage)
        code = group_all_reduce(z->ranks->gradient, GROUP_SUM, GROUP_F64, squares, 2 * n);
    if (!code)
        code = sum_over_tensor(z, squares);
    for (size_t t = 0; t < n && !code; t++) {
        size_t begin, count;
        if (!zero_overlap(&z->model.tensors[t], z->first, z->count, &begin, &count))
            continue;
        nn_update u = piece(z, &z->model.tensors[t], begin, count, common);
        u.trust = nn_lamb_trust(squares[2 * t], squares[2 * t + 1], z->set.least_trust, z->set.most_trust);
        code = z->model.on->ops->lamb_apply(z->model.on, &u);
    }
    free(squares);
    return code;
}

int zero_update(zero *z, double lr, double scale, double norm)
{
    double ratio = z->set.clip > 0 ? (norm + 1e-6) / z->set.clip : 1;
    nn_update common = {.gradient_scale = ratio > 1 ? scale / ratio : scale,
                        .lr = lr,
                        .beta1 = z->set.beta1,
                        .beta2 = z->set.beta2,
                        .eps = z->set.eps,
                        .step = z->step + 1,
                        .decoupled = true};
    int code = z->set.optimizer == OPTIMIZER_LAMB ? lamb_step(z, &common) : adam_step(z, &common);
    if (!code)
        code = zero_spread(z);
    if (!code)
        code = zero_clear(z);
    z->step += !code;
    return code;
}
