/* SPDX-License-Identifier: MIT */
/* Whole training runs on threads: every layout has the curve of losses and the scores of one rank; runs in pieces end
 * where the whole one does, in all precisions; what is not finite is named; what cannot be trained is refused.
 *   RINGX_LONG=1: all layouts, else every other one */
#include "apps/train/group_ranks.h"
#include "apps/vit/vit_waves.h"

#include "shared/numbers.h"
#include "train/stop.h"
#include "vit/cmd_vit_train.h"
#include "vit/vit_checkpoint.h"
#include "vit/vit_plan.h"

#include <omp.h>
#include <signal.h>

enum { SETTINGS = 12, STEPS = 20 };

/* ---- a run ---- */

typedef struct run {
    int ranks, steps; /* steps 0: to the end, as the command does; else so many, and a checkpoint */
    char texts[SETTINGS][160];
    int count;
    bool damage;
    FILE *to; /* where lines go */
    /* results, rank 0's */
    double losses[STEPS], loss, rmse, acc, bytes; /* bytes: of the rank with most */
    int64_t iteration, epoch;
    vit_plan paper; /* if steps is -1, in place of training */
} run;

__attribute__((format(printf, 2, 3))) static void set(run *r, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(r->texts[r->count++], sizeof r->texts[0], format, list);
    va_end(list);
}

static int some_steps(vit_training *t, run *r, bool first)
{
    int code = CODE_GOOD;
    for (int i = 0; i < r->steps && !code; i++) {
        code = vit_training_step(t);
        if (first)
            r->losses[i] = t->last_loss;
    }
    if (!code)
        code = vit_training_evaluate(t, t->valid_batches_count, &t->scores);
    return code ? code : vit_training_save(t, NULL);
}

static int plan_of(const vit_config *c, run *r)
{
    paper_machine m = {.name = "local", .efficiency = 1};
    int code = fail_status(ringx_machine_describe(m.name, &m.figures), "machine");
    return code ? code : vit_plan_make(&r->paper, c, r->ranks, &m);
}

static int run_body(group *g, void *context)
{
    run *r = context;
    bool first = group_rank(g) == 0;
    char *settings[SETTINGS + 4] = {NULL}, file[160], train[160], valid[160];
    vit_config c;
    vit_training t;
    omp_set_num_threads(1);
    for (int i = 0; i < r->count; i++)
        settings[i] = r->texts[i];
    snprintf(file, sizeof file, "%s/vit.yaml", folder);
    snprintf(train, sizeof train, "train_data_path=%s/train", folder);
    snprintf(valid, sizeof valid, "valid_data_path=%s/valid", folder);
    settings[r->count] = train, settings[r->count + 1] = valid;
    int code = vit_config_read(&c, file, "small", settings);
    if (code)
        return code;
    code = vit_training_create(&t, g, &c, r->to);
    if (!code) {
        code = vit_training_resume(&t, false);
        if (r->damage && group_rank(g) == group_ranks(g) - 1)
            t.z.master[t.z.count / 2] = NAN;
        double bytes = code ? NAN : (double)vit_training_bytes(&t);
        if (!code)
            code = group_max(g, &bytes);
        if (first)
            r->bytes = bytes;
        if (!code && r->steps < 0 && first)
            code = plan_of(&c, r);
        else if (!code && r->steps >= 0)
            code = r->steps ? some_steps(&t, r, first) : vit_training_run(&t, NULL);
        if (first) {
            r->loss = t.scores.loss, r->rmse = t.scores.rmse[1], r->acc = t.scores.acc[2];
            r->iteration = t.iteration, r->epoch = t.epoch;
        }
        vit_training_destroy(&t);
    }
    vit_config_free(&c);
    return code;
}

static void run_good(run *r)
{
    run_group_good(r->ranks, run_body, r);
}

/* ---- tests ---- */

typedef struct layout_case {
    int tp, cp, dp, stage;
    const char *type, *order;
} layout_case;

static void expect_near(double found, double right, double limit, const layout_case *l, const char *what)
{
    if (!(fabs(found - right) <= limit * fabs(right)))
        fail_msg("tp %d, cp %d, dp %d, %s, %s: %s is %.8g; one rank has %.8g", l->tp, l->cp, l->dp, l->type, l->order,
                 what, found, right);
}

