/* SPDX-License-Identifier: MIT */
/* From a training configuration to a model and its run. */
#include "gpt/model_config.h"

#include "gpt/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int gpt_find_vocabulary(const config *c, int64_t *vocabulary, int32_t *eod)
{
    static const tokenizer_kind kinds[] = {TOKENIZER_HF, TOKENIZER_BYTES, TOKENIZER_TIKTOKEN, TOKENIZER_GPT2,
                                           TOKENIZER_HF};
    size_t size = (size_t)c->vocab_size;
    *eod = -1;
    if (!size) {
        tokenizer *tokens;
        tokenizer_kind kind = kinds[c->tokenizer_type];
        if (kind != TOKENIZER_BYTES && !c->vocab_file)
            return fail(CODE_CONFIGURATION, "vocab_file (the tokenizer's) or vocab_size is required");
        int code = tokenizer_open(&tokens, kind, c->vocab_file, c->merge_file);
        if (code)
            return code;
        size = tokenizer_size(tokens);
        *eod = tokenizer_eod(tokens);
        tokenizer_close(tokens);
    }
    if (c->eod_mask_loss && *eod < 0)
        return fail(CODE_CONFIGURATION, "eod_mask_loss: the tokenizer has no end of document");
    *vocabulary = tokenizer_padded_size(size, c->make_vocab_size_divisible_by, c->model_parallel_size);
    return CODE_GOOD;
}

static double init_std(const config *c, int64_t method)
{
    return method == INIT_SMALL  ? gpt_small_init(c->hidden_size)
           : method == INIT_WANG ? gpt_wang_init(c->num_layers, c->hidden_size)
                                 : c->init_method_std;
}

static gpt_config model_of(const config *c, int64_t vocabulary)
{
    gpt_config g = {.layers = c->num_layers,
                    .width = c->hidden_size,
                    .heads = c->num_attention_heads,
                    .kv_heads = c->num_kv_heads,
                    .head_dim = c->hidden_size / c->num_attention_heads,
                    .inner = c->intermediate_size,
                    .vocabulary = vocabulary,
                    .norm_eps = c->rms_norm_epsilon,
                    .rope_theta = c->rotary_emb_base,
                    .tied = !c->no_weight_tying,
                    .init_std = init_std(c, c->init_method),
                    .output_init_std = init_std(c, c->output_layer_init_method)};
    if (c->rope_type)
        g.rope_scaling = (nn_rope_scaling){c->rope_factor, c->rope_low_freq_factor, c->rope_high_freq_factor,
                                           (double)c->rope_original_max_position_embeddings};
    return g;
}

/* "ring" is the original's name for what it runs: ringX3. */
static const char *preset_of(const char *name)
{
    return strcmp(name, "ring") == 0 ? "ringX3" : strcmp(name, "auto") == 0 ? NULL : name;
}

/* Each name once, in the order of its first layer. */
static int choose_attention(gpt_settings *s, const config *c)
{
    const text_list *layers = &c->attention;
    s->attention = allocate(layers->count * sizeof *s->attention);
    s->attention_of = allocate(layers->count * sizeof *s->attention_of);
    if (!s->attention || !s->attention_of)
        return CODE_NO_MEMORY;
    size_t count = 0;
    for (size_t i = 0; i < layers->count; i++) {
        size_t first = 0;
        while (strcmp(layers->items[first], layers->items[i]) != 0)
            first++;
        if (first == i) {
            s->attention[count] = (ringx_options)RINGX_OPTIONS_INIT;
            s->attention[count].deterministic = c->deterministic;
            s->attention[count++].preset = preset_of(layers->items[i]);
        }
        s->attention_of[i] = first == i ? count - 1 : s->attention_of[first];
    }
    s->run.attention = s->attention, s->run.attentions = count, s->run.attention_of = s->attention_of;
    return CODE_GOOD;
}

int gpt_settings_create(gpt_settings *s, const config *c, int64_t vocabulary)
{
    static const ringx_dtype dtypes[] = {RINGX_F32, RINGX_BF16, RINGX_F16};
    *s = (gpt_settings){.model = model_of(c, vocabulary), .dtype = dtypes[c->precision]};
    s->run = (gpt_run){.batch = c->train_micro_batch_size_per_gpu,
                       .tokens = c->seq_length,
                       .chunk = c->mlp_chunk_tokens,
                       .loss_chunk = c->loss_chunk_tokens,
                       .recompute = c->checkpoint_activations,
                       .offload = c->checkpoint_activations && c->checkpoint_in_cpu,
                       .partition = c->checkpoint_activations && c->partition_activations,
                       .keep_attention = c->checkpoint_activations && c->keep_attention,
                       .keep_mlp = c->keep_mlp_layers,
                       .no_peer_copies = !c->peer_copies,
                       .document_masks = c->document_mask};
    int code = choose_attention(s, c);
    if (code)
        gpt_settings_destroy(s);
    return code;
}

void gpt_settings_destroy(gpt_settings *s)
{
    free(s->attention);
    free(s->attention_of);
    *s = (gpt_settings){.attention = NULL};
}
