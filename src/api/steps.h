/* SPDX-License-Identifier: MIT */
/* Inside of steps made concrete: blocks as views of memory (views.c), attends and gradients (tiles.c), row operations
 * (steps.c), transfers (transfers.c). */
#ifndef RINGX_STEPS_H
#define RINGX_STEPS_H

#include "api/plan.h"

/* ---- blocks to views ---- */

static inline int64_t tokens_of(const ringx_plan *plan, const ringx_operand *o)
{
    return ringx__layout_count(&plan->choice.layout, o->owner);
}

static inline char *address(const ringx_execution *e, const ringx_operand *o)
{
    return (char *)e->plan->args->workspace + e->program->schedule.buffers[o->buffer].offset + o->offset;
}

/* part: 0 q, 1 dout of QDO; 0 k, 1 v of KV; 0 dk, 1 dv of DKV; else 0. */
ringx_view ringx__view_of(const ringx_execution *e, const ringx_operand *o, int part);
/* Floats of a block's part; lse of QDO or OUT, in a block or the caller's. */
ringx_rows ringx__block_rows(const ringx_execution *e, const ringx_operand *o, int part);
ringx_rows ringx__lse_of(const ringx_execution *e, const ringx_operand *o);
/* Rows of delta for heads [head, …) from the block of all heads. */
ringx_rows ringx__delta_rows(const ringx_execution *e, const ringx_operand *delta, int64_t head);

static inline ringx_view view_from(ringx_view view, int64_t token, size_t element)
{
    if (view.data)
        view.data = (char *)view.data + token * view.token_stride * (int64_t)element;
    return view;
}

static inline ringx_rows rows_from(ringx_rows rows, int64_t token)
{
    if (rows.data)
        rows.data += token;
    return rows;
}

/* Of what a pack reads: tensors with a head_dim or value_dim; lse and delta come after them. */
static inline int views_in(uint8_t kind)
{
    return kind == RINGX_Q ? 1 : 2;
}

/* ---- operands of a step ---- */

typedef struct ringx_cursor { /* operands of one kind, in order */
    const ringx_operand *at, *end;
    uint32_t kinds;
} cursor;

static inline const ringx_operand *next(cursor *c)
{
    while (c->at < c->end && !(c->kinds >> c->at->kind & 1u))
        c->at++;
    return c->at < c->end ? c->at++ : NULL;
}

static inline cursor operands_of(const ringx_execution *e, const ringx_step *step, uint32_t kinds)
{
    const ringx_operand *first = &e->program->schedule.operands[step->operand];
    return (cursor){.at = first, .end = first + step->operands, .kinds = kinds};
}

#define KIND(kind) (1u << (kind))

/* ---- steps ---- */

ringx_status ringx__step_clear(const ringx_execution *e, const ringx_operand *o, void *stream);
ringx_status ringx__step_store(const ringx_execution *e, const ringx_operand *from, const ringx_operand *to,
                               int threads, void *stream);
/* The sum of so many blocks, dQ or dK,dV, to the one behind them. */
ringx_status ringx__step_store_sum(const ringx_execution *e, const ringx_operand *a, int count, void *stream);
ringx_status ringx__step_pack(const ringx_execution *e, uint32_t step, void *stream);
ringx_status ringx__step_tiles(const ringx_execution *e, uint32_t step, void *stream);
/* The last two grads of a pass as one job. */
void ringx__early_job(const ringx_execution *e, void *stream, ringx_job *job);
/* All attends of a pass as one job. */
void ringx__fused_job(const ringx_execution *e, ringx_job *job);
/* Can the block that a pack would make be sent from the caller's tensors, by who has it? */
bool ringx__step_sent_directly(const ringx_execution *e, uint32_t packing);

#endif
