/* SPDX-License-Identifier: MIT */
/* Texts written by a model. */
#ifndef GPT_GENERATE_H
#define GPT_GENERATE_H

#include "gpt/buffers.h"
#include "gpt/cache.h"

typedef struct gpt_generation {
    gpt_sampling how;
    random_stream random;
    int64_t maximum; /* new tokens */
    int32_t eod;     /* ends the text; -1: nothing does */
    int64_t
        vocabulary; /* of the tokenizer: ids beyond it are padding of the model's, never chosen; 0: as the model's */
    bool recompute; /* no cache: the whole text again for each token */
    const char *message; /* out: why it ended */
    bool finished;       /* out: at eod */
} gpt_generation;

/* Collective over the model's groups; all ranks get the same.  Appends to ids, which hold the prompt; eod is not
 * appended. */
int gpt_generate(gpt_model *m, gpt_generation *g, id_list *ids);

#endif
