/* SPDX-License-Identifier: MIT */
/* The keys of a configuration. */
#include "train/config.h"

#include <string.h>

#define F(field)       offsetof(config, field)
#define MANY           9e15 /* a count without a limit of its own */
#define SOME           1e300
#define WITHOUT_EFFECT KEY_IGNORED, 0, 0, 0, NULL, NULL

static const char *const positions[] = {"rotary", NULL};
static const char *const norms[] = {"rmsnorm", NULL};
static const char *const activations[] = {"swiglu", NULL};
static const char *const columns[] = {"column", NULL};
static const char *const methods[] = {"normal", "small_init", "wang_init", NULL};
static const char *const ropes[] = {"default", "llama3", NULL};
static const char *const optimizers[] = {"Adam", "Lamb", NULL};
static const char *const styles[] = {"constant", "linear", "cosine", "exponential", NULL};
static const char *const precisions[] = {"fp32", "bfloat16", "fp16", NULL};
static const char *const devices[] = {"cpu", "cuda", NULL}; /* by ringx_device */
static const char *const scales[] = {"linear", "log", NULL};
static const char *const data_forms[] = {"mmap", NULL};
static const char *const tokenizers[] = {"HFTokenizer",      "CharLevelTokenizer", "TiktokenTokenizer",
                                         "GPT2BPETokenizer", "HFGPT2Tokenizer",    NULL};

