/* SPDX-License-Identifier: MIT */
/* Attends and gradients as jobs of the kernel. */
#include "api/steps.h"
#include "comm/peer.h"

/* The caller's dK,dV in which a grad leaves the sum of an operand; NULL: in the operand. */
static const ringx_operand *result_of(const ringx_execution *e, const ringx_operand *grad)
{
    const ringx_operand *operands = e->program->schedule.operands;
    uint32_t result = e->program->ends[grad - operands];
    return result ? &operands[result] : NULL;
}

/* The key slices of an operand, after n others; returns how many there are then. */
static size_t fill_runs(const ringx_execution *e, const ringx_operand *o, ringx_key_slice *key, size_t n)
{
    ringx_run runs[RINGX_MAX_RUNS];
    int count = ringx__layout_runs(&e->plan->choice.layout, o->owner, runs);
    int64_t token = 0;
    size_t el = ringx__dtype_bytes(e->plan->shape.dtype);
    for (int i = 0; i < count; token += runs[i++].count)
        key[n++] = (ringx_key_slice){.run = runs[i],
                                     .k = view_from(ringx__view_of(e, o, 0), token, el),
                                     .v = view_from(ringx__view_of(e, o, 1), token, el)};
    return n;
}

/* The key slices of a step, after n others; returns how many there are then. */
static size_t fill_keys(const ringx_execution *e, const ringx_step *step, size_t n)
{
    size_t el = ringx__dtype_bytes(e->plan->shape.dtype);
    cursor keys = operands_of(e, step, KIND(RINGX_KV)), grads = operands_of(e, step, KIND(RINGX_DKV));
    for (const ringx_operand *o; (o = next(&keys));) {
        size_t first = n;
        int64_t token = 0;
        const ringx_operand *grad = step->op == RINGX_GRAD ? next(&grads) : NULL;
        n = fill_runs(e, o, e->program->key, n);
        for (size_t i = first; i < n && grad; token += e->program->key[i++].run.count) {
            ringx_key_slice *slice = &e->program->key[i];
            slice->dk = view_from(ringx__view_of(e, grad, 0), token, sizeof(float));
            slice->dv = view_from(ringx__view_of(e, grad, 1), token, sizeof(float));
            slice->fresh = e->program->fresh[grad - e->program->schedule.operands];
            const ringx_operand *result = result_of(e, grad);
            slice->final = result != NULL;
            slice->dk_out = result ? view_from(ringx__view_of(e, result, 0), token, el) : (ringx_view){.data = NULL};
            slice->dv_out = result ? view_from(ringx__view_of(e, result, 1), token, el) : (ringx_view){.data = NULL};
        }
    }
    return n;
}

static void fill_query(const ringx_execution *e, const ringx_step *step, ringx_query_slice *slice,
                       const ringx_operand *q, const ringx_operand *state, const ringx_operand *out,
                       const ringx_operand *dq, const ringx_operand *delta, int64_t token)
{
    size_t el = ringx__dtype_bytes(e->plan->shape.dtype);
    slice->q = view_from(ringx__view_of(e, q, 0), token, el);
    if (state) {
        slice->acc = view_from(ringx__view_of(e, state, 0), token, sizeof(float));
        slice->l = rows_from(ringx__block_rows(e, state, 1), token);
        slice->m = rows_from(ringx__block_rows(e, state, 2), token);
    }
    if (out) {
        slice->out = view_from(ringx__view_of(e, out, 0), token, el);
        slice->lse = rows_from(ringx__lse_of(e, out), token);
    }
    if (step->op == RINGX_GRAD) {
        slice->dout = view_from(ringx__view_of(e, q, 1), token, el);
        slice->lse = rows_from(ringx__lse_of(e, q), token);
        slice->delta = rows_from(
            q->buffer == RINGX_USER ? ringx__delta_rows(e, delta, q->head) : ringx__block_rows(e, q, 3), token);
        slice->dq = view_from(ringx__view_of(e, dq, 0), token, sizeof(float));
    }
}

static size_t fill_queries(const ringx_execution *e, const ringx_step *step)
{
    size_t n = 0;
    cursor queries = operands_of(e, step, KIND(RINGX_Q) | KIND(RINGX_QDO));
    cursor states = operands_of(e, step, KIND(RINGX_STATE)), outs = operands_of(e, step, KIND(RINGX_OUT));
    cursor grads = operands_of(e, step, KIND(RINGX_DQ)), deltas = operands_of(e, step, KIND(RINGX_DELTA));
    const ringx_operand *delta = next(&deltas);
    for (const ringx_operand *q; (q = next(&queries));) {
        ringx_run runs[RINGX_MAX_RUNS];
        const ringx_operand *state = next(&states), *out = next(&outs), *dq = next(&grads);
        int count = ringx__layout_runs(&e->plan->choice.layout, q->owner, runs);
        int64_t token = 0;
        for (int i = 0; i < count; token += runs[i++].count) {
            ringx_query_slice *slice = &e->program->query[n++];
            *slice = (ringx_query_slice){.run = runs[i]};
            fill_query(e, step, slice, q, state, out, dq, delta, token);
        }
    }
    return n;
}

