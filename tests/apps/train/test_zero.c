/* SPDX-License-Identifier: MIT */
/* ZeRO stages against one rank in double: every stage, optimizer, number of ranks and accumulation gives the same
 * weights; stages 0 and 1 bit for bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/numbers.h"
#include "train/rates.h"
#include "train/zero.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "apps/train/group_ranks.h"

enum { ELEMENTS = 1000, STEPS = 4, TENSORS = 4, MOST_MICRO = 12 };

/* Of a whole model; over two tensor ranks the split ones are halved. */
static const size_t counts[TENSORS] = {300, 41, 640, 19};
static const bool is_split[TENSORS] = {true, false, true, false};

typedef struct trial {
    int tensor, context, data, stage, micro;
    optimizer_kind optimizer;
    ringx_dtype dtype;
    double clip;
    bool overlap;
    float weights[ELEMENTS]; /* result, of the whole model in the order of tensors */
    double norm;
} trial;

static float gradients[STEPS][MOST_MICRO][ELEMENTS];

static int make_gradients(void **state)
{
    (void)state;
    for (int step = 0; step < STEPS; step++)
        for (int micro = 0; micro < MOST_MICRO; micro++)
            for (size_t i = 0; i < ELEMENTS; i++)
                gradients[step][micro][i] = random_normal((uint64_t)(100 + step * 16 + micro), i);
    return 0;
}

/* Whole-model index of a tensor's local element. */
static size_t whole_index(const parallel *p, int t, size_t i)
{
    size_t at = 0;
    for (int s = 0; s < t; s++)
        at += counts[s];
    return at + i + (is_split[t] ? counts[t] / (size_t)p->size[AXIS_TENSOR] * (size_t)p->at[AXIS_TENSOR] : 0);
}

static int steps(trial *c, parallel *p, zero *z, const zero_tensor *tensors)
{
    int dp = p->size[AXIS_CONTEXT] * p->size[AXIS_DATA], here = group_rank(p->gradient), code = CODE_GOOD;
    double norm = 0;
    for (int step = 0; step < STEPS && !code; step++) {
        for (int a = 0; a < c->micro / dp && !code; a++) {
            bool last = a == c->micro / dp - 1;
            zero_begin(z, last);
            for (int t = TENSORS - 1; t >= 0 && !code; t--) { /* as backward does */
                float *window = z->model.gradients + (z->split ? z->model.units[t].place : tensors[t].offset);
                code = zero_claim(z, tensors[t].offset);
                for (size_t i = 0; i < tensors[t].count && !code; i++)
                    window[i] += gradients[step][a * dp + here][whole_index(p, t, i)];
                code = code ? code : zero_ready(z, tensors[t].offset);
            }
            code = code ? code : zero_accumulate(z, last);
        }
        if (!code)
            code = zero_norm(z, 0.5, &norm);
        if (!code)
            code = zero_update(z, 0.01, 0.5, norm);
    }
    if (group_rank(p->world) == 0)
        c->norm = norm;
    return code;
}

/* Two windows in turn, each as large as the larger of its tensors. */
static void make_units(const zero_tensor *tensors, size_t elements, zero_unit *units)
{
    size_t larger = tensors[0].count > tensors[2].count ? tensors[0].count : tensors[2].count;
    for (int t = 0; t < TENSORS; t++)
        units[t] = (zero_unit){tensors[t].offset, t % 2 ? larger : 0, t < 2 ? tensors[t + 2].offset : elements};
}

