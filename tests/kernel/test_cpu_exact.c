/* SPDX-License-Identifier: MIT */
/* Bitwise promises of the CPU kernels: any number of threads, any cut of the heads, any split of the key slices over
 * calls; and nothing that lies in masked, padded or scratch memory reaches a result. */
#include "kernel/cpu_simd.h"
#include "kernel/kernel_run.h"

extern const ringx_kernel ringx__kernel_cpu_ref;

/* ---- images: all results of a case, to compare bit by bit
 * ------------------------------------------------------------ */

typedef struct image {
    unsigned char *bytes;
    size_t size;
} image;

enum { FORWARD = 1, STATE = 2, DQ = 4, DKV = 8 };

static void append(image *im, const tensor *t)
{
    im->bytes = realloc(im->bytes, im->size + t->bytes + 1);
    assert_non_null(im->bytes);
    FOR_EACH(t, b, i, h, e)
    {
        memcpy(im->bytes + im->size, tensor_at(t, b, i, h, e), t->element);
        im->size += t->element;
    }
}

static image take(const kernel_case *c, int what)
{
    image im = {0};
    for (size_t i = 0; i < c->queries; i++) {
        const query_part *p = &c->query[i];
        const tensor *all[] = {&p->out, &p->lse, &p->acc, &p->m, &p->l, &p->dq};
        int kind[] = {FORWARD, FORWARD, STATE, STATE, STATE, DQ};
        for (int j = 0; j < 6; j++)
            if (what & kind[j])
                append(&im, all[j]);
    }
    for (size_t i = 0; (what & DKV) && i < c->keys; i++) {
        append(&im, &c->key[i].dk);
        append(&im, &c->key[i].dv);
    }
    return im;
}

static void compare_and_free(uint64_t seed, const char *what, const image *before, image now)
{
    if (before->size != now.size || (now.size && memcmp(before->bytes, now.bytes, now.size) != 0))
        fail_msg("case %d: %s changes bits", (int)seed, what);
    free(now.bytes);
}

/* ---- the promises
 * --------------------------------------------------------------------------------------------------------- */

typedef struct variant {
    const char *what;
    run_how how;
} variant;

static void check_forward_bits(uint64_t seed, kernel_case *c, const ringx_kernel *kernel)
{
    static const variant variants[] = {
        {"a second run", {.threads = 1}},
        {"two threads", {.threads = 2}},
        {"three threads", {.threads = 3}},
        {"seven threads", {.threads = 7}},
        {"one kv head a job", {.threads = 1, .kv_heads = 1}},
        {"one query head a job", {.threads = 1, .q_heads = 1}},
        {"two query heads a job", {.threads = 1, .q_heads = 2}},
        {"one key slice a call", {.threads = 1, .keys = 1}},
        {"two key slices a call", {.threads = 3, .keys = 2, .kv_heads = 1}},
        {"leaving dead slices out", {.threads = 1, .drop_dead = true}},
        {"one live key slice a call", {.threads = 2, .keys = 1, .drop_dead = true}},
        {"finishing later", {.threads = 2, .finish_later = true}},
        {"finishing later, one slice a call", {.threads = 1, .keys = 1, .finish_later = true}},
    };
    run_forward(c, kernel, (run_how){.threads = 1});
    image first = take(c, FORWARD);
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        run_forward(c, kernel, variants[i].how);
        compare_and_free(seed, variants[i].what, &first, take(c, FORWARD));
    }
    free(first.bytes);
}

static void check_backward_bits(uint64_t seed, kernel_case *c, const ringx_kernel *kernel)
{
    static const variant whole[] = {
        {"a second run", {.threads = 1}},
        {"two threads", {.threads = 2}},
        {"three threads", {.threads = 3}},
        {"seven threads", {.threads = 7}},
        {"one kv head a job", {.threads = 2, .kv_heads = 1}},
        {"two kv heads a job", {.threads = 1, .kv_heads = 2}},
    };
    static const variant parts[] = {
        {"one query head a job", {.threads = 1, .q_heads = 1}},
        {"two query heads a job", {.threads = 2, .q_heads = 2}},
    };
    run_backward(c, kernel, (run_how){.threads = 1});
    image first = take(c, DQ | DKV), first_dq = take(c, DQ);
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        run_backward(c, kernel, whole[i].how);
        compare_and_free(seed, whole[i].what, &first, take(c, DQ | DKV));
    }
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) { /* groups come apart: dk, dv are sums of parts */
        run_backward(c, kernel, parts[i].how);
        compare_and_free(seed, parts[i].what, &first_dq, take(c, DQ));
    }
    free(first.bytes);
    free(first_dq.bytes);
}

