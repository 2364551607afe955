/* SPDX-License-Identifier: MIT */
/* A model written as Hugging Face keeps it: config.json and model.safetensors. */
#include "gpt/hf_files.h"

#include "gpt/model_parts.h"
#include "shared/numbers.h"
#include "shared/safetensors.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const dtype_names[] = {"float32", "bfloat16", "float16"};

static json_t *scaling_json(const nn_rope_scaling *s)
{
    if (s->factor <= 0)
        return json_null();
    return json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor", s->factor, "low_freq_factor", s->low,
                     "high_freq_factor", s->high, "original_max_position_embeddings", (json_int_t)llround(s->original));
}

/* The form of transformers 4, which 5 reads as well. */
json_t *hf_config_json(const gpt_config *c, ringx_dtype dtype)
{
    int64_t positions = c->max_positions ? c->max_positions : 1 << 20;
    return json_pack(
        "{s:[s], s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:o, s:b, s:b, s:b, s:s}", "architectures",
        "LlamaForCausalLM", "model_type", "llama", "hidden_act", "silu", "hidden_size", (json_int_t)c->width,
        "num_hidden_layers", (json_int_t)c->layers, "num_attention_heads", (json_int_t)c->heads, "num_key_value_heads",
        (json_int_t)c->kv_heads, "head_dim", (json_int_t)c->head_dim, "intermediate_size", (json_int_t)c->inner,
        "vocab_size", (json_int_t)c->vocabulary, "max_position_embeddings", (json_int_t)positions, "rms_norm_eps",
        c->norm_eps, "rope_theta", c->rope_theta, "rope_scaling", scaling_json(&c->rope_scaling), "tie_word_embeddings",
        c->tied, "attention_bias", false, "mlp_bias", false, "torch_dtype", dtype_names[dtype]);
}

/* ---- weights ---- */

/* Parts of all tensor ranks, [rank][local rows][local columns], into [rows][columns]. */
static void place_columns(const gpt_parameter *p, int ranks, size_t element, const char *parts, char *whole)
{
    for (int r = 0; r < ranks; r++) {
        int64_t first = p->columns * r / ranks, columns = p->columns * (r + 1) / ranks - first;
        for (int64_t row = 0; row < p->rows; row++) {
            size_t bytes = (size_t)columns * element;
            memcpy(whole + (size_t)(row * p->columns + first) * element, parts, bytes);
            parts += bytes;
        }
    }
}

/* whole and parts: room for all of the parameter each; the whole one is in *result. */
static int collect(gpt_model *m, const gpt_parameter *p, char *parts, char *whole, char **result)
{
    size_t element = dtype_bytes(m->dtype);
    int ranks = p->split && m->groups.tensor ? group_ranks(m->groups.tensor) : 1;
    int rank = ranks > 1 ? group_rank(m->groups.tensor) : 0;
    bool by_rows = p->local_columns == p->columns;
    size_t *bounds = allocate(((size_t)ranks + 1) * sizeof *bounds);
    if (!bounds)
        return CODE_NO_MEMORY;
    for (int r = 0; r <= ranks; r++)
        bounds[r] = (size_t)(by_rows ? p->rows * r / ranks * p->columns : p->columns * r / ranks * p->rows) * element;
    int code = fail_status(ringx_memory_copy(m->on.ops->device, parts + bounds[rank],
                                             (char *)m->weights + p->offset * element, p->count * element),
                           "%s", p->name);
    if (!code && ranks > 1)
        code = group_all_gather(m->groups.tensor, parts, bounds);
    if (!code && !by_rows)
        place_columns(p, ranks, element, parts, whole);
    *result = by_rows ? parts : whole;
    free(bounds);
    return code;
}

static int declare(const gpt_model *m, st_output *o)
{
    static const st_dtype stored[] = {ST_F32, ST_BF16, ST_F16};
    for (size_t i = 0; i < m->n_parameters; i++) {
        const gpt_parameter *p = &m->parameters[i];
        const int64_t shape[2] = {p->split ? p->rows : p->columns, p->columns};
        TRY(st_declare(o, p->name, stored[m->dtype], p->split ? 2 : 1, shape));
    }
    return st_describe(o, "format", "pt");
}

/* o: the writing rank's, NULL on others, which go on after a failure of writing so that nobody waits. */
static int write_tensors(gpt_model *m, st_output *o)
{
    size_t most = 0, element = dtype_bytes(m->dtype);
    for (size_t i = 0; i < m->n_parameters; i++) {
        size_t bytes = (size_t)(m->parameters[i].rows * m->parameters[i].columns) * element;
        most = bytes > most ? bytes : most;
    }
    char *parts = allocate(most), *whole = allocate(most), *result = NULL;
    int code = m->groups.tensor ? group_agree(m->groups.tensor, parts && whole ? CODE_GOOD : CODE_NO_MEMORY)
               : parts && whole ? CODE_GOOD
                                : CODE_NO_MEMORY;
    int written = o ? declare(m, o) : CODE_GOOD;
    for (size_t i = 0; i < m->n_parameters && !code; i++) {
        const gpt_parameter *p = &m->parameters[i];
        code = collect(m, p, parts, whole, &result);
        if (o && !code && !written)
            written = st_write(o, result, (size_t)(p->rows * p->columns) * element);
    }
    free(parts), free(whole);
    return code ? code : written;
}

static int write_config(const gpt_model *m, const char *path)
{
    text_file file;
    TRY(text_create(&file, path));
    json_t *config = hf_config_json(&m->config, m->dtype);
    int code =
        config && json_dumpf(config, file.to, JSON_INDENT(2) | JSON_SORT_KEYS) == 0 && fputc('\n', file.to) == '\n'
            ? CODE_GOOD
            : fail(CODE_CANNOT_WRITE, "%s: cannot be written", path);
    json_decref(config);
    return text_finish(&file, code);
}

static int open_output(const char *folder, st_output **o)
{
    char path[4096];
    if (mkdir(folder, 0777) && errno != EEXIST)
        return fail(CODE_CANNOT_WRITE, "%s: cannot be made: %s", folder, strerror(errno));
    if (snprintf(path, sizeof path, "%s/model.safetensors", folder) >= (int)sizeof path)
        return fail(CODE_USAGE, "%s: the path is too long", folder);
    return st_create(o, path);
}

int hf_write(gpt_model *m, const char *folder)
{
    st_output *o = NULL;
    group *tensor = m->groups.tensor, *context = m->groups.context;
    bool writes = (!tensor || group_rank(tensor) == 0) && (!context || group_rank(context) == 0);
    int code = writes ? open_output(folder, &o) : CODE_GOOD;
    if (tensor)
        code = group_agree(tensor, code);
    if (!code)
        code = write_tensors(m, o);
    if (!code && o) {
        code = st_commit(o);
        o = NULL;
    }
    st_abandon(o);
    if (!code && writes) {
        char path[4096];
        snprintf(path, sizeof path, "%s/config.json", folder);
        code = write_config(m, path);
    }
    if (tensor)
        code = group_agree(tensor, code);
    return context ? group_agree(context, code) : code;
}
