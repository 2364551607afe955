/* SPDX-License-Identifier: MIT */
/* Samples to this rank's tokens: inputs are the first S tokens, targets the last S, dealt out by position. */
#include "gpt/cmd_train.h"

#include <stdlib.h>
#include <string.h>

static int no_room(void)
{
    return fail(CODE_NO_MEMORY, "a step's tokens do not fit into memory");
}

static size_t samples_of(const training *t) /* of a step, on this rank */
{
    return (size_t)(t->c->gradient_accumulation_steps * t->c->train_micro_batch_size_per_gpu);
}

static int make_documents(training *t)
{
    if (!t->c->document_mask)
        return CODE_GOOD;
    t->starts = allocate(((size_t)t->c->seq_length + 2) * sizeof *t->starts);
    t->bounds = allocate(samples_of(t) * sizeof *t->bounds);
    t->documents = allocate(samples_of(t) * sizeof *t->documents);
    return t->starts && t->bounds && t->documents ? CODE_GOOD : CODE_NO_MEMORY;
}

/* Bounds of a sample's documents among its inputs, which end before its last token. */
static int keep_documents(const training *t, size_t sample, size_t n_starts)
{
    size_t documents = 0;
    while (documents < n_starts && t->starts[documents] < t->c->seq_length)
        documents++;
    free(t->bounds[sample]);
    t->bounds[sample] = allocate((documents + 1) * sizeof **t->bounds);
    if (!t->bounds[sample])
        return CODE_NO_MEMORY;
    memcpy(t->bounds[sample], t->starts, documents * sizeof *t->starts);
    t->bounds[sample][documents] = t->c->seq_length;
    t->documents[sample] = documents;
    return CODE_GOOD;
}

int training_documents(const training *t, int64_t a)
{
    int64_t at = a * t->c->train_micro_batch_size_per_gpu;
    return t->starts ? gpt_model_documents(t->m, (const int64_t *const *)t->bounds + at, t->documents + at) : CODE_GOOD;
}

int training_make_tokens(training *t)
{
    size_t n = 0;
    ringx_device device = t->on.ops->device;
    void *ids = NULL, *targets = NULL, *mask = NULL;
    if (!multiply(samples_of(t), (size_t)gpt_model_local_tokens(t->m), &n) || n > SIZE_MAX / 8)
        return no_room();
    t->sample = allocate(((size_t)t->c->seq_length + 1) * sizeof *t->sample);
    t->host = (step_tokens){n, allocate(n * sizeof *t->host.ids), allocate(n * sizeof *t->host.targets),
                            allocate(n * sizeof *t->host.mask)};
    int code = ringx_memory_alloc(device, n * sizeof *t->host.ids, &ids) ||
                       ringx_memory_alloc(device, n * sizeof *t->host.targets, &targets) ||
                       ringx_memory_alloc(device, n * sizeof *t->host.mask, &mask)
                   ? no_room()
                   : CODE_GOOD;
    t->on_device = (step_tokens){n, ids, targets, mask};
    if (!code)
        code = make_documents(t);
    return t->sample && t->host.ids && t->host.targets && t->host.mask ? code : CODE_NO_MEMORY;
}

void training_free_tokens(training *t)
{
    void *const device[] = {t->on_device.ids, t->on_device.targets, t->on_device.mask};
    for (size_t i = 0; t->bounds && i < samples_of(t); i++)
        free(t->bounds[i]);
    free(t->bounds);
    free(t->documents);
    free(t->starts);
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
        size_t n_starts;
        int code = corpus_read(from, (first + i) % corpus_samples(from), t->sample, t->starts, &n_starts);
        if (!code && t->starts)
            code = keep_documents(t, (size_t)(at + i), n_starts);
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
