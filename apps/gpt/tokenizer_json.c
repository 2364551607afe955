/* SPDX-License-Identifier: MIT */
/* Reading a Hugging Face tokenizer.json: model BPE over the byte-level alphabet. What the file asks for and is not
 * offered is refused by name, never left out. */
#include "gpt/byte_alphabet.h"
#include "gpt/json_fields.h"
#include "gpt/tokenizer_parts.h"
#include "shared/report.h"

#include <string.h>

/* ---- tokens and merges ---- */

int tokenizer_add_text(tokenizer *t, int64_t id, const char *text, size_t length)
{
    byte_list bytes = {0};
    int code = CODE_GOOD;
    if (alphabet_decode(text, length, &bytes, &code))
        code = vocabulary_add(&t->model.words, id, bytes.items, bytes.count, true);
    else if (!code)
        code = vocabulary_add(&t->model.words, id, (const uint8_t *)text, length, false);
    bytes_free(&bytes);
    return code;
}

/* The id of a token written in the alphabet; its bytes are left in `bytes`. */
static int merge_part(const tokenizer *t, const char *text, size_t length, byte_list *bytes, int32_t *id)
{
    int code = CODE_GOOD;
    size_t before = bytes->count;
    *id = -1;
    if (alphabet_decode(text, length, bytes, &code))
        *id = vocabulary_find(&t->model.words, bytes->items + before, bytes->count - before);
    if (!code && *id < 0)
        code = fail(CODE_BAD_INPUT, "'%.*s' is not in the vocabulary", (int)(length < 200 ? length : 200), text);
    return code;
}

int tokenizer_add_merge(tokenizer *t, size_t rank, const char *left, size_t left_length, const char *right,
                        size_t right_length)
{
    byte_list bytes = {0};
    merge m = {.rank = (uint32_t)rank};
    int code = merge_part(t, left, left_length, &bytes, &m.left);
    code = code ? code : merge_part(t, right, right_length, &bytes, &m.right);
    if (!code) {
        m.made = vocabulary_find(&t->model.words, bytes.items, bytes.count);
        code = m.made < 0 ? fail(CODE_BAD_INPUT, "'%.*s%.*s', which it makes, is not in the vocabulary",
                                 (int)(left_length < 100 ? left_length : 100), left,
                                 (int)(right_length < 100 ? right_length : 100), right)
                          : merges_put(&t->model.merges, m);
    }
    bytes_free(&bytes);
    return code;
}

static int load_vocabulary(tokenizer *t, const char *path, json_t *words)
{
    const char *text;
    json_t *id;
    json_object_foreach(words, text, id)
    {
        int code = json_is_integer(id) ? tokenizer_add_text(t, json_integer_value(id), text, strlen(text))
                                       : fail(CODE_BAD_INPUT, "the id is not a whole number");
        if (code)
            return in_file(code, path, "model.vocab, token '%.80s'", text);
    }
    return CODE_GOOD;
}

static int load_merge(tokenizer *t, size_t rank, json_t *item)
{
    if (json_is_array(item) && json_array_size(item) == 2 && json_is_string(json_array_get(item, 0)) &&
        json_is_string(json_array_get(item, 1))) {
        json_t *left = json_array_get(item, 0), *right = json_array_get(item, 1);
        return tokenizer_add_merge(t, rank, json_string_value(left), json_string_length(left), json_string_value(right),
                                   json_string_length(right));
    }
    const char *text = json_string_value(item), *space = text ? strchr(text, ' ') : NULL;
    if (!space || strchr(space + 1, ' '))
        return fail(CODE_BAD_INPUT, "it must be [\"a\", \"b\"] or \"a b\"");
    return tokenizer_add_merge(t, rank, text, (size_t)(space - text), space + 1, strlen(space + 1));
}

static int load_model(tokenizer *t, const char *path, json_t *model)
{
    static const char *const unset[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix", NULL};
    const char *type = json_string_value(json_object_get(model, "type"));
    if (type && strcmp(type, "BPE") != 0)
        return fail(CODE_BAD_INPUT, "%s: model.type is '%.40s'; only BPE is offered", path, type);
    for (int i = 0; unset[i]; i++) {
        json_t *value = json_object_get(model, unset[i]);
        bool empty = !value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0) ||
                     (json_is_number(value) && json_number_value(value) == 0);
        if (!empty)
            return fail(CODE_BAD_INPUT, "%s: model.%s is set; it is not offered", path, unset[i]);
    }
    if (json_is_true(json_object_get(model, "byte_fallback")))
        return fail(CODE_BAD_INPUT, "%s: model.byte_fallback is set; only byte-level vocabularies are offered", path);
    json_t *words, *merges;
    int code = json_field(model, path, "model.vocab", JSON_OBJECT, &words);
    code = code ? code : json_field(model, path, "model.merges", JSON_ARRAY, &merges);
    code = code ? code : load_vocabulary(t, path, words);
    for (size_t i = 0; !code && i < json_array_size(merges); i++)
        if ((code = load_merge(t, i, json_array_get(merges, i))))
            code = in_file(code, path, "model.merges[%zu]", i);
    t->model.whole_first = json_is_true(json_object_get(model, "ignore_merges"));
    return code;
}

/* ---- added tokens ---- */

