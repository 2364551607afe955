/* SPDX-License-Identifier: MIT */
/* Keys that are accepted for the sake of the original's files, and what is done whatever they say. */
#include "train/config.h"

#include <stdlib.h>
#include <string.h>

typedef struct note {
    const char *name, *as_done; /* the value that says what is done anyway; NULL: none does */
    const char *why;
    bool (*matters)(const config *c); /* where it has an effect; NULL: nowhere */
} note;

static bool recomputes(const config *c)
{
    return c->checkpoint_activations;
}

static bool divides(const config *c)
{
    return c->checkpoint_activations && c->model_parallel_size > 1;
}

#define GENERATION "ringx-gpt generate and evaluate take it as an option"
#define NO_STATE   "random numbers are functions of the seed: they have no state"

static const note notes[] = {
    {"pipe_parallel_size", "0", "there is no pipeline: 0 and 1 are the same", NULL},
    {"checkpoint_num_layers", "1", "each layer keeps its own input", NULL},
    {"partition_activations", "false", "there are no tensor ranks, or no checkpoint_activations", divides},
    {"synchronize_each_layer", "false", "layers run in their order", NULL},
    {"checkpoint_in_cpu", "false", "inputs of layers are kept with checkpoint_activations only", recomputes},
    {"keep_attention", "false", "everything is kept without checkpoint_activations", recomputes},
    {"zero_optimization.reduce_scatter", "true", "stages 1 and 2 sum gradients to their owners", NULL},
    {"zero_optimization.allgather_partitions", "true", "weights are gathered from their owners", NULL},
    {"zero_optimization.allgather_bucket_size", NULL, "weights are gathered in pieces of a fixed size", NULL},
    {"zero_optimization.contiguous_gradients", "true", "gradients lie one after the other", NULL},
    {"fp32_allreduce", "true", "gradients are summed in float", NULL},
    {"bf16.loss_scale", "0", "bfloat16 needs no loss scale", NULL},
    {"num_workers", NULL, "each rank reads its own samples", NULL},
    {"no_load_rng", NULL, NO_STATE, NULL},
    {"no_save_rng", NULL, NO_STATE, NULL},
    {"checkpoint_validation_with_forward_pass", "false", "checksums of all tensors are verified instead", NULL},
    {"steps_per_print", NULL, "log_interval says when lines are printed", NULL},
    {"log_grad_norm", "true", "the gradient's norm is in the event files", NULL},
    {"log_param_norm", "false", "norms of parameters are not logged", NULL},
    {"maximum_tokens", NULL, GENERATION, NULL},
    {"temperature", NULL, GENERATION, NULL},
    {"top_k", NULL, GENERATION, NULL},
    {"top_p", NULL, GENERATION, NULL},
    {"num_samples", NULL, GENERATION, NULL},
    {"prompt_end", NULL, GENERATION, NULL},
    {"recompute", NULL, GENERATION, NULL},
    {"return_logits", NULL, GENERATION, NULL},
    {"sample_input_file", NULL, GENERATION, NULL},
    {"sample_output_file", NULL, GENERATION, NULL},
    {"eval_results_prefix", NULL, GENERATION, NULL},
};

/* The value as the row understands it; texts differ always. */
static bool says_what_is_done(const config *c, size_t row, const char *as_done)
{
    const config_key *key = &config_keys[row];
    const void *field = (const char *)c + key->field;
    if (!as_done)
        return false;
    if (key->kind == KEY_BOOL)
        return *(const bool *)field == (strcmp(as_done, "true") == 0);
    if (key->kind == KEY_INT)
        return *(const int64_t *)field == strtoll(as_done, NULL, 10);
    return key->kind == KEY_REAL && *(const double *)field == strtod(as_done, NULL);
}

int config_notes(const config *c, FILE *to)
{
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
        size_t row = config_find(notes[i].name);
        bool matters = notes[i].matters && notes[i].matters(c);
        if (c->from[row].given && !matters && !says_what_is_done(c, row, notes[i].as_done))
            fprintf(to, " note: key '%s' has no effect here: %s\n", notes[i].name, notes[i].why);
    }
    return ferror(to) ? fail(CODE_CANNOT_WRITE, "the configuration cannot be printed") : CODE_GOOD;
}