/* What a grad without live pairs would have started and ended. */
static ringx_status grad_nothing(const ringx_execution *e, const ringx_step *step, void *stream)
{
    cursor grads = operands_of(e, step, KIND(RINGX_DKV));
    for (const ringx_operand *o; (o = next(&grads));) {
        if (e->program->fresh[o - e->program->schedule.operands])
            RINGX_TRY(ringx__step_clear(e, o, stream));
        if (result_of(e, o))
            RINGX_TRY(ringx__step_store(e, o, result_of(e, o), e->plan->choice.threads, stream));
    }
    return RINGX_OK;
}

/* All attends of a pass as one.  Own keys first: they are there. */
void ringx__fused_job(const ringx_execution *e, ringx_job *job)
{
    const ringx_plan *plan = e->plan;
    const ringx_schedule *s = &e->program->schedule;
    const ringx_fusion *fusion = &e->program->fusion;
    ringx_key_slice *key = fusion->key;
    const uint32_t *words = ringx__peer_words(plan->data);
    const ringx_step *first = &s->steps[s->lane_step[RINGX_COMPUTE_LANE][0]];
    cursor own = operands_of(e, first, KIND(RINGX_KV));
    size_t n = 0;
    for (const ringx_operand *o; (o = next(&own));)
        n = o->buffer == RINGX_USER ? fill_runs(e, o, key, n) : n;
    for (size_t i = 0; i < s->lane_count[RINGX_COMPUTE_LANE]; i++) {
        cursor keys = operands_of(e, &s->steps[s->lane_step[RINGX_COMPUTE_LANE][i]], KIND(RINGX_KV));
        for (const ringx_operand *o; (o = next(&keys));) {
            const uint8_t word = fusion->arrival[o - s->operands];
            size_t at = n;
            n = word ? fill_runs(e, o, key, n) : n;
            for (; at < n; at++) {
                key[at].head = o->head;
                key[at].heads = o->heads;
                key[at].arrived = words + word - 1;
            }
        }
    }
    *job = (ringx_job){.shape = &plan->shape,
                       .q_heads = plan->shape.q_heads,
                       .kv_heads = plan->shape.kv_heads,
                       .query = e->program->query,
                       .key = key,
                       .live = fusion->live,
                       .queries = fill_queries(e, first),
                       .keys = n,
                       .fresh = true,
                       .final = true,
                       .scratch = (char *)plan->args->workspace + plan->schedule_bytes,
                       .threads = plan->choice.threads,
                       .stream = plan->stream,
                       .waited = e->program->stamps ? ringx__peer_waited(plan->data) : NULL};
}

/* What a step asks of the kernel, in the program's room for slices. */
static ringx_job job_of(const ringx_execution *e, const ringx_step *step, const uint8_t *live, void *stream)
{
    const ringx_plan *plan = e->plan;
    cursor queries = operands_of(e, step, KIND(RINGX_Q) | KIND(RINGX_QDO)), keys = operands_of(e, step, KIND(RINGX_KV));
    const ringx_operand *q = next(&queries), *k = next(&keys);
    return (ringx_job){.shape = &plan->shape,
                       .q_head = q->head,
                       .q_heads = q->heads,
                       .kv_head = k->head,
                       .kv_heads = k->heads,
                       .query = e->program->query,
                       .key = e->program->key,
                       .live = live,
                       .queries = fill_queries(e, step),
                       .keys = fill_keys(e, step, 0),
                       .fresh = step->fresh,
                       .final = step->final,
                       .ordered = plan->deterministic,
                       .scratch = (char *)plan->args->workspace + plan->schedule_bytes,
                       .threads = plan->choice.threads,
                       .stream = stream};
}

void ringx__early_job(const ringx_execution *e, void *stream, ringx_job *job)
{
    const ringx_program *p = e->program;
    const ringx_step *steps = p->schedule.steps;
    *job = job_of(e, &steps[p->early.grad[0]], p->early.live, stream);
    for (size_t i = 0; i < job->keys; i++)
        p->key[i].finished = ringx__peer_words(e->plan->data);
    job->keys = fill_keys(e, &steps[p->early.grad[1]], job->keys);
}

ringx_status ringx__step_tiles(const ringx_execution *e, uint32_t number, void *stream)
{
    const ringx_kernel *kernel = e->plan->choice.kernel;
    const ringx_program *p = e->program;
    const ringx_step *step = &p->schedule.steps[number];
    const ringx_pairs *pairs = &p->pairs[number];
    ringx_job job;
    if (p->fusion.on)
        return kernel->forward(&p->fusion.job);
    if (p->early.on && number == p->early.grad[1])
        return RINGX_OK;
    if (p->early.on && number == p->early.grad[0]) {
        ringx__early_job(e, stream, &job);
        return kernel->backward(&job);
    }
    if (!pairs->any && step->op == RINGX_GRAD)
        return grad_nothing(e, step, stream);
    if (!pairs->any && !step->fresh && !step->final)
        return RINGX_OK;
    job = job_of(e, step, p->live + pairs->first, stream);
    return step->op == RINGX_ATTEND ? kernel->forward(&job) : kernel->backward(&job);
}
