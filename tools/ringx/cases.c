/* SPDX-License-Identifier: MIT */
/* Random cases for `ringx verify`: mostly small, mostly odd. */
#include "cases.h"
#include "shared/numbers.h"
#include "shared/options.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The n-th of the bits that are set. */
static int nth_bit(uint64_t bits, uint64_t n)
{
    for (int i = 0; i < 64; i++)
        if (bits >> i & 1 && n-- == 0)
            return i;
    return 0;
}

static uint64_t bit_count(uint64_t bits)
{
    return (uint64_t)__builtin_popcountll(bits);
}

static int64_t one_of(random_stream *r, const int64_t *values, size_t count)
{
    return values[random_below(r, count)];
}
#define ONE_OF(r, ...)                                                                                                 \
    one_of(r, (const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

static int64_t draw_tokens(random_stream *r, int ranks)
{
    switch (random_below(r, 16)) {
    case 0:
        return random_between(r, 0, 1);
    case 1:
        return random_between(r, 0, ranks); /* fewer tokens than ranks */
    case 2:
    case 3:
        return random_between(r, 2, 9);
    case 4:
    case 5:
        return ONE_OF(r, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61);
    case 6:
        return ONE_OF(r, 15, 16, 17, 31, 32, 33, 63, 64, 65);
    case 7:
        return random_between(r, 65, 200);
    default:
        return random_between(r, 10, 64);
    }
}

static int64_t draw_dim(random_stream *r)
{
    switch (random_below(r, 8)) {
    case 0:
        return random_between(r, 1, 256);
    case 1:
        return ONE_OF(r, 1, 2, 3, 5, 7, 17, 40, 72, 80, 96, 127, 128, 129, 192, 255, 256);
    case 2:
    case 3:
        return ONE_OF(r, 8, 16, 32, 64);
    default:
        return random_between(r, 1, 32);
    }
}

static void draw_sizes(random_stream *r, drawn *d)
{
    ringx_problem *p = &d->problem;
    p->tokens = draw_tokens(r, d->ranks);
    p->batch = random_chance(r, 0.02) ? 0 : ONE_OF(r, 1, 1, 1, 2, 3);
    p->kv_heads = ONE_OF(r, 1, 1, 2, 2, 3, 4);
    p->q_heads = p->kv_heads * ONE_OF(r, 1, 1, 1, 2, 2, 3, 4, 5);
    p->head_dim = draw_dim(r);
    p->value_dim = random_chance(r, 0.3) ? draw_dim(r) : 0;
    /* the reference takes tokens² · heads · dim: keep one case to a few milliseconds */
    int64_t value_dim = p->value_dim ? p->value_dim : p->head_dim;
    double budget = 1.5e6;
#define WORK ((double)(p->tokens * p->tokens) * (double)(p->batch * p->q_heads) * (double)(p->head_dim + value_dim))
    if (WORK > budget && p->batch > 1)
        p->batch = 1;
    if (WORK > budget && p->q_heads > p->kv_heads)
        p->q_heads = p->kv_heads * (random_chance(r, 0.5) ? 2 : 1);
    if (WORK > budget && p->kv_heads > 1) {
        int64_t group = p->q_heads / p->kv_heads;
        p->kv_heads = 1;
        p->q_heads = group;
    }
    while (WORK > budget && p->tokens > 33)
        p->tokens = p->tokens * 3 / 4;
#undef WORK
}

static int64_t draw_reach(random_stream *r, int64_t tokens)
{
    return random_chance(r, 0.15) ? random_between(r, 0, 1) : random_between(r, 0, tokens / 2 + 1);
}

/* Bounds of documents: some empty, with padding before the first and after the last now and then. */
static void draw_documents(random_stream *r, drawn *d)
{
    ringx_problem *p = &d->problem;
    size_t count = (size_t)random_between(r, 2, random_chance(r, 0.7) ? 6 : MAX_STARTS);
    for (size_t i = 0; i < count; i++)
        d->starts[i] = random_between(r, 0, p->tokens);
    for (size_t i = 1; i < count; i++)
        for (size_t j = i; j > 0 && d->starts[j - 1] > d->starts[j]; j--) {
            int64_t swap = d->starts[j];
            d->starts[j] = d->starts[j - 1];
            d->starts[j - 1] = swap;
        }
    if (random_chance(r, 0.5))
        d->starts[0] = 0;
    if (random_chance(r, 0.5))
        d->starts[count - 1] = p->tokens;
    p->document_starts = d->starts;
    p->documents = count - 1;
}

static void draw_mask(random_stream *r, drawn *d)
{
    ringx_problem *p = &d->problem;
    p->causal = d->mask == MASK_CAUSAL || d->mask == MASK_WINDOW_CAUSAL;
    if (d->mask == MASK_WINDOW_CAUSAL) {
        p->window_left = draw_reach(r, p->tokens);
        p->window_right = random_chance(r, 0.5) ? -1 : draw_reach(r, p->tokens);
    }
    if (d->mask == MASK_WINDOW) {
        p->window_left = random_chance(r, 0.15) ? -1 : draw_reach(r, p->tokens);
        p->window_right = p->window_left >= 0 && random_chance(r, 0.15) ? -1 : draw_reach(r, p->tokens);
    }
    if (d->mask == MASK_PACKED) {
        draw_documents(r, d);
        p->causal = random_chance(r, 0.6);
        if (random_chance(r, 0.25)) {
            p->window_left = draw_reach(r, p->tokens);
            p->window_right = random_chance(r, 0.5) ? -1 : draw_reach(r, p->tokens);
        }
    }
}

static int draw_divisor(random_stream *r, int of)
{
    int divisors[64], n = 0;
    for (int i = 1; i <= of && n < 64; i++)
        if (of % i == 0)
            divisors[n++] = i;
    return divisors[random_below(r, (uint64_t)n)];
}

static void draw_options(const settings *s, random_stream *r, drawn *d)
{
    static const char *const layouts[] = {"contiguous", "zigzag", "striped"};
    ringx_options *o = &d->options;
    const char *preset = o->preset;
    *o = settings_options(s, preset);
    if (!o->layout && !s->algorithm && random_chance(r, 0.25))
        o->layout = layouts[random_below(r, 3)];
    if (s->lookahead < 0 && random_chance(r, 0.5))
        o->lookahead = (int)random_between(r, 0, 3);
    if (!s->slices)
        o->slices = random_chance(r, 0.4) ? 0 : (int)random_between(r, 1, d->problem.kv_heads);
    bool two_level = strcmp(preset, "ringX3b") == 0 || strcmp(preset, "usp") == 0;
    if (!s->ranks_per_node && random_chance(r, two_level ? 0.8 : 0.2))
        o->ranks_per_node = draw_divisor(r, d->ranks);
    if (!s->head_ranks && strcmp(preset, "usp") == 0 && random_chance(r, 0.5))
        o->head_ranks = draw_divisor(r, d->ranks);
}

void case_draw(const settings *s, const int64_t ranks[2], uint64_t index, drawn *d)
{
    *d = (drawn){.problem = RINGX_PROBLEM_INIT, .key = random_word(s->seed, index)};
    random_stream stream = {.key = random_word(d->key, 1)}, *r = &stream;
    uint64_t presets = s->presets.count, masks = bit_count(s->masks), dtypes = bit_count(s->dtypes);
    uint64_t listed = presets * masks * dtypes, which = index < listed ? index : random_below(r, listed);
    d->options.preset = s->presets.items[which % presets];
    d->mask = (mask_kind)nth_bit(s->masks, which / presets % masks);
    d->problem.dtype = (ringx_dtype)nth_bit(s->dtypes, which / presets / masks);

    d->ranks = (int)random_between(r, ranks[0], ranks[1]);
    draw_sizes(r, d);
    draw_mask(r, d);
    if (random_chance(r, 0.3))
        d->problem.scale = (double)random_between(r, -8, 24) / 16.0 / sqrt((double)d->problem.head_dim);
    if (random_chance(r, 0.25))
        d->problem.softcap = (double)random_between(r, 1, 80) / 2;
    if (random_chance(r, 0.2)) {
        d->problem.dropout = (double)random_between(r, 1, 9) / 10;
        d->problem.seed = random_word(d->key, 2);
    }
    draw_options(s, r, d);
    d->size = random_chance(r, 0.1) ? 4 : random_chance(r, 0.1) ? 0.05 : 1;
    d->strided = random_chance(r, 0.6);
    d->repeat = d->options.deterministic = random_chance(r, 0.1);
}

void case_describe(const drawn *d, char *text, size_t bytes)
{
    const ringx_problem *p = &d->problem;
    const ringx_options *o = &d->options;
    int n = snprintf(text, bytes, "%s, %s, %s, %d rank%s, %lld x %lld tokens, %lld:%lld heads, dims %lld/%lld",
                     o->preset, mask_names[d->mask], dtype_names[p->dtype], d->ranks, d->ranks == 1 ? "" : "s",
                     (long long)p->batch, (long long)p->tokens, (long long)p->q_heads, (long long)p->kv_heads,
                     (long long)p->head_dim, (long long)(p->value_dim ? p->value_dim : p->head_dim));
    struct {
        bool on;
        const char *name;
        double value;
    } extras[] = {
        {p->causal && d->mask == MASK_PACKED, "causal", 1},
        {p->window_left >= 0, "left", (double)p->window_left},
        {p->window_right >= 0, "right", (double)p->window_right},
        {p->scale != 0, "scale", p->scale},
        {p->softcap != 0, "softcap", p->softcap},
        {p->dropout != 0, "dropout", p->dropout},
        {o->lookahead >= 0, "lookahead", o->lookahead},
        {o->slices > 0, "slices", o->slices},
        {o->head_ranks > 0, "head_ranks", o->head_ranks},
        {o->ranks_per_node > 0, "ranks_per_node", o->ranks_per_node},
        {o->deterministic, "deterministic", 1},
    };
    for (size_t i = 0; i < sizeof extras / sizeof *extras && n > 0 && (size_t)n < bytes; i++)
        if (extras[i].on)
            n += snprintf(text + n, bytes - (size_t)n, ", %s %g", extras[i].name, extras[i].value);
    if (o->layout && n > 0 && (size_t)n < bytes)
        n += snprintf(text + n, bytes - (size_t)n, ", layout %s", o->layout);
    for (size_t i = 0; p->documents && i <= p->documents && n > 0 && (size_t)n < bytes; i++)
        n += snprintf(text + n, bytes - (size_t)n, "%s%lld", i ? "," : ", docs ", (long long)d->starts[i]);
}
