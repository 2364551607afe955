/* SPDX-License-Identifier: MIT */
/* Ranks agree or all fail: what one of them passes differently or wrongly is named, with the rank, on every rank, and
 * the communicator can be used again. */
#include "api/plan_trial.h"

#include "core/shape.h"
#include "device/device.h"

enum { RANKS = 3 };

/* ---- one rank passes something else ---- */

static const int64_t bounds_a[] = {0, 10, 25}, bounds_b[] = {0, 11, 25};

typedef struct difference {
    const char *field, *usual, *odd; /* as the message shows them */
    void (*all)(ringx_problem *p, ringx_options *o);
    void (*one)(ringx_problem *p, ringx_options *o);
} difference;

#define CHANGE(name, statement)                                                                                        \
    static void name(ringx_problem *p, ringx_options *o)                                                               \
    {                                                                                                                  \
        (void)p, (void)o;                                                                                              \
        statement;                                                                                                     \
    }

CHANGE(same, (void)0)
CHANGE(documents, (p->documents = 2, p->document_starts = bounds_a))
CHANGE(batch, p->batch = 3)
CHANGE(tokens, p->tokens = 26)
CHANGE(q_heads, p->q_heads = 9)
CHANGE(kv_heads, p->kv_heads = 2)
CHANGE(head_dim, p->head_dim = 9)
CHANGE(value_dim, p->value_dim = 8) /* says what 0 means: still another argument */
CHANGE(dtype, p->dtype = RINGX_BF16)
CHANGE(scale, p->scale = 0.25)
CHANGE(causal, p->causal = true)
CHANGE(window_left, p->window_left = 4)
CHANGE(window_right, p->window_right = 7)
CHANGE(one_document, (p->documents = 1, p->document_starts = bounds_a))
CHANGE(other_bounds, p->document_starts = bounds_b)
CHANGE(softcap, p->softcap = 30)
CHANGE(dropout, p->dropout = 0.1)
CHANGE(seed, p->seed = 12345678901234567890u)
CHANGE(preset, o->preset = "zigzag")
CHANGE(no_preset, o->preset = NULL)
CHANGE(algorithm, o->algorithm = "kvgather")
CHANGE(layout, o->layout = "striped")
CHANGE(lookahead, o->lookahead = 2)
CHANGE(slices, o->slices = 3)
CHANGE(head_ranks, o->head_ranks = 3)
CHANGE(ranks_per_node, o->ranks_per_node = 3)
CHANGE(wire, o->wire = RINGX_F16)
CHANGE(kernel, o->kernel = "cpu_ref")
CHANGE(machine, o->machine = "h200x2")
CHANGE(forward_only, o->forward_only = true)
CHANGE(deterministic, o->deterministic = true)

static const difference differences[] = {
    {"batch", "2", "3", same, batch},
    {"tokens", "25", "26", same, tokens},
    {"q_heads", "6", "9", same, q_heads},
    {"kv_heads", "3", "2", same, kv_heads},
    {"head_dim", "8", "9", same, head_dim},
    {"value_dim", "0", "8", same, value_dim},
    {"dtype", "0", "1", same, dtype},
    {"scale", "0", "0.25", same, scale},
    {"causal", "0", "1", same, causal},
    {"window_left", "-1", "4", same, window_left},
    {"window_right", "-1", "7", same, window_right},
    {"documents", "0", "2", same, documents},
    {"documents", "2", "1", documents, one_document},
    {"document_starts", "contents with digest ", "contents with digest ", documents, other_bounds},
    {"softcap", "0", "30", same, softcap},
    {"dropout", "0", "0.10000000000000001", same, dropout},
    {"seed", "0", "12345678901234567890", same, seed},
    {"preset", "ring", "zigzag", same, preset},
    {"preset", "ring", "(default)", same, no_preset},
    {"algorithm", "(default)", "kvgather", same, algorithm},
    {"layout", "(default)", "striped", same, layout},
    {"lookahead", "-1", "2", same, lookahead},
    {"slices", "0", "3", same, slices},
    {"head_ranks", "0", "3", same, head_ranks},
    {"ranks_per_node", "0", "3", same, ranks_per_node},
    {"wire", "0", "2", same, wire},
    {"kernel", "(default)", "cpu_ref", same, kernel},
    {"machine", "(default)", "h200x2", same, machine},
    {"forward_only", "0", "1", same, forward_only},
    {"deterministic", "0", "1", same, deterministic},
};

