/* SPDX-License-Identifier: MIT */
/* Gradients are summed while backward goes on.
 *
 * Backward finishes gradients from the last parameters to the first, so that all that is known of it is one number:
 * elements from `ready` on are final.  The lane follows in buckets that are the same on all ranks, over a group of its
 * own, since a group does one thing at a time.  Sums are element by element in the order of the ranks: the same bits as
 * without a lane. */
#include "train/zero_parts.h"

#include <pthread.h>
#include <stdlib.h>

struct zero_lane {
    const zero *of;
    group *g;
    size_t *bounds; /* of a bucket */
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    /* under the lock */
    size_t ready, done; /* elements from here on are final; are summed.  Both 0: nothing to do */
    bool end;
    int code;
    char message[MESSAGE_BYTES]; /* of code: this thread's, brought to the caller's */
};

/* First element of the bucket below `done`. */
static size_t bucket_below(const zero *z, size_t done)
{
    size_t bucket = z->set.bucket;
    return bucket && done > bucket ? done - bucket : 0;
}

static void *follow(void *context)
{
    struct zero_lane *l = context;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        size_t first = bucket_below(l->of, l->done), count = l->done - first;
        if (count && l->ready <= first) {
            int code = l->code;
            pthread_mutex_unlock(&l->lock);
            if (!code) {
                code = zero_sum_range(l->of, l->g, first, count, l->bounds);
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

int zero_lane_start(zero *z)
{
    group *whole = z->ranks->gradient;
    if (!z->set.overlap || zero_device(z) != RINGX_CPU || group_ranks(whole) == 1)
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
    code = group_split(whole, 0, group_rank(whole), &l->g);
    if (!code && pthread_create(&l->thread, NULL, follow, l) != 0)
        code = fail(CODE_NO_MEMORY, "no thread for the sums of gradients");
    l->running = !code;
    return code;
}

void zero_lane_end(zero *z)
{
    struct zero_lane *l = z->lane;
    if (!l)
        return;
    if (l->running) {
        pthread_mutex_lock(&l->lock);
        l->ready = 0;
        l->end = true;
        pthread_cond_broadcast(&l->moved);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->thread, NULL);
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
    pthread_mutex_lock(&l->lock);
    l->ready = l->done = z->model.elements;
    pthread_mutex_unlock(&l->lock);
}

void zero_lane_ready(zero *z, size_t first)
{
    struct zero_lane *l = z->lane;
    pthread_mutex_lock(&l->lock);
    if (first < l->ready) {
        l->ready = first;
        pthread_cond_broadcast(&l->moved);
    }
    pthread_mutex_unlock(&l->lock);
}

int zero_lane_wait(zero *z)
{
    struct zero_lane *l = z->lane;
    pthread_mutex_lock(&l->lock);
    while (l->done)
        pthread_cond_wait(&l->moved, &l->lock);
    int code = l->code;
    pthread_mutex_unlock(&l->lock);
    if (code)
        failure_set(l->message);
    return code;
}
