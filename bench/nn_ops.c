/* SPDX-License-Identifier: MIT */
/* Times the CUDA operators at the sizes of Llama-3 8B on one GPU with 32K tokens: milliseconds, rate, and the share of
 * an H200's peak (989 TFLOP/s of bf16, 4.8 TB/s). nn_ops [NAME]      only operators whose name has NAME in it */
#include "nn/formulas.h"
#include "nn/operators.h"
#include "shared/numbers.h"
#include "shared/report.h"

#include <stdlib.h>
#include <string.h>

enum { TOKENS = 32768, CHUNK = 4096, WIDTH = 4096, INNER = 14336, KV = 1024, HEADS = 32, DIM = 128 };
enum { WORDS = 128256, UPDATED = 1 << 28, REPEATS = 10, MOST_BUFFERS = 8 };

static nn_context on;

typedef struct bench bench;
struct bench {
    const char *name, *shape;
    int (*call)(const bench *b);
    double flops, bytes; /* of a call; flops 0: bandwidth counts */
    size_t sizes[MOST_BUFFERS];
    void *at[MOST_BUFFERS];
};

static nn_array half(const bench *b, int i)
{
    return (nn_array){b->at[i], RINGX_BF16, 0};
}

static nn_array wide(const bench *b, int i)
{
    return (nn_array){b->at[i], RINGX_F32, 0};
}

/* ---- calls; buffers in the order of the table below ---- */

static nn_linear linear(const bench *b, int64_t in, int64_t out)
{
    nn_linear l = {.tokens = TOKENS, .in = in, .out = out, .x = half(b, 0), .w = half(b, 1), .y = half(b, 2)};
    l.dy = l.y, l.dx = l.x, l.dw = b->at[3];
    return l;
}

static int q_forward(const bench *b)
{
    nn_linear l = linear(b, WIDTH, WIDTH);
    return on.ops->linear_forward(&on, &l);
}

static int kv_forward(const bench *b)
{
    nn_linear l = linear(b, WIDTH, KV);
    return on.ops->linear_forward(&on, &l);
}

static int up_forward(const bench *b)
{
    nn_linear l = linear(b, WIDTH, INNER);
    return on.ops->linear_forward(&on, &l);
}

static int down_forward(const bench *b)
{
    nn_linear l = linear(b, INNER, WIDTH);
    l.y = wide(b, 4);
    return on.ops->linear_forward(&on, &l);
}

static int up_input(const bench *b)
{
    nn_linear l = linear(b, WIDTH, INNER);
    l.dx = wide(b, 4), l.add = true;
    return on.ops->linear_backward_input(&on, &l);
}

static int down_input(const bench *b)
{
    nn_linear l = linear(b, INNER, WIDTH);
    return on.ops->linear_backward_input(&on, &l);
}

static int up_weight(const bench *b)
{
    nn_linear l = linear(b, WIDTH, INNER);
    return on.ops->linear_backward_weight(&on, &l);
}

static nn_norm norm(const bench *b)
{
    nn_norm n = {.tokens = TOKENS, .width = WIDTH, .eps = 1e-5, .x = half(b, 0), .weight = half(b, 1), .y = half(b, 2)};
    n.bias = half(b, 1), n.dy = wide(b, 3), n.dx = half(b, 4), n.dweight = b->at[5], n.dbias = b->at[6], n.add = true;
    return n;
}

static int rms_forward(const bench *b)
{
    nn_norm n = norm(b);
    return on.ops->rms_norm_forward(&on, &n);
}

static int rms_backward(const bench *b)
{
    nn_norm n = norm(b);
    return on.ops->rms_norm_backward(&on, &n);
}

static int rms_backward_chunk(const bench *b)
{
    nn_norm n = norm(b);
    n.tokens = CHUNK;
    return on.ops->rms_norm_backward(&on, &n);
}

static int layer_forward(const bench *b)
{
    nn_norm n = norm(b);
    return on.ops->layer_norm_forward(&on, &n);
}

