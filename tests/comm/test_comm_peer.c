/* SPDX-License-Identifier: MIT */
/* Ranks that reach each other's memory: random calls, noted and then made, the CPU standing in for the device. */
#include "comm/peer.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "comm/rank_threads.h"

enum { CALLS = 40, MOST_COUNT = 300, ROOM = 1 << 22, EACH = 3 }; /* EACH: messages of a pair in an exchange */

/* ---- a device whose streams are threads -------------------------------------------------------------------------- */

static _Thread_local int my_host, my_process; /* who can reach whom */
static _Thread_local int my_unit;             /* who shares a device */
static int one_sided;                         /* this rank reaches nobody, though they reach it; -1: none */

static ringx_status fake_share(const void *memory, ringx_reach *reach)
{
    memset(reach, 0, sizeof *reach);
    reach->process = (uint64_t)my_process + 1;
    reach->offset = (int64_t)(uintptr_t)memory;
    snprintf(reach->host, sizeof reach->host, "host %d", my_host);
    reach->unit[1] = my_unit;
    return RINGX_OK;
}

static ringx_status fake_open(const ringx_reach *reach, void **memory, void **opened)
{
    char host[sizeof reach->host];
    snprintf(host, sizeof host, "host %d", my_host);
    *opened = NULL;
    *memory = strcmp(host, reach->host) == 0 && my_process != one_sided ? (void *)(uintptr_t)reach->offset : NULL;
    return RINGX_OK;
}

static void fake_close(void *opened)
{
    (void)opened;
}

static ringx_status fake_words(const ringx_word_op *op, size_t count, void *stream)
{
    (void)stream;
    for (size_t i = 0; i < count; i++) {
        _Atomic uint32_t *word = (_Atomic uint32_t *)op[i].word;
        while (op[i].use == RINGX_WORD_AWAIT && atomic_load(word) != 1)
            sched_yield();
        atomic_store(word, op[i].use == RINGX_WORD_SET);
    }
    return RINGX_OK;
}

static ringx_status fake_clear(uint32_t *words, size_t count, void *stream)
{
    (void)stream;
    memset(words, 0, count * sizeof *words);
    return RINGX_OK;
}

static bool fake_serial(void *stream)
{
    (void)stream;
    return false;
}

static _Thread_local int releases;

static void fake_release(uint32_t *words, size_t count, void *stream, double seconds)
{
    (void)words, (void)count, (void)stream, (void)seconds;
    releases++;
}

static ringx_status fake_copy_rows(void *to, const void *from, size_t width, size_t pitch, size_t rows, void *stream)
{
    (void)stream;
    for (size_t i = 0; i < rows; i++)
        memcpy((char *)to + i * width, (const char *)from + i * pitch, width);
    return RINGX_OK;
}

static const ringx_peer_ops fake_peer = {fake_share, fake_open,  fake_close,  fake_copy_rows,
                                         fake_words, fake_clear, fake_serial, fake_release};

static ringx_status add(size_t count, const float *from, float *to, void *stream)
{
    (void)stream;
    for (size_t i = 0; i < count; i++)
        to[i] += from[i];
    return RINGX_OK;
}

/* ---- calls that every rank draws alike --------------------------------------------------------------------------- */

typedef struct drawing {
    uint64_t state;
} drawing;

static uint64_t draw(drawing *d, uint64_t below)
{
    d->state = d->state * 6364136223846793005u + 1442695040888963407u;
    return (d->state >> 33) % below;
}

typedef struct job {
    ringx_comm *peer;
    ringx_group *group; /* odd and even ranks */
    int rank, ranks;
    char *arena; /* the workspace */
    size_t used;
    bool dry;  /* calls are noted: nothing arrives */
    int round; /* values differ from round to round */
    char wrong[200];
} job;

static float value(const job *j, int rank, int call, size_t i)
{
    return (float)((rank * 31 + call * 7 + (int)i * 3 + j->round * 11) % 101); /* sums are exact */
}

