/* SPDX-License-Identifier: MIT */
/* Chunked cross-entropy against a naive one in double and finite differences; chunks, threads, split vocabularies. */
#include "nn_case.h"

#include <omp.h>
#include <pthread.h>

typedef struct loss_case {
    int64_t tokens, width, vocabulary;
    double scale;
    matrix hidden, weight;
    int32_t *targets;
    float *mask;
} loss_case;

static double reference_nll(const loss_case *c, int64_t t)
{
    double sum = 0, target = 0, most = -INFINITY, *z = malloc((size_t)c->vocabulary * sizeof *z);
    for (int64_t v = 0; v < c->vocabulary; v++) {
        z[v] = 0;
        for (int64_t i = 0; i < c->width; i++)
            z[v] += c->hidden.exact[t * c->width + i] * c->weight.exact[v * c->width + i];
        most = fmax(most, z[v]);
    }
    for (int64_t v = 0; v < c->vocabulary; v++) {
        sum += exp(z[v] - most);
        target += v == c->targets[t] ? z[v] : 0;
    }
    free(z);
    return c->mask[t] != 0 ? (double)c->mask[t] * (log(sum) + most - target) : 0;
}

static double objective(const void *args)
{
    const loss_case *c = args;
    double sum = 0;
    for (int64_t t = 0; t < c->tokens; t++)
        sum += reference_nll(c, t);
    return c->scale * sum;
}

static loss_case create(int64_t tokens, int64_t width, int64_t vocabulary, ringx_dtype dtype)
{
    loss_case c = {.tokens = tokens, .width = width, .vocabulary = vocabulary, .scale = 0.37};
    c.hidden = matrix_random(tokens, width, dtype, 1);
    c.weight = matrix_random(vocabulary, width, dtype, 1);
    c.targets = malloc((size_t)(tokens + 1) * sizeof *c.targets);
    c.mask = malloc((size_t)(tokens + 1) * sizeof *c.mask);
    random_stream stream = {fresh_key(), 0};
    for (int64_t t = 0; t < tokens; t++) {
        c.targets[t] = (int32_t)random_below(&stream, (uint64_t)vocabulary);
        c.mask[t] = t % 5 == 3 ? 0 : t % 7 == 2 ? 0.25f : 1;
        if (c.mask[t] == 0)
            c.targets[t] = -100; /* not looked at */
    }
    return c;
}

static void destroy(loss_case *c)
{
    matrix_free(&c->hidden), matrix_free(&c->weight);
    free(c->targets), free(c->mask);
}

typedef struct result {
    matrix nll, dhidden, dweight;
    double sum;
} result;

/* The loss with rows first … first+count-1 of the weight. */
static result run(const loss_case *c, int64_t first, int64_t count, int64_t chunk, const nn_reduce *reduce)
{
    result r = {matrix_poisoned(1, c->tokens, RINGX_F32, 0),
                matrix_poisoned(c->tokens, c->width, c->hidden.array.dtype, 1), matrix_accumulator(count, c->width),
                NAN};
    memset(r.dweight.array.data, 0, r.dweight.bytes);
    nn_loss l = {.tokens = c->tokens, .width = c->width, .first = first, .count = count, .chunk = chunk};
    l.hidden = c->hidden.array, l.weight = c->weight.array, l.dhidden = r.dhidden.array;
    l.weight.data = (char *)l.weight.data + (size_t)(first * l.weight.stride) * dtype_bytes(l.weight.dtype);
    l.targets = c->targets, l.mask = c->mask, l.scale = c->scale;
    l.token_nll = r.nll.array.data, l.nll = &r.sum, l.dweight = r.dweight.array.data, l.reduce = reduce;
    size_t bytes = nn_loss_workspace(&l);
    l.workspace = malloc(bytes + 1);
    poison(l.workspace, bytes);
    if (cpu.ops->loss(&cpu, &l))
        r.sum = NAN; /* in a thread: the comparison says so */
    free(l.workspace);
    return r;
}

