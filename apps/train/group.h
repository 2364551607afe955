/* SPDX-License-Identifier: MIT */
/* Groups of ranks, and the tensor × context × data layout of a training run.
 *
 * Every rank of a group calls the same functions in the same order, with the same sizes; all of them return when this
 * rank's part is done.  A rank uses its groups one after the other, never two at a time, so that any set of groups is
 * free of deadlock as long as all ranks go through them in one order.
 *
 * Sums are taken element by element in the order of the group's ranks: they are the same bit for bit on every rank,
 * from run to run, and whatever the pieces in which they travel.  Sizes are size_t throughout.  No wait is unbounded:
 * a rank that is gone is CODE_PEER_DIED, one that does not come within the timeout CODE_STALLED. */
#ifndef RINGX_TRAIN_GROUP_H
#define RINGX_TRAIN_GROUP_H

#include "shared/report.h"

typedef struct rank_group group;

typedef enum group_op { GROUP_SUM, GROUP_MAX } group_op; /* the maximum with a NaN is a NaN */
typedef enum group_type { GROUP_F32, GROUP_F64 } group_type;

/* ---- making groups ---- */

int group_self(group **g);                /* one rank */
int group_threads(int ranks, group **gs); /* ranks as threads of this process: gs[0 … ranks-1], one for each to use */
int group_mpi(group **g);                 /* all MPI processes; initialises MPI if nobody has; group_mpi.c */
void group_mpi_finish(void);              /* finalises MPI if group_mpi initialised it; after group_destroy */
/* All processes that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT tell of, as torchrun does; group_environment.c.
 * Their waits are the library's: RINGX_TIMEOUT seconds (300).  Later groups replace what these variables say. */
int group_environment(group **g);
/* The ranks that the launcher started: group_mpi under mpirun or srun, group_environment under torchrun, else
 * group_self. */
int group_world(group **g);
/* What a program does as one of these ranks: makes the world, calls body with it, finishes.  body returns the same code
 * on every rank; where it fails, all but the first rank keep no message. */
typedef int group_body(group *world, void *context);
int group_world_run(group_body *body, void *context);
/* Collective.  Ranks of one color are together, in the order of key (unique in a color). */
int group_split(group *g, int color, int key, group **part);
void group_destroy(group *g); /* NULL is fine.  Local; the others' next call fails if it waits for this rank */

int group_rank(const group *g);
int group_ranks(const group *g);
void group_set_timeout(group *g, double seconds); /* of each call, and of groups split off later; 1800 to begin with */
/* The library's communicator over the same ranks, for plans.  Collective the first time; the group's own. */
int group_comm(group *g, ringx_comm **comm);

/* ---- agreement ---- */

/* The same code on every rank: CODE_GOOD if all ranks bring it, else the first failing rank's code and message
 * ("rank 3: …", if there are several ranks).  To be called where any rank may have failed by itself. */
int group_agree(group *g, int code);
int group_barrier(group *g);

/* ---- data ---- */

/* data[0 … count-1] of all ranks, reduced in place. */
int group_all_reduce(group *g, group_op op, group_type type, void *data, size_t count);
/* bounds[0 … ranks]: non-decreasing; rank r owns elements bounds[r] … bounds[r+1]-1 of everyone's data.  mine gets the
 * reduced elements of this rank's; it may be data + bounds[rank].  Other elements of data are left alone. */
int group_reduce_scatter(group *g, group_op op, group_type type, const void *data, const size_t *bounds, void *mine);
/* data: everyone's; this rank's bytes bounds[rank] … bounds[rank+1]-1 are in place, the others' are filled in. */
int group_all_gather(group *g, void *data, const size_t *bounds);
/* mine: bytes of this rank; all: ranks × bytes, in order. */
int group_gather(group *g, const void *mine, size_t bytes, void *all);
int group_broadcast(group *g, void *data, size_t bytes, int root);

/* Whole sums of a few numbers: group_all_reduce of one. */
int group_sum(group *g, double *value);
int group_max(group *g, double *value);

/* ---- layout: every rank has a place on three axes ---- */

typedef enum axis { AXIS_TENSOR, AXIS_CONTEXT, AXIS_DATA, AXES } axis;

typedef struct parallel {
    int size[AXES], at[AXES]; /* ranks along each axis, and this rank's place */
    axis order[AXES];         /* fastest first: by default tensor, context, data */
    group *world;             /* the caller's */
    group *tensor, *context, *data;
    group *gradient; /* context × data, rank = at[context] + size[context]·at[data]: carries gradients and ZeRO */
} parallel;

/* Collective over world.  size: ranks along each axis; 0 for data: what is left.  order: NULL for the default.
 * CODE_CONFIGURATION on every rank if they do not multiply to world's ranks. */
int parallel_create(parallel *p, group *world, const int size[AXES], const axis order[AXES]);
void parallel_destroy(parallel *p); /* not world */

#endif