/* Room that lies elsewhere on each rank. */
static float *room(job *j, size_t count)
{
    j->used += 128 * (size_t)(1 + j->rank % 3);
    float *at = (float *)(void *)(j->arena + j->used);
    j->used += (count * sizeof(float) + 127) / 128 * 128;
    assert_true(j->used < ROOM);
    for (size_t i = 0; i < count; i++)
        at[i] = -1e9f;
    return at;
}

static float *filled(job *j, int call, size_t count)
{
    float *at = room(j, count);
    for (size_t i = 0; i < count; i++)
        at[i] = value(j, j->rank, call, i);
    return at;
}

static void check(job *j, const char *what, int call, size_t i, float got, float right)
{
    if (!j->dry && got != right && !j->wrong[0])
        snprintf(j->wrong, sizeof j->wrong, "call %d, %s, element %zu: %g, not %g", call, what, i, (double)got,
                 (double)right);
}

/* Every other block that may be lies elsewhere: its rows of three apart, what is left in one row; nothing is right
 * where it would be. */
typedef struct elsewhere {
    float *memory;
    ringx_piece piece[2];
    ringx_scattered scattered;
    ringx_call how;
} elsewhere;

static const ringx_call *scatter(const job *j, elsewhere *e, int call, float *block, size_t count, bool broadcast,
                                 const ringx_call *how)
{
    size_t rows = count / 3, left = count - 3 * rows;
    *e = (elsewhere){.how = *how};
    if (j->dry || call % 2 || count == 0 || !ringx__peer_carries(j->peer, broadcast))
        return how;
    e->memory = calloc(7 * rows + left + 1, sizeof(float));
    assert_non_null(e->memory);
    for (size_t i = 0; i < count; i++) {
        e->memory[i < 3 * rows ? i / 3 * 7 + i % 3 : 7 * rows + i - 3 * rows] = block[i];
        block[i] = -7;
    }
    e->piece[0] = (ringx_piece){e->memory, 0, 3 * sizeof(float), 7 * sizeof(float), rows};
    e->piece[1] = (ringx_piece){e->memory + 7 * rows, 3 * rows * sizeof(float), left * sizeof(float), 64, 1};
    e->scattered = (ringx_scattered){block, e->piece, 2};
    e->how.scattered = &e->scattered;
    return &e->how;
}

typedef struct team { /* of a call */
    ringx_group *group;
    int members, own, rank[MOST_TEST_RANKS];
} team;

static team draw_team(job *j, drawing *d)
{
    team t = {.group = draw(d, 2) ? j->group : NULL};
    for (int r = 0; r < j->ranks; r++)
        if (!t.group || r % 2 == j->rank % 2) {
            t.own = r == j->rank ? t.members : t.own;
            t.rank[t.members++] = r;
        }
    return t;
}

static ringx_status do_broadcast(job *j, drawing *d, int call, const ringx_call *how)
{
    team t = draw_team(j, d);
    size_t count = draw(d, MOST_COUNT);
    int root = (int)draw(d, 1000) % t.members;
    float *at = t.own == root ? filled(j, call, count) : room(j, count);
    elsewhere e;
    how = scatter(j, &e, call, at, t.own == root ? count : 0, true, how);
    RINGX_TRY(j->peer->ops->broadcast(j->peer, t.group, at, at, count * sizeof *at, root, how));
    free(e.memory);
    for (size_t i = 0; i < count && !e.memory; i++)
        check(j, "broadcast", call, i, at[i], value(j, t.rank[root], call, i));
    return RINGX_OK;
}

static size_t pair_count(int call, int from, int to)
{
    return (size_t)((from * 5 + to * 3 + call) % 4) * 17; /* some are empty */
}

