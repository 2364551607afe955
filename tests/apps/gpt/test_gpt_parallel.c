/* SPDX-License-Identifier: MIT */
/* Loss and every gradient over tensor × context ranks equal those of one rank, for presets and odd lengths; on a GPU,
 * where there is one, with all ranks on it. */
#include "llama_case.h"

#include "device/need_gpus.h"
#include "train/device_data.h"

#include <omp.h>
#include <pthread.h>

enum { MOST_RANKS = 4 };

typedef struct layout_case {
    int tensor, context;
    const char *preset;
    int64_t tokens; /* of the 96 of a sample */
    bool tied;
} layout_case;

typedef struct member {
    const layout_case *c;
    const llama_batch *b;
    ringx_device device;
    nn_context on;
    group *world;
    gpt_config config;
    double nll;
    int code;
    char message[MESSAGE_BYTES];
    size_t n_parameters;
    const gpt_parameter *parameters;
    gpt_model *m;
    float *gradients, *weights; /* copies in host memory */
} member;

static int copy_of(ringx_device device, const void *there, size_t bytes, float **host)
{
    *host = allocate(bytes);
    return *host ? fail_status(ringx_memory_copy(device, *host, there, bytes), "%zu bytes", bytes) : CODE_NO_MEMORY;
}

static int to_device(ringx_device device, void **there, const void *host, size_t bytes)
{
    ringx_status status = ringx_memory_alloc(device, bytes, there);
    return fail_status(status ? status : ringx_memory_copy(device, *there, host, bytes), "%zu bytes", bytes);
}

/* This rank's tokens of the first c->tokens of each sample. */
static gpt_batch shard(const member *r, int32_t *ids, int32_t *targets, float *mask)
{
    int64_t local = gpt_model_local_tokens(r->m);
    const int64_t *positions = gpt_model_positions(r->m);
    for (int64_t i = 0; i < r->b->samples * local; i++) {
        int64_t from = i / local * r->b->tokens + positions[i % local];
        ids[i] = r->b->ids[from], targets[i] = r->b->targets[from], mask[i] = r->b->mask[from];
    }
    return (gpt_batch){ids, targets, mask};
}

/* Loss and gradients of the whole, on every rank. */
static int differentiate(member *r, const gpt_groups *groups)
{
    int32_t ids[192], targets[192];
    float mask[192];
    void *there[3] = {NULL};
    gpt_batch host = shard(r, ids, targets, mask);
    const void *const from[3] = {host.ids, host.targets, host.mask};
    int code = CODE_GOOD;
    for (int i = 0; i < 3 && !code; i++)
        code = to_device(r->device, &there[i], from[i], sizeof ids);
    gpt_batch batch = {there[0], there[1], there[2]};
    if (!code)
        code = gpt_model_train(r->m, &batch, 0.01, &r->nll);
    if (!code && groups->context)
        code = group_sum(groups->context, &r->nll);
    if (!code && groups->context)
        code = device_all_reduce(groups->context, r->device, GROUP_SUM, gpt_model_gradients(r->m),
                                 gpt_model_elements(r->m));
    for (int i = 0; i < 3; i++)
        ringx_memory_free(r->device, there[i]);
    return code;
}

static int train(member *r, const gpt_groups *groups)
{
    ringx_options options = RINGX_OPTIONS_INIT;
    options.preset = r->c->preset, options.threads = 1;
    gpt_run run = {.batch = r->b->samples, .tokens = r->c->tokens, .recompute = true, .attention = &options};
    int code = nn_open(&r->on, r->device);
    if (!code)
        code = gpt_model_create(&r->m, &r->config, RINGX_F32, &r->on, *groups);
    if (!code)
        code = gpt_model_initialise(r->m, 42);
    if (!code)
        code = gpt_model_prepare(r->m, &run);
    if (!code)
        code = differentiate(r, groups);
    if (code)
        return code;
    size_t bytes = gpt_model_elements(r->m) * sizeof(float);
    code = copy_of(r->device, gpt_model_gradients(r->m), bytes, &r->gradients);
    r->n_parameters = gpt_model_parameters(r->m, &r->parameters);
    return code ? code : copy_of(r->device, gpt_model_weights(r->m), bytes, &r->weights);
}

static void finish(member *r)
{
    free(r->gradients), free(r->weights);
    gpt_model_destroy(r->m);
    nn_close(&r->on);
}

static void *one_rank(void *argument)
{
    member *r = argument;
    omp_set_num_threads(1);
    parallel p;
    r->code = parallel_create(&p, r->world, (int[AXES]){r->c->tensor, r->c->context, 1}, NULL);
    if (!r->code) {
        gpt_groups groups = {p.tensor, p.context};
        r->code = train(r, &groups);
        gpt_model_release(r->m);
        parallel_destroy(&p);
    }
    failure_copy(r->message);
    return NULL;
}

