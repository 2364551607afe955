/* SPDX-License-Identifier: MIT */
/* Predictions: the same from all layouts, later lead times from earlier ones, scores of the written fields, pictures
 * that are decoded, and what is asked for wrongly. */
#include "apps/train/group_ranks.h"
#include "apps/vit/vit_waves.h"

#include "shared/safetensors.h"
#include "vit/cmd_vit_predict.h"

#include <omp.h>
#include <png.h>

enum { VALUES = 3 * HEIGHT * WIDTH };

typedef struct job {
    int tp, cp, dp, train_steps; /* train_steps 0: predict */
    vit_prediction_settings set;
    /* results of rank 0 */
    double loss, rmse[3];
} job;

static int train_some(vit_training *t, int steps)
{
    int code = CODE_GOOD;
    for (int i = 0; i < steps && !code; i++)
        code = vit_training_step(t);
    return code ? code : vit_training_save(t, NULL);
}

static void keep_scores(job *j, const vit_prediction *p)
{
    j->loss = p->t.losses[0];
    for (int c = 0; c < 3; c++)
        j->rmse[c] = vit_rmse(&p->t.sums[c], HEIGHT * WIDTH);
}

static int job_with(group *g, job *j, vit_config *c)
{
    vit_training t;
    vit_prediction p;
    if (j->train_steps) {
        int code = vit_training_create(&t, g, c, NULL);
        if (!code) {
            code = train_some(&t, j->train_steps);
            vit_training_destroy(&t);
        }
        return code;
    }
    int code = vit_prediction_create(&p, g, c, &j->set, NULL);
    if (code)
        return code;
    code = vit_prediction_run(&p);
    if (!code && group_rank(g) == 0)
        keep_scores(j, &p);
    vit_prediction_destroy(&p);
    return code;
}

static int job_body(group *g, void *context)
{
    job *j = context;
    vit_config c;
    char file[160], texts[6][200], *settings[7] = {texts[0], texts[1], texts[2], texts[3], texts[4], texts[5], NULL};
    omp_set_num_threads(1);
    snprintf(file, sizeof file, "%s/vit.yaml", folder);
    snprintf(texts[0], sizeof texts[0], "train_data_path=%s/train", folder);
    snprintf(texts[1], sizeof texts[1], "inf_data_path=%s/valid", folder);
    snprintf(texts[2], sizeof texts[2], "save_path=%s/trained", folder);
    snprintf(texts[3], sizeof texts[3], "tensor_parallel=%d", j->tp);
    snprintf(texts[4], sizeof texts[4], "context_parallel=%d", j->cp);
    snprintf(texts[5], sizeof texts[5], "expdir=%s/logs", folder);
    int code = vit_config_read(&c, file, "small", settings);
    if (code)
        return code;
    code = job_with(g, j, &c);
    vit_config_free(&c);
    return code;
}

static void run_job(job *j)
{
    run_group_good(j->tp * j->cp * j->dp, job_body, j);
}

static int make_trained(void **state)
{
    job j = {1, 2, 1, 20, {0}, 0, {0}};
    if (make_data(state))
        return -1;
    run_job(&j);
    return 0;
}

/* inp, tar, gen of a folder. */
static void read_tensors(const char *sub, float values[3][VALUES])
{
    static const char *const names[] = {"inp", "tar", "gen"};
    char path[160];
    st_file f;
    snprintf(path, sizeof path, "%s/tensors.safetensors", in_folder(sub));
    must(st_open(&f, path));
    for (int i = 0; i < 3; i++) {
        const st_tensor *t = st_find(&f, names[i]);
        assert_non_null(t);
        assert_int_equal(t->end - t->begin, VALUES * sizeof(float));
        must(st_read(&f, t, values[i]));
    }
    st_close(&f);
}

static double distance(const float *a, const float *b, double *size)
{
    double off = 0;
    *size = 0;
    for (int i = 0; i < VALUES; i++) {
        off += pow((double)a[i] - (double)b[i], 2);
        *size += pow((double)b[i], 2);
    }
    *size = sqrt(*size);
    return sqrt(off);
}

static job job_of(int tp, int cp, int dp, int64_t steps, const char *output)
{
    return (job){.tp = tp, .cp = cp, .dp = dp, .set = {.data = VIT_DATA_AUTO, .steps = steps, .output = output}};
}

static job three_steps; /* of one rank, in the folder `one` */

static void the_same_from_all_layouts(void **state)
{
    (void)state;
    static const int layouts[][3] = {{2, 2, 2}};
    static float one[3][VALUES], many[3][VALUES];
    char output[160];
    double size;
    snprintf(output, sizeof output, "%s/one", folder);
    three_steps = job_of(1, 1, 1, 3, output);
    run_job(&three_steps);
    read_tensors("one", one);
    assert_true(three_steps.loss > 0 && three_steps.loss < 1.5);
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        snprintf(output, sizeof output, "%s/many", folder);
        job j = job_of(layouts[i][0], layouts[i][1], layouts[i][2], 3, output);
        run_job(&j);
        read_tensors("many", many);
        assert_memory_equal(many[0], one[0], sizeof one[0]);
        assert_memory_equal(many[1], one[1], sizeof one[1]);
        double off = distance(many[2], one[2], &size);
        if (!(off <= 1e-5 * size) || !(fabs(j.loss - three_steps.loss) <= 1e-5 * three_steps.loss))
            fail_msg("layout %zu: off by %g of %g; loss %g, %g", i, off, size, j.loss, three_steps.loss);
    }
}