static ringx_status do_exchange(job *j, int call, const ringx_call *how)
{
    ringx_message sends[EACH * MOST_TEST_RANKS] = {{0}}, receives[EACH * MOST_TEST_RANKS] = {{0}};
    size_t n = EACH * (size_t)j->ranks; /* of each pair several */
    for (size_t m = 0; m < n; m++) {
        int r = (int)m % j->ranks, which = call + 5 * (int)(m / (size_t)j->ranks);
        size_t out = pair_count(which, j->rank, r), in = pair_count(which, r, j->rank);
        sends[m] = (ringx_message){r, filled(j, which, out), out * sizeof(float)};
        receives[m] = (ringx_message){r, room(j, in), in * sizeof(float)};
    }
    elsewhere e;
    size_t other = (size_t)(j->rank + 1) % (size_t)j->ranks;
    how = scatter(j, &e, call, sends[other].data, sends[other].bytes / sizeof(float), false, how);
    RINGX_TRY(j->peer->ops->exchange(j->peer, sends, n, receives, n, how));
    free(e.memory);
    for (size_t m = 0; m < n; m++)
        for (size_t i = 0; i < receives[m].bytes / sizeof(float); i++)
            check(j, "exchange", call, i, ((float *)receives[m].data)[i],
                  value(j, receives[m].peer, call + 5 * (int)(m / (size_t)j->ranks), i));
    return RINGX_OK;
}

static ringx_status do_gather(job *j, drawing *d, int call, const ringx_call *how)
{
    team t = draw_team(j, d);
    size_t bytes[MOST_TEST_RANKS], offsets[MOST_TEST_RANKS], all = 0, each = draw(d, MOST_COUNT);
    for (int i = 0; i < t.members; i++) {
        size_t count = i == 1 && call % 3 == 0 ? 0 : each + (size_t)i;
        bytes[i] = count * sizeof(float);
        offsets[i] = all * sizeof(float);
        all += count;
    }
    float *to = room(j, all), *from = to + offsets[t.own] / sizeof(float);
    for (size_t i = 0; i < bytes[t.own] / sizeof(float); i++)
        from[i] = value(j, j->rank, call, i);
    elsewhere e;
    how = scatter(j, &e, call, from, bytes[t.own] / sizeof(float), false, how);
    RINGX_TRY(j->peer->ops->allgather(j->peer, t.group, from, to, bytes, offsets, how));
    free(e.memory);
    for (int m = 0; m < t.members; m++)
        for (size_t i = 0; i < bytes[m] / sizeof(float); i++)
            if (m != t.own || !e.memory)
                check(j, "allgather", call, i, to[offsets[m] / sizeof(float) + i], value(j, t.rank[m], call, i));
    return RINGX_OK;
}

static float sum_of(const job *j, const team *t, int call, size_t i)
{
    float sum = 0;
    for (int m = 0; m < t->members; m++)
        sum += value(j, t->rank[m], call, i);
    return sum;
}

static ringx_status do_reduce(job *j, drawing *d, int call, const ringx_call *how)
{
    team t = draw_team(j, d);
    size_t count = draw(d, MOST_COUNT);
    int root = (int)draw(d, 1000) % t.members;
    float *at = filled(j, call, count);
    RINGX_TRY(j->peer->ops->reduce(j->peer, t.group, at, at, count, RINGX_F32, root, how));
    for (size_t i = 0; i < count && t.own == root; i++)
        check(j, "reduce", call, i, at[i], sum_of(j, &t, call, i));
    return RINGX_OK;
}

static ringx_status do_scatter(job *j, drawing *d, int call, const ringx_call *how)
{
    team t = draw_team(j, d);
    size_t counts[MOST_TEST_RANKS], offsets[MOST_TEST_RANKS], all = 0, each = draw(d, MOST_COUNT);
    for (int i = 0; i < t.members; i++) {
        counts[i] = i == 1 && call % 3 == 0 ? 0 : each + (size_t)i;
        offsets[i] = all;
        all += counts[i];
    }
    float *from = filled(j, call, all), *to = room(j, counts[t.own]);
    RINGX_TRY(j->peer->ops->reduce_scatter(j->peer, t.group, from, to, counts, offsets, RINGX_F32, how));
    for (size_t i = 0; i < counts[t.own]; i++)
        check(j, "reduce-scatter", call, i, to[i], sum_of(j, &t, call, offsets[t.own] + i));
    return RINGX_OK;
}

