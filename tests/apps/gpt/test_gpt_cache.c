/* SPDX-License-Identifier: MIT */
/* Generation: with the cache, sharded over ranks, the same tokens as one rank without it; sampling as it says. */
#include "gpt/cache.h"
#include "llama_case.h"

#include <omp.h>
#include <pthread.h>

enum { MOST_RANKS = 4, NEW = 12, WORDS = 384, MOST_TOKENS = 64 };

/* ---- greedy ---- */

typedef struct text {
    int32_t ids[MOST_TOKENS];
    int64_t count;
} text;

static int32_t best_of(const float *logits)
{
    int32_t id = -1;
    random_stream unused = {0};
    good(gpt_sample(logits, WORDS, &(gpt_sampling){0}, &unused, &id));
    return id;
}

/* The whole text through the model for each new token; logits of the last step. */
static text without_cache(int64_t prompt, const int32_t *ids, float *logits)
{
    text t = {.count = prompt};
    gpt_model *m = llama_create(RINGX_F32, (gpt_groups){0});
    const int32_t targets[MOST_TOKENS] = {0};
    double nll;
    memcpy(t.ids, ids, (size_t)prompt * sizeof *ids);
    while (t.count < prompt + NEW) {
        gpt_run run = {.batch = 1, .tokens = t.count, .forward_only = true};
        good(gpt_model_prepare(m, &run));
        good(gpt_model_loss(m, &(gpt_batch){t.ids, targets, NULL}, &nll));
        good(gpt_model_logits(m, t.count - 1, 1, logits));
        t.ids[t.count++] = best_of(logits);
    }
    gpt_model_destroy(m);
    return t;
}

typedef struct member {
    group *world;
    int tensor, context, code;
    int64_t prompt;
    const int32_t *ids;
    text t;
    float logits[WORDS];
    char message[MESSAGE_BYTES];
} member;

static int generate(member *r, gpt_model *m)
{
    gpt_cache *c;
    r->t.count = r->prompt;
    memcpy(r->t.ids, r->ids, (size_t)r->prompt * sizeof *r->ids);
    int code = gpt_cache_create(&c, m, r->ids, r->prompt, NEW - 1);
    while (!code) {
        r->t.ids[r->t.count++] = best_of(gpt_cache_logits(c));
        if (r->t.count == r->prompt + NEW)
            break;
        code = gpt_cache_append(c, r->t.ids[r->t.count - 1]);
    }
    if (code)
        return code;
    memcpy(r->logits, gpt_cache_logits(c), sizeof r->logits);
    if (gpt_cache_tokens(c) != r->prompt + NEW - 1)
        code = (fail)(CODE_WRONG, "%lld tokens", (long long)gpt_cache_tokens(c));
    if (gpt_cache_append(c, 0) == CODE_GOOD) /* full */
        code = (fail)(CODE_WRONG, "a full cache took a token");
    gpt_cache_destroy(c);
    return code;
}

static void *one_rank(void *argument)
{
    member *r = argument;
    parallel p;
    omp_set_num_threads(1);
    r->code = parallel_create(&p, r->world, (int[AXES]){r->tensor, r->context, 1}, NULL);
    if (!r->code) {
        gpt_model *m = llama_create(RINGX_F32, (gpt_groups){p.tensor, p.context});
        r->code = generate(r, m);
        failure_copy(r->message);
        gpt_model_destroy(m);
        parallel_destroy(&p);
    }
    return NULL;
}

static void compare(const member *r, const text *right, const float *logits)
{
    if (r->code)
        fail_msg("tensor %d × context %d: %s", r->tensor, r->context, r->message);
    assert_int_equal(r->t.count, right->count);
    for (int64_t i = 0; i < right->count; i++)
        if (r->t.ids[i] != right->ids[i])
            fail_msg("tensor %d × context %d, prompt %lld: token %lld is %d; it must be %d", r->tensor, r->context,
                     (long long)r->prompt, (long long)i, r->t.ids[i], right->ids[i]);
    for (int i = 0; i < WORDS; i++)
        assert_true(fabsf(r->logits[i] - logits[i]) <= 1e-4f);
}

