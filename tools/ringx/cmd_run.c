/* SPDX-License-Identifier: MIT */
/* ringx run: attention on the user's own tensors, from a safetensors file to another. */
#include "attention_file.h"
#include "shared/options.h"
#include "shared/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct run_job {
    const settings *settings;
    attention_file file; /* open on rank 0 */
    bool opened;
    st_output *output; /* rank 0 */
    bool backward;
    ringx_problem problem; /* of rank 0; its document_starts are gone after the work */
    ringx_plan_info info;
    double seconds;
} run_job;

/* What every rank must know before tensors are spread. */
typedef struct run_card {
    ringx_problem problem;
    bool backward;
} run_card;

/* Options override the file's metadata. */
static int override(run_job *job)
{
    const settings *s = job->settings;
    ringx_problem *p = &job->file.problem;
    if (s->causal.set)
        p->causal = s->causal.value;
    if (s->window_set) {
        p->window_left = s->window[0];
        p->window_right = s->window[1];
    }
    if (s->softcap_set)
        p->softcap = s->softcap;
    if (s->scale_set)
        p->scale = s->scale;
    if (s->docs_set) {
        p->document_starts = s->docs.items;
        p->documents = s->docs.count ? s->docs.count - 1 : 0;
        if (p->documents && s->docs.items[p->documents] > p->tokens)
            return fail(CODE_USAGE, "--docs ends at %lld, but %s holds %lld tokens",
                        (long long)s->docs.items[p->documents], s->input, (long long)p->tokens);
    }
    p->dropout = s->dropout;
    p->seed = s->seed;
    return CODE_GOOD;
}

/* Rank 0 opens both files, so that what cannot be read or written is known before anything is computed. */
static int open_files(run_job *job)
{
    int code = attention_open(&job->file, job->settings->input);
    job->opened = code == CODE_GOOD;
    if (!code)
        code = override(job);
    return code ? code : st_create(&job->output, job->settings->output);
}

static int share_problem(crew *c, run_job *job, run_card **card, int64_t **starts)
{
    size_t bytes = 0;
    if (c->rank == 0) {
        *card = allocate(sizeof **card);
        if (*card)
            **card = (run_card){job->file.problem, job->file.tensors[T_DOUT] && !job->settings->forward_only};
    }
    int code = crew_agree(c, c->rank || *card ? CODE_GOOD : CODE_NO_MEMORY);
    if (!code)
        code = c->ops->share(c, (void **)card, sizeof **card);
    if (code || !(*card)->problem.documents)
        return code;
    bytes = ((*card)->problem.documents + 1) * sizeof(int64_t);
    if (c->rank == 0) {
        *starts = allocate(bytes);
        if (*starts)
            memcpy(*starts, job->file.problem.document_starts, bytes);
    }
    code = crew_agree(c, c->rank || *starts ? CODE_GOOD : CODE_NO_MEMORY);
    return code ? code : c->ops->share(c, (void **)starts, bytes);
}

static int share_inputs(crew *c, run_job *job, const run_card *card, whole *inputs)
{
    int code = CODE_GOOD;
    for (tensor_id id = T_Q; id <= T_DOUT && !code; id++) {
        if (id == T_DOUT && !card->backward)
            continue;
        if (c->rank == 0)
            code = attention_load(&job->file, id, card->problem.dtype, &inputs->data[id]);
        code = crew_agree(c, code);
        if (!code)
            code = c->ops->share(c, &inputs->data[id], tensor_bytes(&card->problem, id));
    }
    return code;
}

/* ---- output ---- */

