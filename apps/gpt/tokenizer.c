/* SPDX-License-Identifier: MIT */
/* Opening tokenizers, encoding and decoding. */
#include "gpt/tokenizer.h"
#include "gpt/tokenizer_parts.h"
#include "gpt/utf8.h"
#include "shared/report.h"

#include <stdlib.h>
#include <string.h>

const char *const tokenizer_kinds[] = {
    "auto", "HFTokenizer", "TiktokenTokenizer", "GPT2BPETokenizer", "CharLevelTokenizer", NULL};
const char *const invalid_utf8_names[] = {"error", "replace", "keep", NULL};

/* ---- opening ---- */

static int load_bytes(tokenizer *t)
{
    for (int b = 0; b < 256; b++) {
        uint8_t byte = (uint8_t)b;
        int code = vocabulary_add(&t->model.words, b, &byte, 1, true);
        if (code)
            return code;
    }
    t->bytes_only = true;
    t->size = 512;
    t->eod = 0;
    return CODE_GOOD;
}

static tokenizer_kind kind_of(const byte_list *text, const char *merges)
{
    if (merges)
        return TOKENIZER_GPT2;
    size_t at = 0;
    while (at < text->count && strchr(" \t\r\n", text->items[at]))
        at++;
    return at < text->count && text->items[at] == '{' ? TOKENIZER_HF : TOKENIZER_TIKTOKEN;
}

static int load_file(tokenizer *t, tokenizer_kind kind, const char *path, const char *merges)
{
    byte_list text;
    int code = file_read(path, MAX_FILE, &text);
    if (code)
        return code;
    if (kind == TOKENIZER_ANY)
        kind = kind_of(&text, merges);
    if (kind == TOKENIZER_HF)
        code = tokenizer_load_json(t, path, &text);
    else if (kind == TOKENIZER_TIKTOKEN)
        code = tokenizer_load_tiktoken(t, path, &text);
    else
        code = tokenizer_load_gpt2(t, path, &text, merges);
    bytes_free(&text);
    return code;
}

static void find_eod(tokenizer *t)
{
    static const char *const names[] = {"<|endoftext|>", "<|end_of_text|>"};
    for (size_t i = 0; i < sizeof names / sizeof *names && t->eod < 0; i++)
        t->eod = tokenizer_find(t, names[i]);
}

static void find_size(tokenizer *t)
{
    t->size = t->model.words.count;
    for (size_t i = 0; i < t->added.count; i++)
        if ((size_t)t->added.items[i].id >= t->size)
            t->size = (size_t)t->added.items[i].id + 1;
}

int tokenizer_open(tokenizer **made, tokenizer_kind kind, const char *path, const char *merges)
{
    *made = NULL;
    if (kind != TOKENIZER_BYTES && !path)
        return fail(CODE_USAGE, "the tokenizer has no vocabulary file; %s needs one", tokenizer_kinds[kind]);
    if (kind == TOKENIZER_GPT2 && !merges)
        return fail(CODE_USAGE, "%s: GPT2BPETokenizer needs a file of merges as well (merges.txt)", path);
    tokenizer *t = allocate(sizeof *t);
    if (!t)
        return CODE_NO_MEMORY;
    t->eod = -1;
    int code = kind == TOKENIZER_BYTES ? load_bytes(t) : load_file(t, kind, path, merges);
    if (code) {
        tokenizer_close(t);
        return code;
    }
    bpe_find_bytes(&t->model);
    added_sort(&t->added);
    if (!t->bytes_only) {
        find_size(t);
        find_eod(t);
    }
    *made = t;
    return CODE_GOOD;
}

void tokenizer_close(tokenizer *t)
{
    if (!t)
        return;
    bpe_free(&t->model);
    pretokenizer_free(&t->cuts);
    added_free(&t->added);
    free(t);
}

size_t tokenizer_size(const tokenizer *t)
{
    return t->size;
}

int32_t tokenizer_find(const tokenizer *t, const char *text)
{
    const added_token *added = added_by_text(&t->added, (const uint8_t *)text, strlen(text));
    return added ? added->id : vocabulary_find(&t->model.words, (const uint8_t *)text, strlen(text));
}

int32_t tokenizer_eod(const tokenizer *t)
{
    return t->eod;
}

bool tokenizer_parses_special(const tokenizer *t)
{
    return t->parses_special;
}

int64_t tokenizer_padded_size(size_t size, int64_t divisible_by, int64_t tp)
{
    int64_t step = divisible_by * tp;
    return ((int64_t)size + step - 1) / step * step;
}

