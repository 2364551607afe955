/* SPDX-License-Identifier: MIT */
/* The memory of a rank on paper: what was last written where, whole or in part. */
#include "schedule/prove.h"

bool ringx__same_block(const ringx_operand *a, const ringx_operand *b)
{
    return a->kind == b->kind && a->owner == b->owner && a->head == b->head && a->heads == b->heads;
}

static bool in_memory(const ringx_operand *o)
{
    return o->buffer >= 0 && o->bytes > 0;
}

static ringx_cell *cell_at(const ringx_prover *p, int rank, const ringx_operand *o)
{
    const ringx_paper *paper = &p->papers[rank];
    size_t address = p->schedules[rank]->buffers[o->buffer].offset + (size_t)o->offset;
    size_t low = 0, high = paper->boundaries;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (paper->boundary[middle] < address)
            low = middle + 1;
        else
            high = middle;
    }
    return &paper->cell[low];
}

/* Cells of a block that begins at c. */
static uint32_t cells_of(const ringx_paper *paper, const ringx_cell *c, int64_t bytes)
{
    size_t first = (size_t)(c - paper->cell), n = 0;
    while (paper->boundary[first + n] < paper->boundary[first] + (size_t)bytes)
        n++;
    return (uint32_t)n;
}

static ringx_status wrong_block(const ringx_prover *p, int rank, uint32_t step, const ringx_operand *o,
                                const char *found)
{
    return ringx__step_fail(p->schedules[rank], step, "it reads %s of rank %d, heads %d+%d, in buffer '%s', %s",
                            ringx__kind_name((ringx_kind)o->kind), o->owner, o->head, o->heads,
                            p->schedules[rank]->buffers[o->buffer].pool, found);
}

static bool holds(const ringx_cell *c, const ringx_operand *o)
{
    return c->kind == o->kind && c->owner == o->owner && c->head == o->head && c->heads == o->heads &&
           c->narrow == o->narrow;
}

ringx_status ringx__paper_read(ringx_prover *p, int rank, uint32_t step, const ringx_operand *o, ringx_cell **found)
{
    static ringx_cell nothing;
    *found = &nothing;
    if (!in_memory(o))
        return RINGX_OK;
    ringx_cell *c = cell_at(p, rank, o);
    if (c->stamp == 0)
        return wrong_block(p, rank, step, o, "which nothing has written");
    uint32_t cells = cells_of(&p->papers[rank], c, o->bytes);
    if (c->cells == 0 || (c->cells != cells && holds(c, o)))
        return wrong_block(p, rank, step, o, "where another block begins or ends elsewhere");
    if (!holds(c, o))
        return ringx__step_fail(p->schedules[rank], step,
                                "it expects %s of rank %d, heads %d+%d%s, in buffer '%s', which holds %s of rank %d,"
                                " heads %d+%d%s",
                                ringx__kind_name((ringx_kind)o->kind), o->owner, o->head, o->heads,
                                o->narrow ? ", narrow" : "", p->schedules[rank]->buffers[o->buffer].pool,
                                ringx__kind_name((ringx_kind)c->kind), c->owner, c->head, c->heads,
                                c->narrow ? ", narrow" : "");
    for (uint32_t i = 1; i < cells; i++)
        if (c[i].stamp != c->stamp)
            return wrong_block(p, rank, step, o, "of which a part has been overwritten");
    *found = c;
    return RINGX_OK;
}

void ringx__paper_write(ringx_prover *p, int rank, const ringx_operand *o, const ringx_cell *from)
{
    if (!in_memory(o))
        return;
    ringx_paper *paper = &p->papers[rank];
    ringx_cell *c = cell_at(p, rank, o);
    uint32_t cells = cells_of(paper, c, o->bytes), stamp = ++paper->stamp;
    ringx_cell value = {.sum = from->sum,
                        .stamp = stamp,
                        .cells = cells,
                        .owner = o->owner,
                        .head = o->head,
                        .heads = o->heads,
                        .agreed = from->agreed,
                        .scaled = from->scaled,
                        .kind = o->kind,
                        .narrow = o->narrow};
    c[0] = value;
    for (uint32_t i = 1; i < cells; i++)
        c[i] = (ringx_cell){.stamp = stamp};
}
