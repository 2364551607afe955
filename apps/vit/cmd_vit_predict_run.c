/* SPDX-License-Identifier: MIT */
/* Rolls a state forward and writes what comes out.  Every data rank computes the same; rank 0 writes. */
#include "shared/safetensors.h"
#include "vit/cmd_vit_predict.h"
#include "vit/vit_figure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const vit_data_names[] = {"train", "valid", "test", "auto", NULL};

static size_t image_values(const vit_prediction *p)
{
    const vit_config *c = p->t.c;
    return (size_t)(c->n_out_channels * c->img_size[0] * c->img_size[1]);
}

static int64_t band_row(const vit_prediction *p)
{
    return p->t.c->img_size[1];
}

/* ---- preparing ---- */

static int open_data(vit_prediction *p)
{
    const vit_config *c = p->t.c;
    const char *const folders[] = {c->train_data_path, c->valid_data_path, c->inf_data_path};
    int64_t which = p->set->data;
    if (which == VIT_DATA_AUTO)
        for (which = VIT_DATA_TEST; which > 0 && !(folders[which] && access(folders[which], R_OK) == 0);)
            which--;
    if (!folders[which])
        return fail(CODE_CONFIGURATION, "the configuration has no path of the %s data", vit_data_names[which]);
    vit_data_options o = vit_data_of(c, folders[which], 0);
    return vit_dataset_open(&p->t.valid, &o);
}

static int find_start(vit_prediction *p)
{
    const vit_dataset *d = p->t.valid;
    const vit_prediction_settings *s = p->set;
    char usual[24];
    if (s->sample >= vit_dataset_samples(d))
        return fail(CODE_USAGE, "sample %lld of %lld: they are counted from 0", (long long)s->sample,
                    (long long)vit_dataset_samples(d));
    p->start = vit_dataset_sample(d, s->sample);
    int code = s->date ? vit_dataset_find(d, s->date, &p->start) : CODE_GOOD;
    snprintf(usual, sizeof usual, "%lld", (long long)(p->t.c->n_out_channels > 2 ? 2 : p->t.c->n_out_channels - 1));
    return code ? code : vit_dataset_channel(d, s->channel ? s->channel : usual, &p->channel);
}

static int make_room(vit_prediction *p)
{
    vit_training *t = &p->t;
    size_t n = image_values(p) * sizeof(float);
    size_t band = (size_t)(t->c->n_out_channels * vit_model_band(t->m).count * band_row(p)) * sizeof(float);
    p->first = allocate(n), p->fields = allocate(n), p->truth = allocate(n);
    p->input = allocate(band), p->target = allocate(band);
    t->losses = allocate(sizeof *t->losses);
    t->sums = allocate((size_t)t->c->n_out_channels * sizeof *t->sums);
    bool all = p->first && p->fields && p->truth && p->input && p->target && t->losses && t->sums;
    return all ? CODE_GOOD : CODE_NO_MEMORY;
}

static int open_file(vit_prediction *p, bool first)
{
    char path[4096], source[256];
    prediction_about about = {.start = p->start, .leads = p->set->steps, .truth = true, .source = source};
    if (!first)
        return CODE_GOOD;
    int code = folder_make(p->folder);
    snprintf(source, sizeof source, "ringx-vit %s, configuration %s", ringx_version(), p->t.c->name);
    snprintf(path, sizeof path, "%s/prediction.nc", p->folder);
    return code ? code : prediction_create(&p->file, path, p->t.valid, &about);
}

