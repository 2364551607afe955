/* SPDX-License-Identifier: MIT */
/* Forward: how a job becomes items, and who does them.  Bits do not depend on it. */

enum { SMALL_ROWS = 96, SHARED_CACHE = 16 << 20 }; /* bytes of keys and values that the last cache may hold for us */

typedef struct forward_plan {
    int64_t block_rows, block_tokens, token_blocks, head_blocks;
    int64_t units; /* batch × kv heads × head blocks: whose keys differ, or nearly */
    int64_t span;  /* units whose items alternate */
    int64_t items; /* units × token blocks */
} forward_plan;

static forward_plan plan_forward(const ringx_job *job)
{
    const ringx_shape *shape = job->shape;
    int64_t tokens = 0, keys = 0, heads = max64(1, min64(shape->group, job->q_heads));
    for (size_t i = 0; i < job->queries; i++)
        tokens += job->query[i].run.count;
    for (size_t i = 0; i < job->keys; i++)
        keys += job->key[i].run.count;
    forward_plan plan = {.block_rows = block_rows(shape)};
    int64_t rows = shape->batch * job->q_heads * tokens, threads = job->threads;
    int64_t wanted = max64(rows / (8 * threads), min64(SMALL_ROWS, rows / threads)); /* rows of an item */
    wanted = min64(max64(round_up(wanted, WIDTH), WIDTH), plan.block_rows);

    plan.block_tokens = max64(1, wanted / heads);
    plan.head_blocks = (heads + plan.block_rows - 1) / plan.block_rows;
    for (size_t i = 0; i < job->queries; i++)
        plan.token_blocks += (job->query[i].run.count + plan.block_tokens - 1) / plan.block_tokens;
    plan.units = shape->batch * job->kv_heads * plan.head_blocks;
    plan.items = plan.units * plan.token_blocks;
    int64_t bytes = keys * (shape->head_dim + shape->value_dim) * (int64_t)ringx__dtype_bytes(shape->dtype);
    plan.span = max64(SHARED_CACHE / max64(bytes, 1), 1 + 2 * threads / max64(plan.token_blocks, 1));
    plan.span = min64(plan.span, max64(plan.units, 1));
    return plan;
}

/* The tokens of a block, counted over all slices. */
static int64_t find_block(forward_work *w, const forward_plan *plan, int64_t block)
{
    for (w->slice = 0;; w->slice++) {
        int64_t count = w->job->query[w->slice].run.count;
        int64_t here = (count + plan->block_tokens - 1) / plan->block_tokens;
        if (block < here) {
            w->first_token = block * plan->block_tokens;
            return min64(plan->block_tokens, count - w->first_token);
        }
        block -= here;
    }
}

/* A span of units after the other, so that their keys stay cached; in each from the last tokens to the first: under a
 * causal mask the longest items come first. */
static void attend_item(forward_work *w, const forward_plan *plan, int64_t item)
{
    const ringx_job *job = w->job;
    int64_t before = item / (plan->span * plan->token_blocks) * plan->span,
            span = min64(plan->span, plan->units - before);
    item -= before * plan->token_blocks;
    int64_t unit = before + item % span, block = plan->token_blocks - 1 - item / span, first, end;

    int64_t head_block = unit % plan->head_blocks, head = unit / plan->head_blocks;
    w->kv_head = head % job->kv_heads;
    w->batch = head / job->kv_heads;
    ringx__group_heads(job, w->kv_head, &first, &end);
    w->first_head = first + head_block * plan->block_rows;
    w->heads = min64(end - w->first_head, plan->block_rows);
    if (w->heads <= 0)
        return;
    w->count = find_block(w, plan, block) * w->heads;
    w->panels = (w->count + WIDTH - 1) / WIDTH;
    for (int64_t p = 0; p < w->panels; p++)
        begin_rows(w, p);
    for (size_t ik = 0; ik < job->keys; ik++)
        if (job->live[w->slice * job->keys + ik])
            attend_slice(w, &job->key[ik]);
    for (int64_t p = 0; p < w->panels; p++)
        end_rows(w, p);
}

static ringx_status forward(const ringx_job *job)
{
    const forward_plan plan = plan_forward(job);
    const size_t share = forward_scratch(job->shape, 1);
    const int threads = (int)max64(1, min64(ringx__useful_threads(job), plan.items));
#pragma omp parallel num_threads(threads)
    {
        carver c = {(uintptr_t)job->scratch + share * (size_t)omp_get_thread_num()};
        forward_work w = {.job = job};
        forward_carve(&w, job->shape, &c);
#pragma omp for schedule(dynamic, 1)
        for (int64_t item = 0; item < plan.items; item++)
            attend_item(&w, &plan, item);
    }
    return RINGX_OK;
}