static int body(group *g, void *context)
{
    trial *c = context;
    parallel p;
    zero z;
    zero_tensor tensors[TENSORS];
    zero_unit units[TENSORS];
    nn_context on = {.ops = &nn_cpu};
    int code = parallel_create(&p, g, (const int[AXES]){c->tensor, c->context, c->data}, NULL);
    if (code)
        return code;
    zero_model model = {.tensors = tensors, .n_tensors = TENSORS, .dtype = c->dtype, .on = &on};
    model.units = units, model.n_units = TENSORS;
    for (int t = 0; t < TENSORS; t++) {
        size_t count = is_split[t] ? counts[t] / (size_t)c->tensor : counts[t];
        tensors[t] = (zero_tensor){"t", model.elements, count, t != 1, is_split[t]};
        model.elements += count;
    }
    make_units(tensors, model.elements, units);
    model.weights = allocate(model.elements * sizeof(float));
    model.gradients = allocate(model.elements * sizeof(float));
    for (int t = 0; t < TENSORS; t++)
        for (size_t i = 0; i < tensors[t].count; i++) {
            double value = random_normal(7, whole_index(&p, t, i));
            from_doubles(c->dtype, &value, (char *)model.weights + (tensors[t].offset + i) * dtype_bytes(c->dtype), 1);
        }
    zero_settings set = {.stage = c->stage,
                         .optimizer = c->optimizer,
                         .beta1 = 0.9,
                         .beta2 = 0.95,
                         .eps = 1e-8,
                         .decay = 0.1,
                         .clip = c->clip,
                         .least_trust = 0.01,
                         .most_trust = 10,
                         .bucket = 133,
                         .overlap = c->overlap};
    code = zero_create(&z, &model, &set, &p);
    for (size_t i = 0; z.split && i < model.elements; i++)
        model.gradients[i] = NAN; /* a window is emptied when it is claimed */
    if (!code)
        code = zero_adopt(&z);
    if (!code)
        code = steps(c, &p, &z, tensors);
    /* every data rank must hold the same weights: the first writes, the others compare */
    for (int turn = 0; turn < 2 && !code; turn++) {
        for (int t = 0; t < TENSORS && !code; t++)
            for (size_t i = 0; i < tensors[t].count && !code; i++) {
                size_t at = whole_index(&p, t, i);
                double value;
                to_doubles(c->dtype, (char *)model.weights + (tensors[t].offset + i) * dtype_bytes(c->dtype), &value,
                           1);
                bool writes = group_rank(p.gradient) == 0 && (is_split[t] || group_rank(p.tensor) == 0);
                if (turn == 0 && writes)
                    c->weights[at] = (float)value;
                else if (turn == 1 && !(c->weights[at] == (float)value))
                    code = (fail)(CODE_WRONG, "rank %d: tensor %d, element %zu differs", group_rank(g), t, i);
            }
        code = group_agree(g, code);
    }
    zero_destroy(&z);
    free(model.gradients);
    free(model.weights);
    parallel_destroy(&p);
    return code;
}

static double moment(double *m, double beta, double value)
{
    return *m = beta * *m + (1 - beta) * value;
}

/* The same in double, all on one rank, by the formulas of AdamW and of DeepSpeed's LAMB. */
static void reference(const trial *c, double *w, double *norm)
{
    static double m[ELEMENTS], v[ELEMENTS], g[ELEMENTS], u[ELEMENTS];
    for (size_t i = 0; i < ELEMENTS; i++) {
        w[i] = random_normal(7, i);
        m[i] = v[i] = 0;
    }
    for (int step = 0; step < STEPS; step++) {
        double squares = 0, correction = sqrt(1 - pow(0.95, step + 1)) / (1 - pow(0.9, step + 1));
        for (size_t i = 0; i < ELEMENTS; i++) {
            g[i] = 0;
            for (int a = 0; a < c->micro; a++)
                g[i] += 0.5 * (double)gradients[step][a][i];
            squares += g[i] * g[i];
        }
        *norm = sqrt(squares);
        double factor = c->clip > 0 ? 1 / fmax(1, (*norm + 1e-6) / c->clip) : 1;
        size_t at = 0;
        for (int t = 0; t < TENSORS; at += counts[t], t++) {
            double ww = 0, uu = 0, decay = t != 1 ? 0.1 : 0;
            for (size_t i = at; i < at + counts[t]; i++) {
                double root = sqrt(moment(&v[i], 0.95, g[i] * factor * g[i] * factor));
                double mean = moment(&m[i], 0.9, g[i] * factor);
                if (c->optimizer == OPTIMIZER_ADAM)
                    w[i] -= 0.01 * (decay * w[i] +
                                    mean / (1 - pow(0.9, step + 1)) / (root / sqrt(1 - pow(0.95, step + 1)) + 1e-8));
                u[i] = mean / (root + 1e-8) + decay * w[i];
                ww += w[i] * w[i];
                uu += u[i] * u[i];
            }
            double trust = fmin(10, fmax(0.01, sqrt(ww) / sqrt(uu)));
            for (size_t i = at; i < at + counts[t] && c->optimizer == OPTIMIZER_LAMB; i++)
                w[i] -= 0.01 * correction * trust * u[i];
        }
    }
}

static trial run_trial(trial c)
{
    run_group_good(c.tensor * c.context * c.data, body, &c);
    return c;
}

