/* SPDX-License-Identifier: MIT */
/* ringx-gpt generate: texts after prompts, on any number of ranks. */
#include "gpt/generate.h"
#include "gpt/gpt_command.h"
#include "gpt/model_options.h"
#include "gpt/utf8.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct generate_settings {
    given_arguments given;
    model_settings model;
    tokenizer_settings tokenizer;
    const char *prompt, *input, *output;
    int64_t maximum, top_k, samples;
    double temperature, top_p;
    uint64_t seed;
    bool recompute;
} generate_settings;

static void defaults(void *settings)
{
    generate_settings *s = settings;
    s->maximum = 64, s->samples = 1, s->seed = 1234, s->model.tensor_ranks = 1;
}

typedef struct writing { /* of all samples */
    const generate_settings *s;
    model_session *session;
    encoder *encoder;
    FILE *to; /* NULL: not this rank */
    bool records;
    int64_t words; /* that may be written */
    uint64_t sample;
    size_t length; /* of the last text, in tokens */
    double seconds;
} writing;

/* As JSON wants it: what is not UTF-8 becomes U+FFFD. */
static json_t *text_of(const void *bytes, size_t count)
{
    byte_list valid = {0};
    json_t *text = utf8_replace(bytes, count, &valid) ? NULL : json_stringn((const char *)valid.items, valid.count);
    bytes_free(&valid);
    return text;
}

