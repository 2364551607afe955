/* SPDX-License-Identifier: MIT */
/* ringx-gpt convert: models between Hugging Face's files and checkpoints of training runs. */
#include "gpt/gpt_command.h"
#include "gpt/hf_files.h"
#include "gpt/model_options.h"

typedef struct convert_settings {
    given_arguments given;
    model_settings model;
    const char *output;
    int64_t form;
} convert_settings;

static const char *const forms[] = {"hf", "checkpoint", NULL};

static int convert(model_session *session, const void *settings)
{
    const convert_settings *s = settings;
    model_place place = session_place(session, (ringx_dtype)s->model.dtype);
    return s->form ? model_to_checkpoint(session->model, &place, s->output) : hf_write(session->model, s->output);
}

static int run(void *settings)
{
    const convert_settings *s = settings;
    return s->output ? session_run(&s->model, NULL, convert, s)
                     : fail(CODE_USAGE, "output is missing; it names the folder to write into");
}

#define FIELD(name) offsetof(convert_settings, name)

static const option model_rows[] = {MODEL_ROWS(convert_settings), {0}};
static const option file_rows[] = {
    {.name = "output", .value = "FOLDER", .text = "what to write", .kind = OPTION_TEXT, .field = FIELD(output)},
    {.name = "to",
     .value = "FORM",
     .text =
         "hf (default): config.json and model.safetensors of the dtype; checkpoint: weights to begin a training run "
         "from, with finetune",
     .kind = OPTION_CHOICE,
     .field = FIELD(form),
     .choices = forms},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = FIELD(given.help)},
    {0}};
static const option_group groups[] = {{"Model", model_rows}, {"Output", file_rows}, {0}};

const program_command gpt_convert = {
    .options = {.program = "ringx-gpt",
                .name = "convert",
                .text = "models between Hugging Face's files and checkpoints",
                .groups = groups,
                .run = run},
    .settings_bytes = sizeof(convert_settings),
};