int vit_prediction_create(vit_prediction *p, group *world, vit_config *c, const vit_prediction_settings *s, FILE *to)
{
    bool first = group_rank(world) == 0;
    *p = (vit_prediction){.t = {.c = c, .world = world, .forward_only = true}, .set = s, .folder = s->output};
    vit_training *t = &p->t;
    c->local_batch_size = 1; /* every data rank predicts the same one */
    int code = vit_run_folder(t);
    p->folder = p->folder ? p->folder : t->folder;
    if (!code)
        code = vit_log_open(&t->log, to, NULL, first);
    if (!code)
        code = open_data(p);
    if (!code)
        code = find_start(p);
    code = group_agree(world, code);
    if (!code)
        code = vit_set_up_model(t);
    if (!code)
        code = vit_training_resume(t, true);
    if (!code)
        code = group_agree(world, make_room(p));
    if (!code)
        code = group_agree(world, open_file(p, first));
    if (code)
        vit_prediction_destroy(p);
    return code;
}

void vit_prediction_destroy(vit_prediction *p)
{
    float *const all[] = {p->first, p->fields, p->truth, p->input, p->target};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    prediction_abandon(p->file);
    vit_training_destroy(&p->t);
}

/* ---- one lead time ---- */

/* This rank's rows of a whole image. */
static void cut_band(const vit_prediction *p, const float *image, float *band)
{
    vit_band b = vit_model_band(p->t.m);
    int64_t rows = p->t.c->img_size[0], row = band_row(p);
    for (int64_t c = 0; c < p->t.c->n_out_channels; c++)
        memcpy(band + c * b.count * row, image + (c * rows + b.first) * row, (size_t)(b.count * row) * sizeof *band);
}

static vit_moment moment_of(const vit_prediction *p, int64_t lead)
{
    return (vit_moment){p->start.year, p->start.step + (lead + 1) * p->t.c->dt};
}

static int read_truth(vit_prediction *p, int64_t lead)
{
    vit_moment m = moment_of(p, lead);
    p->known = m.step < vit_dataset_steps(p->t.valid, m.year);
    vit_band all = {0, p->t.c->img_size[0]};
    int code = p->known ? vit_dataset_read(p->t.valid, m, all, p->truth) : CODE_GOOD;
    if (!code && p->known)
        cut_band(p, p->truth, p->target);
    return code;
}

static void print_scores(vit_prediction *p, int64_t lead)
{
    vit_training *t = &p->t;
    const vit_channel *channels = vit_dataset_channels(t->valid);
    double pixels = (double)t->c->img_size[0] * (double)t->c->img_size[1];
    char date[VIT_NAME];
    vit_log_line(&t->log, "lead time %lld, %s", (long long)lead + 1,
                 vit_dataset_date(t->valid, p->known ? moment_of(p, lead) : p->start, date));
    for (int64_t c = 0; c < t->c->n_out_channels; c++) {
        double rmse = vit_rmse(&t->sums[c], pixels);
        vit_log_line(&t->log, "  %s: RMSE=%f, in physical units %g%s%s, ACC=%f", channels[c].name, rmse,
                     rmse * channels[c].std, *channels[c].unit ? " " : "", channels[c].unit, vit_acc(&t->sums[c]));
    }
    if (group_rank(t->world) == 0)
        vit_log_print(&t->log, "loss %f", t->losses[0]);
}

static int one_lead(vit_prediction *p, int64_t lead)
{
    vit_training *t = &p->t;
    vit_batch b = {.input = p->input, .target = p->target};
    int code = group_agree(t->world, read_truth(p, lead));
    if (!code)
        code = p->known ? vit_model_loss(t->m, &b, t->losses) : vit_model_predict(t->m, b.input);
    if (!code && p->known)
        code = vit_model_scores(t->m, vit_dataset_weights(t->valid), t->sums);
    if (!code)
        code = vit_model_fields(t->m, p->fields);
    if (!code && p->file)
        code = prediction_write(p->file, lead, p->fields, p->known ? p->truth : NULL);
    code = group_agree(t->world, code);
    if (code)
        return code;
    if (p->known)
        print_scores(p, lead);
    cut_band(p, p->fields, p->input);
    return CODE_GOOD;
}

/* ---- what is written at the end ---- */