static void curves_of_all_layouts(void **state)
{
    (void)state;
    static const layout_case cases[] = {
        {2, 1, 1, 0, "megatron", "tp-cp-dp"}, {1, 2, 1, 1, "ringX", "cp-tp-dp"},   {1, 4, 1, 0, "ring", "tp-cp-dp"},
        {1, 3, 1, 1, "ringX3b", "tp-cp-dp"},  {2, 2, 1, 1, "ulysses", "cp-tp-dp"}, {1, 1, 2, 0, "ringX", "tp-cp-dp"},
        {1, 1, 4, 1, "ringX", "dp-cp-tp"},    {2, 2, 2, 1, "ringX1o", "dp-cp-tp"}, {2, 2, 2, 0, "ringX1o", "cp-tp-dp"}};
    size_t every = getenv("RINGX_LONG") ? 1 : 2;
    for (int d = 0; d < 2; d++) { /* without and with dropout */
        run one = {.ranks = 1, .steps = STEPS};
        set(&one, "save_path=%s/curve%d", folder, d);
        set(&one, "dropout=%g", 0.1 * d);
        set(&one, "num_iters=40");
        run_good(&one);
        assert_true(one.losses[STEPS - 1] < 0.9 * one.losses[0]);
        for (size_t i = d ? 4 : 0; i < (d ? 5 : sizeof cases / sizeof *cases); i += every) {
            const layout_case *l = &cases[i];
            run r = {.ranks = l->tp * l->cp * l->dp, .steps = STEPS};
            set(&r, "save_path=%s/curve%d_%zu", folder, d, i);
            set(&r, "dropout=%g", 0.1 * d);
            set(&r, "num_iters=40");
            set(&r, "tensor_parallel=%d", l->tp);
            set(&r, "context_parallel=%d", l->cp);
            set(&r, "parallel_order=%s", l->order);
            set(&r, "attn_type=%s", l->type);
            set(&r, "zero_stage=%d", l->stage);
            set(&r, "checkpoint_activations=%s", i % 2 ? "true" : "false");
            run_good(&r);
            for (int s = 0; s < STEPS; s++)
                expect_near(r.losses[s], one.losses[s], 1e-4, l, "the loss of a step");
            expect_near(r.loss, one.loss, 1e-4, l, "the validation loss");
            expect_near(r.rmse, one.rmse, 1e-4, l, "RMSE");
            expect_near(r.acc, one.acc, 1e-4, l, "ACC");
        }
    }
}

/* All tensors of the newest checkpoint under a name, as one rank would load them. */
typedef struct stored {
    checkpoint c;
    checkpoint_piece *pieces;
    size_t count;
} stored;

static void open_stored(stored *s, const char *name)
{
    group *g;
    assert_int_equal(group_self(&g), CODE_GOOD);
    must(checkpoint_find_named(g, in_folder(name), VIT_CHECKPOINTS, -1, &s->c));
    group_destroy(g);
    assert_true(s->c.iteration >= 0);
    s->count = manifest_pieces(s->c.manifest, 0);
    s->pieces = allocate(s->count * sizeof *s->pieces);
    for (size_t i = 0; i < s->count; i++) {
        uint32_t crc;
        manifest_piece(s->c.manifest, 0, i, &s->pieces[i], &crc);
        checkpoint_piece *p = &s->pieces[i];
        p->first_row = p->first_column = p->begin = 0;
        p->block_rows = p->rows, p->block_columns = p->columns, p->count = p->rows * p->columns;
        p->values = allocate((size_t)p->count * sizeof(float));
    }
    must(checkpoint_load(&s->c, s->pieces, s->count));
}

static void close_stored(stored *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->pieces[i].values);
    free(s->pieces);
    checkpoint_close(&s->c);
}