static void sharded_cache_gives_the_same_tokens(void **state)
{
    (void)state;
    static const int layouts[][2] = {{1, 1}, {1, 2}, {1, 3}, {2, 1}, {2, 2}};
    static const int64_t prompts[] = {1, 2, 41};
    static member members[MOST_RANKS];
    llama_batch b = llama_batch_read();
    for (size_t p = 0; p < 3; p++) {
        float logits[WORDS];
        text right = without_cache(prompts[p], b.ids, logits);
        for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
            int ranks = layouts[i][0] * layouts[i][1];
            group *groups[MOST_RANKS];
            pthread_t threads[MOST_RANKS];
            good(group_threads(ranks, groups));
            for (int r = 0; r < ranks; r++) {
                members[r] = (member){
                    .world = groups[r], .tensor = layouts[i][0], .context = layouts[i][1], .prompt = prompts[p]};
                members[r].ids = b.ids, members[r].code = -1;
                assert_int_equal(pthread_create(&threads[r], NULL, one_rank, &members[r]), 0);
            }
            for (int r = 0; r < ranks; r++)
                pthread_join(threads[r], NULL);
            for (int r = 0; r < ranks; r++) {
                group_destroy(groups[r]);
                compare(&members[r], &right, logits);
            }
        }
    }
    llama_batch_free(&b);
}

static void empty_prompt_is_refused(void **state)
{
    (void)state;
    gpt_cache *c;
    gpt_model *m = llama_create(RINGX_F32, (gpt_groups){0});
    assert_int_equal(gpt_cache_create(&c, m, NULL, 0, 3), CODE_USAGE);
    assert_null(c);
    gpt_model_destroy(m);
}

/* ---- sampling ---- */

enum { CHOICES = 6, DRAWS = 20000 };
static const float some_logits[CHOICES] = {0.5f, 2, -1, 1.5f, 2, 0};

/* Pearson's statistic of draws against probabilities; ids without probability must never come. */
static double chi_square(const gpt_sampling *how, const double *probability)
{
    static uint64_t key = 7;
    random_stream random = {key++, 0};
    double counts[CHOICES] = {0}, sum = 0;
    for (int i = 0; i < DRAWS; i++) {
        int32_t id = -1;
        good(gpt_sample(some_logits, CHOICES, how, &random, &id));
        assert_in_range(id, 0, CHOICES - 1);
        counts[id]++;
    }
    for (int i = 0; i < CHOICES; i++) {
        double expected = DRAWS * probability[i];
        if (expected <= 0)
            assert_true(counts[i] == 0);
        else
            sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    return sum;
}

static void probabilities(double temperature, const bool *allowed, double *p)
{
    double sum = 0;
    for (int i = 0; i < CHOICES; i++)
        sum += p[i] = allowed[i] ? exp((double)some_logits[i] / temperature) : 0;
    for (int i = 0; i < CHOICES; i++)
        p[i] /= sum;
}

static void distributions(void **state)
{
    (void)state;
    static const struct {
        gpt_sampling how;
        bool allowed[CHOICES];
    } cases[] = {
        {{1, 0, 0}, {1, 1, 1, 1, 1, 1}},   {{0.7, 0, 1}, {1, 1, 1, 1, 1, 1}},   {{1, 3, 0}, {0, 1, 0, 1, 1, 0}},
        {{2, 1, 0}, {0, 1, 0, 0, 0, 0}},   {{1, 0, 0.6}, {0, 1, 0, 0, 1, 0}}, /* 0.34 + 0.34 */
        {{1, 0, 0.7}, {0, 1, 0, 1, 1, 0}}, {{1, 99, 1e-9}, {0, 1, 0, 0, 0, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double p[CHOICES], statistic;
        probabilities(cases[i].how.temperature, cases[i].allowed, p);
        statistic = chi_square(&cases[i].how, p);
        if (!(statistic < 30)) /* 5 degrees: one in 70,000 */
            fail_msg("case %zu: chi-square is %g", i, statistic);
    }
}

static void greedy_and_damaged(void **state)
{
    (void)state;
    random_stream random = {1, 0};
    int32_t id = -1;
    float logits[CHOICES];
    good(gpt_sample(some_logits, CHOICES, &(gpt_sampling){0}, &random, &id));
    assert_int_equal(id, 1); /* of two equal ones the lower */
    memcpy(logits, some_logits, sizeof logits);
    logits[3] = NAN;
    assert_int_equal(gpt_sample(logits, CHOICES, &(gpt_sampling){1, 0, 0}, &random, &id), CODE_WRONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sharded_cache_gives_the_same_tokens),
                                       cmocka_unit_test(empty_prompt_is_refused), cmocka_unit_test(distributions),
                                       cmocka_unit_test(greedy_and_damaged)};
    return cmocka_run_group_tests_name("gpt_cache", tests, NULL, NULL);
}
