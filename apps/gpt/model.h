/* SPDX-License-Identifier: MIT */
/* The Llama model: forward, loss, backward, on one rank or over tensor × context groups.
 *
 * Every rank of the tensor group holds a part of each matrix and the same tokens; every rank of the context group holds
 * the same weights and a part of each sample's tokens, those of the attention plan.  Gradients are those of
 * scale · Σ mask·nll over this rank's tokens: their sum over the context ranks (and data ranks, micro-batches) is the
 * gradient of the whole.  Recomputation, offload, partition and the size of chunks change no bit of loss and gradients.
 */
#ifndef GPT_MODEL_H
#define GPT_MODEL_H

#include "nn/formulas.h"
#include "nn/operators.h"
#include "train/group.h"
#include "train/zero_unit.h"

typedef struct gpt_config {
    int64_t layers, width, heads, kv_heads, head_dim, inner, vocabulary;
    int64_t max_positions; /* that it was made for; 0: not said */
    int64_t rotary_dim;    /* columns of a head that turn, even; 0: head_dim */
    double norm_eps, rope_theta;
    nn_rope_scaling rope_scaling;
    bool tied;              /* the head is the embedding */
    double init_std;        /* of embedding, q, k, v, gate, up, head */
    double output_init_std; /* of o and down */
} gpt_config;

double gpt_small_init(int64_t width);                /* √(2/(5·width)) */
double gpt_wang_init(int64_t layers, int64_t width); /* 2/(layers·√width) */

/* ---- parameters ---- */

typedef struct gpt_parameter {
    char name[88];                       /* as Hugging Face has it: model.layers.0.self_attn.q_proj.weight */
    int64_t rows, columns;               /* of the whole; a norm's weight is one row */
    int64_t first_row, local_rows;       /* this rank's part, over the tensor group */
    int64_t first_column, local_columns; /* one of the two is whole */
    bool split;                          /* over the tensor group; else every rank has all of it */
    bool decays;                         /* weight decay: matrices */
    double init_std;                     /* 0: all ones */
    size_t offset, count;                /* elements, in the model's weights */
    size_t place;                        /* in its gradients: the offset, but with split_gradients */
} gpt_parameter;

typedef struct gpt_groups { /* NULL: one rank */
    group *tensor, *context;
} gpt_groups;

typedef struct gpt_model gpt_model;

/* Fails, on every rank in the same way, if the configuration does not multiply out or tensor ranks do not divide it. */
int gpt_model_create(gpt_model **m, const gpt_config *config, ringx_dtype dtype, const nn_context *on,
                     gpt_groups groups);
void gpt_model_destroy(gpt_model *m); /* NULL is fine */

const gpt_config *gpt_model_config(const gpt_model *m);
size_t gpt_model_parameters(const gpt_model *m, const gpt_parameter **parameters); /* their number */
const gpt_parameter *gpt_model_find(const gpt_model *m, const char *name);         /* NULL: there is none */
/* All parameters one after the other: weights of the model's dtype. */
size_t gpt_model_elements(const gpt_model *m);
void *gpt_model_weights(gpt_model *m);
/* Float; NULL before the first run that has them is prepared.  0 then, and kept from run to run of the same kind. */
float *gpt_model_gradients(gpt_model *m);
size_t gpt_model_gradient_elements(const gpt_model *m);

/* Parameters whose gradients become final together: embedding, each layer, what follows. */
size_t gpt_model_units(const gpt_model *m, const zero_unit **units); /* of the run; their number */

/* Initial values of this rank's part of the parameters; each is a function of seed, name and place in the whole, so
 * that every layout has the same weights.  _share: only those of elements first … first+count-1. */
int gpt_model_initialise(gpt_model *m, uint64_t seed);
int gpt_model_initialise_share(gpt_model *m, uint64_t seed, size_t first, size_t count);

/* ---- running ---- */

typedef struct gpt_run {
    int64_t batch, tokens;          /* samples, and tokens of a whole sample */
    int64_t chunk, loss_chunk;      /* tokens at a time, rounded up to the device's tile (operators.h); 0: all */
    bool forward_only;              /* evaluation: no gradients */
    bool recompute;                 /* keep of a layer its input only */
    bool offload;                   /* with recompute: inputs of layers wait for backward in host memory */
    bool partition;                 /* with recompute: each tensor rank keeps its part of them */
    bool split_gradients;           /* of two layers at a time, in places that a watch (gpt_model_watch) empties */
    bool keep_attention;            /* with recompute: what attention gave is kept, too, and not computed again */
    int64_t keep_mlp;               /* of so many layers, the last ones, gate and up are kept, not computed again */
    bool no_peer_copies;            /* attention's blocks travel by the communicator alone (ringx_plan_attach) */
    const ringx_options *attention; /* [attentions]; NULL: the library's choice */
    size_t attentions;              /* 0: one */
    const size_t *attention_of;     /* [layers]: which of them; NULL: the first.  All have the layout of the first */
    const int64_t *document_starts; /* documents inside a sample that do not see each other, as in ringx_problem */
    size_t documents;               /* 0: no such bounds */
    bool document_masks;            /* samples have bounds of their own: those of gpt_model_documents */
} gpt_run;