/* limit 0: the same bits.  names: those that the first rank of `right` saved. */
static void compare_runs(const char *name, const char *right_name, double limit)
{
    stored s, right;
    open_stored(&s, name), open_stored(&right, right_name);
    size_t compared = 0;
    assert_int_equal(s.c.iteration, right.c.iteration);
    for (size_t i = 0; i < right.count; i++) {
        const checkpoint_piece *q = &right.pieces[i];
        size_t j = 0;
        while (j < s.count && strcmp(s.pieces[j].name, q->name) != 0)
            j++;
        if (j == s.count)
            continue;
        double off = 0, size = 0;
        compared++;
        for (int64_t e = 0; e < q->count; e++) {
            double d = (double)s.pieces[j].values[e] - (double)q->values[e];
            off += d * d, size += (double)q->values[e] * (double)q->values[e];
        }
        bool none = strstr(q->name, "attn.k.bias"); /* its gradient is rounding alone */
        if (!(sqrt(off) <= limit * sqrt(size)) && !(none && limit > 0))
            fail_msg("%s: %s is off by %.3g of %.3g", name, q->name, sqrt(off), sqrt(size));
    }
    assert_true(compared > 10);
    close_stored(&s), close_stored(&right);
}

static void common(run *r, const char *name, const char *amp, int tp, int cp)
{
    set(r, "save_path=%s/%s", folder, name);
    set(r, "amp_mode=%s", amp);
    set(r, "tensor_parallel=%d", tp);
    set(r, "context_parallel=%d", cp);
    set(r, "dropout=%g", strcmp(amp, "bf16") == 0 ? 0.05 : 0);
}

/* 24 samples in batches of 4 are 6 steps; 14 steps are 2 epochs of them. */
static void pieces_end_as_the_whole(void **state)
{
    (void)state;
    static const char *const amps[] = {"none", "bf16", "fp16"};
    for (int a = 0; a < 3; a++) {
        char whole[32], same[32], other[32];
        snprintf(whole, sizeof whole, "whole_%s", amps[a]), snprintf(same, sizeof same, "same_%s", amps[a]);
        snprintf(other, sizeof other, "other_%s", amps[a]);
        run r = {.ranks = 2};
        common(&r, whole, amps[a], 1, 2);
        run_good(&r);
        assert_int_equal(r.epoch, 2);
        assert_int_equal(r.iteration, 12);
        for (int i = 0; i < 4; i++) { /* in the middle of an epoch; ZeRO 0 and 1 have the same bits */
            run piece = {.ranks = 2, .steps = i < 3 ? i + 1 : 0};
            common(&piece, same, amps[a], 1, 2);
            set(&piece, "zero_stage=%d", i % 2);
            run_good(&piece);
            assert_true(i < 3 || piece.loss == r.loss);
        }
        compare_runs(same, whole, 0);
        for (int i = 0; i < 3 && a == 0; i++) {
            static const int layouts[][3] = {{1, 3, 1}, {2, 2, 2}, {1, 1, 1}};
            const int *l = layouts[i];
            run piece = {.ranks = l[0] * l[1] * l[2], .steps = i < 2 ? 2 + i : 0};
            common(&piece, other, amps[a], l[0], l[1]);
            run_good(&piece);
        }
        if (a == 0)
            compare_runs(other, whole, 1e-3);
    }
}

static char *text_of(const char *path)
{
    char *text;
    size_t bytes;
    must(folder_read_text(path, &text, &bytes));
    return text;
}

static void expect_line(const char *text, const char *line)
{
    if (!strstr(text, line))
        fail_msg("no '%s' in:\n%s", line, text);
}

/* The number after the n-th such text. */
static double number_after(const char *text, const char *line, int n)
{
    for (; n >= 0 && text; n--)
        text = (text = strstr(text, line)) ? text + strlen(line) : NULL;
    if (!text)
        fail_msg("too few '%s'", line);
    return strtod(text, NULL);
}

