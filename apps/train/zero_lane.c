/* SPDX-License-Identifier: MIT */
/* Gradients are summed while backward goes on.
 *
 * Backward finishes gradients from the last parameters to the first, so that all that is known of it is one number:
 * elements from `ready` on are final.  The lane follows in pieces (buckets, or the units of stage 2) that are the same
 * on all ranks, over a group of its own, since a group does one thing at a time.  With overlap, on CPUs it is a thread
 * of this rank; else the caller's thread makes the sums: on GPUs with NCCL they are only enqueued then, on a stream
 * beside.  Sums are element by element in the order of the ranks: the same bits as after backward. */
#include "train/device_data.h"
#include "train/group_nccl.h"
#include "train/zero_parts.h"

#include <pthread.h>
#include <stdlib.h>

struct zero_lane {
    const zero *of;
    group *g;
    size_t *bounds; /* of a piece */
    bool begun;     /* between zero_lane_begin and zero_lane_finish */
    bool threaded;  /* there is a thread */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    /* under the lock, if there is a thread */
    size_t ready, done; /* elements from here on are final; are summed or enqueued.  Both 0: nothing to do */
    bool end;
    int code;
    char message[MESSAGE_BYTES]; /* of code: the thread's, brought to the caller's */
};

/* First element of the piece below `done`, which is not 0. */
static size_t piece_below(const zero *z, size_t done)
{
    size_t bucket = z->set.bucket, end;
    return z->split ? zero_unit_of(z, done - 1, &end)->first : bucket && done > bucket ? done - bucket : 0;
}

/* Sums the piece below `done`; its first element is `first`. */
static int sum_piece(struct zero_lane *l, group *g, size_t first)
{
    return zero_sum_range(l->of, g, first, l->done - first, l->bounds);
}

/* ---- a thread ---- */

static void *follow(void *context)
{
    struct zero_lane *l = context;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        size_t first = l->done ? piece_below(l->of, l->done) : 0;
        if (l->done && l->ready <= first) {
            int code = l->code;
            pthread_mutex_unlock(&l->lock);
            if (!code) {
                code = sum_piece(l, l->g, first); /* nobody else moves `done` meanwhile */
                if (code)
                    failure_copy(l->message); /* read after `done` has moved */
            }
            pthread_mutex_lock(&l->lock);
            l->code = code;
            l->done = first;
            pthread_cond_broadcast(&l->moved);
        } else if (l->end) {
            break;
        } else {
            pthread_cond_wait(&l->moved, &l->lock);
        }
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void tell_thread(struct zero_lane *l, size_t first, bool end)
{
    pthread_mutex_lock(&l->lock);
    if (first < l->ready)
        l->ready = first;
    l->end = end;
    pthread_cond_broadcast(&l->moved);
    pthread_mutex_unlock(&l->lock);
}

static int wait_for_thread(struct zero_lane *l, size_t first)
{
    pthread_mutex_lock(&l->lock);
    while (l->done > first)
        pthread_cond_wait(&l->moved, &l->lock);
    int code = l->code;
    pthread_mutex_unlock(&l->lock);
    if (code)
        failure_set(l->message);
    return code;
}

/* ---- the caller ---- */

/* Whether a piece has elements of the first unit, which is final last. */
static bool is_last(const struct zero_lane *l, size_t first)
{
    const zero_model *m = &l->of->model;
    return first < (m->n_units > 1 ? m->units[1].first : 1);
}

/* `over`: backward is; the last pieces wait for that, on all ranks. */
static int sum_ready(struct zero_lane *l, size_t ready, bool over)
{
    l->ready = ready < l->ready ? ready : l->ready;
    while (l->done && !l->code) {
        size_t first = piece_below(l->of, l->done);
        bool last = is_last(l, first);
        if (l->ready > first || (last && !over))
            break;
        l->code = sum_piece(l, last ? l->of->ranks->gradient : l->g, first);
        l->done = first;
    }
    l->done = l->code ? 0 : l->done;
    return l->code;
}

/* Those pieces that lie below `first` may still be under way. */
static int wait_for_sums(struct zero_lane *l, size_t first)
{
    unsigned behind = 0;
    size_t all = l->of->model.elements;
    for (size_t at = all; at > l->done; at = piece_below(l->of, at))
        behind += at <= first;
    return all > l->done && first < all ? device_wait(l->g, zero_device(l->of), behind) : CODE_GOOD;
}

/* ---- both ---- */

/* On GPUs over NCCL; *used: whether it is at hand. */
static int use_gpus(const zero *z, group *g, bool *used)
{
    *used = zero_device(z) == RINGX_CPU;
    return *used ? CODE_GOOD : group_use_gpus(g, z->model.on->stream, z->set.overlap, used);
}

static int open_lane(zero *z, struct zero_lane *l)
{
    bool used = false;
    int code = group_split(z->ranks->gradient, 0, group_rank(z->ranks->gradient), &l->g);
    if (!code)
        code = use_gpus(z, l->g, &used);
    if (code || (!used && !z->split)) {
        zero_lane_end(z); /* sums through host memory are no faster in pieces */
        return code;
    }
    if (!z->set.overlap || zero_device(z) != RINGX_CPU)
        return CODE_GOOD;
    if (pthread_create(&l->thread, NULL, follow, l) != 0)
        return fail(CODE_NO_MEMORY, "no thread for the sums of gradients");
    l->threaded = true;
    return CODE_GOOD;
}

int zero_lane_start(zero *z)
{
    group *whole = z->ranks->gradient;
    if (group_ranks(whole) == 1 || (!z->set.overlap && !z->split))
        return CODE_GOOD;
    struct zero_lane *l = allocate(sizeof *l);
    size_t *bounds = allocate(((size_t)group_ranks(whole) + 1) * sizeof *bounds);
    int code = group_agree(whole, l && bounds ? CODE_GOOD : CODE_NO_MEMORY);
    if (code) {
        free(bounds);
        free(l);
        return code;
    }
    l->of = z, l->bounds = bounds;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->moved, NULL);
    z->lane = l;
    return open_lane(z, l);
}

