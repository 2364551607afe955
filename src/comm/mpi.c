/* SPDX-License-Identifier: MIT */
/* The MPI transport: making and ending a communicator. */
#include "comm/mpi_carry.h"
#include "device/device.h"

#include <stdlib.h>
#include <time.h>

/* ---- ending ----------------------------------------------------------------------------------------------------- */

/* After a failure requests may be left that only a dead rank could end: the MPI communicators are then left, too. */
static void close_mpi(ringx_mpi *m)
{
    int finalized = 1;
    MPI_Finalized(&finalized);
    pthread_mutex_lock(&m->wire.lock);
    ringx__mpi_hang_up(m, !finalized);
    pthread_mutex_unlock(&m->wire.lock);
    if (finalized || m->wire.failure.status != RINGX_OK)
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
    ringx__wire_close(&m->wire);
    free(m);
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

/* Lowest rank that shares memory with this one. */
static int lowest_neighbour(ringx_mpi *m, int *lowest)
{
    MPI_Comm node;
    MPI_Group members, everyone;
    int first = 0;
    int error = MPI_Comm_split_type(m->data, MPI_COMM_TYPE_SHARED, m->wire.base.rank, MPI_INFO_NULL, &node);
    if (error != MPI_SUCCESS)
        return error;
    MPI_Comm_group(node, &members);
    MPI_Comm_group(m->data, &everyone);
    error = MPI_Group_translate_ranks(members, 1, &first, everyone, lowest);
    MPI_Group_free(&members);
    MPI_Group_free(&everyone);
    MPI_Comm_free(&node);
    return error;
}

/* MPI_Comm_split_type cannot be given up: it is called when all have just been seen to be there. */
static ringx_status nodes(ringx_comm *comm, int *node_of_rank, const ringx_call *call)
{
    ringx_mpi *m = (ringx_mpi *)comm;
    int here = 0, lowest = 0;
    RINGX_TRY(ringx__wire_agree(comm, &here, sizeof here, node_of_rank, call));
    pthread_mutex_lock(&m->wire.lock);
    int error = lowest_neighbour(m, &lowest);
    if (error != MPI_SUCCESS)
        ringx__mpi_fail(m, error, comm->rank, "finding nodes from");
    pthread_mutex_unlock(&m->wire.lock);
    RINGX_TRY(ringx__wire_agree(comm, &lowest, sizeof lowest, node_of_rank, call));
    ringx__number_nodes(node_of_rank, comm->ranks);
    return RINGX_OK;
}

#define MPI_TABLE(lane)                                                                                                \
    {                                                                                                                  \
        .name = "mpi", .text = "ranks are MPI processes", .overlaps = (lane), .broadcast = ringx__wire_broadcast,      \
        .exchange = ringx__wire_exchange, .allgather = ringx__wire_allgather, .reduce = ringx__wire_reduce,            \
        .reduce_scatter = ringx__wire_reduce_scatter, .allreduce_max = ringx__wire_allreduce_max,                      \
        .agree = ringx__wire_agree, .split = ringx__wire_split, .group_destroy = ringx__wire_group_destroy,            \
        .nodes = nodes, .abort = ringx__wire_abort, .poll = ringx__wire_poll, .destroy = destroy,                      \
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

ringx_status ringx_comm_from_mpi(MPI_Comm mpi, ringx_comm **comm)
{
    RINGX_TRY(check_mpi(mpi, comm));
    int level = MPI_THREAD_SINGLE;
    MPI_Query_thread(&level);
    ringx_mpi *m = calloc(1, sizeof *m);
    if (!m)
        RINGX_FAIL(RINGX_NO_MEMORY, "a communicator needs %zu bytes", sizeof *m);
    ringx_comm *base = &m->wire.base;
    base->ops = level >= MPI_THREAD_SERIALIZED ? &ringx__comm_mpi : &one_thread;
    m->data = m->control = MPI_COMM_NULL;
    m->listen = MPI_REQUEST_NULL;
    MPI_Comm_rank(mpi, &base->rank);
    MPI_Comm_size(mpi, &base->ranks);
    ringx_status opened = ringx__wire_open(&m->wire, &ringx__carrier_mpi), status = duplicate_both(m, mpi);
    if (status == RINGX_OK)
        status = opened;
    if (status == RINGX_OK)
        status = ringx__mpi_listen(m);
    if (status != RINGX_OK) { /* the others will find this rank silent */
        destroy(base);
        return status;
    }
    *comm = base;
    return RINGX_OK;
}
