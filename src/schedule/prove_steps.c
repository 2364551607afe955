/* SPDX-License-Identifier: MIT */
/* What each step of one rank alone does to its memory on paper. */
#include "schedule/prove.h"

static bool in_memory(const ringx_operand *o)
{
    return o->buffer >= 0 && o->bytes > 0;
}

static const ringx_operand *operands_of(const ringx_prover *p, int rank, uint32_t step)
{
    return &p->schedules[rank]->operands[p->schedules[rank]->steps[step].operand];
}

static ringx_status malformed(const ringx_prover *p, int rank, uint32_t step)
{
    return ringx__step_fail(p->schedules[rank], step, "its operands are not those of such a step");
}

static bool is_one_of(int kind, int a, int b, int c)
{
    return kind == a || kind == b || kind == c;
}

/* Sum of w over heads. */
static uint64_t head_tags(const ringx_prover *p, int64_t head, int64_t heads)
{
    return ringx__field_subtract(p->head_tag[head + heads], p->head_tag[head]);
}

/* The next operand of a kind at or after *at, which moves past it; NULL at the end. */
static const ringx_operand *next_of(const ringx_operand *operands, uint32_t count, ringx_kind kind, uint32_t *at)
{
    while (*at < count) {
        const ringx_operand *o = &operands[(*at)++];
        if (o->kind == kind)
            return o;
    }
    return NULL;
}

/* A result arrives in the caller's tensors: is it complete, and the first for its heads? */
static ringx_status deliver(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, uint64_t sum)
{
    const ringx_shape *shape = p->shape;
    uint64_t expected = 0;
    if (o->kind == RINGX_DKV)
        expected = ringx__field_multiply(ringx__field_multiply(p->key_tag[o->owner], p->all_queries),
                                         head_tags(p, o->head * shape->group, o->heads * shape->group));
    else
        expected = ringx__field_multiply(ringx__field_multiply(p->query_tag[o->owner], p->all_keys),
                                         head_tags(p, o->head, o->heads));
    const char *kind = ringx__kind_name((ringx_kind)o->kind);
    if (p->tokens[o->owner] > 0 && shape->batch > 0 && sum != expected)
        return ringx__step_fail(p->schedules[rank], step,
                                "%s of heads %d+%d does not contain every (query, key) pair exactly once", kind,
                                o->head, o->heads);
    size_t all = (size_t)(shape->q_heads + shape->kv_heads);
    uint8_t *written = &p->written[(size_t)rank * all + (o->kind == RINGX_DKV ? (size_t)shape->q_heads : 0)];
    for (int32_t h = o->head; h < o->head + o->heads; h++)
        if (written[h]++)
            return ringx__step_fail(p->schedules[rank], step, "%s of head %d is delivered twice", kind, h);
    return RINGX_OK;
}

/* Writes a block or delivers it. */
static ringx_status put(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, const ringx_cell *value)
{
    if (o->buffer == RINGX_USER)
        return deliver(p, rank, step, o, value->sum);
    ringx__paper_write(p, rank, o, value);
    return RINGX_OK;
}

/* ---- row operations and copies ---- */

static ringx_status pack(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, uint32_t n)
{
    const ringx_operand *in = &o[0], *out = &o[n - 1];
    bool delta = in->kind == RINGX_QDO;
    if (n != (delta ? 3 : 2) || !is_one_of(in->kind, RINGX_Q, RINGX_KV, RINGX_QDO) || in->buffer != RINGX_USER ||
        in->mode != RINGX_IN || out->buffer == RINGX_USER || out->mode != RINGX_OUT_ || !ringx__same_block(in, out))
        return malformed(p, rank, step);
    ringx_cell *found;
    if (delta) {
        if (o[1].kind != RINGX_DELTA || o[1].mode != RINGX_IN || o[1].owner != in->owner || o[1].head > in->head ||
            o[1].head + o[1].heads < in->head + in->heads)
            return malformed(p, rank, step);
        RINGX_TRY(ringx__paper_read(p, rank, step, &o[1], &found));
    }
    ringx__paper_write(p, rank, out, &(ringx_cell){.sum = 0});
    return RINGX_OK;
}