static void lines_and_files_of_a_run(void **state)
{
    (void)state;
    static const char *const lines[] = {"rank 0: epoch 1 step 5\n", "rank 1: epoch 1 step 5\n",
                                        "num_epochs: 2, steps_per_epoch: 6\n",
                                        "Checkpoint for epoch 1 saved for rank 1 -> ", "no checkpoint\n"};
    static const char *const logged[] = {"Configuration name: small\n",
                                         "Setting DP = 1, TP = 1, CP = 2, PP = 1\n",
                                         "rank 0, begin data loader init\n",
                                         "Getting file stats from ",
                                         "Number of samples per year: 13\n",
                                         "Number of examples: 24. Image Shape: 6 x 10 x 3\n",
                                         "Total parameters: ",
                                         " - root - INFO - Starting Training Loop...\n",
                                         "Time taken for 3 steps is ",
                                         " - root - INFO -   Avg train loss=",
                                         " - root - INFO -  Memory usage after forward pass: ",
                                         " - root - INFO -   Total validation time: ",
                                         "in physical units ",
                                         "DONE ---- rank 0\n"};
    run r = {.ranks = 2, .to = fopen(in_folder("shown"), "w")};
    set(&r, "save_path=%s/lines", folder);
    set(&r, "expdir=%s/logs", folder);
    set(&r, "context_parallel=2");
    set(&r, "print_steps=3");
    run_good(&r);
    fclose(r.to);
    char *shown = text_of(in_folder("shown")), *log = text_of(in_folder("logs/small/2MP/00/out.log"));
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        expect_line(shown, lines[i]);
    for (size_t i = 0; i < sizeof logged / sizeof *logged; i++)
        expect_line(log, logged[i]), expect_line(shown, logged[i]);
    assert_null(strstr(log, "epoch 1 step"));
    assert_true(fabs(number_after(log, "  Avg val loss=", 1) - r.loss) < 1e-6);
    assert_true(number_after(log, "  Avg train loss=", 3) < number_after(log, "  Avg train loss=", 0));
    assert_int_equal(access(in_folder("logs/small/2MP/00/output_image.png"), R_OK), 0);
    free(shown), free(log);
    char *latest = text_of(in_folder("lines/latest"));
    assert_string_equal(latest, "1");
    free(latest);
}

/* Nothing is written, nothing looked for. */
static void without_checkpoints(void **state)
{
    (void)state;
    run r = {.ranks = 2};
    set(&r, "save_path=/dev/null");
    set(&r, "num_iters=4"); /* less than an epoch */
    run_good(&r);
    assert_int_equal(r.iteration, 4);
    assert_true(r.loss > 0);
    run_good(&r);
    assert_int_equal(r.iteration, 4); /* from the beginning */
    assert_int_equal(access("checkpoints", F_OK), -1);
}

static void fails(run *r, int code, const char *says)
{
    group_run runs[MOST_GROUP_RANKS];
    run_group(runs, r->ranks, run_body, r);
    for (int i = 0; i < r->ranks; i++)
        if (runs[i].code != code || !strstr(runs[i].message, says))
            fail_msg("rank %d: code %d, '%s'; expected %d, '%s'", i, runs[i].code, runs[i].message, code, says);
}

/* Every rank was allocated what was planned for it: the fullest has the plan's bytes. */
static void memory_is_that_of_the_plan(void **state)
{
    (void)state;
    static const layout_case cases[] = {{1, 1, 1, 0, "ringX", "tp-cp-dp"},   {2, 2, 1, 1, "ring", "cp-tp-dp"},
                                        {1, 4, 1, 1, "zigzag", "tp-cp-dp"},  {1, 2, 2, 0, "stripe", "dp-cp-tp"},
                                        {2, 1, 2, 1, "ulysses", "tp-cp-dp"}, {1, 3, 1, 0, "ringX3b", "tp-cp-dp"}};
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        const layout_case *l = &cases[i / 2];
        run r = {.ranks = l->tp * l->cp * l->dp, .steps = -1};
        set(&r, "save_path=%s/none", folder);
        set(&r, "tensor_parallel=%d", l->tp);
        set(&r, "context_parallel=%d", l->cp);
        set(&r, "parallel_order=%s", l->order);
        set(&r, "attn_type=%s", l->type);
        set(&r, "zero_stage=%d", l->stage);
        set(&r, "amp_mode=%s", i % 2 ? "bf16" : "none");
        set(&r, "checkpoint_activations=%s", i % 2 ? "true" : "false");
        run_good(&r);
        if ((double)r.paper.plan.device != r.bytes)
            fail_msg("%s, %d ranks: %.0f bytes are held, %zu planned", l->type, r.ranks, r.bytes, r.paper.plan.device);
        assert_true(r.paper.plan.step > 0 && r.paper.samples_per_s > 0);
    }
}

