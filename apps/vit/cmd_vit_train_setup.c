/* SPDX-License-Identifier: MIT */
/* From a configuration to groups, model, optimizer and data. */
#include "train/device_data.h"
#include "train/group_nccl.h"
#include "vit/cmd_vit_train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const ringx_dtype dtypes[] = {
    [VIT_AMP_NONE] = RINGX_F32, [VIT_AMP_FP16] = RINGX_F16, [VIT_AMP_BF16] = RINGX_BF16};

/* ---- groups and model ---- */

static int set_up_groups(vit_training *t)
{
    axis axes[AXES];
    bool nccl = true;
    int code = group_agree(t->world, vit_config_layout(t->c, group_ranks(t->world), &t->layout));
    for (int i = 0; i < AXES && !code; i++)
        axes[i] = (axis)t->layout.order[i];
    if (!code)
        code = parallel_create(&t->p, t->world, t->layout.size, axes);
    if (!code)
        vit_log_line(&t->log, "Setting DP = %d, TP = %d, CP = %d, PP = 1", t->p.size[AXIS_DATA], t->p.size[AXIS_TENSOR],
                     t->p.size[AXIS_CONTEXT]);
    if (!code && t->on.ops->device == RINGX_CUDA)
        code = parallel_use_gpus(&t->p, t->on.stream, &nccl);
    if (!code && !nccl)
        vit_log_warning(&t->log, "ranks share a GPU, or there is no NCCL: their transfers go through host memory");
    return code;
}

int vit_set_up_model(vit_training *t)
{
    const vit_config *c = t->c;
    vit_shape shape = vit_shape_of(c);
    int code = device_choose(t->world, (ringx_device)c->device);
    if (!code)
        code = group_agree(t->world, nn_open(&t->on, (ringx_device)c->device));
    if (!code)
        code = set_up_groups(t);
    t->attention = (ringx_options)RINGX_OPTIONS_INIT;
    if (!code)
        code = group_agree(t->world, vit_attention_preset(c->attn_type, &t->attention.preset));
    if (!code)
        code = group_agree(t->world, vit_model_create(&t->m, &shape, dtypes[c->amp_mode], &t->on,
                                                      (vit_groups){t->p.tensor, t->p.context}));
    if (code)
        return code;
    code = group_agree(t->world, vit_model_initialise(t->m, (uint64_t)c->seed));
    vit_run run = {.batch = t->layout.local_batch,
                   .chunk = c->mlp_chunk_tokens,
                   .recompute = c->checkpoint_activations,
                   .keep_mlp = c->keep_mlp_layers,
                   .forward_only = t->forward_only,
                   .no_peer_copies = !c->peer_copies,
                   .attention = &t->attention,
                   .first_sample = t->p.at[AXIS_DATA],
                   .sample_stride = t->p.size[AXIS_DATA]};
    return code ? code : group_agree(t->world, vit_model_prepare(t->m, &run));
}

static int gradients_ready(void *context, size_t first)
{
    return zero_ready(context, first);
}

static int set_up_optimizer(vit_training *t)
{
    const vit_config *c = t->c;
    const vit_parameter *all;
    t->n_tensors = vit_model_parameters(t->m, &all);
    t->tensors = allocate(t->n_tensors * sizeof *t->tensors);
    int code = group_agree(t->world, t->tensors ? CODE_GOOD : CODE_NO_MEMORY);
    if (code)
        return code;
    for (size_t i = 0; i < t->n_tensors; i++)
        t->tensors[i] = (zero_tensor){all[i].name, all[i].offset, all[i].count, false, all[i].split};
    zero_model model = {.tensors = t->tensors,
                        .n_tensors = t->n_tensors,
                        .elements = vit_model_elements(t->m),
                        .weights = vit_model_weights(t->m),
                        .dtype = dtypes[c->amp_mode],
                        .gradients = vit_model_gradients(t->m),
                        .on = &t->on};
    zero_settings settings = {.stage = (int)c->zero_stage,
                              .optimizer = OPTIMIZER_ADAM,
                              .beta1 = 0.9,
                              .beta2 = 0.95,
                              .eps = 1e-8,
                              .bucket = VIT_BUCKET,
                              .overlap = c->overlap_comm};
    code = zero_create(&t->z, &model, &settings, &t->p);
    vit_model_watch(t->m, (vit_watch){gradients_ready, &t->z});
    if (!code)
        code = group_agree(t->world, zero_adopt(&t->z));
    return code ? code : zero_clear(&t->z);
}

