/* SPDX-License-Identifier: MIT */
/* Attention on whole tensors by a crew: split, planned, executed, joined, with poison and guards everywhere. */
#include "trial.h"

#include "placed.h"

#include <stdlib.h>
#include <string.h>

const char *const tensor_names[TENSORS] = {"q", "k", "v", "dout", "out", "dq", "dk", "dv", "lse"};

void tensor_sizes(const ringx_problem *p, tensor_id id, int64_t tokens, int64_t sizes[4])
{
    int64_t value_dim = p->value_dim ? p->value_dim : p->head_dim;
    bool keys = id == T_K || id == T_V || id == T_DK || id == T_DV;
    bool values = id == T_V || id == T_DOUT || id == T_OUT || id == T_DV;
    sizes[0] = p->batch;
    sizes[1] = id == T_LSE ? 1 : tokens;
    sizes[2] = keys ? p->kv_heads : p->q_heads;
    sizes[3] = id == T_LSE ? tokens : values ? value_dim : p->head_dim;
}

size_t tensor_elements(const ringx_problem *p, tensor_id id)
{
    int64_t s[4];
    tensor_sizes(p, id, p->tokens, s);
    return (size_t)s[0] * (size_t)s[1] * (size_t)s[2] * (size_t)s[3];
}

static ringx_dtype dtype_of(const ringx_problem *p, tensor_id id)
{
    return id == T_LSE ? RINGX_F32 : p->dtype;
}

size_t tensor_bytes(const ringx_problem *p, tensor_id id)
{
    return tensor_elements(p, id) * dtype_bytes(dtype_of(p, id));
}

int whole_results_create(whole *w, const ringx_problem *p, bool backward)
{
    for (tensor_id id = T_OUT; id < TENSORS; id++) {
        if (!backward && id != T_OUT && id != T_LSE)
            continue;
        w->data[id] = allocate(tensor_bytes(p, id));
        if (!w->data[id])
            return CODE_NO_MEMORY;
        poison(w->data[id], tensor_bytes(p, id));
    }
    return CODE_GOOD;
}

void whole_destroy(whole *w)
{
    for (int i = 0; i < TENSORS; i++)
        free(w->data[i]);
    *w = (whole){0};
}

/* ---- one rank's part ---- */

typedef struct part {
    const trial *trial;
    ringx_plan *plan;
    int64_t tokens; /* local */
    bool backward;
    field fields[TENSORS];
    guarded workspace;
    unsigned char *packed; /* room for the largest local tensor, packed */
    placed placed;
} part;

/* How shards of a tensor are cut: outer × tokens × width bytes. */
static void shard_shape(const ringx_problem *p, tensor_id id, int64_t *outer, size_t *width)
{
    int64_t s[4];
    tensor_sizes(p, id, p->tokens, s);
    *outer = id == T_LSE ? s[0] * s[2] : s[0];
    *width = id == T_LSE ? sizeof(float) : (size_t)(s[2] * s[3]) * dtype_bytes(p->dtype);
}

static int create_fields(part *x, int rank)
{
    const ringx_problem *p = &x->trial->problem;
    random_stream draw = {.key = random_word(x->trial->style_key, (uint64_t)rank)};
    size_t largest = 0;
    for (tensor_id id = 0; id < TENSORS; id++) {
        if (!x->backward && id != T_Q && id != T_K && id != T_V && id != T_OUT && id != T_LSE)
            continue;
        int64_t sizes[4];
        tensor_sizes(p, id, x->tokens, sizes);
        field_style style = FIELD_PACKED;
        if (x->trial->style_key && id != T_LSE)
            style = (field_style)random_below(&draw, FIELD_STYLES);
        int code = field_create(&x->fields[id], sizes, dtype_of(p, id), style, random_between(&draw, 1, 9));
        if (code)
            return code;
        size_t bytes = (size_t)(sizes[0] * sizes[1] * sizes[2] * sizes[3]) * dtype_bytes(dtype_of(p, id));
        largest = bytes > largest ? bytes : largest;
    }
    x->packed = allocate(largest);
    int code = x->packed ? guarded_create(&x->workspace, ringx_plan_workspace(x->plan)) : CODE_NO_MEMORY;
    return code ? code : placed_create(&x->placed, x->trial->options.device, x->fields, &x->workspace);
}

static void load_inputs(part *x)
{
    for (tensor_id id = T_Q; id <= T_DOUT; id++) {
        if (!x->fields[id].memory)
            continue;
        int64_t outer;
        size_t width;
        shard_shape(&x->trial->problem, id, &outer, &width);
        ringx_shard(x->plan, outer, width, x->trial->inputs->data[id], x->packed);
        field_load(&x->fields[id], x->packed);
    }
}

static int execute_direction(part *x, bool backward)
{
    const char *what = backward ? "backward" : "forward";
    poison(x->workspace.data, x->workspace.bytes);
    int code = backward ? placed_upload_workspace(&x->placed) : placed_upload(&x->placed);
    ringx_status status = RINGX_OK;
    if (!code)
        status = backward ? ringx_backward(x->plan, &x->placed.args) : ringx_forward(x->plan, &x->placed.args);
    if (!code && status == RINGX_OK)
        status = ringx_plan_wait(x->plan);
    return code ? code : fail_status(status, "%s", what);
}

