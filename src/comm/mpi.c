/* SPDX-License-Identifier: MIT */
/* The MPI transport: making and ending a communicator. */
#include "comm/mpi_wire.h"
#include "device/device.h"

#include <stdlib.h>
#include <time.h>

/* ---- the table -------------------------------------------------------------------------------------------------- */

static void group_destroy(ringx_comm *comm, ringx_group *group)
{
    (void)comm;
    free(group);
}

static void tell(ringx_comm *comm, int culprit, ringx_status status, const char *message)
{
    ringx_mpi *m = (ringx_mpi *)comm;
    pthread_mutex_lock(&m->lock);
    ringx__control_fail(m, comm->rank, culprit, status, "%s", message ? message : "no message");
    pthread_mutex_unlock(&m->lock);
}

static ringx_status sticky(ringx_comm *comm)
{
    ringx_mpi *m = (ringx_mpi *)comm;
    pthread_mutex_lock(&m->lock);
    ringx__errors_return();
    ringx__control_poll(m);
    ringx__errors_restore();
    ringx_status status = ringx__failure_report(&m->failure, comm->rank);
    pthread_mutex_unlock(&m->lock);
    return status;
}

/* After a failure requests may be left that only a dead rank could end: the MPI communicators are then left, too. */
static void close_mpi(ringx_mpi *m)
{
    int finalized = 1;
    MPI_Finalized(&finalized);
    pthread_mutex_lock(&m->lock);
    ringx__control_close(m, !finalized);
    pthread_mutex_unlock(&m->lock);
    if (finalized || m->failure.status != RINGX_OK)
        return;
    if (m->data != MPI_COMM_NULL)
        MPI_Comm_free(&m->data);
    if (m->control != MPI_COMM_NULL)
        MPI_Comm_free(&m->control);
}

static void destroy(ringx_comm *comm)
{
    ringx_mpi *m = (ringx_mpi *)comm;
    close_mpi(m);
    pthread_mutex_destroy(&m->lock);
    free(m->all);
    free(m->scratch);
    free(m->sent);
    free(m->sizes);
    free(m->sources);
    free(m->streams);
    free(m->requests);
    free(m);
}

#define MPI_TABLE(lane)                                                                                                \
    {                                                                                                                  \
        .name = "mpi", .text = "ranks are MPI processes", .overlaps = (lane), .broadcast = ringx__mpi_broadcast,       \
        .exchange = ringx__mpi_exchange, .allgather = ringx__mpi_allgather, .reduce = ringx__mpi_reduce,               \
        .reduce_scatter = ringx__mpi_reduce_scatter, .allreduce_max = ringx__mpi_allreduce_max,                        \
        .agree = ringx__mpi_agree, .split = ringx__mpi_split, .group_destroy = group_destroy,                          \
        .nodes = ringx__mpi_nodes, .abort = tell, .poll = sticky, .destroy = destroy,                                  \
    }

const ringx_comm_ops ringx__comm_mpi = MPI_TABLE(true);
static const ringx_comm_ops one_thread = MPI_TABLE(false); /* below MPI_THREAD_SERIALIZED */

/* ---- making one ------------------------------------------------------------------------------------------------- */

static ringx_status check_mpi(MPI_Comm mpi, ringx_comm **comm)
{
    int initialized = 0, finalized = 0, inter = 0;
    if (!comm)
        RINGX_FAIL(RINGX_INVALID, "comm is NULL; it must say where the communicator is to be put");
    MPI_Initialized(&initialized);
    MPI_Finalized(&finalized);
    if (!initialized || finalized)
        RINGX_FAIL(RINGX_INVALID, "MPI is %s; it must be running", finalized ? "finalized" : "not initialized");
    if (mpi == MPI_COMM_NULL)
        RINGX_FAIL(RINGX_INVALID, "mpi is MPI_COMM_NULL; it must be a communicator");
    MPI_Comm_test_inter(mpi, &inter);
    if (inter)
        RINGX_FAIL(RINGX_INVALID, "mpi is an inter-communicator; it must be an intra-communicator");
    return RINGX_OK;
}

