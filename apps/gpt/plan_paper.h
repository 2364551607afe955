/* SPDX-License-Identifier: MIT */
/* A training run on paper: what every rank would hold, by the functions that allocate it, and what a step would cost on
 * a described machine.  Nothing is started, no rank needs to exist. */
#ifndef GPT_PLAN_PAPER_H
#define GPT_PLAN_PAPER_H

#include "gpt/model_config.h"
#include "train/group.h"
#include "train/zero.h"

#include <ringx/ringx_study.h>

typedef struct paper_machine {
    const char *name; /* as the library takes it; NULL: local */
    ringx_machine_figures figures;
    size_t memory;       /* bytes of a device; 0: not known */
    double efficiency;   /* share of the machine's rate that linear layers reach */
    ringx_device device; /* whose kernels' workspace counts */
} paper_machine;

/* ---- plan_attention.c: all attention of a micro-step, over all layers ---- */

typedef struct paper_attention {
    int ranks;                              /* of the context group */
    int64_t *local_tokens;                  /* [ranks] */
    size_t *workspace;                      /* [ranks], the largest of all choices */
    double seconds[2], exposed[2], wire[2]; /* forward, backward; wire bytes of the rank that sends most */
    char text[160];                         /* preset, layout, kernel of the first choice */
} paper_attention;

/* ranks_per_node: of the context group. */
int paper_attention_create(paper_attention *a, const gpt_settings *s, const int size[AXES], int ranks_per_node,
                           const paper_machine *machine);
void paper_attention_destroy(paper_attention *a);

/* ---- plan_paper.c ---- */

typedef enum paper_part {
    PAPER_LINEAR,
    PAPER_ROWS, /* norms, gates, rotations, sums, losses: once through memory */
    PAPER_FORWARD,
    PAPER_BACKWARD, /* of attention, exposed transfers included */
    PAPER_TENSOR,   /* sums over the tensor group */
    PAPER_GRADIENTS,
    PAPER_OPTIMIZER,
    PAPER_PARTS
} paper_part;
extern const char *const paper_part_names[PAPER_PARTS];

typedef struct paper_plan {
    int ranks, size[AXES], stride[AXES];
    int64_t batch, micro, steps; /* samples of a step, of a micro-step; micro-steps */
    size_t parameters;           /* of the whole model */
    size_t most_parameters;      /* of a rank */
    /* of the rank that holds most */
    int fullest;
    gpt_memory model;
    zero_memory optimizer;
    size_t tokens; /* ids, targets, masks of a step */
    size_t device; /* all of it */
    bool known, fits;
    double seconds[PAPER_PARTS], wire[PAPER_PARTS]; /* of a step */
    double exposed[2];                              /* of attention, forward and backward */
    double step, tokens_per_s, mfu;                 /* mfu NaN: no peak is known */
    double peak;                                    /* FLOP/s of one rank */
    char attention[160];
} paper_plan;

/* c: read and checked; what training would refuse is refused with the same words. */
int paper_plan_make(paper_plan *p, const config *c, int64_t vocabulary, int ranks, const paper_machine *machine);

/* plan_time.c */
int paper_time(paper_plan *p, const config *c, const gpt_settings *s, const paper_attention *a,
               const paper_machine *machine);

#endif