static void expect_difference(const difference *d, int odd)
{
    trial t;
    char one[64], other[96];
    trial_start(&t, RANKS, "ring");
    for (int r = 0; r < RANKS; r++) {
        d->all(&t.rank[r].own_problem, &t.rank[r].own_options);
        if (r == odd)
            d->one(&t.rank[r].own_problem, &t.rank[r].own_options);
    }
    trial_run(&t);
    snprintf(one, sizeof one, ": %s: rank %d passed %s", d->field, odd, d->odd);
    snprintf(other, sizeof other, ", rank %d passed %s", odd == 0, d->usual);
    expect_all(&t, RINGX_MISMATCH, one);
    expect_all(&t, RINGX_MISMATCH, other);
    for (int r = 1; r < RANKS; r++)
        assert_string_equal(t.rank[r].message, t.rank[0].message);
    t.rank[odd].own_problem = t.rank[(odd + 1) % RANKS].own_problem; /* once they agree, all is well */
    t.rank[odd].own_options = t.rank[(odd + 1) % RANKS].own_options;
    trial_run(&t);
    expect_all(&t, RINGX_OK, NULL);
    trial_end(&t);
}

static void every_difference_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof differences / sizeof *differences; i++)
        for (int odd = 0; odd < RANKS; odd++)
            expect_difference(&differences[i], odd);
}

/* The list above has every field of both structs except those that ranks may choose for themselves. */
static void no_field_is_forgotten(void **state)
{
    (void)state;
    static const char *const fields[] = {"batch",        "tokens",          "q_heads",        "kv_heads", "head_dim",
                                         "value_dim",    "dtype",           "scale",          "causal",   "window_left",
                                         "window_right", "document_starts", "documents",      "softcap",  "dropout",
                                         "seed",         "preset",          "algorithm",      "layout",   "lookahead",
                                         "slices",       "head_ranks",      "ranks_per_node", "wire",     "kernel",
                                         "machine",      "forward_only",    "deterministic"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        bool found = false;
        for (size_t j = 0; j < sizeof differences / sizeof *differences; j++)
            found |= strcmp(differences[j].field, fields[i]) == 0;
        if (!found)
            fail_msg("%s is not tried", fields[i]);
    }
    /* A new field changes a size: then it belongs into the card in plan.c and into the list above. */
    assert_int_equal(sizeof(ringx_problem), 136);
    assert_int_equal(sizeof(ringx_options), 120);
}

static void ranks_may_choose_these_for_themselves(void **state)
{
    (void)state;
    trial t;
    trial_start(&t, RANKS, "ring");
    t.rank[1].own_options.threads = 2;
    t.rank[1].own_options.timeout = 30;
    t.rank[1].own_options.timeline = true;
    t.rank[2].own_options.workspace_limit = SIZE_MAX;
    t.rank[0].own_options.stream = &t;
    trial_run(&t);
    expect_all(&t, RINGX_OK, NULL);
    trial_end(&t);
}

/* ---- one rank passes something wrong ---- */

CHANGE(bad_head_dim, p->head_dim = 0)
CHANGE(bad_tokens, p->tokens = -1)
CHANGE(bad_heads, p->kv_heads = 4)
CHANGE(bad_bounds, (p->documents = 2, p->document_starts = NULL))
CHANGE(bad_problem_size, p->size = 8)
CHANGE(bad_options_size, o->size = 8)
CHANGE(bad_preset, o->preset = "ringX44")
CHANGE(bad_algorithm, o->algorithm = "kvgater")
CHANGE(bad_layout, o->layout = "zig-zag")
CHANGE(bad_kernel, o->kernel = "cpu_rev")
CHANGE(bad_lookahead, o->lookahead = 9)
CHANGE(bad_slices, o->slices = 4)
CHANGE(bad_head_ranks, o->head_ranks = 2)
CHANGE(bad_nodes, o->ranks_per_node = -1)
CHANGE(bad_wire, o->wire = (ringx_dtype)7)
CHANGE(bad_threads, o->threads = -1)
CHANGE(bad_timeout, o->timeout = -2)
CHANGE(bad_device, o->device = (ringx_device)9)

