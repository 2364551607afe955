/* SPDX-License-Identifier: MIT */
/* A training run on paper: what every rank would hold, by the functions that allocate it, and what a step would cost on
 * a described machine.  Nothing is started, no rank needs to exist. */
#ifndef GPT_PLAN_PAPER_H
#define GPT_PLAN_PAPER_H

#include "gpt/model_config.h"
#include "train/paper.h"

/* ---- plan_attention.c: all attention of a micro-step, over all layers ---- */

typedef struct gpt_paper_attention {
    int ranks;                              /* of the context group */
    int64_t *local_tokens;                  /* [ranks] */
    size_t *workspace;                      /* [ranks], the largest of all choices */
    double seconds[2], exposed[2], wire[2]; /* forward, backward; wire bytes of the rank that sends most */
    char text[PAPER_TEXT];                  /* of the first choice */
} gpt_paper_attention;

/* ranks_per_node: of the context group. */
int gpt_paper_attention_create(gpt_paper_attention *a, const gpt_settings *s, const int size[AXES], int ranks_per_node,
                               const paper_machine *machine);
void gpt_paper_attention_destroy(gpt_paper_attention *a);

/* ---- plan_paper.c ---- */

typedef struct gpt_paper {
    paper_plan plan;             /* device includes tokens */
    int64_t batch, micro, steps; /* samples of a step, of a micro-step; micro-steps */
    size_t parameters;           /* of the whole model */
    /* of the rank that holds most */
    gpt_memory model;
    size_t tokens; /* ids, targets, masks of a step */
    double tokens_per_s;
} gpt_paper;

/* c: read and checked; what training would refuse is refused with the same words. */
int gpt_paper_make(gpt_paper *p, const config *c, int64_t vocabulary, int ranks, const paper_machine *machine);

/* plan_time.c */
int gpt_paper_time(gpt_paper *p, const config *c, const gpt_settings *s, const gpt_paper_attention *a,
                   const paper_machine *machine);

#endif