void zero_lane_end(zero *z)
{
    struct zero_lane *l = z->lane;
    if (!l)
        return;
    if (l->threaded) {
        tell_thread(l, 0, true);
        pthread_join(l->thread, NULL);
    } else if (l->g) {
        zero_lane_drain(z);
    }
    group_destroy(l->g);
    pthread_cond_destroy(&l->moved);
    pthread_mutex_destroy(&l->lock);
    free(l->bounds);
    free(l);
    z->lane = NULL;
}

void zero_lane_begin(zero *z)
{
    struct zero_lane *l = z->lane;
    l->begun = true;
    pthread_mutex_lock(&l->lock);
    l->ready = l->done = z->model.elements;
    pthread_mutex_unlock(&l->lock);
}

bool zero_lane_runs(const zero *z)
{
    return z->lane->begun;
}

int zero_lane_ready(zero *z, size_t first)
{
    struct zero_lane *l = z->lane;
    if (!l->threaded)
        return sum_ready(l, first, false);
    tell_thread(l, first, false);
    return CODE_GOOD;
}

int zero_lane_wait(zero *z, size_t first)
{
    struct zero_lane *l = z->lane;
    return l->threaded ? wait_for_thread(l, first) : wait_for_sums(l, first);
}

int zero_lane_finish(zero *z)
{
    struct zero_lane *l = z->lane;
    l->begun = false;
    int code = l->threaded ? zero_lane_ready(z, 0) : sum_ready(l, 0, true);
    return code ? code : zero_lane_wait(z, 0);
}

void zero_lane_drain(zero *z)
{
    struct zero_lane *l = z->lane;
    l->begun = false;
    if (l->threaded)
        tell_thread(l, 0, false);
    else
        sum_ready(l, 0, false); /* the last pieces are nobody's: they begin after the ranks have agreed */
}

void zero_lane_settle(zero *z)
{
    struct zero_lane *l = z->lane;
    zero_lane_wait(z, 0);
    if (!l->threaded)
        l->done = 0;
}

void zero_lane_stop(zero *z, int code)
{
    struct zero_lane *l = z->lane;
    l->begun = false;
    pthread_mutex_lock(&l->lock);
    l->code = code;
    failure_copy(l->message);
    pthread_mutex_unlock(&l->lock);
}