/* This rank's part of each gradient against the whole. */
static void compare(const member *found, const member *right)
{
    if (!(fabs(found->nll - right->nll) <= 1e-5 * right->nll))
        fail_msg("nll is %.9g; it must be %.9g", found->nll, right->nll);
    for (size_t i = 0; i < right->n_parameters; i++) {
        const gpt_parameter *p = &found->parameters[i], *q = &right->parameters[i];
        const float *part = found->gradients + p->offset, *whole = right->gradients + q->offset;
        const float *w = found->weights + p->offset, *v = right->weights + q->offset;
        double difference = 0, size = 0;
        for (int64_t j = 0; j < (int64_t)p->count; j++) {
            int64_t at = (p->first_row + j / p->local_columns) * p->columns + p->first_column + j % p->local_columns;
            double d = (double)part[j] - (double)whole[at];
            difference += d * d, size += (double)whole[at] * (double)whole[at];
            assert_memory_equal(&w[j], &v[at], sizeof *w); /* the same initial weights */
        }
        if (!(sqrt(difference) <= 1e-5 * sqrt(size)))
            fail_msg("gradient of %s (tensor %d, context %d, %s): off by %.3g of %.3g", p->name, found->c->tensor,
                     found->c->context, found->c->preset, sqrt(difference), sqrt(size));
    }
}

static ringx_device device; /* of the test that runs */

static void run_ranks(const layout_case *c, const llama_batch *b, const gpt_config *config, member *members)
{
    int ranks = c->tensor * c->context;
    group *groups[MOST_RANKS];
    pthread_t threads[MOST_RANKS];
    good(group_threads(ranks, groups));
    for (int r = 0; r < ranks; r++) {
        members[r] = (member){.c = c, .b = b, .world = groups[r], .config = *config, .nll = NAN};
        members[r].device = device;
        assert_int_equal(pthread_create(&threads[r], NULL, one_rank, &members[r]), 0);
    }
    for (int r = 0; r < ranks; r++)
        pthread_join(threads[r], NULL);
    for (int r = 0; r < ranks; r++) {
        group_destroy(groups[r]);
        if (members[r].code)
            fail_msg("rank %d of tensor %d × context %d, %s: %s", r, c->tensor, c->context, c->preset,
                     members[r].message);
    }
}

static void check_layouts(void)
{
    static const layout_case cases[] = {
        {1, 2, "ringX3", 96, false},  {1, 3, "ringX4o", 96, false}, {1, 4, "zigzag", 96, false},
        {1, 2, "ulysses", 96, true},  {2, 1, "ringX2o", 96, false}, {2, 2, "ringX3", 96, true},
        {2, 2, "ringX4o", 61, false}, {1, 3, "ringX2o", 61, false}, {1, 4, "ringX3", 5, false},
        {2, 2, "zigzag", 3, false},
    };
    llama_batch b = llama_batch_read();
    gpt_config config;
    good(hf_config_read(&config, llama_config));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        member one, members[MOST_RANKS];
        layout_case alone = cases[i];
        alone.tensor = alone.context = 1, alone.preset = NULL;
        config.tied = cases[i].tied, config.init_std = 0.2, config.output_init_std = 0.1;
        run_ranks(&alone, &b, &config, &one);
        run_ranks(&cases[i], &b, &config, members);
        for (int r = 0; r < cases[i].tensor * cases[i].context; r++) {
            compare(&members[r], &one);
            finish(&members[r]);
        }
        finish(&one);
    }
    llama_batch_free(&b);
}

static void layouts_agree_with_one_rank(void **state)
{
    (void)state;
    device = RINGX_CPU;
    check_layouts();
}

static void layouts_agree_on_a_gpu(void **state)
{
    (void)state;
    need_gpus(1);
    device = RINGX_CUDA;
    check_layouts();
}

static void refused_by_name(void **state)
{
    (void)state;
    const struct {
        int64_t heads, kv_heads, width;
        const char *says;
    } bad[] = {{8, 3, 64, "kv heads"}, {8, 0, 64, "kv heads"}, {0, 2, 64, "heads"}, {8, 2, 0, "width"}};
    gpt_config config;
    gpt_model *m;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        good(hf_config_read(&config, llama_config));
        config.heads = bad[i].heads, config.kv_heads = bad[i].kv_heads, config.width = bad[i].width;
        assert_int_equal(gpt_model_create(&m, &config, RINGX_F32, &cpu, (gpt_groups){0}), CODE_CONFIGURATION);
        assert_non_null(strstr(failure(), bad[i].says));
        assert_null(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(layouts_agree_with_one_rank),
                                       cmocka_unit_test(layouts_agree_on_a_gpu), cmocka_unit_test(refused_by_name)};
    return cmocka_run_group_tests_name("gpt_parallel", tests, NULL, NULL);
}