static int layer_backward(const bench *b)
{
    nn_norm n = norm(b);
    return on.ops->layer_norm_backward(&on, &n);
}

static int gate_forward(const bench *b)
{
    nn_gate g = {.tokens = TOKENS, .width = INNER, .gate = half(b, 0), .up = half(b, 1), .y = half(b, 2)};
    return on.ops->silu_gate_forward(&on, &g);
}

static int gate_backward(const bench *b)
{
    nn_gate g = {.tokens = TOKENS, .width = INNER, .gate = half(b, 0), .up = half(b, 1), .dy = half(b, 2)};
    g.dgate = g.gate, g.dup = g.up;
    return on.ops->silu_gate_backward(&on, &g);
}

static nn_map map(const bench *b)
{
    return (nn_map){TOKENS, WIDTH, half(b, 0), half(b, 1), half(b, 2), half(b, 2)};
}

static int gelu_forward(const bench *b)
{
    nn_map m = map(b);
    return on.ops->gelu_forward(&on, &m);
}

static int gelu_backward(const bench *b)
{
    nn_map m = map(b);
    return on.ops->gelu_backward(&on, &m);
}

static int add(const bench *b)
{
    nn_sum s = {TOKENS, WIDTH, half(b, 0), wide(b, 3), half(b, 1)};
    return on.ops->add(&on, &s);
}

static int cast(const bench *b)
{
    nn_map m = {.tokens = 1, .width = UPDATED, .x = wide(b, 0), .y = half(b, 1)};
    return on.ops->cast(&on, &m);
}

static int dropout(const bench *b)
{
    nn_dropout d = {TOKENS, WIDTH, half(b, 0), half(b, 1), 0.1, 7, NULL, WIDTH, 0};
    return on.ops->dropout(&on, &d);
}

static int rope(const bench *b)
{
    nn_rope r = {TOKENS, HEADS, DIM, DIM / 2, TOKENS, half(b, 0), b->at[1], false};
    return on.ops->rope(&on, &r);
}

static int rope_table(const bench *b)
{
    double frequencies[DIM / 2];
    nn_rope_frequencies(500000, DIM, NULL, frequencies);
    nn_rope_table r = {TOKENS, DIM / 2, b->at[0], frequencies, b->at[1]};
    return on.ops->rope_table(&on, &r);
}

static nn_embedding embedding(const bench *b)
{
    nn_embedding e = {.tokens = TOKENS, .width = WIDTH, .count = WORDS, .ids = b->at[0], .y = wide(b, 1)};
    e.table = half(b, 2), e.dy = half(b, 1), e.dtable = b->at[3];
    return e;
}

static int embedding_forward(const bench *b)
{
    nn_embedding e = embedding(b);
    return on.ops->embedding_forward(&on, &e);
}

static int embedding_backward(const bench *b)
{
    nn_embedding e = embedding(b);
    return on.ops->embedding_backward(&on, &e);
}

static nn_loss loss_of(const bench *b)
{
    nn_loss l = {.tokens = CHUNK, .width = WIDTH, .count = WORDS, .chunk = CHUNK, .scale = 1};
    l.targets = b->at[0], l.hidden = half(b, 1), l.weight = half(b, 2), l.token_nll = b->at[5];
    l.nll = (double *)b->at[5] + CHUNK, l.workspace = b->at[6];
    return l;
}

static int loss_forward(const bench *b)
{
    nn_loss l = loss_of(b);
    return on.ops->loss(&on, &l);
}

static int loss(const bench *b)
{
    nn_loss l = loss_of(b);
    l.dweight = b->at[3], l.dhidden = wide(b, 4);
    return on.ops->loss(&on, &l);
}

static int sum_squares(const bench *b)
{
    return on.ops->sum_squares(&on, b->at[0], UPDATED, b->at[4]);
}

