/* SPDX-License-Identifier: MIT */
/* The attention of a run: the library's plan, and the calls of a block.
 *
 * Dropout of attention weights is a plan's constant, and its mask a function of seed, sample, head and both tokens as
 * the plan counts them.  For a mask that no layout changes and every step renews, each head of each sample is then a
 * plan of its own, seeded by its number in the whole. */
#include "shared/numbers.h"
#include "vit/vit_model_parts.h"

#include <ringx/ringx_study.h>
#include <stdio.h>
#include <string.h>

int vit_attention_preset(const char *attn_type, const char **preset)
{
    static const char *const names[][2] = {{"ringX", "ringX1o"}, {"auto", NULL}}; /* the original's; the library's */
    char all[512] = "";
    size_t used = 0;
    *preset = attn_type;
    if (!attn_type)
        return CODE_GOOD;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(attn_type, names[i][0]) == 0) {
            *preset = names[i][1];
            return CODE_GOOD;
        }
    for (size_t i = 0; ringx_preset_at(i); i++) {
        const char *name = ringx_preset_at(i)->name;
        if (strcmp(attn_type, name) == 0)
            return CODE_GOOD;
        if (used + strlen(name) + 3 < sizeof all)
            used += (size_t)snprintf(all + used, sizeof all - used, ", %s", name);
    }
    return fail(CODE_CONFIGURATION, "attn_type is '%s'; it must be ringX, ring, megatron, auto, or one of%s", attn_type,
                all + 1);
}

ringx_problem vit_run_problem(const vit_shape *s, ringx_dtype dtype, int64_t batch, int tensor_ranks)
{
    ringx_problem problem = RINGX_PROBLEM_INIT;
    problem.batch = batch, problem.tokens = (s->height / s->patch) * (s->width / s->patch);
    problem.q_heads = problem.kv_heads = s->heads / tensor_ranks;
    problem.head_dim = s->embed / s->heads, problem.dtype = dtype;
    return problem;
}

ringx_options vit_run_options(const vit_run *run, ringx_device device)
{
    ringx_options options = RINGX_OPTIONS_INIT;
    if (run->attention)
        options = *run->attention;
    options.device = device, options.forward_only = run->forward_only;
    return options;
}

int vit_plan_create(vit_model *m)
{
    ringx_problem problem = vit_run_problem(&m->shape, m->dtype, m->run.batch, m->tensor_ranks);
    ringx_options options = vit_run_options(&m->run, m->on.ops->device);
    options.stream = m->on.stream;
    if (m->groups.context) {
        TRY(group_comm(m->groups.context, &m->comm));
    } else {
        TRY(fail_status(ringx_comm_self(&m->self), "communicator of one rank"));
        m->comm = m->self;
    }
    TRY(fail_status(ringx_plan_create(&m->plan, &problem, &options, m->comm), "attention"));
    m->local_tokens = ringx_plan_local_tokens(m->plan);
    m->workspace_bytes = ringx_plan_workspace(m->plan);
    return CODE_GOOD;
}

int vit_plan_attach(vit_model *m)
{
    return m->run.no_peer_copies ? CODE_GOOD : fail_status(ringx_plan_attach(m->plan, m->workspace), "attention");
}

void vit_plan_destroy(vit_model *m)
{
    ringx_plan_destroy(m->plan);
    ringx_comm_destroy(m->self);
    m->plan = NULL, m->self = NULL, m->comm = NULL;
}

int vit_plan_leave(vit_model *m)
{
    bool left = m->plan != NULL;
    vit_plan_destroy(m);
    return left && m->groups.context ? group_agree(m->groups.context, CODE_GOOD) : CODE_GOOD;
}

/* The plan first: it notices that another rank is gone, which would hold up the device for ever. */
int vit_plan_wait(vit_model *m)
{
    TRY(fail_status(ringx_plan_wait(m->plan), "a step"));
    return m->on.ops->wait(&m->on);
}

static ringx_args args_of(const vit_model *m, const vit_kept *k)
{
    ringx_args args = RINGX_ARGS_INIT;
    args.q.data = k->q.data, args.k.data = k->k.data, args.v.data = k->v.data, args.out.data = k->out.data;
    args.lse = k->lse;
    args.dout.data = m->dout.data, args.dq.data = m->dq.data, args.dk.data = m->dk.data, args.dv.data = m->dv.data;
    args.workspace = m->workspace, args.workspace_bytes = m->workspace_bytes;
    return args;
}

/* One sample's one head of a tensor [batch][token][head][head_dim]. */
static void narrow(const vit_model *m, ringx_tensor *t, int64_t sample, int64_t head)
{
    int64_t first = sample * m->local_tokens * m->qkv + head * m->head_dim;
    if (t->data)
        t->data = (char *)t->data + (size_t)first * dtype_bytes(m->dtype);
    t->stride[0] = m->local_tokens * m->qkv, t->stride[1] = m->qkv, t->stride[2] = m->head_dim;
}

static int plan_of_head(const vit_model *m, int64_t layer, int64_t sample, int64_t head, ringx_plan **plan)
{
    ringx_plan_info info;
    ringx_problem problem = vit_run_problem(&m->shape, m->dtype, 1, m->tensor_ranks);
    ringx_options options = vit_run_options(&m->run, m->on.ops->device);
    int64_t number = m->run.first_sample + sample * m->run.sample_stride, all = m->shape.heads;
    ringx_plan_describe(m->plan, &info);
    problem.q_heads = problem.kv_heads = 1;
    problem.dropout = m->shape.dropout;
    problem.seed =
        random_word(vit_drop_seed(m, layer, DROP_WEIGHTS), (uint64_t)(number * all + m->tensor_rank * m->heads + head));
    options.preset = info.preset, options.layout = info.layout, options.slices = 0, options.head_ranks = 0;
    options.stream = m->on.stream;
    return fail_status(ringx_plan_create(plan, &problem, &options, m->comm), "attention with dropout");
}

static int attend_head(vit_model *m, int64_t layer, const vit_kept *k, bool backward, int64_t which)
{
    int64_t sample = which / m->heads, head = which % m->heads;
    ringx_plan *plan;
    ringx_args args = args_of(m, k);
    ringx_tensor *const all[] = {&args.q, &args.k, &args.v, &args.out, &args.dout, &args.dq, &args.dk, &args.dv};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        narrow(m, all[i], sample, head);
    args.lse += which * m->local_tokens;
    TRY(plan_of_head(m, layer, sample, head, &plan));
    void *workspace = NULL;
    args.workspace_bytes = ringx_plan_workspace(plan);
    int code = fail_status(ringx_memory_alloc(m->on.ops->device, args.workspace_bytes, &workspace), "attention");
    args.workspace = workspace;
    if (!code)
        code = fail_status(backward ? ringx_backward(plan, &args) : ringx_forward(plan, &args),
                           "attention with dropout of block %lld", (long long)layer);
    if (!code)
        code = fail_status(ringx_plan_wait(plan), "attention with dropout of block %lld", (long long)layer);
    ringx_plan_destroy(plan);
    ringx_memory_free(m->on.ops->device, workspace);
    return code;
}

int vit_attend(vit_model *m, int64_t layer, const vit_kept *k, bool backward)
{
    if (vit_drops(m)) {
        for (int64_t i = 0; i < m->run.batch * m->heads; i++)
            TRY(attend_head(m, layer, k, backward, i));
        return CODE_GOOD;
    }
    ringx_args args = args_of(m, k);
    return fail_status(backward ? ringx_backward(m->plan, &args) : ringx_forward(m->plan, &args),
                       "%sattention of block %lld", backward ? "backward of " : "", (long long)layer);
}
