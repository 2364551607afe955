/* SPDX-License-Identifier: MIT */
/* Weights from safetensors files of Hugging Face: each rank reads the tensors and keeps its parts. */
#include "gpt/hf_files.h"

#include "gpt/model_parts.h"
#include "shared/numbers.h"
#include "shared/safetensors.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct loading {
    gpt_model *m;
    bool *loaded; /* by parameter */
} loading;

static bool dtype_of(st_dtype stored, ringx_dtype *dtype)
{
    *dtype = stored == ST_BF16 ? RINGX_BF16 : stored == ST_F16 ? RINGX_F16 : RINGX_F32;
    return stored == ST_BF16 || stored == ST_F16 || stored == ST_F32;
}

static int check_tensor(const st_file *f, const st_tensor *t, const gpt_parameter *p, ringx_dtype *dtype)
{
    char shape[128];
    bool right = p->split ? t->rank == 2 && t->shape[0] == p->rows && t->shape[1] == p->columns
                          : t->rank == 1 && t->shape[0] == p->columns;
    if (!right && p->split)
        return fail(CODE_BAD_INPUT, "%s: tensor %s has shape %s; it must be [%lld, %lld]", f->path, t->name,
                    st_shape_text(t, shape, sizeof shape), (long long)p->rows, (long long)p->columns);
    if (!right)
        return fail(CODE_BAD_INPUT, "%s: tensor %s has shape %s; it must be [%lld]", f->path, t->name,
                    st_shape_text(t, shape, sizeof shape), (long long)p->columns);
    if (!dtype_of(t->dtype, dtype))
        return fail(CODE_BAD_INPUT, "%s: tensor %s is %s; it must be F32, BF16 or F16", f->path, t->name,
                    st_dtype_names[t->dtype]);
    return CODE_GOOD;
}

/* This rank's part of the whole tensor, in the model's dtype. */
static int keep_part(gpt_model *m, const gpt_parameter *p, ringx_dtype dtype, const char *whole)
{
    size_t from = dtype_bytes(dtype), to = dtype_bytes(m->dtype), columns = (size_t)p->local_columns;
    char *part = allocate(p->count * to);
    double *row = allocate(columns * sizeof *row);
    int code = part && row ? CODE_GOOD : CODE_NO_MEMORY;
    for (int64_t r = 0; r < p->local_rows && !code; r++) {
        const char *source = whole + (size_t)((p->first_row + r) * p->columns + p->first_column) * from;
        char *target = part + (size_t)r * columns * to;
        if (dtype == m->dtype) {
            memcpy(target, source, columns * to);
        } else {
            to_doubles(dtype, source, row, columns);
            from_doubles(m->dtype, row, target, columns);
        }
    }
    if (!code)
        code =
            fail_status(ringx_memory_copy(m->on.ops->device, (char *)m->weights + p->offset * to, part, p->count * to),
                        "%s", p->name);
    free(part), free(row);
    return code;
}

static int load_tensor(loading *l, st_file *f, const st_tensor *t)
{
    const gpt_parameter *p = gpt_model_find(l->m, t->name);
    bool tied_head = l->m->config.tied && strcmp(t->name, "lm_head.weight") == 0;
    if (!p && (tied_head || strstr(t->name, "rotary_emb.inv_freq")))
        return CODE_GOOD; /* the embedding again; and what the configuration says */
    if (!p)
        return fail(CODE_BAD_INPUT, "%s: tensor %s is not part of this model", f->path, t->name);
    ringx_dtype dtype;
    TRY(check_tensor(f, t, p, &dtype));
    char *whole = allocate((size_t)(t->end - t->begin));
    if (!whole)
        return CODE_NO_MEMORY;
    int code = st_read(f, t, whole);
    if (!code)
        code = keep_part(l->m, p, dtype, whole);
    free(whole);
    l->loaded[p - l->m->parameters] = true;
    return code;
}

static int load_file(loading *l, const char *path)
{
    st_file f;
    TRY(st_open(&f, path));
    int code = CODE_GOOD;
    for (size_t i = 0; i < f.n_tensors && !code; i++)
        code = load_tensor(l, &f, &f.tensors[i]);
    st_close(&f);
    return code;
}

static bool listed_before(json_t *map, const char *until, const char *file)
{
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value)
    {
        if (strcmp(name, until) == 0)
            return false;
        if (strcmp(json_string_value(value), file) == 0)
            return true;
    }
    return false;
}

static int load_map(loading *l, const char *folder, const char *index, json_t *map)
{
    const char *name;
    json_t *value;
    if (!json_is_object(map))
        return fail(CODE_BAD_INPUT, "%s: weight_map must be an object", index);
    json_object_foreach(map, name, value)
    {
        const char *file = json_string_value(value);
        char path[4096];
        if (!file || !*file || strchr(file, '/') || strlen(folder) + strlen(file) + 2 > sizeof path)
            return fail(CODE_BAD_INPUT, "%s: weight_map of %s must name a file in the same folder", index, name);
        if (listed_before(map, name, file))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, file);
        TRY(load_file(l, path));
    }
    return CODE_GOOD;
}

static int load_folder(loading *l, const char *folder)
{
    char path[4096];
    struct stat found;
    if (snprintf(path, sizeof path, "%s/model.safetensors", folder) >= (int)sizeof path - 16)
        return fail(CODE_USAGE, "%s: the path is too long", folder);
    if (stat(path, &found) == 0)
        return load_file(l, path);
    strcat(path, ".index.json");
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!root && error.line < 0)
        return fail(CODE_MISSING, "%s: holds neither model.safetensors nor model.safetensors.index.json", folder);
    if (!root)
        return fail(CODE_BAD_INPUT, "%s: line %d: %s", path, error.line, error.text);
    int code = load_map(l, folder, path, json_object_get(root, "weight_map"));
    json_decref(root);
    return code;
}

int hf_weights_read(gpt_model *m, const char *path)
{
    struct stat found;
    loading l = {m, allocate(m->n_parameters * sizeof *l.loaded)};
    if (!l.loaded)
        return CODE_NO_MEMORY;
    bool folder = stat(path, &found) == 0 && S_ISDIR(found.st_mode);
    int code = folder ? load_folder(&l, path) : load_file(&l, path);
    for (size_t i = 0; i < m->n_parameters && !code; i++)
        if (!l.loaded[i])
            code = fail(CODE_BAD_INPUT, "%s: tensor %s is missing", path, m->parameters[i].name);
    free(l.loaded);
    return code;
}
