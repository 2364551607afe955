/* SPDX-License-Identifier: MIT */
/* A crew: ranks that work on one thing together, as threads of this process or as MPI processes.
 *
 * A work function runs on every rank and returns a code that the ranks agree on.  Crew calls are collective: every rank
 * makes the same ones in the same order, whatever has failed, which crew_agree makes easy: every rank gets the largest
 * code and the message of the first rank that has it. */
#ifndef RINGX_COMMAND_LAUNCH_H
#define RINGX_COMMAND_LAUNCH_H

#include "command.h"

typedef struct crew crew;

typedef struct crew_ops {
    void (*barrier)(crew *c);
    /* all[r · bytes] = mine of rank r, on every rank */
    void (*gather)(crew *c, const void *mine, size_t bytes, void *all);
    /* Rank 0's memory, readable by all until crew_release; *memory is ignored on the others. */
    int (*share)(crew *c, void **memory, size_t bytes);
    void (*release)(crew *c, void *memory);
    /* Destroys every rank's communicator and makes new ones: after a failure they are dead. */
    int (*renew)(crew *c);
} crew_ops;

#define MAX_CREW 4096

struct crew { /* one rank's view */
    const crew_ops *ops;
    int rank, ranks;
    int ranks_here;     /* in this process */
    bool leads_process; /* the first rank of its process: what ranks of a process share is made by this one */
    bool in_process;    /* all ranks are threads of one process */
    ringx_comm *comm;
    const char *fault;
    void *internal;
};

typedef int (*crew_work)(crew *c, void *context);

/* Runs work on s->ranks[0] ranks (MPI: on all processes) and returns the code they agree on. */
int launch(const settings *s, crew_work work, void *context);
/* The transport that s asks for, the default resolved. */
comm_kind launch_kind(const settings *s);
/* Fails if the number of ranks asked for is not what the launcher gives. */
int launch_ranks(const settings *s, int *ranks);

/* The pieces, for programs that keep crews of several sizes: crews[0 … ranks-1], one for each thread to use. */
int crew_threads_create(comm_kind kind, int ranks, const char *fault, crew **crews);
void crew_threads_destroy(crew *crews);

/* Runs each of count jobs on a thread of its own (job 0 on this one), or fails and runs none. */
int run_together(size_t count, void (*run)(void *job), void *jobs, size_t job_bytes);

int crew_agree(crew *c, int code);
void crew_max(crew *c, double *values, size_t count);
void crew_sum(crew *c, double *values, size_t count);

/* launch_mpi.c, where MPI was found. */
int launch_mpi(const settings *s, crew_work work, void *context);
int launch_mpi_ranks(int *ranks);
bool launch_under_mpi(void); /* this process was started by mpirun, mpiexec or srun */
bool launch_speaks(void);    /* this process prints results: rank 0, or there is no MPI */
void launch_finish(void);    /* ends MPI if it was begun */

#endif
