/* SPDX-License-Identifier: MIT */
/* Steps made concrete: blocks become views of memory, ops become calls of the kernel, the row operations, the
 * transport. */
#include "api/plan.h"
#include "comm/peer.h"

/* ---- blocks to views ---- */

static bool is_kv(uint8_t kind)
{
    return kind == RINGX_KV || kind == RINGX_DKV;
}

static int64_t tokens_of(const ringx_plan *plan, const ringx_operand *o)
{
    return ringx__layout_count(&plan->choice.layout, o->owner);
}

static char *address(const ringx_execution *e, const ringx_operand *o)
{
    return (char *)e->plan->args->workspace + e->program->schedule.buffers[o->buffer].offset + o->offset;
}

static ringx_view user_view(const ringx_plan *plan, const ringx_tensor *t, int64_t heads, int64_t dim, int64_t head,
                            size_t element)
{
    bool packed = t->stride[0] == 0 && t->stride[1] == 0 && t->stride[2] == 0;
    ringx_view view = {.batch_stride = packed ? plan->local_tokens * heads * dim : t->stride[0],
                       .token_stride = packed ? heads * dim : t->stride[1],
                       .head_stride = packed ? dim : t->stride[2]};
    view.data = t->data ? (char *)t->data + head * view.head_stride * (int64_t)element : NULL;
    return view;
}

/* Part `part` of a block as a view of [batch][token][head][dim]. */
static ringx_view block_view(const ringx_execution *e, const ringx_operand *o, int part, int64_t dim)
{
    const ringx_shape *shape = &e->plan->shape;
    int64_t tokens = tokens_of(e->plan, o);
    size_t at[4];
    ringx__block_parts(shape, (ringx_kind)o->kind, tokens, o->heads, at);
    return (ringx_view){.data = address(e, o) + at[part],
                        .batch_stride = tokens * o->heads * dim,
                        .token_stride = o->heads * dim,
                        .head_stride = dim};
}

static ringx_rows block_rows(const ringx_execution *e, const ringx_operand *o, int part)
{
    int64_t tokens = tokens_of(e->plan, o);
    size_t at[4];
    ringx__block_parts(&e->plan->shape, (ringx_kind)o->kind, tokens, o->heads, at);
    return (ringx_rows){
        .data = (float *)(void *)(address(e, o) + at[part]), .batch_stride = tokens * o->heads, .head_stride = tokens};
}

static ringx_rows user_lse(const ringx_plan *plan, int64_t head)
{
    ringx_rows rows = {.batch_stride = plan->local_tokens * plan->shape.q_heads, .head_stride = plan->local_tokens};
    rows.data = plan->args->lse ? plan->args->lse + head * plan->local_tokens : NULL;
    return rows;
}

/* Rows of delta for heads [head, …) from the block of all heads. */
static ringx_rows delta_rows(const ringx_execution *e, const ringx_operand *delta, int64_t head)
{
    ringx_rows rows = block_rows(e, delta, 0);
    rows.data += head * rows.head_stride;
    return rows;
}

/* part: 0 q, 1 dout of QDO; 0 k, 1 v of KV; 0 dk, 1 dv of DKV; else 0. */
static ringx_view view_of(const ringx_execution *e, const ringx_operand *o, int part)
{
    const ringx_plan *plan = e->plan;
    const ringx_shape *shape = &plan->shape;
    const ringx_args *a = plan->args;
    bool value = (part == 1 && o->kind != RINGX_STATE) || o->kind == RINGX_OUT || o->kind == RINGX_STATE;
    int64_t dim = value ? shape->value_dim : shape->head_dim;
    if (o->buffer != RINGX_USER)
        return block_view(e, o, part, dim);
    const ringx_tensor *tensor = NULL;
    switch (o->kind) {
    case RINGX_Q:
        tensor = &a->q;
        break;
    case RINGX_QDO:
        tensor = part ? &a->dout : &a->q;
        break;
    case RINGX_KV:
        tensor = part ? &a->v : &a->k;
        break;
    case RINGX_OUT:
        tensor = &a->out;
        break;
    case RINGX_DQ:
        tensor = &a->dq;
        break;
    default:
        tensor = part ? &a->dv : &a->dk;
    }
    int64_t heads = is_kv(o->kind) ? shape->kv_heads : shape->q_heads;
    return user_view(plan, tensor, heads, dim, o->head, ringx__dtype_bytes(shape->dtype));
}