/* NaN where nobody looks: keys that no query sees, queries that see no key. */
static void poison_unseen(kernel_case *c)
{
    for (size_t ik = 0; ik < c->keys; ik++) {
        const key_part *p = &c->key[ik];
        for (int64_t j = 0; j < p->run.count; j++)
            for (int64_t b = 0; !key_seen(c, ik, j) && b < c->shape.batch; b++)
                for (int64_t h = 0; h < c->shape.kv_heads; h++) {
                    memset(tensor_at(&p->k, b, j, h, 0), POISON, (size_t)p->k.dim * p->k.element);
                    memset(tensor_at(&p->v, b, j, h, 0), POISON, (size_t)p->v.dim * p->v.element);
                }
    }
    for (size_t iq = 0; iq < c->queries; iq++) {
        const query_part *p = &c->query[iq];
        for (int64_t i = 0; i < p->run.count; i++)
            for (int64_t b = 0; !query_sees(c, iq, i) && b < c->shape.batch; b++)
                for (int64_t h = 0; h < c->shape.q_heads; h++) {
                    memset(tensor_at(&p->q, b, i, h, 0), POISON, (size_t)p->q.dim * p->q.element);
                    memset(tensor_at(&p->dout, b, i, h, 0), POISON, (size_t)p->dout.dim * p->dout.element);
                    memset(tensor_at(&p->delta, b, i, h, 0), POISON, sizeof(float));
                }
    }
}

static void check_poison(uint64_t seed, kernel_case *c, const ringx_kernel *kernel)
{
    run_forward(c, kernel, (run_how){.threads = 2});
    run_backward(c, kernel, (run_how){.threads = 2});
    image before = take(c, FORWARD | DQ | DKV);
    poison_unseen(c);
    run_forward(c, kernel, (run_how){.threads = 2});
    run_backward(c, kernel, (run_how){.threads = 2});
    compare_and_free(seed, "poison in unseen keys and queries", &before, take(c, FORWARD | DQ | DKV));
    free(before.bytes);
}

/* Any numbers will do where only bits are compared. */
static void fill_delta(kernel_case *c)
{
    for (size_t i = 0; i < c->queries; i++)
        tensor_fill(&c->dice, &c->query[i].delta);
}

static void check_case(uint64_t seed, kernel_size size)
{
    for (size_t i = 0; i == 0 || ringx__simd_at(i - 1); i++) {
        const ringx_kernel *kernel = i == 0 ? &ringx__kernel_cpu_ref : &ringx__simd_at(i - 1)->kernel;
        if (!kernel->available() || (kernel == &ringx__kernel_cpu_ref && size.tokens > 100))
            continue;
        kernel_case c;
        case_create(&c, seed, size);
        fill_delta(&c);
        check_forward_bits(seed, &c, kernel);
        check_backward_bits(seed, &c, kernel);
        check_poison(seed, &c, kernel);
        case_destroy(&c);
    }
}

static void small_cases(void **unused)
{
    (void)unused;
    for (uint64_t seed = 5000; seed < 5060; seed++)
        check_case(seed, (kernel_size){.tokens = 60, .dim = 24, .heads = 3});
}

static void long_cases(void **unused)
{
    (void)unused;
    for (uint64_t seed = 6000; seed < 6005; seed++)
        check_case(seed, (kernel_size){.tokens = 900, .dim = 12, .heads = 2});
}

