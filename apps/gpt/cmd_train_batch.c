/* SPDX-License-Identifier: MIT */
/* Samples to this rank's tokens: inputs are the first S tokens, targets the last S, dealt out by position. */
#include "gpt/cmd_train.h"

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
            t->ids[row + j] = id;
            t->targets[row + j] = t->sample[positions[j] + 1];
            t->mask[row + j] = t->c->eod_mask_loss && id == t->eod ? 0 : 1;
        }
        for (int64_t j = 0; j < length; j++)
            *tokens += t->c->eod_mask_loss && t->sample[j] == t->eod ? 0 : 1;
    }
    return CODE_GOOD;
}