static void result_free(result *r)
{
    matrix_free(&r->nll), matrix_free(&r->dhidden), matrix_free(&r->dweight);
}

static void sizes_and_dtypes(void **state)
{
    (void)state;
    const int64_t sizes[][3] = {{0, 3, 5}, {1, 1, 1}, {3, 7, 2}, {7, 5, 129}, {131, 3, 17}, {260, 9, 31}};
    for (size_t i = 0; i < 3 * sizeof sizes / sizeof sizes[0]; i++) {
        ringx_dtype dtype = (ringx_dtype)(i % 3);
        const int64_t *size = sizes[i / 3];
        loss_case c = create(size[0], size[1], size[2], dtype);
        result r = run(&c, 0, c.vocabulary, 50, NULL);
        for (int64_t t = 0; t < c.tokens; t++)
            assert_near(value_at(&r.nll, t), reference_nll(&c, t), 2e-5, "nll", t);
        assert_near(r.sum * c.scale, objective(&c), 1e-5 * (1 + objective(&c)), "sum", 0);
        difference hidden = {objective, &c, c.hidden.exact, c.tokens * c.width};
        difference weight = {objective, &c, c.weight.exact, c.vocabulary * c.width};
        assert_gradient(&hidden, &r.dhidden, NULL, tolerance_of(dtype), "dhidden");
        assert_gradient(&weight, &r.dweight, NULL, 2e-5 * sqrt((double)c.tokens + 1), "dweight");
        result_free(&r), destroy(&c);
    }
}

static void threads_and_chunks_change_no_bit(void **state)
{
    (void)state;
    loss_case c = create(3 * NN_TILE + 5, 19, 200, RINGX_F32);
    result whole = run(&c, 0, c.vocabulary, c.tokens, NULL);
    const int64_t chunks[] = {1, NN_TILE + 1, 1 << 20};
    for (int i = 0; i < 3; i++) {
        omp_set_num_threads(1 + i);
        result r = run(&c, 0, c.vocabulary, chunks[i], NULL);
        assert_same_bits(&r.sum, &whole.sum, sizeof r.sum);
        assert_same_bits(r.nll.array.data, whole.nll.array.data, r.nll.bytes);
        assert_same_bits(r.dhidden.array.data, whole.dhidden.array.data, r.dhidden.bytes);
        assert_same_bits(r.dweight.array.data, whole.dweight.array.data, r.dweight.bytes);
        result_free(&r);
    }
    omp_set_num_threads(2);
    result_free(&whole), destroy(&c);
}

/* Logits are not held: the workspace does not grow with the tokens. */
static void workspace_is_of_a_chunk(void **state)
{
    (void)state;
    nn_loss l = {.tokens = 1 << 20, .count = 128256, .chunk = 1024};
    size_t million = nn_loss_workspace(&l);
    l.tokens = 1 << 11;
    assert_int_equal(nn_loss_workspace(&l), million);
    assert_in_range(million, 1024 * 128256 * sizeof(float), 1024 * 128300 * sizeof(float));
    l.tokens = 0;
    assert_int_equal(nn_loss_workspace(&l), 0);
}

static void large_logits_and_nan(void **state)
{
    (void)state;
    loss_case c = create(3, 4, 6, RINGX_F32);
    for (int64_t i = 0; i < 8; i++) {
        ((float *)c.hidden.array.data)[place_in(&c.hidden, i / 4, i % 4)] *= 1e4f;
        c.hidden.exact[i] = value_at(&c.hidden, i);
    }
    result r = run(&c, 0, 6, 1, NULL);
    for (int64_t t = 0; t < 3; t++)
        assert_near(value_at(&r.nll, t), reference_nll(&c, t), 1e-6 * (1e4 + reference_nll(&c, t)), "nll", t);
    result_free(&r);
    ((float *)c.hidden.array.data)[place_in(&c.hidden, 1, 2)] = NAN;
    r = run(&c, 0, 6, 1, NULL);
    assert_true(isnan(r.sum));
    assert_true(value_at(&r.nll, 0) >= 0);
    result_free(&r), destroy(&c);
}

