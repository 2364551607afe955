/* SPDX-License-Identifier: MIT */
/* What a plan holds. */
#ifndef RINGX_PLAN_H
#define RINGX_PLAN_H

#include "api/choose.h"
#include "comm/comm.h"

typedef struct ringx_pairs { /* of one ATTEND or GRAD step: which (query run, key run) pairs are live */
    uint32_t first;          /* index into ringx_program.live */
    uint32_t queries, keys;  /* runs */
    bool any;
} ringx_pairs;

typedef struct ringx_fusion { /* the attends of a pass as one kernel (fusion.c) */
    size_t words;             /* that tell it what has arrived, one an exchange; 0: cannot be */
    bool on;                  /* in the pass under way */
    bool unmeasured;          /* its waits are not in the timing yet */
    ringx_track track;        /* only the first attend, which waits for nothing, and what transfers */
    uint32_t *places;         /* its transfers and their waits */
    uint8_t *word;            /* by step: of an exchange, one more than its word; else 0 */
    uint8_t *arrival;         /* by operand: of keys that arrive, one more than their exchange's word; else 0 */
    uint8_t *live;            /* [query runs][key runs] */
    ringx_key_slice *key;     /* room for its key slices */
    ringx_job job;            /* of the pass under way, if on */
} ringx_fusion;

typedef struct ringx_early { /* the last two grads of a backward as one launch (early.c) */
    bool possible;
    bool on;           /* in the pass under way */
    uint32_t grad[2];  /* steps: the launch is made in place of the first */
    uint32_t leaving;  /* the exchange that sends what the first one sums up */
    uint8_t *live;     /* [query runs][key runs of both] */
    ringx_track track; /* the program's, in which the exchange does not wait for the launch */
    uint32_t *waits;
} ringx_early;

typedef struct ringx_program { /* one direction, ready to run */
    ringx_schedule schedule;
    ringx_fusion fusion;
    ringx_early early;
    ringx_track track; /* without what is needless */
    uint32_t *places;  /* its arrays */
    uint8_t *awaited;
    ringx_pairs *pairs; /* by step */
    uint8_t *live;
    uint8_t *fresh;           /* by operand: dK,dV that a grad starts */
    uint32_t *ends;           /* by operand: the caller's dK,dV in which a grad leaves their sum; 0: in the operand */
    uint8_t *needless;        /* by step: a clear, or a store of dK,dV, that need not be run */
    uint8_t *sent_only;       /* by step: a pack of what is sent and else not read; 2: by a broadcast too */
    uint32_t *sends;          /* by step: one more than the pack whose block it sends; 0: none, or more than that */
    ringx_piece *piece;       /* room for what such a block is made of */
    ringx_query_slice *query; /* room for the largest step, filled while executing */
    ringx_key_slice *key;
    size_t *bytes, *offsets; /* room for collectives, one an operand */
    ringx_message *message;
    ringx_stamp *stamps; /* by step; NULL without options.timeline */
    ringx_timing timing;
    ringx_traffic traffic;
} ringx_program;

struct ringx_plan {
    ringx_shape shape;
    ringx_choice choice;
    ringx_comm *comm;   /* the caller's: agreement, host data */
    ringx_comm *data;   /* for the steps: the same, staged over it, or peer over either (then owned) */
    ringx_comm *staged; /* NULL: the caller's moves the device's memory itself */
    ringx_group *groups[RINGX_MAX_GROUPS];
    int n_groups;
    bool forward_only, deterministic, one_lane;
    double deadline_s;
    const ringx_device_ops *device;
    const ringx_rowops *rowops;
    ringx_lanes *lanes;
    ringx_program forward, backward;
    int64_t local_tokens;
    size_t schedule_bytes, workspace_bytes; /* kernel scratch lies between them */
    const ringx_args *args;                 /* while executing */
    bool peer;                              /* data is the peer communicator */
    void *stream;                           /* the caller's */
    const void *attached;                   /* the only workspace; NULL: any */
};

/* Everything a program needs beside its schedule, so that executing allocates nothing. */
ringx_status ringx__program_prepare(ringx_program *program, bool timeline);
void ringx__program_free(ringx_program *program);

/* Runs one step of a program; context for ringx_walk. */
typedef struct ringx_execution {
    ringx_plan *plan;
    ringx_program *program;
} ringx_execution;
ringx_status ringx__step_compute(const ringx_execution *e, uint32_t step, void *stream);
ringx_status ringx__step_transfer(const ringx_execution *e, uint32_t step, void *stream);

ringx_status ringx__track_prepare(ringx_program *program);

ringx_status ringx__fusion_prepare(ringx_program *program);
void ringx__fusion_free(ringx_fusion *fusion);
/* Is the pass that begins to be one kernel? */
bool ringx__fuses(const ringx_execution *e);

ringx_status ringx__early_prepare(ringx_program *program);
void ringx__early_free(ringx_early *early);
/* Are the last grads of the pass that begins one launch? */
bool ringx__is_early(const ringx_execution *e);

#endif
