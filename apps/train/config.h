/* SPDX-License-Identifier: MIT */
/* The configuration of a training run: the keys of the original's YAML files, merged from one or several files.
 *
 * One row of config_keys.c says a key's name, kind, limits and default; reading, checking, printing and suggestions
 * walk the rows.  '-' and '_' are equal in keys.  A key may be set once over all files.  Relative paths are relative to
 * the file that names them.  Failures are one line: file, line, key, value, what would be right. */
#ifndef RINGX_TRAIN_CONFIG_H
#define RINGX_TRAIN_CONFIG_H

#include "shared/report.h"

#define CONFIG_MAX_KEYS 256

typedef struct text_list {
    char **items;
    size_t count;
} text_list;

typedef struct real_list {
    double *items;
    size_t count;
} real_list;

typedef enum optimizer_kind { OPTIMIZER_ADAM, OPTIMIZER_LAMB } optimizer_kind;
typedef enum decay_style { DECAY_CONSTANT, DECAY_LINEAR, DECAY_COSINE, DECAY_EXPONENTIAL } decay_style;
typedef enum init_method { INIT_NORMAL, INIT_SMALL, INIT_WANG } init_method;
typedef enum precision { PRECISION_FP32, PRECISION_BF16, PRECISION_FP16 } precision;
typedef enum checkpoint_scale { SCALE_LINEAR, SCALE_LOG } checkpoint_scale;

typedef struct config_source { /* of one key's value */
    char *text;                /* as it was written; NULL: the key has no value */
    char *file;                /* NULL: the default, or the command line */
    int line;
    bool given; /* false: the default */
} config_source;

typedef struct config {
    /* parallel */
    int64_t pipe_parallel_size, model_parallel_size, context_parallel_size;
    char *rank_order; /* "tensor,context,data": fastest first */
    /* model */
    int64_t num_layers, hidden_size, num_attention_heads, num_kv_heads, intermediate_size, mlp_multiple_of;
    int64_t seq_length, max_position_embeddings, make_vocab_size_divisible_by, vocab_size;
    double rotary_pct, rotary_emb_base, rms_norm_epsilon, init_method_std;
    int64_t pos_emb, norm, activation, output_layer_parallelism, init_method, output_layer_init_method;
    bool no_weight_tying, gpt_j_residual, use_bias_in_norms, use_bias_in_attn_linear, use_bias_in_mlp;
    int64_t rope_type; /* 0: none, 1: llama3 */
    double rope_factor, rope_low_freq_factor, rope_high_freq_factor;
    int64_t rope_original_max_position_embeddings;
    text_list attention; /* one name a layer after config_check: "ring" or a preset of the library */
    bool document_mask;
    double hidden_dropout, attention_dropout;
    /* optimizer and schedule */
    int64_t optimizer_type;
    double lr, min_lr, eps, weight_decay, gradient_clipping, max_coeff, min_coeff;
    real_list betas;
    bool bias_correction, eps_inside_sqrt;
    int64_t train_iters, lr_decay_iters, lr_decay_style;
    double warmup, lr_decay_fraction;
    bool warmup_from_one, override_lr_scheduler, use_checkpoint_lr_scheduler;
    /* batch */
    int64_t train_batch_size, train_micro_batch_size_per_gpu, gradient_accumulation_steps;
    /* ZeRO */
    int64_t zero_stage, allgather_bucket_size, reduce_bucket_size;
    bool overlap_comm, reduce_scatter, contiguous_gradients, allgather_partitions;
    int64_t device; /* ringx_device */
    bool deterministic, peer_copies;
    /* precision */
    int64_t precision;
    bool bf16, bf16_enabled, fp16, fp16_enabled, fp32_allreduce;
    double bf16_loss_scale, loss_scale; /* loss_scale 0: dynamic */
    int64_t initial_scale_power, loss_scale_window, hysteresis;
    double min_loss_scale;
    /* recomputation */
    bool checkpoint_activations, partition_activations, synchronize_each_layer, checkpoint_in_cpu, keep_attention;
    int64_t checkpoint_num_layers, keep_mlp_layers, mlp_chunk_tokens, loss_chunk_tokens;
    /* data */
    int64_t seed, data_impl, num_workers, tokenizer_type;
    char *data_path, *vocab_file, *merge_file, *split;
    text_list train_data_paths, valid_data_paths, test_data_paths;
    real_list train_data_weights, valid_data_weights, test_data_weights;
    bool eod_mask_loss;
    /* checkpoints */
    char *save, *load;
    int64_t checkpoint_factor, checkpoint_scale, keep_last_n_checkpoints, iteration;
    real_list extra_save_iters;
    bool finetune, no_load_optim, no_load_rng, no_save_optim, no_save_rng, checkpoint_validation_with_forward_pass;
    /* log and evaluation */
    int64_t log_interval, eval_interval, eval_iters, exit_interval, steps_per_print;
    char *tensorboard_dir, *log_dir;
    bool wall_clock_breakdown, log_grad_norm, log_param_norm;
    double peak_theoretical_tflops;
    /* generation and evaluation */
    int64_t maximum_tokens, top_k, num_samples;
    double temperature, top_p;
    char *sample_input_file, *sample_output_file, *prompt_end, *eval_results_prefix;
    bool recompute, return_logits;

    config_source from[CONFIG_MAX_KEYS]; /* by row */
} config;

