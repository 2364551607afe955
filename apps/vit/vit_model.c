/* SPDX-License-Identifier: MIT */
/* The vision transformer as a whole: creation, preparation of a run, loss and gradients. */
#include "vit/vit_model.h"

#include "shared/numbers.h"
#include "vit/vit_metrics.h"
#include "vit/vit_model_parts.h"

#include <stdlib.h>
#include <string.h>

vit_shape vit_shape_of(const vit_config *c)
{
    return (vit_shape){.height = c->img_size[0],
                       .width = c->img_size[1],
                       .patch = c->patch_size,
                       .channels_in = c->n_in_channels,
                       .channels_out = c->n_out_channels,
                       .embed = c->embed_dim,
                       .depth = c->depth,
                       .heads = c->num_heads,
                       .norm_eps = c->layer_norm_eps,
                       .dropout = c->dropout};
}

static int divides(int64_t parts, int64_t whole, const char *parts_name, const char *whole_name)
{
    return whole % parts == 0 ? CODE_GOOD
                              : fail(CODE_CONFIGURATION, "%s %lld does not divide %s %lld", parts_name,
                                     (long long)parts, whole_name, (long long)whole);
}

int vit_check_shape(const vit_shape *s, int64_t tensor_ranks)
{
    const struct {
        const char *name;
        int64_t value, low;
    } sizes[] = {{"img_size", s->height, 1},
                 {"img_size", s->width, 1},
                 {"patch_size", s->patch, 1},
                 {"n_in_channels", s->channels_in, 1},
                 {"embed_dim", s->embed, 1},
                 {"num_heads", s->heads, 1},
                 {"n_out_channels", s->channels_out, 1},
                 {"depth", s->depth, 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].value < sizes[i].low)
            return fail(CODE_CONFIGURATION, "%s is %lld; it must be at least %lld", sizes[i].name,
                        (long long)sizes[i].value, (long long)sizes[i].low);
    TRY(divides(s->patch, s->height, "patch_size", "the image's height"));
    TRY(divides(s->patch, s->width, "patch_size", "the image's width"));
    if (s->height / s->patch > INT32_MAX / (s->width / s->patch))
        return fail(CODE_CONFIGURATION, "an image of %lld x %lld patches; at most 2^31 - 1 are possible",
                    (long long)(s->height / s->patch), (long long)(s->width / s->patch));
    if (!(s->dropout >= 0 && s->dropout < 1))
        return fail(CODE_CONFIGURATION, "dropout is %g; it must be in [0, 1)", s->dropout);
    TRY(divides(s->heads, s->embed, "num_heads", "embed_dim"));
    return divides(tensor_ranks, s->heads, "tensor_parallel", "num_heads");
}

static int create(vit_model *m)
{
    TRY(vit_parameters_create(m));
    size_t bytes = m->elements * dtype_bytes(m->dtype);
    return fail_status(ringx_memory_alloc(m->on.ops->device, bytes, &m->weights), "weights");
}

int vit_model_create(vit_model **result, const vit_shape *shape, ringx_dtype dtype, const nn_context *on,
                     vit_groups groups)
{
    *result = NULL;
    vit_model *m = allocate(sizeof *m);
    if (!m)
        return CODE_NO_MEMORY;
    m->shape = *shape, m->dtype = dtype, m->on = *on, m->groups = groups;
    if (groups.tensor && group_ranks(groups.tensor) == 1)
        m->groups.tensor = NULL;
    if (groups.context && group_ranks(groups.context) == 1)
        m->groups.context = NULL;
    m->tensor_ranks = m->groups.tensor ? group_ranks(m->groups.tensor) : 1;
    m->tensor_rank = m->groups.tensor ? group_rank(m->groups.tensor) : 0;
    int code = vit_check_shape(&m->shape, m->tensor_ranks);
    if (!code)
        code = create(m);
    if (code) {
        vit_model_destroy(m);
        return code;
    }
    *result = m;
    return CODE_GOOD;
}

void vit_model_release(vit_model *m)
{
    if (!m)
        return;
    vit_plan_destroy(m); /* first: it knows where the memory is */
    vit_memory_free(m);
}

void vit_model_destroy(vit_model *m)
{
    if (!m)
        return;
    vit_model_release(m);
    ringx_memory_free(m->on.ops->device, m->weights);
    ringx_memory_free(m->on.ops->device, m->gradients);
    free(m->parameters);
    free(m);
}

