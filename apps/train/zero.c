/* SPDX-License-Identifier: MIT */
/* States, norms, clipping and updates over the gradient group. */
#include "train/zero_parts.h"

#include "nn/formulas.h"
#include "shared/numbers.h"
#include "train/device_data.h"

#include <math.h>
#include <stdlib.h>

bool zero_overlap(const zero_tensor *t, size_t first, size_t count, size_t *begin, size_t *n)
{
    size_t from = t->offset > first ? t->offset : first;
    size_t end = t->offset + t->count, limit = first + count;
    end = end < limit ? end : limit;
    *begin = from - t->offset;
    *n = from < end ? end - from : 0;
    return from < end;
}

void zero_destroy(zero *z)
{
    if (!z->model.on) /* never made */
        return;
    zero_lane_end(z);
    void *const states[] = {z->own_master ? z->master : NULL, z->m, z->v, z->sum, z->squares};
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
        ringx_memory_free(zero_device(z), states[i]);
    free(z->bounds);
    *z = (zero){.step = 0};
}

/* ---- memory ---- */

/* First element of a rank's share. */
static size_t bound(size_t elements, size_t ranks, size_t rank)
{
    return elements / ranks * rank + elements % ranks * rank / ranks;
}

bool zero_splits(int stage, size_t ranks)
{
    return stage == 2 && ranks > 1;
}

zero_memory zero_memory_of(const zero_paper *p)
{
    size_t own = bound(p->elements, p->ranks, p->rank + 1) - bound(p->elements, p->ranks, p->rank);
    size_t states = p->stage ? own : p->elements;
    zero_memory m = {.states = states,
                     .own = own,
                     .master = p->dtype != RINGX_F32 ? states * sizeof(float) : 0,
                     .moments = 2 * states * sizeof(float),
                     .sums = zero_splits(p->stage, p->ranks) ? own * sizeof(float) : 0,
                     .norms = 2 * p->tensors * sizeof(double)};
    m.device = m.master + m.moments + m.sums + m.norms;
    return m;
}

static zero_memory memory_of(const zero *z)
{
    return zero_memory_of(&(zero_paper){.elements = z->model.elements,
                                        .tensors = z->model.n_tensors,
                                        .dtype = z->model.dtype,
                                        .stage = z->set.stage,
                                        .rank = (size_t)zero_owner(z),
                                        .ranks = (size_t)group_ranks(z->ranks->gradient)});
}

size_t zero_bytes(const zero *z)
{
    return memory_of(z).device;
}

/* Zeros on the device; none where there are no bytes. */
static int make_state(const zero *z, size_t bytes, const char *what, void **state)
{
    if (!bytes)
        return CODE_GOOD;
    int code = fail_status(ringx_memory_alloc(zero_device(z), bytes, state), "%s of the optimizer", what);
    return code ? code : z->model.on->ops->zero(z->model.on, *state, bytes);
}

static int make_states(zero *z)
{
    void *master = NULL, *m = NULL, *v = NULL, *sum = NULL, *squares = NULL;
    zero_memory bytes = memory_of(z);
    int code = make_state(z, bytes.master, "master weights", &master);
    if (!code)
        code = make_state(z, bytes.moments / 2, "first moments", &m);
    if (!code)
        code = make_state(z, bytes.moments / 2, "second moments", &v);
    if (!code)
        code = make_state(z, bytes.sums, "sums of gradients", &sum);
    if (!code)
        code = make_state(z, bytes.norms, "norms", &squares);
    z->master = z->own_master ? master : (float *)z->model.weights + z->first;
    z->m = m, z->v = v, z->sum = sum, z->squares = squares;
    return code;
}

int zero_create(zero *z, const zero_model *model, const zero_settings *settings, const parallel *ranks)
{
    *z = (zero){.model = *model, .set = *settings, .ranks = ranks, .own_master = model->dtype != RINGX_F32};
    size_t n = (size_t)group_ranks(ranks->gradient);
    z->bounds = allocate((n + 1) * sizeof *z->bounds);
    for (size_t r = 0; z->bounds && r <= n; r++)
        z->bounds[r] = bound(model->elements, n, r);
    int code = z->bounds ? CODE_GOOD : CODE_NO_MEMORY;
    z->split = zero_splits(settings->stage, n);
    if (!code && z->split && !model->units)
        code = fail(CODE_INTERNAL, "ZeRO 2 over %zu ranks needs windows of gradients", n);
    if (!code) {
        z->first = settings->stage ? zero_own_first(z) : 0;
        z->count = memory_of(z).states;
        code = make_states(z);
    }
    code = group_agree(ranks->world, code);
    if (!code)
        code = group_agree(ranks->world, zero_lane_start(z));
    if (code)
        zero_destroy(z);
    return code;
}

