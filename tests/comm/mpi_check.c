/* SPDX-License-Identifier: MIT */
/* The MPI transport, run under mpirun by scripts/check-mpi-transport:
 *   mpi_check calls                 every operation, groups, random sequences, with large and with tiny messages
 *   mpi_check single                the same with MPI_THREAD_SINGLE
 *   mpi_check faults                errors, drops and delays on every rank in every operation
 *   mpi_check lost kill|exit|stop   the last rank ends (or stops) between two calls; the others must name it
 * Prints one line per failure, "passed" on rank 0 if there was none, and exits with 0 or 1. */
#include "comm/call_checks.h"
#include "comm/mpi_carry.h"

#include "device/device.h"
#include <signal.h>
#include <unistd.h>

static int failures;

static void report(const char *what, const char *why)
{
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    printf("rank %d: %s: %s\n", rank, what, why);
    fflush(stdout);
    failures++;
}

static ringx_comm *make(void)
{
    ringx_comm *comm = NULL;
    if (ringx_comm_from_mpi(MPI_COMM_WORLD, &comm) != RINGX_OK) {
        report("ringx_comm_from_mpi", ringx_last_error());
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    return comm;
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

/* All apart, all together, two kinds, random. */
static int colour(int split, int rank)
{
    return split == 0 ? rank : split == 1 ? -7 : split == 2 ? rank / 2 : (int)(mix(3, (uint64_t)rank) % 2);
}

/* Sums of many segments that come back to a root which is late, or in the memory that they were sent from. */
static void check_long_sums(ringx_comm *comm)
{
    op_check c = whole(comm, 120);
    for (int i = 0; i < 12 && !failures; i++) {
        c.seed = mix(71, (uint64_t)i);
        if (comm->rank == i % comm->ranks)
            sleep_s(2e-3 * (double)(i % 4));
        if (!check_reduce(&c, 1500000, (ringx_dtype)(i % 3), i % comm->ranks, i & 1))
            report("long sum", c.message);
    }
}

static void check_nodes(ringx_comm *comm)
{
    int node[64];
    ringx_call call = {.what = "nodes", .deadline_s = 120};
    if (comm->ops->nodes(comm, node, &call) != RINGX_OK)
        report("nodes", ringx_last_error());
    for (int r = 0; r < comm->ranks; r++) /* all tests run on one machine */
        if (node[r] != 0)
            report("nodes", "ranks of one machine are on different nodes");
}

static void check_times(ringx_comm *comm)
{
    for (int op = RINGX_OP_BROADCAST; op <= RINGX_OP_REDUCE_SCATTER && !failures; op++)
        for (size_t bytes = 0; bytes < 3000000; bytes = bytes * 40 + 3) {
            double seconds = -1;
            if (ringx_comm_time(comm, (ringx_comm_op)op, bytes, 3, &seconds) != RINGX_OK || !(seconds > 0))
                report("ringx_comm_time", ringx_last_error());
        }
}

static void check_arguments(int level)
{
    ringx_comm *comm = make();
    if (comm->ops->overlaps != (level >= MPI_THREAD_SERIALIZED) || strcmp(comm->ops->name, "mpi") != 0)
        report("overlaps", "does not follow from the level of threads");
    ringx_comm_destroy(comm);
    comm = NULL;
    if (ringx_comm_from_mpi(MPI_COMM_NULL, &comm) != RINGX_INVALID || comm)
        report("MPI_COMM_NULL", "is accepted");
    if (ringx_comm_from_mpi(MPI_COMM_WORLD, NULL) != RINGX_INVALID)
        report("comm = NULL", "is accepted");
}

static void run_calls(int level)
{
    static const size_t cuts[] = {(size_t)1 << 30, 13, 4096}, small[] = {64 << 10, 0, 100};
    check_arguments(level);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        ringx__wire_cut = cuts[i];
        ringx__wire_small = small[i];
        ringx_comm *comm = make();
        op_check c = whole(comm, 120);
        if (!check_each(&c, 11))
            report("each", c.message);
        if (!failures && !check_groups(&c, 4, colour, true, 200))
            report("groups", c.message);
        if (!failures && !check_random(&c, 5, 600, 300))
            report("random", c.message);
        if (!failures && !check_random(&c, 6, 40, cuts[i] == 13 ? 3000 : 2000000))
            report("random", c.message);
        ringx_comm_destroy(comm);
    }
    ringx__wire_cut = cuts[0];
    ringx__wire_small = small[0];
    ringx_comm *comm = make();
    check_long_sums(comm);
    check_nodes(comm);
    check_times(comm);
    ringx_comm_destroy(comm);
}

/* ---- faults ----------------------------------------------------------------------------------------------------- */

/* Runs all calls until one fails; returns the status that stays. */
static ringx_status run_until_failure(ringx_comm *comm, double deadline_s, char *message)
{
    op_check c = whole(comm, deadline_s);
    bool good = check_calls(&c, DATA_CALLS, 2);
    ringx_status status = comm->ops->poll(comm);
    snprintf(message, 2 * RINGX_MESSAGE_BYTES, "%s", status == RINGX_OK ? c.message : ringx_last_error());
    if (!good && status == RINGX_OK)
        report("wrong result", c.message);
    double begin = ringx__now();
    if (status != RINGX_OK && !check_stays_failed(&c, DATA_CALLS, status, message))
        report("a call after the failure", c.message);
    if (ringx__now() - begin > 2)
        report("calls after the failure", "took over 2 s");
    return status;
}

static void check_fault(const char *kind, int victim, int op, double deadline_s)
{
    char plan[100], message[2 * RINGX_MESSAGE_BYTES], part[40], why[3 * RINGX_MESSAGE_BYTES];
    snprintf(plan, sizeof plan, "rank=%d,call=%d,kind=%s", victim, op, kind);
    snprintf(part, sizeof part, "rank %d", victim);
    ringx_comm *comm = NULL;
    if (ringx_comm_faulty(make(), plan, &comm) != RINGX_OK) {
        report("ringx_comm_faulty", ringx_last_error());
        return;
    }
    double begin = ringx__now();
    ringx_status status = run_until_failure(comm, deadline_s, message), expected = RINGX_STALLED;
    double seconds = ringx__now() - begin;
    if (strcmp(kind, "error") == 0)
        expected = comm->rank == victim ? RINGX_COMM : RINGX_PEER_DIED;
    if (strcmp(kind, "delay:0.1") == 0)
        expected = RINGX_OK;
    snprintf(why, sizeof why, "status %d (expected %d), %.3f s, message \"%s\"", (int)status, (int)expected, seconds,
             message);
    if (status != expected || (status != RINGX_OK && !strstr(message, part)))
        report(plan, why);
    if (seconds > deadline_s + 5)
        report(plan, "took too long");
    ringx_comm_destroy(comm);
    MPI_Barrier(MPI_COMM_WORLD);
}

static void quarrel(int which)
{
    char message[2 * RINGX_MESSAGE_BYTES];
    ringx_comm *comm = make();
    ringx_status status = call_at_odds(comm, which, 0.5);
    snprintf(message, sizeof message, "quarrel %d: status %d: %s", which, (int)status, ringx_last_error());
    if (status != RINGX_MISMATCH || !strstr(message, "rank 1"))
        report("quarrel", message);
    ringx_comm_destroy(comm);
    MPI_Barrier(MPI_COMM_WORLD);
}

static void run_faults(void)
{
    int ranks;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (int victim = 0; victim < ranks; victim++)
        for (int op = 0; op < DATA_CALLS; op++) {
            check_fault("error", victim, op, 60);
            check_fault("delay:0.1", victim, op, 60);
        }
    for (int op = 0; op < DATA_CALLS; op++) {
        check_fault("drop", op % ranks, op, 0.5);
        check_fault("delay:4", (op + 1) % ranks, op, 0.5);
    }
    for (int which = 0; which < QUARRELS; which++)
        quarrel(which);
}

/* ---- a rank that is lost ---------------------------------------------------------------------------------------- */

static void lose(const char *how)
{
    fflush(stdout);
    if (strcmp(how, "kill") == 0)
        raise(SIGKILL);
    if (strcmp(how, "stop") == 0)
        raise(SIGSTOP);
    _exit(0);
}

/* Never returns: a world that has lost a rank cannot be finalized. */
static void run_lost(const char *how)
{
    const double deadline_s = 2, grace_s = 2.5;
    char part[40];
    ringx_comm *comm = make();
    int victim = comm->ranks - 1;
    pid_t own = getpid(), pids[64];
    op_check c = whole(comm, deadline_s);
    signal(SIGUSR1, SIG_IGN); /* how MPICH's launcher tells of a lost rank */
    snprintf(part, sizeof part, "rank %d", victim);
    if (!check_agree(&c, 8) || !check_allgather(&c, 300000, false, false) ||
        comm->ops->agree(comm, &own, sizeof own, pids, &c.call) != RINGX_OK)
        report("before", c.message);
    if (comm->rank == victim)
        lose(how);
    double begin = ringx__now();
    call_until_failure(&c);
    double seconds = ringx__now() - begin;
    ringx_status status = comm->ops->poll(comm);
    const char *message = ringx_last_error();
    if (status == RINGX_OK || !strstr(message, part))
        report("lost", status == RINGX_OK ? c.message : message);
    else if (seconds > deadline_s + grace_s)
        report("lost", "took too long");
    else
        printf("survivor %d after %.2f s: %s\n", comm->rank, seconds, message);
    int rank = comm->rank;
    ringx_comm_destroy(comm);
    fflush(stdout);
    sleep_s(1); /* launchers end everyone when one has ended badly: let all speak first */
    if (rank == 0 && strcmp(how, "stop") == 0)
        kill(pids[victim], SIGKILL);
    _exit(failures ? 1 : 0);
}

int main(int argc, char **argv)
{
    int level, rank, all = 0;
    const char *mode = argc > 1 ? argv[1] : "calls";
    bool single = strcmp(mode, "single") == 0;
    MPI_Init_thread(&argc, &argv, single ? MPI_THREAD_SINGLE : MPI_THREAD_SERIALIZED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (single || strcmp(mode, "calls") == 0)
        run_calls(level);
    else if (strcmp(mode, "faults") == 0)
        run_faults();
    else if (strcmp(mode, "lost") == 0 && argc > 2)
        run_lost(argv[2]);
    else
        report(mode, "is not a mode");
    MPI_Allreduce(&failures, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    ringx_comm *late = make(); /* destroyed after MPI has ended */
    MPI_Finalize();
    ringx_comm_destroy(late);
    if (rank == 0 && all == 0)
        printf("passed\n");
    return all != 0;
}
