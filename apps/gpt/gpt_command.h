/* SPDX-License-Identifier: MIT */
/* The subcommands of ringx-gpt. */
#ifndef RINGX_GPT_COMMAND_H
#define RINGX_GPT_COMMAND_H

#include "shared/program_main.h"

extern const program_command gpt_tokenizer_train, gpt_tokenizer_encode, gpt_tokenizer_decode, gpt_preprocess;
extern const program_command gpt_generate_command, gpt_convert, gpt_evaluate;
extern const program_command gpt_train, gpt_plan, gpt_curves;

#endif