int zero_convert(const zero *z, nn_array from, nn_array to, size_t count)
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
    return z->own_master ? zero_convert(z, weights_at(z, z->first), (nn_array){z->master, RINGX_F32, 0}, z->count)
                         : CODE_GOOD;
}

int zero_spread(zero *z)
{
    int code = CODE_GOOD, n = group_ranks(z->ranks->gradient);
    if (z->own_master)
        code = zero_convert(z, (nn_array){z->master, RINGX_F32, 0}, weights_at(z, z->first), z->count);
    if (code || z->set.stage == 0)
        return code;
    size_t *bytes = allocate(((size_t)n + 1) * sizeof *bytes);
    if (!bytes)
        return CODE_NO_MEMORY;
    for (int r = 0; r <= n; r++)
        bytes[r] = z->bounds[r] * dtype_bytes(z->model.dtype);
    code = device_all_gather(z->ranks->gradient, zero_device(z), z->model.weights, bytes);
    free(bytes);
    return code;
}

/* ---- gradients ---- */

int zero_clear(zero *z)
{
    z->summed = false;
    return z->split ? CODE_GOOD
                    : z->model.on->ops->zero(z->model.on, z->model.gradients, z->model.elements * sizeof(float));
}

/* Whether this rank adds a tensor to sums over the tensor group. */
static bool counts(const zero *z, const zero_tensor *t)
{
    return t->split || group_rank(z->ranks->tensor) == 0;
}

/* The device's squares, which begin as zeros, as they are when all work is done. */
static int clear_squares(const zero *z)
{
    return z->model.on->ops->zero(z->model.on, z->squares, 2 * z->model.n_tensors * sizeof *z->squares);
}

static int read_squares(const zero *z, double *squares)
{
    size_t bytes = 2 * z->model.n_tensors * sizeof *squares;
    return fail_status(ringx_memory_copy(zero_device(z), squares, z->squares, bytes), "norms");
}

/* Σ over the own elements of all tensors that count here. */
static int own_squares(zero *z, double *sum)
{
    size_t n = z->model.n_tensors;
    double *squares = allocate(2 * n * sizeof *squares);
    int code = squares ? clear_squares(z) : CODE_NO_MEMORY;
    for (size_t t = 0; t < n && !code; t++) {
        const zero_tensor *tensor = &z->model.tensors[t];
        size_t begin, some;
        if (counts(z, tensor) && zero_overlap(tensor, zero_own_first(z), zero_own_count(z), &begin, &some))
            code = z->model.on->ops->sum_squares(z->model.on, zero_gradient(z, tensor->offset + begin), (int64_t)some,
                                                 &z->squares[2 * t]);
    }
    if (!code)
        code = read_squares(z, squares);
    *sum = 0;
    for (size_t t = 0; t < n && !code; t++)
        *sum += squares[2 * t];
    free(squares);
    return code;
}

int zero_norm(zero *z, double scale, double *norm)
{
    double squares = 0;
    int code = group_agree(z->ranks->world, own_squares(z, &squares));
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
    u.gradient = zero_gradient(z, at);
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

/* Moments of what rank r owns, and squares += its sums. */
static int lamb_moments_of(zero *z, const nn_update *common, int r, double *squares)
{
    size_t n = z->model.n_tensors;
    double *part = allocate(2 * n * sizeof *part);
    int code = part ? clear_squares(z) : CODE_NO_MEMORY;
    for (size_t t = 0; t < n && !code; t++) {
        size_t begin, some;
        if (!zero_overlap(&z->model.tensors[t], z->bounds[r], z->bounds[r + 1] - z->bounds[r], &begin, &some))
            continue;
        nn_update u = piece(z, &z->model.tensors[t], begin, some, common);
        code = z->model.on->ops->lamb_moments(z->model.on, &u, &z->squares[2 * t]);
    }
    if (!code)
        code = read_squares(z, part);
    for (size_t i = 0; i < 2 * n && !code; i++)
        squares[i] += part[i];
    free(part);
    return code;
}

/* Of all that lies here, owner by owner, so that the sum over the owners is the same bit for bit whether it is taken
 * here or over the group. */
static int lamb_moments(zero *z, const nn_update *common, double *squares)
{
    int code = CODE_GOOD, owners = group_ranks(z->ranks->gradient);
    int from = z->set.stage ? zero_owner(z) : 0, to = z->set.stage ? zero_owner(z) + 1 : owners;
    for (int r = from; r < to && !code; r++)
        code = lamb_moments_of(z, common, r, squares);
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
