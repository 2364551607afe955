/* SPDX-License-Identifier: MIT */
/* The relations between keys of a configuration, what follows from them, and the batch arithmetic. */
#include "train/config.h"

#include <ringx/ringx_study.h>
#include <stdlib.h>
#include <string.h>

/* "file:line: " of a key, for messages; "" for defaults and settings. */
static const char *place(const config *c, const char *name)
{
    static _Thread_local char text[4200];
    const config_source *from = &c->from[config_find(name)];
    text[0] = '\0';
    if (from->file)
        snprintf(text, sizeof text, "%s:%d: ", from->file, from->line);
    return text;
}

static bool given(const config *c, const char *name)
{
    return c->from[config_find(name)].given;
}

static int check_required(const config *c)
{
    static const char *const names[] = {
        "num_layers", "hidden_size", "num_attention_heads", "seq_length", "train_iters", "log_interval", NULL};
    for (int i = 0; names[i]; i++)
        if (!given(c, names[i]))
            return fail(CODE_CONFIGURATION, "key '%s' is required and set in no file", names[i]);
    return CODE_GOOD;
}

/* The original's rule: 2/3 of what is asked for, rounded up to a multiple; without a wish 8/3 of the width.  The
 * published configurations ask for 14336 with multiples of 14336 and mean 14336. */
static void inner_size(config *c)
{
    int64_t wish = c->intermediate_size ? c->intermediate_size : 4 * c->hidden_size;
    int64_t unit = c->mlp_multiple_of, inner = wish;
    if (!c->intermediate_size || unit > 1)
        inner = (2 * wish / 3 + unit - 1) / unit * unit;
    c->intermediate_size = inner;
}

static int check_model(config *c)
{
    int64_t heads = c->num_attention_heads, tp = c->model_parallel_size;
    if (c->num_kv_heads == 0)
        c->num_kv_heads = heads;
    if (heads % c->num_kv_heads)
        return fail(CODE_CONFIGURATION, "%snum_kv_heads %lld does not divide num_attention_heads %lld",
                    place(c, "num_kv_heads"), (long long)c->num_kv_heads, (long long)heads);
    if (c->hidden_size % heads || c->hidden_size / heads % 2 || c->hidden_size / heads > 256)
        return fail(CODE_CONFIGURATION,
                    "%shidden_size %lld / num_attention_heads %lld must be a whole, even head size of at most 256",
                    place(c, "hidden_size"), (long long)c->hidden_size, (long long)heads);
    inner_size(c);
    if (c->num_kv_heads % tp)
        return fail(CODE_CONFIGURATION, "%smodel_parallel_size %lld does not divide num_kv_heads %lld",
                    place(c, "model_parallel_size"), (long long)tp, (long long)c->num_kv_heads);
    if (c->intermediate_size % tp)
        return fail(CODE_CONFIGURATION, "%smodel_parallel_size %lld does not divide intermediate_size %lld",
                    place(c, "model_parallel_size"), (long long)tp, (long long)c->intermediate_size);
    if (c->keep_mlp_layers > c->num_layers)
        return fail(CODE_CONFIGURATION, "%skeep_mlp_layers %lld is more than num_layers %lld",
                    place(c, "keep_mlp_layers"), (long long)c->keep_mlp_layers, (long long)c->num_layers);
    if (c->max_position_embeddings && c->max_position_embeddings < c->seq_length)
        return fail(CODE_CONFIGURATION, "%sseq_length %lld is beyond max_position_embeddings %lld",
                    place(c, "seq_length"), (long long)c->seq_length, (long long)c->max_position_embeddings);
    return CODE_GOOD;
}

static bool known_attention(const char *name)
{
    if (strcmp(name, "ring") == 0 || strcmp(name, "auto") == 0)
        return true;
    const ringx_preset_entry *preset;
    for (size_t i = 0; (preset = ringx_preset_at(i)) != NULL; i++)
        if (strcmp(preset->name, name) == 0)
            return true;
    return false;
}

