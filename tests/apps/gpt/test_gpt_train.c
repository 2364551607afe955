/* SPDX-License-Identifier: MIT */
/* Whole training runs on threads: every layout, preset, ZeRO stage and accumulation has the loss and the gradients of
 * one rank; runs in pieces end where the whole one does; what is not finite is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "gpt/cmd_train.h"
#include "shared/numbers.h"
#include "train/stop.h"

#include <math.h>
#include <omp.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "apps/train/group_ranks.h"
#include "device/need_gpus.h"

enum { SETTINGS = 14 };

static char folder[64];
#define TEXT                                                                                                           \
    "num_layers: 2\nhidden_size: 32\nnum_attention_heads: 4\nnum_kv_heads: 2\nintermediate_size: 48\n"                 \
    "seq_length: 45\nlog_interval: 1\nvocab_size: 61\nmake_vocab_size_divisible_by: 4\nno_weight_tying: true\n"        \
    "optimizer: {params: {lr: 0.01}}\nlr_decay_style: cosine\nlr_decay_iters: 100\nwarmup_from_one: true\n"            \
    "gradient_clipping: 1\ntrain_batch_size: 4\neval_interval: 0\neval_iters: 0\nsplit: \"100,0,0\"\ndata_path: "      \
    "text\n"

static int make_data(void **state)
{
    (void)state;
    char path[128];
    indexed_writer w;
    snprintf(folder, sizeof folder, "/tmp/ringx_train_XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/text", folder);
    int code = indexed_create(&w, path, 61);
    for (int d = 0; d < 12 && !code; d++) {
        int32_t ids[200];
        size_t n = 100 + (size_t)d * 7;
        for (size_t i = 0; i < n; i++)
            ids[i] = (int32_t)(random_word(5, (uint64_t)d * 1000 + i) % 61);
        code = indexed_append(&w, ids, n);
    }
    code = indexed_finish(&w, code);
    snprintf(path, sizeof path, "%s/base.yml", folder);
    return code ? code : folder_write_text(path, TEXT);
}

static int remove_data(void **state)
{
    (void)state;
    return folder_remove(folder);
}

/* ---- a run ---- */

typedef struct run {
    int ranks;
    char texts[SETTINGS][160]; /* key=value */
    int count;
    bool raise_signal, damage;
    /* results, rank 0's */
    double loss, norm;
    int64_t iteration;
} run;

__attribute__((format(printf, 2, 3))) static void set(run *r, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(r->texts[r->count++], sizeof r->texts[0], format, list);
    va_end(list);
}

static int run_body(group *g, void *context)
{
    run *r = context;
    char *settings[SETTINGS + 1] = {NULL}, *files[] = {"base"};
    config c;
    training t;
    omp_set_num_threads(1);
    for (int i = 0; i < r->count; i++)
        settings[i] = r->texts[i];
    int code = config_read(&c, folder, files, 1, settings);
    if (code)
        return code;
    code = training_create(&t, g, &c, NULL);
    if (!code) {
        code = training_resume(&t);
        if (!code && r->raise_signal && group_rank(g) == group_ranks(g) - 1)
            raise(SIGUSR1);
        if (r->damage && group_rank(g) == group_ranks(g) - 1)
            t.z.master[t.z.count / 2] = NAN;
        if (!code)
            code = training_run(&t, NULL);
        if (group_rank(g) == 0) {
            r->loss = t.last_loss;
            r->norm = t.last_norm;
            r->iteration = t.iteration;
        }
        training_destroy(&t);
    }
    config_free(&c);
    return code;
}

static void run_good(run *r)
{
    run_group_good(r->ranks, run_body, r);
}

/* ---- comparing checkpoints ---- */

typedef struct stored {
    checkpoint c;
    checkpoint_piece *pieces;
    size_t count;
} stored;

/* Every tensor of a checkpoint that one rank saved or that one rank can load: whole. */
static void open_stored(stored *s, const char *name, const stored *like)
{
    char path[128];
    group *g;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(group_self(&g), CODE_GOOD);
    if (checkpoint_find(g, path, -1, &s->c) || s->c.iteration < 0)
        fail_msg("%s: %s", path, failure());
    group_destroy(g);
    const checkpoint *from = like ? &like->c : &s->c; /* names and shapes */
    s->count = manifest_pieces(from->manifest, 0);
    s->pieces = allocate(s->count * sizeof *s->pieces);
    for (size_t i = 0; i < s->count; i++) {
        uint32_t crc;
        manifest_piece(from->manifest, 0, i, &s->pieces[i], &crc);
        assert_int_equal(s->pieces[i].count, s->pieces[i].rows * s->pieces[i].columns);
        s->pieces[i].values = allocate((size_t)s->pieces[i].count * sizeof(float));
    }
    if (checkpoint_load(&s->c, s->pieces, s->count))
        fail_msg("%s", failure());
}

