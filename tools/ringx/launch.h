/* SPDX-License-Identifier: MIT */
/* A crew: ranks that work on one thing together, as threads of this process, as MPI processes, or as processes that
 * another launcher started.
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
    /* Destroys every rank's communicator and makes new ones; for crew_renew. */
    int (*renew)(crew *c);
} crew_ops;

#define MAX_CREW 4096

struct crew { /* one rank's view */
    const crew_ops *ops;
    int rank, ranks;
    int ranks_here;     /* on this node */
    int local;          /* of these */
    bool leads_process; /* the first rank of its process: what ranks of a process share is made by this one */
    bool in_process;    /* all ranks are threads of one process */
    ringx_comm *comm;
    const char *fault;
    int telling; /* the code of a failure that the others are being told of */
    bool nccl;   /* comm is NCCL's, over one for host memory */
    bool attach; /* plans to their workspaces, so that GPUs that reach each other copy into them */
    void *internal;
};

typedef int (*crew_work)(crew *c, void *context);

/* Runs work on s->ranks[0] ranks (processes: on all of them) and returns the code they agree on. */
int launch(const settings *s, crew_work work, void *context);
/* The transport that s asks for, the default resolved. */
comm_kind launch_kind(const settings *s);
bool launch_in_processes(const settings *s); /* each rank is a process, whose launcher says how many there are */
/* Fails if the number of ranks asked for is not what the launcher gives. */
int launch_ranks(const settings *s, int *ranks);

/* The pieces, for programs that keep crews of several sizes: crews[0 … ranks-1], one for each thread to use. */
int crew_threads_create(comm_kind kind, int ranks, const char *fault, crew **crews);
void crew_threads_destroy(crew *crews);

/* Runs each of count jobs on a thread of its own (job 0 on this one), or fails and runs none. */
int run_together(size_t count, void (*run)(void *job), void *jobs, size_t job_bytes);

int crew_agree(crew *c, int code);
/* Destroys every rank's communicator and makes new ones: after a failure they are dead. */
int crew_renew(crew *c);
/* Destroys a rank's communicator, on the rank's own thread: some (NCCL's) may wait for the other ranks to do so. */
void crew_leave(crew *c);
/* Takes a rank's communicator, with the faults that were asked for. */
int crew_equip(crew *c, ringx_comm *plain);
/* A rank's part, on its own thread: unless code tells of a failure, its device and its work; at its end it leaves. */
int crew_run(crew *c, int code, const settings *s, crew_work work, void *context);
/* Of ranks that share no memory: room for what rank 0 shares, on all others. */
int crew_room(crew *c, void **memory, size_t bytes);
void crew_room_free(crew *c, void *memory);
void crew_max(crew *c, double *values, size_t count);
void crew_sum(crew *c, double *values, size_t count);

/* ---- launch_gpu.c ---- */

/* Collective, before a crew's work, on the thread of each rank: its device, and NCCL if every rank has one. */
int crew_use_device(crew *c, const settings *s);
/* The GPU of a node's rank `local`, of `count`: --gpu's, or in turn. */
int gpu_of_rank(const settings *s, int local, int count, int *index);
bool launch_may_use_nccl(const settings *s);
bool launch_threads_use_nccl(const settings *s, int64_t ranks); /* some of at most so many ranks may */
/* What ranks of one node would use by default. */
const char *gpu_transport(int ranks, int gpus);

/* launch_nccl.c */
extern const bool launch_has_nccl;
ringx_status launch_nccl(ringx_comm *host, ringx_comm **comm);

/* ---- processes ---- */

int launch_processes(const settings *s, crew_work work, void *context);
bool launch_speaks(void); /* this process prints results: rank 0, or there are no others */
void launch_finish(void); /* ends what was begun */

/* launch_mpi.c, where MPI was found. */
int launch_mpi(const settings *s, crew_work work, void *context);
int launch_mpi_ranks(int *ranks);
bool launch_under_mpi(void); /* this process was started by mpirun, mpiexec or srun */
bool launch_mpi_speaks(void);
void launch_mpi_finish(void);

/* launch_env.c */
int launch_env(const settings *s, crew_work work, void *context);
int launch_env_ranks(int *ranks);
bool launch_under_env(void); /* this process was started by torchrun or the like */
bool launch_env_speaks(void);
void launch_env_finish(void);

#endif
