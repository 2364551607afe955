/* SPDX-License-Identifier: MIT */
/* The bigram model that a run is compared with. */
#include "gpt/cmd_train.h"

#include <math.h>
#include <stdlib.h>

#define MOST_WORDS 8192 /* of a bigram model: its table has their square */

typedef struct bigrams {
    size_t words;
    uint32_t *pairs; /* [first][second] */
    double *first, *second, total;
} bigrams;

/* Every sample of the text once. */
static int count_bigrams(const training *t, const corpus *text, bigrams *b)
{
    int64_t length = t->c->seq_length;
    int code = CODE_GOOD;
    for (int64_t i = 0; i < corpus_samples(text) && !code; i++) {
        code = corpus_read(text, i, t->sample, NULL, NULL);
        for (int64_t j = 0; j < length && !code; j++) {
            size_t x = (size_t)t->sample[j], y = (size_t)t->sample[j + 1];
            b->pairs[x * b->words + y]++;
            b->first[x]++;
            b->second[y]++;
            b->total++;
        }
    }
    return code;
}

/* −ln p(y | x): counts, with one more observation that is shared out as single words are. */
static double bigram_nll(const bigrams *b, size_t x, size_t y)
{
    double alone = (b->second[y] + 1) / (b->total + (double)b->words);
    return -log(((double)b->pairs[x * b->words + y] + alone) / (b->first[x] + 1));
}

static int evaluate_bigrams(const training *t, const bigrams *b, int64_t first, double *loss)
{
    int64_t samples = t->c->eval_iters * t->c->train_batch_size, length = t->c->seq_length;
    double sum = 0;
    int code = CODE_GOOD;
    for (int64_t i = 0; i < samples && !code; i++) {
        code = corpus_read(t->valid, (first + i) % corpus_samples(t->valid), t->sample, NULL, NULL);
        for (int64_t j = 0; j < length && !code; j++)
            sum += bigram_nll(b, (size_t)t->sample[j], (size_t)t->sample[j + 1]);
    }
    *loss = sum / ((double)samples * (double)length);
    return code;
}

static int bigram_here(const training *t, int64_t first, double *loss)
{
    size_t v = (size_t)t->vocabulary;
    corpus *text;
    if (!t->valid || v > MOST_WORDS || t->c->eval_iters == 0)
        return fail(CODE_CONFIGURATION, "a bigram model needs validation data and at most %d words", MOST_WORDS);
    int code = training_text(t, &text);
    bigrams b = {.words = v,
                 .pairs = allocate(v * v * sizeof *b.pairs),
                 .first = allocate(v * sizeof *b.first),
                 .second = allocate(v * sizeof *b.second)};
    if (!code && !(b.pairs && b.first && b.second))
        code = CODE_NO_MEMORY;
    if (!code)
        code = count_bigrams(t, text, &b);
    if (!code)
        code = evaluate_bigrams(t, &b, first, loss);
    corpus_close(text);
    free(b.pairs);
    free(b.first);
    free(b.second);
    return code;
}

int training_bigram(training *t, int64_t first, double *loss)
{
    int code = group_rank(t->world) == 0 ? bigram_here(t, first, loss) : CODE_GOOD;
    code = group_agree(t->world, code);
    return code ? code : group_broadcast(t->world, loss, sizeof *loss, 0);
}
