/* SPDX-License-Identifier: MIT */
/* The options that say which model, on which ranks, with which tokenizer: shared by subcommands that run one. */
#ifndef GPT_MODEL_OPTIONS_H
#define GPT_MODEL_OPTIONS_H

#include "gpt/model.h"
#include "gpt/model_checkpoint.h"
#include "gpt/tokenizer_options.h"

typedef struct model_settings {
    const char *folder;
    int64_t device, dtype, tensor_ranks;
} model_settings;

/* Rows for a settings struct S with the member `model`. */
#define MODEL_ROWS(S)                                                                                                  \
    {.name = "model",                                                                                                  \
     .value = "FOLDER",                                                                                                \
     .text = "config.json and safetensors files as of Hugging Face, or checkpoints of a training run; its "            \
             "tokenizer.json is the tokenizer",                                                                        \
     .kind = OPTION_TEXT,                                                                                              \
     .field = offsetof(S, model.folder)},                                                                              \
        {.name = "device",                                                                                             \
         .value = "NAME",                                                                                              \
         .text = "where it computes: cpu (default) or cuda",                                                           \
         .kind = OPTION_CHOICE,                                                                                        \
         .field = offsetof(S, model.device),                                                                           \
         .choices = model_devices},                                                                                    \
        {.name = "dtype",                                                                                              \
         .value = "NAME",                                                                                              \
         .text = "of weights and activations: f32 (default), bf16 or f16",                                             \
         .kind = OPTION_CHOICE,                                                                                        \
         .field = offsetof(S, model.dtype),                                                                            \
         .choices = model_dtypes},                                                                                     \
    {                                                                                                                  \
        .name = "model-parallel-size", .value = "N",                                                                   \
        .text = "ranks that share each matrix (default 1); tokens are over the others", .kind = OPTION_INTEGER,        \
        .field = offsetof(S, model.tensor_ranks), .low = 1, .high = 65536                                              \
    }
extern const char *const model_devices[], *const model_dtypes[]; /* by ringx_device, ringx_dtype */

typedef struct model_session { /* what a subcommand works with */
    nn_context on;
    group *world;
    parallel ranks;
    gpt_model *model;
    tokenizer *tokenizer;
} model_session;

/* On the ranks that the launcher started, as group_world_run: opens model and tokenizer, calls body, closes them.
 * words NULL: no tokenizer. */
typedef int session_body(model_session *s, const void *context);
int session_run(const model_settings *model, const tokenizer_settings *words, session_body *body, const void *context);
model_place session_place(const model_session *s, ringx_dtype dtype);

#endif
