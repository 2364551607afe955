/* SPDX-License-Identifier: MIT */
/* ringx-gpt tokenizer train: a byte-level BPE of the user's own texts. */
#include "gpt/bpe_train.h"
#include "gpt/gpt_command.h"
#include "gpt/pretokenize.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_SPECIAL 1024

typedef struct training_settings {
    given_arguments given;
    file_list input;
    const char *output, *special;
    int64_t size, least, pattern, invalid, threads;
} training_settings;

static const char *const pattern_names[] = {"llama3", "gpt2", NULL};

static void defaults(void *settings)
{
    training_settings *s = settings;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    s->special = "<|endoftext|>,<|padding|>";
    s->size = 32000;
    s->least = 2;
    s->threads = cores < 1 ? 1 : cores > 64 ? 64 : cores;
}

/* A comma-separated list, cut in place. */
static int cut_special(char *list, const char **names, size_t *count)
{
    *count = 0;
    for (char *name = list, *comma; name; name = comma ? comma + 1 : NULL) {
        comma = strchr(name, ',');
        if (comma)
            *comma = '\0';
        if (!*name || *count == MAX_SPECIAL)
            return fail(CODE_USAGE, "special-tokens must be up to %d texts with commas between, none of them empty",
                        MAX_SPECIAL);
        for (size_t i = 0; i < *count; i++)
            if (strcmp(names[i], name) == 0)
                return fail(CODE_USAGE, "special-tokens names '%s' twice", name);
        names[(*count)++] = name;
    }
    return CODE_GOOD;
}

static int train_on(const training_settings *s, const bpe_plan *plan)
{
    word_counts words;
    bpe_trained trained;
    word_sources from = {.paths = s->input.items,
                         .count = s->input.count,
                         .pattern = s->pattern ? pattern_gpt2 : pattern_llama3,
                         .invalid = (invalid_utf8)s->invalid,
                         .threads = (size_t)s->threads};
    int code = words_count(&from, &words);
    if (!code) {
        code = bpe_train(&words, plan, &trained);
        code = code ? code : tokenizer_write(s->output, &trained, plan, s->pattern == 0);
        if (!code)
            printf("%s: %zu tokens, %zu merges, from %zu different pieces of text\n", s->output, trained.words.count,
                   trained.n_merges, words.count);
        bpe_trained_free(&trained);
    }
    words_free(&words);
    return code;
}

static int train(void *settings)
{
    const training_settings *s = settings;
    const char *names[MAX_SPECIAL];
    bpe_plan plan = {.size = (size_t)s->size, .least = s->least, .special = names};
    if (s->input.count == 0)
        return fail(CODE_USAGE, "input is missing; it names text files");
    if (!s->output)
        return fail(CODE_USAGE, "output is missing; it names the tokenizer.json to be written");
    char *list = strdup(s->special);
    if (!list)
        return fail(CODE_NO_MEMORY, "out of memory: %zu bytes were needed", strlen(s->special) + 1);
    int code = cut_special(list, names, &plan.n_special);
    if (!code && plan.size < plan.n_special + 256)
        code = fail(CODE_USAGE, "vocab-size is %zu; it must be at least %zu: 256 bytes and %zu special tokens",
                    plan.size, plan.n_special + 256, plan.n_special);
    code = code ? code : train_on(s, &plan);
    free(list);
    return code;
}

#define FIELD(name) offsetof(training_settings, name)

static const option rows[] = {
    {.name = "input", .value = "FILES", .text = "UTF-8 text files", .kind = OPTION_FILES, .field = FIELD(input)},
    {.name = "output",
     .value = "FILE",
     .text = "the tokenizer.json to be written",
     .kind = OPTION_TEXT,
     .field = FIELD(output)},
    {.name = "vocab-size",
     .value = "N",
     .text = "tokens, special ones and the 256 bytes included (default 32000)",
     .kind = OPTION_INTEGER,
     .field = FIELD(size),
     .low = 257,
     .high = 1 << 24},
    {.name = "min-frequency",
     .value = "N",
     .text = "pairs that occur less often are not merged (default 2)",
     .kind = OPTION_INTEGER,
     .field = FIELD(least),
     .low = 1,
     .high = 1e15},
    {.name = "special-tokens",
     .value = "A,B,…",
     .text = "ids 0, 1, … (default <|endoftext|>,<|padding|>)",
     .kind = OPTION_TEXT,
     .field = FIELD(special)},
    {.name = "pattern",
     .value = "NAME",
     .text = "how text is cut before merging: llama3 (default) or gpt2",
     .kind = OPTION_CHOICE,
     .field = FIELD(pattern),
     .choices = pattern_names},
    {.name = "invalid-utf8",
     .value = "HOW",
     .text = "error (default), or replace by U+FFFD",
     .kind = OPTION_CHOICE,
     .field = FIELD(invalid),
     .choices = (const char *const[]){"error", "replace", NULL}},
    {.name = "threads",
     .value = "N",
     .text = "that read files (default: one a core)",
     .kind = OPTION_INTEGER,
     .field = FIELD(threads),
     .low = 1,
     .high = 256},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = FIELD(given.help)},
    {0}};

static const option_group groups[] = {{"Options", rows}, {0}};

const program_command gpt_tokenizer_train = {
    .options = {.program = "ringx-gpt",
                .name = "tokenizer train",
                .text = "a byte-level BPE from text files",
                .help = "The result is the same whatever the number of threads and the order of the files.\n",
                .groups = groups,
                .defaults = defaults,
                .run = train},
    .settings_bytes = sizeof(training_settings),
};