static int write_record(writing *w, const char *prompt, size_t prompt_bytes, const gpt_generation *g,
                        const byte_list *text)
{
    json_t *record = json_object();
    int bad = json_object_set_new(record, "context", text_of(prompt, prompt_bytes));
    bad |= json_object_set_new(record, "text", text_of(text->items, text->count));
    bad |= json_object_set_new(record, "length", json_integer((json_int_t)w->length));
    bad |= json_object_set_new(record, "finished", json_boolean(g->finished));
    bad |= json_object_set_new(record, "message", json_string(g->message));
    bad |= json_object_set_new(record, "duration_seconds", json_real(w->seconds));
    bad |= json_dumpf(record, w->to, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(record);
    fputc('\n', w->to);
    return bad ? fail(CODE_CANNOT_WRITE, "%s: a record cannot be written", w->s->output) : CODE_GOOD;
}

static int write_text(writing *w, const char *prompt, size_t prompt_bytes, const byte_list *text)
{
    fwrite(prompt, 1, prompt_bytes, w->to);
    if (text->count)
        fwrite(text->items, 1, text->count, w->to);
    fputc('\n', w->to);
    return CODE_GOOD;
}

/* Ids from here on are padding of the vocabulary: the tokenizer has no text for them. */
static int64_t words_of(const tokenizer *t)
{
    int32_t last = (int32_t)tokenizer_size(t) - 1;
    for (byte_list text = {0}; last > 0; last--) {
        int code = tokenizer_decode(t, &last, 1, false, &text);
        bytes_free(&text);
        if (!code)
            break;
    }
    failure_set("");
    return last + 1;
}

/* ids: the prompt's, first; the text is what comes after them. */
static int continue_ids(writing *w, const char *prompt, size_t prompt_bytes, id_list *ids)
{
    const generate_settings *s = w->s;
    byte_list text = {0};
    gpt_generation g = {.how = {s->temperature, s->top_k, s->top_p}, .maximum = s->maximum, .recompute = s->recompute};
    if (s->temperature == 0 && (s->top_k > 0 || s->top_p > 0))
        g.how.temperature = 1;
    g.random.key = random_word(s->seed, w->sample++);
    g.eod = tokenizer_eod(w->session->tokenizer), g.vocabulary = w->words;
    if (ids->count == 0) { /* unconditional: after the end of a document comes another one */
        if (g.eod < 0)
            return fail(CODE_USAGE, "an empty prompt needs a tokenizer with an end of document to begin after");
        int code = ids_append(ids, g.eod);
        if (code)
            return code;
    }
    size_t before = ids->count;
    double start = seconds_now();
    int code = gpt_generate(w->session->model, &g, ids);
    if (!code)
        code = tokenizer_decode(w->session->tokenizer, ids->items + before, ids->count - before, false, &text);
    w->length = ids->count - before, w->seconds = seconds_now() - start;
    if (!code && w->to)
        code =
            w->records ? write_record(w, prompt, prompt_bytes, &g, &text) : write_text(w, prompt, prompt_bytes, &text);
    bytes_free(&text);
    return code;
}

static int one_prompt(writing *w, const char *prompt, size_t bytes)
{
    encode_options options = encoding_from_settings(w->session->tokenizer, &w->s->tokenizer);
    int code = CODE_GOOD;
    for (int64_t i = 0; i < w->s->samples && !code; i++) {
        id_list ids = {0};
        code = encoder_encode(w->encoder, prompt, bytes, &options, &ids);
        if (!code)
            code = continue_ids(w, prompt, bytes, &ids);
        ids_free(&ids);
    }
    return code;
}

/* A prompt a line; empty lines are none. */
static int each_line(writing *w)
{
    byte_list file = {0};
    int code = file_read(w->s->input, (size_t)1 << 30, &file);
    for (size_t at = 0; at < file.count && !code;) {
        const uint8_t *line = file.items + at, *end = memchr(line, '\n', file.count - at);
        size_t bytes = end ? (size_t)(end - line) : file.count - at;
        if (bytes)
            code = one_prompt(w, (const char *)line, bytes);
        at += bytes + 1;
    }
    bytes_free(&file);
    return code;
}

static int write_all(writing *w)
{
    const generate_settings *s = w->s;
    text_file file = {.to = stdout};
    bool writes = group_rank(w->session->world) == 0;
    int code = encoder_open(&w->encoder, w->session->tokenizer);
    if (!code && writes && s->output)
        code = text_create(&file, s->output);
    code = group_agree(w->session->world, code);
    if (code)
        return code;
    w->to = writes ? file.to : NULL;
    code = s->input ? each_line(w) : one_prompt(w, s->prompt ? s->prompt : "", s->prompt ? strlen(s->prompt) : 0);
    code = group_agree(w->session->world, code);
    return writes && s->output ? text_finish(&file, code) : code;
}

static int generate(model_session *session, const void *settings)
{
    const generate_settings *s = settings;
    writing w = {.s = s, .session = session, .records = s->output != NULL};
    w.words = words_of(session->tokenizer);
    int code = write_all(&w);
    encoder_close(w.encoder);
    return code;
}

static int run(void *settings)
{
    const generate_settings *s = settings;
    return s->prompt && s->input
               ? fail(CODE_USAGE, "prompt and input are both given; one of them says what to continue")
               : session_run(&s->model, &s->tokenizer, generate, s);
}

#define FIELD(name) offsetof(generate_settings, name)

static const option model_rows[] = {
    MODEL_ROWS(generate_settings), TOKENIZER_ROWS(generate_settings), ENCODING_ROWS(generate_settings), {0}};
static const option writing_rows[] = {
    {.name = "prompt",
     .value = "TEXT",
     .text = "what to continue (default: nothing, a text from its beginning)",
     .kind = OPTION_TEXT,
     .field = FIELD(prompt)},
    {.name = "maximum-tokens",
     .value = "N",
     .text = "new tokens (default 64)",
     .kind = OPTION_INTEGER,
     .field = FIELD(maximum),
     .low = 0,
     .high = 1e9},
    {.name = "temperature",
     .value = "X",
     .text = "0 (default): the most probable token, unless top-k or top-p is given",
     .kind = OPTION_REAL,
     .field = FIELD(temperature),
     .low = 0,
     .high = 1e6},
    {.name = "top-k",
     .value = "N",
     .text = "of the N most probable tokens only",
     .kind = OPTION_INTEGER,
     .field = FIELD(top_k),
     .low = 0,
     .high = 1e9},
    {.name = "top-p",
     .value = "X",
     .text = "of the fewest tokens whose probabilities reach X",
     .kind = OPTION_REAL,
     .field = FIELD(top_p),
     .low = 0,
     .high = 1},
    {.name = "num-samples",
     .value = "N",
     .text = "texts for each prompt (default 1)",
     .kind = OPTION_INTEGER,
     .field = FIELD(samples),
     .low = 1,
     .high = 1e6},
    {.name = "seed", .value = "N", .text = "default 1234", .kind = OPTION_UNSIGNED, .field = FIELD(seed), .high = 1e19},
    {.name = "recompute",
     .text = "no cache: the whole text again for each token",
     .kind = OPTION_FLAG,
     .field = FIELD(recompute)},
    {0}};
static const option file_rows[] = {
    {.name = "input", .value = "FILE", .text = "a prompt a line", .kind = OPTION_TEXT, .field = FIELD(input)},
    {.name = "output",
     .value = "FILE",
     .text =
         "JSON lines: context, text, length, finished, message, duration_seconds (default: text to standard output)",
     .kind = OPTION_TEXT,
     .field = FIELD(output)},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = FIELD(given.help)},
    {0}};
static const option_group groups[] = {
    {"Model and tokenizer", model_rows}, {"Texts", writing_rows}, {"Files", file_rows}, {0}};

const program_command gpt_generate_command = {
    .options = {.program = "ringx-gpt",
                .name = "generate",
                .text = "texts after prompts",
                .help =
                    "Under mpirun keys and values of all tokens stay sharded over the ranks; every number of ranks\n"
                    "writes the same.\n",
                .groups = groups,
                .defaults = defaults,
                .run = run},
    .settings_bytes = sizeof(generate_settings),
};