static const struct {
    void (*change)(ringx_problem *p, ringx_options *o);
    ringx_status status;
    const char *text;
} wrongs[] = {
    {bad_head_dim, RINGX_INVALID, "head_dim is 0; it must be 1 … 256"},
    {bad_tokens, RINGX_INVALID, "tokens is -1; it must be 0 … "},
    {bad_heads, RINGX_INVALID, "q_heads is 6, which kv_heads 4 does not divide"},
    {bad_bounds, RINGX_INVALID, "document_starts is NULL; documents is 2"},
    {bad_problem_size, RINGX_INVALID, "problem.size is 8; it must be sizeof(ringx_problem)"},
    {bad_options_size, RINGX_INVALID, "options.size is 8; it must be sizeof(ringx_options)"},
    {bad_preset, RINGX_INVALID, "preset 'ringX44' is unknown; the nearest is 'ringX4'"},
    {bad_algorithm, RINGX_INVALID, "algorithm 'kvgater' is unknown; the nearest is 'kvgather'"},
    {bad_layout, RINGX_INVALID, "layout 'zig-zag' is unknown; the nearest is 'zigzag'"},
    {bad_kernel, RINGX_INVALID, "kernel 'cpu_rev' is unknown; the nearest is 'cpu_ref'"},
    {bad_lookahead, RINGX_INVALID, "lookahead is 9; it must be -1 (the preset's) or 0 … 8"},
    {bad_slices, RINGX_INVALID, "slices is 4; it must be 0 (chosen) or 1 … kv_heads = 3"},
    {bad_head_ranks, RINGX_INVALID, "head_ranks is 2; it must be 0 (chosen) or a divisor of the 3 ranks"},
    {bad_nodes, RINGX_INVALID, "ranks_per_node is -1"},
    {bad_wire, RINGX_INVALID, "wire is 7"},
    {bad_threads, RINGX_INVALID, "threads is -1"},
    {bad_timeout, RINGX_INVALID, "timeout is -2 s"},
    {bad_device, RINGX_UNSUPPORTED, "device 9 is not in this build"},
};

static void expect_wrong(trial *t, int rank, ringx_status status, const char *text)
{
    char whole[256];
    snprintf(whole, sizeof whole, "rank %d: %s", rank, text);
    trial_run(t);
    expect_all(t, status, whole);
}

static void what_one_rank_passes_wrongly_fails_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs; i++)
        for (int bad = 0; bad < RANKS; bad++) {
            trial t;
            trial_start(&t, RANKS, "ring");
            wrongs[i].change(&t.rank[bad].own_problem, &t.rank[bad].own_options);
            expect_wrong(&t, bad, wrongs[i].status, wrongs[i].text);
            t.rank[bad].own_problem = t.rank[(bad + 1) % RANKS].own_problem;
            t.rank[bad].own_options = t.rank[(bad + 1) % RANKS].own_options;
            trial_run(&t); /* the communicator is as good as new */
            expect_all(&t, RINGX_OK, NULL);
            trial_end(&t);
        }
}

/* Structs of an older, shorter kind: no byte beyond their size is read. */
static void short_structs_are_not_read_beyond_their_end(void **state)
{
    (void)state;
    for (int bad = 0; bad < RANKS; bad++) {
        trial t;
        size_t *small = malloc(sizeof *small);
        *small = sizeof *small;
        trial_start(&t, RANKS, "ring");
        t.rank[bad].problem = (const ringx_problem *)(const void *)small;
        expect_wrong(&t, bad, RINGX_INVALID, "problem.size is 8");
        t.rank[bad].problem = &t.rank[bad].own_problem;
        t.rank[bad].options = (const ringx_options *)(const void *)small;
        expect_wrong(&t, bad, RINGX_INVALID, "options.size is 8");
        trial_end(&t);
        free(small);
    }
}