static ringx_status do_max(job *j, drawing *d, int call, const ringx_call *how)
{
    team t = draw_team(j, d);
    size_t count = draw(d, MOST_COUNT);
    float *from = filled(j, call, count), *to = room(j, count);
    RINGX_TRY(j->peer->ops->allreduce_max(j->peer, t.group, from, to, count, how));
    for (size_t i = 0; i < count; i++) {
        float top = 0;
        for (int m = 0; m < t.members; m++)
            top = value(j, t.rank[m], call, i) > top ? value(j, t.rank[m], call, i) : top;
        check(j, "maximum", call, i, to[i], top);
    }
    return RINGX_OK;
}

static ringx_status make_calls(job *j, uint64_t seed, int pass)
{
    drawing d = {.state = seed * 2 + (uint64_t)pass};
    ringx_call how = {.what = "test", .deadline_s = 60};
    j->used = (size_t)pass * 640;
    RINGX_TRY(ringx__peer_begin(j->peer, pass));
    for (int call = 0; call < CALLS; call++) {
        switch (draw(&d, 6)) {
        case 0:
            RINGX_TRY(do_broadcast(j, &d, call, &how));
            break;
        case 1:
            RINGX_TRY(do_exchange(j, call, &how));
            break;
        case 2:
            RINGX_TRY(do_gather(j, &d, call, &how));
            break;
        case 3:
            RINGX_TRY(do_reduce(j, &d, call, &how));
            break;
        case 4:
            RINGX_TRY(do_scatter(j, &d, call, &how));
            break;
        default:
            RINGX_TRY(do_max(j, &d, call, &how));
        }
    }
    return RINGX_OK;
}

typedef struct plan_of_test {
    uint64_t seed;
    int ranks_a_host;
} plan_of_test;

static ringx_status note_and_make(job *j, uint64_t seed)
{
    ringx_call how = {.what = "test", .deadline_s = 60};
    RINGX_TRY(ringx__peer_open(j->peer, j->arena, &how));
    j->dry = true;
    RINGX_TRY(make_calls(j, seed, 0));
    RINGX_TRY(make_calls(j, seed, 1));
    j->dry = false;
    RINGX_TRY(ringx__peer_attach(j->peer, &how));
    for (j->round = 1; j->round < 6; j->round++)
        RINGX_TRY(make_calls(j, seed, j->round % 3 == 1));
    return RINGX_OK;
}

static void body(rank_thread *self)
{
    const plan_of_test *p = self->context;
    ringx_device_ops device = *ringx__device(RINGX_CPU);
    job j = {.rank = self->comm->rank, .ranks = self->comm->ranks, .arena = aligned_alloc(128, ROOM)};
    ringx_call how = {.what = "test", .deadline_s = 60};
    device.peer = &fake_peer;
    my_process = j.rank;
    my_host = j.rank / p->ranks_a_host;
    ringx_status status = ringx__comm_peer(self->comm, self->comm, &device, add, 2 * EACH * MOST_TEST_RANKS, &j.peer);
    if (status == RINGX_OK)
        status = j.peer->ops->split(j.peer, j.rank % 2, &j.group, &how);
    if (status == RINGX_OK) /* not attached: through the communicator beneath */
        status = make_calls(&j, p->seed, 1);
    for (uint64_t again = 0; again < 2 && status == RINGX_OK; again++) /* attached anew, to other calls */
        status = note_and_make(&j, p->seed + 100 * again);
    bool all_here = p->ranks_a_host >= j.ranks && one_sided < 0;
    if (status == RINGX_OK && all_here && !ringx__peer_reaches(j.peer))
        status = ringx__fail(RINGX_INTERNAL, "nobody is reached");
    if (status == RINGX_OK && j.wrong[0])
        status = ringx__fail(RINGX_INTERNAL, "%s", j.wrong);
    note(self, status);
    int here = 0, all[MOST_TEST_RANKS]; /* nobody's memory goes while another reads it */
    if (status == RINGX_OK)
        note(self, self->comm->ops->agree(self->comm, &here, sizeof here, all, &how));
    j.peer->ops->group_destroy(j.peer, j.group);
    j.peer->ops->destroy(j.peer);
    free(j.arena);
}