/* As the original's framework has it: 65536, twice that after 2000 good steps, half of it after a bad one. */
static loss_scaler scaler_of(const vit_config *c)
{
    bool dynamic = c->amp_mode == VIT_AMP_FP16;
    return (loss_scaler){
        .scale = dynamic ? 65536 : 1, .least = 1, .dynamic = dynamic, .window = 2000, .hysteresis = 1, .patience = 1};
}

/* ---- data ---- */

vit_data_options vit_data_of(const vit_config *c, const char *folder, int64_t limit)
{
    return (vit_data_options){.folder = folder,
                              .means = c->global_means_path,
                              .stds = c->global_stds_path,
                              .channels = c->n_in_channels,
                              .latitudes = c->img_size[0],
                              .longitudes = c->img_size[1],
                              .dt = c->dt,
                              .limit = limit,
                              .missing = (vit_missing)c->missing_values};
}

static void tell_data(vit_training *t, const vit_dataset *d, const vit_data_options *o)
{
    int64_t all = 0, years = vit_dataset_years(d);
    for (int64_t year = 0; year < years; year++)
        all += vit_dataset_steps(d, year);
    vit_log_line(&t->log, "Getting file stats from %s", vit_dataset_file(d, 0));
    vit_log_line(&t->log, "Number of samples per year: %lld", (long long)vit_dataset_steps(d, 0));
    vit_log_line(&t->log, "Found data at path %s. Number of examples: %lld. Image Shape: %lld x %lld x %lld", o->folder,
                 (long long)all, (long long)o->latitudes, (long long)o->longitudes, (long long)o->channels);
    if (o->limit)
        vit_log_line(&t->log, "Overriding total number of samples to: %lld", (long long)vit_dataset_samples(d));
}

/* Data set and loader of training or validation; *batches: of an epoch. */
static int open_data(vit_training *t, bool train, vit_loader **l, int64_t *batches)
{
    const vit_config *c = t->c;
    vit_dataset **d = train ? &t->train : &t->valid;
    vit_data_options o = vit_data_of(c, train ? c->train_data_path : c->valid_data_path,
                                     train ? c->limit_nsamples : c->limit_nsamples_val);
    int code = vit_dataset_open(d, &o);
    if (code)
        return code;
    tell_data(t, *d, &o);
    vit_sampler s = {.samples = vit_dataset_samples(*d),
                     .ranks = t->p.size[AXIS_DATA],
                     .rank = t->p.at[AXIS_DATA],
                     .batch = t->layout.local_batch,
                     .shuffled = train};
    *batches = vit_sampler_batches(&s);
    if (*batches < 1)
        return fail(CODE_CONFIGURATION, "%s: %lld samples are less than a batch of %lld on each of %d data ranks",
                    o.folder, (long long)s.samples, (long long)s.batch, t->p.size[AXIS_DATA]);
    return vit_loader_open(l, *d, &s, vit_model_band(t->m), c->num_data_workers);
}

/* Before any training: missing values, of which each rank looks at a part. */
static int scan(vit_training *t, vit_dataset *d)
{
    const size_t most_bytes = (size_t)1 << 30;
    vit_scan found = {0};
    int code = vit_dataset_scan(d, group_rank(t->world), group_ranks(t->world), most_bytes, &found);
    double missing = (double)found.missing, values = (double)found.values;
    code = group_agree(t->world, code);
    if (!code)
        code = group_sum(t->world, &missing);
    if (!code)
        code = group_sum(t->world, &values);
    if (!code && missing > 0)
        vit_log_warning(&t->log, "%s: %.0f of %.0f values are missing; they are taken as the mean",
                        vit_dataset_file(d, 0), missing, values);
    return code;
}

static int set_up_data(vit_training *t)
{
    const vit_config *c = t->c;
    int rank = group_rank(t->world);
    vit_log_line(&t->log, "rank %d, begin data loader init", rank);
    int code = c->train_data_path ? CODE_GOOD : fail(CODE_CONFIGURATION, "train_data_path is required");
    if (!code)
        code = open_data(t, true, &t->train_batches, &t->steps_per_epoch);
    if (!code && c->valid_data_path)
        code = open_data(t, false, &t->valid_batches, &t->valid_batches_count);
    code = group_agree(t->world, code);
    if (!code)
        code = scan(t, t->train);
    if (!code && t->valid)
        code = scan(t, t->valid);
    if (!code)
        vit_log_line(&t->log, "rank %d, data loader initialized", rank);
    return code;
}

/* ---- all of it ---- */

static void print_line(void *context, const char *line)
{
    vit_log_line(context, "%s", line);
}