static nn_update update(const bench *b)
{
    return (nn_update){UPDATED, b->at[0], b->at[1], b->at[2], b->at[3], 1, 1e-6, 0.9, 0.95, 1e-8, 0.1, 3, true, 1};
}

static int adam(const bench *b)
{
    nn_update u = update(b);
    return on.ops->adam(&on, &u);
}

static int lamb_moments(const bench *b)
{
    nn_update u = update(b);
    return on.ops->lamb_moments(&on, &u, b->at[4]);
}

static int lamb_apply(const bench *b)
{
    nn_update u = update(b);
    return on.ops->lamb_apply(&on, &u);
}

static int zero(const bench *b)
{
    return on.ops->zero(&on, b->at[0], (size_t)UPDATED * 4);
}

static int decode(const bench *b)
{
    nn_decode d = {HEADS, KV / DIM, DIM, TOKENS, 0.08, half(b, 0), half(b, 1), half(b, 2), half(b, 3), b->at[4], NULL};
    return on.ops->decode(&on, &d);
}

/* ---- the table ---- */

#define MATRIX(columns, size) ((size_t)TOKENS * (columns) * (size))
#define PRODUCT(in, out)      (2.0 * TOKENS * (in) * (out))
#define ELEMENTS(columns)     ((double)TOKENS * (columns))
#define MANY                  ((size_t)UPDATED * 4)

#define Q_BUFFERS                                                                                                      \
    {                                                                                                                  \
        MATRIX(WIDTH, 2), WIDTH *WIDTH * 2, MATRIX(WIDTH, 2)                                                           \
    }
#define UP_BUFFERS                                                                                                     \
    {                                                                                                                  \
        MATRIX(WIDTH, 2), WIDTH *INNER * 2, MATRIX(INNER, 2), WIDTH *INNER * 4, MATRIX(WIDTH, 4)                       \
    }
#define DOWN_BUFFERS                                                                                                   \
    {                                                                                                                  \
        MATRIX(INNER, 2), WIDTH *INNER * 2, MATRIX(WIDTH, 2), WIDTH *INNER * 4, MATRIX(WIDTH, 4)                       \
    }
#define NORM_BUFFERS                                                                                                   \
    {                                                                                                                  \
        MATRIX(WIDTH, 2), WIDTH * 2, MATRIX(WIDTH, 2), MATRIX(WIDTH, 4), MATRIX(WIDTH, 2), WIDTH * 4, WIDTH * 4        \
    }
#define GATE_BUFFERS                                                                                                   \
    {                                                                                                                  \
        MATRIX(INNER, 2), MATRIX(INNER, 2), MATRIX(INNER, 2)                                                           \
    }
#define MAP_BUFFERS                                                                                                    \
    {                                                                                                                  \
        MATRIX(WIDTH, 2), MATRIX(WIDTH, 2), MATRIX(WIDTH, 2), MATRIX(WIDTH, 4)                                         \
    }
#define WORD_BUFFERS                                                                                                   \
    {                                                                                                                  \
        TOKENS * 4, MATRIX(WIDTH, 4), (size_t)WORDS *WIDTH * 2, (size_t)WORDS *WIDTH * 4                               \
    }
#define LOSS_BUFFERS                                                                                                   \
    {                                                                                                                  \
        TOKENS * 4, MATRIX(WIDTH, 2), (size_t)WORDS *WIDTH * 2, (size_t)WORDS *WIDTH * 4, MATRIX(WIDTH, 4),            \
            TOKENS * 8, (size_t)CHUNK *(WORDS + 4) * 4                                                                 \
    }
#define UPDATE_BUFFERS                                                                                                 \
    {                                                                                                                  \
        MANY, MANY, MANY, MANY, 64                                                                                     \
    }