const vit_shape *vit_model_shape(const vit_model *m)
{
    return &m->shape;
}

size_t vit_model_elements(const vit_model *m)
{
    return m->elements;
}

void *vit_model_weights(vit_model *m)
{
    return m->weights;
}

float *vit_model_gradients(vit_model *m)
{
    return m->gradients;
}

/* ---- a run ---- */

static int agree(const vit_model *m, int code)
{
    code = m->groups.context ? group_agree(m->groups.context, code) : code;
    return m->groups.tensor ? group_agree(m->groups.tensor, code) : code;
}

static int make_gradients(vit_model *m)
{
    size_t bytes = m->elements * sizeof *m->gradients;
    void *gradients = NULL;
    if (m->gradients || m->run.forward_only)
        return CODE_GOOD;
    TRY(fail_status(ringx_memory_alloc(m->on.ops->device, bytes, &gradients), "gradients"));
    m->gradients = gradients;
    return m->on.ops->zero(&m->on, gradients, bytes);
}

static int prepare(vit_model *m)
{
    TRY(make_gradients(m));
    return vit_memory_create(m);
}

int vit_model_prepare(vit_model *m, const vit_run *run)
{
    int code = vit_plan_leave(m);
    vit_model_release(m);
    m->run = *run;
    code = code ? code : vit_plan_create(m);
    if (!code)
        code = agree(m, prepare(m));
    if (!code)
        code = vit_plan_attach(m);
    if (code)
        vit_model_release(m);
    return code;
}

int64_t vit_model_local_tokens(const vit_model *m)
{
    return m->local_tokens;
}

const int64_t *vit_model_positions(const vit_model *m)
{
    return m->positions;
}

vit_band vit_model_band(const vit_model *m)
{
    return m->band;
}

const ringx_plan *vit_model_plan(const vit_model *m)
{
    return m->plan;
}

/* ---- loss and gradients ---- */

static int forward(vit_model *m, const float *input)
{
    TRY(vit_embed(m, input));
    for (int64_t layer = 0; layer < m->shape.depth; layer++) {
        TRY(vit_block_attention(m, layer));
        TRY(vit_block_mlp(m, layer));
    }
    return vit_head(m);
}

static vit_view view_of(const vit_model *m)
{
    return (vit_view){.batch = m->run.batch,
                      .tokens = m->local_tokens,
                      .channels = m->shape.channels_out,
                      .patch = m->shape.patch,
                      .across = m->across,
                      .positions = m->positions,
                      .prediction = m->host_prediction,
                      .target = m->host_target};
}

/* The target's own patches, in host memory. */
static int gather_target(vit_model *m, const float *target)
{
    static const nn_context host = {.ops = &nn_cpu};
    const vit_shape *s = &m->shape;
    nn_patches p = {.batch = m->run.batch, .channels = s->channels_out, .height = m->band.count, .width = s->width};
    int64_t above = m->band.first / s->patch * m->across;
    int64_t *positions = allocate((size_t)m->local_tokens * sizeof *positions);
    if (!positions)
        return CODE_NO_MEMORY;
    for (int64_t i = 0; i < m->local_tokens; i++)
        positions[i] = m->positions[i] - above;
    p.patch = s->patch, p.tokens = m->local_tokens, p.positions = positions;
    p.image = (nn_array){(float *)(uintptr_t)target, RINGX_F32, 0};
    p.patches = (nn_array){m->host_target, RINGX_F32, m->pixels_out};
    int code = m->tokens ? host.ops->patches_gather(&host, &p) : CODE_GOOD;
    free(positions);
    return code;
}

static int loss_of_prediction(vit_model *m, const float *target, double scale, double *losses)
{
    size_t n = 2 * (size_t)m->run.batch;
    TRY(gather_target(m, target));
    vit_view v = view_of(m);
    TRY(vit_loss_sums(&v, m->sums));
    if (m->groups.context)
        TRY(group_all_reduce(m->groups.context, GROUP_SUM, GROUP_F64, m->sums, n));
    vit_loss_of_sums(m->run.batch, m->sums, scale, losses, m->sums + n);
    return CODE_GOOD;
}

int vit_model_predict(vit_model *m, const float *input)
{
    m->training = false;
    return forward(m, input);
}

int vit_model_loss(vit_model *m, const vit_batch *b, double *losses)
{
    TRY(vit_model_predict(m, b->input));
    return loss_of_prediction(m, b->target, 0, losses);
}