static int write_tensors(const vit_prediction *p)
{
    const vit_config *c = p->t.c;
    const int64_t shape[] = {1, c->n_out_channels, c->img_size[0], c->img_size[1]};
    const float *const values[] = {p->first, p->known ? p->truth : NULL, p->fields};
    static const char *const names[] = {"inp", "tar", "gen"};
    char path[4096];
    st_output *o;
    snprintf(path, sizeof path, "%s/tensors.safetensors", p->folder);
    int code = st_create(&o, path);
    if (code)
        return code;
    for (int i = 0; i < 3 && !code; i++)
        code = values[i] ? st_declare(o, names[i], ST_F32, 4, shape) : CODE_GOOD;
    for (int i = 0; i < 3 && !code; i++)
        code = values[i] ? st_write(o, values[i], image_values(p) * sizeof(float)) : CODE_GOOD;
    if (!code)
        return st_commit(o);
    st_abandon(o);
    return code;
}

/* "t, 1996-01-17 06:00 + 12 h", and the scores. */
static void describe(const vit_prediction *p, char title[160], char subtitle[160])
{
    const vit_training *t = &p->t;
    const vit_channel *c = &vit_dataset_channels(t->valid)[p->channel];
    double pixels = (double)t->c->img_size[0] * (double)t->c->img_size[1];
    int64_t seconds[2] = {0, 0}, lead = p->set->steps;
    char date[VIT_NAME], later[40];
    snprintf(later, sizeof later, "%lld steps", (long long)(lead * t->c->dt));
    if (p->known && vit_dataset_seconds(t->valid, p->start, &seconds[0]) &&
        vit_dataset_seconds(t->valid, moment_of(p, lead - 1), &seconds[1]))
        snprintf(later, sizeof later, "%g h", (double)(seconds[1] - seconds[0]) / 3600);
    snprintf(title, 160, "%s, %s + %s", c->name, vit_dataset_date(t->valid, p->start, date), later);
    subtitle[0] = '\0';
    if (p->known)
        snprintf(subtitle, 160, "RMSE %.3g%s%s, ACC %.3f; all channels: relative L2 error %.3f",
                 vit_rmse(&t->sums[p->channel], pixels) * c->std, *c->unit ? " " : "", c->unit,
                 vit_acc(&t->sums[p->channel]), t->losses[0]);
}

/* What the data miss of the truth is grey; that is the truth's last use. */
static int write_pictures(vit_prediction *p)
{
    const vit_config *c = p->t.c;
    int64_t at = p->channel * c->img_size[0] * c->img_size[1];
    char title[160], subtitle[160], path[4096];
    vit_figure f = {.data = p->t.valid, .rows = c->img_size[0], .columns = c->img_size[1], .channel = p->channel};
    f.patch = c->patch_size, f.truth = p->known ? p->truth + at : NULL, f.prediction = p->fields + at;
    f.title = title, f.subtitle = subtitle;
    describe(p, title, subtitle);
    snprintf(path, sizeof path, "%s/output_image.png", p->folder);
    int code = p->known ? vit_dataset_mask(p->t.valid, moment_of(p, p->set->steps - 1), p->truth) : CODE_GOOD;
    if (!code)
        code = vit_figure_write(&f, path);
    snprintf(path, sizeof path, "%s/forecast.png", p->folder);
    f.difference = true;
    return code ? code : vit_figure_write(&f, path);
}

int vit_prediction_run(vit_prediction *p)
{
    vit_training *t = &p->t;
    vit_band all = {0, t->c->img_size[0]};
    int code = group_agree(t->world, vit_dataset_read(t->valid, p->start, all, p->first));
    if (!code)
        cut_band(p, p->first, p->input);
    for (int64_t lead = 0; lead < p->set->steps && !code; lead++)
        code = one_lead(p, lead);
    if (!code && p->file) {
        code = prediction_commit(p->file);
        p->file = NULL;
        if (!code)
            code = write_tensors(p);
        if (!code)
            code = write_pictures(p);
        if (!code)
            vit_log_line(&t->log, "Written to %s", p->folder);
    }
    return group_agree(t->world, code);
}
