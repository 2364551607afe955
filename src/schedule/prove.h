/* SPDX-License-Identifier: MIT */
/* Inside of the prover: the memory of every rank on paper, and the fingerprints that show "exactly once".
 *
 * Fingerprints.  Attending the queries of owner q, heads R, to the keys of the owners K adds to a state
 *     u(q) · W(R) · Σ over K of b(k)              W(R) = Σ over R of w(h)
 * and its gradient adds the same to dq of q, and W(R)·b(k)·Σ over Q of u(q) to dk,dv of k; sums of blocks add.  u, w, b
 * are random elements of GF(2^61 - 1), 0 for owners without tokens.  A result whose fingerprint is that of the full sum
 * got each pair exactly once: otherwise a polynomial of degree 3 that is not 0 would vanish at a random point, which
 * happens with probability 3/2^61.  Tags are products, so a step of Q × K blocks costs O(Q + K). */
#ifndef RINGX_SCHEDULE_PROVE_H
#define RINGX_SCHEDULE_PROVE_H

#include "schedule/engine.h"
#include "schedule/readers.h"

typedef struct ringx_cell { /* workspace between two neighbouring boundaries: what was last written there */
    uint64_t sum;           /* fingerprint of a STATE, OUT, DQ or DKV that begins here */
    uint32_t stamp;         /* which write of this rank; 0: none yet */
    uint32_t cells;         /* of the block that begins here; 0: the block began earlier */
    int32_t owner, head, heads;
    uint32_t agreed; /* STATE: the maximum round it was last in, unless changed since; TOP: its round */
    uint32_t scaled; /* STATE: the round whose maximum it is scaled to */
    uint8_t kind, narrow;
} ringx_cell;

typedef struct ringx_paper { /* a rank's workspace, cut at every boundary of every operand */
    size_t *boundary;        /* ascending; cell i is [boundary[i], boundary[i + 1]) */
    ringx_cell *cell;
    size_t boundaries;
    uint32_t stamp;
} ringx_paper;

typedef struct ringx_prover {
    const ringx_schedule *const *schedules;
    int ranks;
    bool backward;
    const ringx_shape *shape;
    int64_t *tokens;                /* [rank] */
    uint64_t *query_tag, *key_tag;  /* [rank]: u, b */
    uint64_t all_queries, all_keys; /* their sums */
    uint64_t *head_tag;             /* [q_heads + 1]: sums of w over the heads before */
    ringx_paper *papers;            /* [rank] */
    uint8_t *written;               /* [rank][q_heads + kv_heads]: heads of the caller's results that are written */
    uint32_t rounds;                /* of maxima so far */
    ringx_engine *engine;
    ringx_proof *proof;
} ringx_prover;

/* The static half, rank by rank: every operand lies where it may, and every two conflicting accesses are ordered by the
 * lanes and waits, in program order.  Cuts the rank's paper. */
ringx_status ringx__prove_order(ringx_prover *prover, int rank);

/* The walk's half: one step of one rank alone; one collective; one message. */
ringx_status ringx__prove_local(ringx_prover *prover, int rank, uint32_t step);
ringx_status ringx__prove_collective(ringx_prover *prover, const ringx_action *action);
ringx_status ringx__prove_message(ringx_prover *prover, const ringx_meeting *meeting);

/* Sets found to the block that a step reads, after checking that it is there, whole, and what the operand says it is.
 * Blocks without bytes and the caller's tensors give a cell that is all zero. */
ringx_status ringx__paper_read(ringx_prover *prover, int rank, uint32_t step, const ringx_operand *operand,
                               ringx_cell **found);
/* Records that a step writes a block: a copy of from's fingerprint and rounds. */
void ringx__paper_write(ringx_prover *prover, int rank, const ringx_operand *operand, const ringx_cell *from);

bool ringx__same_block(const ringx_operand *a, const ringx_operand *b); /* kind, owner, heads; narrow or not */

/* ---- GF(2^61 - 1) ---- */
#define RINGX_PRIME ((UINT64_C(1) << 61) - 1)

static inline uint64_t ringx__field_add(uint64_t a, uint64_t b)
{
    uint64_t sum = a + b;
    return sum >= RINGX_PRIME ? sum - RINGX_PRIME : sum;
}

static inline uint64_t ringx__field_subtract(uint64_t a, uint64_t b)
{
    return a >= b ? a - b : a + RINGX_PRIME - b;
}

static inline uint64_t ringx__field_multiply(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return ringx__field_add((uint64_t)(product & RINGX_PRIME), (uint64_t)(product >> 61));
}

#endif
