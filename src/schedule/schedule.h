/* SPDX-License-Identifier: MIT */
/* A distributed attention algorithm as data: steps that read and write blocks of buffers.
 *
 * Algorithms (src/algo) emit steps in the order in which they would be right if run one after the other ("program
 * order").  close() then decides the order of each lane, infers every wait between the lanes from what steps read and
 * write, and places the buffers in the workspace.  Nobody writes a wait.
 *
 * Blocks.  A block is the contiguous image, in a workspace buffer, of some quantity (kind) of one owner's tokens for a
 * range of heads; or the same quantity in the user's tensors (buffer RINGX_USER), where offset and bytes are head
 * numbers of that kind.  Layouts inside a block, each part padded to 128 bytes, T = the owner's tokens:
 *   Q      q[b][T][h][d]                                dtype      (user: q)
 *   KV     k[b][T][h][d], v[b][T][h][dv]                dtype      (user: k, v)
 *   QDO    q, dout[b][T][h][dv], lse[b][h][T], delta    dtype, float  (user: q, dout, lse; delta from its own block)
 *   STATE  acc[b][T][h][dv], l[b][h][T], m[b][h][T]     float
 *   TOP    m[b][h][T]                                   float: agreed maxima
 *   OUT    out[b][T][h][dv] dtype, lse[b][h][T] float             (user: out, lse)
 *   DELTA  delta[b][h][T]                               float
 *   DQ     dq[b][T][h][d]                               float      (user: dq, dtype)
 *   DKV    dk[b][T][h][d], dv[b][T][h][dv]              float      (user: dk, dv, dtype)
 * A narrow block is what a reduction or exchange sends of a float one: its parts (of STATE acc and l) one after the
 * other in the wire's dtype. Heads are query heads for Q, QDO, STATE, TOP, OUT, DELTA, DQ and kv heads for KV, DKV.
 *
 * Stages.  An algorithm calls ringx__stage at each turn of its loop.  A step has a shift: fetches (input of the stage's
 * computation) have -1, computation 0, deliveries (its results) 0, and what must come a stage later +1.  With
 * lookahead L the lanes run their steps in the order of stage + shift·L: that is the whole of overlap. */
#ifndef RINGX_SCHEDULE_H
#define RINGX_SCHEDULE_H

#include "core/shape.h"
#include "core/status.h"
#include "device/device.h"

typedef enum ringx_kind {
    RINGX_Q,
    RINGX_KV,
    RINGX_QDO,
    RINGX_STATE,
    RINGX_TOP,
    RINGX_OUT,
    RINGX_DELTA,
    RINGX_DQ,
    RINGX_DKV,
    RINGX_KINDS
} ringx_kind;

typedef enum ringx_op {
    /* communication lane */
    RINGX_PACK,           /* in: user (+ DELTA for QDO); out: block */
    RINGX_BROADCAST,      /* in: block (root only); out: block (others) */
    RINGX_EXCHANGE,       /* in: blocks sent to .peer; out: blocks received from .peer */
    RINGX_ALLGATHER,      /* in: own block; out: one block a member, in group order (own one included) */
    RINGX_REDUCE,         /* in: block; out: block (root only).  STATE: acc and l only */
    RINGX_REDUCE_SCATTER, /* in: one block a member, in group order; out: own block */
    RINGX_ALLREDUCE_MAX,  /* in: m of STATE; out: TOP */
    RINGX_UNPACK,         /* in: block, or several of DQ or DKV, whose sum it is; out: user.  OUT, DQ, DKV */
    RINGX_CONVERT,        /* in: block; out: the same block, one of the two narrow */
    RINGX_WIPE,           /* as CLEAR, on the communication lane */
    /* computation lane */
    RINGX_ATTEND,  /* in: queries, keys; inout: states (out only if fresh); out: OUT blocks or user, if final */
    RINGX_FINISH,  /* in: STATE, several of which are folded together; out: OUT block or user */
    RINGX_RESCALE, /* inout: STATE; in: TOP */
    RINGX_DELTA_,  /* in: user OUT, user dout; out: DELTA */
    RINGX_CLEAR,   /* out: blocks of DQ, DKV, STATE */
    RINGX_GRAD,    /* in: queries (QDO; user's, first, + DELTA), keys; inout: DQ, DKV */
    RINGX_ADD,     /* in: block; inout: block.  DQ, DKV */
    RINGX_STORE,   /* as UNPACK, on the computation lane */
    RINGX_OPS
} ringx_op;