/* Queries whose lse is -inf have no gradients, whatever they see. */
static void rows_without_lse(void **unused)
{
    (void)unused;
    for (uint64_t seed = 8000; seed < 8020; seed++)
        for (size_t i = 0; i == 0 || ringx__simd_at(i - 1); i++) {
            const ringx_kernel *kernel = i == 0 ? &ringx__kernel_cpu_ref : &ringx__simd_at(i - 1)->kernel;
            if (!kernel->available())
                continue;
            kernel_case c;
            case_create(&c, seed, (kernel_size){.tokens = 50, .dim = 20, .heads = 2});
            fill_delta(&c);
            for (size_t iq = 0; iq < c.queries; iq++)
                FOR_EACH(&c.query[iq].lse, b, t, h, e)
                {
                    tensor_put(&c.query[iq].lse, b, t, h, e, -INFINITY);
                }
            start_gradients(&c);
            image before = take(&c, DQ | DKV);
            run_backward(&c, kernel, (run_how){.threads = 1});
            compare_and_free(seed, "a row without lse", &before, take(&c, DQ | DKV));
            free(before.bytes);
            case_destroy(&c);
        }
}

/* Windows that begin anywhere in a block of keys: where a block begins must not depend on who shares a panel. */
static void windows_over_blocks(void **unused)
{
    (void)unused;
    for (size_t i = 0; ringx__simd_at(i); i++) {
        const ringx_kernel *kernel = &ringx__simd_at(i)->kernel;
        if (!kernel->available())
            continue;
        kernel_case c = {.dice = {i}, .queries = 2, .keys = 3};
        c.problem = (ringx_problem){.size = sizeof c.problem,
                                    .batch = 1,
                                    .tokens = 1400,
                                    .q_heads = 4,
                                    .kv_heads = 2,
                                    .head_dim = 10,
                                    .window_left = 333,
                                    .window_right = 77};
        assert_int_equal(ringx__shape_create(&c.shape, &c.problem), RINGX_OK);
        c.query[0].run = (ringx_run){700, 0, 1};
        c.query[1].run = (ringx_run){233, 700, 3};
        c.key[0].run = (ringx_run){500, 1, 2};
        c.key[1].run = (ringx_run){500, 0, 2};
        c.key[2].run = (ringx_run){400, 1000, 1};
        case_allocate(&c);
        fill_delta(&c);
        check_forward_bits(i, &c, kernel);
        check_backward_bits(i, &c, kernel);
        case_destroy(&c);
    }
}

/* ---- one NaN or infinity
 * -------------------------------------------------------------------------------------------------- */

typedef struct place_of { /* an element that is made bad */
    bool query;           /* of a query slice, else of a key slice */
    size_t slice;
    int64_t i, b, head;
} place_of;

static bool finite_row(const tensor *t, int64_t b, int64_t i, int64_t h)
{
    for (int64_t e = 0; e < t->dim; e++)
        if (!isfinite(tensor_get(t, b, i, h, e)))
            return false;
    return true;
}

/* Does the result row of that query (key) depend on the bad element?  With lse and delta given, a key's badness reaches
 * the gradients of that key and of the queries that see it, and the other way round. */
static bool depends(const kernel_case *c, const place_of *bad, const place_of *row)
{
    int64_t group = c->shape.group;
    if (bad->b != row->b)
        return false;
    if (bad->query == row->query)
        return bad->slice == row->slice && bad->i == row->i && bad->head == row->head;
    const place_of *q = bad->query ? bad : row, *k = bad->query ? row : bad;
    return q->head / group == k->head && pair_visible(c, q->slice, q->i, k->slice, k->i);
}

/* Rows that do not depend on the bad element have kept their bits; must_spoil: those that do are not finite. */
static void check_rows(const kernel_case *c, const tensor *t, const unsigned char *before, const place_of *bad,
                       place_of row, bool must_spoil)
{
    for (row.b = 0; row.b < t->batch; row.b++)
        for (row.i = 0; row.i < t->tokens; row.i++)
            for (row.head = 0; row.head < t->heads; row.head++) {
                const unsigned char *at = tensor_at(t, row.b, row.i, row.head, 0);
                if (!depends(c, bad, &row))
                    assert_memory_equal(at, before + (at - t->memory), (size_t)t->dim * t->element);
                else if (must_spoil)
                    assert_false(finite_row(t, row.b, row.i, row.head));
            }
}