/* Appends the names of "name+name*count" to layers, count times; "all": until there are as many as layers. */
static int expand_entry(const config *c, const char *entry, text_list *layers)
{
    char names[4096], *end, *rest;
    const char *star = strrchr(entry, '*');
    int64_t count = 1, wanted = c->num_layers;
    if (star && strcmp(star + 1, "all") == 0)
        count = wanted;
    else if (star)
        count = strtoll(star + 1, &end, 10);
    if (star && strcmp(star + 1, "all") != 0 && (*end || end == star + 1 || count < 0 || count > wanted))
        return fail(CODE_CONFIGURATION,
                    "%sattention_config: count '%s' must be \"all\" or a number up to num_layers %lld",
                    place(c, "attention_config"), star + 1, (long long)wanted);
    bool all = star && strcmp(star + 1, "all") == 0;
    for (int64_t i = 0; i < count; i++) {
        snprintf(names, sizeof names, "%.*s", (int)(star ? (size_t)(star - entry) : strlen(entry)), entry);
        for (char *name = strtok_r(names, "+", &rest); name; name = strtok_r(NULL, "+", &rest)) {
            if (!known_attention(name))
                return fail(CODE_CONFIGURATION, "%sattention_config: '%s' is neither ring, auto nor a preset of ringx",
                            place(c, "attention_config"), name);
            if (all && (int64_t)layers->count == wanted)
                return CODE_GOOD;
            if ((int64_t)layers->count < wanted)
                layers->items[layers->count] = strdup(name);
            if (layers->count++ >= (size_t)wanted || !layers->items[layers->count - 1])
                return fail(CODE_CONFIGURATION, "%sattention_config names more layers than num_layers %lld",
                            place(c, "attention_config"), (long long)wanted);
        }
    }
    return CODE_GOOD;
}

static void free_texts(text_list *list, size_t room)
{
    for (size_t i = 0; i < room && list->items; i++)
        free(list->items[i]);
    free(list->items);
}

static int expand_attention(config *c)
{
    text_list layers = {.items = allocate((size_t)c->num_layers * sizeof(char *))};
    if (!layers.items)
        return CODE_NO_MEMORY;
    int code = CODE_GOOD;
    if (c->attention.count == 0)
        code = expand_entry(c, "ring*all", &layers);
    for (size_t i = 0; i < c->attention.count && !code; i++)
        code = expand_entry(c, c->attention.items[i], &layers);
    if (!code && layers.count != (size_t)c->num_layers)
        code = fail(CODE_CONFIGURATION, "%sattention_config names %zu layers; num_layers is %lld",
                    place(c, "attention_config"), layers.count, (long long)c->num_layers);
    if (code) {
        free_texts(&layers, (size_t)c->num_layers);
        return code;
    }
    free_texts(&c->attention, c->attention.count);
    c->attention = layers;
    return CODE_GOOD;
}

static int check_precision(config *c)
{
    bool bf16 = c->bf16 || c->bf16_enabled, fp16 = c->fp16 || c->fp16_enabled;
    if (bf16 && fp16)
        return fail(CODE_CONFIGURATION, "%sbf16 and fp16 are both enabled; one is possible", place(c, "fp16"));
    precision from_groups = bf16 ? PRECISION_BF16 : fp16 ? PRECISION_FP16 : PRECISION_FP32;
    if (!given(c, "precision"))
        c->precision = from_groups;
    else if ((bf16 || fp16) && c->precision != (int64_t)from_groups)
        return fail(CODE_CONFIGURATION, "%sprecision differs from what %s enables", place(c, "precision"),
                    bf16 ? "bf16" : "fp16");
    return CODE_GOOD;
}

