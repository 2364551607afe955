/* SPDX-License-Identifier: MIT */
/* ringx-gpt train. */
#include "gpt/cmd_train.h"
#include "gpt/gpt_command.h"

#include "train/stop.h"

#include <math.h>
#include <string.h>

#define MOST_FILES 64

typedef struct train_settings {
    given_arguments given;
    file_list configs, settings;
    const char *folder, *plot;
    bool bigram;
} train_settings;

static int read_configuration(const train_settings *s, group *world, config *c)
{
    char *settings[MOST_FILES + 1] = {NULL};
    if (s->configs.count == 0 || s->settings.count > MOST_FILES)
        return fail(CODE_USAGE,
                    s->configs.count ? "at most %d settings"
                                     : "at least one YAML file is needed, as in ringx-gpt train a.yml b.yml",
                    MOST_FILES);
    for (size_t i = 0; i < s->settings.count; i++)
        settings[i] = s->settings.items[i];
    return group_agree(world, config_read(c, s->folder, s->configs.items, s->configs.count, settings));
}

/* The files that were read, each once. */
static void list_files(const config *c, const char *files[MOST_FILES + 1])
{
    size_t count = 0;
    for (size_t row = 0; row < config_key_count(); row++) {
        bool known = !c->from[row].file;
        for (size_t i = 0; i < count && !known; i++)
            known = strcmp(files[i], c->from[row].file) == 0;
        if (!known && count < MOST_FILES)
            files[count++] = c->from[row].file;
    }
    files[count] = NULL;
}

/* What was learnt: a picture of it, and whether it is more than a bigram model of the text knows. */
static int judge(training *t, const train_settings *s)
{
    static const curve_labels labels = {"nats per token", "bigram model, validation"};
    double bigram = NAN;
    int code = s->bigram ? training_bigram(t, training_last_evaluation(t), &bigram) : CODE_GOOD;
    if (!code && t->log && s->bigram)
        fprintf(t->log, " bigram model of the training text | lm_loss value: %.6E | this model: %.6E |\n", bigram,
                t->valid_loss);
    if (!code && t->log && s->plot)
        code = curve_plot(&t->curve, &labels, bigram, s->plot);
    if (!code && s->bigram && !(t->valid_loss < bigram))
        code = fail(CODE_WRONG, "the validation loss %.4f is not below that of a bigram model, %.4f", t->valid_loss,
                    bigram);
    return group_agree(t->world, code);
}

/* As ringx-gpt plan says it before. */
static int print_memory(const training *t)
{
    gpt_memory m;
    gpt_model_memory(t->m, &m);
    double device = (double)training_bytes(t), host = (double)m.host;
    int code = group_max(t->world, &device);
    if (!code)
        code = group_max(t->world, &host);
    if (!code && t->log)
        fprintf(t->log, " memory of the rank that holds most: %.0f bytes on the device, %.0f in host memory\n", device,
                host);
    return code;
}

/* What is in effect. */
static int print_beginning(const training *t)
{
    int code = CODE_GOOD;
    if (t->log) {
        fprintf(t->log,
                "ringx-gpt train: %d ranks, tensor %d × context %d × data %d; %zu parameters here; MFU counts "
                "causal attention once and no recomputation\n",
                group_ranks(t->world), t->p.size[0], t->p.size[1], t->p.size[2], gpt_model_elements(t->m));
        code = config_print(t->c, t->log);
        code = code ? code : config_notes(t->c, t->log);
    }
    code = group_agree(t->world, code);
    code = code ? code : print_memory(t);
    if (t->log)
        fflush(t->log);
    return code;
}

static int train_with(group *world, config *c, const train_settings *s, FILE *log)
{
    training t;
    const char *files[MOST_FILES + 1];
    list_files(c, files);
    int code = training_create(&t, world, c, log);
    if (code)
        return code;
    code = print_beginning(&t);
    if (!code)
        code = training_resume(&t);
    stop_watch();
    if (!code)
        code = training_run(&t, files);
    if (!code && t.iteration == c->train_iters)
        code = judge(&t, s);
    training_destroy(&t);
    return code;
}

static int train_logged(group *world, config *c, const train_settings *s)
{
    FILE *log;
    int code = group_agree(world, log_open(&log, group_rank(world) == 0 ? c->log_dir : NULL));
    if (!code)
        code = train_with(world, c, s, log);
    log_close(log);
    return code;
}

static int train_configured(group *world, void *settings)
{
    const train_settings *s = settings;
    config c;
    int code = read_configuration(s, world, &c);
    if (code)
        return code;
    code = train_logged(world, &c, s);
    config_free(&c);
    return code;
}

static int train(void *settings)
{
    return group_world_run(train_configured, settings);
}

static const option train_rows[] = {
    {.name = "folder",
     .value = "DIR",
     .text = "where the files are; also -d DIR",
     .kind = OPTION_TEXT,
     .field = offsetof(train_settings, folder)},
    {.name = "set",
     .value = "KEY=VALUE…",
     .text = "replaces what the files say, as in train_iters=100 optimizer.params.lr=1e-3",
     .kind = OPTION_FILES,
     .field = offsetof(train_settings, settings)},
    {.name = "plot",
     .value = "FILE",
     .text = "writes the losses over iterations as SVG when training is done",
     .kind = OPTION_TEXT,
     .field = offsetof(train_settings, plot)},
    {.name = "bigram",
     .text = "compares with a bigram model of the training text; ends with 1 unless the validation loss is below",
     .kind = OPTION_FLAG,
     .field = offsetof(train_settings, bigram)},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = offsetof(train_settings, given.help)},
    {0}};
static const option train_rest = {
    .name = "", .value = "FILES", .kind = OPTION_FILES, .field = offsetof(train_settings, configs)};
static const option_group train_groups[] = {{"Configuration", train_rows}, {0}};

const program_command gpt_train = {
    .options = {.program = "ringx-gpt",
                .name = "train",
                .text = "trains a model; under mpirun, srun or torchrun on many ranks",
                .help = "FILES are YAML files with the original's keys, merged; .yml may be left out.\n"
                        "With save set, checkpoints are whole or not there; with load set, training goes on from the\n"
                        "newest, on any number of ranks. SIGTERM and SIGUSR1 save and end with 75; 80: the loss or a\n"
                        "gradient was not finite.\n",
                .groups = train_groups,
                .run = train,
                .letters = "d folder",
                .rest = &train_rest},
    .settings_bytes = sizeof(train_settings),
};
