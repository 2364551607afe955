/* SPDX-License-Identifier: MIT */
/* Crews whose ranks are MPI processes.  The only file of the command that names MPI. */
#include "launch.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef RINGX_HAVE_MPI

#include <ringx/ringx_mpi.h>

#define PIECE ((size_t)1 << 30) /* of a broadcast: MPI counts are int */

static MPI_Comm world = MPI_COMM_NULL; /* ours: results and agreement never mix with the library's messages */
static bool begun;                     /* by us, so ours to end */

static int begin(void)
{
    int up = 0, level = 0;
    MPI_Initialized(&up);
    if (!up) {
        if (MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &level) != MPI_SUCCESS)
            return fail(CODE_CONFIGURATION, "MPI cannot be initialised");
        begun = true;
    }
    if (world == MPI_COMM_NULL && MPI_Comm_dup(MPI_COMM_WORLD, &world) != MPI_SUCCESS)
        return fail(CODE_IO, "MPI_Comm_dup failed");
    return CODE_GOOD;
}

/* Waits asleep, so that waiting ranks take no core from working ones. */
static void finish_quietly(MPI_Request *request)
{
    int done = 0;
    struct timespec pause = {.tv_nsec = 20000};
    for (int spins = 0; MPI_Test(request, &done, MPI_STATUS_IGNORE), !done; spins++)
        if (spins > 100)
            nanosleep(&pause, NULL);
}

static void mpi_barrier(crew *c)
{
    (void)c;
    MPI_Request request;
    MPI_Ibarrier(world, &request);
    finish_quietly(&request);
}

static void mpi_gather(crew *c, const void *mine, size_t bytes, void *all)
{
    (void)c;
    MPI_Request request;
    MPI_Iallgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, world, &request);
    finish_quietly(&request);
}

static int mpi_share(crew *c, void **memory, size_t bytes)
{
    int code = crew_room(c, memory, bytes);
    for (size_t at = 0; at < bytes && !code; at += PIECE) {
        size_t piece = bytes - at < PIECE ? bytes - at : PIECE;
        MPI_Bcast((char *)*memory + at, (int)piece, MPI_BYTE, 0, world);
    }
    return code;
}

static int make_comm(crew *c)
{
    ringx_comm *plain = NULL;
    ringx_status status = ringx_comm_from_mpi(world, &plain);
    return status == RINGX_OK ? crew_equip(c, plain) : fail_status(status, "communicator over MPI");
}

static int mpi_renew(crew *c)
{
    crew_leave(c);
    return crew_agree(c, make_comm(c));
}

static const crew_ops mpi_ops = {
    .barrier = mpi_barrier, .gather = mpi_gather, .share = mpi_share, .release = crew_room_free, .renew = mpi_renew};

/* Ranks of this node, for sharing out its cores, and this one among them, for its GPUs. */
static void find_neighbours(crew *c)
{
    MPI_Comm node;
    c->ranks_here = 1;
    if (MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &node) == MPI_SUCCESS) {
        MPI_Comm_size(node, &c->ranks_here);
        MPI_Comm_rank(node, &c->local);
        MPI_Comm_free(&node);
    }
}

int launch_mpi_ranks(int *ranks)
{
    int code = begin();
    if (!code)
        MPI_Comm_size(world, ranks);
    if (!code && *ranks > MAX_CREW)
        code = fail(CODE_CONFIGURATION, "%d MPI processes; the command handles at most %d", *ranks, MAX_CREW);
    return code;
}

int launch_mpi(const settings *s, crew_work work, void *context)
{
    int code = begin();
    if (code)
        return code;
    crew c = {.ops = &mpi_ops, .leads_process = true, .fault = s->fault};
    MPI_Comm_rank(world, &c.rank);
    MPI_Comm_size(world, &c.ranks);
    find_neighbours(&c);
    return crew_run(&c, crew_agree(&c, make_comm(&c)), s, work, context);
}

void launch_mpi_finish(void)
{
    if (world != MPI_COMM_NULL)
        MPI_Comm_free(&world);
    if (begun)
        MPI_Finalize();
    begun = false;
}

#else

int launch_mpi_ranks(int *ranks)
{
    (void)ranks;
    return fail(CODE_CONFIGURATION, "--comm mpi: this build has no MPI; use --comm threads");
}

int launch_mpi(const settings *s, crew_work work, void *context)
{
    int ranks;
    (void)s, (void)work, (void)context;
    return launch_mpi_ranks(&ranks);
}

void launch_mpi_finish(void)
{
}

#endif

/* This process's rank as its launcher tells it in the environment; NULL without a launcher. */
static const char *launcher_rank(void)
{
    static const char *const signs[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", NULL};
    for (int i = 0; signs[i]; i++)
        if (getenv(signs[i]))
            return getenv(signs[i]);
    return NULL;
}

bool launch_under_mpi(void)
{
    return launcher_rank() != NULL;
}

bool launch_mpi_speaks(void)
{
    return !launcher_rank() || strcmp(launcher_rank(), "0") == 0;
}