/* ---- encoding ---- */

struct encoder {
    const tokenizer *made;
    bpe_scratch merging;
    split_scratch cutting;
    byte_list replaced; /* the text in well-formed UTF-8 */
    byte_list normal;   /* what lies between two tokens of pass 0, in its normal form */
    id_list *into;
    bool special;
};

int encoder_open(encoder **made, const tokenizer *t)
{
    *made = allocate(sizeof **made);
    if (!*made)
        return CODE_NO_MEMORY;
    (*made)->made = t;
    return CODE_GOOD;
}

void encoder_close(encoder *e)
{
    if (!e)
        return;
    bpe_scratch_free(&e->merging);
    split_scratch_free(&e->cutting);
    bytes_free(&e->replaced);
    bytes_free(&e->normal);
    free(e);
}

static int encode_piece(void *user, const uint8_t *piece, size_t count)
{
    encoder *e = user;
    return bpe_piece(&e->made->model, &e->merging, piece, count, e->into);
}

/* Well-formed text: added tokens of this pass, and between them what the next pass, or merging, makes of it. */
static int encode_pass(encoder *e, int pass, const uint8_t *text, size_t count)
{
    if (pass == MAX_PASSES)
        return pretokenize(&e->made->cuts, &e->cutting, text, count, encode_piece, e);
    int code = CODE_GOOD;
    if (pass == 1 && e->made->forms.count) {
        code = normalize(&e->made->forms, text, count, &e->normal);
        text = e->normal.items;
        count = e->normal.count;
    }
    for (size_t at = 0; !code && at < count;) {
        added_match match = added_next(&e->made->added, pass, e->special, text, count, at);
        if (match.begin > at)
            code = encode_pass(e, pass + 1, text + at, match.begin - at);
        if (!code && match.token)
            code = ids_append(e->into, match.token->id);
        at = match.end;
    }
    return code;
}

static int encode_kept(encoder *e, const uint8_t *text, size_t count)
{
    int code = CODE_GOOD;
    while (!code && count) {
        size_t good = utf8_valid(text, count), bad = 0, wrong;
        code = encode_pass(e, 0, text, good);
        text += good;
        count -= good;
        while (bad < count && utf8_sequence(text + bad, count - bad, &wrong) == 0)
            bad += wrong;
        if (!code && bad)
            code = encode_piece(e, text, bad);
        text += bad;
        count -= bad;
    }
    return code;
}

static int encode_text(encoder *e, const uint8_t *text, size_t count, const encode_options *options)
{
    if (e->made->bytes_only)
        return encode_piece(e, text, count);
    if (options->invalid == INVALID_KEEP)
        return encode_kept(e, text, count);
    size_t good = utf8_valid(text, count);
    if (good == count)
        return encode_pass(e, 0, text, count);
    if (options->invalid == INVALID_ERROR)
        return fail(CODE_BAD_INPUT, "byte %zu (0x%02x) begins no well-formed UTF-8", good, text[good]);
    e->replaced.count = 0;
    int code = utf8_replace(text, count, &e->replaced);
    return code ? code : encode_pass(e, 0, e->replaced.items, e->replaced.count);
}

int encoder_encode(encoder *e, const void *text, size_t bytes, const encode_options *options, id_list *into)
{
    const tokenizer *t = e->made;
    size_t kept = into->count;
    int code = CODE_GOOD;
    e->into = into;
    e->special = options->parse_special;
    for (size_t i = 0; !code && options->add_special && i < t->n_before; i++)
        code = ids_append(into, t->before[i]);
    if (!code)
        code = encode_text(e, text, bytes, options);
    for (size_t i = 0; !code && options->add_special && i < t->n_after; i++)
        code = ids_append(into, t->after[i]);
    if (code)
        into->count = kept;
    return code;
}

/* ---- decoding ---- */

int tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t count, bool skip_special, byte_list *into)
{
    int code = CODE_GOOD;
    for (size_t i = 0; !code && i < count; i++) {
        const added_token *added = added_by_id(&t->added, ids[i]);
        if (added && added->special && skip_special)
            continue;
        size_t length = 0;
        const uint8_t *bytes = added ? added->text.items : vocabulary_token(&t->model.words, ids[i], &length);
        if (!bytes)
            return fail(CODE_BAD_INPUT, "id %d at place %zu is no token; the vocabulary has ids below %zu", ids[i], i,
                        t->size);
        code = bytes_append(into, bytes, added ? added->text.count : length);
    }
    return code;
}
