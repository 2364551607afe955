/* SPDX-License-Identifier: MIT */
/* What the files of the model share. */
#ifndef GPT_MODEL_PARTS_H
#define GPT_MODEL_PARTS_H

#include "gpt/model.h"

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        int try_code = (call);                                                                                         \
        if (try_code)                                                                                                  \
            return try_code;                                                                                           \
    } while (0)

enum layer_weight {
    INPUT_NORM,
    Q_PROJ,
    K_PROJ,
    V_PROJ,
    O_PROJ,
    POST_NORM,
    GATE_PROJ,
    UP_PROJ,
    DOWN_PROJ,
    LAYER_WEIGHTS
};

/* What backward needs of a layer's attention.  With recomputation there is one for all layers, or, with keep_attention,
 * out and lse of each. */
typedef struct kept_attention {
    nn_array q, k, v, out, middle; /* middle [tokens][width]: after the attention's residual */
    float *lse;
} kept_attention;

typedef struct kept_mlp { /* of all tokens; not kept: no data */
    nn_array gate, up;
} kept_mlp;

typedef struct masked_plans { /* for samples whose documents have these bounds */
    int64_t *starts;
    size_t documents;
    ringx_plan **plans; /* [attentions] */
} masked_plans;

struct gpt_model {
    gpt_config config;
    ringx_dtype dtype;
    nn_context on;       /* of zeros on paper */
    ringx_device device; /* its */
    gpt_groups groups;
    int tensor_rank, tensor_ranks;
    int64_t q_width, kv_width, inner, vocabulary, first_word; /* this rank's */
    gpt_parameter *parameters;
    size_t n_parameters, elements;
    void *weights;
    float *gradients;
    zero_unit *units; /* [layers + 2], of the run that was prepared last */
    size_t gradient_elements;

    gpt_run run;
    ringx_plan **plans; /* [attentions] */
    size_t attentions;
    ringx_options *options;       /* [attentions] */
    size_t *attention_of;         /* [layers] */
    masked_plans **masks;         /* [samples]; NULL: the plans above.  NULL for all without document_masks */
    ringx_comm *comm, *self;      /* of the context group; without one, the model's own */
    int64_t local_tokens, tokens; /* of a sample; of all samples */
    int64_t chunk, loss_chunk;
    void *memory; /* one allocation for all that follows */
    size_t memory_bytes, memory_items[GPT_MEMORY_ITEMS];
    int64_t *positions, *device_positions; /* the first in host memory */
    float *rope;
    nn_array
        *inputs; /* [layers + 1][tokens][width]; forward only and where they are kept elsewhere: two that alternate */
    bool elsewhere;                              /* all but the last layer's are: this rank's part of their tokens, */
    void *parts;                                 /* [layers - 1][part_bytes] in host memory or on the device */
    size_t part_first, part_bytes, *part_bounds; /* of an input; bounds: of all tensor ranks */
    size_t host_bytes;
    bool output_gone; /* the last of inputs has been overwritten */
    kept_attention *kept;
    kept_mlp *mlps;                 /* [layers] */
    nn_array dx, dq, dk, dv, dout;  /* of all tokens */
    nn_array normal, gate, up, act; /* of a chunk */
    nn_array partial;               /* of a chunk, float: to be summed over the tensor group */
    void *workspace, *loss_workspace;
    void *more_workspace; /* in its place for plans of masks, where they need more */
    size_t workspace_bytes, more_bytes;
    float *token_nll, *host_nll;
    double *nll;

    struct gpt_cache *cache; /* where keys and values go to; NULL: nowhere */
    bool decoding;           /* one token, whose attention is over the cache */

    gpt_watch watch; /* of zeros: nobody watches */
};

/* ---- model_parameters.c, model_gradients.c, model_memory.c, model_plans.c ---- */