static void null_arguments(void **state)
{
    (void)state;
    ringx_plan *plan = (ringx_plan *)1;
    ringx_problem problem = trial_problem();
    assert_int_equal(ringx_plan_create(&plan, &problem, NULL, NULL), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "comm is NULL"));
    assert_null(plan);
    for (int bad = 0; bad < RANKS; bad++) {
        trial t;
        trial_start(&t, RANKS, "ring");
        t.rank[bad].problem = NULL;
        expect_wrong(&t, bad, RINGX_INVALID, "problem is NULL");
        t.rank[bad].problem = &t.rank[bad].own_problem;
        t.rank[bad].no_plan = true;
        expect_wrong(&t, bad, RINGX_INVALID, "plan is NULL");
        t.rank[bad].no_plan = false;
        trial_run(&t);
        expect_all(&t, RINGX_OK, NULL);
        for (int r = 0; r < RANKS; r++)
            t.rank[r].options = NULL; /* the defaults */
        trial_run(&t);
        expect_all(&t, RINGX_OK, NULL);
        trial_end(&t);
    }
    ringx_args args = RINGX_ARGS_INIT;
    assert_int_equal(ringx_forward(NULL, &args), RINGX_INVALID);
    assert_int_equal(ringx_backward(NULL, &args), RINGX_INVALID);
    assert_int_equal(ringx_plan_wait(NULL), RINGX_INVALID);
    assert_int_equal(ringx_unshard(NULL, 1, 4, NULL, NULL, 0), RINGX_INVALID);
    assert_int_equal(ringx_plan_draw(NULL, "x.svg"), RINGX_INVALID);
    assert_non_null(strstr(ringx_last_error(), "plan is NULL"));
    ringx_plan_destroy(NULL);
    ringx_comm_destroy(NULL);
}

static void of_several_wrong_ranks_the_lowest_is_named(void **state)
{
    (void)state;
    trial t;
    trial_start(&t, RANKS, "ring");
    t.rank[2].own_problem.head_dim = 0;
    t.rank[1].own_options.preset = "strip";
    expect_wrong(&t, 1, RINGX_INVALID, "preset 'strip' is unknown; the nearest is 'stripe'");
    trial_end(&t);
}

/* ---- waiting ---- */

static void a_rank_that_does_not_come_is_named(void **state)
{
    (void)state;
    for (int late = 0; late < RANKS; late++) {
        char name[64];
        trial t;
        trial_start(&t, RANKS, "ring");
        for (int r = 0; r < RANKS; r++)
            t.rank[r].own_options.timeout = 0;
        t.rank[late].absent = true;
        setenv("RINGX_TIMEOUT", "0.15", 1);
        trial_run(&t);
        unsetenv("RINGX_TIMEOUT");
        snprintf(name, sizeof name, "waited 0.15 s for rank %d", late);
        for (int r = 0; r < RANKS; r++)
            if (r != late) {
                expect_rank(&t, r, RINGX_STALLED, name);
                expect_rank(&t, r, RINGX_STALLED, "ringx_plan_create");
            }
        trial_end(&t);
    }
}

static void a_wrong_timeout_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"abc", "-1", "0", "10s", "", "inf", "nan"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[64];
        trial t;
        trial_start(&t, RANKS, "ring");
        for (int r = 0; r < RANKS; r++)
            t.rank[r].own_options.timeout = 0;
        setenv("RINGX_TIMEOUT", wrong[i], 1);
        snprintf(text, sizeof text, "RINGX_TIMEOUT is '%s'; it must be", wrong[i]);
        expect_wrong(&t, 0, RINGX_INVALID, text);
        for (int r = 0; r < RANKS; r++) /* it is not asked where the option is given */
            t.rank[r].own_options.timeout = 5;
        trial_run(&t);
        expect_all(&t, RINGX_OK, NULL);
        unsetenv("RINGX_TIMEOUT");
        trial_end(&t);
    }
}

