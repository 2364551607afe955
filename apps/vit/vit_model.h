/* SPDX-License-Identifier: MIT */
/* The vision transformer: forward, relative L2 loss, backward, on one rank or over tensor × context groups.
 *
 * Every rank of the tensor group holds a part of q, k, v, proj, fc1, fc2 and the same tokens; every rank of the context
 * group holds the same weights and a part of each sample's tokens (patches), those of the attention plan.  Patch
 * embedding and head see the own tokens only.  Gradients are those of scale · Σ loss of this rank's samples by way of
 * this rank's tokens: their sum over the context ranks (and data ranks) is the gradient of the whole.  Recomputation
 * and the size of chunks change no bit of loss and gradients. */
#ifndef RINGX_VIT_MODEL_H
#define RINGX_VIT_MODEL_H

#include "nn/operators.h"
#include "train/group.h"
#include "vit/dataset.h"

typedef struct vit_shape {
    int64_t height, width; /* of the image: latitudes, longitudes */
    int64_t patch, channels_in, channels_out;
    int64_t embed, depth, heads;
    double norm_eps, dropout;
} vit_shape;
vit_shape vit_shape_of(const vit_config *c);

/* ---- parameters ---- */

typedef enum vit_spread { VIT_ONES, VIT_ZEROS, VIT_NORMAL, VIT_UNIFORM } vit_spread;

typedef struct vit_parameter {
    char name[48];                       /* the original's: blocks.0.attn.q.weight */
    int64_t rows, columns;               /* of the whole; vectors are one row, patch_embed.proj.weight [D][C·p·p] */
    int64_t first_row, local_rows;       /* this rank's part, over the tensor group */
    int64_t first_column, local_columns; /* one of the two is whole */
    bool split;                          /* over the tensor group; else every rank has all of it */
    bool vector;                         /* a bias, or of a norm */
    vit_spread spread;                   /* of initial values, */
    double size;                         /* standard deviation or limit */
    size_t offset, count;                /* elements, in the model's weights and gradients */
} vit_parameter;

typedef struct vit_groups { /* NULL: one rank */
    group *tensor, *context;
} vit_groups;

typedef struct vit_model vit_model;

/* Fails, on every rank in the same way, if the shape does not divide or tensor ranks do not divide it. */
int vit_model_create(vit_model **m, const vit_shape *shape, ringx_dtype dtype, const nn_context *on, vit_groups groups);
void vit_model_destroy(vit_model *m); /* NULL is fine */

const vit_shape *vit_model_shape(const vit_model *m);
size_t vit_model_parameters(const vit_model *m, const vit_parameter **parameters); /* their number */
/* All parameters one after the other, in memory of the device: weights of the model's dtype; gradients float, zeros
 * from the first run that has any, NULL before. */
size_t vit_model_elements(const vit_model *m);
void *vit_model_weights(vit_model *m);
float *vit_model_gradients(vit_model *m);

/* This rank's part of the initial values of a parameter; each is a function of seed, name and place in the whole, so
 * that every layout has the same weights.  vit_model_initialise sets them all. */
void vit_initial_values(const vit_parameter *p, uint64_t seed, float *values);
int vit_model_initialise(vit_model *m, uint64_t seed);
/* Sets or reads this rank's part of parameter i, as floats in host memory. */
int vit_model_put(vit_model *m, size_t i, const float *values);

/* ---- running ---- */

typedef struct vit_run {
    int64_t batch;                  /* samples */
    int64_t chunk;                  /* tokens at a time, rounded up to NN_TILE; 0: all */
    bool forward_only;              /* evaluation: no gradients */
    bool recompute;                 /* keep of a block its input only */
    int64_t keep_mlp;               /* of so many blocks, the last ones, fc1's result is kept, not computed again */
    bool no_peer_copies;            /* attention's blocks travel by the communicator alone (ringx_plan_attach) */
    const ringx_options *attention; /* NULL: the library's choice; lives as long as the run */
    int64_t first_sample, sample_stride; /* sample b is number first + b·stride of the global batch: for dropout */
} vit_run;