enum { RINGX_IN = 1, RINGX_OUT_ = 2, RINGX_INOUT = 3 }; /* operand modes */
enum { RINGX_USER = -1 };                               /* operand.buffer: the caller's tensors */

typedef struct ringx_operand { /* a block and how a step uses it */
    int32_t buffer;            /* index of a schedule buffer, or RINGX_USER */
    int32_t owner;             /* rank whose tokens these are */
    int64_t offset, bytes;     /* in the buffer; for RINGX_USER: first head, heads */
    int32_t head, heads;       /* global head range (query or kv heads, by kind) */
    int32_t peer;              /* EXCHANGE: the other rank; else -1 */
    uint8_t kind, mode;
    uint8_t narrow; /* STATE, DQ, DKV: an image for the wire, in geometry.wire instead of float */
    uint8_t unused;
} ringx_operand;

typedef struct ringx_step {
    uint8_t op, lane;
    int8_t shift;
    bool fresh, final; /* ATTEND */
    int32_t stage, slice;
    int32_t group;    /* index into schedule groups; -1: all ranks */
    int32_t root;     /* BROADCAST, REDUCE: index in the group; else -1 */
    uint32_t operand; /* first in schedule->operands */
    uint32_t operands;
    uint32_t wait;  /* set by close: steps of the other lane that must be done first */
    uint32_t place; /* set by close: position in its lane */
} ringx_step;

typedef struct ringx_buffer { /* one slot of a pool */
    const char *pool;
    size_t bytes;  /* the largest use */
    size_t offset; /* set by close: in the workspace, a multiple of 128 */
} ringx_buffer;

typedef struct ringx_members { /* a sub-group: ranks in order; made from colours, one split of all ranks each */
    int32_t colour, count;
    const int32_t *ranks;
} ringx_members;

#define RINGX_MAX_GROUPS 2

typedef struct ringx_slicing { /* how kv heads are cut into slices, done one after the other */
    int slices;
    int32_t first; /* heads of the first slice and, of more than two, of the last one; 0: as many as the others */
    bool taper;    /* each has half of the heads that are left: small ones at a forward's beginning, a backward's end */
} ringx_slicing;

typedef struct ringx_geometry { /* what an algorithm may know */
    int rank, ranks;
    int lookahead;
    int head_ranks;     /* headswap: Nu, a divisor of ranks */
    int ranks_per_node; /* two-level: a divisor of ranks, 1 … ranks; nodes are consecutive ranks */
    bool two_level;
    int slice; /* which one of cut this call writes */
    ringx_slicing cut;
    bool joined;                 /* the own tile goes with the first arrival if it need not hide it */
    bool awaits;                 /* forward: one kernel does the tiles of all slices and waits for what arrives */
    bool starts_keys, ends_keys; /* backward: the kernel's; clears of dK,dV, and their stores, are left out */
    int32_t kv_head, kv_heads, q_head, q_heads; /* the slice's heads */
    ringx_dtype wire;                           /* of partial results on the wire */
    int32_t parts; /* headswap: pieces each kv head's query group is cut into; depends on no slicing */
    const ringx_shape *shape;
    const ringx_layout *layout;
} ringx_geometry;

typedef struct ringx_schedule {
    bool backward;
    ringx_geometry geometry;
    ringx_step *steps;
    size_t n_steps, steps_cap;
    ringx_operand *operands;
    size_t n_operands, operands_cap;
    ringx_buffer *buffers;
    size_t n_buffers, buffers_cap;
    ringx_members groups[RINGX_MAX_GROUPS]; /* 0: this rank's node; 1: ranks of equal position in all nodes */
    int n_groups;
    int32_t stage; /* the current one */
    size_t workspace_bytes;
    uint32_t *lane_step[RINGX_LANES], *lane_wait[RINGX_LANES]; /* set by close: the track */
    size_t lane_count[RINGX_LANES];
    ringx_status status; /* first failure while building (sticky): emitters need not be checked */
    struct ringx_pools *pools;
    struct ringx_pending *pending; /* sends and receives of an exchange being written */
    size_t n_pending, pending_cap;
    int pending_shift;
} ringx_schedule;