int model_check(gpt_config *c, int64_t tensor_ranks);
int model_parameters_create(gpt_model *m); /* for tensor_rank of tensor_ranks */
int model_gradients_lay_out(gpt_model *m); /* places, units and the number of elements of the run's gradients */
int model_gradients_create(gpt_model *m);  /* unless they are there */
/* In backward, for the unit with this parameter: before its gradients are written, and when they are final. */
int model_claim(const gpt_model *m, size_t parameter);
int model_ready(const gpt_model *m, size_t parameter);
int model_memory_create(gpt_model *m); /* of local_tokens, workspace_bytes and the run */
void model_memory_free(gpt_model *m);
int64_t kept_layers(const gpt_model *m);              /* how many kept_attention there are */
int model_rope_table(gpt_model *m);                   /* of its positions */
int model_grow_workspace(gpt_model *m, size_t bytes); /* for model_attend, between steps */
/* Where inputs are kept elsewhere, before a layer runs.  Forward: its input goes there.  Backward: it is back; from
 * host memory that of the layer before begins to come. */
int model_store_input(gpt_model *m, int64_t layer);
int model_fetch_input(gpt_model *m, int64_t layer);
/* A failure of one context rank is one of all, where what follows is collective. */
int model_agree(const gpt_model *m, int code);
int model_plans_create(gpt_model *m); /* collective; local_tokens and workspace_bytes follow from them */
/* Collective: tells the plans where their workspace is.  It stays there until model_plans_destroy or _leave. */
int model_plans_attach(gpt_model *m);
void model_plans_destroy(gpt_model *m);
/* Collective: when it returns no rank of the group has plans, and none the others' workspaces open. */
int model_plans_leave(gpt_model *m);
int model_plans_wait(gpt_model *m);
/* Forward or backward of a layer's attention. */
int model_attend(gpt_model *m, int64_t layer, const kept_attention *k, bool backward);

/* ---- views ---- */

static inline nn_array rows_from(nn_array a, int64_t row) /* strides are never 0 here */
{
    a.data = (char *)a.data + (size_t)(row * a.stride) * (a.dtype == RINGX_F32 ? 4 : 2);
    return a;
}

static inline size_t parameter_of(int64_t layer, enum layer_weight which)
{
    return 1 + (size_t)layer * LAYER_WEIGHTS + (size_t)which;
}

/* The embedding is the first; after the layers come the last norm and, unless it is tied, the head. */
static inline size_t last_norm(const gpt_model *m)
{
    return parameter_of(m->config.layers, INPUT_NORM);
}

static inline size_t head_of(const gpt_model *m)
{
    return m->config.tied ? 0 : last_norm(m) + 1;
}

static inline nn_array weight_of(const gpt_model *m, size_t parameter)
{
    const gpt_parameter *p = &m->parameters[parameter];
    nn_array flat = {m->weights, m->dtype, 1};
    flat = rows_from(flat, (int64_t)p->offset);
    flat.stride = p->local_columns;
    return flat;
}

static inline float *gradient_of(const gpt_model *m, size_t parameter)
{
    return m->gradients + m->parameters[parameter].place;
}

/* model.c: what is before the loss */
int model_forward(gpt_model *m, const int32_t *ids);

/* cache.c: what was rotated and projected goes into the cache; the attention of one token over it */
int cache_fill(gpt_model *m, int64_t layer, const kept_attention *k);
int cache_attend(gpt_model *m, int64_t layer, const kept_attention *k);

/* ---- model_layer.c: one layer ---- */

kept_attention *kept_of(gpt_model *m, int64_t layer);
/* inputs[layer] to its middle; again: for backward, with what is kept of the attention. */
int layer_attention(gpt_model *m, int64_t layer, bool again);
int layer_mlp(gpt_model *m, int64_t layer);      /* its middle to inputs[layer + 1] */
int layer_backward(gpt_model *m, int64_t layer); /* dx of inputs[layer + 1] to that of inputs[layer] */

/* model_ends.c: what is before and after the layers */
int model_embed(gpt_model *m, const int32_t *ids);
int model_embed_backward(gpt_model *m, const int32_t *ids);
int model_head(gpt_model *m, const gpt_batch *b, double scale, bool backward); /* token_nll; dx of the last input */
/* Sums a chunk's partial results over the tensor group. */
int sum_partial(gpt_model *m, int64_t tokens);

#endif