/* UNPACK of several: their sum becomes the same of the caller's tensors. */
static ringx_status unpack_sum(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, uint32_t n)
{
    const ringx_operand *to = &o[n - 1];
    if (n - 1 > RINGX_MOST_SUMMED || p->schedules[rank]->steps[step].op != RINGX_UNPACK ||
        !is_one_of(to->kind, RINGX_DQ, RINGX_DKV, RINGX_DKV) || to->buffer != RINGX_USER || to->mode != RINGX_OUT_)
        return malformed(p, rank, step);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n - 1; i++) {
        ringx_cell *found;
        if (o[i].buffer == RINGX_USER || o[i].mode != RINGX_IN || !ringx__same_block(&o[i], to))
            return malformed(p, rank, step);
        RINGX_TRY(ringx__paper_read(p, rank, step, &o[i], &found));
        sum = ringx__field_add(sum, found->sum);
    }
    return deliver(p, rank, step, to, sum);
}

/* UNPACK, STORE: a block becomes the same of the caller's tensors. */
static ringx_status unpack(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, uint32_t n)
{
    if (n > 2)
        return unpack_sum(p, rank, step, o, n);
    if (n != 2 || !is_one_of(o[0].kind, RINGX_OUT, RINGX_DQ, RINGX_DKV) || o[0].buffer == RINGX_USER ||
        o[0].mode != RINGX_IN || o[1].buffer != RINGX_USER || o[1].mode != RINGX_OUT_ ||
        !ringx__same_block(&o[0], &o[1]))
        return malformed(p, rank, step);
    ringx_cell *found;
    RINGX_TRY(ringx__paper_read(p, rank, step, &o[0], &found));
    return deliver(p, rank, step, &o[1], found->sum);
}

/* CONVERT: the same block in the wire's dtype, or back from it. */
static ringx_status convert(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, uint32_t n)
{
    bool back = n == 2 && o[0].narrow && o[1].kind == RINGX_STATE;
    if (n != 2 || !is_one_of(o[0].kind, RINGX_STATE, RINGX_DQ, RINGX_DKV) || o[0].narrow == o[1].narrow ||
        o[0].buffer == RINGX_USER || o[1].buffer == RINGX_USER || o[0].mode != RINGX_IN ||
        o[1].mode != (back ? RINGX_INOUT : RINGX_OUT_) || !ringx__same_block(&o[0], &o[1]))
        return malformed(p, rank, step);
    ringx_cell *from, *to;
    RINGX_TRY(ringx__paper_read(p, rank, step, &o[0], &from));
    if (back) { /* m stays: it must be the maximum that the sum is scaled to */
        RINGX_TRY(ringx__paper_read(p, rank, step, &o[1], &to));
        if (in_memory(&o[1]) && to->scaled != from->scaled)
            return ringx__step_fail(p->schedules[rank], step, "the sum is not scaled to this state's maximum");
    }
    ringx_cell value = *from;
    ringx__paper_write(p, rank, &o[1], &value);
    return RINGX_OK;
}

static bool same_rows(const ringx_operand *a, const ringx_operand *b)
{
    return a->owner == b->owner && a->head == b->head && a->heads == b->heads;
}

static ringx_status finish(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, uint32_t n)
{
    const ringx_operand *out = &o[n - 1];
    ringx_cell all = {.sum = 0}, *state;
    if (n < 2 || out->kind != RINGX_OUT || out->mode != RINGX_OUT_)
        return malformed(p, rank, step);
    for (; o < out; o++) {
        if (o->kind != RINGX_STATE || o->mode != RINGX_IN || o->narrow || !same_rows(o, out))
            return malformed(p, rank, step);
        RINGX_TRY(ringx__paper_read(p, rank, step, o, &state));
        all.sum = ringx__field_add(all.sum, state->sum);
    }
    return put(p, rank, step, out, &all);
}

static ringx_status rescale(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, uint32_t n)
{
    const ringx_operand *top = &o[0], *block = &o[1];
    if (n != 2 || top->kind != RINGX_TOP || top->mode != RINGX_IN || block->kind != RINGX_STATE ||
        block->mode != RINGX_INOUT || top->owner != block->owner || top->head != block->head ||
        top->heads != block->heads)
        return malformed(p, rank, step);
    ringx_cell *agreed, *state;
    RINGX_TRY(ringx__paper_read(p, rank, step, top, &agreed));
    RINGX_TRY(ringx__paper_read(p, rank, step, block, &state));
    if (in_memory(block) && state->agreed != agreed->agreed)
        return ringx__step_fail(p->schedules[rank], step,
                                "the maxima are not those agreed for this state as it is now");
    ringx__paper_write(p, rank, block,
                       &(ringx_cell){.sum = state->sum, .agreed = agreed->agreed, .scaled = agreed->agreed});
    return RINGX_OK;
}