/* Collective over the context group.  Makes plan and buffers; again for another run. */
int gpt_model_prepare(gpt_model *m, const gpt_run *run);
void gpt_model_release(gpt_model *m);                   /* ends the run; to be done before its groups are destroyed */
int64_t gpt_model_local_tokens(const gpt_model *m);     /* of a sample, on this rank */
const int64_t *gpt_model_positions(const gpt_model *m); /* of those, in the whole sample */
const ringx_plan *gpt_model_plan(const gpt_model *m);   /* ringx_shard brings a sample's tokens to its ranks */
size_t gpt_model_bytes(const gpt_model *m);             /* of all memory that it holds on the device */
/* Of a run with document_masks: bounds of each sample's documents, starts[sample][0 … documents[sample]] as in
 * ringx_problem, for the calls that follow.  Collective over the context group, the same on all its ranks.  Makes plans
 * for bounds that are new, and larger workspace where they need it. */
int gpt_model_documents(gpt_model *m, const int64_t *const *starts, const size_t *documents);

/* ---- memory, also of ranks that do not exist ---- */

typedef enum gpt_memory_item { /* bytes of: */
                               GPT_WEIGHTS,
                               GPT_GRADIENTS,
                               GPT_INPUTS,    /* inputs of layers, and the last one's output */
                               GPT_KEPT,      /* q, k, v and results of attention that backward needs */
                               GPT_KEPT_MLP,  /* gate and up of all tokens */
                               GPT_BACKWARD,  /* gradients of activations of all tokens */
                               GPT_CHUNKS,    /* what is computed a chunk of tokens at a time */
                               GPT_WORKSPACE, /* the attention's */
                               GPT_LOSS,      /* logits of a chunk, losses of all tokens */
                               GPT_TABLES,    /* positions and rotations */
                               GPT_MEMORY_ITEMS
} gpt_memory_item;
extern const char *const gpt_memory_names[GPT_MEMORY_ITEMS];

typedef struct gpt_memory {
    size_t items[GPT_MEMORY_ITEMS];
    size_t device;               /* their sum */
    size_t host;                 /* inputs of layers that wait there */
    size_t parameters, elements; /* of this rank: tensors, and elements of all of them */
} gpt_memory;
void gpt_model_memory(const gpt_model *m, gpt_memory *memory); /* device is gpt_model_bytes */

typedef struct gpt_paper_rank { /* a rank on paper */
    int tensor_rank, tensor_ranks;
    int64_t local_tokens; /* of a sample */
    size_t workspace;     /* bytes of the attention's, the largest of all choices */
    ringx_device device;
} gpt_paper_rank;

/* What gpt_model_create and gpt_model_prepare would hold on that rank, by the same functions.  Fails as they do. */
int gpt_paper_memory(const gpt_config *config, ringx_dtype dtype, const gpt_run *run, const gpt_paper_rank *rank,
                     gpt_memory *memory);
/* The attention that a run asks for, as plans and studies take it; `layout`: that of the first choice. */
ringx_problem gpt_run_problem(const gpt_config *config, ringx_dtype dtype, const gpt_run *run, int tensor_ranks);
ringx_options gpt_run_options(const gpt_run *run, size_t which, const char *layout, ringx_device device);

typedef struct gpt_batch {        /* of this rank, [batch][local tokens] each */
    const int32_t *ids, *targets; /* targets under a zero mask are not looked at */
    const float *mask;            /* NULL: all 1 */
} gpt_batch;

/* *nll = Σ mask·nll of this rank's tokens. */
int gpt_model_loss(gpt_model *m, const gpt_batch *b, double *nll);
/* The same, and adds the gradients of scale·nll. */
int gpt_model_train(gpt_model *m, const gpt_batch *b, double scale, double *nll);
/* Called in backward; a code that is not CODE_GOOD ends it. */
typedef struct gpt_watch {
    int (*claim)(void *context, size_t first); /* the unit that begins there is about to be written; NULL: not called */
    /* Gradients of more elements are final: those from `first` on, fewer each time and 0 at last (on a GPU: once the
     * work enqueued so far is done). */
    int (*ready)(void *context, size_t first);
    void *context;
} gpt_watch;
void gpt_model_watch(gpt_model *m, const gpt_watch *watch); /* NULL: no longer */
/* Rows first … first+count-1 of [batch·local tokens] after gpt_model_loss or, with all inputs kept on the device,
 * gpt_model_train: logits of this rank's vocabulary, [count][local vocabulary]. */
int gpt_model_logits(gpt_model *m, int64_t first, int64_t count, float *logits);

#endif