static void close_stored(stored *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->pieces[i].values);
    free(s->pieces);
    checkpoint_close(&s->c);
}

/* Tensors whose names begin with kind: relative difference of each at most `limit`; 0: bit for bit. */
static void expect_near(const stored *a, const stored *right, const char *kind, double limit, const char *what)
{
    size_t compared = 0;
    for (size_t i = 0; i < right->count; i++) {
        const checkpoint_piece *p = &a->pieces[i], *q = &right->pieces[i];
        if (strncmp(q->name, kind, strlen(kind)) != 0)
            continue;
        double off = 0, size = 0;
        for (int64_t j = 0; j < q->count; j++) {
            double d = (double)p->values[j] - (double)q->values[j];
            off += d * d;
            size += (double)q->values[j] * (double)q->values[j];
        }
        compared++;
        if (!(sqrt(off) <= limit * sqrt(size)) || !(size > 0))
            fail_msg("%s: %s is off by %.3g of %.3g", what, q->name, sqrt(off), sqrt(size));
    }
    assert_true(compared > 10);
}

/* ---- what one rank has after one step ---- */

static stored one_rank;
static run one_rank_run = {.ranks = 1};

static int make_one_rank(void **state)
{
    if (make_data(state) != 0)
        return -1;
    set(&one_rank_run, "train_iters=1");
    set(&one_rank_run, "save=%s/one", folder);
    run_good(&one_rank_run);
    open_stored(&one_rank, "one", NULL);
    return 0;
}

static int remove_all(void **state)
{
    close_stored(&one_rank);
    return remove_data(state);
}

/* ---- tests ---- */

typedef struct layout_case {
    int tp, cp, dp, stage, steps;
    const char *preset;
} layout_case;

/* After one step Adam's first moment is the clipped gradient times 0.1. */
static void check_layout(const layout_case *l)
{
    char what[96];
    stored many;
    run r = {.ranks = l->tp * l->cp * l->dp};
    snprintf(what, sizeof what, "tensor %d, context %d, data %d, stage %d, %d micro-steps, %s", l->tp, l->cp, l->dp,
             l->stage, l->steps, l->preset);
    set(&r, "train_iters=1");
    set(&r, "save=%s/many", folder);
    set(&r, "model_parallel_size=%d", l->tp);
    set(&r, "context_parallel_size=%d", l->cp);
    set(&r, "zero_optimization.stage=%d", l->stage);
    set(&r, "gradient_accumulation_steps=%d", l->steps);
    set(&r, "attention_config=%s*all", l->preset);
    run_good(&r);
    open_stored(&many, "many", &one_rank);
    expect_near(&many, &one_rank, "m/", 1e-5, what);
    if (!(fabs(r.loss - one_rank_run.loss) <= 1e-5 * one_rank_run.loss) ||
        !(fabs(r.norm - one_rank_run.norm) <= 1e-5 * one_rank_run.norm))
        fail_msg("%s: loss %.9g, norm %.9g; one rank has %.9g, %.9g", what, r.loss, r.norm, one_rank_run.loss,
                 one_rank_run.norm);
    close_stored(&many);
    char saved[128];
    snprintf(saved, sizeof saved, "%s/many", folder);
    assert_int_equal(folder_remove(saved), CODE_GOOD);
}