static bench benches[] = {
    {"linear forward", "q: 4096 to 4096", q_forward, PRODUCT(WIDTH, WIDTH), 0, Q_BUFFERS, {0}},
    {"linear forward", "k, v: 4096 to 1024", kv_forward, PRODUCT(WIDTH, KV), 0, Q_BUFFERS, {0}},
    {"linear forward", "up: 4096 to 14336", up_forward, PRODUCT(WIDTH, INNER), 0, UP_BUFFERS, {0}},
    {"linear forward", "down: 14336 to 4096, f32", down_forward, PRODUCT(WIDTH, INNER), 0, DOWN_BUFFERS, {0}},
    {"linear input", "up: dx f32, added", up_input, PRODUCT(WIDTH, INNER), 0, UP_BUFFERS, {0}},
    {"linear input", "down", down_input, PRODUCT(WIDTH, INNER), 0, DOWN_BUFFERS, {0}},
    {"linear weight", "up: dw f32, added", up_weight, PRODUCT(WIDTH, INNER), 0, UP_BUFFERS, {0}},
    {"loss", "forward, 4096 tokens", loss_forward, 2.0 * CHUNK *WIDTH *WORDS, 0, LOSS_BUFFERS, {0}},
    {"loss", "and gradients, 4096 tokens", loss, 6.0 * CHUNK *WIDTH *WORDS, 0, LOSS_BUFFERS, {0}},
    {"rms_norm forward", "4096", rms_forward, 0, 4 * ELEMENTS(WIDTH), NORM_BUFFERS, {0}},
    {"rms_norm backward", "dy f32, dx added", rms_backward, 0, 10 * ELEMENTS(WIDTH), NORM_BUFFERS, {0}},
    {"rms_norm backward", "the same, 4096 tokens", rms_backward_chunk, 0, 10.0 * CHUNK *WIDTH, NORM_BUFFERS, {0}},
    {"layer_norm forward", "4096", layer_forward, 0, 4 * ELEMENTS(WIDTH), NORM_BUFFERS, {0}},
    {"layer_norm backward", "dy f32, dx added", layer_backward, 0, 10 * ELEMENTS(WIDTH), NORM_BUFFERS, {0}},
    {"silu_gate forward", "14336", gate_forward, 0, 6 * ELEMENTS(INNER), GATE_BUFFERS, {0}},
    {"silu_gate backward", "14336", gate_backward, 0, 10 * ELEMENTS(INNER), GATE_BUFFERS, {0}},
    {"gelu forward", "4096", gelu_forward, 0, 4 * ELEMENTS(WIDTH), MAP_BUFFERS, {0}},
    {"gelu backward", "4096", gelu_backward, 0, 6 * ELEMENTS(WIDTH), MAP_BUFFERS, {0}},
    {"add", "bf16 + f32 to bf16", add, 0, 8 * ELEMENTS(WIDTH), MAP_BUFFERS, {0}},
    {"dropout", "4096", dropout, 0, 4 * ELEMENTS(WIDTH), MAP_BUFFERS, {0}},
    {"cast", "f32 to bf16, 2^28", cast, 0, 6.0 * UPDATED, {MANY, MANY / 2}, {0}},
    {"rope", "32 heads of 128", rope, 0, 4 * ELEMENTS(WIDTH), {MATRIX(WIDTH, 2), MATRIX(DIM, 4)}, {0}},
    {"rope_table", "64 pairs", rope_table, 0, 4 * ELEMENTS(DIM), {TOKENS * 8, MATRIX(DIM, 4)}, {0}},
    {"embedding forward", "to f32", embedding_forward, 0, 6 * ELEMENTS(WIDTH), WORD_BUFFERS, {0}},
    {"embedding backward", "from bf16", embedding_backward, 0, 10 * ELEMENTS(WIDTH), WORD_BUFFERS, {0}},
    {"sum_squares", "2^28", sum_squares, 0, 4.0 * UPDATED, UPDATE_BUFFERS, {0}},
    {"adam", "2^28", adam, 0, 28.0 * UPDATED, UPDATE_BUFFERS, {0}},
    {"lamb_moments", "2^28", lamb_moments, 0, 24.0 * UPDATED, UPDATE_BUFFERS, {0}},
    {"lamb_apply", "2^28", lamb_apply, 0, 16.0 * UPDATED, UPDATE_BUFFERS, {0}},
    {"zero", "2^30 bytes", zero, 0, 4.0 * UPDATED, {MANY}, {0}},
    {"decode",
     "32 heads, 32768 keys",
     decode,
     0,
     4 * ELEMENTS(KV),
     {WIDTH * 2, MATRIX(KV, 2), MATRIX(KV, 2), WIDTH * 2, 1 << 20},
     {0}},
};

