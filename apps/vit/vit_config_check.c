/* SPDX-License-Identifier: MIT */
/* What must hold between the keys of a configuration, and what follows from them: counts, ranks, rates. */
#include "vit/vit_config_keys.h"

#include <math.h>
#include <string.h>

#include <ringx/ringx_study.h>

#define MAX_HEAD_DIM 256 /* of the library */

static int check_attention(const vit_config *c)
{
    const char *names[64] = {"ringX", "ring", "megatron", "auto"};
    size_t count = 4;
    char list[400] = "";
    for (size_t i = 0; ringx_preset_at(i) && count < 63; i++)
        names[count++] = ringx_preset_at(i)->name;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], c->attn_type) == 0)
            return CODE_GOOD;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
    }
    return fail(CODE_CONFIGURATION, "%s: attn_type is '%s'; it must be one of %s", c->name, c->attn_type, list);
}

int vit_config_check(const vit_config *c)
{
    const char *const sides[] = {"latitudes", "longitudes"};
    for (int i = 0; i < 2; i++)
        if (c->img_size[i] % c->patch_size != 0)
            return fail(CODE_CONFIGURATION, "%s: patch_size %lld must divide img_size's %lld %s", c->name,
                        (long long)c->patch_size, (long long)c->img_size[i], sides[i]);
    if (c->embed_dim % c->num_heads != 0 || c->embed_dim / c->num_heads > MAX_HEAD_DIM)
        return fail(CODE_CONFIGURATION, "%s: embed_dim %lld over num_heads %lld must be a whole number from 1 to %d",
                    c->name, (long long)c->embed_dim, (long long)c->num_heads, MAX_HEAD_DIM);
    if (c->n_in_channels != c->n_out_channels)
        return fail(CODE_CONFIGURATION,
                    "%s: n_in_channels %lld and n_out_channels %lld must be equal: the fields are both", c->name,
                    (long long)c->n_in_channels, (long long)c->n_out_channels);
    if (!c->global_means_path != !c->global_stds_path)
        return fail(CODE_CONFIGURATION, "%s: global_means_path and global_stds_path must both be given, or neither",
                    c->name);
    if (c->keep_mlp_layers > c->depth)
        return fail(CODE_CONFIGURATION, "%s: keep_mlp_layers %lld is more than depth %lld", c->name,
                    (long long)c->keep_mlp_layers, (long long)c->depth);
    return check_attention(c);
}

/* ---- counts ---- */

int64_t vit_tokens(const vit_config *c)
{
    return c->img_size[0] / c->patch_size * (c->img_size[1] / c->patch_size);
}

/* Patch embedding, position embedding, final norm, head. */
static int64_t ends(const vit_config *c)
{
    int64_t d = c->embed_dim, patch = c->patch_size * c->patch_size;
    return c->n_in_channels * patch * d + d + vit_tokens(c) * d + 2 * d + c->n_out_channels * patch * d;
}

int64_t vit_parameters(const vit_config *c)
{
    int64_t d = c->embed_dim;
    return ends(c) + c->depth * (12 * d * d + 13 * d);
}

int64_t vit_parameters_of_rank(const vit_config *c)
{
    int64_t d = c->embed_dim, tp = c->tensor_parallel;
    int64_t cut = 12 * d * d + 7 * d; /* all weights; biases of q, k, v, fc1 */
    int64_t whole = 6 * d;            /* biases of proj, fc2; two norms */
    return ends(c) + c->depth * (cut / tp + whole);
}

void vit_token_shard(int64_t tokens, int cp, int at, int64_t *first, int64_t *count)
{
    *first = tokens / cp * at + tokens % cp * at / cp;
    int64_t end = tokens / cp * (at + 1) + tokens % cp * (at + 1) / cp;
    *count = end - *first;
}

/* ---- rates ---- */

double vit_learning_rate(const vit_config *c, int64_t x)
{
    double done = c->num_iters ? (double)x / (double)c->num_iters : 0, factor = 1;
    if (strcmp(c->lr_schedule, "cosine") == 0)
        factor = 0.5 * (1 + cos(acos(-1.0) * done));
    else if (strcmp(c->lr_schedule, "linear") == 0)
        factor = fmax(0, 1 - done);
    if (c->warmup)
        factor = fmin((double)(x + 1) / (double)c->warmup, factor);
    return c->lr * factor;
}

/* ---- ranks ---- */

/* order[] from "tp-cp-dp"; axes that are missing come last, and must have size 1. */
static int read_order(const vit_config *c, vit_layout *l)
{
    static const char *const axes[] = {"tp", "cp", "dp", "pp"};
    bool given[4] = {false};
    int n = 0;
    for (const char *at = c->parallel_order; *at;) {
        int a = 0;
        while (a < 4 && strncmp(at, axes[a], 2) != 0)
            a++;
        if (a == 4 || given[a] || (at[2] && at[2] != '-') || (at[2] == '-' && !at[3]))
            return fail(CODE_CONFIGURATION,
                        "parallel_order is '%s'; it must be tp, cp, dp (and pp), each at most once, "
                        "fastest first, as in tp-cp-dp",
                        c->parallel_order);
        given[a] = true;
        if (a < 3)
            l->order[n++] = a;
        at += at[2] ? 3 : 2;
    }
    for (int a = 0; a < 3; a++) {
        if (given[a])
            continue;
        if (l->size[a] != 1)
            return fail(CODE_CONFIGURATION,
                        "parallel_order '%s' leaves out %s, which has %d ranks; only an axis of one "
                        "rank may be left out",
                        c->parallel_order, axes[a], l->size[a]);
        l->order[n++] = a;
    }
    return CODE_GOOD;
}

static int check_sizes(const vit_config *c)
{
    int64_t tp = c->tensor_parallel, cp = c->context_parallel;
    if (c->num_heads % tp != 0)
        return fail(CODE_CONFIGURATION, "tensor_parallel %lld must divide num_heads %lld", (long long)tp,
                    (long long)c->num_heads);
    if (vit_tokens(c) < cp)
        return fail(CODE_CONFIGURATION, "context_parallel is %lld; it must be at most the number of tokens, %lld",
                    (long long)cp, (long long)vit_tokens(c));
    return CODE_GOOD;
}

int vit_config_layout(const vit_config *c, int world, vit_layout *layout)
{
    int64_t tp = c->tensor_parallel, cp = c->context_parallel;
    if (world % (tp * cp) != 0)
        return fail(CODE_CONFIGURATION,
                    "tensor_parallel %lld times context_parallel %lld must divide the number of ranks, %d",
                    (long long)tp, (long long)cp, world);
    int64_t dp = world / (tp * cp);
    *layout = (vit_layout){.dp = dp, .size = {(int)tp, (int)cp, (int)dp}};
    int code = read_order(c, layout);
    if (!code)
        code = check_sizes(c);
    if (code)
        return code;
    layout->global_batch = c->local_batch_size ? c->local_batch_size * dp : c->global_batch_size;
    layout->local_batch = layout->global_batch / dp;
    if (layout->global_batch % dp != 0)
        return fail(CODE_CONFIGURATION,
                    "global_batch_size is %lld; it must be a multiple of the %lld data-parallel ranks",
                    (long long)c->global_batch_size, (long long)dp);
    return CODE_GOOD;
}