static void layouts_have_the_gradients_of_one_rank(void **state)
{
    (void)state;
    static const layout_case cases[] = {
        {1, 2, 1, 0, 1, "ringX3"},  {1, 4, 1, 1, 1, "ringX4o"}, {1, 3, 1, 2, 2, "ringX2o"}, {2, 1, 1, 1, 2, "ringX3"},
        {2, 2, 1, 2, 1, "zigzag"},  {1, 2, 2, 1, 2, "ringX3"},  {2, 2, 2, 2, 2, "ringX4o"}, {2, 2, 2, 0, 1, "ringX2o"},
        {1, 2, 2, 0, 1, "ulysses"}, {1, 1, 4, 2, 1, "ringX3"},  {2, 1, 2, 0, 2, "ringX3"},  {1, 3, 1, 0, 1, "zigzag"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_layout(&cases[i]);
}

/* Every layout with every preset, stage and accumulation: 210 runs. */
static void all_layouts_have_the_gradients_of_one_rank(void **state)
{
    (void)state;
    static const int layouts[][3] = {{1, 2, 1}, {1, 4, 1}, {1, 3, 1}, {2, 1, 1}, {2, 2, 1}, {1, 2, 2}, {2, 2, 2}};
    static const char *const presets[] = {"ringX3", "ringX4o", "ringX2o", "zigzag", "ulysses"};
    if (!getenv("RINGX_LONG"))
        skip();
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        for (size_t j = 0; j < sizeof presets / sizeof *presets; j++)
            for (int stage = 0; stage < 3; stage++)
                for (int steps = 1; steps <= 2; steps++)
                    check_layout(&(layout_case){layouts[i][0], layouts[i][1], layouts[i][2], stage, steps, presets[j]});
}

/* Two runs, which differ in overlap_comm alone, of three steps with two micro-steps each, in which stages 0 and 1 let
 * sums wait. */
static void check_overlap(int stage, const char *device, int ranks, double limit)
{
    stored kept[2];
    run r[2] = {{.ranks = ranks}, {.ranks = ranks}};
    for (int i = 0; i < 2; i++) {
        char name[32];
        snprintf(name, sizeof name, "lane%d%d", stage, i);
        set(&r[i], "device=%s", device);
        set(&r[i], "train_iters=3");
        set(&r[i], "context_parallel_size=2");
        set(&r[i], "gradient_accumulation_steps=2");
        set(&r[i], "zero_optimization.stage=%d", stage);
        set(&r[i], "zero_optimization.reduce_bucket_size=1500");
        set(&r[i], "zero_optimization.overlap_comm=%s", i ? "true" : "false");
        set(&r[i], "save=%s/%s", folder, name);
        run_good(&r[i]);
        open_stored(&kept[i], name, &one_rank);
    }
    expect_near(&kept[1], &kept[0], "weight/", limit, "overlapped weights");
    expect_near(&kept[1], &kept[0], "v/", limit, "overlapped moments");
    assert_true(fabs(r[0].loss - r[1].loss) <= limit * r[0].loss);
    assert_true(fabs(r[0].norm - r[1].norm) <= limit * r[0].norm);
    for (int i = 0; i < 2; i++) {
        char saved[128];
        close_stored(&kept[i]);
        snprintf(saved, sizeof saved, "%s/lane%d%d", folder, stage, i);
        assert_int_equal(folder_remove(saved), CODE_GOOD);
    }
}

/* Sums beside backward change no bit, whatever the stage. */
static void overlap_changes_no_bit(void **state)
{
    (void)state;
    for (int stage = 0; stage < 3; stage++)
        check_overlap(stage, "cpu", 4, 0);
}

/* On two GPUs by NCCL; on one, which two ranks share, through host memory.  Their attention adds in any order. */
static void overlap_on_gpus(void **state)
{
    (void)state;
    need_gpus(1);
    for (int stage = 0; stage < 3; stage++)
        check_overlap(stage, "cuda", 2, 1e-4);
}

/* Documents that do not see each other, attention that differs between layers, inputs of layers in host memory. */
static void forms_have_the_gradients_of_one_rank(void **state)
{
    (void)state;
    run one[2] = {{.ranks = 1}, {.ranks = 1}}; /* plain, masked */
    for (int masked = 0; masked < 2; masked++) {
        stored alone, many;
        char name[2][32];
        run *right = &one[masked], r = {.ranks = 4};
        for (int k = 0; k < 2; k++) {
            snprintf(name[k], sizeof name[k], "form%d%d", masked, k);
            run *each = k ? &r : right;
            set(each, "train_iters=1");
            set(each, "train_batch_size=12");
            set(each, "document_mask=%s", masked ? "true" : "false");
            set(each, "save=%s/%s", folder, name[k]);
        }
        set(&r, "context_parallel_size=2");
        set(&r, "gradient_accumulation_steps=3");
        set(&r, "attention_config=ringX4o+zigzag*all");
        set(&r, "checkpoint_activations=true");
        set(&r, "checkpoint_in_cpu=true");
        set(&r, "keep_attention=true");
        set(&r, "keep_mlp_layers=1");
        set(&r, "peer_copies=false");
        run_good(right);
        run_good(&r);
        open_stored(&alone, name[0], &one_rank);
        open_stored(&many, name[1], &one_rank);
        expect_near(&many, &alone, "m/", 1e-5, name[1]);
        assert_true(fabs(r.loss - right->loss) <= 1e-5 * right->loss &&
                    fabs(r.norm - right->norm) <= 1e-5 * right->norm);
        close_stored(&many);
        close_stored(&alone);
    }
    assert_true(one[0].loss != one[1].loss); /* the mask does something */
}

/* Three pieces of two steps each, on other numbers of ranks or the same. */
static void run_in_pieces(const char *name, const int ranks[3], const int cp[3], int tp)
{
    for (int i = 0; i < 3; i++) {
        run r = {.ranks = ranks[i]};
        set(&r, "train_iters=6");
        set(&r, "exit_interval=2");
        set(&r, "save=%s/%s", folder, name);
        set(&r, "load=%s/%s", folder, name);
        set(&r, "model_parallel_size=%d", tp);
        set(&r, "context_parallel_size=%d", cp[i]);
        set(&r, "zero_optimization.stage=%d", i);
        run_good(&r);
        assert_int_equal(r.iteration, 2 * i + 2);
    }
}

/* All tensors of the last checkpoints under two names, loaded as one rank would. */
static void compare_runs(const char *name, const stored *shapes, const stored *right, double limit)
{
    stored s;
    open_stored(&s, name, shapes);
    assert_int_equal(s.c.iteration, 6);
    expect_near(&s, right, "weight/", limit, name);
    expect_near(&s, right, "m/", limit, name);
    expect_near(&s, right, "v/", limit, name);
    close_stored(&s);
}

static void pieces_end_as_the_whole(void **state)
{
    (void)state;
    stored whole;
    run r = {.ranks = 4};
    set(&r, "train_iters=6");
    set(&r, "save=%s/whole", folder);
    set(&r, "context_parallel_size=2");
    run_good(&r);
    open_stored(&whole, "whole", &one_rank);
    run_in_pieces("same", (const int[]){4, 4, 4}, (const int[]){2, 2, 2}, 1);
    compare_runs("same", &one_rank, &whole, 0);
    run_in_pieces("other", (const int[]){3, 8, 1}, (const int[]){3, 2, 1}, 1);
    compare_runs("other", &one_rank, &whole, 2e-4);
    run_in_pieces("tensor", (const int[]){2, 4, 8}, (const int[]){1, 2, 2}, 2);
    compare_runs("tensor", &one_rank, &whole, 2e-4);
    close_stored(&whole);
}

/* Half precision: weights are rounded from masters that are saved whole, and the loss scale goes on. */
static void pieces_in_half_precision(void **state)
{
    (void)state;
    static const char *const precisions[] = {"bfloat16", "fp16"};
    for (int k = 0; k < 2; k++) {
        stored whole, pieces;
        double losses[3];
        for (int i = 0; i < 3; i++) { /* the whole, then two pieces */
            run r = {.ranks = 2};
            set(&r, "train_iters=8");
            set(&r, "precision=%s", precisions[k]);
            set(&r, "fp16.initial_scale_power=24");
            set(&r, "fp16.loss_scale_window=3");
            set(&r, "zero_optimization.stage=%d", i);
            set(&r, "save=%s/%s%d", folder, precisions[k], i > 0);
            if (i > 0)
                set(&r, "load=%s/%s1", folder, precisions[k]);
            if (i == 1)
                set(&r, "exit_interval=4");
            run_good(&r);
            losses[i] = r.loss;
        }
        char name[2][32];
        for (int i = 0; i < 2; i++)
            snprintf(name[i], sizeof name[i], "%s%d", precisions[k], i);
        open_stored(&whole, name[0], &one_rank);
        open_stored(&pieces, name[1], &one_rank);
        expect_near(&pieces, &whole, "weight/", 0, precisions[k]);
        assert_true(losses[2] == losses[0]);
        close_stored(&pieces);
        close_stored(&whole);
    }
}

static void wrong_resumes_are_refused(void **state)
{
    (void)state;
    group_run runs[2];
    run r = {.ranks = 2};
    set(&r, "train_iters=2");
    set(&r, "save=%s/kept", folder);
    set(&r, "load=%s/kept", folder);
    run_good(&r);
    run other = r;
    set(&other, "seed=99");
    run_group(runs, 2, run_body, &other);
    assert_int_equal(runs[0].code, CODE_CONFIGURATION);
    assert_non_null(strstr(runs[1].message, "seed is 1234 there and 99 in the configuration"));
    other = r;
    set(&other, "lr_decay_iters=50");
    run_group(runs, 2, run_body, &other);
    assert_int_equal(runs[1].code, CODE_CONFIGURATION);
    assert_non_null(strstr(runs[1].message, "learning-rate schedule is not the configuration's"));
    set(&other, "override_lr_scheduler=true");
    set(&other, "train_iters=3");
    run_good(&other);
    assert_int_equal(other.iteration, 3);
    other = r;
    set(&other, "iteration=7");
    run_group(runs, 2, run_body, &other);
    assert_int_equal(runs[0].code, CODE_MISSING);
}

static void configurations_that_do_not_fit(void **state)
{
    (void)state;
    static const char *const settings[][2] = {{"context_parallel_size=2", "3 ranks are no multiple"},
                                              {"context_parallel_size=3x", "a whole number"},
                                              {"train_batch_size=5", "is not train_micro_batch_size_per_gpu"},
                                              {"data_path=/nowhere/text", "/nowhere/text"}};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        group_run runs[3];
        run r = {.ranks = 3};
        set(&r, "train_iters=1");
        if (i == 3)
            set(&r, "train_batch_size=3");
        set(&r, "%s", settings[i][0]);
        run_group(runs, 3, run_body, &r);
        for (int k = 0; k < 3; k++)
            if (runs[k].code == CODE_GOOD || !strstr(runs[k].message, settings[i][1]))
                fail_msg("%s: rank %d: code %d, \"%s\"", settings[i][0], k, runs[k].code, runs[k].message);
    }
}

static void a_signal_saves(void **state)
{
    (void)state;
    group_run runs[2];
    run r = {.ranks = 2, .raise_signal = true};
    set(&r, "train_iters=50");
    set(&r, "save=%s/stopped", folder);
    stop_watch();
    run_group(runs, 2, run_body, &r);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(runs[k].code, CODE_STOPPED);
        assert_non_null(strstr(runs[k].message, "after iteration 1; its state is saved"));
    }
    checkpoint s;
    group *g;
    char path[128];
    snprintf(path, sizeof path, "%s/stopped", folder);
    assert_int_equal(group_self(&g), CODE_GOOD);
    assert_int_equal(checkpoint_find(g, path, -1, &s), CODE_GOOD);
    assert_int_equal(s.iteration, 1);
    checkpoint_close(&s);
    group_destroy(g);
}