/* ---- measuring ---- */

/* Word w of a buffer: ids spread over the vocabulary, positions (of 64 bits), or values that are small in f32 and bf16.
 */
static uint32_t word_of(size_t bytes, size_t w)
{
    if (bytes == TOKENS * 4)
        return (uint32_t)(random_word(3, w) % WORDS);
    if (bytes == TOKENS * 8)
        return w % 2 ? 0 : (uint32_t)(w / 2);
    return UINT32_C(0x3c003c00) | (uint32_t)(random_word(5, w) & UINT32_C(0x007f007f));
}

static int fill(const bench *b, int i)
{
    size_t part = b->sizes[i] < (size_t)1 << 22 ? b->sizes[i] : (size_t)1 << 22;
    uint32_t *words = allocate(part + 4);
    if (!words)
        return CODE_NO_MEMORY;
    for (size_t w = 0; w < part / 4; w++)
        words[w] = word_of(b->sizes[i], w);
    int code = CODE_GOOD;
    for (size_t at = 0; at < b->sizes[i] && !code; at += part)
        code = fail_status(ringx_memory_copy(RINGX_CUDA, (char *)b->at[i] + at, words,
                                             b->sizes[i] - at < part ? b->sizes[i] - at : part),
                           "buffer %d", i);
    free(words);
    return code;
}

static int repeat(const bench *b, int times, double *seconds)
{
    double begin = seconds_now();
    int code = CODE_GOOD;
    for (int i = 0; i < times && !code; i++)
        code = b->call(b);
    if (!code)
        code = on.ops->wait(&on);
    *seconds = (seconds_now() - begin) / times;
    return code;
}

static int measure(bench *b)
{
    double seconds = 0, least = 1e30;
    int code = CODE_GOOD;
    for (int i = 0; i < MOST_BUFFERS && !code; i++)
        if (b->sizes[i]) {
            code = fail_status(ringx_memory_alloc(RINGX_CUDA, b->sizes[i], &b->at[i]), "%zu bytes", b->sizes[i]);
            if (!code)
                code = fill(b, i);
        }
    if (!code)
        code = repeat(b, 3, &seconds); /* chooses, grows, warms up */
    for (int round = 0; round < 3 && !code; round++) {
        code = repeat(b, REPEATS, &seconds);
        least = seconds < least ? seconds : least;
    }
    for (int i = 0; i < MOST_BUFFERS; i++)
        ringx_memory_free(RINGX_CUDA, b->at[i]);
    if (code)
        return code;
    double rate = (b->flops > 0 ? b->flops : b->bytes) / least, peak = b->flops > 0 ? 989e12 : 4.8e12;
    printf("%-20s %-28s %9.3f ms %8.1f %-8s %5.1f %%\n", b->name, b->shape, 1e3 * least,
           rate / (b->flops > 0 ? 1e12 : 1e9), b->flops > 0 ? "TFLOP/s" : "GB/s", 100 * rate / peak);
    fflush(stdout);
    return CODE_GOOD;
}

int main(int argc, char **argv)
{
    int code = nn_open(&on, RINGX_CUDA);
    for (size_t i = 0; i < sizeof benches / sizeof *benches && !code; i++)
        if (argc < 2 || strstr(benches[i].name, argv[1]))
            code = measure(&benches[i]);
    if (code)
        fprintf(stderr, "nn_ops: %s\n", failure());
    nn_close(&on);
    return code;
}