static void run_case(int ranks, int ranks_a_host, uint64_t seed)
{
    rank_thread t[MOST_TEST_RANKS];
    plan_of_test p = {.seed = seed, .ranks_a_host = ranks_a_host};
    run_ranks(t, ranks, NULL, body, &p);
    for (int r = 0; r < ranks; r++)
        expect(t, r, RINGX_OK, NULL);
}

static void test_one_host(void **state)
{
    (void)state;
    one_sided = -1;
    for (int ranks = 2; ranks <= 7; ranks++)
        run_case(ranks, ranks, (uint64_t)ranks);
}

static void test_some_out_of_reach(void **state)
{
    (void)state;
    one_sided = -1;
    for (int ranks = 2; ranks <= 6; ranks++)
        run_case(ranks, 2, 10 + (uint64_t)ranks);
    run_case(5, 1, 20);
}

static void test_reach_of_one_side(void **state)
{
    (void)state;
    one_sided = 1;
    run_case(2, 2, 31);
    run_case(4, 4, 32);
    one_sided = -1;
}

/* A word that was announced is set at the end of the next call, no other one, and by no later call. */
static void announced_body(rank_thread *self)
{
    static _Thread_local char arena[4096] __attribute__((aligned(128)));
    ringx_device_ops device = *ringx__device(RINGX_CPU);
    ringx_comm *peer = NULL;
    ringx_call how = {.what = "test", .deadline_s = 5};
    device.peer = &fake_peer;
    my_process = self->comm->rank;
    my_host = 0;
    note(self, ringx__comm_peer(self->comm, self->comm, &device, add, 4, &peer));
    note(self, ringx__peer_open(peer, arena, &how));
    for (int call = 0; call < 3; call++)
        note(self, peer->ops->broadcast(peer, NULL, arena, arena, sizeof arena, 0, &how));
    note(self, ringx__peer_attach(peer, &how));
    note(self, ringx__peer_begin(peer, 0));
    note(self, ringx__peer_expect(peer, NULL));
    static const int announced[] = {RINGX_ARRIVALS - 1, -1, 0};
    uint32_t wanted[RINGX_ARRIVALS] = {0};
    bool right = true;
    for (int call = 0; call < 3; call++) {
        if (announced[call] >= 0) {
            ringx__peer_announce(peer, announced[call]);
            wanted[announced[call]] = 1;
        }
        note(self, peer->ops->broadcast(peer, NULL, arena, arena, sizeof arena, 0, &how));
        right = right && memcmp(ringx__peer_words(peer), wanted, sizeof wanted) == 0;
        memset(wanted, 0, sizeof wanted);
        note(self, ringx__peer_expect(peer, NULL));
    }
    if (!right)
        note(self, ringx__fail(RINGX_INTERNAL, "an arrival word is wrong"));
    peer->ops->destroy(peer);
}

static void test_announced(void **state)
{
    (void)state;
    rank_thread t[MOST_TEST_RANKS];
    one_sided = -1;
    run_ranks(t, 3, NULL, announced_body, NULL);
    for (int r = 0; r < 3; r++)
        expect(t, r, RINGX_OK, NULL);
}

/* Of four ranks the first and the last share a device: a kernel of theirs that waits would keep copies between them
 * from being made. */
