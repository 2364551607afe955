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

int session_open(model_session *s, const model_settings *model, const tokenizer_settings *words)
{
    *s = (model_session){0};
    if (!model->folder)
        return fail(CODE_USAGE, "model is missing; it names the folder of config.json and the weights");
    int tensor = (int)(model->tensor_ranks ? model->tensor_ranks : 1), code = group_world(&s->world);
    if (!code && group_ranks(s->world) % tensor)
        code = fail(CODE_CONFIGURATION, "model-parallel-size is %d; it must divide the number of ranks, %d", tensor,
                    group_ranks(s->world));
    if (!code)
        code = parallel_create(&s->ranks, s->world, (int[AXES]){tensor, group_ranks(s->world) / tensor, 1}, NULL);
    if (!code)
        code = device_choose(s->world, (ringx_device)model->device);
    if (!code)
        code = group_agree(s->world, nn_open(&s->on, (ringx_device)model->device));
    if (!code)
        code = group_agree(s->world, words ? open_tokenizer(s, model, words) : CODE_GOOD);
    if (!code)
        code = open_model(s, model);
    return code ? session_close(s, code) : CODE_GOOD;
}

int session_close(model_session *s, int code)
{
    bool first = !s->world || group_rank(s->world) == 0;
    gpt_model_destroy(s->model);
    nn_close(&s->on);
    tokenizer_close(s->tokenizer);
    parallel_destroy(&s->ranks);
    group_destroy(s->world);
    group_mpi_finish();
    if (!first)
        failure_set("");
    return code;
}
