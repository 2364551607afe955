/* SPDX-License-Identifier: MIT */
/* ringx-gpt evaluate: perplexity of texts and token files, and multiple choice. */
#include "gpt/gpt_command.h"
#include "gpt/indexed.h"
#include "gpt/model_options.h"
#include "gpt/score.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct evaluate_settings {
    given_arguments given;
    model_settings model;
    tokenizer_settings tokenizer;
    file_list input;
    const char *data, *choices, *output;
    int64_t length, limit;
} evaluate_settings;

static void defaults(void *settings)
{
    evaluate_settings *s = settings;
    s->model.tensor_ranks = 1, s->length = 1024;
}

typedef struct evaluation {
    const evaluate_settings *s;
    model_session *session;
    encoder *encoder;
    double nll;                     /* of all texts */
    int64_t tokens;                 /* that were predicted */
    uint64_t bytes;                 /* of text; 0: not known */
    int64_t items;                  /* of multiple choice */
    int64_t right, right_by_length; /* by Σ log p, and by that over the bytes of the choice */
} evaluation;

/* ---- perplexity ---- */

/* A document, a window of `length` predictions after the other; each token but the first is predicted once. */
static int score_document(evaluation *e, const int32_t *ids, int64_t count)
{
    int code = CODE_GOOD;
    for (int64_t at = 0; at + 1 < count && !code; at += e->s->length) {
        int64_t rest = count - at, window = rest < e->s->length + 1 ? rest : e->s->length + 1;
        double nll = NAN;
        code = gpt_score(e->session->model, ids + at, window, 1, &nll);
        e->nll += nll, e->tokens += window - 1;
    }
    return code;
}

static int score_file(evaluation *e, const char *path)
{
    byte_list text = {0};
    id_list ids = {0};
    encode_options options = encoding_from_settings(e->session->tokenizer, &e->s->tokenizer);
    int code = file_read(path, (size_t)1 << 34, &text);
    if (!code)
        code = encoder_encode(e->encoder, text.items, text.count, &options, &ids);
    code = group_agree(e->session->world, code);
    if (!code)
        code = score_document(e, ids.items, (int64_t)ids.count);
    e->bytes += text.count;
    bytes_free(&text), ids_free(&ids);
    return code;
}

static int score_sequence(evaluation *e, const indexed *data, uint64_t sequence)
{
    size_t count = indexed_length(data, sequence);
    int32_t *ids = allocate(count * sizeof *ids);
    size_t vocabulary = (size_t)gpt_model_config(e->session->model)->vocabulary;
    int code = ids ? indexed_read(data, sequence, 0, count, vocabulary, ids) : CODE_NO_MEMORY;
    code = group_agree(e->session->world, code);
    if (!code)
        code = score_document(e, ids, (int64_t)count);
    free(ids);
    return code;
}

static int score_data(evaluation *e)
{
    indexed data;
    int code = group_agree(e->session->world, indexed_open(&data, e->s->data));
    if (code)
        return code;
    uint64_t most = e->s->limit > 0 && (uint64_t)e->s->limit < data.sequences ? (uint64_t)e->s->limit : data.sequences;
    for (uint64_t i = 0; i < most && !code; i++)
        code = score_sequence(e, &data, i);
    indexed_close(&data);
    return code;
}

/* ---- multiple choice ---- */

static int encode(evaluation *e, json_t *text, id_list *ids)
{
    encode_options options = encoding_from_settings(e->session->tokenizer, &e->s->tokenizer);
    options.add_special = options.add_special && ids->count == 0;
    return encoder_encode(e->encoder, json_string_value(text), json_string_length(text), &options, ids);
}

