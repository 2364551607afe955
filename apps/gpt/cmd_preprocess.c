/* SPDX-License-Identifier: MIT */
/* ringx-gpt preprocess: texts to token files. */
#include "gpt/gpt_command.h"
#include "gpt/preprocess.h"
#include "gpt/tokenizer_options.h"

#include <stdlib.h>
#include <string.h>

typedef struct preprocess_settings {
    given_arguments given;
    tokenizer_settings tokenizer;
    file_list input;
    const char *keys, *prefix, *eod;
    bool append_eod;
    int64_t documents, workers, total, log_interval, dataset;
} preprocess_settings;

static const char *const document_names[] = {"file", "line", NULL};
static const char *const dataset_names[] = {"mmap", NULL};

static void defaults(void *settings)
{
    preprocess_settings *s = settings;
    s->keys = "text";
    s->workers = 1;
}

/* A comma-separated list, cut in place. */
static int cut_keys(char *list, preprocess_plan *plan)
{
    for (char *key = list, *comma; key; key = comma ? comma + 1 : NULL) {
        comma = strchr(key, ',');
        if (comma)
            *comma = '\0';
        if (!*key || strchr(key, '/') || plan->n_keys == MAX_KEYS)
            return fail(CODE_USAGE, "jsonl-keys must be up to %d names with commas between, without '/'", MAX_KEYS);
        for (size_t i = 0; i < plan->n_keys; i++)
            if (strcmp(plan->keys[i], key) == 0)
                return fail(CODE_USAGE, "jsonl-keys names '%s' twice", key);
        plan->keys[plan->n_keys++] = key;
    }
    return CODE_GOOD;
}

/* --input a,b c: commas separate files as well, as in the original. */
static int cut_inputs(const file_list *given, char **list, preprocess_plan *plan)
{
    size_t bytes = 1, count = 0;
    for (size_t i = 0; i < given->count; i++)
        bytes += strlen(given->items[i]) + 1;
    char *text = allocate(bytes);
    *list = text;
    if (!text)
        return CODE_NO_MEMORY;
    for (size_t i = 0; i < given->count; i++)
        text += snprintf(text, bytes - (size_t)(text - *list), "%s%s", i ? "," : "", given->items[i]);
    for (const char *c = *list; *c; c++)
        count += *c == ',';
    plan->inputs = allocate((count + 1) * sizeof *plan->inputs);
    if (!plan->inputs)
        return CODE_NO_MEMORY;
    for (char *path = *list, *comma; path; path = comma ? comma + 1 : NULL) {
        comma = strchr(path, ',');
        if (comma)
            *comma = '\0';
        if (!*path)
            return fail(CODE_USAGE, "input names a file without a name (two commas, or one at an end)");
        plan->inputs[plan->n_inputs++] = path;
    }
    return CODE_GOOD;
}

static int only_jsonl_has_keys(const preprocess_plan *plan)
{
    for (size_t i = 0; plan->n_keys > 1 && i < plan->n_inputs; i++)
        if (!strstr(plan->inputs[i], ".jsonl"))
            return fail(CODE_USAGE, "%s: a .txt file has one text; jsonl-keys names %zu", plan->inputs[i],
                        plan->n_keys);
    return CODE_GOOD;
}

static int find_eod(const preprocess_settings *s, preprocess_plan *plan)
{
    plan->eod = -1;
    if (!s->append_eod)
        return s->eod ? fail(CODE_USAGE, "eod is given without append-eod") : CODE_GOOD;
    plan->eod = s->eod ? tokenizer_find(plan->tokenizer, s->eod) : tokenizer_eod(plan->tokenizer);
    if (plan->eod >= 0)
        return CODE_GOOD;
    if (s->eod)
        return fail(CODE_USAGE, "eod '%s' is no token of the tokenizer", s->eod);
    return fail(CODE_USAGE,
                "append-eod: the tokenizer has neither <|endoftext|> nor <|end_of_text|>; name its token with "
                "--eod");
}

