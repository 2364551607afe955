/* SPDX-License-Identifier: MIT */
/* The subcommands of ringx-gpt. */
#ifndef RINGX_GPT_COMMAND_H
#define RINGX_GPT_COMMAND_H

#include "shared/options.h"

typedef struct gpt_command {
    subcommand options;
    size_t settings_bytes; /* of its settings, which begin with given_arguments; they are zeroed, then defaults runs */
} gpt_command;

extern const gpt_command gpt_tokenizer_train, gpt_tokenizer_encode, gpt_tokenizer_decode, gpt_preprocess;
extern const gpt_command gpt_generate_command, gpt_convert, gpt_evaluate;
extern const gpt_command gpt_train, gpt_plan, gpt_curves;

#endif