/* ln p of a choice after the context. */
static int score_choice(evaluation *e, json_t *context, json_t *choice, double *score)
{
    id_list ids = {0};
    double nll = NAN;
    int code = encode(e, context, &ids);
    size_t first = ids.count;
    if (!code)
        code = encode(e, choice, &ids);
    if (!code && first == 0)
        code = fail(CODE_BAD_INPUT, "the context has no tokens");
    if (!code && ids.count == first)
        code = fail(CODE_BAD_INPUT, "a choice has no tokens");
    code = group_agree(e->session->world, code);
    if (!code)
        code = gpt_score(e->session->model, ids.items, (int64_t)ids.count, (int64_t)first, &nll);
    *score = -nll;
    ids_free(&ids);
    return code;
}

static int score_item(evaluation *e, json_t *item)
{
    json_t *context = json_object_get(item, "context"), *choices = json_object_get(item, "choices"), *choice;
    json_t *label = json_object_get(item, "label");
    size_t i, best = 0, best_by_length = 0, count = json_array_size(choices);
    double most = -INFINITY, most_by_length = -INFINITY;
    if (!json_is_string(context) || count < 2 || !json_is_integer(label) || json_integer_value(label) < 0 ||
        json_integer_value(label) >= (json_int_t)count)
        return fail(CODE_BAD_INPUT,
                    "it must have a text 'context', two or more texts 'choices', and their 'label', from 0");
    json_array_foreach(choices, i, choice)
    {
        double score;
        if (!json_is_string(choice))
            return fail(CODE_BAD_INPUT, "choice %zu must be a text", i);
        int code = score_choice(e, context, choice, &score);
        if (code)
            return code;
        double by_length = score / (double)json_string_length(choice);
        if (score > most)
            most = score, best = i;
        if (by_length > most_by_length)
            most_by_length = by_length, best_by_length = i;
    }
    e->items++;
    e->right += best == (size_t)json_integer_value(label);
    e->right_by_length += best_by_length == (size_t)json_integer_value(label);
    return CODE_GOOD;
}

static int score_line(evaluation *e, const uint8_t *line, size_t bytes, size_t number)
{
    json_error_t error;
    json_t *item = json_loadb((const char *)line, bytes, JSON_REJECT_DUPLICATES, &error);
    int code = item ? score_item(e, item) : fail(CODE_BAD_INPUT, "%s", error.text);
    json_decref(item);
    if (code == CODE_BAD_INPUT) {
        char why[MESSAGE_BYTES];
        failure_copy(why);
        fail(code, "%s: line %zu: %s", e->s->choices, number, why);
    }
    return code;
}

static int score_choices(evaluation *e)
{
    byte_list file = {0};
    size_t number = 0;
    int code = group_agree(e->session->world, file_read(e->s->choices, (size_t)1 << 32, &file));
    for (size_t at = 0; at < file.count && !code && (e->s->limit <= 0 || e->items < e->s->limit);) {
        const uint8_t *line = file.items + at, *end = memchr(line, '\n', file.count - at);
        size_t bytes = end ? (size_t)(end - line) : file.count - at;
        number++;
        if (bytes)
            code = score_line(e, line, bytes, number);
        at += bytes + 1;
    }
    bytes_free(&file);
    return code;
}

/* ---- results ---- */

static json_t *results_of(const evaluation *e)
{
    json_t *results = json_object();
    double loss = e->nll / (double)e->tokens;
    if (e->tokens) {
        json_object_set_new(results, "tokens", json_integer(e->tokens));
        json_object_set_new(results, "loss", json_real(loss));
        json_object_set_new(results, "perplexity", json_real(exp(loss)));
    }
    if (e->tokens && e->bytes)
        json_object_set_new(results, "bits_per_byte", json_real(e->nll / log(2) / (double)e->bytes));
    if (e->items) {
        json_object_set_new(results, "items", json_integer(e->items));
        json_object_set_new(results, "acc", json_real((double)e->right / (double)e->items));
        json_object_set_new(results, "acc_norm", json_real((double)e->right_by_length / (double)e->items));
    }
    return results;
}

