/* SPDX-License-Identifier: MIT */
/* The operators of the training programs: one table of functions per device, the same arguments for all of them.
 *
 * An operator's arguments are one struct, for its forward and its backward function; a function looks only at the
 * fields that it needs.  Matrices are [rows][columns] with a stride between rows, in any of the three dtypes;
 * arithmetic and sums are float (long sums double).  Gradients of activations (dx, …) are overwritten; gradients of
 * parameters are float and are added to.  Results do not depend on the number of threads.  Operators over rows of
 * tokens may be called for a piece of the tokens at a time: no bit changes as long as pieces begin at multiples of
 * nn_tile(device), those of the loss at multiples of nn_loss_tile(device).
 *
 * Pointers are to memory of the context's device (positions and double results too).  Functions return exit codes; with
 * CUDA they enqueue on the context's stream and return: nothing waits for the device but nn_open, nn_close and `wait`,
 * and operators whose scratch memory has to grow, which they do at their first calls. */
#ifndef NN_OPERATORS_H
#define NN_OPERATORS_H

#include <ringx/ringx.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NN_TILE 128 /* tokens */
/* CPUs: NN_TILE.  CUDA: a few thousand, since a matrix product over fewer would not fill a device. */
int64_t nn_tile(ringx_device device);
int64_t nn_loss_tile(ringx_device device);

typedef struct nn_array { /* [rows][columns], or one row */
    void *data;
    ringx_dtype dtype;
    int64_t stride; /* elements from row to row; 0: packed */
} nn_array;

/* y = x·wᵀ + bias.  Backward: dx = dy·w; dw += dyᵀ·x, dbias += Σ dy. */
typedef struct nn_linear {
    int64_t tokens, in, out;
    nn_array x, w;      /* [tokens][in], [out][in] */
    nn_array bias;      /* [out]; data NULL: none */
    nn_array y, dy, dx; /* [tokens][out], the same, [tokens][in] */
    float *dw, *dbias;  /* [out][in], [out]; dbias NULL: none */
    bool add;           /* y += and dx += instead of = */
} nn_linear;

/* y = x·weight/√(mean x² + eps); LayerNorm: (x − mean)/√(variance + eps)·weight + bias. */
typedef struct nn_norm {
    int64_t tokens, width;
    double eps;
    nn_array x, weight, bias, y; /* bias: LayerNorm's */
    nn_array dy, dx;
    float *dweight, *dbias;
    bool add; /* dx += instead of = */
} nn_norm;

/* y = f(x); backward: dx = dy·f'(x).  y may be x, dx may be dy. */
typedef struct nn_map {
    int64_t tokens, width;
    nn_array x, y, dy, dx;
} nn_map;

/* y = silu(gate)·up.  y may be gate or up; dgate or dup may be dy; dgate may be gate and dup may be up. */
typedef struct nn_gate {
    int64_t tokens, width;
    nn_array gate, up, y, dy, dgate, dup;
} nn_gate;

/* y = a + b.  y may be either. */
typedef struct nn_sum {
    int64_t tokens, width;
    nn_array a, b, y;
} nn_sum;

/* y = x/(1−p) where element (row, column) is kept, else 0; that depends on (seed, row·row_width + column) alone.  Its
 * own backward.  y may be x. */
typedef struct nn_dropout {
    int64_t tokens, width;
    nn_array x, y;
    double p; /* 0 ≤ p < 1 */
    uint64_t seed;
    const int64_t *rows;             /* [tokens]: global row of each; NULL: 0, 1, … */
    int64_t row_width, first_column; /* of the global matrix; the first column that x holds */
} nn_dropout;

/* y[t] = factors[t]·x[t].  Its own backward.  y may be x. */
typedef struct nn_scale {
    int64_t tokens, width;
    nn_array x, y;
    const float *factors; /* [tokens] */
} nn_scale;