static int load_added_one(tokenizer *t, json_t *item)
{
    json_t *content = json_object_get(item, "content"), *id = json_object_get(item, "id");
    if (!json_is_string(content) || !json_is_integer(id))
        return fail(CODE_BAD_INPUT, "it has no content (text) or no id (whole number)");
    if (json_integer_value(id) < 0 || json_integer_value(id) >= (json_int_t)MAX_TOKENS)
        return fail(CODE_BAD_INPUT, "id %lld is out of range; ids must be 0 … %zu", (long long)json_integer_value(id),
                    MAX_TOKENS - 1);
    if (json_is_true(json_object_get(item, "single_word")))
        return fail(CODE_BAD_INPUT, "single_word is set; it is not offered");
    added_token token = {.id = (int32_t)json_integer_value(id),
                         .special = json_is_true(json_object_get(item, "special")),
                         .normalized = json_is_true(json_object_get(item, "normalized")),
                         .left_strip = json_is_true(json_object_get(item, "lstrip")),
                         .right_strip = json_is_true(json_object_get(item, "rstrip"))};
    if (added_by_id(&t->added, token.id))
        return fail(CODE_BAD_INPUT, "id %d is given twice", token.id);
    int code = bytes_append(&token.text, json_string_value(content), json_string_length(content));
    return code ? code : added_put(&t->added, token);
}

/* The package looks for a token's normal form, which then must be the token itself. */
static int check_normal(const tokenizer *t, json_t *item)
{
    const char *text = json_text(item, "content");
    byte_list normal = {0};
    int code = json_is_true(json_object_get(item, "normalized"))
                   ? normalize(&t->forms, (const uint8_t *)text, strlen(text), &normal)
                   : CODE_GOOD;
    if (!code && normal.items && (normal.count != strlen(text) || memcmp(normal.items, text, normal.count) != 0))
        code = fail(CODE_BAD_INPUT, "'%.80s' is not in the normal form that the normalizer makes", text);
    bytes_free(&normal);
    return code;
}

static int load_added(tokenizer *t, const char *path, json_t *root)
{
    json_t *list = json_object_get(root, "added_tokens");
    int code = CODE_GOOD;
    for (size_t i = 0; !code && i < json_array_size(list); i++)
        if ((code = load_added_one(t, json_array_get(list, i))) || (code = check_normal(t, json_array_get(list, i))))
            code = in_file(code, path, "added_tokens[%zu]", i);
    t->parses_special = true;
    return code;
}

/* ---- what is put around a text ---- */

static int load_template_id(tokenizer *t, json_t *processor, json_t *item, bool *inside)
{
    if (json_object_get(item, "Sequence")) {
        *inside = true;
        return CODE_GOOD;
    }
    const char *name = json_string_value(json_object_get(json_object_get(item, "SpecialToken"), "id"));
    json_t *ids =
        name ? json_object_get(json_object_get(json_object_get(processor, "special_tokens"), name), "ids") : NULL;
    if (json_array_size(ids) == 0)
        return fail(CODE_BAD_INPUT, "post_processor: single has an item that is neither Sequence nor a SpecialToken of "
                                    "special_tokens");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        json_int_t id = json_integer_value(json_array_get(ids, i));
        size_t *n = *inside ? &t->n_after : &t->n_before;
        if (*n == MAX_AROUND || !json_is_integer(json_array_get(ids, i)) || id < 0 || id >= (json_int_t)MAX_TOKENS)
            return fail(CODE_BAD_INPUT, "post_processor: the ids of '%.80s' are out of range", name);
        (*inside ? t->after : t->before)[(*n)++] = (int32_t)id;
    }
    return CODE_GOOD;
}

static int load_processor(tokenizer *t, const char *path, json_t *processor)
{
    const char *type = json_string_value(json_object_get(processor, "type"));
    if (!processor || json_is_null(processor) || (type && strcmp(type, "ByteLevel") == 0))
        return CODE_GOOD;
    json_t *items = json_object_get(processor, type && strcmp(type, "Sequence") == 0 ? "processors" : "single");
    if (!type || (strcmp(type, "Sequence") != 0 && strcmp(type, "TemplateProcessing") != 0) || !json_is_array(items))
        return fail(CODE_BAD_INPUT,
                    "%s: post_processor '%.40s' is not offered; ByteLevel, TemplateProcessing and Sequence are", path,
                    type ? type : "without a type");
    bool inside = false;
    int code = CODE_GOOD;
    for (size_t i = 0; !code && i < json_array_size(items); i++) {
        json_t *item = json_array_get(items, i);
        if (strcmp(type, "Sequence") != 0)
            code = in_file(load_template_id(t, processor, item, &inside), path, "single[%zu]", i);
        else if (strcmp(json_text(item, "type"), "Sequence") == 0)
            code = fail(CODE_BAD_INPUT, "%s: post_processor: a Sequence inside a Sequence is not offered", path);
        else
            code = load_processor(t, path, item);
    }
    return code;
}

int tokenizer_load_json(tokenizer *t, const char *path, const byte_list *text)
{
    json_t *root, *model;
    int code = json_parse(path, text, &root);
    if (code)
        return code;
    json_t *truncation = json_object_get(root, "truncation");
    if (truncation && !json_is_null(truncation))
        code = fail(CODE_BAD_INPUT, "%s: truncation is set; it must be null, texts are encoded whole", path);
    code = code ? code : json_field(root, path, "model", JSON_OBJECT, &model);
    code = code ? code : normalizer_load(&t->forms, path, root);
    code = code ? code : pretokenizer_load(&t->cuts, path, root);
    code = code ? code : load_model(t, path, model);
    code = code ? code : load_added(t, path, root);
    code = code ? code : load_processor(t, path, json_object_get(root, "post_processor"));
    json_decref(root);
    return code;
}