/* ---- vocabulary over ranks: threads that meet ---- */

enum { RANKS = 3, MOST_VALUES = 1 << 12 };

typedef struct meeting {
    pthread_barrier_t barrier;
    float values[RANKS][MOST_VALUES];
} meeting;

typedef struct member {
    meeting *place;
    int rank;
    const loss_case *c;
    int64_t first, count;
    result result;
} member;

static int meet(member *m, float *values, size_t count, bool sum)
{
    if (count > MOST_VALUES)
        return 70;
    memcpy(m->place->values[m->rank], values, count * sizeof *values);
    pthread_barrier_wait(&m->place->barrier);
    for (size_t i = 0; i < count; i++) {
        values[i] = m->place->values[0][i];
        for (int r = 1; r < RANKS; r++) {
            float other = m->place->values[r][i];
            values[i] = sum ? values[i] + other : fmaxf(values[i], other);
        }
    }
    pthread_barrier_wait(&m->place->barrier);
    return 0;
}

static int meet_sum(void *m, float *values, size_t count)
{
    return meet(m, values, count, true);
}

static int meet_max(void *m, float *values, size_t count)
{
    return meet(m, values, count, false);
}

static void *one_rank(void *argument)
{
    member *m = argument;
    omp_set_num_threads(1);
    m->result = run(m->c, m->first, m->count, 1, &(nn_reduce){meet_max, meet_sum, m});
    return NULL;
}

static void vocabulary_over_ranks(void **state)
{
    (void)state;
    const int64_t bounds[][RANKS + 1] = {{0, 20, 40, 61}, {0, 1, 1, 61}, {0, 60, 61, 61}}; /* also empty ranges */
    loss_case c = create(150, 7, 61, RINGX_F32);
    result whole = run(&c, 0, 61, 150, NULL);
    static meeting place;
    pthread_barrier_init(&place.barrier, NULL, RANKS);
    for (int i = 0; i < 3; i++) {
        member members[RANKS];
        pthread_t threads[RANKS];
        for (int r = 0; r < RANKS; r++) {
            members[r] = (member){&place, r, &c, bounds[i][r], bounds[i][r + 1] - bounds[i][r], {.sum = NAN}};
            assert_int_equal(pthread_create(&threads[r], NULL, one_rank, &members[r]), 0);
        }
        for (int r = 0; r < RANKS; r++)
            pthread_join(threads[r], NULL);
        for (int64_t t = 0; t < c.tokens * c.width; t++) {
            double sum = 0;
            for (int r = 0; r < RANKS; r++)
                sum += value_at(&members[r].result.dhidden, t);
            assert_near(sum, value_at(&whole.dhidden, t), 2e-6, "dhidden", t);
        }
        for (int r = 0; r < RANKS; r++) {
            assert_near(members[r].result.sum, whole.sum, 1e-5 * whole.sum, "nll", r);
            for (int64_t j = 0; j < members[r].count * c.width; j++)
                assert_near(value_at(&members[r].result.dweight, j),
                            value_at(&whole.dweight, bounds[i][r] * c.width + j), 2e-5, "dweight", j);
            result_free(&members[r].result);
        }
    }
    pthread_barrier_destroy(&place.barrier);
    result_free(&whole), destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes_and_dtypes),
                                       cmocka_unit_test(threads_and_chunks_change_no_bit),
                                       cmocka_unit_test(workspace_is_of_a_chunk),
                                       cmocka_unit_test(large_logits_and_nan), cmocka_unit_test(vocabulary_over_ranks)};
    return cmocka_run_group_tests_name("nn_loss", tests, NULL, NULL);
}