static int save_tensor(run_job *job, const run_card *card, tensor_id id, const void *data, bool declare)
{
    st_dtype dtype = id == T_LSE ? ST_F32 : job->file.tensors[T_Q]->dtype;
    int64_t s[4], shape[4];
    tensor_sizes(&card->problem, id, card->problem.tokens, s);
    memcpy(shape, s, sizeof shape);
    if (id == T_LSE) {
        shape[1] = s[2];
        shape[2] = s[3];
    }
    if (declare)
        return st_declare(job->output, tensor_names[id], dtype, id == T_LSE ? 3 : 4, shape);
    size_t count = tensor_elements(&card->problem, id), bytes;
    if (!multiply(count, st_dtype_bytes(dtype), &bytes))
        return fail(CODE_NO_MEMORY, "%s does not fit into memory", tensor_names[id]);
    void *converted = allocate(bytes);
    if (!converted)
        return CODE_NO_MEMORY;
    attention_convert(id == T_LSE ? RINGX_F32 : card->problem.dtype, data, dtype, converted, count);
    int code = st_write(job->output, converted, bytes);
    free(converted);
    return code;
}

static int describe_output(run_job *job, const ringx_problem *p)
{
    char text[64], *starts = allocate((p->documents + 1) * 21 + 1);
    if (!starts)
        return CODE_NO_MEMORY;
    size_t at = 0;
    for (size_t i = 0; p->documents && i <= p->documents; i++)
        at += (size_t)sprintf(starts + at, "%s%lld", i ? "," : "", (long long)p->document_starts[i]);
    int code = st_describe(job->output, "cu_seqlens", starts);
    free(starts);
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"causal", p->causal},
                   {"window_left", (double)p->window_left},
                   {"window_right", (double)p->window_right},
                   {"softcap", p->softcap},
                   {"scale", p->scale != 0 ? p->scale : 1 / sqrt((double)p->head_dim)},
                   {"dropout", p->dropout}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && !code; i++) {
        snprintf(text, sizeof text, "%.17g", numbers[i].value);
        code = st_describe(job->output, numbers[i].key, text);
    }
    snprintf(text, sizeof text, "%llu", (unsigned long long)p->seed);
    return code ? code : st_describe(job->output, "seed", text);
}

static int save(run_job *job, const run_card *card, const whole *results)
{
    static const tensor_id order[] = {T_OUT, T_LSE, T_DQ, T_DK, T_DV};
    ringx_problem p = card->problem;
    p.document_starts = job->file.problem.document_starts;
    int code = describe_output(job, &p);
    for (int declare = 1; declare >= 0; declare--)
        for (size_t i = 0; i < 5 && !code; i++)
            if (results->data[order[i]])
                code = save_tensor(job, card, order[i], results->data[order[i]], declare);
    if (code)
        return code;
    code = st_commit(job->output);
    job->output = NULL;
    return code;
}

/* ---- the crew's work ---- */

static int compute(crew *c, run_job *job, const run_card *card, const int64_t *starts, const whole *inputs)
{
    whole results = {0};
    ringx_plan_info info;
    trial t = {.problem = card->problem,
               .options = settings_rank_options(job->settings, job->settings->presets.items[0], c->ranks_here),
               .inputs = inputs,
               .results = &results,
               .info = &info};
    t.problem.document_starts = starts;
    int code = c->rank == 0 ? whole_results_create(&results, &t.problem, card->backward) : CODE_GOOD;
    code = crew_agree(c, code);
    double begin = seconds_now();
    if (!code)
        code = trial_run(c, &t);
    if (!code && c->rank == 0) {
        job->seconds = seconds_now() - begin;
        job->info = info;
        job->problem = card->problem;
        job->backward = card->backward;
        code = save(job, card, &results);
    }
    whole_destroy(&results);
    return crew_agree(c, code);
}

static int work(crew *c, void *context)
{
    run_job *job = context;
    run_card *card = NULL;
    int64_t *starts = NULL;
    whole inputs = {0};
    int code = crew_agree(c, c->rank == 0 ? open_files(job) : CODE_GOOD);
    if (!code)
        code = share_problem(c, job, &card, &starts);
    if (!code)
        code = share_inputs(c, job, card, &inputs);
    if (!code)
        code = compute(c, job, card, starts, &inputs);
    c->ops->barrier(c); /* rank 0's memory is shared until here */
    if (c->rank == 0 || !c->in_process) {
        whole_destroy(&inputs);
        free(starts);
        free(card);
    }
    if (c->rank == 0) {
        st_abandon(job->output);
        if (job->opened)
            attention_close(&job->file);
    }
    return code;
}

