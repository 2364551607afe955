/* SPDX-License-Identifier: MIT */
/* Writes checkpoints: every rank its file, rank 0 the rest, and nothing counts until the last rename. */
#include "train/checkpoint.h"

#include "shared/safetensors.h"
#include "train/crc32c.h"
#include "train/device_data.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct saving {
    group *world;
    const checkpoint_save_info *s;
    const char *prefix;
    char final[PATH_MAX - 64], part[PATH_MAX - 32]; /* <prefix><n>, <prefix><n>.tmp */
    uint32_t *crcs;
    bool published;
} saving;

static int prepare(saving *w)
{
    const checkpoint_save_info *s = w->s;
    int n = snprintf(w->final, sizeof w->final, "%s/%.60s%lld", s->folder, w->prefix, (long long)s->iteration);
    if (n >= (int)sizeof w->final)
        return fail(CODE_CANNOT_WRITE, "%s: too long a path", s->folder);
    snprintf(w->part, sizeof w->part, "%s.tmp", w->final);
    w->crcs = allocate(s->n_pieces * sizeof *w->crcs);
    if (!w->crcs)
        return CODE_NO_MEMORY;
    if (group_rank(w->world) != 0)
        return CODE_GOOD;
    int code = folder_make(s->folder);
    if (!code)
        code = folder_remove_cut(s->folder, w->prefix);
    return code ? code : folder_make(w->part);
}

typedef struct piece_output {
    st_output *to;
    uint32_t *crc;
} piece_output;

static int write_values(void *context, float *values, size_t first, size_t count)
{
    (void)first;
    const piece_output *o = context;
    *o->crc = crc32c(*o->crc, values, count * sizeof *values);
    return st_write(o->to, values, count * sizeof *values);
}

/* This rank's pieces, and the checksums of their values. */
static int write_pieces(saving *w)
{
    const checkpoint_save_info *s = w->s;
    char path[PATH_MAX + 40], name[40];
    st_output *o;
    manifest_file_name(name, (size_t)group_rank(w->world));
    snprintf(path, sizeof path, "%s/%s", w->part, name);
    int code = st_create(&o, path);
    if (code)
        return code;
    for (size_t i = 0; i < s->n_pieces && !code; i++)
        code = st_declare(o, s->pieces[i].name, ST_F32, 1, &s->pieces[i].count);
    for (size_t i = 0; i < s->n_pieces && !code; i++) {
        const checkpoint_piece *p = &s->pieces[i];
        piece_output to = {o, &w->crcs[i]};
        code = device_walk(p->device, p->values, (size_t)p->count, false, write_values, &to);
    }
    if (!code)
        return st_commit(o);
    st_abandon(o);
    return code;
}

/* Every rank's part of the manifest, as texts one after the other, on all ranks. */
static int gather_parts(saving *w, json_t **ranks)
{
    int n = group_ranks(w->world), code = CODE_GOOD;
    json_t *own = manifest_of_rank(group_rank(w->world), w->s->pieces, w->crcs, w->s->n_pieces);
    char *text = own ? json_dumps(own, JSON_COMPACT) : NULL, *all = NULL;
    size_t length = text ? strlen(text) : 0, *bounds = allocate(((size_t)n + 1) * sizeof *bounds);
    json_decref(own);
    *ranks = json_array();
    if (!text || !bounds || !*ranks)
        code = fail(CODE_NO_MEMORY, "%s: no memory for its manifest", w->final);
    code = group_agree(w->world, code);
    if (!code)
        code = group_gather(w->world, &length, sizeof length, bounds + 1);
    for (int r = 0; r < n && !code; r++)
        bounds[r + 1] += bounds[r];
    if (!code) {
        all = allocate(bounds[n] + 1);
        code = group_agree(w->world, all ? CODE_GOOD : CODE_NO_MEMORY);
    }
    if (!code) {
        memcpy(all + bounds[group_rank(w->world)], text, length);
        code = group_all_gather(w->world, all, bounds);
    }
    for (int r = 0; r < n && !code && group_rank(w->world) == 0; r++)
        if (json_array_append_new(*ranks, json_loadb(all + bounds[r], bounds[r + 1] - bounds[r], 0, NULL)) != 0)
            code = fail(CODE_NO_MEMORY, "%s: no memory for its manifest", w->final);
    free(all);
    free(bounds);
    free(text);
    return code;
}

