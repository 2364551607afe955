/* SPDX-License-Identifier: MIT */
/* The normalizer and the pre_tokenizer of a tokenizer.json: normal forms; Sequence, Split, ByteLevel, Digits. */
#include "gpt/json_fields.h"
#include "shared/report.h"

#include <ctype.h>
#include <string.h>

typedef struct loading {
    pretokenizer *made;
    const char *path;
    bool byte_level;
    int depth;
} loading;

static bool field_is(json_t *object, const char *name, bool otherwise)
{
    json_t *value = json_object_get(object, name);
    return value && !json_is_null(value) ? json_is_true(value) : otherwise;
}

/* A text that matches itself. */
static int literal(const char *text, byte_list *pattern)
{
    int code = CODE_GOOD;
    for (; !code && *text; text++) {
        if (ispunct((unsigned char)*text))
            code = bytes_append(pattern, "\\", 1);
        code = code ? code : bytes_append(pattern, text, 1);
    }
    return code ? code : bytes_append(pattern, "", 1);
}

static int load_split(loading *l, json_t *step)
{
    json_t *pattern = json_object_get(step, "pattern");
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    const char *text = json_string_value(json_object_get(pattern, "String"));
    const char *behavior = json_text(step, "behavior");
    bool invert = field_is(step, "invert", false), removed = strcmp(behavior, "Removed") == 0;
    if (!removed && strcmp(behavior, "Isolated") != 0)
        return fail(CODE_BAD_INPUT,
                    "%s: pre_tokenizer: Split with behavior '%.40s' is not offered; Isolated and Removed "
                    "are",
                    l->path, behavior);
    if (!regex && (!text || !*text))
        return fail(CODE_BAD_INPUT, "%s: pre_tokenizer: Split has no pattern (Regex or String)", l->path);
    split_kind kind = !removed ? SPLIT_ISOLATE : invert ? SPLIT_MATCHES : SPLIT_GAPS;
    byte_list own = {0};
    int code = regex ? CODE_GOOD : literal(text, &own);
    code = code ? code : pretokenizer_add(l->made, kind, regex ? regex : (const char *)own.items, true);
    bytes_free(&own);
    return in_file(code, l->path, "pre_tokenizer: Split");
}

static int load_step(loading *l, json_t *step)
{
    const char *type = json_text(step, "type");
    int code = CODE_GOOD;
    if (l->byte_level) /* what follows would see bytes as characters */
        return fail(CODE_BAD_INPUT, "%s: pre_tokenizer: '%.40s' after ByteLevel is not offered", l->path, type);
    if (strcmp(type, "Split") == 0)
        return load_split(l, step);
    if (strcmp(type, "Digits") == 0)
        return pretokenizer_add(l->made, SPLIT_ISOLATE,
                                field_is(step, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", true);
    if (strcmp(type, "ByteLevel") == 0) {
        l->byte_level = true;
        if (field_is(step, "add_prefix_space", true))
            code = pretokenizer_add(l->made, SPLIT_PREFIX, NULL, true);
        if (!code && field_is(step, "use_regex", true))
            code = pretokenizer_add(l->made, SPLIT_ISOLATE, pattern_gpt2, true);
        return code;
    }
    if (strcmp(type, "Sequence") != 0 || l->depth++ > 0)
        return fail(CODE_BAD_INPUT,
                    "%s: pre_tokenizer '%.40s' is not offered; Sequence, Split, ByteLevel and Digits are", l->path,
                    type);
    json_t *steps = json_object_get(step, "pretokenizers");
    for (size_t i = 0; !code && i < json_array_size(steps); i++)
        code = load_step(l, json_array_get(steps, i));
    return code;
}

static int load_form(normalizer *n, const char *path, json_t *step)
{
    const char *type = json_text(step, "type");
    for (int i = 0; i < FORMS; i++) {
        if (strcmp(type, normal_form_names[i]) != 0)
            continue;
        if (n->count == MAX_FORMS)
            return fail(CODE_BAD_INPUT, "%s: normalizer has more than %d steps", path, MAX_FORMS);
        n->forms[n->count++] = (normal_form)i;
        return CODE_GOOD;
    }
    return fail(CODE_BAD_INPUT, "%s: normalizer '%.40s' is not offered; NFC, NFD, NFKC and NFKD are", path, type);
}

int normalizer_load(normalizer *n, const char *path, json_t *root)
{
    json_t *step = json_object_get(root, "normalizer");
    if (!step || json_is_null(step))
        return CODE_GOOD;
    if (strcmp(json_text(step, "type"), "Sequence") != 0)
        return load_form(n, path, step);
    json_t *steps = json_object_get(step, "normalizers");
    int code = CODE_GOOD;
    for (size_t i = 0; !code && i < json_array_size(steps); i++)
        code = load_form(n, path, json_array_get(steps, i));
    return code;
}

int pretokenizer_load(pretokenizer *p, const char *path, json_t *root)
{
    json_t *step = json_object_get(root, "pre_tokenizer");
    loading l = {.made = p, .path = path};
    int code = step && !json_is_null(step) ? load_step(&l, step) : CODE_GOOD;
    if (!code && !l.byte_level)
        code = fail(CODE_BAD_INPUT, "%s: pre_tokenizer has no ByteLevel step; only byte-level vocabularies are offered",
                    path);
    return code;
}