/* table[t][i] = (cos, sin)(positions[t]·frequencies[i]), angles in double. */
typedef struct nn_rope_table {
    int64_t tokens, pairs;
    const int64_t *positions;  /* [tokens] */
    const double *frequencies; /* [pairs], in host memory */
    float *table;              /* [tokens][pairs][2] */
} nn_rope_table;

/* Rotates in place pairs (i, i + pairs) of each head by the angles of row (token mod period) of the table; inverse:
 * back (the backward of it).  Columns of a head beyond 2·pairs stay. */
typedef struct nn_rope {
    int64_t tokens, heads, head_dim, pairs, period;
    nn_array x; /* [tokens][heads·head_dim] */
    const float *table;
    bool inverse;
} nn_rope;

/* y[t] = table[ids[t] − first] where that row is one of the count of this rank, else 0. */
typedef struct nn_embedding {
    int64_t tokens, width, first, count;
    const int32_t *ids; /* [tokens] */
    nn_array table, y;  /* [count][width], [tokens][width] */
    nn_array dy;
    float *dtable; /* [count][width] */
} nn_embedding;

/* Reductions over the ranks that share a vocabulary; in place, of device memory, in the order of the context's stream.
 * NULL: one rank. */
typedef struct nn_reduce {
    int (*max)(void *group, float *values, size_t count);
    int (*sum)(void *group, float *values, size_t count);
    void *group;
} nn_reduce;

/* Cross-entropy of logits = hidden·weightᵀ against targets, `chunk` tokens at a time, so that only chunk·count logits
 * exist.  Each rank has rows first … first+count-1 of the weight.  Gradients are those of scale·Σ mask·nll; dhidden is
 * this rank's share, to be summed over the ranks; token_nll is the same on all ranks.  Targets under a zero mask are
 * not looked at. */
typedef struct nn_loss {
    int64_t tokens, width, first, count;
    int64_t chunk; /* rounded up to a multiple of NN_TILE; CUDA: at most nn_loss_tile are done at a time */
    nn_array hidden, weight;
    const int32_t *targets; /* [tokens] */
    const float *mask;      /* [tokens]; NULL: all 1 */
    double scale;
    float *token_nll; /* [tokens]: mask·nll */
    double *nll;      /* their sum */
    nn_array dhidden; /* [tokens][width]; data NULL: no gradients */
    float *dweight;   /* [count][width] */
    void *workspace;  /* nn_loss_workspace bytes */
    const nn_reduce *reduce;
} nn_loss;
size_t nn_loss_workspace(const nn_loss *l); /* on any device */
int64_t nn_loss_chunk(const nn_loss *l);    /* tokens of a chunk, as they are rounded */
int64_t nn_loss_stride(const nn_loss *l);   /* elements between the rows of its logits */

/* Attention of one query over keys of which each rank of `reduce` has a part, maybe none: out = softmax(scale·q·k)·v; 0
 * if there are no keys at all.  Heads share kv heads in turn. */
typedef struct nn_decode {
    int64_t heads, kv_heads, head_dim, keys; /* keys: of this rank */
    double scale;
    nn_array q, k, v, out; /* [heads·head_dim], [keys][kv_heads·head_dim], the same, as q */
    void *workspace;       /* nn_decode_workspace bytes */
    const nn_reduce *reduce;
} nn_decode;
size_t nn_decode_workspace(const nn_decode *d);

/* Non-overlapping patches of an image [batch][channels][height][width] as rows [batch·tokens][channels·patch·patch];
 * gather: image to patches, scatter: patches to image, which is the backward of it (patches not listed stay as they
 * are). */
typedef struct nn_patches {
    int64_t batch, channels, height, width, patch; /* patch divides height and width */
    int64_t tokens;                                /* of one image */
    const int64_t *positions;                      /* [tokens]: patches, row by row; NULL: all of them */
    nn_array image, patches;                       /* image packed */
} nn_patches;

/* One optimizer step over a range of a parameter (or of several that are treated alike). */
typedef struct nn_update {
    int64_t count;
    float *weight, *m, *v;
    const float *gradient;
    double gradient_scale; /* of loss scaling and clipping */
    double lr, beta1, beta2, eps, decay;
    int64_t step;   /* from 1 */
    bool decoupled; /* AdamW: decay apart from the gradient; else Adam's L2 */
    double trust;   /* lamb_apply: nn_lamb_trust of the whole tensor */
} nn_update;

