/* SPDX-License-Identifier: MIT */
/* The configuration of ringx-vit: one named map of a YAML file in the original's form, and what its options override.
 *
 * A file is a map of named configurations; maps inherit by anchors, aliases and merge keys ("<<"; own keys before
 * merged ones, the nearest first).  One row of vit_config_keys.c says a key's name, kind, limits and default; reading,
 * checking, printing and suggestions walk the rows.  Paths are relative to the working directory, as in the original.
 * Failures are one line: file, line, key, value, what would be right. */
#ifndef RINGX_VIT_CONFIG_H
#define RINGX_VIT_CONFIG_H

#include "shared/options.h"

#define VIT_MAX_KEYS 64
#define VIT_BUCKET   ((size_t)25000000 / sizeof(float)) /* gradients summed at a time, as in the original */

typedef enum vit_amp { VIT_AMP_NONE, VIT_AMP_FP16, VIT_AMP_BF16 } vit_amp;
typedef enum vit_missing { VIT_MISSING_REFUSE, VIT_MISSING_MEAN } vit_missing; /* NaN and fill values in fields */

typedef struct vit_source { /* of one key's value */
    char *text;             /* as it was written; NULL: the key has no value */
    char *from;             /* "file:line", "option --x"; NULL: the default */
} vit_source;

typedef struct vit_config {
    char *file, *name;
    /* model */
    int64_t embed_dim, depth, patch_size, num_heads;
    double dropout;        /* of everything; stochastic depth rises to it over the layers */
    char *attn_type;       /* ringX, ring, megatron, or a preset of the library */
    double layer_norm_eps; /* 1e-6; 1e-5 for weights that the original trained at tp·cp > 1 */
    /* training */
    int64_t img_size[2];                         /* latitudes, longitudes */
    int64_t dt;                                  /* lead time in steps of the data */
    int64_t global_batch_size, local_batch_size; /* local 0: global / dp */
    int64_t num_iters, eval_steps, print_steps;  /* eval_steps 0: at the end of each epoch */
    int64_t amp_mode;                            /* vit_amp */
    char *lr_schedule;                           /* cosine, linear; anything else: constant */
    double lr;
    int64_t warmup; /* steps */
    char *expdir, *save_path, *run_num;
    int64_t seed;
    int64_t device;     /* ringx_device */
    int64_t zero_stage; /* 0, 1 */
    bool overlap_comm;  /* gradients are summed beside backward */
    bool checkpoint_activations, noddp, peer_copies;
    int64_t keep_mlp_layers;         /* blocks, the last ones, whose fc1 backward does not compute again */
    int64_t mlp_chunk_tokens;        /* 0: all at once */
    int64_t keep_last_n_checkpoints; /* 0: all */
    double peak_theoretical_tflops;  /* of one rank's device, for the MFU; 0: not said */
    /* data */
    int64_t num_data_workers; /* read-ahead threads; 0: read when asked */
    int64_t n_in_channels, n_out_channels;
    char *train_data_path, *valid_data_path, *inf_data_path, *global_means_path, *global_stds_path;
    int64_t limit_nsamples, limit_nsamples_val; /* 0: all */
    int64_t missing_values;                     /* vit_missing */
    /* layout */
    int64_t tensor_parallel, context_parallel;
    char *parallel_order; /* "tp-cp-dp": fastest first */

    vit_source from[VIT_MAX_KEYS]; /* by row */
} vit_config;

/* The options that the subcommands with a configuration have in common, under the original's names. */
typedef struct vit_config_settings {
    const char *yaml_config, *config, *run_num, *amp_mode, *local_batch_size, *num_iters, *num_data_workers;
    const char *data_loader_config, *bucket_cap_mb, *tensor_parallel, *context_parallel, *parallel_order;
    bool enable_fused, enable_jit, disable_broadcast_buffers, noddp;
    file_list set; /* key=value, for any key */
} vit_config_settings;

/* vit_config_options.c: VIT_CONFIG_ROWS(S) are rows of an option table for a settings struct S with the member `config`
 * of this type (vit_config_rows.h); open reads what they say. */
int vit_config_open(vit_config *c, const vit_config_settings *s);

/* Defaults, then the map `name` of the file, then settings ("key=value" texts ended by NULL, or NULL), then the checks
 * that need no number of ranks. */
int vit_config_read(vit_config *c, const char *file, const char *name, char *const *settings);
void vit_config_free(vit_config *c);
/* The block of the original's log: dashes, file, name, one "key value" line a key, dashes.  print gets one line at a
 * time, without its end. */
void vit_config_print(const vit_config *c, void (*print)(void *context, const char *line), void *context);
/* One line that names the given keys and values without effect; "" if there are none. */
const char *vit_config_ignored(const vit_config *c, char *text, size_t bytes);
/* The names in a file, in its order, ended by NULL: one block to free. */
int vit_config_names(const char *file, char ***names);

/* ---- what follows from a configuration ---- */

typedef struct vit_layout {
    int64_t dp, local_batch, global_batch; /* samples of one dp rank, and of all, in a step */
    int size[3], order[3];                 /* for parallel_create (train/group.h): tensor, context, data */
} vit_layout;
/* The same on every rank: fails if world, heads, width, tokens or batch do not divide as they must. */
int vit_config_layout(const vit_config *c, int world, vit_layout *layout);

int64_t vit_tokens(const vit_config *c);
/* Of the whole model; the other function: of what one rank holds with tensor parallelism. */
int64_t vit_parameters(const vit_config *c);
int64_t vit_parameters_of_rank(const vit_config *c);
/* The tokens of cp rank `at`: [*first, *first + *count), as in the library's contiguous layout, so that counts differ
 * by one at most (the original's last rank has what remains). */
void vit_token_shard(int64_t tokens, int cp, int at, int64_t *first, int64_t *count);
/* The learning rate of iteration x = 0, 1, …. */
double vit_learning_rate(const vit_config *c, int64_t x);

#endif