static void sharing_body(rank_thread *self)
{
    static _Thread_local char arena[256] __attribute__((aligned(128)));
    ringx_device_ops device = *ringx__device(RINGX_CPU);
    bool share = *(const bool *)self->context;
    const int rank = self->comm->rank;
    ringx_comm *peer = NULL;
    ringx_call how = {.what = "test", .deadline_s = 5};
    device.peer = &fake_peer;
    my_process = rank;
    my_host = 0;
    my_unit = share && rank == 3 ? 0 : rank;
    note(self, ringx__comm_peer(self->comm, self->comm, &device, add, 4, &peer));
    for (int again = 0; again < 2; again++) {
        note(self, ringx__peer_open(peer, arena, &how));
        note(self, ringx__peer_attach(peer, &how));
        if (ringx__peer_runs_beside(peer, NULL) == (share && rank % 3 == 0))
            note(self, ringx__fail(RINGX_INTERNAL, "rank %d: who shares its device is not known", rank));
        my_unit = rank; /* attached anew, each to its own */
        share = false;
    }
    peer->ops->destroy(peer);
}

static void test_sharing(void **state)
{
    (void)state;
    rank_thread t[MOST_TEST_RANKS];
    one_sided = -1;
    for (int share = 0; share < 2; share++) {
        bool shares = share;
        run_ranks(t, 4, NULL, sharing_body, &shares);
        for (int r = 0; r < 4; r++)
            expect(t, r, RINGX_OK, NULL);
    }
}

static bool goes_on;          /* after a failure */
static bool loud;             /* who hears of one by polling has ended waits already */
static atomic_bool may_begin; /* rank 1 is attached */

static void extra_body(rank_thread *self)
{
    plan_of_test p = {.seed = 0, .ranks_a_host = 2};
    ringx_device_ops device = *ringx__device(RINGX_CPU);
    float arena[64] = {0};
    ringx_comm *peer;
    ringx_call how = {.what = "test", .deadline_s = 5};
    device.peer = &fake_peer;
    my_process = self->comm->rank;
    my_host = self->comm->rank / p.ranks_a_host;
    note(self, ringx__comm_peer(self->comm, self->comm, &device, add, 4, &peer));
    if (self->status == RINGX_OK)
        note(self, ringx__peer_open(peer, arena, &how));
    if (self->status == RINGX_OK)
        note(self, ringx__peer_attach(peer, &how));
    releases = 0;
    if (self->comm->rank == 1)
        atomic_store(&may_begin, true);
    while (!atomic_load(&may_begin))
        sched_yield();
    if (self->status == RINGX_OK)
        note(self, ringx__peer_begin(peer, 0));
    if (self->status == RINGX_OK && self->comm->rank == 0)
        note(self, peer->ops->broadcast(peer, NULL, arena, arena, sizeof arena, 0, &how));
    int here = 0, all[2];
    if (self->status == RINGX_OK && self->comm->rank == 1)
        note(self, peer->ops->agree(peer, &here, sizeof here, all, &how));
    if (self->comm->rank == 0)
        goes_on = peer->ops->poll(peer) == RINGX_OK || releases != 1 || ringx__peer_begin(peer, 0) == RINGX_OK;
    else
        loud = peer->ops->poll(peer) == RINGX_OK || releases != 0;
    peer->ops->destroy(peer);
    if (self->comm->rank == 1)
        loud = loud || releases != 1;
}

/* A call that was not noted is a defect of the library: it is said, nothing is written, and the others hear of it.
 * Waits are ended once, by who fails or leaves, not by who polls, and no pass begins any more. */
static void test_more_than_noted(void **state)
{
    (void)state;
    rank_thread t[MOST_TEST_RANKS];
    one_sided = -1;
    goes_on = loud = true;
    atomic_store(&may_begin, false);
    run_ranks(t, 2, NULL, extra_body, NULL);
    assert_false(goes_on);
    assert_false(loud);
    expect(t, 0, RINGX_INTERNAL, "rank 1 opens 0 blocks, not more");
    expect(t, 1, RINGX_PEER_DIED, "rank 1 opens 0 blocks, not more");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_host),          cmocka_unit_test(test_some_out_of_reach),
        cmocka_unit_test(test_reach_of_one_side), cmocka_unit_test(test_announced),
        cmocka_unit_test(test_sharing),           cmocka_unit_test(test_more_than_noted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