static int report(const run_job *job)
{
    const settings *s = job->settings;
    const ringx_problem *p = &job->problem;
    bool backward = job->backward;
    if (!launch_speaks())
        return CODE_GOOD;
    if (!s->json) {
        printf("%s: %s of %lld x %lld tokens, %lld:%lld heads, %d rank%s, %.3f s\n", s->output,
               backward ? "forward and backward" : "forward", (long long)p->batch, (long long)p->tokens,
               (long long)p->q_heads, (long long)p->kv_heads, job->info.ranks, job->info.ranks == 1 ? "" : "s",
               job->seconds);
        return CODE_GOOD;
    }
    return json_emit(json_pack("{s:s, s:s, s:s, s:I, s:I, s:i, s:b, s:f, s:I}", "command", "run", "version",
                               ringx_version(), "output", s->output, "batch", (json_int_t)p->batch, "tokens",
                               (json_int_t)p->tokens, "ranks", job->info.ranks, "backward", backward, "seconds",
                               job->seconds, "workspace_bytes", (json_int_t)job->info.workspace_bytes));
}

/* ---- the command ---- */

static const option run_options[] = {
    {"input", "FILE", "safetensors: q (batch, tokens, heads, head_dim), k, v, and dout for gradients", OPTION_TEXT,
     FIELD(input), 0, 0, 0, NULL},
    {"output", "FILE", "safetensors: out, lse (batch, heads, tokens), dq, dk, dv; written whole or not at all",
     OPTION_TEXT, FIELD(output), 0, 0, 0, NULL},
    {"preset", "NAME", "how (default auto)", OPTION_PRESETS, FIELD(presets), 0, 0, 0, NULL},
    {"ranks", "N", "split over this many (default 1; with mpi: the launcher's)", OPTION_INTEGER, FIELD(ranks),
     FIELD(ranks_set), 1, 1024, NULL},
    {"forward-only", NULL, "no gradients even if dout is there", OPTION_FLAG, FIELD(forward_only), 0, 0, 0, NULL},
    {0},
};

static const option_group groups[] = {
    {"What is computed", run_options}, {"The mask; what is not given comes from the file's metadata", options_mask},
    {"With whom", options_launch},     {"How", options_how},
    {"Output", options_common},        {NULL, NULL}};

static void defaults(void *settings_of_command)
{
    settings *s = settings_of_command;
    s->presets.items[0] = "auto";
    s->presets.count = 1;
}

static int run(void *settings_of_command)
{
    settings *s = settings_of_command;
    if (!s->input || !s->output)
        return fail(CODE_USAGE, "--%s is missing; run needs --input FILE and --output FILE",
                    s->input ? "output" : "input");
    if (s->presets.count != 1)
        return fail(CODE_USAGE, "--preset names %zu presets; run takes one", s->presets.count);
    s->ranks[1] = s->ranks[0];
    run_job job = {.settings = s};
    int code = settings_check(s, false);
    if (!code)
        code = launch(s, work, &job);
    return code ? code : report(&job);
}

const program_command command_run = {
    .options =
        {.program = "ringx",
         .name = "run",
         .text = "attention on your own tensors, from a safetensors file to another",
         .help =
             "Tensors may be F64, F32, BF16 or F16.  Arithmetic is in float32, of bf16 or f16 values where all inputs\n"
             "have that type.  Results have the type of q, lse is F32.  Metadata keys of the input: causal (0, 1),\n"
             "window_left, window_right (-1: unlimited), softcap, scale, cu_seqlens (comma-separated bounds).\n",
         .groups = groups,
         .defaults = defaults,
         .run = run},
    .settings_bytes = sizeof(settings),
};