static void stages_equal_one_rank(void **state)
{
    (void)state;
    static const int layouts[][3] = {{1, 1, 1}, {1, 2, 1}, {1, 3, 1}, {2, 1, 1}, {1, 2, 2}, {2, 2, 1}, {2, 1, 3}};
    static double right[ELEMENTS];
    for (int kind = 0; kind < 4; kind++)
        for (size_t l = 0; l < sizeof layouts / sizeof *layouts; l++) {
            trial plain = {.tensor = layouts[l][0],
                           .context = layouts[l][1],
                           .data = layouts[l][2],
                           .micro = MOST_MICRO,
                           .optimizer = kind & 1 ? OPTIMIZER_LAMB : OPTIMIZER_ADAM,
                           .clip = kind & 2 ? 5 : 0};
            trial stage[3];
            double norm;
            reference(&plain, right, &norm);
            for (int s = 0; s < 3; s++) {
                plain.stage = s;
                stage[s] = run_trial(plain);
                trial overlapped = plain;
                overlapped.overlap = true;
                overlapped = run_trial(overlapped);
                assert_memory_equal(overlapped.weights, stage[s].weights, sizeof overlapped.weights);
                assert_true(overlapped.norm == stage[s].norm);
                assert_true(fabs(stage[s].norm - norm) <= 1e-5 * norm);
                for (size_t i = 0; i < ELEMENTS; i++)
                    if (!(fabs((double)stage[s].weights[i] - right[i]) <= 2e-5))
                        fail_msg("layout %zu, kind %d, stage %d, element %zu: %.9g, expected %.9g", l, kind, s, i,
                                 (double)stage[s].weights[i], right[i]);
            }
            assert_memory_equal(stage[0].weights, stage[1].weights, sizeof stage[0].weights);
            assert_true(stage[0].norm == stage[1].norm);
        }
}

static void half_precision_has_masters(void **state)
{
    (void)state;
    trial c = {.tensor = 1, .context = 2, .data = 2, .micro = 4, .dtype = RINGX_BF16};
    trial whole = run_trial(c);
    c.stage = 1;
    trial cut = run_trial(c);
    assert_memory_equal(whole.weights, cut.weights, sizeof whole.weights);
    static double right[ELEMENTS];
    double norm, moved = 0;
    reference(&c, right, &norm);
    for (size_t i = 0; i < ELEMENTS; i++) {
        assert_true(fabs((double)cut.weights[i] - right[i]) <= 0.01 * fabs(right[i]) + 1e-3);
        moved += fabs((double)cut.weights[i] - (double)random_normal(7, i));
    }
    assert_true(moved / ELEMENTS > 0.01);
}

typedef struct desertion {
    int stage;
    bool overlap, lost;
} desertion;

/* Backward as a model does it; a rank that fails does so after the first of three units. */
static int fail_in_backward(zero *z, bool fails, int code)
{
    for (size_t u = z->model.n_units; u-- > 0;) {
        int failed = zero_claim(z, z->model.units[u].first);
        failed = failed ? failed : zero_ready(z, z->model.units[u].first);
        if (failed || (fails && u == 2))
            return failed ? failed : (fail)(code, "my own reason");
    }
    return CODE_GOOD;
}

/* A rank that fails in the middle of backward holds up no other: it takes part in the sums that they begin before all
 * agree on it, or, where a rank is lost, nobody begins any more.  Then a step may begin anew, or the run end. */
static int give_up(group *g, void *context)
{
    const desertion *d = context;
    parallel p;
    zero z;
    float weights[1000] = {0}, sums[1000] = {0};
    zero_tensor tensors[3] = {{"t", 0, 400, true, false}, {"u", 400, 300, true, false}, {"v", 700, 300, true, false}};
    zero_unit units[3] = {{0, 0, 1000}, {400, 400, 1000}, {700, 700, 1000}};
    nn_context on = {.ops = &nn_cpu};
    zero_model model = {tensors, 3, 1000, weights, RINGX_F32, sums, units, 3, &on};
    zero_settings set = {.stage = d->stage, .beta1 = 0.9, .beta2 = 0.95, .bucket = 70, .overlap = d->overlap};
    int code = parallel_create(&p, g, (const int[AXES]){1, 1, 3}, NULL), right = d->lost ? CODE_PEER_DIED : CODE_WRONG;
    if (code)
        return code;
    code = zero_create(&z, &model, &set, &p);
    for (int again = 0; again < 2 && !code; again++) {
        bool fails = again == 0 && (d->lost || group_rank(g) == 1);
        zero_begin(&z, true);
        int failed = zero_give_up(&z, fail_in_backward(&z, fails, right), false);
        failed = zero_give_up(&z, group_agree(g, failed), true);
        if (again == 0 && (failed != right || !strstr(failure(), "my own reason")))
            code = (fail)(CODE_INTERNAL, "code %d: %s", failed, failure());
        else if (again == 1)
            code = failed ? failed : zero_accumulate(&z, true);
        if (d->lost)
            break;
    }
    zero_destroy(&z);
    parallel_destroy(&p);
    return code;
}

