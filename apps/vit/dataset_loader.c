/* SPDX-License-Identifier: MIT */
/* Batches in their order: threads fill slots ahead of the one that is in use. */
#include "vit/dataset_parts.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct slot {
    int64_t sequence; /* of the batch that it holds or is being filled with */
    bool ready;
    int code; /* of reading; with its message */
    char message[MESSAGE_BYTES];
    vit_batch batch;
    int64_t *samples;
    float *values; /* input, then target */
} slot;

struct vit_loader {
    vit_dataset *data;
    vit_sampler sampler;
    vit_band band;
    int64_t batches;         /* of an epoch */
    size_t image;            /* values of a sample's band */
    int64_t *order, ordered; /* of epoch `ordered`; -1: none yet */
    slot *slots;
    int64_t n_slots, n_threads;
    pthread_t *threads;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t start, claimed, given; /* batches counted from `start`: claimed for reading, given out */
    int64_t busy;                  /* threads that read */
    bool pause, stop;
};

/* Gives the next batch to slot *s: its number and samples.  Inside the lock. */
static int claim(vit_loader *l, slot **s)
{
    int64_t place = l->start + l->claimed, epoch = place / l->batches, number = place % l->batches;
    slot *mine = &l->slots[l->claimed % l->n_slots];
    int code = CODE_GOOD;
    if (l->ordered != epoch) {
        code = vit_sampler_order(&l->sampler, epoch, l->order);
        l->ordered = code ? -1 : epoch;
    }
    mine->sequence = l->claimed++;
    mine->ready = false;
    mine->code = code;
    size_t count = (size_t)l->sampler.batch;
    memcpy(mine->samples, l->order + number * l->sampler.batch, count * sizeof *mine->samples);
    mine->batch = (vit_batch){.epoch = epoch,
                              .number = number,
                              .samples = mine->samples,
                              .input = mine->values,
                              .target = mine->values + count * l->image};
    *s = mine;
    return code;
}

static void fill_slot(vit_loader *l, slot *s)
{
    size_t count = (size_t)l->sampler.batch;
    for (size_t i = 0; i < count && !s->code; i++) {
        vit_moment m = vit_dataset_sample(l->data, s->samples[i]);
        vit_moment later = {.year = m.year, .step = m.step + l->data->options.dt};
        s->code = vit_dataset_read(l->data, m, l->band, s->values + i * l->image);
        if (!s->code)
            s->code = vit_dataset_read(l->data, later, l->band, s->values + (count + i) * l->image);
    }
    if (s->code)
        failure_copy(s->message);
}

static void *work(void *context)
{
    vit_loader *l = context;
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        /* the batch given out last stays valid: its slot is not free */
        if (l->pause || l->claimed >= l->given + l->n_slots - 1) {
            pthread_cond_wait(&l->changed, &l->lock);
            continue;
        }
        slot *s;
        int code = claim(l, &s);
        l->busy++;
        pthread_mutex_unlock(&l->lock);
        if (code)
            failure_copy(s->message);
        else
            fill_slot(l, s);
        pthread_mutex_lock(&l->lock);
        l->busy--;
        s->ready = true;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static int make_slots(vit_loader *l)
{
    size_t values, batch = (size_t)l->sampler.batch;
    if (!multiply(batch, 2 * l->image, &values) || !multiply(values, sizeof(float), &values))
        return fail(CODE_NO_MEMORY, "a batch of %zu samples is too large", batch);
    l->slots = allocate((size_t)l->n_slots * sizeof *l->slots);
    for (int64_t i = 0; i < l->n_slots && l->slots; i++) {
        l->slots[i].samples = allocate(batch * sizeof(int64_t));
        l->slots[i].values = allocate(values);
        if (!l->slots[i].samples || !l->slots[i].values)
            return CODE_NO_MEMORY;
    }
    l->order = allocate((size_t)l->batches * batch * sizeof *l->order);
    return l->slots && l->order ? CODE_GOOD : CODE_NO_MEMORY;
}

static int start_threads(vit_loader *l, int64_t threads)
{
    l->threads = allocate((size_t)threads * sizeof *l->threads);
    if (!l->threads)
        return CODE_NO_MEMORY;
    while (l->n_threads < threads) {
        if (pthread_create(&l->threads[l->n_threads], NULL, work, l) != 0)
            return fail(CODE_NO_MEMORY, "a thread that reads ahead cannot be started");
        l->n_threads++;
    }
    return CODE_GOOD;
}

int vit_loader_open(vit_loader **result, vit_dataset *d, const vit_sampler *s, vit_band band, int64_t threads)
{
    vit_loader *l = allocate(sizeof *l);
    *result = NULL;
    if (!l)
        return CODE_NO_MEMORY;
    *l = (vit_loader){.data = d, .sampler = *s, .band = band, .ordered = -1, .n_slots = threads + 1};
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    l->batches = vit_sampler_batches(s);
    l->image = (size_t)(d->options.channels * band.count * d->options.longitudes);
    int code = CODE_GOOD;
    if (l->batches == 0)
        code = fail(CODE_CONFIGURATION, "%s: %lld samples over %lld data-parallel ranks give no whole batch of %lld",
                    d->options.folder, (long long)s->samples, (long long)s->ranks, (long long)s->batch);
    if (!code)
        code = make_slots(l);
    if (!code)
        code = start_threads(l, threads);
    if (code)
        vit_loader_close(l);
    else
        *result = l;
    return code;
}

void vit_loader_close(vit_loader *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    for (int64_t i = 0; i < l->n_threads; i++)
        pthread_join(l->threads[i], NULL);
    for (int64_t i = 0; i < l->n_slots && l->slots; i++) {
        free(l->slots[i].samples);
        free(l->slots[i].values);
    }
    free(l->slots);
    free(l->threads);
    free(l->order);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

int vit_loader_seek(vit_loader *l, int64_t epoch, int64_t number)
{
    if (epoch < 0 || number < 0)
        return fail(CODE_INTERNAL, "there is no batch %lld of epoch %lld", (long long)number, (long long)epoch);
    pthread_mutex_lock(&l->lock);
    l->pause = true; /* nobody begins another one */
    while (l->busy)
        pthread_cond_wait(&l->changed, &l->lock);
    l->start = epoch * l->batches + number;
    l->claimed = l->given = 0;
    l->pause = false;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return CODE_GOOD;
}

int vit_loader_next(vit_loader *l, vit_batch *batch)
{
    pthread_mutex_lock(&l->lock);
    int64_t wanted = l->given++;
    slot *s = &l->slots[wanted % l->n_slots];
    if (l->n_threads == 0) {
        if (claim(l, &s) == CODE_GOOD)
            fill_slot(l, s);
    } else {
        pthread_cond_broadcast(&l->changed);
        while (l->claimed <= wanted || s->sequence != wanted || !s->ready)
            pthread_cond_wait(&l->changed, &l->lock);
        if (s->code)
            failure_set(s->message);
    }
    *batch = s->batch;
    int code = s->code;
    pthread_mutex_unlock(&l->lock);
    return code;
}