int vit_run_folder(vit_training *t)
{
    const vit_config *c = t->c;
    int n = snprintf(t->folder, sizeof t->folder, "%s/%s/%lldMP/%s", c->expdir, c->name,
                     (long long)(c->tensor_parallel * c->context_parallel), c->run_num);
    return n < (int)sizeof t->folder ? CODE_GOOD : fail(CODE_CANNOT_WRITE, "%s: too long a path", c->expdir);
}

/* Folders and files of the run, on rank 0, and the configuration in its log. */
static int set_up_output(vit_training *t, FILE *to)
{
    const vit_config *c = t->c;
    bool first = group_rank(t->world) == 0;
    char path[sizeof t->folder + 16], ignored[1024];
    int code = vit_run_folder(t);
    if (code || !to)
        return code ? code : vit_log_open(&t->log, NULL, NULL, first);
    t->pictures = true;
    snprintf(path, sizeof path, "%s/logs", t->folder);
    code = first ? events_open(&t->board, path) : CODE_GOOD;
    snprintf(path, sizeof path, "%s/out.log", t->folder);
    if (!code)
        code = vit_log_open(&t->log, to, path, first);
    if (code)
        return code;
    vit_config_print(c, print_line, &t->log);
    if (*vit_config_ignored(c, ignored, sizeof ignored))
        vit_log_warning(&t->log, "%s", ignored);
    return CODE_GOOD;
}

static int make_room(vit_training *t)
{
    const vit_config *c = t->c;
    size_t pixels = (size_t)(c->img_size[0] * c->img_size[1]), batch = (size_t)t->layout.local_batch;
    t->losses = allocate(batch * sizeof *t->losses);
    t->sums = allocate(batch * (size_t)c->n_out_channels * sizeof *t->sums);
    for (int i = 0; i < 2; i++)
        t->images[i] = allocate(pixels * sizeof *t->images[i]);
    if (!t->losses || !t->sums || !t->images[0] || !t->images[1])
        return CODE_NO_MEMORY;
    return vit_scores_create(&t->scores, c->n_out_channels);
}

static void tell_sizes(vit_training *t)
{
    int64_t parameters = vit_parameters_of_rank(t->c);
    t->epochs = t->c->num_iters / t->steps_per_epoch;
    vit_log_line(&t->log, "Total parameters: %lld", (long long)parameters);
    vit_log_line(&t->log, "Trainable parameters: %lld", (long long)parameters);
    vit_log_print(&t->log, "num_epochs: %lld, steps_per_epoch: %lld", (long long)t->epochs,
                  (long long)t->steps_per_epoch);
}

/* Without sums there is nothing to share or to do beside. */
static int check_noddp(const vit_config *c)
{
    if (c->noddp && c->zero_stage)
        return fail(CODE_CONFIGURATION, "zero_stage is %lld; with noddp it must be 0", (long long)c->zero_stage);
    if (c->noddp && c->overlap_comm)
        return fail(CODE_CONFIGURATION, "overlap_comm is true; with noddp it must be false");
    return CODE_GOOD;
}

int vit_training_create(vit_training *t, group *world, vit_config *c, FILE *to)
{
    *t = (vit_training){.c = c, .world = world, .last_loss = NAN};
    t->scaler = scaler_of(c);
    int code = check_noddp(c);
    code = group_agree(world, code ? code : set_up_output(t, to));
    if (!code)
        code = vit_set_up_model(t);
    if (!code)
        code = set_up_optimizer(t);
    if (!code)
        code = group_agree(world, make_room(t));
    if (!code)
        code = set_up_data(t);
    if (!code)
        tell_sizes(t);
    else
        vit_training_destroy(t);
    return code;
}

size_t vit_training_bytes(const vit_training *t)
{
    vit_memory memory;
    vit_model_memory(t->m, &memory);
    return memory.device + (t->tensors ? zero_bytes(&t->z) : 0);
}

void vit_training_destroy(vit_training *t)
{
    curve_free(&t->curve);
    vit_scores_free(&t->scores);
    vit_loader_close(t->valid_batches);
    vit_loader_close(t->train_batches);
    vit_dataset_close(t->valid);
    vit_dataset_close(t->train);
    for (int i = 0; i < 2; i++)
        free(t->images[i]);
    free(t->sums);
    free(t->losses);
    if (t->tensors)
        zero_destroy(&t->z);
    free(t->tensors);
    vit_model_destroy(t->m);
    parallel_destroy(&t->p);
    nn_close(&t->on);
    events_close(&t->board);
    vit_log_close(&t->log);
    *t = (vit_training){.world = t->world};
}
