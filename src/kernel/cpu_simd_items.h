/* SPDX-License-Identifier: MIT */
/* Forward: how a job becomes items, and who does them.  Bits do not depend on it. */

typedef struct forward_plan { /* items: token blocks × head blocks × kv heads × batch */
    int64_t block_tokens, token_blocks, head_blocks, items;
} forward_plan;

static forward_plan plan_forward(const ringx_job *job)
{
    int64_t tokens = 0, heads = min64(job->shape->group, job->q_heads);
    for (size_t i = 0; i < job->queries; i++)
        tokens += job->query[i].run.count;
    int64_t rows = job->shape->batch * job->q_heads * tokens, threads = job->threads;
    int64_t wanted = max64(rows / (8 * threads), min64(SMALL_ROWS, rows / threads)); /* rows of an item */
    wanted = min64(max64(round_up(wanted, WIDTH), WIDTH), BLOCK_ROWS);

    forward_plan plan = {.block_tokens = max64(1, wanted / max64(heads, 1))};
    plan.head_blocks = (heads + BLOCK_ROWS - 1) / BLOCK_ROWS;
    for (size_t i = 0; i < job->queries; i++)
        plan.token_blocks += (job->query[i].run.count + plan.block_tokens - 1) / plan.block_tokens;
    plan.items = plan.token_blocks * plan.head_blocks * job->kv_heads * job->shape->batch;
    return plan;
}

/* Items run from the last tokens to the first: under a causal mask the longest come first. */
static void attend_item(forward_work *w, const forward_plan *plan, int64_t item)
{
    const ringx_job *job = w->job;
    int64_t first, end, block = plan->token_blocks - 1;
    w->batch = item % job->shape->batch;
    item /= job->shape->batch;
    w->kv_head = item % job->kv_heads;
    item /= job->kv_heads;
    ringx__group_heads(job, w->kv_head, &first, &end);
    w->first_head = first + item % plan->head_blocks * BLOCK_ROWS;
    w->heads = min64(end - w->first_head, BLOCK_ROWS);
    if (w->heads <= 0)
        return;
    block -= item / plan->head_blocks;
    w->slice = 0;
    for (int64_t here;; w->slice++, block -= here) {
        here = (job->query[w->slice].run.count + plan->block_tokens - 1) / plan->block_tokens;
        if (block < here)
            break;
    }
    w->first_token = block * plan->block_tokens;
    int64_t tokens = min64(plan->block_tokens, job->query[w->slice].run.count - w->first_token);
    w->count = tokens * w->heads;
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
