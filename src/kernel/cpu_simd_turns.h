/* SPDX-License-Identifier: MIT */
/* Backward: the order of tasks.
 *
 * The chunks of the side that has fewer (n of them) take turns with the chunks of the other (m): in turn t, chunk i
 * meets chunk (i + t) mod m, so that no two tasks of a turn share a chunk, and every chunk meets the others in an order
 * that is the same for any number of threads.  A task waits for the earlier tasks of both of its chunks: turns need no
 * barrier. */

typedef struct turns {
    int64_t n, m, heads;    /* heads: batch × kv heads */
    _Atomic uint32_t *done; /* [heads][n]: turns that a chunk has behind it */
    _Atomic int64_t next;
} turns;

static void wait_for(_Atomic uint32_t *done, int64_t turn)
{
    for (int spins = 0; atomic_load_explicit(done, memory_order_acquire) < (uint32_t)turn; spins++)
        if (spins > 1000)
            sched_yield();
}

/* Tasks are handed out in order of turns, so whatever a task waits for has been handed out before it. */
static void take_turns(backward_work *w, const ringx_grid *grid, turns *order)
{
    int64_t n = order->n, m = order->m, total = order->heads * n * m;
    for (int64_t task; (task = atomic_fetch_add_explicit(&order->next, 1, memory_order_relaxed)) < total;) {
        int64_t turn = task / (order->heads * n), head = task / n % order->heads, i = task % n, other = (i + turn) % m;
        _Atomic uint32_t *done = order->done + head * n;
        wait_for(done + i, turn);
        if (i + 1 < n)
            wait_for(done + i + 1, turn); /* it met `other` in the turn before */
        else
            wait_for(done, max64(0, turn - (m - n))); /* chunk 0 met it n - 1 turns after … m - n + 1 turns before */
        int64_t end;
        w->batch = head / w->job->kv_heads;
        w->kv_head = head % w->job->kv_heads;
        ringx__group_heads(w->job, w->kv_head, &w->first_head, &end);
        w->heads = end - w->first_head;
        if (w->heads > 0 && grid->query_chunks <= grid->key_chunks)
            backward_task(w, grid, i, other);
        else if (w->heads > 0)
            backward_task(w, grid, other, i);
        atomic_store_explicit(done + i, (uint32_t)turn + 1, memory_order_release);
    }
}

static size_t backward_scratch(const ringx_shape *shape, int64_t kv_heads, int threads)
{
    backward_work w;
    carver c = {0};
    backward_carve(&w, shape, &c);
    size_t share = c.at;
    carve(&c, shape->batch * kv_heads * RINGX_MAX_CHUNKS, sizeof(_Atomic uint32_t));
    return (c.at - share) + share * (size_t)threads;
}

static ringx_status backward(const ringx_job *job)
{
    const ringx_grid grid = ringx__grid(job);
    if (grid.query_chunks == 0 || grid.key_chunks == 0)
        return RINGX_OK;
    turns order = {.n = min64(grid.query_chunks, grid.key_chunks), .m = max64(grid.query_chunks, grid.key_chunks)};
    order.heads = job->shape->batch * job->kv_heads;
    carver base = {(uintptr_t)job->scratch};
    order.done = carve(&base, order.heads * RINGX_MAX_CHUNKS, sizeof *order.done);
    for (int64_t i = 0; i < order.heads * order.n; i++)
        atomic_init(order.done + i, 0);
    atomic_init(&order.next, 0);

    const size_t share = backward_scratch(job->shape, 0, 1);
    int threads = (int)max64(1, min64(ringx__useful_threads(job), order.heads * order.n));
#pragma omp parallel num_threads(threads)
    {
        carver c = {base.at + share * (size_t)omp_get_thread_num()};
        backward_work w = {.job = job};
        backward_carve(&w, job->shape, &c);
        take_turns(&w, &grid, &order);
    }
    return RINGX_OK;
}