/* Collective over the context group.  Makes plan and buffers; again for another run. */
int vit_model_prepare(vit_model *m, const vit_run *run);
void vit_model_release(vit_model *m);                   /* ends the run; to be done before its groups are destroyed */
int64_t vit_model_local_tokens(const vit_model *m);     /* of a sample, on this rank */
const int64_t *vit_model_positions(const vit_model *m); /* of those, in the whole image, row by row */
vit_band vit_model_band(const vit_model *m);            /* the rows of the image that they touch */
const ringx_plan *vit_model_plan(const vit_model *m);

/* b: input and target are of the band, as the loader gives them.  losses: [batch], of the whole samples, the same on
 * all ranks.  Collective over both groups. */
int vit_model_loss(vit_model *m, const vit_batch *b, double *losses);
/* The same in training mode, and adds the gradients of scale · Σ losses.  seed: of this step's dropout. */
int vit_model_train(vit_model *m, const vit_batch *b, double scale, uint64_t seed, double *losses);
/* Called in backward: gradients of more elements are final, those from `first` on, fewer each time and 0 at last (on a
 * GPU: once the work enqueued so far is done).  A code that is not CODE_GOOD ends it. */
typedef struct vit_watch {
    int (*ready)(void *context, size_t first);
    void *context;
} vit_watch;
void vit_model_watch(vit_model *m, vit_watch watch);
/* Forward alone. */
int vit_model_predict(vit_model *m, const float *input);

/* After any of them.  sums: [batch][channels_out] of whole samples, weighted by latitude (vit_metrics.h). */
struct vit_sums;
int vit_model_scores(vit_model *m, const double *weights, struct vit_sums *sums); /* needs a target: not predict */
/* The whole predicted image on every rank: [batch][channels_out][height][width]. */
int vit_model_fields(vit_model *m, float *fields);
/* One channel of one sample, or of its target: [height][width], on every rank. */
int vit_model_image(vit_model *m, bool target, int64_t sample, int64_t channel, float *image);

/* Floating point operations of matrix products and attention, forward, of one sample; backward has twice as many. */
double vit_forward_flops(const vit_shape *s);

/* ---- memory, also of ranks that do not exist ---- */

typedef enum vit_memory_item { /* bytes of: */
                               VIT_WEIGHTS,
                               VIT_GRADIENTS,
                               VIT_INPUTS,    /* inputs of blocks, and the last one's output */
                               VIT_KEPT,      /* q, k, v and results of attention that backward needs */
                               VIT_KEPT_MLP,  /* results of fc1 of all tokens */
                               VIT_BACKWARD,  /* gradients of activations of all tokens */
                               VIT_CHUNKS,    /* what is computed a chunk of tokens at a time */
                               VIT_WORKSPACE, /* the attention's */
                               VIT_ENDS,      /* image, patches, prediction */
                               VIT_TABLES,    /* positions */
                               VIT_MEMORY_ITEMS
} vit_memory_item;
extern const char *const vit_memory_names[VIT_MEMORY_ITEMS];

typedef struct vit_memory {
    size_t items[VIT_MEMORY_ITEMS];
    size_t device;               /* their sum */
    size_t parameters, elements; /* of this rank: tensors, and elements of all of them */
} vit_memory;
void vit_model_memory(const vit_model *m, vit_memory *memory);

typedef struct vit_paper_rank { /* a rank on paper */
    int tensor_rank, tensor_ranks;
    int64_t local_tokens, band_rows; /* of a sample */
    size_t workspace;                /* bytes of the attention's */
} vit_paper_rank;

int vit_check_shape(const vit_shape *s, int64_t tensor_ranks); /* as vit_model_create does */
/* What vit_model_create and vit_model_prepare would hold on that rank, by the same functions.  Fails as they do. */
int vit_paper_memory(const vit_shape *shape, ringx_dtype dtype, const vit_run *run, const vit_paper_rank *rank,
                     vit_memory *memory);
/* The attention that a run asks for, as plans and studies take it. */
ringx_problem vit_run_problem(const vit_shape *shape, ringx_dtype dtype, int64_t batch, int tensor_ranks);
ringx_options vit_run_options(const vit_run *run, ringx_device device);
/* The preset of a configuration's attn_type; NULL (the library's choice) for NULL and "auto".  Unknown: fails with the
 * valid names. */
int vit_attention_preset(const char *attn_type, const char **preset);

#endif