static ringx_rows lse_of(const ringx_execution *e, const ringx_operand *o)
{
    if (o->buffer == RINGX_USER)
        return user_lse(e->plan, o->head);
    return block_rows(e, o, o->kind == RINGX_OUT ? 1 : 2);
}

static ringx_view view_from(ringx_view view, int64_t token, size_t element)
{
    if (view.data)
        view.data = (char *)view.data + token * view.token_stride * (int64_t)element;
    return view;
}

static ringx_rows rows_from(ringx_rows rows, int64_t token)
{
    if (rows.data)
        rows.data += token;
    return rows;
}

/* ---- attend and grad ---- */

typedef struct ringx_cursor { /* operands of one kind, in order */
    const ringx_operand *at, *end;
    uint32_t kinds;
} cursor;

static const ringx_operand *next(cursor *c)
{
    while (c->at < c->end && !(c->kinds >> c->at->kind & 1u))
        c->at++;
    return c->at < c->end ? c->at++ : NULL;
}

static cursor operands_of(const ringx_execution *e, const ringx_step *step, uint32_t kinds)
{
    const ringx_operand *first = &e->program->schedule.operands[step->operand];
    return (cursor){.at = first, .end = first + step->operands, .kinds = kinds};
}

#define KIND(kind) (1u << (kind))

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
        key[n++] = (ringx_key_slice){
            .run = runs[i], .k = view_from(view_of(e, o, 0), token, el), .v = view_from(view_of(e, o, 1), token, el)};
    return n;
}

static size_t fill_keys(const ringx_execution *e, const ringx_step *step)
{
    size_t n = 0, el = ringx__dtype_bytes(e->plan->shape.dtype);
    cursor keys = operands_of(e, step, KIND(RINGX_KV)), grads = operands_of(e, step, KIND(RINGX_DKV));
    for (const ringx_operand *o; (o = next(&keys));) {
        size_t first = n;
        int64_t token = 0;
        const ringx_operand *grad = step->op == RINGX_GRAD ? next(&grads) : NULL;
        n = fill_runs(e, o, e->program->key, n);
        for (size_t i = first; i < n && grad; token += e->program->key[i++].run.count) {
            ringx_key_slice *slice = &e->program->key[i];
            slice->dk = view_from(view_of(e, grad, 0), token, sizeof(float));
            slice->dv = view_from(view_of(e, grad, 1), token, sizeof(float));
            slice->fresh = e->program->fresh[grad - e->program->schedule.operands];
            const ringx_operand *result = result_of(e, grad);
            slice->final = result != NULL;
            slice->dk_out = result ? view_from(view_of(e, result, 0), token, el) : (ringx_view){.data = NULL};
            slice->dv_out = result ? view_from(view_of(e, result, 1), token, el) : (ringx_view){.data = NULL};
        }
    }
    return n;
}

