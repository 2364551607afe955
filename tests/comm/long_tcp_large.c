/* SPDX-License-Identifier: MIT */
/* Messages beyond 2^32 bytes between processes over TCP: exchanged both ways, broadcast; a sum of more than 2^30
 * floats. Needs 18 GiB of memory; without, it skips. */
#include "comm/op_checks.h"
#include "comm/rank_processes.h"

static const size_t large = ((size_t)1 << 32) + 4099;

/* Cheap to make and to check: a word of every 8 bytes, another one on each rank. */
static void fill(unsigned char *data, size_t bytes, uint64_t seed)
{
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t x = (i + seed) * 0x9E3779B97F4A7C15u;
        memcpy(data + i, &x, 8);
    }
    for (size_t i = bytes / 8 * 8; i < bytes; i++)
        data[i] = (unsigned char)(i + seed);
}

static bool filled(const unsigned char *data, size_t bytes, uint64_t seed)
{
    bool good = true;
    for (size_t i = 0; i + 8 <= bytes && good; i += 8) {
        uint64_t x = (i + seed) * 0x9E3779B97F4A7C15u, y;
        memcpy(&y, data + i, 8);
        good = x == y;
    }
    for (size_t i = bytes / 8 * 8; i < bytes && good; i++)
        good = data[i] == (unsigned char)(i + seed);
    return good;
}

static void copies_body(int rank, rank_process *found, void *context)
{
    (void)context;
    ringx_comm *comm = NULL;
    ringx_call call = {.what = "large", .deadline_s = 600};
    unsigned char *out = guarded(large), *in = guarded(large);
    ringx_message send = {1 - rank, out, large}, receive = {1 - rank, in, large};
    fill(out, large, (uint64_t)rank);
    ringx_status status = ringx_comm_from_environment(&comm);
    if (status == RINGX_OK)
        status = comm->ops->exchange(comm, &send, 1, &receive, 1, &call);
    found->wrong = status != RINGX_OK || !filled(in, large, (uint64_t)(1 - rank)) || !guards_stand(in, large);
    memset(in, POISON, large);
    if (status == RINGX_OK)
        status = comm->ops->broadcast(comm, NULL, out, rank ? in : out, large, 0, &call);
    found_status(found, status);
    found->wrong = found->wrong || !filled(rank ? in : out, large, 0) || !guards_stand(in, large);
    drop_guarded(out);
    drop_guarded(in);
    ringx_comm_destroy(comm);
}

static void sums_body(int rank, rank_process *found, void *context)
{
    (void)context;
    ringx_comm *comm = NULL;
    ringx_call call = {.what = "large", .deadline_s = 600};
    size_t count = large / sizeof(float);
    float *data = (float *)guarded(count * sizeof *data);
    for (size_t i = 0; i < count; i++)
        data[i] = (float)(i % 1021) * (float)(rank + 1);
    ringx_status status = ringx_comm_from_environment(&comm);
    if (status == RINGX_OK)
        status = comm->ops->reduce(comm, NULL, data, rank ? NULL : data, count, RINGX_F32, 0, &call);
    found_status(found, status);
    for (size_t i = 0; i < count && !found->wrong; i++)
        found->wrong = !(data[i] == (float)(i % 1021) * (float)(rank ? 2 : 3));
    found->wrong = found->wrong || !guards_stand((unsigned char *)data, count * sizeof *data);
    drop_guarded(data);
    ringx_comm_destroy(comm);
}

static void run(process_body body)
{
    process_world w;
    if (sysconf(_SC_AVPHYS_PAGES) < (18L << 30) / sysconf(_SC_PAGESIZE))
        skip();
    start_processes(&w, 2, body, NULL);
    join_processes(&w);
    for (int r = 0; r < 2; r++)
        expect_found(&w, r, RINGX_OK, NULL);
    drop_processes(&w);
}

static void large_copies(void **state)
{
    (void)state;
    run(copies_body);
}

static void large_sums(void **state)
{
    (void)state;
    run(sums_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(large_copies), cmocka_unit_test(large_sums)};
    unsetenv("RINGX_PORT");
    unsetenv("TORCHELASTIC_USE_AGENT_STORE");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