static int write_results(const evaluation *e)
{
    const char *path = e->s->output, *name;
    json_t *results = results_of(e), *value;
    text_file file = {.to = stdout};
    if (e->tokens && !isfinite(e->nll)) {
        json_decref(results);
        return fail(CODE_WRONG, "the loss is not a number; the weights are damaged");
    }
    json_object_foreach(results, name, value) printf("%-14s %.6g\n", name, json_number_value(value));
    int code = path ? text_create(&file, path) : CODE_GOOD;
    if (path && !code) {
        int bad = json_dumpf(results, file.to, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        code = text_finish(&file, bad ? fail(CODE_CANNOT_WRITE, "%s: cannot be written", path) : CODE_GOOD);
    }
    json_decref(results);
    return code;
}

static int evaluate_all(evaluation *e)
{
    int code = group_agree(e->session->world, encoder_open(&e->encoder, e->session->tokenizer));
    for (size_t i = 0; i < e->s->input.count && !code; i++)
        code = score_file(e, e->s->input.items[i]);
    if (!code && e->s->data)
        code = score_data(e);
    if (!code && e->s->choices)
        code = score_choices(e);
    code = group_agree(e->session->world, code);
    if (code || group_rank(e->session->world) != 0)
        return group_agree(e->session->world, code);
    return group_agree(e->session->world, write_results(e));
}

static int evaluate(model_session *session, const void *settings)
{
    evaluation e = {.s = settings, .session = session};
    int code = evaluate_all(&e);
    encoder_close(e.encoder);
    return code;
}

static int run(void *settings)
{
    const evaluate_settings *s = settings;
    return s->input.count || s->data || s->choices
               ? session_run(&s->model, &s->tokenizer, evaluate, s)
               : fail(CODE_USAGE, "nothing to evaluate: input, data-path or choices must say what");
}

#define FIELD(name) offsetof(evaluate_settings, name)

static const option model_rows[] = {
    MODEL_ROWS(evaluate_settings), TOKENIZER_ROWS(evaluate_settings), ENCODING_ROWS(evaluate_settings), {0}};
static const option task_rows[] = {
    {.name = "input",
     .value = "FILE...",
     .text = "perplexity of texts, each file a document",
     .kind = OPTION_FILES,
     .field = FIELD(input)},
    {.name = "data-path",
     .value = "PREFIX",
     .text = "perplexity of a token file, PREFIX.bin and PREFIX.idx",
     .kind = OPTION_TEXT,
     .field = FIELD(data)},
    {.name = "choices",
     .value = "FILE",
     .text = "multiple choice: JSON lines {\"context\": text, \"choices\": [texts], \"label\": the right one, from 0}",
     .kind = OPTION_TEXT,
     .field = FIELD(choices)},
    {.name = "seq-length",
     .value = "N",
     .text = "predictions of a window: a longer document is cut into windows (default 1024)",
     .kind = OPTION_INTEGER,
     .field = FIELD(length),
     .low = 1,
     .high = 1e9},
    {.name = "limit",
     .value = "N",
     .text = "the first N documents of the token file, the first N items (default: all)",
     .kind = OPTION_INTEGER,
     .field = FIELD(limit),
     .low = 1,
     .high = 1e15},
    {0}};
static const option result_rows[] = {
    {.name = "output", .value = "FILE", .text = "results as JSON", .kind = OPTION_TEXT, .field = FIELD(output)},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = FIELD(given.help)},
    {0}};
static const option_group groups[] = {
    {"Model and tokenizer", model_rows}, {"What", task_rows}, {"Results", result_rows}, {0}};

const program_command gpt_evaluate = {
    .options = {.program = "ringx-gpt",
                .name = "evaluate",
                .text = "perplexity of texts, multiple choice",
                .help =
                    "acc: the most probable choice is right; acc_norm: the same with ln p over the choice's bytes.\n",
                .groups = groups,
                .defaults = defaults,
                .run = run},
    .settings_bytes = sizeof(evaluate_settings),
};