static int execute(part *x)
{
    for (tensor_id id = T_OUT; id < TENSORS; id++)
        if (x->fields[id].memory)
            poison(x->fields[id].memory, x->fields[id].bytes + 2 * FIELD_GUARD);
    int code = execute_direction(x, false);
    if (!code && x->backward)
        code = execute_direction(x, true);
    return code ? code : placed_download(&x->placed);
}

static int check_memory(part *x, int rank)
{
    if (!guarded_intact(&x->workspace))
        return fail(CODE_WRONG, "rank %d wrote outside its workspace of %zu bytes", rank, x->workspace.bytes);
    for (int id = 0; id < TENSORS; id++)
        if (x->fields[id].memory && !field_intact(&x->fields[id]))
            return fail(CODE_WRONG, "rank %d wrote between or around the elements of %s", rank, tensor_names[id]);
    return CODE_GOOD;
}

/* Executes again and compares every bit of every result; the collective calls are made whatever differs. */
static int execute_again(part *x, int rank)
{
    unsigned char *before[TENSORS] = {0};
    int code = CODE_GOOD;
    for (tensor_id id = T_OUT; id < TENSORS; id++) {
        field *f = &x->fields[id];
        size_t bytes = f->bytes + 2 * FIELD_GUARD;
        before[id] = f->memory ? allocate(bytes) : NULL;
        if (before[id])
            memcpy(before[id], f->memory, bytes);
    }
    code = execute(x);
    for (tensor_id id = T_OUT; id < TENSORS; id++) {
        field *f = &x->fields[id];
        if (!code && before[id] && memcmp(before[id], f->memory, f->bytes + 2 * FIELD_GUARD) != 0)
            code = fail(CODE_WRONG, "%s on rank %d differs from run to run", tensor_names[id], rank);
        free(before[id]);
    }
    return code;
}

static int join_results(part *x, crew *c)
{
    int code = CODE_GOOD;
    for (tensor_id id = T_OUT; id < TENSORS; id++) {
        if (!x->fields[id].memory)
            continue;
        int64_t outer;
        size_t width;
        shard_shape(&x->trial->problem, id, &outer, &width);
        field_store(&x->fields[id], x->packed);
        void *global = c->rank == 0 ? x->trial->results->data[id] : NULL;
        int failed =
            fail_status(ringx_unshard(x->plan, outer, width, x->packed, global, 0), "joining %s", tensor_names[id]);
        code = code ? code : failed;
    }
    return code;
}

/* Every global position must belong to exactly one rank, and each rank's must ascend. */
static int check_positions(part *x, crew *c)
{
    size_t local = (size_t)x->tokens, tokens = (size_t)x->trial->problem.tokens;
    int64_t *mine = allocate(local * sizeof *mine);
    int64_t *all = c->rank == 0 ? allocate(tokens * sizeof *all) : NULL;
    int code = crew_agree(c, mine && (all || c->rank) ? CODE_GOOD : CODE_NO_MEMORY);
    if (!code) {
        poison(mine, local * sizeof *mine);
        ringx_plan_positions(x->plan, mine);
        for (size_t i = 1; i < local; i++)
            if (mine[i] <= mine[i - 1])
                code = fail(CODE_WRONG, "positions of rank %d do not ascend at %zu", c->rank, i);
        int joined = fail_status(ringx_unshard(x->plan, 1, sizeof *mine, mine, all, 0), "joining positions");
        code = joined ? joined : code;
    }
    for (size_t i = 0; i < tokens && all && !code; i++)
        if (all[i] != (int64_t)i)
            code = fail(CODE_WRONG, "position %zu was joined from %lld", i, (long long)all[i]);
    free(mine);
    free(all);
    return code;
}

static void describe(const part *x)
{
    ringx_plan_info *info = x->trial->info;
    if (!info)
        return;
    ringx_plan_describe(x->plan, info);
    info->preset = info->algorithm = info->layout = info->kernel = info->transport = NULL;
}

int trial_run(crew *c, const trial *t)
{
    part x = {.trial = t, .backward = t->inputs->data[T_DOUT] && !t->options.forward_only};
    int code = fail_status(ringx_plan_create(&x.plan, &t->problem, &t->options, c->comm), "plan");
    code = crew_agree(c, code);
    if (!code) {
        x.tokens = ringx_plan_local_tokens(x.plan);
        describe(&x);
        code = crew_agree(c, create_fields(&x, c->rank));
    }
    if (!code && c->attach)
        code = crew_agree(c, fail_status(ringx_plan_attach(x.plan, x.placed.args.workspace), "workspace"));
    if (!code) {
        load_inputs(&x);
        code = crew_agree(c, execute(&x));
    }
    if (!code && t->repeat)
        code = crew_agree(c, execute_again(&x, c->rank));
    if (!code)
        code = crew_agree(c, check_memory(&x, c->rank));
    if (!code)
        code = crew_agree(c, join_results(&x, c));
    if (!code && t->repeat)
        code = crew_agree(c, check_positions(&x, c));
    ringx_plan_destroy(x.plan);
    c->ops->barrier(c); /* no rank has another's workspace open when that is freed */
    for (int id = 0; id < TENSORS; id++)
        field_destroy(&x.fields[id]);
    placed_destroy(&x.placed);
    guarded_destroy(&x.workspace);
    free(x.packed);
    return code;
}
