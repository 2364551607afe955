/* SPDX-License-Identifier: MIT */
/* Plans on paper: the layout of ranks, their attention, and the memory of the rank that needs most. */
#include "vit/vit_plan.h"

#include <string.h>

static int lay_out_ranks(vit_plan *p, const vit_config *c)
{
    static const ringx_dtype dtypes[] = {
        [VIT_AMP_NONE] = RINGX_F32, [VIT_AMP_FP16] = RINGX_F16, [VIT_AMP_BF16] = RINGX_BF16};
    int code = vit_config_layout(c, p->plan.ranks, &p->layout);
    if (!code)
        paper_lay_out(&p->plan, p->layout.size, p->layout.order);
    p->shape = vit_shape_of(c);
    p->dtype = dtypes[c->amp_mode];
    p->parameters = vit_parameters(c);
    p->run = (vit_run){.batch = p->layout.local_batch,
                       .chunk = c->mlp_chunk_tokens,
                       .recompute = c->checkpoint_activations,
                       .keep_mlp = c->keep_mlp_layers};
    return code;
}

/* Rows of the image that a context rank's patches touch.  A zigzag part is part r of 2n and its mirror image. */
static int64_t band_rows(const vit_config *c, const ringx_plan_info *info)
{
    int64_t tokens = vit_tokens(c), first, count, end, end_count;
    if (strcmp(info->layout, "striped") == 0)
        return c->img_size[0];
    if (strcmp(info->layout, "zigzag") == 0) {
        vit_token_shard(tokens, 2 * info->ranks, info->rank, &first, &count);
        vit_token_shard(tokens, 2 * info->ranks, 2 * info->ranks - 1 - info->rank, &end, &end_count);
        count = end + end_count - first;
    } else {
        vit_token_shard(tokens, info->ranks, info->rank, &first, &count);
    }
    return count ? vit_band_of_tokens(c, first, count).count : 0;
}

/* A place on the tensor and context axes. */
static int look_at_place(vit_plan *p, const vit_config *c, const ringx_plan_info *info, int tensor)
{
    vit_paper_rank rank = {tensor, p->layout.size[AXIS_TENSOR], info->local_tokens, band_rows(c, info),
                           info->workspace_bytes};
    vit_memory model;
    int code = vit_paper_memory(&p->shape, p->dtype, &p->run, &rank, &model);
    p->tokens = info->local_tokens > p->tokens ? info->local_tokens : p->tokens;
    if (code)
        return code;
    zero_paper share = {
        .elements = model.elements, .tensors = model.parameters, .dtype = p->dtype, .stage = (int)c->zero_stage};
    if (paper_add_place(&p->plan, tensor, info->rank, share, model.device))
        p->model = model;
    return CODE_GOOD;
}

static int look_at_ranks(vit_plan *p, const vit_config *c, const ringx_study *study)
{
    ringx_plan_info info;
    int code = CODE_GOOD;
    for (int r = 0; r < p->layout.size[AXIS_CONTEXT] && !code; r++) {
        code = fail_status(ringx_study_describe(study, r, &info), "attention of context rank %d", r);
        for (int t = 0; t < p->layout.size[AXIS_TENSOR] && !code; t++)
            code = look_at_place(p, c, &info, t);
    }
    if (!code)
        paper_describe_attention(p->plan.attention, &info);
    return code;
}

static int plan_study(vit_plan *p, const vit_config *c, const paper_machine *m, const ringx_study *study)
{
    ringx_forecast f[2];
    int code = look_at_ranks(p, c, study);
    if (!code)
        code = fail_status(ringx_study_forecast(study, m->name, &f[0], &f[1]), "forecast of attention");
    return code ? code : vit_plan_time(p, c, m, f);
}

int vit_plan_make(vit_plan *p, const vit_config *c, int ranks, const paper_machine *m)
{
    ringx_study *study = NULL;
    *p = (vit_plan){.plan = {.ranks = ranks}};
    int code = lay_out_ranks(p, c);
    if (!code)
        code = vit_check_shape(&p->shape, p->layout.size[AXIS_TENSOR]);
    ringx_options options = vit_run_options(&p->run, m->device);
    if (!code)
        code = vit_attention_preset(c->attn_type, &options.preset);
    if (code)
        return code;
    ringx_problem problem = vit_run_problem(&p->shape, p->dtype, p->run.batch, p->layout.size[AXIS_TENSOR]);
    options.ranks_per_node = paper_context_in_node(&p->plan, m), options.machine = m->name;
    code = fail_status(ringx_study_create(&study, &problem, &options, p->layout.size[AXIS_CONTEXT]), "attention");
    if (!code)
        code = plan_study(p, c, m, study);
    ringx_study_destroy(study);
    return code;
}
