/* SPDX-License-Identifier: MIT */
/* Shards and whole tensors: what is cut by position comes together again, for every layout, root and width. */
#include "api/plan_trial.h"

typedef struct whole {
    int64_t tokens, outer;
    size_t width;
    int root;
    unsigned char *global, *joined;
    unsigned char *held; /* [tokens]: how many ranks hold each */
    pthread_mutex_t mutex;
} whole;

static unsigned char byte_at(int64_t outer, int64_t token, size_t i)
{
    return (unsigned char)((uint64_t)outer * 131 + (uint64_t)token * 7 + i * 29 + (uint64_t)(token >> 8));
}

static bool shard_is_right(const whole *w, const int64_t *position, int64_t n, const unsigned char *local)
{
    for (int64_t o = 0; o < w->outer; o++)
        for (int64_t t = 0; t < n; t++)
            for (size_t i = 0; i < w->width; i++)
                if (*local++ != byte_at(o, position[t], i))
                    return false;
    return true;
}

static ringx_status cut_and_join(trial_rank *r)
{
    whole *w = r->trial->context;
    int64_t n = ringx_plan_local_tokens(r->plan), *position = malloc((size_t)(n + 1) * sizeof *position);
    unsigned char *local = malloc((size_t)(w->outer * n) * w->width + 1);
    ringx_plan_info info;
    position[n] = -2;
    local[(size_t)(w->outer * n) * w->width] = 0xA5;
    ringx_plan_positions(r->plan, position);
    ringx_plan_describe(r->plan, &info);
    ringx_shard(r->plan, w->outer, w->width, w->global, local);
    bool right = shard_is_right(w, position, n, local) && position[n] == -2 && info.local_tokens == n &&
                 local[(size_t)(w->outer * n) * w->width] == 0xA5 && info.rank == r->rank &&
                 info.ranks == r->trial->ranks;
    for (int64_t t = 0; t < n; t++) {
        right = right && position[t] >= 0 && position[t] < w->tokens && (t == 0 || position[t] > position[t - 1]);
        pthread_mutex_lock(&w->mutex);
        w->held[position[t]]++;
        pthread_mutex_unlock(&w->mutex);
    }
    ringx_status status =
        ringx_unshard(r->plan, w->outer, w->width, local, r->rank == w->root ? w->joined : NULL, w->root);
    free(local);
    free(position);
    return status == RINGX_OK && !right ? RINGX_INTERNAL : status;
}

static void check(const char *preset, int64_t tokens, int ranks, int64_t outer, size_t width, int root)
{
    size_t bytes = (size_t)(outer * tokens) * width;
    whole w = {tokens,
               outer,
               width,
               root,
               malloc(bytes + 1),
               malloc(bytes + 1),
               calloc((size_t)tokens + 1, 1),
               PTHREAD_MUTEX_INITIALIZER};
    trial t;
    trial_start(&t, ranks, preset);
    for (int r = 0; r < ranks; r++)
        t.rank[r].own_problem.tokens = tokens;
    for (size_t i = 0; i < bytes; i++)
        w.global[i] = byte_at((int64_t)(i / width) / tokens, (int64_t)(i / width) % tokens, i % width);
    memset(w.joined, 0, bytes + 1);
    t.use = cut_and_join;
    t.context = &w;
    trial_run(&t);
    expect_all(&t, RINGX_OK, NULL);
    assert_memory_equal(w.joined, w.global, bytes);
    for (int64_t i = 0; i < tokens; i++)
        assert_int_equal(w.held[i], 1);
    trial_end(&t);
    free(w.global);
    free(w.joined);
    free(w.held);
}

static void shards_join_again(void **state)
{
    (void)state;
    static const char *const presets[] = {"ring", "zigzag", "stripe"}; /* the three layouts */
    static const int64_t tokens[] = {0, 1, 2, 3, 7, 16, 63};
    for (int p = 0; p < 3; p++)
        for (int i = 0; i < 7; i++)
            for (int ranks = 1; ranks <= 5; ranks++)
                check(presets[p], tokens[i], ranks, 1 + i % 3, (size_t[]){4, 1, 6, 128}[i % 4], (i + p) % ranks);
    check("zigzag", 25, 3, 0, 4, 1);
    check("zigzag", 25, 3, 2, 0, 1);
    check("stripe", 3000, 8, 3, 5, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shards_join_again)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
