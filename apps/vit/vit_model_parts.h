/* SPDX-License-Identifier: MIT */
/* What the files of the vision transformer share. */
#ifndef RINGX_VIT_MODEL_PARTS_H
#define RINGX_VIT_MODEL_PARTS_H

#include "vit/vit_loss.h"
#include "vit/vit_model.h"

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        int try_code = (call);                                                                                         \
        if (try_code)                                                                                                  \
            return try_code;                                                                                           \
    } while (0)

/* A weight of a linear layer or a norm is followed by its bias. */
enum vit_end_weight { PATCH_WEIGHT, PATCH_BIAS, POSITIONS, END_WEIGHTS };
enum vit_block_weight {
    NORM1_WEIGHT,
    NORM1_BIAS,
    Q_WEIGHT,
    Q_BIAS,
    K_WEIGHT,
    K_BIAS,
    V_WEIGHT,
    V_BIAS,
    PROJ_WEIGHT,
    PROJ_BIAS,
    NORM2_WEIGHT,
    NORM2_BIAS,
    FC1_WEIGHT,
    FC1_BIAS,
    FC2_WEIGHT,
    FC2_BIAS,
    BLOCK_WEIGHTS
};

/* Places of dropout in a block; the embedding's is that of block −1.  PATHS: whole branches of a sample. */
typedef enum drop_site { DROP_WEIGHTS, DROP_PROJ, DROP_INNER, DROP_FC2, DROP_PATH1, DROP_PATH2, DROP_SITES } drop_site;

/* What backward needs of a block's attention; with recomputation there is one for all blocks. */
typedef struct vit_kept {
    nn_array q, k, v, out; /* [tokens][embed of this rank] */
    nn_array middle;       /* [tokens][embed], float: after the attention's residual */
    float *lse;
} vit_kept;

struct vit_model {
    vit_shape shape;
    ringx_dtype dtype;
    nn_context on;
    vit_groups groups;
    int tensor_rank, tensor_ranks;
    int64_t head_dim, heads, qkv, inner; /* heads, width of q, k, v, and inner width: this rank's */
    int64_t across, image_tokens;        /* patches in a row; in the image */
    int64_t pixels_in, pixels_out;       /* values of a patch */
    vit_parameter *parameters;
    size_t n_parameters, elements;
    void *weights;
    float *gradients;

    vit_run run;
    ringx_plan *plan;
    ringx_comm *comm, *self;      /* self: without a context group */
    int64_t local_tokens, tokens; /* of a sample; of all samples */
    int64_t chunk;
    vit_band band;
    vit_watch watch;
    bool training; /* dropout */
    uint64_t seed; /* of the step */
    /* in host memory */
    int64_t *positions;
    float *host_prediction, *host_target, *host_gradient, *path_factors; /* the first three: [tokens][pixels_out] */
    double *sums;
    /* on the device: one allocation for all that follows */
    void *memory;
    size_t memory_bytes, memory_items[VIT_MEMORY_ITEMS];
    int64_t *band_positions, *rows; /* patches in the band; [tokens]: rows of the global batch's matrices */
    int32_t *token_ids;             /* [tokens]: of the image */
    float *factors;                 /* [tokens]: of paths */
    float *image;                   /* [batch][channels_in][band rows][width] */
    nn_array patches, prediction;   /* [tokens][pixels]; the latter float, and its gradient */
    nn_array *inputs;               /* [depth + 1][tokens][embed], float; forward only: two that alternate */
    vit_kept *kept;
    nn_array *hiddens;            /* [depth]: of all tokens; without data where they are not kept */
    nn_array dx;                  /* of all tokens, float */
    nn_array dq, dk, dv, dout;    /* of all tokens */
    nn_array normal, hidden, act; /* of a chunk */
    nn_array branch;              /* of a chunk: gradient of what was added to the stream */
    nn_array pixels;              /* of a chunk: gradient of the prediction */
    nn_array partial;             /* of a chunk, float: to be summed over the tensor group */
    void *workspace;
    size_t workspace_bytes;
};

/* ---- vit_model_parameters.c, vit_model_memory.c, vit_model_plans.c ---- */

