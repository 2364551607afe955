/* SPDX-License-Identifier: MIT */
/* The tables of algorithms and presets. */
#include "algo/algo.h"

#include "core/names.h"

#define RINGX_ALGO(id, words)                                                                                          \
    void ringx__##id##_forward(ringx_schedule *s, const ringx_geometry *g);                                            \
    void ringx__##id##_backward(ringx_schedule *s, const ringx_geometry *g);
#define RINGX_ALGO_BACKWARD_OF(id, other, words) void ringx__##id##_forward(ringx_schedule *s, const ringx_geometry *g);
#include "algo/algos.def"
#undef RINGX_ALGO
#undef RINGX_ALGO_BACKWARD_OF

#define RINGX_ALGO(id, words)                    {#id, words, ringx__##id##_forward, ringx__##id##_backward},
#define RINGX_ALGO_BACKWARD_OF(id, other, words) {#id, words, ringx__##id##_forward, ringx__##other##_backward},
static const ringx_algo algos[] = {
#include "algo/algos.def"
};

#define RINGX_PRESET(name, algorithm, layout, lookahead, two_level, causal, words)                                     \
    {name, words, #algorithm, #layout, lookahead, two_level, causal},
static const ringx_preset_entry presets[] = {
#include "algo/presets.def"
};

const ringx_algo *ringx__algo_at(size_t i)
{
    return i < sizeof algos / sizeof *algos ? &algos[i] : NULL;
}

const ringx_preset_entry *ringx_preset_at(size_t i)
{
    return i < sizeof presets / sizeof *presets ? &presets[i] : NULL;
}

static const char *algo_name(size_t i)
{
    const ringx_algo *algo = ringx__algo_at(i);
    return algo ? algo->name : NULL;
}

static const char *preset_name(size_t i)
{
    const ringx_preset_entry *preset = ringx_preset_at(i);
    return preset ? preset->name : NULL;
}

ringx_status ringx__algo_find(const char *name, const ringx_algo **algo)
{
    size_t i;
    RINGX_TRY(ringx__name_find("algorithm", name, algo_name, &i));
    *algo = &algos[i];
    return RINGX_OK;
}

ringx_status ringx_preset_find(const char *name, size_t *i)
{
    if (!i)
        RINGX_FAIL(RINGX_INVALID, "the index is NULL; it must point to a size_t");
    return ringx__name_find("preset", name, preset_name, i);
}
