/* SPDX-License-Identifier: MIT */
/* Models as options ask for them, on the ranks that the launcher started. */
#include "gpt/model_options.h"

#include "gpt/hf_files.h"
#include "gpt/model_parts.h"
#include "train/device_data.h"

#include <stdio.h>
#include <unistd.h>

const char *const model_devices[] = {"cpu", "cuda", NULL};
const char *const model_dtypes[] = {"f32", "bf16", "f16", NULL};

static int path_in(const char *folder, const char *name, char path[4096])
{
    return snprintf(path, 4096, "%s/%s", folder, name) < 4096
               ? CODE_GOOD
               : fail(CODE_USAGE, "model: the path is longer than 4095 bytes");
}

model_place session_place(const model_session *s, ringx_dtype dtype)
{
    return (model_place){s->world, {s->ranks.tensor, s->ranks.context}, dtype, &s->on};
}

static int open_hf(model_session *s, const model_place *place, const char *folder, const char *config_path)
{
    gpt_config config;
    TRY(hf_config_read(&config, config_path));
    TRY(gpt_model_create(&s->model, &config, place->dtype, place->on, place->groups));
    return hf_weights_read(s->model, folder);
}

/* The first rank's word on what is there holds for all. */
static int open_model(model_session *s, const model_settings *m)
{
    char path[4096];
    TRY(path_in(m->folder, "config.json", path));
    model_place place = session_place(s, (ringx_dtype)m->dtype);
    int there = access(path, R_OK) == 0;
    TRY(group_broadcast(s->world, &there, sizeof there, 0));
    return there ? group_agree(s->world, open_hf(s, &place, m->folder, path))
                 : model_from_checkpoint(&s->model, &place, m->folder);
}

static int open_tokenizer(model_session *s, const model_settings *m, const tokenizer_settings *words)
{
    char path[4096];
    tokenizer_settings found = *words;
    TRY(path_in(m->folder, "tokenizer.json", path));
    if (!found.file && found.kind == TOKENIZER_ANY && access(path, R_OK) == 0)
        found.file = path;
    return tokenizer_from_settings(&s->tokenizer, &found);
}

static int open_session(model_session *s, const model_settings *model, const tokenizer_settings *words)
{
    int tensor = (int)(model->tensor_ranks ? model->tensor_ranks : 1), ranks = group_ranks(s->world);
    if (ranks % tensor)
        return fail(CODE_CONFIGURATION, "model-parallel-size is %d; it must divide the number of ranks, %d", tensor,
                    ranks);
    TRY(parallel_create(&s->ranks, s->world, (int[AXES]){tensor, ranks / tensor, 1}, NULL));
    TRY(device_choose(s->world, (ringx_device)model->device));
    TRY(group_agree(s->world, nn_open(&s->on, (ringx_device)model->device)));
    TRY(group_agree(s->world, words ? open_tokenizer(s, model, words) : CODE_GOOD));
    return open_model(s, model);
}

static void close_session(model_session *s)
{
    gpt_model_destroy(s->model);
    nn_close(&s->on);
    tokenizer_close(s->tokenizer);
    parallel_destroy(&s->ranks);
}

typedef struct session_task {
    const model_settings *model;
    const tokenizer_settings *words;
    session_body *body;
    const void *context;
} session_task;

static int run_session(group *world, void *task)
{
    const session_task *what = task;
    model_session s = {.world = world};
    int code = open_session(&s, what->model, what->words);
    if (!code)
        code = what->body(&s, what->context);
    close_session(&s);
    return code;
}

int session_run(const model_settings *model, const tokenizer_settings *words, session_body *body, const void *context)
{
    session_task task = {model, words, body, context};
    return model->folder ? group_world_run(run_session, &task)
                         : fail(CODE_USAGE, "model is missing; it names the folder of config.json and the weights");
}
