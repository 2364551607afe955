/* SPDX-License-Identifier: MIT */
/* Settings become problems and options of the library. */
#include "command.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void settings_defaults(settings *s)
{
    *s = (settings){.batch = 1,
                    .tokens = 4096,
                    .q_heads = 8,
                    .head_dim = 64,
                    .window = {-1, -1},
                    .seed = 1,
                    .lookahead = -1,
                    .ranks = {1, 1},
                    .masks = (UINT64_C(1) << MASK_KINDS) - 1,
                    .dtypes = 7,
                    .cases = 1000,
                    .only = -1,
                    .iterations = 10,
                    .warmup = 2};
}

void settings_free(settings *s)
{
    free(s->docs.items);
    s->docs = (int_list){0};
}

ringx_problem settings_problem(const settings *s)
{
    ringx_problem p = RINGX_PROBLEM_INIT;
    p.batch = s->batch;
    p.tokens = s->tokens;
    p.q_heads = s->q_heads;
    p.kv_heads = s->kv_heads ? s->kv_heads : s->q_heads;
    p.head_dim = s->head_dim;
    p.value_dim = s->value_dim;
    p.dtype = (ringx_dtype)s->dtype;
    p.scale = s->scale;
    p.causal = s->causal.value;
    p.window_left = s->window[0];
    p.window_right = s->window[1];
    p.document_starts = s->docs.items;
    p.documents = s->docs.count ? s->docs.count - 1 : 0;
    p.softcap = s->softcap;
    p.dropout = s->dropout;
    p.seed = s->seed;
    return p;
}

ringx_options settings_options(const settings *s, const char *preset)
{
    ringx_options o = RINGX_OPTIONS_INIT;
    o.preset = preset;
    o.algorithm = s->algorithm;
    o.layout = s->layout;
    o.lookahead = (int)s->lookahead;
    o.slices = (int)s->slices;
    o.head_ranks = (int)s->head_ranks;
    o.ranks_per_node = (int)s->ranks_per_node;
    o.wire = (ringx_dtype)s->wire;
    o.workspace_limit = s->workspace_limit;
    o.device = (ringx_device)s->device;
    o.kernel = s->kernel;
    o.threads = (int)s->threads;
    o.timeout = s->timeout;
    o.machine = s->machine;
    o.forward_only = s->forward_only;
    return o;
}

int core_count(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

ringx_options settings_rank_options(const settings *s, const char *preset, int ranks_here)
{
    ringx_options o = settings_options(s, preset);
    int share = core_count() / ranks_here;
    if (o.threads == 0)
        o.threads = share > 1 ? share : 1;
    return o;
}

const char *settings_timeline(const settings *s, const char *preset, char *path, size_t bytes)
{
    const char *dot = s->timeline ? strrchr(s->timeline, '.') : NULL;
    if (!s->timeline || s->presets.count == 1 || !dot)
        return s->timeline;
    snprintf(path, bytes, "%.*s-%s%s", (int)(dot - s->timeline), s->timeline, preset, dot);
    return path;
}

int settings_check(const settings *s, bool paper)
{
    for (size_t i = 0; ringx_kernel_at(i); i++)
        if ((ringx_kernel_at(i)->available || paper) && ringx_kernel_at(i)->device == (ringx_device)s->device)
            return CODE_GOOD;
    if (paper)
        return fail(CODE_CONFIGURATION, "--device cuda: this build has no kernel for it (see ringx info)");
    return fail(CODE_CONFIGURATION,
                "--device %s: no kernel for it is available on this machine in this build "
                "(see ringx info)",
                s->device == RINGX_CUDA ? "cuda" : "cpu");
}