const config_key config_keys[] = {
    /* parallel */
    {"pipe_parallel_size", KEY_INT, F(pipe_parallel_size), 0, 1, NULL, "0"},
    {"model_parallel_size", KEY_INT, F(model_parallel_size), 1, 1e6, NULL, "1"},
    {"context_parallel_size", KEY_INT, F(context_parallel_size), 1, 1e6, NULL, "1"},
    {"rank_order", KEY_TEXT, F(rank_order), 0, 0, NULL, "tensor,context,data"},
    /* model */
    {"num_layers", KEY_INT, F(num_layers), 1, 1e5, NULL, NULL},
    {"hidden_size", KEY_INT, F(hidden_size), 1, 1e7, NULL, NULL},
    {"num_attention_heads", KEY_INT, F(num_attention_heads), 1, 1e5, NULL, NULL},
    {"num_kv_heads", KEY_INT, F(num_kv_heads), 0, 1e5, NULL, "0"},
    {"intermediate_size", KEY_INT, F(intermediate_size), 0, 1e8, NULL, "0"},
    {"mlp_multiple_of", KEY_INT, F(mlp_multiple_of), 1, 1e8, NULL, "1"},
    {"seq_length", KEY_INT, F(seq_length), 1, 1e12, NULL, NULL},
    {"max_position_embeddings", KEY_INT, F(max_position_embeddings), 0, 1e12, NULL, "0"},
    {"make_vocab_size_divisible_by", KEY_INT, F(make_vocab_size_divisible_by), 1, 1e6, NULL, "128"},
    {"vocab_size", KEY_INT, F(vocab_size), 0, 1e8, NULL, "0"},
    {"pos_emb", KEY_CHOICE, F(pos_emb), 0, 0, positions, "rotary"},
    {"rotary_pct", KEY_REAL, F(rotary_pct), 1, 1, NULL, "1.0"},
    {"rotary_emb_base", KEY_REAL, F(rotary_emb_base), 1, 1e12, NULL, "10000"},
    {"rope_scaling", KEY_GROUP, 0, 0, 0, NULL, NULL},
    {"rope_scaling.rope_type", KEY_CHOICE, F(rope_type), 0, 0, ropes, "default"},
    {"rope_scaling.factor", KEY_REAL, F(rope_factor), 1, 1e6, NULL, "8"},
    {"rope_scaling.low_freq_factor", KEY_REAL, F(rope_low_freq_factor), 1e-6, 1e6, NULL, "1"},
    {"rope_scaling.high_freq_factor", KEY_REAL, F(rope_high_freq_factor), 1e-6, 1e6, NULL, "4"},
    {"rope_scaling.original_max_position_embeddings", KEY_INT, F(rope_original_max_position_embeddings), 1, 1e12, NULL,
     "8192"},
    {"no_weight_tying", KEY_BOOL, F(no_weight_tying), 0, 1, NULL, "false"},
    {"gpt_j_residual", KEY_BOOL, F(gpt_j_residual), 0, 0, NULL, "false"},
    {"output_layer_parallelism", KEY_CHOICE, F(output_layer_parallelism), 0, 0, columns, "column"},
    {"norm", KEY_CHOICE, F(norm), 0, 0, norms, "rmsnorm"},
    {"rms_norm_epsilon", KEY_REAL, F(rms_norm_epsilon), 0, 1, NULL, "1e-5"},
    {"use_bias_in_norms", KEY_BOOL, F(use_bias_in_norms), 0, 0, NULL, "false"},
    {"use_bias_in_attn_linear", KEY_BOOL, F(use_bias_in_attn_linear), 0, 0, NULL, "false"},
    {"use_bias_in_mlp", KEY_BOOL, F(use_bias_in_mlp), 0, 0, NULL, "false"},
    {"activation", KEY_CHOICE, F(activation), 0, 0, activations, "swiglu"},
    {"init_method", KEY_CHOICE, F(init_method), 0, 0, methods, "normal"},
    {"output_layer_init_method", KEY_CHOICE, F(output_layer_init_method), 0, 0, methods, "normal"},
    {"init_method_std", KEY_REAL, F(init_method_std), 0, 10, NULL, "0.02"},
    {"attention_config", KEY_PATTERN, F(attention), 0, 0, NULL, NULL},
    {"document_mask", KEY_BOOL, F(document_mask), 0, 1, NULL, "false"},
    {"hidden_dropout", KEY_REAL, F(hidden_dropout), 0, 0, NULL, "0"},
    {"attention_dropout", KEY_REAL, F(attention_dropout), 0, 0, NULL, "0"},
    /* optimizer and schedule */
    {"optimizer", KEY_GROUP, 0, 0, 0, NULL, NULL},
    {"optimizer.type", KEY_CHOICE, F(optimizer_type), 0, 0, optimizers, "Adam"},
    {"optimizer.params", KEY_GROUP, 0, 0, 0, NULL, NULL},
    {"optimizer.params.lr", KEY_REAL, F(lr), 0, 1e3, NULL, "1e-3"},
    {"optimizer.params.betas", KEY_REALS, F(betas), 0, 1, NULL, "0.9 0.999"},
    {"optimizer.params.eps", KEY_REAL, F(eps), 0, 1, NULL, "1e-8"},
    {"optimizer.params.max_coeff", KEY_REAL, F(max_coeff), 0, 1e6, NULL, "10"},
    {"optimizer.params.min_coeff", KEY_REAL, F(min_coeff), 0, 1e6, NULL, "0.01"},
    {"optimizer.params.bias_correction", KEY_BOOL, F(bias_correction), 0, 1, NULL, "true"},
    {"optimizer.params.eps_inside_sqrt", KEY_BOOL, F(eps_inside_sqrt), 0, 0, NULL, "false"},
    {"min_lr", KEY_REAL, F(min_lr), 0, 1e3, NULL, "0"},
    {"weight_decay", KEY_REAL, F(weight_decay), 0, 1e3, NULL, "0.01"},
    {"gradient_clipping", KEY_REAL, F(gradient_clipping), 0, SOME, NULL, "0"},
    {"train_iters", KEY_INT, F(train_iters), 0, MANY, NULL, NULL},
    {"lr_decay_iters", KEY_INT, F(lr_decay_iters), 0, MANY, NULL, "0"},
    {"lr_decay_fraction", KEY_REAL, F(lr_decay_fraction), 0, 1, NULL, "0"},
    {"lr_decay_style", KEY_CHOICE, F(lr_decay_style), 0, 0, styles, "linear"},
    {"warmup", KEY_REAL, F(warmup), 0, 1, NULL, "0.01"},
    {"warmup_from_one", KEY_BOOL, F(warmup_from_one), 0, 1, NULL, "false"},
    {"override_lr_scheduler", KEY_BOOL, F(override_lr_scheduler), 0, 1, NULL, "false"},
    {"use_checkpoint_lr_scheduler", KEY_BOOL, F(use_checkpoint_lr_scheduler), 0, 1, NULL, "false"},
    /* batch */
    {"train_batch_size", KEY_INT, F(train_batch_size), 0, MANY, NULL, "0"},
    {"train_micro_batch_size_per_gpu", KEY_INT, F(train_micro_batch_size_per_gpu), 0, 1e9, NULL, "0"},
    {"gradient_accumulation_steps", KEY_INT, F(gradient_accumulation_steps), 0, 1e9, NULL, "0"},
    /* ZeRO */
    {"zero_optimization", KEY_GROUP, 0, 0, 0, NULL, NULL},
    {"zero_optimization.stage", KEY_INT, F(zero_stage), 0, 2, NULL, "0"},
    {"zero_optimization.allgather_partitions", KEY_BOOL, F(allgather_partitions), 0, 1, NULL, "true"},
    {"zero_optimization.allgather_bucket_size", KEY_INT, F(allgather_bucket_size), 1, MANY, NULL, "5e8"},
    {"zero_optimization.overlap_comm", KEY_BOOL, F(overlap_comm), 0, 1, NULL, "false"},
    {"zero_optimization.reduce_scatter", KEY_BOOL, F(reduce_scatter), 0, 1, NULL, "true"},
    {"zero_optimization.reduce_bucket_size", KEY_INT, F(reduce_bucket_size), 1, MANY, NULL, "5e8"},
    {"zero_optimization.contiguous_gradients", KEY_BOOL, F(contiguous_gradients), 0, 1, NULL, "true"},
    {"device", KEY_CHOICE, F(device), 0, 0, devices, "cpu"},
    {"deterministic", KEY_BOOL, F(deterministic), 0, 1, NULL, "false"},
    {"peer_copies", KEY_BOOL, F(peer_copies), 0, 1, NULL, "true"},
    /* precision */
    {"precision", KEY_CHOICE, F(precision), 0, 0, precisions, "fp32"},
    {"fp32_allreduce", KEY_BOOL, F(fp32_allreduce), 0, 1, NULL, "false"},
    {"bf16", KEY_GROUP, 0, 0, 0, NULL, NULL},
    {"bf16.bf16", KEY_BOOL, F(bf16), 0, 1, NULL, "false"},
    {"bf16.enabled", KEY_BOOL, F(bf16_enabled), 0, 1, NULL, "false"},
    {"bf16.loss_scale", KEY_REAL, F(bf16_loss_scale), 0, SOME, NULL, "0"},
    {"bf16.loss_scale_window", WITHOUT_EFFECT},
    {"bf16.hysteresis", WITHOUT_EFFECT},
    {"bf16.min_loss_scale", WITHOUT_EFFECT},
    {"fp16", KEY_GROUP, 0, 0, 0, NULL, NULL},
    {"fp16.fp16", KEY_BOOL, F(fp16), 0, 1, NULL, "false"},
    {"fp16.enabled", KEY_BOOL, F(fp16_enabled), 0, 1, NULL, "false"},
    {"fp16.loss_scale", KEY_REAL, F(loss_scale), 0, SOME, NULL, "0"},
    {"fp16.initial_scale_power", KEY_INT, F(initial_scale_power), 0, 120, NULL, "32"},
    {"fp16.loss_scale_window", KEY_INT, F(loss_scale_window), 1, 1e9, NULL, "1000"},
    {"fp16.hysteresis", KEY_INT, F(hysteresis), 1, 1e9, NULL, "2"},
    {"fp16.min_loss_scale", KEY_REAL, F(min_loss_scale), 1e-30, SOME, NULL, "1"},
    /* recomputation */
    {"checkpoint_activations", KEY_BOOL, F(checkpoint_activations), 0, 1, NULL, "false"},
    {"checkpoint_num_layers", KEY_INT, F(checkpoint_num_layers), 1, 1e5, NULL, "1"},
    {"partition_activations", KEY_BOOL, F(partition_activations), 0, 1, NULL, "false"},
    {"synchronize_each_layer", KEY_BOOL, F(synchronize_each_layer), 0, 1, NULL, "false"},
    {"checkpoint_in_cpu", KEY_BOOL, F(checkpoint_in_cpu), 0, 1, NULL, "false"},
    {"keep_attention", KEY_BOOL, F(keep_attention), 0, 1, NULL, "false"},
    {"keep_mlp_layers", KEY_INT, F(keep_mlp_layers), 0, 1e5, NULL, "0"},
    {"contiguous_checkpointing", WITHOUT_EFFECT},
    {"mlp_chunk_tokens", KEY_INT, F(mlp_chunk_tokens), 0, MANY, NULL, "8192"},
    {"loss_chunk_tokens", KEY_INT, F(loss_chunk_tokens), 0, MANY, NULL, "1024"},
    /* data */
    {"seed", KEY_INT, F(seed), 0, 4294967295.0, NULL, "1234"},
    {"data_path", KEY_PATH, F(data_path), 0, 0, NULL, NULL},
    {"data_impl", KEY_CHOICE, F(data_impl), 0, 0, data_forms, "mmap"},
    {"train_data_paths", KEY_PATHS, F(train_data_paths), 0, 0, NULL, NULL},
    {"valid_data_paths", KEY_PATHS, F(valid_data_paths), 0, 0, NULL, NULL},
    {"test_data_paths", KEY_PATHS, F(test_data_paths), 0, 0, NULL, NULL},
    {"train_data_weights", KEY_REALS, F(train_data_weights), 0, SOME, NULL, NULL},
    {"valid_data_weights", KEY_REALS, F(valid_data_weights), 0, SOME, NULL, NULL},
    {"test_data_weights", KEY_REALS, F(test_data_weights), 0, SOME, NULL, NULL},
    {"split", KEY_TEXT, F(split), 0, 0, NULL, "969, 30, 1"},
    {"num_workers", KEY_INT, F(num_workers), 0, 1e4, NULL, "2"},
    {"tokenizer_type", KEY_CHOICE, F(tokenizer_type), 0, 0, tokenizers, "HFTokenizer"},
    {"vocab_file", KEY_PATH, F(vocab_file), 0, 0, NULL, NULL},
    {"merge_file", KEY_PATH, F(merge_file), 0, 0, NULL, NULL},
    {"eod_mask_loss", KEY_BOOL, F(eod_mask_loss), 0, 1, NULL, "false"},
    /* checkpoints */
    {"save", KEY_PATH, F(save), 0, 0, NULL, NULL},
    {"load", KEY_PATH, F(load), 0, 0, NULL, NULL},
    {"checkpoint_factor", KEY_INT, F(checkpoint_factor), 0, MANY, NULL, "0"},
    {"checkpoint_scale", KEY_CHOICE, F(checkpoint_scale), 0, 0, scales, "linear"},
    {"extra_save_iters", KEY_REALS, F(extra_save_iters), 0, MANY, NULL, NULL},
    {"keep_last_n_checkpoints", KEY_INT, F(keep_last_n_checkpoints), 0, 1e6, NULL, "0"},
    {"iteration", KEY_INT, F(iteration), -1, MANY, NULL, "-1"},
    {"finetune", KEY_BOOL, F(finetune), 0, 1, NULL, "false"},
    {"no_load_optim", KEY_BOOL, F(no_load_optim), 0, 1, NULL, "false"},
    {"no_load_rng", KEY_BOOL, F(no_load_rng), 0, 1, NULL, "false"},
    {"no_save_optim", KEY_BOOL, F(no_save_optim), 0, 1, NULL, "false"},
    {"no_save_rng", KEY_BOOL, F(no_save_rng), 0, 1, NULL, "false"},
    {"checkpoint_validation_with_forward_pass", KEY_BOOL, F(checkpoint_validation_with_forward_pass), 0, 1, NULL,
     "false"},
    /* log and evaluation */
    {"log_interval", KEY_INT, F(log_interval), 1, MANY, NULL, NULL},
    {"eval_interval", KEY_INT, F(eval_interval), 0, MANY, NULL, "1000"},
    {"eval_iters", KEY_INT, F(eval_iters), 0, MANY, NULL, "100"},
    {"exit_interval", KEY_INT, F(exit_interval), 0, MANY, NULL, "0"},
    {"steps_per_print", KEY_INT, F(steps_per_print), 1, MANY, NULL, "10"},
    {"tensorboard_dir", KEY_PATH, F(tensorboard_dir), 0, 0, NULL, NULL},
    {"log_dir", KEY_PATH, F(log_dir), 0, 0, NULL, NULL},
    {"wall_clock_breakdown", KEY_BOOL, F(wall_clock_breakdown), 0, 1, NULL, "false"},
    {"log_grad_norm", KEY_BOOL, F(log_grad_norm), 0, 1, NULL, "false"},
    {"log_param_norm", KEY_BOOL, F(log_param_norm), 0, 1, NULL, "false"},
    {"peak_theoretical_tflops", KEY_REAL, F(peak_theoretical_tflops), 0, 1e12, NULL, "0"},
    /* generation and evaluation */
    {"maximum_tokens", KEY_INT, F(maximum_tokens), 1, MANY, NULL, "64"},
    {"temperature", KEY_REAL, F(temperature), 0, 1e6, NULL, "0"},
    {"top_k", KEY_INT, F(top_k), 0, 1e9, NULL, "0"},
    {"top_p", KEY_REAL, F(top_p), 0, 1, NULL, "0"},
    {"num_samples", KEY_INT, F(num_samples), 0, 1e9, NULL, "0"},
    {"prompt_end", KEY_TEXT, F(prompt_end), 0, 0, NULL, "\n"},
    {"recompute", KEY_BOOL, F(recompute), 0, 1, NULL, "false"},
    {"return_logits", KEY_BOOL, F(return_logits), 0, 1, NULL, "false"},
    {"sample_input_file", KEY_PATH, F(sample_input_file), 0, 0, NULL, NULL},
    {"sample_output_file", KEY_PATH, F(sample_output_file), 0, 0, NULL, NULL},
    {"eval_results_prefix", KEY_TEXT, F(eval_results_prefix), 0, 0, NULL, NULL},
    /* of the Python stack */
    {"use_wandb", WITHOUT_EFFECT},
    {"wandb_group", WITHOUT_EFFECT},
    {"wandb_team", WITHOUT_EFFECT},
    {"wandb_project", WITHOUT_EFFECT},
    {"hostfile", WITHOUT_EFFECT},
    {"launcher", WITHOUT_EFFECT},
    {"deepspeed_mpi", WITHOUT_EFFECT},
    {"deepspeed_slurm", WITHOUT_EFFECT},
    {"distributed_backend", WITHOUT_EFFECT},
    {"rope_fusion", WITHOUT_EFFECT},
    {"rms_norm_fusion", WITHOUT_EFFECT},
    {"layernorm_fusion", WITHOUT_EFFECT},
    {"scaled_upper_triang_masked_softmax_fusion", WITHOUT_EFFECT},
    {"scaled_masked_softmax_fusion", WITHOUT_EFFECT},
    {"bias_gelu_fusion", WITHOUT_EFFECT},
    {"text_gen_type", WITHOUT_EFFECT},
    {NULL, KEY_INT, 0, 0, 0, NULL, NULL},
};

_Static_assert(sizeof config_keys / sizeof *config_keys <= CONFIG_MAX_KEYS, "config.from has a place for every key");

size_t config_key_count(void)
{
    return sizeof config_keys / sizeof *config_keys - 1;
}

size_t config_find(const char *name)
{
    size_t row = 0;
    for (; config_keys[row].name; row++) {
        const char *a = name, *b = config_keys[row].name;
        while (*a && (*a == '-' ? '_' : *a) == *b)
            a++, b++;
        if (!*a && !*b)
            break;
    }
    return row;
}