static void a_step_that_is_given_up_holds_up_nobody(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++)
        run_group_good(3, give_up, &(desertion){i % 2 * 2, i / 2 % 2, i / 4});
}

static int backward_with_nan(zero *z, bool bad)
{
    int code = CODE_GOOD;
    for (size_t u = 2; u-- > 0 && !code;) {
        const zero_unit *unit = &z->model.units[u];
        code = zero_claim(z, unit->first);
        if (!code && bad && u == 1)
            z->model.gradients[unit->place + 7] = NAN;
        code = code ? code : zero_ready(z, unit->first);
    }
    return code;
}

/* Sums have spread it: the repetition without sums tells the rank where it arose.  Without one, who owns the sum. */
static int refuse(group *g, void *context)
{
    bool again = *(bool *)context;
    parallel p;
    zero z;
    float weights[1000] = {0}, sums[1000] = {0};
    zero_tensor tensors[2] = {{"t", 0, 700, true, false}, {"u", 700, 300, true, false}};
    zero_unit units[2] = {{0, 300, 1000}, {700, 0, 1000}};
    nn_context on = {.ops = &nn_cpu};
    zero_model model = {tensors, 2, 1000, weights, RINGX_F32, sums, units, 2, &on};
    zero_settings set = {.stage = 2, .beta1 = 0.9, .beta2 = 0.95, .overlap = again};
    int code = parallel_create(&p, g, (const int[AXES]){1, 1, 3}, NULL);
    if (code)
        return code;
    code = zero_create(&z, &model, &set, &p);
    if (!code) {
        zero_begin(&z, true);
        code = backward_with_nan(&z, group_rank(g) == 1);
    }
    code = code ? code : zero_accumulate(&z, true);
    if (!code && again) {
        code = zero_clear(&z);
        code = code ? code : backward_with_nan(&z, group_rank(g) == 1);
    }
    code = code ? code : zero_refuse(&z, 5, "the norm", NAN);
    zero_destroy(&z);
    parallel_destroy(&p);
    return code;
}

static void a_split_gradient_is_named(void **state)
{
    (void)state;
    for (int again = 0; again < 2; again++) {
        bool flag = again;
        group_run runs[3];
        run_group(runs, 3, refuse, &flag);
        const char *right = again ? "rank 1: gradient of u, element 7 of 300 is nan"
                                  : "rank 2: gradient of u, element 7 of 300 is nan"; /* owns elements 666 … 999 */
        for (int r = 0; r < 3; r++) {
            assert_int_equal(runs[r].code, CODE_NOT_FINITE);
            if (!strstr(runs[r].message, right))
                fail_msg("%s", runs[r].message);
        }
    }
}

/* A rank of stage 2 holds states and gradients of its share, nothing of the others'. */
static void stage_two_holds_a_share(void **state)
{
    (void)state;
    zero_paper p = {.elements = 1000, .tensors = 1, .dtype = RINGX_BF16, .rank = 1, .ranks = 4};
    size_t device[3];
    for (p.stage = 0; p.stage < 3; p.stage++)
        device[p.stage] = zero_memory_of(&p).device;
    assert_int_equal(device[0], 12 * 1000 + 16);
    assert_int_equal(device[1], 12 * 250 + 16);
    assert_int_equal(device[2], 16 * 250 + 16);
    assert_true(zero_splits(2, 2) && !zero_splits(2, 1) && !zero_splits(1, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_equal_one_rank), cmocka_unit_test(a_step_that_is_given_up_holds_up_nobody),
        cmocka_unit_test(stage_two_holds_a_share), cmocka_unit_test(a_split_gradient_is_named),
        cmocka_unit_test(half_precision_has_masters)};
    return cmocka_run_group_tests(tests, make_gradients, NULL);
}
