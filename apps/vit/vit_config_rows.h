/* SPDX-License-Identifier: MIT */
/* The options that name a configuration and override it: rows for the option tables of subcommands. */
#ifndef RINGX_VIT_CONFIG_ROWS_H
#define RINGX_VIT_CONFIG_ROWS_H

#include "vit/vit_config.h"

#define VIT_TEXT_ROW(S, key, placeholder, explanation)                                                                 \
    {                                                                                                                  \
        .name = #key, .value = placeholder, .text = explanation, .kind = OPTION_TEXT,                                  \
        .field = offsetof(S, config) + offsetof(vit_config_settings, key)                                              \
    }
#define VIT_FLAG_ROW(S, key, explanation)                                                                              \
    {                                                                                                                  \
        .name = #key, .text = explanation, .kind = OPTION_FLAG,                                                        \
        .field = offsetof(S, config) + offsetof(vit_config_settings, key)                                              \
    }

#define VIT_CONFIG_ROWS(S)                                                                                             \
    VIT_TEXT_ROW(S, yaml_config, "FILE", "named configurations (default: ./config/ViT.yaml, else the shipped file)"),  \
        VIT_TEXT_ROW(S, config, "NAME", "the configuration (default: base)"),                                          \
        VIT_TEXT_ROW(S, run_num, "TEXT", "tag of the run, part of the output path (default: 00)"),                     \
        VIT_TEXT_ROW(S, amp_mode, "MODE", "none (as configured), fp16 or bf16"),                                       \
        VIT_TEXT_ROW(S, local_batch_size, "N",                                                                         \
                     "samples of one data-parallel rank in a step; the batch is N times dp"),                          \
        VIT_TEXT_ROW(S, num_iters, "N", "steps of the whole training"),                                                \
        VIT_TEXT_ROW(S, num_data_workers, "N", "threads that read ahead; 0: none"),                                    \
        VIT_TEXT_ROW(S, tensor_parallel, "N", "ranks that share each matrix (default: 1)"),                            \
        VIT_TEXT_ROW(S, context_parallel, "N", "ranks that share each sample's tokens (default: 1)"),                  \
        VIT_TEXT_ROW(S, parallel_order, "A-B-C", "axes of ranks, fastest first (default: tp-cp-dp)"),                  \
        VIT_FLAG_ROW(S, noddp, "leave out the sum of gradients over ranks: for measurements only"),                    \
        {.name = "set",                                                                                                \
         .value = "KEY=VALUE …",                                                                                       \
         .text = "replace any key of the configuration",                                                               \
         .kind = OPTION_FILES,                                                                                         \
         .field = offsetof(S, config) + offsetof(vit_config_settings, set)},                                           \
        VIT_TEXT_ROW(S, data_loader_config, "NAME", "pytorch or dali: without effect"),                                \
        VIT_TEXT_ROW(S, bucket_cap_mb, "N", "without effect: gradients travel in bounded pieces"),                     \
        VIT_FLAG_ROW(S, enable_fused, "without effect"), VIT_FLAG_ROW(S, enable_jit, "without effect"),                \
        VIT_FLAG_ROW(S, disable_broadcast_buffers, "without effect")

#endif