/* Where a kernel starts sums of dK,dV, the operand of the grad that makes this clear needless; where it ends them, of
 * the grad that makes this store needless.  NULL: the step must be run. */
const ringx_operand *ringx__clear_left_out(const ringx_schedule *schedule, size_t step);
const ringx_operand *ringx__store_left_out(const ringx_schedule *schedule, size_t step);

/* ---- blocks ---------------------------------------------------------------------------------------------------------
 */

typedef struct ringx_span { /* a handle on a block: what emitters pass around */
    ringx_operand block;
    bool fresh; /* STATE: nothing folded in yet; not in memory */
} ringx_span;

/* Bytes of a block, parts padded to 128; 0 only if there are no tokens, heads or batches. */
size_t ringx__block_bytes(const ringx_shape *shape, ringx_kind kind, int64_t tokens, int64_t heads);
/* Elements of a float block that travel: all, of STATE acc and l. */
size_t ringx__block_elements(const ringx_shape *shape, ringx_kind kind, int64_t tokens, int64_t heads);
/* Bytes of a block's narrow image. */
size_t ringx__narrow_bytes(const ringx_shape *shape, ringx_kind kind, int64_t tokens, int64_t heads);
/* Byte offsets of a block's parts in the order above; returns how many. */
int ringx__block_parts(const ringx_shape *shape, ringx_kind kind, int64_t tokens, int64_t heads, size_t offsets[4]);

/* ---- builder
 * ---------------------------------------------------------------------------------------------------------
 * ringx__schedule_build writes, slice by slice, and closes.  algorithm callbacks come from src/algo. */

typedef void (*ringx_emit)(ringx_schedule *schedule, const ringx_geometry *geometry);

/* The first kv head of slice i of a cut; of i = slices: all heads. */
int64_t ringx__slice_begin(int64_t heads, const ringx_slicing *cut, int i, bool backward);

ringx_status ringx__schedule_build(ringx_schedule *schedule, ringx_emit emit, const ringx_geometry *geometry,
                                   bool backward);
void ringx__schedule_free(ringx_schedule *schedule);

/* Sorts the lanes, places buffers, infers waits.  Fails (RINGX_INTERNAL) if the lanes' order contradicts a dependency.
 */
ringx_status ringx__schedule_close(ringx_schedule *schedule);

/* For each block of 128-byte-addressed memory touched: what close() and prove() both derive from a step. */
bool ringx__lane_of(ringx_op op, int *lane);
const char *ringx__op_name(ringx_op op);
const char *ringx__kind_name(ringx_kind kind);
/* "forward step 12: broadcast of K,V of rank 2 (slice 0)" */
void ringx__step_describe(const ringx_schedule *schedule, size_t step, char *text, size_t bytes);

/* Have two operands bytes (of the caller's tensors heads) in common; are they just the same ones? */
static inline bool ringx__overlap(const ringx_operand *a, const ringx_operand *b)
{
    return a->buffer == b->buffer && (a->buffer != RINGX_USER || a->kind == b->kind) &&
           a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

static inline bool ringx__same_place(const ringx_operand *a, const ringx_operand *b)
{
    return a->buffer == b->buffer && a->offset == b->offset && a->bytes == b->bytes;
}

/* Does the step talk to other ranks?  (The communication lane also packs, unpacks and converts.) */
bool ringx__step_transfers(const ringx_step *step);
/* Bytes this rank sends in a step, in an ideal implementation; messages is 1 for a step that sends or receives. */
uint64_t ringx__step_wire_bytes(const ringx_schedule *schedule, const ringx_step *step);
/* Live (query, key) pairs × query heads × batch of an ATTEND or GRAD step; 0 for others. */
double ringx__step_area(const ringx_schedule *schedule, const ringx_step *step);

#endif
