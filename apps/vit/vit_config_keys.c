/* SPDX-License-Identifier: MIT */
/* The keys of ringx-vit's configurations: the original's, and ours behind them. */
#include "vit/vit_config_keys.h"

#include <string.h>

#define F(field)       offsetof(vit_config, field)
#define MANY           9e15 /* a count without a limit of its own */
#define WITHOUT_EFFECT VIT_KEY_IGNORED, 0, 0, 0, NULL, NULL

static const char *const amps[] = {"none", "fp16", "bf16", NULL};     /* by vit_amp */
static const char *const devices[] = {"cpu", "cuda", NULL};           /* by ringx_device */
static const char *const missing_values[] = {"refuse", "mean", NULL}; /* by vit_missing */

const vit_key vit_keys[] = {
    /* model */
    {"embed_dim", VIT_KEY_INT, F(embed_dim), 1, 1e6, NULL, "384"},
    {"depth", VIT_KEY_INT, F(depth), 1, 1e5, NULL, "12"},
    {"dropout", VIT_KEY_REAL, F(dropout), 0, 0.99, NULL, "0.0"},
    {"patch_size", VIT_KEY_INT, F(patch_size), 1, 1e4, NULL, "8"},
    {"num_heads", VIT_KEY_INT, F(num_heads), 1, 1e5, NULL, "8"},
    {"attn_type", VIT_KEY_TEXT, F(attn_type), 0, 0, NULL, "ringX"},
    {"layer_norm_eps", VIT_KEY_REAL, F(layer_norm_eps), 0, 1, NULL, "1e-6"},
    /* training */
    {"img_size", VIT_KEY_PAIR, F(img_size), 1, 1e6, NULL, "[360, 720]"},
    {"dt", VIT_KEY_INT, F(dt), 1, 1e6, NULL, "1"},
    {"global_batch_size", VIT_KEY_INT, F(global_batch_size), 1, 1e9, NULL, "16"},
    {"local_batch_size", VIT_KEY_INT, F(local_batch_size), 0, 1e9, NULL, "0"},
    {"num_iters", VIT_KEY_INT, F(num_iters), 0, MANY, NULL, "30000"},
    {"eval_steps", VIT_KEY_INT, F(eval_steps), 0, MANY, NULL, "0"},
    {"print_steps", VIT_KEY_INT, F(print_steps), 1, MANY, NULL, "10"},
    {"amp_mode", VIT_KEY_CHOICE, F(amp_mode), 0, 0, amps, "none"},
    {"expdir", VIT_KEY_TEXT, F(expdir), 0, 0, NULL, "./logs"},
    {"run_num", VIT_KEY_TEXT, F(run_num), 0, 0, NULL, "00"},
    {"save_path", VIT_KEY_TEXT, F(save_path), 0, 0, NULL, "./checkpoints"},
    {"lr_schedule", VIT_KEY_TEXT, F(lr_schedule), 0, 0, NULL, "constant"},
    {"lr", VIT_KEY_REAL, F(lr), 0, 1e3, NULL, "5E-4"},
    {"warmup", VIT_KEY_INT, F(warmup), 0, MANY, NULL, "0"},
    {"optimizer", WITHOUT_EFFECT},
    {"enable_fused", WITHOUT_EFFECT},
    {"enable_jit", WITHOUT_EFFECT},
    /* data */
    {"data_loader_config", WITHOUT_EFFECT},
    {"num_data_workers", VIT_KEY_INT, F(num_data_workers), 0, 256, NULL, "2"},
    {"n_in_channels", VIT_KEY_INT, F(n_in_channels), 1, 1e5, NULL, "20"},
    {"n_out_channels", VIT_KEY_INT, F(n_out_channels), 1, 1e5, NULL, "20"},
    {"train_data_path", VIT_KEY_TEXT, F(train_data_path), 0, 0, NULL, NULL},
    {"valid_data_path", VIT_KEY_TEXT, F(valid_data_path), 0, 0, NULL, NULL},
    {"inf_data_path", VIT_KEY_TEXT, F(inf_data_path), 0, 0, NULL, NULL},
    {"time_means_path", WITHOUT_EFFECT},
    {"global_means_path", VIT_KEY_TEXT, F(global_means_path), 0, 0, NULL, NULL},
    {"global_stds_path", VIT_KEY_TEXT, F(global_stds_path), 0, 0, NULL, NULL},
    {"limit_nsamples", VIT_KEY_INT, F(limit_nsamples), 1, MANY, NULL, NULL},
    {"limit_nsamples_val", VIT_KEY_INT, F(limit_nsamples_val), 1, MANY, NULL, NULL},
    /* comms */
    {"wireup_info", WITHOUT_EFFECT},
    {"wireup_store", WITHOUT_EFFECT},
    {"bucket_cap_mb", WITHOUT_EFFECT},
    {"disable_broadcast_buffers", WITHOUT_EFFECT},
    /* beyond the original */
    {"tensor_parallel", VIT_KEY_INT, F(tensor_parallel), 1, 1e6, NULL, "1"},
    {"context_parallel", VIT_KEY_INT, F(context_parallel), 1, 1e6, NULL, "1"},
    {"parallel_order", VIT_KEY_TEXT, F(parallel_order), 0, 0, NULL, "tp-cp-dp"},
    {"noddp", VIT_KEY_BOOL, F(noddp), 0, 1, NULL, "false"},
    {"seed", VIT_KEY_INT, F(seed), 0, 4294967295.0, NULL, "1234"},
    {"device", VIT_KEY_CHOICE, F(device), 0, 0, devices, "cpu"},
    {"peer_copies", VIT_KEY_BOOL, F(peer_copies), 0, 1, NULL, "true"},
    {"zero_stage", VIT_KEY_INT, F(zero_stage), 0, 1, NULL, "0"},
    {"overlap_comm", VIT_KEY_BOOL, F(overlap_comm), 0, 1, NULL, "false"},
    {"checkpoint_activations", VIT_KEY_BOOL, F(checkpoint_activations), 0, 1, NULL, "false"},
    {"keep_mlp_layers", VIT_KEY_INT, F(keep_mlp_layers), 0, 1e5, NULL, "0"},
    {"mlp_chunk_tokens", VIT_KEY_INT, F(mlp_chunk_tokens), 0, MANY, NULL, "0"},
    {"keep_last_n_checkpoints", VIT_KEY_INT, F(keep_last_n_checkpoints), 0, 1e6, NULL, "0"},
    {"peak_theoretical_tflops", VIT_KEY_REAL, F(peak_theoretical_tflops), 0, 1e12, NULL, "0"},
    {"missing_values", VIT_KEY_CHOICE, F(missing_values), 0, 0, missing_values, "refuse"},
    {NULL, VIT_KEY_INT, 0, 0, 0, NULL, NULL},
};

_Static_assert(sizeof vit_keys / sizeof *vit_keys <= VIT_MAX_KEYS, "vit_config.from has a place for every key");

size_t vit_key_find(const char *name, size_t length)
{
    size_t row = 0;
    while (vit_keys[row].name &&
           (strlen(vit_keys[row].name) != length || memcmp(vit_keys[row].name, name, length) != 0))
        row++;
    return row;
}

int vit_key_unknown(const char *name, const char *where)
{
    const char *names[VIT_MAX_KEYS];
    size_t count = 0;
    for (; vit_keys[count].name; count++)
        names[count] = vit_keys[count].name;
    names[count] = NULL;
    return fail(CODE_CONFIGURATION, "%s: unknown key '%s'; did you mean '%s'?", where, name,
                options_nearest(name, names));
}
