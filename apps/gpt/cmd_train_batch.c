/* SPDX-License-Identifier: MIT */
/* Samples to this rank's tokens: inputs are the first S tokens, targets the last S, dealt out by position. */
#include "gpt/cmd_train.h"

#include <stdlib.h>

static int no_room(void)
{
    return fail(CODE_NO_MEMORY, "a step's tokens do not fit into memory");
}

int training_make_tokens(training *t)
{
    const config *c = t->c;
    size_t rows = (size_t)(c->gradient_accumulation_steps * c->train_micro_batch_size_per_gpu), n = 0;
    ringx_device device = t->on.ops->device;
    void *ids = NULL, *targets = NULL, *mask = NULL;
    if (!multiply(rows, (size_t)gpt_model_local_tokens(t->m), &n) || n > SIZE_MAX / 8)
        return no_room();
    t->sample = allocate(((size_t)c->seq_length + 1) * sizeof *t->sample);
    t->host = (step_tokens){n, allocate(n * sizeof *t->host.ids), allocate(n * sizeof *t->host.targets),
                            allocate(n * sizeof *t->host.mask)};
    int code = ringx_memory_alloc(device, n * sizeof *t->host.ids, &ids) ||
                       ringx_memory_alloc(device, n * sizeof *t->host.targets, &targets) ||
                       ringx_memory_alloc(device, n * sizeof *t->host.mask, &mask)
                   ? no_room()
                   : CODE_GOOD;
    t->on_device = (step_tokens){n, ids, targets, mask};
    return t->sample && t->host.ids && t->host.targets && t->host.mask ? code : CODE_NO_MEMORY;
}

void training_free_tokens(training *t)
{
    void *const device[] = {t->on_device.ids, t->on_device.targets, t->on_device.mask};
    for (size_t i = 0; i < sizeof device / sizeof device[0]; i++)
        ringx_memory_free(t->on.ops->device, device[i]);
    free(t->host.mask);
    free(t->host.targets);
    free(t->host.ids);
    free(t->sample);
}

int training_upload(const training *t)
{
    ringx_device device = t->on.ops->device;
    size_t n = t->host.count;
    bool failed = ringx_memory_copy(device, t->on_device.ids, t->host.ids, n * sizeof *t->host.ids) ||
                  ringx_memory_copy(device, t->on_device.targets, t->host.targets, n * sizeof *t->host.targets) ||
                  ringx_memory_copy(device, t->on_device.mask, t->host.mask, n * sizeof *t->host.mask);
    return failed ? fail(CODE_INTERNAL, "a step's tokens cannot be copied: %s", ringx_last_error()) : CODE_GOOD;
}

int training_read(training *t, const corpus *from, int64_t first, int64_t count, int64_t at, double *tokens)
{
    int64_t local = gpt_model_local_tokens(t->m), length = t->c->seq_length;
    const int64_t *positions = gpt_model_positions(t->m);
    for (int64_t i = 0; i < count; i++) {
        int code = corpus_read(from, (first + i) % corpus_samples(from), t->sample, NULL, NULL);
        if (code)
            return code;
        int64_t row = (at + i) * local;
        for (int64_t j = 0; j < local; j++) {
            int32_t id = t->sample[positions[j]];
            t->host.ids[row + j] = id;
            t->host.targets[row + j] = t->sample[positions[j] + 1];
            t->host.mask[row + j] = t->c->eod_mask_loss && id == t->eod ? 0 : 1;
        }
        for (int64_t j = 0; j < length; j++)
            *tokens += t->c->eod_mask_loss && t->sample[j] == t->eod ? 0 : 1;
    }
    return CODE_GOOD;
}