typedef enum victim { BAD_K, BAD_V, BAD_Q, BAD_DOUT } victim;

static void run_both(kernel_case *c, const ringx_kernel *kernel, const tensor *damaged, place_of at, int64_t e,
                     double bad)
{
    run_forward(c, kernel, (run_how){.threads = 2}); /* lse as it would be without the bad element */
    if (damaged)
        tensor_put(damaged, at.b, at.i, at.head, e, bad);
    run_backward(c, kernel, (run_how){.threads = 2});
    if (damaged)
        run_forward(c, kernel, (run_how){.threads = 2});
}

static void check_spread(kernel_case *c, const ringx_kernel *kernel, victim who, double bad)
{
    dice *d = &c->dice;
    place_of at = {.query = who >= BAD_Q, .b = pick(d, 0, c->shape.batch - 1)};
    at.slice = (size_t)pick(d, 0, (int64_t)(at.query ? c->queries : c->keys) - 1);
    const query_part *qp = &c->query[at.query ? at.slice : 0];
    const key_part *kp = &c->key[at.query ? 0 : at.slice];
    const tensor *t = who == BAD_K ? &kp->k : who == BAD_V ? &kp->v : who == BAD_Q ? &qp->q : &qp->dout;
    if (t->tokens == 0)
        return;
    at.i = pick(d, 0, t->tokens - 1);
    at.head = pick(d, 0, t->heads - 1);
    int64_t e = pick(d, 0, t->dim - 1);
    double old = tensor_get(t, at.b, at.i, at.head, e);

    run_both(c, kernel, NULL, at, e, bad);
    const tensor *result[4 * MAX_SLICES];
    unsigned char *before[4 * MAX_SLICES];
    size_t n = 0;
    for (size_t i = 0; i < c->queries; i++) {
        result[n++] = &c->query[i].out;
        result[n++] = &c->query[i].dq;
    }
    for (size_t i = 0; i < c->keys; i++) {
        result[n++] = &c->key[i].dk;
        result[n++] = &c->key[i].dv;
    }
    for (size_t i = 0; i < n; i++) {
        before[i] = malloc(result[i]->bytes);
        assert_non_null(before[i]);
        memcpy(before[i], result[i]->memory, result[i]->bytes);
    }
    run_both(c, kernel, t, at, e, bad);
    bool heard = !at.query || query_sees(c, at.slice, at.i);
    for (size_t i = 0; i < n; i++) {
        place_of row = {.query = i < 2 * c->queries, .slice = i < 2 * c->queries ? i / 2 : i / 2 - c->queries};
        bool dv = !row.query && i % 2, out = row.query && i % 2 == 0;
        bool must_spoil = heard && isnan(bad) && !(out && who == BAD_DOUT) && !dv && (row.query || at.query);
        check_rows(c, result[i], before[i], &at, row, must_spoil);
        free(before[i]);
    }
    tensor_put(t, at.b, at.i, at.head, e, old);
}

static void one_bad_number(void **unused)
{
    (void)unused;
    for (uint64_t seed = 7000; seed < 7040; seed++)
        for (size_t i = 0; ringx__simd_at(i); i++) {
            const ringx_kernel *kernel = &ringx__simd_at(i)->kernel;
            if (!kernel->available())
                continue;
            kernel_case c;
            case_create(&c, seed, (kernel_size){.tokens = 90, .dim = 24, .heads = 2});
            c.shape.dropout = 0; /* a dropped weight would hide the number */
            fill_delta(&c);
            for (victim who = BAD_K; who <= BAD_DOUT; who++) {
                check_spread(&c, kernel, who, NAN);
                check_spread(&c, kernel, who, INFINITY);
                check_spread(&c, kernel, who, -INFINITY);
            }
            case_destroy(&c);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_cases),      cmocka_unit_test(long_cases),     cmocka_unit_test(windows_over_blocks),
        cmocka_unit_test(rows_without_lse), cmocka_unit_test(one_bad_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
