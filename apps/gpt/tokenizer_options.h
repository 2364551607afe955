/* SPDX-License-Identifier: MIT */
/* The options that say which tokenizer, shared by subcommands. */
#ifndef RINGX_GPT_TOKENIZER_OPTIONS_H
#define RINGX_GPT_TOKENIZER_OPTIONS_H

#include "gpt/tokenizer.h"
#include "shared/options.h"

typedef struct tokenizer_settings {
    int64_t kind, invalid; /* tokenizer_kind, invalid_utf8 */
    const char *file, *merges;
    optional_bool parse_special, add_special;
} tokenizer_settings;

/* Rows for a settings struct S with the member `tokenizer`. */
#define TOKENIZER_ROWS(S)                                                                                              \
    {.name = "tokenizer-type",                                                                                         \
     .value = "NAME",                                                                                                  \
     .text = "HFTokenizer (tokenizer.json), TiktokenTokenizer (tokenizer.model of Llama-3), GPT2BPETokenizer "         \
             "(vocab.json, merges.txt), CharLevelTokenizer (bytes); default auto: by what the file holds",             \
     .kind = OPTION_CHOICE,                                                                                            \
     .field = offsetof(S, tokenizer.kind),                                                                             \
     .choices = tokenizer_kinds},                                                                                      \
        {.name = "vocab-file",                                                                                         \
         .value = "FILE",                                                                                              \
         .text = "the tokenizer's file",                                                                               \
         .kind = OPTION_TEXT,                                                                                          \
         .field = offsetof(S, tokenizer.file)},                                                                        \
    {                                                                                                                  \
        .name = "merge-file", .value = "FILE", .text = "GPT2BPETokenizer: merges.txt", .kind = OPTION_TEXT,            \
        .field = offsetof(S, tokenizer.merges)                                                                         \
    }
/* For those that encode. */
#define ENCODING_ROWS(S)                                                                                               \
    {.name = "special",                                                                                                \
     .text = "special tokens written out in the text become their ids (default: yes for tokenizer.json, as its "       \
             "package does, no for the others)",                                                                       \
     .kind = OPTION_SWITCH,                                                                                            \
     .field = offsetof(S, tokenizer.parse_special)},                                                                   \
        {.name = "add-special",                                                                                        \
         .text = "put around each text what the tokenizer's post-processor does, such as <|begin_of_text|> "           \
                 "(default: yes for tokenizer.json, as its package does, no for the others)",                          \
         .kind = OPTION_SWITCH,                                                                                        \
         .field = offsetof(S, tokenizer.add_special)},                                                                 \
    {                                                                                                                  \
        .name = "invalid-utf8", .value = "HOW",                                                                        \
        .text = "text that is not UTF-8: error (default), replace by U+FFFD, or keep the bytes",                       \
        .kind = OPTION_CHOICE, .field = offsetof(S, tokenizer.invalid), .choices = invalid_utf8_names                  \
    }

int tokenizer_from_settings(tokenizer **made, const tokenizer_settings *s);
encode_options encoding_from_settings(const tokenizer *t, const tokenizer_settings *s);

#endif