static void refused_on_every_rank(void **state)
{
    (void)state;
    static const struct {
        int ranks, code;
        const char *setting, *says;
    } bad[] = {{3, CODE_CONFIGURATION, "num_iters=1", "global_batch_size"},
               {3, CODE_CONFIGURATION, "tensor_parallel=3", "num_heads"},
               {2, CODE_CONFIGURATION, "tensor_parallel=4", "number of ranks"},
               {2, CODE_CONFIGURATION, "attn_type=ringy", "ringX, ring, megatron"},
               {2, CODE_CONFIGURATION, "img_size=[7, 10]", "patch_size"},
               {2, CODE_BAD_INPUT, "img_size=[8, 10]", "1990.h5"},
               {2, CODE_CONFIGURATION, "global_batch_size=64", "less than a batch"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        run r = {.ranks = bad[i].ranks};
        set(&r, "save_path=%s/bad", folder);
        set(&r, "%s", bad[i].setting);
        fails(&r, bad[i].code, bad[i].says);
    }
    run r = {.ranks = 2, .steps = 1};
    set(&r, "save_path=%s/kept", folder);
    run_good(&r);
    set(&r, "seed=8");
    fails(&r, CODE_CONFIGURATION, "seed is 7 there and 8");
    run z = {.ranks = 2};
    set(&z, "noddp=true");
    set(&z, "zero_stage=1");
    fails(&z, CODE_CONFIGURATION, "with noddp it must be 0");
    run o = {.ranks = 2};
    set(&o, "noddp=true");
    set(&o, "overlap_comm=true");
    fails(&o, CODE_CONFIGURATION, "with noddp it must be false");
}

static void what_is_not_finite(void **state)
{
    (void)state;
    run r = {.ranks = 2, .damage = true};
    set(&r, "save_path=%s/nan", folder);
    set(&r, "context_parallel=2");
    fails(&r, CODE_NOT_FINITE, "weight of blocks.");
    set(&r, "overlap_comm=true");
    fails(&r, CODE_NOT_FINITE, "weight of blocks.");
}

static void sums_beside_backward_change_no_bit(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        run r[2] = {{.ranks = 4, .steps = STEPS}, {.ranks = 4, .steps = STEPS}};
        for (int beside = 0; beside < 2; beside++) {
            set(&r[beside], "save_path=%s/beside%d_%d", folder, i, beside);
            set(&r[beside], "context_parallel=%d", i % 2 ? 2 : 4);
            set(&r[beside], "zero_stage=%d", i / 2);
            set(&r[beside], "amp_mode=%s", i == 2 ? "fp16" : "none");
            set(&r[beside], "overlap_comm=%s", beside ? "true" : "false");
            run_good(&r[beside]);
        }
        assert_memory_equal(r[0].losses, r[1].losses, sizeof r[0].losses);
    }
}

/* Last: the signal is never forgotten. */
static void a_signal_saves(void **state)
{
    (void)state;
    stop_watch();
    raise(SIGUSR1);
    run r = {.ranks = 2};
    set(&r, "save_path=%s/signal", folder);
    fails(&r, CODE_STOPPED, "after iteration 1; its state is saved");
    stored s;
    open_stored(&s, "signal");
    assert_int_equal(s.c.iteration, 0);
    close_stored(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(curves_of_all_layouts),
                                       cmocka_unit_test(pieces_end_as_the_whole),
                                       cmocka_unit_test(memory_is_that_of_the_plan),
                                       cmocka_unit_test(lines_and_files_of_a_run),
                                       cmocka_unit_test(without_checkpoints),
                                       cmocka_unit_test(refused_on_every_rank),
                                       cmocka_unit_test(what_is_not_finite),
                                       cmocka_unit_test(sums_beside_backward_change_no_bit),
                                       cmocka_unit_test(a_signal_saves)};
    return cmocka_run_group_tests_name("vit_train", tests, make_data, remove_folder);
}