static ringx_status delta(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, uint32_t n)
{
    if (n != 3 || o[0].kind != RINGX_OUT || o[1].kind != RINGX_QDO || o[2].kind != RINGX_DELTA ||
        o[0].mode != RINGX_IN || o[1].mode != RINGX_IN || o[2].mode != RINGX_OUT_ || o[0].owner != o[2].owner ||
        o[1].owner != o[2].owner || o[0].head != o[2].head || o[1].head != o[2].head || o[0].heads != o[2].heads ||
        o[1].heads != o[2].heads)
        return malformed(p, rank, step);
    ringx__paper_write(p, rank, &o[2], &(ringx_cell){.sum = 0});
    return RINGX_OK;
}

static ringx_status clear(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!is_one_of(o[i].kind, RINGX_DQ, RINGX_DKV, RINGX_STATE) || o[i].buffer == RINGX_USER ||
            o[i].mode != RINGX_OUT_)
            return malformed(p, rank, step);
        ringx__paper_write(p, rank, &o[i], &(ringx_cell){.sum = 0});
    }
    return RINGX_OK;
}

static ringx_status add(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, uint32_t n)
{
    if (n != 2 || !is_one_of(o[0].kind, RINGX_DQ, RINGX_DKV, RINGX_DKV) || o[0].buffer == RINGX_USER ||
        o[1].buffer == RINGX_USER || o[0].mode != RINGX_IN || o[1].mode != RINGX_INOUT ||
        !ringx__same_block(&o[0], &o[1]))
        return malformed(p, rank, step);
    ringx_cell *from, *to;
    RINGX_TRY(ringx__paper_read(p, rank, step, &o[0], &from));
    RINGX_TRY(ringx__paper_read(p, rank, step, &o[1], &to));
    ringx__paper_write(p, rank, &o[1], &(ringx_cell){.sum = ringx__field_add(from->sum, to->sum)});
    return RINGX_OK;
}

/* ---- attention ---- */

typedef struct ringx_cross {          /* the cross product of one step */
    const ringx_operand *query, *key; /* the first of each: all have the same heads */
    uint64_t queries, keys;           /* sums of u and of b */
    uint64_t heads;                   /* W */
    uint64_t n_queries, n_keys;
} cross;

/* Reads all query and key blocks of an ATTEND or GRAD and sums their tags. */
static ringx_status survey(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, uint32_t n,
                           ringx_kind query_kind, cross *x)
{
    *x = (cross){.query = NULL};
    ringx_cell *found;
    for (uint32_t i = 0; i < n; i++) {
        bool query = o[i].kind == query_kind, key = o[i].kind == RINGX_KV;
        if (!query && !key)
            continue;
        const ringx_operand **first = query ? &x->query : &x->key;
        if (!*first)
            *first = &o[i];
        if (o[i].mode != RINGX_IN || o[i].head != (*first)->head || o[i].heads != (*first)->heads)
            return malformed(p, rank, step);
        RINGX_TRY(ringx__paper_read(p, rank, step, &o[i], &found));
        if (query)
            x->queries = ringx__field_add(x->queries, p->query_tag[o[i].owner]);
        else
            x->keys = ringx__field_add(x->keys, p->key_tag[o[i].owner]);
        x->n_queries += query;
        x->n_keys += key;
    }
    if (!x->query || !x->key)
        return malformed(p, rank, step);
    int64_t group = p->shape->group, first = x->query->head / group;
    int64_t last = (x->query->head + x->query->heads - 1) / group;
    if (x->query->heads < 1 || first != x->key->head || last != (int64_t)x->key->head + x->key->heads - 1)
        return ringx__step_fail(p->schedules[rank], step, "query heads %d+%d do not go with kv heads %d+%d",
                                x->query->head, x->query->heads, x->key->head, x->key->heads);
    x->heads = head_tags(p, x->query->head, x->query->heads);
    p->proof->tiles += x->n_queries * x->n_keys;
    return RINGX_OK;
}