/* ---- executing ---- */

typedef struct memory { /* of one rank */
    float *at[9];
    void *workspace;
    ringx_args args;
} memory;

static void *room(size_t bytes)
{
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 128, bytes + 256), 0);
    memset(p, 0, bytes + 256);
    return p;
}

static void memory_create(memory *m, const ringx_plan *plan)
{
    m->args = (ringx_args)RINGX_ARGS_INIT;
    ringx_args *a = &m->args;
    ringx_tensor *tensor[] = {&a->q, &a->k, &a->v, &a->out, &a->dout, &a->dq, &a->dk, &a->dv};
    size_t floats = (size_t)(2 * ringx_plan_local_tokens(plan) * 6 * 8);
    for (int i = 0; i < 8; i++)
        tensor[i]->data = m->at[i] = room(floats * sizeof(float));
    a->lse = m->at[8] = room(floats * sizeof(float));
    a->workspace = m->workspace = room(ringx_plan_workspace(plan));
    a->workspace_bytes = ringx_plan_workspace(plan);
}

static void memory_destroy(memory *m)
{
    for (int i = 0; i < 9; i++)
        free(m->at[i]);
    free(m->workspace);
}

typedef struct misuse {
    const char *text; /* in the message */
    bool backward;
    void (*change)(ringx_args *a);
} misuse;

#define MISUSE(name, statement)                                                                                        \
    static void name(ringx_args *a)                                                                                    \
    {                                                                                                                  \
        statement;                                                                                                     \
    }

MISUSE(wrong_size, a->size = 12)
MISUSE(no_q, a->q.data = NULL)
MISUSE(no_v, a->v.data = NULL)
MISUSE(no_out, a->out.data = NULL)
MISUSE(odd_k, a->k.data = (char *)a->k.data + 2)
MISUSE(odd_lse, a->lse = (float *)(void *)((char *)a->lse + 1))
MISUSE(no_lse, a->lse = NULL)
MISUSE(negative_stride, (a->q.stride[0] = 9 * 48, a->q.stride[1] = -48, a->q.stride[2] = 8))
MISUSE(narrow_stride, (a->v.stride[0] = 9 * 24, a->v.stride[1] = 24, a->v.stride[2] = 7))
MISUSE(part_stride, a->k.stride[1] = 24) /* only one of three is given */
MISUSE(wide_stride, (a->k.stride[0] = INT64_MAX / 2, a->k.stride[1] = 24, a->k.stride[2] = 8))
MISUSE(wider_stride, (a->k.stride[0] = 9 * 24, a->k.stride[1] = INT64_MAX, a->k.stride[2] = 8))
MISUSE(in_place, a->out.data = a->q.data)
MISUSE(no_workspace, a->workspace = NULL)
MISUSE(small_workspace, a->workspace_bytes--)
MISUSE(odd_workspace, a->workspace = (char *)a->workspace + 64)
MISUSE(no_dout, a->dout.data = NULL)
MISUSE(no_dv, a->dv.data = NULL)
MISUSE(odd_dq, a->dq.data = (char *)a->dq.data + 1)
MISUSE(gradient_in_place, a->dk.data = a->k.data)
MISUSE(gradients_together, a->dk.data = a->dv.data)

static const misuse misuses[] = {
    {"args is NULL", false, NULL},
    {"args.size is 12; it must be sizeof(ringx_args)", false, wrong_size},
    {"q.data is NULL; it must point to 2 × ", false, no_q},
    {"v.data is NULL; it must point to 2 × ", false, no_v},
    {"out.data is NULL", false, no_out},
    {"k.data is 0x", false, odd_k},
    {"lse is 0x", false, odd_lse},
    {"lse is (nil)", false, no_lse},
    {"q.stride of token is -48", false, negative_stride},
    {"v.stride of head is 7 elements; it must be at least the 8 of a head", false, narrow_stride},
    {"k.stride of batch is 0", false, part_stride},
    {"k.stride of batch is 4611686018427387903 elements", false, wide_stride},
    {"k.stride of token is 9223372036854775807 elements", false, wider_stride},
    {"q.data and out.data are both 0x", false, in_place},
    {"workspace is (nil); it must be aligned to 128", false, no_workspace},
    {"; the plan needs ", false, small_workspace},
    {"workspace is 0x", false, odd_workspace},
    {"args is NULL", true, NULL},
    {"dout.data is NULL", true, no_dout},
    {"dv.data is NULL", true, no_dv},
    {"dq.data is 0x", true, odd_dq},
    {"k.data and dk.data are both 0x", true, gradient_in_place},
    {"dk.data and dv.data are both 0x", true, gradients_together},
};

