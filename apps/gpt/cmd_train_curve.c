/* SPDX-License-Identifier: MIT */
/* The losses of a run as a picture, and the bigram model that it is compared with. */
#include "gpt/cmd_train.h"

#include "shared/plot.h"

#include <math.h>
#include <stdlib.h>

#define MOST_WORDS 8192 /* of a bigram model: its table has their square */

int curve_add(train_curve *c, double iteration, double train, double valid)
{
    if (c->points == c->room) {
        size_t room = 2 * c->room + 16;
        for (int i = 0; i < 3; i++) {
            double *more = realloc(c->values[i], room * sizeof *more);
            if (!more)
                return fail(CODE_NO_MEMORY, "no memory for %zu points of a curve", room);
            c->values[i] = more;
        }
        c->room = room;
    }
    const double point[3] = {iteration, train, valid};
    for (int i = 0; i < 3; i++)
        c->values[i][c->points] = point[i];
    c->points++;
    return CODE_GOOD;
}

void curve_free(train_curve *c)
{
    for (int i = 0; i < 3; i++)
        free(c->values[i]);
    *c = (train_curve){.points = 0};
}

int curve_plot(const train_curve *c, double bigram, const char *path)
{
    plot p = {.title = "Loss over iterations",
              .x_label = "iteration",
              .y_label = "nats per token",
              .x = c->values[0],
              .points = c->points,
              .n_series = 2,
              .series = {{"training (last step)", c->values[1]}, {"validation", c->values[2]}}};
    double *line = allocate(c->points * sizeof *line);
    if (!line)
        return CODE_NO_MEMORY;
    for (size_t i = 0; i < c->points; i++)
        line[i] = bigram;
    if (!isnan(bigram))
        p.series[p.n_series++] = (plot_series){"bigram model, validation", line};
    int code = plot_write(&p, path);
    free(line);
    return code;
}

/* ---- bigram model ---- */

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