static ringx_status attend(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, uint32_t n)
{
    const ringx_step *s = &p->schedules[rank]->steps[step];
    bool has_state = !(s->fresh && s->final);
    int state_mode = s->fresh ? RINGX_OUT_ : s->final ? RINGX_IN : RINGX_INOUT;
    cross x;
    RINGX_TRY(survey(p, rank, step, o, n, RINGX_Q, &x));
    if (n != x.n_queries * (uint64_t)(1 + has_state + s->final) + x.n_keys)
        return malformed(p, rank, step);
    uint32_t at_query = 0, at_state = 0, at_out = 0;
    for (uint64_t i = 0; i < x.n_queries; i++) {
        const ringx_operand *query = next_of(o, n, RINGX_Q, &at_query);
        const ringx_operand *state = has_state ? next_of(o, n, RINGX_STATE, &at_state) : NULL;
        const ringx_operand *out = s->final ? next_of(o, n, RINGX_OUT, &at_out) : NULL;
        if ((has_state && (!state || state->mode != state_mode || !same_rows(query, state))) ||
            (s->final && (!out || out->mode != RINGX_OUT_ || !same_rows(query, out))))
            return malformed(p, rank, step);
        ringx_cell value = {.sum = 0}, *found;
        if (!s->fresh) {
            RINGX_TRY(ringx__paper_read(p, rank, step, state, &found));
            value.sum = found->sum;
        }
        uint64_t tile = ringx__field_multiply(x.keys, ringx__field_multiply(p->query_tag[query->owner], x.heads));
        value.sum = ringx__field_add(value.sum, tile);
        RINGX_TRY(put(p, rank, step, s->final ? out : state, &value));
    }
    return RINGX_OK;
}

/* dq of each query or dk,dv of each key: adds tile·tag of its owner. */
static ringx_status accumulate(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, uint32_t n,
                               ringx_kind kind, ringx_kind of, uint64_t tile, const uint64_t *tags)
{
    uint32_t at_of = 0, at_sum = 0;
    for (const ringx_operand *block; (block = next_of(o, n, of, &at_of));) {
        const ringx_operand *sum = next_of(o, n, kind, &at_sum);
        if (!sum || sum->mode != RINGX_INOUT || sum->buffer == RINGX_USER || !same_rows(block, sum))
            return malformed(p, rank, step);
        ringx_cell *found;
        RINGX_TRY(ringx__paper_read(p, rank, step, sum, &found));
        uint64_t more = ringx__field_multiply(tile, tags[block->owner]);
        ringx__paper_write(p, rank, sum, &(ringx_cell){.sum = ringx__field_add(found->sum, more)});
    }
    return RINGX_OK;
}

static ringx_status grad(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, uint32_t n)
{
    cross x;
    RINGX_TRY(survey(p, rank, step, o, n, RINGX_QDO, &x));
    bool from_user = x.query->buffer == RINGX_USER;
    if (n != 2 * (x.n_queries + x.n_keys) + from_user)
        return malformed(p, rank, step);
    if (from_user) { /* then delta is not in the block */
        uint32_t at = 0;
        const ringx_operand *d = next_of(o, n, RINGX_DELTA, &at);
        ringx_cell *found;
        uint64_t own = 0;
        for (uint32_t i = 0; i < n; i++)
            own += o[i].kind == RINGX_QDO && o[i].buffer == RINGX_USER;
        if (!d || own != 1 || d->mode != RINGX_IN || d->owner != x.query->owner || d->head > x.query->head ||
            d->head + d->heads < x.query->head + x.query->heads)
            return malformed(p, rank, step);
        RINGX_TRY(ringx__paper_read(p, rank, step, d, &found));
    }
    RINGX_TRY(
        accumulate(p, rank, step, o, n, RINGX_DQ, RINGX_QDO, ringx__field_multiply(x.keys, x.heads), p->query_tag));
    return accumulate(p, rank, step, o, n, RINGX_DKV, RINGX_KV, ringx__field_multiply(x.queries, x.heads), p->key_tag);
}

ringx_status ringx__prove_local(ringx_prover *p, int rank, uint32_t number)
{
    const ringx_step *s = &p->schedules[rank]->steps[number];
    const ringx_operand *o = operands_of(p, rank, number);
    if (s->operands == 0)
        return malformed(p, rank, number);
    switch (s->op) {
    case RINGX_PACK:
        return pack(p, rank, number, o, s->operands);
    case RINGX_UNPACK:
    case RINGX_STORE:
        return unpack(p, rank, number, o, s->operands);
    case RINGX_CONVERT:
        return convert(p, rank, number, o, s->operands);
    case RINGX_ATTEND:
        return attend(p, rank, number, o, s->operands);
    case RINGX_FINISH:
        return finish(p, rank, number, o, s->operands);
    case RINGX_RESCALE:
        return rescale(p, rank, number, o, s->operands);
    case RINGX_DELTA_:
        return delta(p, rank, number, o, s->operands);
    case RINGX_CLEAR:
    case RINGX_WIPE:
        return clear(p, rank, number, o, s->operands);
    case RINGX_GRAD:
        return grad(p, rank, number, o, s->operands);
    case RINGX_ADD:
        return add(p, rank, number, o, s->operands);
    default:
        return malformed(p, rank, number);
    }
}
