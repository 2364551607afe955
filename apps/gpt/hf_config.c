/* SPDX-License-Identifier: MIT */
/* config.json of a Llama model: of transformers 4 (rope_theta, rope_scaling) and 5 (rope_parameters). */
#include "gpt/hf_files.h"

#include "gpt/model_parts.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

typedef struct reading {
    const char *path;
    json_t *root;
} reading;

/* fallback < 0: the field must be there. */
static int whole(const reading *r, const char *name, int64_t fallback, int64_t *value)
{
    json_t *field = json_object_get(r->root, name);
    if ((!field || json_is_null(field)) && fallback >= 0) {
        *value = fallback;
        return CODE_GOOD;
    }
    if (!json_is_integer(field) || json_integer_value(field) < 1 || json_integer_value(field) > INT32_MAX)
        return fail(CODE_BAD_INPUT, "%s: field '%s' must be an integer from 1", r->path, name);
    *value = json_integer_value(field);
    return CODE_GOOD;
}

static int real(const reading *r, json_t *object, const char *name, double fallback, double *value)
{
    json_t *field = json_object_get(object, name);
    if (!field && fallback >= 0) {
        *value = fallback;
        return CODE_GOOD;
    }
    *value = json_is_number(field) ? json_number_value(field) : NAN;
    return *value > 0 && isfinite(*value)
               ? CODE_GOOD
               : fail(CODE_BAD_INPUT, "%s: field '%s' must be a number above 0", r->path, name);
}

static int must_be_off(const reading *r, const char *name)
{
    return json_is_true(json_object_get(r->root, name))
               ? fail(CODE_BAD_INPUT, "%s: field '%s' is true; only models without it are supported", r->path, name)
               : CODE_GOOD;
}

static int rope(const reading *r, gpt_config *c)
{
    json_t *rope = json_object_get(r->root, "rope_parameters");
    if (!json_is_object(rope))
        rope = json_object_get(r->root, "rope_scaling");
    TRY(real(r, r->root, "rope_theta", 10000, &c->rope_theta));
    if (!json_is_object(rope))
        return CODE_GOOD;
    TRY(real(r, rope, "rope_theta", c->rope_theta, &c->rope_theta));
    const char *type = json_string_value(json_object_get(rope, "rope_type"));
    if (!type)
        type = json_string_value(json_object_get(rope, "type"));
    if (!type || strcmp(type, "default") == 0)
        return CODE_GOOD;
    if (strcmp(type, "llama3") != 0)
        return fail(CODE_BAD_INPUT, "%s: rope_type is '%s'; it must be default or llama3", r->path, type);
    nn_rope_scaling *s = &c->rope_scaling;
    TRY(real(r, rope, "factor", -1, &s->factor));
    TRY(real(r, rope, "low_freq_factor", -1, &s->low));
    TRY(real(r, rope, "high_freq_factor", -1, &s->high));
    TRY(real(r, rope, "original_max_position_embeddings", -1, &s->original));
    return s->low < s->high ? CODE_GOOD
                            : fail(CODE_BAD_INPUT, "%s: low_freq_factor must be below high_freq_factor", r->path);
}

static int read_fields(const reading *r, gpt_config *c)
{
    TRY(whole(r, "hidden_size", -1, &c->width));
    TRY(whole(r, "num_hidden_layers", -1, &c->layers));
    TRY(whole(r, "num_attention_heads", -1, &c->heads));
    TRY(whole(r, "num_key_value_heads", c->heads, &c->kv_heads));
    TRY(whole(r, "head_dim", c->width / c->heads, &c->head_dim));
    TRY(whole(r, "intermediate_size", -1, &c->inner));
    TRY(whole(r, "vocab_size", -1, &c->vocabulary));
    TRY(whole(r, "max_position_embeddings", 0, &c->max_positions));
    TRY(real(r, r->root, "rms_norm_eps", 1e-6, &c->norm_eps));
    TRY(must_be_off(r, "attention_bias"));
    TRY(must_be_off(r, "mlp_bias"));
    const char *act = json_string_value(json_object_get(r->root, "hidden_act"));
    if (act && strcmp(act, "silu") != 0)
        return fail(CODE_BAD_INPUT, "%s: hidden_act is '%s'; it must be silu", r->path, act);
    c->tied = json_is_true(json_object_get(r->root, "tie_word_embeddings"));
    c->init_std = gpt_small_init(c->width), c->output_init_std = gpt_wang_init(c->layers, c->width);
    return rope(r, c);
}

int hf_config_parse(gpt_config *c, const char *path, json_t *root)
{
    reading r = {path, root};
    *c = (gpt_config){0};
    return json_is_object(root) ? read_fields(&r, c) : fail(CODE_BAD_INPUT, "%s: the model must be an object", path);
}

int hf_config_read(gpt_config *c, const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return fail(error.line < 0 ? CODE_MISSING : CODE_BAD_INPUT, "%s: line %d: %s", path, error.line, error.text);
    int code = hf_config_parse(c, path, root);
    json_decref(root);
    return code;
}