static int run(void *settings)
{
    const preprocess_settings *s = settings;
    if (s->input.count == 0)
        return fail(CODE_USAGE, "input is missing; it names .jsonl or .txt files, or .zst of them");
    if (!s->prefix)
        return fail(CODE_USAGE, "output-prefix is missing; files are PREFIX_KEY_document.bin and .idx");
    preprocess_plan plan = {.txt_lines = s->documents == 1,
                            .prefix = s->prefix,
                            .workers = (size_t)s->workers,
                            .total = s->total,
                            .log_interval = s->log_interval};
    tokenizer *t = NULL;
    char *inputs = NULL, *keys = strdup(s->keys);
    int code = keys ? cut_keys(keys, &plan) : fail(CODE_NO_MEMORY, "out of memory: the names of keys");
    code = code ? code : cut_inputs(&s->input, &inputs, &plan);
    code = code ? code : only_jsonl_has_keys(&plan);
    code = code ? code : tokenizer_from_settings(&t, &s->tokenizer);
    plan.tokenizer = t;
    code = code ? code : find_eod(s, &plan);
    if (!code) {
        plan.encoding = encoding_from_settings(t, &s->tokenizer);
        code = preprocess(&plan);
    }
    tokenizer_close(t);
    free(plan.inputs);
    free(inputs);
    free(keys);
    return code;
}

#define FIELD(name) offsetof(preprocess_settings, name)

static const option tokenizer_rows[] = {TOKENIZER_ROWS(preprocess_settings), ENCODING_ROWS(preprocess_settings), {0}};

static const option rows[] = {
    {.name = "input",
     .value = "FILES",
     .text = ".jsonl, .txt, .jsonl.zst, .txt.zst; spaces or commas between",
     .kind = OPTION_FILES,
     .field = FIELD(input)},
    {.name = "jsonl-keys",
     .value = "A,B,…",
     .text = "the texts of a line of .jsonl (default text)",
     .kind = OPTION_TEXT,
     .field = FIELD(keys)},
    {.name = "documents",
     .value = "WHAT",
     .text = "of .txt: each file (default) or each line is one",
     .kind = OPTION_CHOICE,
     .field = FIELD(documents),
     .choices = document_names},
    {.name = "output-prefix",
     .value = "PREFIX",
     .text = "writes PREFIX_KEY_document.bin and .idx",
     .kind = OPTION_TEXT,
     .field = FIELD(prefix)},
    {.name = "append-eod",
     .text = "end each document with the token that ends documents",
     .kind = OPTION_FLAG,
     .field = FIELD(append_eod)},
    {.name = "eod",
     .value = "TOKEN",
     .text = "that token (default <|endoftext|>, else <|end_of_text|>)",
     .kind = OPTION_TEXT,
     .field = FIELD(eod)},
    {.name = "dataset-impl",
     .value = "NAME",
     .text = "mmap, the one form that is written",
     .kind = OPTION_CHOICE,
     .field = FIELD(dataset),
     .choices = dataset_names},
    {.name = "workers",
     .value = "N",
     .text = "processes that encode (default 1)",
     .kind = OPTION_INTEGER,
     .field = FIELD(workers),
     .low = 1,
     .high = MAX_WORKERS},
    {.name = "num-docs",
     .value = "N",
     .text = "documents there are, for the progress line",
     .kind = OPTION_INTEGER,
     .field = FIELD(total),
     .low = 0,
     .high = 1e15},
    {.name = "log-interval",
     .value = "N",
     .text = "a line of figures every N documents; 0 (default): at the end",
     .kind = OPTION_INTEGER,
     .field = FIELD(log_interval),
     .low = 0,
     .high = 1e15},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = FIELD(given.help)},
    {0}};

static const option_group groups[] = {{"Texts and files", rows}, {"Tokenizer", tokenizer_rows}, {0}};

const program_command gpt_preprocess = {
    .options = {.program = "ringx-gpt",
                .name = "preprocess",
                .text = "texts to token files (.bin, .idx)",
                .help =
                    "The files are the same whatever the number of workers. They appear when all is done, or not at "
                    "all.\n",
                .groups = groups,
                .defaults = defaults,
                .run = run},
    .settings_bytes = sizeof(preprocess_settings),
};
