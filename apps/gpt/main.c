/* SPDX-License-Identifier: MIT */
/* ringx-gpt: tokenizers, data and training of Llama models with long context. */
#include "gpt/gpt_command.h"

static const program_command *const commands[] = {&gpt_tokenizer_train,
                                                  &gpt_tokenizer_encode,
                                                  &gpt_tokenizer_decode,
                                                  &gpt_preprocess,
                                                  &gpt_generate_command,
                                                  &gpt_convert,
                                                  &gpt_evaluate,
                                                  &gpt_train,
                                                  &gpt_plan,
                                                  &gpt_curves,
                                                  NULL};

int main(int argc, char **argv)
{
    static const program gpt = {.name = "ringx-gpt",
                                .tagline = "Llama models with long context",
                                .commands = commands,
                                .column = 18,
                                .two_words = true,
                                .trains = true};
    return program_main(&gpt, argc, argv);
}