typedef struct nn_context nn_context;

typedef struct nn_ops {
    const char *name;
    ringx_device device;
    int (*linear_forward)(const nn_context *on, const nn_linear *l);
    int (*linear_backward_input)(const nn_context *on, const nn_linear *l);
    int (*linear_backward_weight)(const nn_context *on, const nn_linear *l);
    int (*rms_norm_forward)(const nn_context *on, const nn_norm *n);
    int (*rms_norm_backward)(const nn_context *on, const nn_norm *n);
    int (*layer_norm_forward)(const nn_context *on, const nn_norm *n);
    int (*layer_norm_backward)(const nn_context *on, const nn_norm *n);
    int (*gelu_forward)(const nn_context *on, const nn_map *m); /* x·Φ(x), by erf */
    int (*gelu_backward)(const nn_context *on, const nn_map *m);
    int (*silu_gate_forward)(const nn_context *on, const nn_gate *g);
    int (*silu_gate_backward)(const nn_context *on, const nn_gate *g);
    int (*add)(const nn_context *on, const nn_sum *s);
    int (*dropout)(const nn_context *on, const nn_dropout *d);
    int (*scale)(const nn_context *on, const nn_scale *s);
    int (*cast)(const nn_context *on, const nn_map *m); /* y = x */
    int (*rope_table)(const nn_context *on, const nn_rope_table *r);
    int (*rope)(const nn_context *on, const nn_rope *r);
    int (*embedding_forward)(const nn_context *on, const nn_embedding *e);
    int (*embedding_backward)(const nn_context *on, const nn_embedding *e);
    int (*loss)(const nn_context *on, const nn_loss *l);
    int (*decode)(const nn_context *on, const nn_decode *d);
    int (*patches_gather)(const nn_context *on, const nn_patches *p);
    int (*patches_scatter)(const nn_context *on, const nn_patches *p);
    int (*sum_squares)(const nn_context *on, const float *values, int64_t count, double *sum); /* of the device, too */
    int (*adam)(const nn_context *on, const nn_update *u);
    /* LAMB (DeepSpeed's form) in two halves: moments and this range's squares[0] = Σ w², squares[1] = Σ u², in memory
     * of the device; then, with the trust that those of the whole tensor give, the weights. */
    int (*lamb_moments)(const nn_context *on, const nn_update *u, double squares[2]);
    int (*lamb_apply)(const nn_context *on, const nn_update *u);
    int (*zero)(const nn_context *on, void *memory, size_t bytes);
    /* Copies beside the operators, between memory of the device and of host_alloc (CUDA: pinned), either way.  One
     * begins when everything enqueued before it is done; nothing that it touches may be used before copy_wait, which
     * lets the context's stream (not the host) wait for all copies begun so far. */
    int (*host_alloc)(size_t bytes, void **memory);
    void (*host_free)(void *memory); /* NULL is fine */
    int (*copy_begin)(const nn_context *on, void *to, const void *from, size_t bytes);
    int (*copy_wait)(const nn_context *on);
    /* The host waits for all that was enqueued, copies too; what failed meanwhile is reported here. */
    int (*wait)(const nn_context *on);
} nn_ops;

/* A context belongs to one thread at a time; copies of the struct are the same context. */
struct nn_context {
    const nn_ops *ops;
    void *stream;   /* CUDA's */
    void *internal; /* the row's own */
};

extern const nn_ops nn_cpu;

/* CUDA: on the calling thread's current device, with a stream of its own that is ordered with the legacy default
 * stream, as synchronous copies are.  Without CUDA in this build: CODE_CONFIGURATION. */
int nn_open(nn_context *on, ringx_device device);
void nn_close(nn_context *on); /* after its last operator; a context of zeros is fine */

#ifdef __cplusplus
}
#endif

#endif