/* Scores are those of what was written; the truth is the data's; three steps are one, then two from its result. */
static void lead_times_follow_each_other(void **state)
{
    (void)state;
    static float one[3][VALUES], three[3][VALUES];
    char output[160];
    double size;
    snprintf(output, sizeof output, "%s/lead", folder);
    job first = job_of(1, 2, 1, 1, output);
    run_job(&first);
    read_tensors("lead", one), read_tensors("one", three); /* of the test before */
    assert_memory_equal(one[0], three[0], sizeof one[0]);
    double off = distance(one[2], one[1], &size);
    near(first.loss, off / size, 1e-5);
    off = distance(three[2], three[1], &size);
    near(three_steps.loss, off / size, 1e-5);
    assert_true(distance(three[1], one[1], &size) > 0.01 * size); /* another truth */
    assert_true(distance(three[2], one[2], &size) > 0.01 * size);
    assert_true(first.loss < three_steps.loss); /* farther is harder */
    for (int c = 0; c < 3; c++)
        assert_true(first.rmse[c] > 0 && isfinite(first.rmse[c]));
}

typedef struct seen { /* of one half of a picture: brightness */
    double mean, square;
} seen;

static void a_picture_of_two_panels(void **state)
{
    (void)state;
    char output[160], path[200];
    snprintf(output, sizeof output, "%s/picture", folder);
    job j = job_of(1, 1, 1, 1, output);
    j.set.channel = "t", j.set.sample = 3;
    run_job(&j);
    snprintf(path, sizeof path, "%s/output_image.png", output);
    png_image image = {.version = PNG_IMAGE_VERSION};
    assert_true(png_image_begin_read_from_file(&image, path));
    assert_int_equal(image.width, 3600);
    image.format = PNG_FORMAT_GRAY;
    uint8_t *pixels = malloc(PNG_IMAGE_SIZE(image));
    assert_true(png_image_finish_read(&image, NULL, pixels, 0, NULL));
    seen half[2] = {{0}};
    double product = 0, n = (double)image.width / 2 * (double)image.height;
    for (size_t y = 0; y < image.height; y++)
        for (size_t x = 0; x < image.width / 2; x++) {
            double left = pixels[y * image.width + x], right = pixels[y * image.width + x + image.width / 2];
            half[0].mean += left / n, half[0].square += left * left / n;
            half[1].mean += right / n, half[1].square += right * right / n;
            product += left * right / n;
        }
    double variances[2];
    for (int i = 0; i < 2; i++) {
        variances[i] = half[i].square - half[i].mean * half[i].mean;
        assert_true(variances[i] > 100);
    }
    double correlation = (product - half[0].mean * half[1].mean) / sqrt(variances[0] * variances[1]);
    assert_true(correlation > 0.5); /* a prediction that resembles the truth, in the same frame */
    free(pixels);
    snprintf(path, sizeof path, "%s/forecast.png", output);
    image = (png_image){.version = PNG_IMAGE_VERSION};
    assert_true(png_image_begin_read_from_file(&image, path));
    assert_int_equal(image.width, 5400);
    png_image_free(&image);
    snprintf(path, sizeof path, "%s/prediction.nc", output);
    assert_int_equal(access(path, R_OK), 0);
}

static void fails(job *j, int code, const char *says)
{
    group_run runs[MOST_GROUP_RANKS];
    int ranks = j->tp * j->cp * j->dp;
    run_group(runs, ranks, job_body, j);
    for (int i = 0; i < ranks; i++)
        if (runs[i].code != code || !strstr(runs[i].message, says))
            fail_msg("rank %d: code %d, '%s'; expected %d, '%s'", i, runs[i].code, runs[i].message, code, says);
}

static void refused(void **state)
{
    (void)state;
    char output[160];
    snprintf(output, sizeof output, "%s/refused", folder);
    job j = job_of(1, 2, 1, 1, output);
    j.set.sample = 1000;
    fails(&j, CODE_USAGE, "sample 1000");
    j = job_of(1, 2, 1, 1, output), j.set.data = VIT_DATA_VALID;
    fails(&j, CODE_CONFIGURATION, "no path of the valid data");
    j = job_of(1, 2, 1, 1, output), j.set.channel = "humidity";
    group_run runs[2];
    run_group(runs, 2, job_body, &j);
    assert_int_not_equal(runs[0].code, 0);
    assert_non_null(strstr(runs[0].message, "humidity"));
    assert_int_not_equal(access(output, F_OK), 0); /* nothing was written */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_same_from_all_layouts),
                                       cmocka_unit_test(lead_times_follow_each_other),
                                       cmocka_unit_test(a_picture_of_two_panels), cmocka_unit_test(refused)};
    return cmocka_run_group_tests_name("vit_predict", tests, make_trained, remove_folder);
}
