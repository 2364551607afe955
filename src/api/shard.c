/* SPDX-License-Identifier: MIT */
/* Whole tensors and shards: pure copies by global position. */
#include <stdlib.h>
#include <string.h>

#include "api/agree.h"
#include "api/plan.h"

/* Copies between a rank's shard and the global tensor, run by run. */
static void copy_shard(const ringx_layout *layout, int rank, int64_t outer, size_t width, char *global, char *local,
                       bool to_local)
{
    ringx_run runs[RINGX_MAX_RUNS];
    int n = ringx__layout_runs(layout, rank, runs);
    for (int64_t o = 0; o < outer; o++)
        for (int i = 0; i < n; i++) {
            char *whole = global + (size_t)(o * layout->tokens + runs[i].first) * width;
            if (runs[i].step == 1) {
                memcpy(to_local ? local : whole, to_local ? whole : local, (size_t)runs[i].count * width);
                local += (size_t)runs[i].count * width;
                continue;
            }
            for (int64_t t = 0; t < runs[i].count; t++, local += width, whole += (size_t)runs[i].step * width)
                memcpy(to_local ? local : whole, to_local ? whole : local, width);
        }
}

void ringx_shard(const ringx_plan *plan, int64_t outer, size_t width, const void *global, void *local)
{
    copy_shard(&plan->choice.layout, plan->comm->rank, outer, width, (char *)(uintptr_t)global, local, true);
}

void ringx_plan_positions(const ringx_plan *plan, int64_t *positions)
{
    ringx_run runs[RINGX_MAX_RUNS];
    int n = ringx__layout_runs(&plan->choice.layout, plan->comm->rank, runs);
    for (int i = 0; i < n; i++)
        for (int64_t t = 0; t < runs[i].count; t++)
            *positions++ = runs[i].first + t * runs[i].step;
}

static ringx_status receive_all(ringx_plan *plan, int64_t outer, size_t width, const void *local, void *global,
                                const ringx_call *call)
{
    const ringx_layout *layout = &plan->choice.layout;
    size_t most = 0;
    for (int r = 0; r < layout->ranks; r++) {
        size_t bytes = (size_t)outer * (size_t)ringx__layout_count(layout, r) * width;
        most = bytes > most ? bytes : most;
    }
    char *buffer = malloc(most ? most : 1);
    if (!buffer)
        return ringx__tell(plan->comm, ringx__fail(RINGX_NO_MEMORY, "no memory for a shard of %zu bytes", most));
    ringx_comm *host = ringx__comm_host(plan->comm);
    ringx_status status = RINGX_OK;
    for (int r = 0; r < layout->ranks && status == RINGX_OK; r++) {
        size_t bytes = (size_t)outer * (size_t)ringx__layout_count(layout, r) * width;
        ringx_message message = {.peer = r, .data = buffer, .bytes = bytes};
        if (r == plan->comm->rank && bytes)
            memcpy(buffer, local, bytes);
        else if (bytes)
            status = host->ops->exchange(host, NULL, 0, &message, 1, call);
        if (status == RINGX_OK)
            copy_shard(layout, r, outer, width, global, buffer, false);
    }
    free(buffer);
    return status;
}

static ringx_status check_unshard(const ringx_plan *plan, int64_t outer, size_t width, const void *local,
                                  const void *global, int root)
{
    if (root < 0 || root >= plan->comm->ranks)
        RINGX_FAIL(RINGX_INVALID, "root is %d; it must be 0 … %d", root, plan->comm->ranks - 1);
    size_t bytes = 0;
    if (outer < 0 || !ringx__multiply((size_t)outer, (size_t)plan->shape.tokens, &bytes) ||
        !ringx__multiply(bytes, width, &bytes))
        RINGX_FAIL(RINGX_INVALID, "outer is %lld and width %zu; both must be >= 0, and with %lld tokens fit in memory",
                   (long long)outer, width, (long long)plan->shape.tokens);
    if (!local && bytes && plan->local_tokens)
        RINGX_FAIL(RINGX_INVALID, "local is NULL; it must point to %lld × %lld × %zu bytes", (long long)outer,
                   (long long)plan->local_tokens, width);
    if (!global && bytes && plan->comm->rank == root)
        RINGX_FAIL(RINGX_INVALID, "global is NULL; on the root it must point to %zu bytes", bytes);
    return RINGX_OK;
}

ringx_status ringx_unshard(ringx_plan *plan, int64_t outer, size_t width, const void *local, void *global, int root)
{
    if (!plan)
        RINGX_FAIL(RINGX_INVALID, "plan is NULL; ringx_plan_create makes one");
    ringx_card card;
    ringx__card_begin(&card, check_unshard(plan, outer, width, local, global, root));
    ringx__card_text(&card, "outer", "%lld", (long long)outer);
    ringx__card_text(&card, "width", "%zu", width);
    ringx__card_text(&card, "root", "%d", root);
    RINGX_TRY(ringx__agree(plan->comm, &card, "ringx_unshard", plan->deadline_s, NULL));
    ringx_call call = {.what = "ringx_unshard", .deadline_s = plan->deadline_s};
    ringx_comm *host = ringx__comm_host(plan->comm);
    if (plan->comm->rank == root)
        return receive_all(plan, outer, width, local, global, &call);
    ringx_message message = {
        .peer = root, .data = (void *)(uintptr_t)local, .bytes = (size_t)outer * (size_t)plan->local_tokens * width};
    return message.bytes ? host->ops->exchange(host, &message, 1, NULL, 0, &call) : RINGX_OK;
}
