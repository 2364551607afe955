/* SPDX-License-Identifier: MIT */
/* ringx-vit train. */
#include "vit/cmd_vit_train.h"

#include "train/stop.h"
#include "vit/vit_command.h"
#include "vit/vit_config_rows.h"

#include <math.h>

typedef struct train_settings {
    given_arguments given;
    vit_config_settings config;
    const char *plot;
    bool persistence;
} train_settings;

/* A picture of what was learnt, and whether that is more than that nothing changes. */
static int judge(vit_training *t, const train_settings *s)
{
    static const curve_labels labels = {"relative L2 error", "persistence"};
    double model = NAN, persistence = NAN;
    int code = s->persistence ? vit_training_judge(t, &model, &persistence) : CODE_GOOD;
    if (!code && s->persistence)
        vit_log_line(&t->log, "  Validation, every pair once: relative L2 error=%f, of persistence=%f", model,
                     persistence);
    if (!code && s->plot && group_rank(t->world) == 0)
        code = curve_plot(&t->curve, &labels, persistence, s->plot);
    if (!code && s->persistence && !(model < persistence))
        code = fail(CODE_WRONG, "the validation error %.4f is not below that of persistence, %.4f", model, persistence);
    return group_agree(t->world, code);
}

static int train_with(group *world, vit_config *c, const train_settings *s)
{
    vit_training t;
    const char *files[] = {c->file, NULL};
    int code = vit_training_create(&t, world, c, stdout);
    if (code)
        return code;
    code = vit_training_resume(&t, false);
    stop_watch();
    if (!code)
        code = vit_training_run(&t, files);
    if (!code)
        code = judge(&t, s);
    vit_training_destroy(&t);
    return code;
}

static int train_configured(group *world, void *settings)
{
    const train_settings *s = settings;
    vit_config c;
    int code = group_agree(world, vit_config_open(&c, &s->config));
    if (code)
        return code;
    code = train_with(world, &c, s);
    vit_config_free(&c);
    return code;
}

static int train(void *settings)
{
    return group_world_run(train_configured, settings);
}

static const option config_rows[] = {VIT_CONFIG_ROWS(train_settings), {0}};
static const option train_rows[] = {
    {.name = "plot",
     .value = "FILE",
     .text = "writes the losses over iterations as SVG when training is done",
     .kind = OPTION_TEXT,
     .field = offsetof(train_settings, plot)},
    {.name = "persistence",
     .text = "compares with the forecast that nothing changes; ends with 1 unless the validation error is below",
     .kind = OPTION_FLAG,
     .field = offsetof(train_settings, persistence)},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = offsetof(train_settings, given.help)},
    {0}};
static const option_group train_groups[] = {{"Configuration", config_rows}, {"Results", train_rows}, {0}};

const program_command vit_train_command = {
    .options = {.program = "ringx-vit",
                .name = "train",
                .text = "trains a model; under mpirun, srun or torchrun on many ranks",
                .help =
                    "Checkpoints, <save_path>/epoch_<e>, are whole or not there; training goes on from the newest,\n"
                    "on any number of ranks. SIGTERM and SIGUSR1 save and end with 75; 80: the loss or a gradient\n"
                    "was not finite.\n",
                .groups = train_groups,
                .run = train},
    .settings_bytes = sizeof(train_settings),
};