int vit_parameters_create(vit_model *m); /* for tensor_rank of tensor_ranks */
int vit_memory_create(vit_model *m);     /* of local_tokens, workspace_bytes and the run */
void vit_memory_free(vit_model *m);
int vit_plan_create(vit_model *m); /* collective; local_tokens and workspace_bytes follow from it */
/* Collective: tells the plan where its workspace is.  It stays there until vit_plan_destroy or _leave. */
int vit_plan_attach(vit_model *m);
void vit_plan_destroy(vit_model *m);
/* Collective: when it returns no rank of the group has a plan, and none the others' workspaces open. */
int vit_plan_leave(vit_model *m);
int vit_plan_wait(vit_model *m);
/* Forward or backward of a block's attention. */
int vit_attend(vit_model *m, int64_t layer, const vit_kept *k, bool backward);

/* ---- views ---- */

static inline nn_array rows_from(nn_array a, int64_t row) /* strides are never 0 here */
{
    a.data = (char *)a.data + (size_t)(row * a.stride) * (a.dtype == RINGX_F32 ? 4 : 2);
    return a;
}

typedef struct vit_piece { /* of the tokens */
    int64_t first, tokens;
} vit_piece;

static inline vit_piece piece_at(const vit_model *m, int64_t first)
{
    int64_t rest = m->tokens - first;
    return (vit_piece){first, rest < m->chunk ? rest : m->chunk};
}

static inline size_t parameter_of(int64_t layer, enum vit_block_weight which)
{
    return END_WEIGHTS + (size_t)layer * BLOCK_WEIGHTS + (size_t)which;
}

/* Its bias follows; then the head. */
static inline size_t last_norm(const vit_model *m)
{
    return parameter_of(m->shape.depth, NORM1_WEIGHT);
}

static inline size_t head_of(const vit_model *m)
{
    return last_norm(m) + 2;
}

static inline nn_array weight_of(const vit_model *m, size_t parameter)
{
    const vit_parameter *p = &m->parameters[parameter];
    nn_array flat = {m->weights, m->dtype, 1};
    flat = rows_from(flat, (int64_t)p->offset);
    flat.stride = p->local_columns;
    return flat;
}

static inline float *gradient_of(const vit_model *m, size_t parameter)
{
    return m->gradients ? m->gradients + m->parameters[parameter].offset : NULL; /* forward only: there are none */
}

/* ---- vit_model_layer.c: one block, and what its parts share with the ends ---- */

int vit_block_attention(vit_model *m, int64_t layer); /* inputs[layer] to its middle */
int vit_block_mlp(vit_model *m, int64_t layer);       /* its middle to inputs[layer + 1] */
int vit_block_backward(vit_model *m, int64_t layer);  /* dx of inputs[layer + 1] to that of inputs[layer] */
/* The norm of a piece of x, into normal; backward from partial into dx. */
nn_norm vit_norm_of(vit_model *m, size_t weight, vit_piece p, nn_array x);
/* y = x·wᵀ, without bias. */
nn_linear vit_linear_of(vit_model *m, size_t weight, int64_t tokens);
/* dx of a piece in the model's dtype: where it lies, or in branch. */
int vit_stream_gradient(vit_model *m, vit_piece p, nn_array *dy);

/* ---- vit_model_drop.c: dropout and stochastic depth, in training mode ---- */

uint64_t vit_drop_seed(const vit_model *m, int64_t layer, drop_site site);
bool vit_drops(const vit_model *m);
/* Of a piece whose columns begin at first_column of row_width; y may be x. */
int vit_drop(vit_model *m, int64_t layer, drop_site site, vit_piece p, nn_array x, nn_array y);
/* Whether a branch of a block is ever left out; then its factors, for vit_scale_path. */
int vit_path_begin(vit_model *m, int64_t layer, drop_site site, bool *drops);
int vit_scale_path(vit_model *m, vit_piece p, nn_array x);

/* ---- vit_model_ends.c: what is before and after the blocks ---- */

int vit_embed(vit_model *m, const float *input);
int vit_embed_backward(vit_model *m);
int vit_head(vit_model *m);          /* the prediction, and its copy in host memory */
int vit_head_backward(vit_model *m); /* from the prediction's gradient, in host_gradient, to dx of the last input */
/* Sums a chunk's partial results over the tensor group. */
int vit_sum_partial(vit_model *m, int64_t tokens);

#endif