static void fill_query(const ringx_execution *e, const ringx_step *step, ringx_query_slice *slice,
                       const ringx_operand *q, const ringx_operand *state, const ringx_operand *out,
                       const ringx_operand *dq, const ringx_operand *delta, int64_t token)
{
    size_t el = ringx__dtype_bytes(e->plan->shape.dtype);
    slice->q = view_from(view_of(e, q, 0), token, el);
    if (state) {
        slice->acc = view_from(view_of(e, state, 0), token, sizeof(float));
        slice->l = rows_from(block_rows(e, state, 1), token);
        slice->m = rows_from(block_rows(e, state, 2), token);
    }
    if (out) {
        slice->out = view_from(view_of(e, out, 0), token, el);
        slice->lse = rows_from(lse_of(e, out), token);
    }
    if (step->op == RINGX_GRAD) {
        slice->dout = view_from(view_of(e, q, 1), token, el);
        slice->lse = rows_from(lse_of(e, q), token);
        slice->delta = rows_from(q->buffer == RINGX_USER ? delta_rows(e, delta, q->head) : block_rows(e, q, 3), token);
        slice->dq = view_from(view_of(e, dq, 0), token, sizeof(float));
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

static ringx_status clear(const ringx_execution *e, const ringx_operand *o, void *stream)
{
    return e->plan->rowops->fill((size_t)o->bytes / sizeof(float), 0, (float *)(void *)address(e, o),
                                 e->plan->choice.threads, stream);
}

static ringx_status store(const ringx_execution *e, const ringx_operand *from, const ringx_operand *to, int threads,
                          void *stream)
{
    const ringx_plan *plan = e->plan;
    const ringx_shape *shape = &plan->shape;
    const ringx_rowops *ops = plan->rowops;
    int64_t tokens = tokens_of(plan, from);
    if (from->kind == RINGX_OUT) {
        RINGX_TRY(ops->copy(shape, tokens, from->heads, shape->value_dim, view_of(e, from, 0), shape->dtype,
                            view_of(e, to, 0), shape->dtype, threads, stream));
        return ops->copy_rows(shape, tokens, from->heads, lse_of(e, from), lse_of(e, to), threads, stream);
    }
    RINGX_TRY(ops->copy(shape, tokens, from->heads, shape->head_dim, view_of(e, from, 0), RINGX_F32, view_of(e, to, 0),
                        shape->dtype, threads, stream));
    if (from->kind == RINGX_DQ)
        return RINGX_OK;
    return ops->copy(shape, tokens, from->heads, shape->value_dim, view_of(e, from, 1), RINGX_F32, view_of(e, to, 1),
                     shape->dtype, threads, stream);
}

/* What a grad without live pairs would have started and ended. */
static ringx_status grad_nothing(const ringx_execution *e, const ringx_step *step, void *stream)
{
    cursor grads = operands_of(e, step, KIND(RINGX_DKV));
    for (const ringx_operand *o; (o = next(&grads));) {
        if (e->program->fresh[o - e->program->schedule.operands])
            RINGX_TRY(clear(e, o, stream));
        if (result_of(e, o))
            RINGX_TRY(store(e, o, result_of(e, o), e->plan->choice.threads, stream));
    }
    return RINGX_OK;
}

/* Own keys first: they are there. */
void ringx__fused_job(const ringx_execution *e, void *stream, ringx_job *job)
{
    const ringx_plan *plan = e->plan;
    const ringx_schedule *s = &e->program->schedule;
    ringx_key_slice *key = e->program->fusion.key;
    const uint32_t *words = ringx__peer_words(plan->data);
    size_t n = 0;
    for (size_t i = 0; i < s->lane_count[RINGX_COMPUTE_LANE]; i++) {
        const ringx_step *step = &s->steps[s->lane_step[RINGX_COMPUTE_LANE][i]];
        cursor keys = operands_of(e, step, KIND(RINGX_KV));
        for (const ringx_operand *o; (o = next(&keys));)
            if (i == 0 && o->buffer == RINGX_USER)
                n = fill_runs(e, o, key, n);
    }
    for (size_t i = 0; i < s->lane_count[RINGX_COMPUTE_LANE]; i++) {
        const ringx_step *step = &s->steps[s->lane_step[RINGX_COMPUTE_LANE][i]];
        cursor keys = operands_of(e, step, KIND(RINGX_KV));
        for (const ringx_operand *o; (o = next(&keys));) {
            size_t first = n;
            n = o->buffer == RINGX_USER ? n : fill_runs(e, o, key, n);
            for (; first < n; first++) {
                key[first].head = o->head;
                key[first].heads = o->heads;
                key[first].arrived = words + i;
            }
        }
    }
    const ringx_step *first = &s->steps[s->lane_step[RINGX_COMPUTE_LANE][0]];
    *job = (ringx_job){.shape = &plan->shape,
                       .q_heads = plan->shape.q_heads,
                       .kv_heads = plan->shape.kv_heads,
                       .query = e->program->query,
                       .key = key,
                       .live = e->program->fusion.live,
                       .queries = fill_queries(e, first),
                       .keys = n,
                       .fresh = true,
                       .final = true,
                       .scratch = (char *)plan->args->workspace + plan->schedule_bytes,
                       .threads = plan->choice.threads,
                       .stream = stream,
                       .waited = e->program->stamps ? ringx__peer_waited(plan->data) : NULL};
}

static ringx_status attend_fused(const ringx_execution *e, void *stream)
{
    ringx_job job;
    ringx__fused_job(e, stream, &job);
    return e->plan->choice.kernel->forward(&job);
}

static ringx_status run_tiles(const ringx_execution *e, uint32_t number, void *stream)
{
    const ringx_plan *plan = e->plan;
    const ringx_step *step = &e->program->schedule.steps[number];
    const ringx_pairs *pairs = &e->program->pairs[number];
    if (e->program->fusion.on)
        return attend_fused(e, stream);
    if (!pairs->any && step->op == RINGX_GRAD)
        return grad_nothing(e, step, stream);
    if (!pairs->any && !step->fresh && !step->final)
        return RINGX_OK;
    cursor queries = operands_of(e, step, KIND(RINGX_Q) | KIND(RINGX_QDO)), keys = operands_of(e, step, KIND(RINGX_KV));
    const ringx_operand *q = next(&queries), *k = next(&keys);
    ringx_job job = {.shape = &plan->shape,
                     .q_head = q->head,
                     .q_heads = q->heads,
                     .kv_head = k->head,
                     .kv_heads = k->heads,
                     .query = e->program->query,
                     .key = e->program->key,
                     .live = e->program->live + pairs->first,
                     .queries = fill_queries(e, step),
                     .keys = fill_keys(e, step),
                     .fresh = step->fresh,
                     .final = step->final,
                     .ordered = plan->deterministic,
                     .scratch = (char *)plan->args->workspace + plan->schedule_bytes,
                     .threads = plan->choice.threads,
                     .stream = stream};
    return step->op == RINGX_ATTEND ? plan->choice.kernel->forward(&job) : plan->choice.kernel->backward(&job);
}

/* ---- row operations ---- */

/* dQ, or dK,dV: two blocks from a on. */
static ringx_status store_sum(const ringx_execution *e, const ringx_operand *a, const ringx_operand *to, void *stream)
{
    const ringx_plan *plan = e->plan;
    const ringx_shape *shape = &plan->shape;
    for (int part = 0; part < (to->kind == RINGX_DQ ? 1 : 2); part++)
        RINGX_TRY(plan->rowops->copy_sum(shape, tokens_of(plan, to), to->heads,
                                         part ? shape->value_dim : shape->head_dim, view_of(e, a, part),
                                         view_of(e, a + 1, part), view_of(e, to, part), shape->dtype, stream));
    return RINGX_OK;
}

static ringx_status finish(const ringx_execution *e, const ringx_operand *states, int count, void *stream)
{
    const ringx_plan *plan = e->plan;
    const ringx_operand *out = states + count;
    ringx_state state[RINGX_MOST_STATES];
    for (int i = 0; i < count; i++)
        state[i] = (ringx_state){
            .acc = view_of(e, states + i, 0), .l = block_rows(e, states + i, 1), .m = block_rows(e, states + i, 2)};
    return plan->rowops->finish(&plan->shape, tokens_of(plan, out), out->heads, state, count, view_of(e, out, 0),
                                lse_of(e, out), plan->choice.threads, stream);
}

/* Of what a pack reads: tensors with a head_dim or value_dim; lse and delta come after them. */
static int views_in(uint8_t kind)
{
    return kind == RINGX_Q ? 1 : 2;
}

/* A head's elements are neighbours; the heads of a token must be too. */
bool ringx__step_sent_directly(const ringx_execution *e, uint32_t packing)
{
    const ringx_plan *plan = e->plan;
    const ringx_program *p = e->program;
    const ringx_operand *from = &p->schedule.operands[p->schedule.steps[packing].operand];
    if (!p->sent_only[packing] || !plan->peer || !ringx__peer_carries(plan->data, p->sent_only[packing] > 1))
        return false;
    for (int part = 0; part < views_in(from->kind); part++) {
        int64_t dim = part ? plan->shape.value_dim : plan->shape.head_dim;
        ringx_view view = view_of(e, from, part);
        int64_t pitch = view.token_stride * (int64_t)ringx__dtype_bytes(plan->shape.dtype);
        bool apart = view.token_stride >= from->heads * dim || tokens_of(plan, from) == 1;
        if ((view.head_stride != dim && from->heads > 1) || !apart || pitch > INT32_MAX)
            return false;
    }
    return true;
}

static ringx_status pack(const ringx_execution *e, uint32_t number, void *stream)
{
    const ringx_plan *plan = e->plan;
    const ringx_step *step = &e->program->schedule.steps[number];
    const ringx_shape *shape = &plan->shape;
    const ringx_rowops *ops = plan->rowops;
    const ringx_operand *from = &e->program->schedule.operands[step->operand], *to = from + step->operands - 1;
    int64_t tokens = tokens_of(plan, to);
    if (ringx__step_sent_directly(e, number))
        return RINGX_OK;
    for (int part = 0; part < views_in(to->kind); part++) {
        int64_t dim = part ? shape->value_dim : shape->head_dim;
        RINGX_TRY(ops->copy(shape, tokens, to->heads, dim, view_of(e, from, part), shape->dtype, view_of(e, to, part),
                            shape->dtype, 1, stream));
    }
    if (to->kind != RINGX_QDO)
        return RINGX_OK;
    RINGX_TRY(ops->copy_rows(shape, tokens, to->heads, lse_of(e, from), block_rows(e, to, 2), 1, stream));
    return ops->copy_rows(shape, tokens, to->heads, delta_rows(e, from + 1, to->head), block_rows(e, to, 3), 1, stream);
}

ringx_status ringx__step_compute(const ringx_execution *e, uint32_t number, void *stream)
{
    const ringx_plan *plan = e->plan;
    const ringx_shape *shape = &plan->shape;
    const ringx_rowops *ops = plan->rowops;
    const ringx_step *step = &e->program->schedule.steps[number];
    const ringx_operand *a = &e->program->schedule.operands[step->operand], *b = a + 1;
    int threads = plan->choice.threads;
    switch (step->op) {
    case RINGX_ATTEND:
    case RINGX_GRAD:
        return run_tiles(e, number, stream);
    case RINGX_FINISH:
        return finish(e, a, (int)step->operands - 1, stream);
    case RINGX_RESCALE:
        return ops->rescale(shape, tokens_of(plan, b), b->heads, view_of(e, b, 0), block_rows(e, b, 2),
                            block_rows(e, b, 1), block_rows(e, a, 0), threads, stream);
    case RINGX_DELTA_:
        return ops->delta(shape, plan->local_tokens, a->heads, view_of(e, a, 0), view_of(e, b, 1),
                          block_rows(e, b + 1, 0), threads, stream);
    case RINGX_CLEAR:
        return clear(e, a, stream);
    case RINGX_ADD:
        return ops->add((size_t)a->bytes / sizeof(float), (float *)(void *)address(e, a),
                        (float *)(void *)address(e, b), threads, stream);
    case RINGX_STORE:
        return store(e, a, b, threads, stream);
    default:
        RINGX_FAIL(RINGX_INTERNAL, "%s is no computation", ringx__op_name((ringx_op)step->op));
    }
}

/* ---- transfers ---- */

static ringx_dtype wire_type(const ringx_plan *plan, const ringx_operand *o)
{
    return o->narrow ? plan->choice.wire : RINGX_F32;
}

/* Floats [batch][head][token] as pieces of a block from `offset` on; returns how many. */
static size_t row_pieces(const ringx_rows *rows, int64_t batch, int64_t heads, int64_t tokens, size_t offset,
                         ringx_piece *piece)
{
    size_t width = (size_t)tokens * sizeof(float);
    for (int64_t b = 0; b < batch; b++)
        piece[b] = (ringx_piece){.data = rows->data + b * rows->batch_stride,
                                 .offset = offset + (size_t)(b * heads) * width,
                                 .width = width,
                                 .pitch = (size_t)rows->head_stride * sizeof(float),
                                 .rows = (size_t)heads};
    return (size_t)batch;
}

/* What a transfer sends of a block that was not packed; NULL: nothing. */
static const ringx_scattered *scatter(const ringx_execution *e, uint32_t number, ringx_scattered *scattered)
{
    const ringx_program *p = e->program;
    if (!p->sends[number] || !e->plan->args->q.data || !ringx__step_sent_directly(e, p->sends[number] - 1))
        return NULL;
    const ringx_step *packing = &p->schedule.steps[p->sends[number] - 1];
    const ringx_operand *from = &p->schedule.operands[packing->operand], *to = from + packing->operands - 1;
    const ringx_shape *shape = &e->plan->shape;
    size_t at[4], el = ringx__dtype_bytes(shape->dtype), n = 0, tokens = (size_t)tokens_of(e->plan, to);
    ringx__block_parts(shape, (ringx_kind)to->kind, (int64_t)tokens, to->heads, at);
    for (int part = 0; part < views_in(to->kind); part++) {
        ringx_view view = view_of(e, from, part);
        size_t width = (size_t)(to->heads * (part ? shape->value_dim : shape->head_dim)) * el;
        size_t pitch = (size_t)view.token_stride * el;
        bool one = view.batch_stride == (int64_t)tokens * view.token_stride && pitch >= width; /* all batches' rows */
        for (int64_t b = 0; b < (one ? 1 : shape->batch); b++)
            p->piece[n++] = (ringx_piece){.data = (char *)view.data + b * view.batch_stride * (int64_t)el,
                                          .offset = at[part] + (size_t)b * tokens * width,
                                          .width = width,
                                          .pitch = pitch,
                                          .rows = one ? tokens * (size_t)shape->batch : tokens};
    }
    if (to->kind == RINGX_QDO) {
        ringx_rows lse = lse_of(e, from), delta = delta_rows(e, from + 1, to->head);
        n += row_pieces(&lse, shape->batch, to->heads, (int64_t)tokens, at[2], p->piece + n);
        n += row_pieces(&delta, shape->batch, to->heads, (int64_t)tokens, at[3], p->piece + n);
    }
    *scattered = (ringx_scattered){.block = address(e, to), .piece = p->piece, .pieces = n};
    return scattered;
}

static ringx_status gather(const ringx_execution *e, const ringx_step *step, const ringx_call *call)
{
    const ringx_operand *own = &e->program->schedule.operands[step->operand], *to = own + 1;
    ringx_comm *comm = e->plan->data;
    char *base = address(e, to);
    for (uint32_t i = 0; i + 1 < step->operands; i++) {
        e->program->bytes[i] = (size_t)to[i].bytes;
        e->program->offsets[i] = (size_t)(to[i].offset - to->offset);
    }
    return comm->ops->allgather(comm, step->group < 0 ? NULL : e->plan->groups[step->group], address(e, own), base,
                                e->program->bytes, e->program->offsets, call);
}

static ringx_status reduce_scatter(const ringx_execution *e, const ringx_step *step, const ringx_call *call)
{
    const ringx_operand *from = &e->program->schedule.operands[step->operand], *to = from + step->operands - 1;
    ringx_comm *comm = e->plan->data;
    ringx_dtype type = wire_type(e->plan, from);
    size_t element = ringx__dtype_bytes(type);
    for (uint32_t i = 0; i + 1 < step->operands; i++) {
        e->program->bytes[i] = (size_t)from[i].bytes / element;
        e->program->offsets[i] = (size_t)(from[i].offset - from->offset) / element;
    }
    return comm->ops->reduce_scatter(comm, step->group < 0 ? NULL : e->plan->groups[step->group], address(e, from),
                                     address(e, to), e->program->bytes, e->program->offsets, type, call);
}

static ringx_status exchange(const ringx_execution *e, const ringx_step *step, const ringx_call *call)
{
    const ringx_operand *o = &e->program->schedule.operands[step->operand];
    ringx_comm *comm = e->plan->data;
    size_t sends = 0, receives = 0;
    for (int mode = RINGX_IN; mode <= RINGX_OUT_; mode++)
        for (uint32_t i = 0; i < step->operands; i++)
            if (o[i].mode == mode) {
                e->program->message[sends + receives] =
                    (ringx_message){.peer = o[i].peer, .data = address(e, &o[i]), .bytes = (size_t)o[i].bytes};
                (*(mode == RINGX_IN ? &sends : &receives))++;
            }
    return comm->ops->exchange(comm, e->program->message, sends, e->program->message + sends, receives, call);
}

static size_t elements(const ringx_execution *e, const ringx_operand *o)
{
    return ringx__block_elements(&e->plan->shape, (ringx_kind)o->kind, tokens_of(e->plan, o), o->heads);
}

ringx_status ringx__step_transfer(const ringx_execution *e, uint32_t number, void *stream)
{
    const ringx_plan *plan = e->plan;
    const ringx_schedule *s = &e->program->schedule;
    const ringx_step *step = &s->steps[number];
    const ringx_operand *a = &s->operands[step->operand];
    ringx_comm *comm = plan->data;
    if (step->op == RINGX_PACK)
        return pack(e, number, stream);
    if (step->op == RINGX_WIPE)
        return clear(e, a, stream);
    if (step->op == RINGX_UNPACK)
        return step->operands == 3 ? store_sum(e, a, a + 2, stream) : store(e, a, a + 1, 1, stream);
    if (step->op == RINGX_CONVERT)
        return plan->rowops->convert(elements(e, a), address(e, a), wire_type(plan, a), address(e, a + 1),
                                     wire_type(plan, a + 1), 1, stream);
    char what[160];
    ringx__step_describe(s, number, what, sizeof what);
    ringx_scattered scattered;
    ringx_call call = {
        .what = what, .deadline_s = plan->deadline_s, .stream = stream, .scattered = scatter(e, number, &scattered)};
    switch (step->op) {
    case RINGX_BROADCAST:
        return comm->ops->broadcast(comm, NULL, address(e, a), address(e, a), (size_t)a->bytes, step->root, &call);
    case RINGX_EXCHANGE:
        return exchange(e, step, &call);
    case RINGX_ALLGATHER:
        return gather(e, step, &call);
    case RINGX_REDUCE:
        return comm->ops->reduce(comm, NULL, address(e, a), address(e, a), elements(e, a), wire_type(plan, a),
                                 step->root, &call);
    case RINGX_REDUCE_SCATTER:
        return reduce_scatter(e, step, &call);
    case RINGX_ALLREDUCE_MAX: {
        size_t count = (size_t)(plan->shape.batch * tokens_of(plan, a) * a->heads);
        return comm->ops->allreduce_max(comm, NULL, block_rows(e, a, 2).data, block_rows(e, a + 1, 0).data, count,
                                        &call);
    }
    default:
        RINGX_FAIL(RINGX_INTERNAL, "%s is no transfer", ringx__op_name((ringx_op)step->op));
    }
}