void vit_model_watch(vit_model *m, vit_watch watch)
{
    m->watch = watch;
}

/* Gradients from this parameter on. */
static int tell_ready(const vit_model *m, size_t parameter)
{
    return m->watch.ready ? m->watch.ready(m->watch.context, m->parameters[parameter].offset) : CODE_GOOD;
}

static int backward(vit_model *m)
{
    const size_t depth = (size_t)m->shape.depth;
    TRY(vit_head_backward(m));
    TRY(tell_ready(m, END_WEIGHTS + depth * BLOCK_WEIGHTS));
    for (size_t layer = depth; layer-- > 0;) {
        TRY(vit_block_backward(m, (int64_t)layer));
        TRY(tell_ready(m, END_WEIGHTS + layer * BLOCK_WEIGHTS));
    }
    TRY(vit_embed_backward(m));
    return tell_ready(m, 0);
}

int vit_model_train(vit_model *m, const vit_batch *b, double scale, uint64_t seed, double *losses)
{
    if (m->run.forward_only)
        return fail(CODE_INTERNAL, "a run prepared for forward only has no gradients");
    m->training = true, m->seed = seed;
    TRY(forward(m, b->input));
    TRY(loss_of_prediction(m, b->target, scale, losses));
    vit_view v = view_of(m);
    vit_loss_gradient(&v, m->sums + 2 * m->run.batch, m->host_gradient);
    TRY(backward(m));
    return vit_plan_wait(m);
}

int vit_model_scores(vit_model *m, const double *weights, vit_sums *sums)
{
    vit_view v = view_of(m);
    TRY(vit_metric_sums(&v, weights, sums));
    if (!m->groups.context)
        return CODE_GOOD;
    size_t n = (size_t)(m->run.batch * m->shape.channels_out) * sizeof *sums / sizeof(double);
    return group_all_reduce(m->groups.context, GROUP_SUM, GROUP_F64, (double *)sums, n);
}

/* ---- whole images ---- */

/* One patch [patch row][patch column][channel] to its place in an image. */
static void put_patch(const vit_model *m, const float *from, int64_t position, float *image)
{
    int64_t p = m->shape.patch, c = m->shape.channels_out, plane = m->shape.height * m->shape.width;
    float *corner = image + position / m->across * p * m->shape.width + position % m->across * p;
    for (int64_t i = 0; i < p * p; i++)
        for (int64_t channel = 0; channel < c; channel++)
            corner[channel * plane + i / p * m->shape.width + i % p] = from[i * c + channel];
}

int vit_model_image(vit_model *m, bool target, int64_t sample, int64_t channel, float *image)
{
    const vit_shape *s = &m->shape;
    int64_t p = s->patch, square = p * p, c = s->channels_out;
    size_t n = (size_t)(s->height * s->width);
    memset(image, 0, n * sizeof *image);
    for (int64_t t = 0; t < m->local_tokens; t++)
        for (int64_t i = 0; i < square; i++) {
            int64_t row = m->positions[t] / m->across * p + i / p, column = m->positions[t] % m->across * p + i % p;
            int64_t at = (sample * m->local_tokens + t) * m->pixels_out;
            image[row * s->width + column] =
                target ? m->host_target[at + channel * square + i] : m->host_prediction[at + i * c + channel];
        }
    return m->groups.context ? group_all_reduce(m->groups.context, GROUP_SUM, GROUP_F32, image, n) : CODE_GOOD;
}

double vit_forward_flops(const vit_shape *s)
{
    double tokens = (double)(s->height / s->patch) * (double)(s->width / s->patch), d = (double)s->embed;
    double pixels = (double)(s->channels_in + s->channels_out) * (double)(s->patch * s->patch);
    return (double)s->depth * (24 * tokens * d * d + 4 * tokens * tokens * d) + 2 * tokens * pixels * d;
}

int vit_model_fields(vit_model *m, float *fields)
{
    int64_t image = m->shape.channels_out * m->shape.height * m->shape.width;
    size_t n = (size_t)(m->run.batch * image);
    memset(fields, 0, n * sizeof *fields);
    for (int64_t t = 0; t < m->tokens; t++)
        put_patch(m, m->host_prediction + t * m->pixels_out, m->positions[t % m->local_tokens],
                  fields + t / m->local_tokens * image);
    return m->groups.context ? group_all_reduce(m->groups.context, GROUP_SUM, GROUP_F32, fields, n) : CODE_GOOD;
}
