/* SPDX-License-Identifier: MIT */
/* The optimizer over data-parallel ranks: gradients are summed over the gradient group, states and the update are
 * whole on every rank (stage 0) or cut over the group (stages 1 and 2).
 *
 * All parameters of a rank lie one after the other.  Rank r of n owns elements bounds[r] … bounds[r+1]-1 of them,
 * whatever tensors they belong to; norms of tensors are summed over the owners, so that no result depends on the cut:
 * stages 0 and 1 are equal bit for bit.
 *
 * Stage 2 over several ranks holds gradients of the own elements only: those of a unit (a layer) are in a window that
 * other units use after it, and are summed into their owners' shares before that.  So a backward of stage 2 calls
 * zero_begin, then, unit after unit from the last to the first, zero_claim before it writes there and zero_ready when
 * the unit's gradients are final, then zero_accumulate.
 *
 * With `overlap` gradients are summed while backward goes on, on CPUs by a thread, on GPUs that have NCCL on a stream
 * of its own: zero_begin, then zero_ready as they become final, last elements first, then zero_accumulate.  Results are
 * the same bit for bit. */
#ifndef RINGX_TRAIN_ZERO_H
#define RINGX_TRAIN_ZERO_H

#include "nn/operators.h"
#include "train/config.h"
#include "train/group.h"
#include "train/zero_unit.h"

typedef struct zero_tensor {
    const char *name;
    size_t offset, count; /* in weights and gradients */
    bool decays;
    bool split; /* over the tensor group; else equal on all of its ranks and counted once */
} zero_tensor;

typedef struct zero_model { /* memory that is the caller's, of the context's device */
    const zero_tensor *tensors;
    size_t n_tensors, elements;
    void *weights; /* of dtype */
    ringx_dtype dtype;
    float *gradients;
    /* Of split gradients, in the order of elements, the first begins at 0; else gradients of element i are
     * gradients[i]. */
    const zero_unit *units;
    size_t n_units;
    const nn_context *on;
} zero_model;

typedef struct zero_settings {
    int stage;
    optimizer_kind optimizer;
    double beta1, beta2, eps, decay, clip; /* clip 0: none */
    double least_trust, most_trust;        /* LAMB's */
    size_t bucket;                         /* elements that are reduced at a time; 0: all.  Stage 2: a unit */
    bool overlap;                          /* no effect where GPUs go through host memory */
} zero_settings;

typedef struct zero {
    zero_model model;
    zero_settings set;
    const parallel *ranks;
    size_t *bounds;      /* [ranks of the gradient group + 1] */
    size_t first, count; /* elements whose states are here: all, or the own ones */
    /* on the device */
    float *master, *m, *v; /* [count]; master is the weights themselves if dtype is RINGX_F32 */
    bool split;            /* gradients: zero_splits */
    float *sum;            /* [own count]: they, if split */
    bool summed;           /* it holds those of earlier micro-batches */
    double *squares;       /* [tensors][2] */
    bool own_master;
    int64_t step;                   /* updates done */
    struct zero_lane *lane;         /* NULL: all is summed by zero_accumulate */
    bool found;                     /* while nothing is summed: */
    char what_found[MESSAGE_BYTES]; /* the first gradient that is not finite */
} zero;

int zero_create(zero *z, const zero_model *model, const zero_settings *settings, const parallel *ranks);
void zero_destroy(zero *z);
size_t zero_bytes(const zero *z); /* on the device: of states, sums and norms */

typedef struct zero_paper { /* a rank, which need not exist */
    size_t elements, tensors;
    ringx_dtype dtype;
    int stage;
    size_t rank, ranks; /* of the gradient group */
} zero_paper;
bool zero_splits(int stage, size_t ranks); /* gradients: whether each rank of the group holds its share only */

typedef struct zero_memory {
    size_t states, own;                  /* elements whose states are there; whose gradients the rank owns */
    size_t master, moments, sums, norms; /* bytes */
    size_t device;                       /* all of them */
} zero_memory;
zero_memory zero_memory_of(const zero_paper *p); /* what zero_create allocates */
/* Master weights are what the weights are now.  After loading or initialising. */
int zero_adopt(zero *z);
/* Before a micro-batch, `last`: the step's last.  Without it gradients of the micro-batch go into no sum, and in stage
 * 2 are only looked at (zero_refuse).  None of these five does anything that the stage and overlap do not need. */
void zero_begin(zero *z, bool last);
/* The unit that begins at element `first` has its window, whose gradients are 0 or those of micro-batches before. */
int zero_claim(zero *z, size_t first);
int zero_ready(zero *z, size_t first); /* gradients of elements first, first+1, … are final, of this micro-batch */
/* Collective over the gradient group, in place of zero_accumulate where the step is given up: gradients are of no use.
 */
int zero_end(zero *z);
/* With a code that is not CODE_GOOD the micro-batch is given up: by this rank before the ranks agree on it, since
 * others may wait for its part in sums, and by all of them when they have agreed.  Returns code, with its message. */
int zero_give_up(zero *z, int code, bool agreed);
/* Collective over the gradient group: after each micro-batch; last: the step's last. */
int zero_accumulate(zero *z, bool last);
/* Norm of the whole gradient times scale, over all ranks.  NaN or infinite if the gradient is. */
int zero_norm(zero *z, double scale, double *norm);
/* Updates master and weights on all ranks with scale·gradient, clipped by norm; then gradients are 0 again. */
int zero_update(zero *z, double lr, double scale, double norm);
int zero_clear(zero *z); /* gradients are 0 again without an update */
/* Weights from master, on all ranks: after loading states. */
int zero_spread(zero *z);

/* zero_refuse.c.  Collective over all ranks, for a step of which nothing is kept because `what` has this value.  Fails
 * with CODE_NOT_FINITE, naming the iteration and the first rank, tensor and element whose weight or gradient is not
 * finite, if any is. */
int zero_refuse(const zero *z, int64_t iteration, const char *what, double value);

/* The piece of tensor t within elements first … first+count-1: begin relative to the tensor; false if there is none. */
bool zero_overlap(const zero_tensor *t, size_t first, size_t count, size_t *begin, size_t *n);

#endif