static int write_manifest(const saving *w, json_t *ranks)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/manifest.json", w->part);
    json_t *manifest =
        json_pack("{s:I, s:O, s:O}", "iteration", (json_int_t)w->s->iteration, "state", w->s->state, "ranks", ranks);
    char *text = manifest ? manifest_text(manifest) : NULL;
    json_decref(manifest);
    int code = text ? folder_write_text(path, text) : fail(CODE_NO_MEMORY, "%s: no memory for it", path);
    free(text);
    return code;
}

static int copy_configuration(const saving *w)
{
    char to[PATH_MAX + 256];
    snprintf(to, sizeof to, "%s/configs", w->part);
    int code = w->s->files ? folder_make(to) : CODE_GOOD;
    for (const char *const *file = w->s->files; !code && file && *file; file++) {
        const char *slash = strrchr(*file, '/');
        snprintf(to, sizeof to, "%s/configs/%s", w->part, slash ? slash + 1 : *file);
        code = folder_copy_file(*file, to);
    }
    if (!code && w->s->files) {
        snprintf(to, sizeof to, "%s/configs", w->part);
        code = folder_sync(to);
    }
    return code;
}

/* The moment from which the checkpoint is there.  One of the same name (a run that went back) is exchanged for it. */
static int publish(saving *w)
{
    int code = folder_sync(w->part);
    if (code)
        return code;
    bool there = access(w->final, F_OK) == 0;
    if (there ? renameat2(AT_FDCWD, w->part, AT_FDCWD, w->final, RENAME_EXCHANGE) != 0 : rename(w->part, w->final) != 0)
        return fail(CODE_CANNOT_WRITE, "%s: cannot be renamed from %s: %s", w->final, w->part, strerror(errno));
    w->published = true;
    return folder_sync(w->s->folder);
}

/* What is done after the checkpoint is safe: `latest`, and the removal of what is too old. */
static int tidy(const saving *w)
{
    char path[PATH_MAX], text[64];
    int64_t *steps;
    size_t count;
    snprintf(path, sizeof path, "%s/latest", w->s->folder);
    snprintf(text, sizeof text, "%.40s%lld", w->s->prefix ? "" : w->prefix, (long long)w->s->iteration);
    int code = folder_write_text(path, text);
    if (!code)
        code = folder_remove(w->part); /* the exchanged one */
    if (!code)
        code = folder_steps(w->s->folder, w->prefix, &steps, &count);
    if (code)
        return code;
    size_t kept = 0;
    for (size_t i = 0; i < count && !code && w->s->keep > 0; i++) {
        char old[PATH_MAX], gone[PATH_MAX + 8];
        if (steps[i] <= w->s->iteration && kept++ < (size_t)w->s->keep)
            continue;
        if (steps[i] > w->s->iteration) /* of a run that went further, and was gone back from */
            continue;
        snprintf(old, sizeof old, "%s/%.60s%lld", w->s->folder, w->prefix, (long long)steps[i]);
        snprintf(gone, sizeof gone, "%s.tmp", old);
        if (rename(old, gone) != 0)
            code = fail(CODE_CANNOT_WRITE, "%s: cannot be removed: %s", old, strerror(errno));
        else
            code = folder_remove(gone);
    }
    free(steps);
    return code;
}

int checkpoint_save(group *world, const checkpoint_save_info *s)
{
    saving w = {.world = world, .s = s, .prefix = s->prefix ? s->prefix : CHECKPOINT_PREFIX};
    json_t *ranks = NULL;
    bool first = group_rank(world) == 0;
    int code = group_agree(world, prepare(&w));
    if (!code)
        code = group_agree(world, write_pieces(&w));
    if (!code)
        code = gather_parts(&w, &ranks);
    if (!code && first)
        code = copy_configuration(&w);
    if (!code && first)
        code = write_manifest(&w, ranks);
    code = group_agree(world, code);
    if (!code && first)
        code = publish(&w);
    code = group_agree(world, code);
    if (code && first) { /* leave no room taken: the disk may be full */
        char why[MESSAGE_BYTES];
        failure_copy(why);
        if (!w.published)
            folder_remove(w.part);
        failure_set(why);
    } else if (!code && first) {
        code = tidy(&w);
    }
    json_decref(ranks);
    free(w.crcs);
    return group_agree(world, code);
}