static void what_is_not_finite_is_named(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) { /* sums after backward and beside it, of whole gradients and of split ones */
        group_run runs[3];
        run r = {.ranks = 3, .damage = true};
        set(&r, "train_iters=2");
        set(&r, "train_batch_size=3");
        set(&r, "zero_optimization.overlap_comm=%s", i % 2 ? "true" : "false");
        set(&r, "zero_optimization.stage=%d", i / 2 * 2);
        set(&r, "save=%s/damaged", folder);
        run_group(runs, 3, run_body, &r);
        for (int k = 0; k < 3; k++) {
            assert_int_equal(runs[k].code, CODE_NOT_FINITE);
            if (!strstr(runs[k].message,
                        "iteration 1: the loss is nan; nothing was updated; rank 2: weight of model.layers."))
                fail_msg("%s", runs[k].message);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(layouts_have_the_gradients_of_one_rank),
                                       cmocka_unit_test(all_layouts_have_the_gradients_of_one_rank),
                                       cmocka_unit_test(overlap_changes_no_bit),
                                       cmocka_unit_test(overlap_on_gpus),
                                       cmocka_unit_test(forms_have_the_gradients_of_one_rank),
                                       cmocka_unit_test(pieces_end_as_the_whole),
                                       cmocka_unit_test(pieces_in_half_precision),
                                       cmocka_unit_test(wrong_resumes_are_refused),
                                       cmocka_unit_test(configurations_that_do_not_fit),
                                       cmocka_unit_test(what_is_not_finite_is_named),
                                       cmocka_unit_test(a_signal_saves)};
    return cmocka_run_group_tests(tests, make_one_rank, remove_all);
}
