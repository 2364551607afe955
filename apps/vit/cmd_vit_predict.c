/* SPDX-License-Identifier: MIT */
/* ringx-vit predict. */
#include "vit/cmd_vit_predict.h"

#include "vit/vit_command.h"
#include "vit/vit_config_rows.h"

typedef struct predict_settings {
    given_arguments given;
    vit_config_settings config;
    vit_prediction_settings what;
} predict_settings;

static int predict_with(group *world, vit_config *c, const predict_settings *s)
{
    vit_prediction p;
    int code = vit_prediction_create(&p, world, c, &s->what, stdout);
    if (code)
        return code;
    code = vit_prediction_run(&p);
    vit_prediction_destroy(&p);
    return code;
}

static int predict_configured(group *world, void *settings)
{
    const predict_settings *s = settings;
    vit_config c;
    int code = group_agree(world, vit_config_open(&c, &s->config));
    if (code)
        return code;
    code = predict_with(world, &c, s);
    vit_config_free(&c);
    return code;
}

static int predict(void *settings)
{
    return group_world_run(predict_configured, settings);
}

static void defaults(void *settings)
{
    vit_prediction_settings *what = &((predict_settings *)settings)->what;
    what->steps = 1, what->data = VIT_DATA_AUTO;
}

#define F(member) (offsetof(predict_settings, what) + offsetof(vit_prediction_settings, member))

static const option config_rows[] = {VIT_CONFIG_ROWS(predict_settings), {0}};
static const option what_rows[] = {
    {.name = "data",
     .value = "WHICH",
     .text = "train, valid, test (inf_data_path), or auto (default): the last of these that is there",
     .kind = OPTION_CHOICE,
     .field = F(data),
     .choices = vit_data_names},
    {.name = "date",
     .value = "DATE",
     .text = "of the state to begin with, as in \"1996-01-17 06:00\"",
     .kind = OPTION_TEXT,
     .field = F(date)},
    {.name = "sample",
     .value = "N",
     .text = "instead of a date: sample N of the data, as training counts them (default 0)",
     .kind = OPTION_INTEGER,
     .field = F(sample),
     .high = 9e15},
    {.name = "steps",
     .value = "N",
     .text = "lead times; each begins with the prediction before it (default 1)",
     .kind = OPTION_INTEGER,
     .field = F(steps),
     .low = 1,
     .high = 100000},
    {.name = "channel",
     .value = "NAME",
     .text = "of the pictures: a name or a number (default: 2, as in the original, or the last)",
     .kind = OPTION_TEXT,
     .field = F(channel)},
    {.name = "output",
     .value = "DIR",
     .text = "where the files go (default: the run's folder)",
     .kind = OPTION_TEXT,
     .field = F(output)},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = offsetof(predict_settings, given.help)},
    {0}};
static const option_group groups[] = {{"Configuration", config_rows}, {"Prediction", what_rows}, {0}};

const program_command vit_predict_command = {
    .options = {.program = "ringx-vit",
                .name = "predict",
                .text = "predicts from a state, one or several steps ahead, with the newest checkpoint",
                .help = "Prints the scores of each channel and lead time, and writes output_image.png (truth and\n"
                        "prediction of the last lead time), forecast.png (these on one scale, and their difference),\n"
                        "prediction.nc (all channels and lead times in physical units) and tensors.safetensors (inp,\n"
                        "tar, gen: normalised, of the last lead time).\n",
                .groups = groups,
                .defaults = defaults,
                .run = predict},
    .settings_bytes = sizeof(predict_settings),
};
