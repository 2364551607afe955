/* SPDX-License-Identifier: MIT */
/* ringx-gpt tokenizer encode, decode: text to token ids and back, through files or standard input and output. */
#include "gpt/gpt_command.h"
#include "gpt/tokenizer_options.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

typedef struct coding_settings {
    given_arguments given;
    tokenizer_settings tokenizer;
    const char *input, *output;
    bool skip_special;
} coding_settings;

/* All of a file or pipe; NULL: standard input. */
static int read_stream(const char *path, byte_list *into)
{
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO, code = CODE_GOOD;
    if (fd < 0)
        return fail(CODE_MISSING, "%s: cannot be opened: %s", path, strerror(errno));
    for (ssize_t n = 1; !code && n != 0;) {
        if ((code = bytes_reserve(into, 1 << 16)))
            break;
        n = read(fd, into->items + into->count, 1 << 16);
        if (n > 0)
            into->count += (size_t)n;
        else if (n < 0 && errno != EINTR)
            code = fail(CODE_IO, "%s: cannot be read: %s", path ? path : "standard input", strerror(errno));
    }
    if (path)
        close(fd);
    return code;
}

static int write_ids(FILE *to, const id_list *ids)
{
    for (size_t i = 0; i < ids->count; i++)
        fprintf(to, "%" PRId32 "%c", ids->items[i], i + 1 < ids->count ? ' ' : '\n');
    return CODE_GOOD;
}

/* Standard output, or a file that appears whole. */
static int write_result(const char *path, const id_list *ids, const byte_list *bytes)
{
    text_file file = {.to = stdout};
    int code = path ? text_create(&file, path) : CODE_GOOD;
    if (code)
        return code;
    if (ids)
        write_ids(file.to, ids);
    else if (bytes->count)
        fwrite(bytes->items, 1, bytes->count, file.to);
    return path ? text_finish(&file, CODE_GOOD) : CODE_GOOD;
}

static int encode(void *settings)
{
    const coding_settings *s = settings;
    tokenizer *t;
    encoder *e = NULL;
    byte_list text = {0};
    id_list ids = {0};
    int code = tokenizer_from_settings(&t, &s->tokenizer);
    code = code ? code : encoder_open(&e, t);
    code = code ? code : read_stream(s->input, &text);
    if (!code) {
        encode_options options = encoding_from_settings(t, &s->tokenizer);
        code = encoder_encode(e, text.items, text.count, &options, &ids);
        if (code) {
            char why[MESSAGE_BYTES];
            failure_copy(why);
            fail(code, "%s: %s", s->input ? s->input : "standard input", why);
        }
    }
    code = code ? code : write_result(s->output, &ids, NULL);
    encoder_close(e);
    tokenizer_close(t);
    bytes_free(&text);
    ids_free(&ids);
    return code;
}

/* Whole numbers with white space between. */
static int parse_ids(const char *path, const byte_list *text, id_list *ids)
{
    int code = CODE_GOOD;
    for (size_t at = 0; !code && at < text->count;) {
        if (strchr(" \t\r\n", text->items[at])) { /* a 0 byte is found at the end of that text, and refused below */
            if (text->items[at]) {
                at++;
                continue;
            }
        }
        size_t begin = at;
        int64_t id = 0;
        for (; at < text->count && text->items[at] >= '0' && text->items[at] <= '9' && id <= INT32_MAX; at++)
            id = id * 10 + (text->items[at] - '0');
        bool ends = at == text->count || (text->items[at] && strchr(" \t\r\n", text->items[at]));
        if (at == begin || !ends || id > INT32_MAX)
            return fail(CODE_BAD_INPUT, "%s: byte %zu: it must be token ids (whole numbers) with spaces between",
                        path ? path : "standard input", begin);
        code = ids_append(ids, (int32_t)id);
    }
    return code;
}

static int decode(void *settings)
{
    const coding_settings *s = settings;
    tokenizer *t;
    byte_list text = {0}, bytes = {0};
    id_list ids = {0};
    int code = tokenizer_from_settings(&t, &s->tokenizer);
    code = code ? code : read_stream(s->input, &text);
    code = code ? code : parse_ids(s->input, &text, &ids);
    code = code ? code : tokenizer_decode(t, ids.items, ids.count, s->skip_special, &bytes);
    code = code ? code : write_result(s->output, NULL, &bytes);
    tokenizer_close(t);
    bytes_free(&text);
    bytes_free(&bytes);
    ids_free(&ids);
    return code;
}

#define FIELD(name) offsetof(coding_settings, name)

static const option tokenizer_rows[] = {TOKENIZER_ROWS(coding_settings), {0}};
static const option encoding_rows[] = {ENCODING_ROWS(coding_settings), {0}};
static const option decoding_rows[] = {
    {.name = "skip-special", .text = "leave special tokens out", .kind = OPTION_FLAG, .field = FIELD(skip_special)},
    {0}};
static const option file_rows[] = {
    {.name = "input", .value = "FILE", .text = "default: standard input", .kind = OPTION_TEXT, .field = FIELD(input)},
    {.name = "output",
     .value = "FILE",
     .text = "default: standard output",
     .kind = OPTION_TEXT,
     .field = FIELD(output)},
    {.name = "help", .text = "print this help", .kind = OPTION_FLAG, .field = FIELD(given.help)},
    {0}};

static const option_group encode_groups[] = {
    {"Tokenizer", tokenizer_rows}, {"Encoding", encoding_rows}, {"Files", file_rows}, {0}};
static const option_group decode_groups[] = {
    {"Tokenizer", tokenizer_rows}, {"Decoding", decoding_rows}, {"Files", file_rows}, {0}};

const program_command gpt_tokenizer_encode = {
    .options = {.program = "ringx-gpt",
                .name = "tokenizer encode",
                .text = "text to token ids",
                .help = "Ids are written as text, with spaces between and a newline at the end.\n",
                .groups = encode_groups,
                .run = encode},
    .settings_bytes = sizeof(coding_settings),
};

const program_command gpt_tokenizer_decode = {
    .options = {.program = "ringx-gpt",
                .name = "tokenizer decode",
                .text = "token ids to text",
                .groups = decode_groups,
                .run = decode},
    .settings_bytes = sizeof(coding_settings),
};