static int check_schedule(config *c)
{
    if (c->betas.count != 2 || c->betas.items[0] >= 1 || c->betas.items[1] >= 1)
        return fail(CODE_CONFIGURATION, "%soptimizer.params.betas must be two numbers in [0, 1)",
                    place(c, "optimizer.params.betas"));
    if (!c->bias_correction)
        return fail(CODE_CONFIGURATION, "%soptimizer.params.bias_correction must be true: nothing else is offered",
                    place(c, "optimizer.params.bias_correction"));
    if (c->min_lr > c->lr)
        return fail(CODE_CONFIGURATION, "%smin_lr %g is above optimizer.params.lr %g", place(c, "min_lr"), c->min_lr,
                    c->lr);
    if (c->override_lr_scheduler && c->use_checkpoint_lr_scheduler)
        return fail(CODE_CONFIGURATION, "%soverride_lr_scheduler and use_checkpoint_lr_scheduler are both set",
                    place(c, "override_lr_scheduler"));
    if (c->data_path && c->train_data_paths.count)
        return fail(CODE_CONFIGURATION, "%sdata_path and train_data_paths are both set", place(c, "data_path"));
    if (c->train_data_weights.count && c->train_data_weights.count != c->train_data_paths.count)
        return fail(CODE_CONFIGURATION, "%s%zu train_data_weights for %zu train_data_paths",
                    place(c, "train_data_weights"), c->train_data_weights.count, c->train_data_paths.count);
    return CODE_GOOD;
}

int config_check(config *c)
{
    int size[3], order[3];
    int code = check_required(c);
    if (!code)
        code = check_model(c);
    if (!code)
        code = expand_attention(c);
    if (!code)
        code = check_precision(c);
    if (!code)
        code = check_schedule(c);
    return code ? code : config_layout(c, size, order);
}

int config_layout(const config *c, int size[3], int order[3])
{
    static const char *const names[] = {"tensor", "context", "data"};
    char text[128], *rest = NULL;
    int seen = 0, count = 0;
    size[0] = (int)c->model_parallel_size;
    size[1] = (int)c->context_parallel_size;
    size[2] = 0;
    snprintf(text, sizeof text, "%s", c->rank_order);
    for (char *name = strtok_r(text, ", ", &rest); name; name = strtok_r(NULL, ", ", &rest), count++)
        for (int i = 0; i < 3; i++)
            if (count < 3 && strcmp(name, names[i]) == 0) {
                order[count] = i;
                seen |= 1 << i;
            }
    if (seen != 7 || count != 3)
        return fail(CODE_CONFIGURATION, "%srank_order '%s' must name tensor, context and data once each, fastest first",
                    place(c, "rank_order"), c->rank_order);
    return CODE_GOOD;
}

/* a = b·c with the zero ones to be found; false if they do not multiply. */
static bool complete(int64_t *whole, int64_t *micro, int64_t *steps, int64_t dp)
{
    if (*whole && *micro && !*steps)
        *steps = *whole / (*micro * dp);
    if (*whole && !*micro) {
        *steps = *steps ? *steps : 1;
        *micro = *whole / (*steps * dp);
    }
    if (*micro && !*steps)
        *steps = 1;
    if (!*whole)
        *whole = *micro * *steps * dp;
    return *micro >= 1 && *steps >= 1 && *whole == *micro * *steps * dp;
}

int config_batch(config *c, int world, int64_t *dp)
{
    int64_t tp = c->model_parallel_size, cp = c->context_parallel_size;
    int64_t whole = c->train_batch_size, micro = c->train_micro_batch_size_per_gpu,
            steps = c->gradient_accumulation_steps;
    if (world % (tp * cp))
        return fail(CODE_CONFIGURATION,
                    "%d ranks are no multiple of model_parallel_size %lld × context_parallel_size %lld", world,
                    (long long)tp, (long long)cp);
    *dp = world / (tp * cp);
    if (!whole && !micro)
        return fail(CODE_CONFIGURATION, "train_micro_batch_size_per_gpu or train_batch_size is required");
    if (!complete(&whole, &micro, &steps, *dp))
        return fail(
            CODE_CONFIGURATION,
            "train_batch_size %lld is not train_micro_batch_size_per_gpu %lld × gradient_accumulation_steps %lld "
            "× %lld data-parallel ranks",
            (long long)whole, (long long)micro, (long long)steps, (long long)*dp);
    c->train_batch_size = whole;
    c->train_micro_batch_size_per_gpu = micro;
    c->gradient_accumulation_steps = steps;
    return CODE_GOOD;
}