/* MPI_Comm_dup with a deadline. */
static ringx_status duplicate(MPI_Comm mpi, MPI_Comm *copy)
{
    MPI_Request request;
    int done = 0, error;
    double begin = ringx__now(), limit = ringx__comm_timeout();
    *copy = MPI_COMM_NULL;
    error = MPI_Comm_idup(mpi, copy, &request);
    while (error == MPI_SUCCESS && !done) {
        error = MPI_Test(&request, &done, MPI_STATUS_IGNORE);
        double waited = ringx__now() - begin;
        if (!done && waited > limit) {
            *copy = MPI_COMM_NULL;
            RINGX_FAIL(RINGX_STALLED, "making a communicator: waited %.3g s for other ranks", waited);
        }
        nanosleep(&(struct timespec){.tv_nsec = (long)(ringx__wire_pause(waited) * 1e9)}, NULL);
    }
    if (error != MPI_SUCCESS)
        RINGX_FAIL(RINGX_COMM, "MPI cannot duplicate the communicator (error %d)", error);
    MPI_Comm_set_errhandler(*copy, MPI_ERRORS_RETURN);
    return RINGX_OK;
}

/* MPI errors are returned also while the caller's own communicator is used. */
static ringx_status duplicate_both(ringx_mpi *m, MPI_Comm mpi)
{
    MPI_Errhandler callers;
    ringx__errors_return();
    MPI_Comm_get_errhandler(mpi, &callers);
    MPI_Comm_set_errhandler(mpi, MPI_ERRORS_RETURN);
    ringx_status status = duplicate(mpi, &m->data);
    if (status == RINGX_OK)
        status = duplicate(mpi, &m->control);
    MPI_Comm_set_errhandler(mpi, callers);
    MPI_Errhandler_free(&callers);
    ringx__errors_restore();
    return status;
}

static ringx_status allocate(ringx_mpi *m)
{
    size_t ranks = (size_t)m->base.ranks;
    m->all = malloc(sizeof *m->all + ranks * sizeof *m->all->rank_of);
    m->scratch = malloc(ringx__fold_scratch(m->base.ranks));
    m->sent = calloc(2 * ranks, sizeof *m->sent);
    m->sizes = calloc(6 * ranks, sizeof *m->sizes);
    m->sources = calloc(ranks, sizeof *m->sources);
    if (!m->all || !m->scratch || !m->sent || !m->sizes || !m->sources)
        RINGX_FAIL(RINGX_NO_MEMORY, "no memory for a communicator of %zu ranks", ranks);
    m->received = m->sent + ranks;
    m->offsets = m->sizes + ranks;
    m->places = m->offsets + ranks;
    *m->all = (ringx_group){.members = m->base.ranks, .index_of_me = m->base.rank};
    for (int r = 0; r < m->base.ranks; r++)
        m->all->rank_of[r] = r;
    return ringx__control_open(m);
}

ringx_status ringx_comm_from_mpi(MPI_Comm mpi, ringx_comm **comm)
{
    RINGX_TRY(check_mpi(mpi, comm));
    int level = MPI_THREAD_SINGLE;
    MPI_Query_thread(&level);
    ringx_mpi *m = calloc(1, sizeof *m);
    if (!m)
        RINGX_FAIL(RINGX_NO_MEMORY, "a communicator needs %zu bytes", sizeof *m);
    m->base.ops = level >= MPI_THREAD_SERIALIZED ? &ringx__comm_mpi : &one_thread;
    m->data = m->control = MPI_COMM_NULL;
    m->listen = MPI_REQUEST_NULL;
    MPI_Comm_rank(mpi, &m->base.rank);
    MPI_Comm_size(mpi, &m->base.ranks);
    pthread_mutex_init(&m->lock, NULL);
    ringx_status status = duplicate_both(m, mpi);
    if (status == RINGX_OK)
        status = allocate(m);
    if (status == RINGX_OK)
        status = ringx__control_listen(m);
    if (status != RINGX_OK) { /* the others will find this rank silent */
        destroy(&m->base);
        return status;
    }
    *comm = &m->base;
    return RINGX_OK;
}