static const misuse *misused;
static int misuser;

static ringx_status misuse_once(trial_rank *r)
{
    memory m;
    memory_create(&m, r->plan);
    const ringx_args *args = &m.args;
    ringx_status status = misused->backward ? ringx_forward(r->plan, args) : RINGX_OK;
    if (r->rank == misuser && misused->change)
        misused->change(&m.args);
    if (r->rank == misuser && !misused->change)
        args = NULL;
    if (status == RINGX_OK)
        status = misused->backward ? ringx_backward(r->plan, args) : ringx_forward(r->plan, args);
    memory_destroy(&m);
    return status;
}

static void wrong_arguments_of_one_rank_fail_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof misuses / sizeof *misuses; i++)
        for (int bad = 0; bad < RANKS; bad++) {
            char name[32];
            trial t;
            trial_start(&t, RANKS, i % 2 ? "ringX4o" : "ringX3");
            t.use = misuse_once;
            misused = &misuses[i];
            misuser = bad;
            trial_run(&t);
            snprintf(name, sizeof name, "rank %d failed: ", bad);
            for (int r = 0; r < RANKS; r++) {
                expect_rank(&t, r, r == bad ? RINGX_INVALID : RINGX_PEER_DIED, misuses[i].text);
                if (r != bad)
                    expect_rank(&t, r, RINGX_PEER_DIED, name);
            }
            trial_end(&t);
        }
}

static ringx_status backward_of_forward_only(trial_rank *r)
{
    memory m;
    memory_create(&m, r->plan);
    ringx_status status = ringx_forward(r->plan, &m.args);
    if (status == RINGX_OK && ringx_backward(r->plan, &m.args) != RINGX_INVALID)
        status = RINGX_INTERNAL;
    if (status == RINGX_OK && !strstr(ringx_last_error(), "forward_only"))
        status = RINGX_INTERNAL;
    if (status == RINGX_OK)
        status = ringx_forward(r->plan, &m.args); /* no harm was done */
    memory_destroy(&m);
    return status;
}

static void a_plan_for_forward_refuses_backward(void **state)
{
    (void)state;
    trial t;
    trial_start(&t, RANKS, "ringX4o");
    for (int r = 0; r < RANKS; r++)
        t.rank[r].own_options.forward_only = true;
    t.use = backward_of_forward_only;
    trial_run(&t);
    expect_all(&t, RINGX_OK, NULL);
    trial_end(&t);
}

/* ---- joining shards and drawing ---- */

typedef struct request { /* what one rank passes wrongly */
    int rank;
    ringx_status status; /* of all ranks */
    const char *text;
    int64_t outer;
    size_t width;
    int root;
    bool no_local, no_global, no_path, draw, no_timeline;
    const char *path;
} request;

static const request *asked;

static ringx_status ask(trial_rank *r)
{
    static char global[RANKS][25 * 4], local[RANKS][25 * 4];
    bool odd = r->rank == asked->rank;
    if (asked->draw) {
        memory m;
        memory_create(&m, r->plan);
        ringx_status status = ringx_forward(r->plan, &m.args);
        if (status == RINGX_OK)
            status = ringx_backward(r->plan, &m.args);
        if (status == RINGX_OK)
            status = ringx_plan_draw(r->plan, odd && asked->no_path ? NULL : asked->path);
        memory_destroy(&m);
        return status;
    }
    return ringx_unshard(r->plan, odd ? asked->outer : 1, odd ? asked->width : 4,
                         odd && asked->no_local ? NULL : local[r->rank],
                         odd && asked->no_global ? NULL : global[r->rank], odd ? asked->root : 0);
}

