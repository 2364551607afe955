/* SPDX-License-Identifier: MIT */
/* Training runs on paper: the machine that one is planned on, what holds of a plan whatever the model, and the tables
 * that show it.  Nothing is started, no rank needs to exist. */
#ifndef RINGX_TRAIN_PAPER_H
#define RINGX_TRAIN_PAPER_H

#include "shared/options.h"
#include "shared/table.h"
#include "train/group.h"
#include "train/zero.h"

#include <ringx/ringx_study.h>

/* ---- paper.c: the machine ---- */

typedef struct paper_machine {
    const char *name; /* as the library takes it; NULL: local */
    ringx_machine_figures figures;
    size_t memory;       /* bytes of a device; 0: not known */
    double efficiency;   /* share of the machine's rate that linear layers reach */
    ringx_device device; /* whose kernels' workspace counts */
} paper_machine;

typedef struct paper_options { /* of a command that plans */
    const char *machine;       /* NULL: h200x8 for a configuration of CUDA, else local */
    double memory;             /* GiB; 0: the machine's */
    double efficiency;
} paper_options;

/* Their rows, for settings S that have them as member `on`. */
#define PAPER_MACHINE_ROWS(S)                                                                                          \
    {.name = "machine",                                                                                                \
     .value = "FILE",                                                                                                  \
     .text = "a machine description or a built-in one: h200x2, h200x8, frontier, local (default: h200x8 if the "       \
             "configuration's device is cuda, else local)",                                                            \
     .kind = OPTION_TEXT,                                                                                              \
     .field = offsetof(S, on) + offsetof(paper_options, machine)},                                                     \
        {.name = "memory",                                                                                             \
         .value = "GIB",                                                                                               \
         .text = "of each rank's device, in place of the machine's",                                                   \
         .kind = OPTION_REAL,                                                                                          \
         .field = offsetof(S, on) + offsetof(paper_options, memory),                                                   \
         .low = 1e-6,                                                                                                  \
         .high = 1e9},                                                                                                 \
    {                                                                                                                  \
        .name = "efficiency", .value = "X",                                                                            \
        .text = "share of the machine's rate of matrix products that linear layers reach (default 1)",                 \
        .kind = OPTION_REAL, .field = offsetof(S, on) + offsetof(paper_options, efficiency), .low = 1e-3, .high = 2    \
    }

/* device: the configuration's.  Where it is CUDA and no kernels for GPUs are at hand, those of the CPU stand for them,
 * as PAPER_NO_GPU says.  Fails if there is no such machine. */
int paper_machine_find(paper_machine *m, const paper_options *o, ringx_device device);
#define PAPER_NO_GPU "no GPU is at hand: the attention's workspace is that of the CPU's kernels"

/* ---- a plan ---- */

typedef enum paper_part {
    PAPER_LINEAR,
    PAPER_ROWS, /* norms, gates, sums and the like: once through memory */
    PAPER_FORWARD,
    PAPER_BACKWARD, /* of attention, exposed transfers included */
    PAPER_TENSOR,   /* sums over the tensor group */
    PAPER_GRADIENTS,
    PAPER_OPTIMIZER,
    PAPER_PARTS
} paper_part;

enum { PAPER_TEXT = 160 }; /* bytes of a text */

typedef struct paper_plan {
    int ranks, size[AXES], stride[AXES];
    size_t most_parameters; /* of a rank */
    int fullest;            /* rank that holds most, and what: */
    zero_memory optimizer;
    size_t device;  /* all of it, bytes */
    size_t runtime; /* what driver and communicators hold beside it, by the machine's description */
    bool known, fits;
    double seconds[PAPER_PARTS], wire[PAPER_PARTS]; /* of a step; bytes */
    double exposed[2];                              /* seconds of attention, forward and backward */
    double step, mfu;                               /* seconds; NaN: no peak is known */
    double peak;                                    /* FLOP/s of one rank */
    char attention[PAPER_TEXT];
} paper_plan;

/* order: axes, fastest first, as in parallel_create. */
void paper_lay_out(paper_plan *p, const int size[AXES], const int order[AXES]);
/* Ranks of the context group that share a node. */
int paper_context_in_node(const paper_plan *p, const paper_machine *m);
/* Preset, layout and kernel. */
void paper_describe_attention(char text[PAPER_TEXT], const ringx_plan_info *info);

/* The data ranks at a place on the tensor and context axes, which differ in the optimizer's share alone.  share:
 * without its ranks; bytes: of each, without that share.  Whether one of them holds more than all ranks before. */
bool paper_add_place(paper_plan *p, int tensor, int context, zero_paper share, size_t bytes);

/* Seconds of sums over an axis of at least two ranks, as a reduce-scatter and an all-gather. */
int paper_all_reduce(const paper_plan *p, const paper_machine *m, axis along, double bytes, double *seconds);
typedef struct paper_sums { /* of gradients */
    int64_t stage;          /* 0 sums them whole; 1 and 2 sum to owners and gather weights of dtype, */
    ringx_dtype dtype;
    int64_t steps; /* 2 after each of so many micro-steps */
    double beside; /* seconds of a micro-step's backward, if sums go on meanwhile; else 0 */
    double last;   /* share of the elements that are final at its end only */
} paper_sums;
/* Of what is beside backward only the rest is counted: the last share, or all that is longer than it. */
int paper_gradient_time(paper_plan *p, const paper_machine *m, const paper_sums *s);
/* What a rank computes by itself in a step.  flops: of products; bytes: through memory, of what is none. */
void paper_own_time(paper_plan *p, const paper_machine *m, double flops, double bytes, ringx_dtype dtype);
size_t paper_needs(const paper_plan *p); /* bytes of a device */
/* Once all parts are there.  tflops: the configuration's peak; 0: the machine's.  mfu is the caller's. */
void paper_finish(paper_plan *p, const paper_machine *m, double tflops);

/* ---- paper_report.c ---- */

/* A row each for the model's items; others are added.  NULL: out of memory, as failure() says. */
table *paper_memory_table(const char *const *names, const size_t *bytes, int count);
void paper_add_memory(table *t, const char *item, size_t bytes);
/* The last rows: all that is allocated, and what driver and communicators hold where the machine says it. */
void paper_add_sums(table *t, const paper_plan *p);
/* rows: what PAPER_ROWS is in this model. */
table *paper_time_table(const paper_plan *p, const char *rows);
/* Whether it fits, and how fast it is.  rate: with its unit. */
void paper_verdict(const paper_plan *p, const paper_machine *m, const char *rate, FILE *to);

#endif
