/* SPDX-License-Identifier: MIT */
/* Groups whose ranks are MPI processes.  With group.c's one exchange, all of MPI that is used is a pair of messages. */
#include "train/group_row.h"

#ifdef RINGX_HAVE_MPI

#include <ringx/ringx_mpi.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MESSAGE_LIMIT ((size_t)1 << 30) /* MPI's counts are int */

typedef struct mpi_group {
    group base;
    MPI_Comm mpi;
} mpi_group;

static bool begun; /* by us, so ours to end */

static int mpi_failed(int error, const char *what)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length;
    MPI_Error_string(error, text, &length);
    return fail(CODE_PEER_DIED, "MPI: %s failed: %s", what, text);
}

/* Waits asleep after a while, so that waiting ranks take no core from working ones. */
static int finish(const group *g, MPI_Request *requests, int count)
{
    struct timespec pause = {.tv_nsec = 20000};
    double deadline = seconds_now() + g->timeout;
    for (int spins = 0;; spins++) {
        int left = 0;
        for (int i = 0; i < count; i++) {
            int done = 1, error = requests[i] == MPI_REQUEST_NULL ? MPI_SUCCESS
                                                                  : MPI_Test(&requests[i], &done, MPI_STATUS_IGNORE);
            if (error != MPI_SUCCESS)
                return mpi_failed(error, "an exchange");
            left += !done;
        }
        if (left == 0)
            return CODE_GOOD;
        if (spins > 100)
            nanosleep(&pause, NULL);
        if (seconds_now() > deadline)
            return fail(CODE_STALLED, "rank %d of %d waited %g s for the others in an exchange", g->rank, g->ranks,
                        g->timeout);
    }
}

static size_t messages(size_t bytes)
{
    return (bytes + MESSAGE_LIMIT - 1) / MESSAGE_LIMIT;
}

/* Starts the messages of one piece; their order on the way is their order in memory. */
static int start(const mpi_group *g, const group_piece *piece, int peer, bool sending, MPI_Request *requests)
{
    int count = 0;
    for (size_t at = 0; at < piece->bytes; at += MESSAGE_LIMIT) {
        size_t left = piece->bytes - at;
        int bytes = (int)(left < MESSAGE_LIMIT ? left : MESSAGE_LIMIT);
        char *data = (char *)piece->data + at;
        if (sending)
            MPI_Isend(data, bytes, MPI_BYTE, peer, 0, g->mpi, &requests[count++]);
        else
            MPI_Irecv(data, bytes, MPI_BYTE, peer, 0, g->mpi, &requests[count++]);
    }
    return count;
}

static int mpi_exchange(group *base, const group_piece *send, const group_piece *receive)
{
    mpi_group *g = (mpi_group *)base;
    size_t most = 0;
    for (int r = 0; r < base->ranks; r++)
        most += messages(send[r].bytes) + messages(receive[r].bytes);
    MPI_Request *requests = allocate(most * sizeof(MPI_Request));
    if (!requests)
        return CODE_NO_MEMORY;
    int count = 0;
    for (int i = 1; i < base->ranks; i++) { /* each begins with its neighbour: no rank is everyone's first */
        int from = (base->rank + base->ranks - i) % base->ranks;
        count += start(g, &receive[from], from, false, requests + count);
    }
    for (int i = 1; i < base->ranks; i++) {
        int to = (base->rank + i) % base->ranks;
        count += start(g, &send[to], to, true, requests + count);
    }
    const group_piece *own = &send[base->rank], *into = &receive[base->rank];
    if (own->bytes && own->data != into->data)
        memcpy(into->data, own->data, own->bytes);
    int code = finish(base, requests, count);
    free(requests);
    return code;
}

static int wrap(MPI_Comm mpi, group **result);

static int mpi_split(group *g, int color, int key, group **part)
{
    MPI_Comm mpi;
    int error = MPI_Comm_split(((mpi_group *)g)->mpi, color, key, &mpi);
    return error == MPI_SUCCESS ? wrap(mpi, part) : mpi_failed(error, "a split");
}

static int mpi_comm(group *g, ringx_comm **comm)
{
    return fail_status(ringx_comm_from_mpi(((mpi_group *)g)->mpi, comm), "communicator over MPI");
}

static void mpi_destroy(group *g)
{
    MPI_Comm_free(&((mpi_group *)g)->mpi);
    free(g);
}

static const group_ops mpi_ops = {
    .exchange = mpi_exchange, .split = mpi_split, .comm = mpi_comm, .destroy = mpi_destroy};

/* Takes mpi over. */
static int wrap(MPI_Comm mpi, group **result)
{
    mpi_group *g = allocate(sizeof *g);
    if (!g)
        return CODE_NO_MEMORY;
    *g = (mpi_group){.base = {.ops = &mpi_ops, .timeout = 1800}, .mpi = mpi};
    MPI_Comm_set_errhandler(mpi, MPI_ERRORS_RETURN);
    MPI_Comm_rank(mpi, &g->base.rank);
    MPI_Comm_size(mpi, &g->base.ranks);
    *result = &g->base;
    return CODE_GOOD;
}

int group_mpi(group **g)
{
    int up = 0, level = 0;
    MPI_Comm mpi;
    *g = NULL;
    MPI_Initialized(&up);
    if (!up) {
        if (MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &level) != MPI_SUCCESS)
            return fail(CODE_CONFIGURATION, "MPI cannot be initialised");
        begun = true;
    }
    int error = MPI_Comm_dup(MPI_COMM_WORLD, &mpi);
    return error == MPI_SUCCESS ? wrap(mpi, g) : mpi_failed(error, "MPI_Comm_dup");
}

void group_mpi_finish(void)
{
    if (begun)
        MPI_Finalize();
    begun = false;
}

#else

int group_mpi(group **g)
{
    *g = NULL;
    return fail(CODE_CONFIGURATION, "this build has no MPI: it runs as one rank only, not under mpirun or srun");
}

void group_mpi_finish(void)
{
}

#endif