static void wrong_shards_of_one_rank_fail_all(void **state)
{
    (void)state;
    static const request requests[] = {
        {1, RINGX_INVALID, "rank 1: root is 3; it must be 0 … 2", .outer = 1, .width = 4, .root = 3},
        {2, RINGX_INVALID, "rank 2: root is -1", .outer = 1, .width = 4, .root = -1},
        {1, RINGX_INVALID, "rank 1: outer is -1", .outer = -1, .width = 4},
        {0, RINGX_INVALID, "rank 0: outer is 9223372036854775807", .outer = INT64_MAX, .width = 4},
        {2, RINGX_INVALID, "rank 2: local is NULL", .outer = 1, .width = 4, .no_local = true},
        {0, RINGX_INVALID, "rank 0: local is NULL", .outer = 1, .width = 4, .no_local = true},
        {0, RINGX_INVALID, "rank 0: global is NULL", .outer = 1, .width = 4, .no_global = true},
        {2, RINGX_MISMATCH, "root: rank 2 passed 1, rank 0 passed 0", .outer = 1, .width = 4, .root = 1},
        {1, RINGX_MISMATCH, "width: rank 1 passed 2, rank 0 passed 4", .outer = 1, .width = 2},
        {0, RINGX_MISMATCH, "outer: rank 0 passed 0, rank 1 passed 1", .outer = 0, .width = 4},
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        trial t;
        trial_start(&t, RANKS, "zigzag");
        t.use = ask;
        asked = &requests[i];
        trial_run(&t);
        expect_all(&t, asked->status, asked->text);
        trial_end(&t);
    }
    trial t; /* not the root: it needs no room for the whole */
    static const request fine = {1, RINGX_OK, NULL, .outer = 1, .width = 4, .no_global = true};
    trial_start(&t, RANKS, "zigzag");
    t.use = ask;
    asked = &fine;
    trial_run(&t);
    expect_all(&t, RINGX_OK, NULL);
    trial_end(&t);
}

static void drawings_that_fail_fail_on_all(void **state)
{
    (void)state;
    static const request requests[] = {
        {1, RINGX_INVALID, "rank 1: path is NULL", .draw = true, .no_path = true, .path = "x.svg"},
        {2, RINGX_INVALID, "rank 2: the plan was created without", .draw = true, .no_timeline = true, .path = "x.svg"},
        {0, RINGX_IO, "rank 0: ", .draw = true, .path = "/nonexistent/x.svg"},
        {0, RINGX_INVALID, ".svg", .draw = true, .path = "x.gif"},
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        trial t;
        trial_start(&t, RANKS, "zigzag");
        for (int r = 0; r < RANKS; r++)
            t.rank[r].own_options.timeline = !(requests[i].no_timeline && r == requests[i].rank);
        t.use = ask;
        asked = &requests[i];
        trial_run(&t);
        expect_all(&t, asked->status, asked->text);
        trial_end(&t);
    }
    assert_int_not_equal(remove("x.svg"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_difference_is_named),
                                       cmocka_unit_test(no_field_is_forgotten),
                                       cmocka_unit_test(ranks_may_choose_these_for_themselves),
                                       cmocka_unit_test(what_one_rank_passes_wrongly_fails_all),
                                       cmocka_unit_test(short_structs_are_not_read_beyond_their_end),
                                       cmocka_unit_test(null_arguments),
                                       cmocka_unit_test(of_several_wrong_ranks_the_lowest_is_named),
                                       cmocka_unit_test(a_rank_that_does_not_come_is_named),
                                       cmocka_unit_test(a_wrong_timeout_is_refused),
                                       cmocka_unit_test(wrong_arguments_of_one_rank_fail_all),
                                       cmocka_unit_test(a_plan_for_forward_refuses_backward),
                                       cmocka_unit_test(wrong_shards_of_one_rank_fail_all),
                                       cmocka_unit_test(drawings_that_fail_fail_on_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