/* Defaults, then the files in their order, then checks.  folder: NULL, or where the files are; ".yml" may be left out.
 * settings: NULL, or "key=value" texts ended by NULL that replace what files say (nested keys as
 * "optimizer.params.lr=1e-3"). */
int config_read(config *c, const char *folder, char *const *files, size_t count, char *const *settings);
void config_free(config *c);
/* One line a key with a value: name, value, "default" or where it was set.  Lists the keys without effect once. */
int config_print(const config *c, FILE *to);
/* config_notes.c: one line for each key that is set to something else than what is done whatever it says. */
int config_notes(const config *c, FILE *to);

/* config_check.c: the relations between keys; fills in what follows from others (kv heads, inner size, …). */
int config_check(config *c);
/* Ranks and batch: dp from world, and whichever of the three batch keys were left out. */
int config_batch(config *c, int world, int64_t *dp);
/* size[], order[] of parallel_create (group.h) as the configuration says. */
int config_layout(const config *c, int size[3], int order[3]);

/* ---- rows ---- */

typedef enum config_kind {
    KEY_INT,     /* int64_t; also written as a whole 5e8 */
    KEY_REAL,    /* double */
    KEY_BOOL,    /* bool: True, False, true, false, yes, no, on, off */
    KEY_TEXT,    /* char * */
    KEY_PATH,    /* char *: relative to the file that names it */
    KEY_CHOICE,  /* int64_t: index into choices */
    KEY_TEXTS,   /* text_list: one or a list */
    KEY_PATHS,   /* text_list of paths */
    KEY_REALS,   /* real_list */
    KEY_PATTERN, /* text_list: [[[names], count or "all"], …] */
    KEY_GROUP,   /* a map of further keys, "group.key" */
    KEY_IGNORED  /* anything: concerns only the Python stack */
} config_kind;

typedef struct config_key {
    const char *name; /* with '_'; nested: "group.key" */
    config_kind kind;
    size_t field;
    double low, high;
    const char *const *choices; /* ended by NULL */
    const char *value;          /* default as text; NULL: none */
} config_key;

extern const config_key config_keys[]; /* ended by a NULL name */
size_t config_key_count(void);
/* Row of a full name, '-' as '_'; config_key_count() if there is none. */
size_t config_find(const char *name);
/* Converts text as row says and stores it; where: "file:line: " for messages. */
int config_store(config *c, size_t row, const char *text, const char *folder, const char *where);
/* The same for one item of a list, as it is: nothing in it separates. */
int config_append(config *c, size_t row, const char *text, const char *folder, const char *where);
void config_clear(config *c, size_t row);                /* no value: lists and texts are released */
int config_unknown(const char *name, const char *where); /* fails with the nearest key of the same group */

#endif
