/* SPDX-License-Identifier: MIT */
/* Ranks that send messages: sums and maxima.
 *
 * Each member owns a piece: it receives everyone's contribution to it, segment by segment, and folds them in group
 * order; then the pieces go where the call wants them (nowhere: reduce_scatter; to the root: reduce; to all:
 * allreduce_max) while the next segments arrive. */
#include "comm/combine.h"
#include "comm/wire.h"
#include "core/shape.h"

#include <string.h>

enum { WIDTH = RINGX_STREAM_WIDTH };

typedef struct fold {
    ringx_group *group;
    bool max, link; /* link: from and to are the same memory, so a piece may come back only where it has left */
    ringx_dtype dtype;
    size_t width, segment;
    const unsigned char *from;
    unsigned char *result; /* segment s of the own piece goes to result + (s % ring)·segment */
    size_t ring;
    size_t segments, folded; /* of the own piece */
    size_t *out, *in;        /* [members] streams of contributions */
    size_t *deliver, *back;  /* [members] streams of results, from and to this rank */
} fold;

/* ---- sizes ------------------------------------------------------------------------------------------------------ */

static size_t fold_segment(int members)
{
    const size_t all = 4 << 20, least = 4 << 10, most = 512 << 10;
    size_t segment = all / (WIDTH * (size_t)members) / 64 * 64;
    return segment < least ? least : segment > most ? most : segment;
}

size_t ringx__fold_scratch(int ranks)
{
    size_t most = 0;
    for (int members = 1; members <= ranks; members++) {
        size_t bytes = fold_segment(members) * WIDTH * (size_t)members;
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* ---- folding ---------------------------------------------------------------------------------------------------- */

static bool segment_came(const ringx_wire *w, const fold *f, size_t s)
{
    for (int i = 0; i < f->group->members; i++) {
        if (f->in[i] != RINGX_NO_STREAM && w->streams[f->in[i]].done <= s)
            return false;
        if (f->ring == WIDTH && f->deliver[i] != RINGX_NO_STREAM && w->streams[f->deliver[i]].done + WIDTH <= s)
            return false; /* its place is still being sent */
    }
    return true;
}

static void fold_one(ringx_wire *w, const fold *f, size_t s)
{
    int me = f->group->index_of_me;
    size_t bytes = w->sizes[me] * f->width - s * f->segment;
    if (bytes > f->segment)
        bytes = f->segment;
    for (int i = 0; i < f->group->members; i++)
        w->sources[i] = i == me ? f->from + w->offsets[me] * f->width + s * f->segment
                                : w->streams[f->in[i]].data + s % WIDTH * f->segment;
    unsigned char *result = f->result + s % f->ring * f->segment;
    if (f->max)
        ringx__combine_max((const float *const *)w->sources, f->group->members, bytes / f->width, (float *)result);
    else
        ringx__combine_sum(w->sources, f->group->members, bytes / f->width, f->dtype, result);
}

static void allow(ringx_wire *w, size_t stream, size_t ready)
{
    if (stream != RINGX_NO_STREAM)
        w->streams[stream].ready = ready;
}

static void moved(ringx_wire *w, void *context)
{
    fold *f = context;
    while (f->folded < f->segments && segment_came(w, f, f->folded))
        fold_one(w, f, f->folded++);
    for (int i = 0; i < f->group->members; i++) {
        allow(w, f->in[i], f->folded + WIDTH);
        allow(w, f->deliver[i], f->folded);
        if (f->link && f->out[i] != RINGX_NO_STREAM)
            allow(w, f->back[i], w->streams[f->out[i]].done);
    }
}

/* ---- setting up ------------------------------------------------------------------------------------------------- */

/* root: member that gets the results; ALL: every one; NOBODY: each keeps its piece, at the beginning of `to`. */
enum { ALL = -1, NOBODY = -2 };

static void add_streams(ringx_wire *w, fold *f, unsigned char *to, int root)
{
    ringx_group *g = f->group;
    int me = g->index_of_me, tags[2] = {ringx__wire_tag(w, g, 0), ringx__wire_tag(w, g, 1)};
    size_t width = f->width, mine = w->sizes[me] * width;
    for (int i = 0; i < 4 * g->members; i++)
        w->places[i] = RINGX_NO_STREAM;
    for (int k = 1; k < g->members; k++) {
        int i = (me + k) % g->members, peer = g->rank_of[i];
        size_t its = w->sizes[i] * width, slot = (size_t)(k - 1) * WIDTH * f->segment;
        f->out[i] = ringx__wire_add(w, true, peer, tags[0], f->from + w->offsets[i] * width, its, f->segment, SIZE_MAX);
        f->in[i] = ringx__wire_add(w, false, peer, tags[0], w->scratch + slot, mine, f->segment, WIDTH);
        if (f->in[i] != RINGX_NO_STREAM)
            w->streams[f->in[i]].ring = WIDTH;
        if (root == ALL || root == i)
            f->deliver[i] = ringx__wire_add(w, true, peer, tags[1], f->result, mine, f->segment, 0);
        if (f->deliver[i] != RINGX_NO_STREAM)
            w->streams[f->deliver[i]].ring = f->ring;
        if (root == ALL || root == me)
            f->back[i] = ringx__wire_add(w, false, peer, tags[1], to + w->offsets[i] * width, its, f->segment,
                                         f->link ? 0 : SIZE_MAX);
    }
}

/* w->sizes and w->offsets are the members' pieces, in elements of `from`. */
static ringx_status run_fold(ringx_wire *w, fold *f, void *to, int root, const ringx_call *call)
{
    size_t members = (size_t)f->group->members, cut = ringx__wire_cut / f->width * f->width;
    int me = f->group->index_of_me;
    f->segment = fold_segment(f->group->members);
    if (f->segment > cut)
        f->segment = cut;
    f->link = to == f->from && root != NOBODY;
    f->out = w->places;
    f->in = f->out + members;
    f->deliver = f->in + members;
    f->back = f->deliver + members;
    f->ring = SIZE_MAX;
    f->result = to;
    if (root == ALL || root == me)
        f->result += w->offsets[me] * f->width;
    if (root >= 0 && root != me) { /* results pass through */
        f->ring = WIDTH;
        f->result = w->scratch + (members - 1) * WIDTH * f->segment;
    }
    f->segments = w->sizes[me] ? (w->sizes[me] * f->width - 1) / f->segment + 1 : 0;
    add_streams(w, f, to, root);
    if (members == 1)
        moved(w, f);
    return ringx__wire_run(w, call, moved, f);
}

/* Pieces of a whole; a small one is left to `owner`. */
static void cut_whole(ringx_wire *w, int members, size_t count, size_t width, int owner)
{
    const size_t line = 32;
    bool small = count * width <= ringx__wire_small;
    for (int i = 0; i < members; i++)
        w->offsets[i] = small ? (i > owner ? count : 0) : count / (size_t)members * (size_t)i / line * line;
    for (int i = 0; i < members; i++)
        w->sizes[i] = (i + 1 < members ? w->offsets[i + 1] : count) - w->offsets[i];
}

/* ---- the calls -------------------------------------------------------------------------------------------------- */

ringx_status ringx__wire_reduce(ringx_comm *comm, ringx_group *group, const void *from, void *to, size_t count,
                                ringx_dtype dtype, int root, const ringx_call *call)
{
    ringx_wire *w = (ringx_wire *)comm;
    ringx_group *g = group ? group : w->all;
    const char *what = ringx__call_what(call, RINGX_VERB_REDUCE);
    RINGX_TRY_WIRE(w, ringx__check_dtype(what, dtype));
    RINGX_TRY_WIRE(w, ringx__check_root(what, root, g->members));
    fold f = {.group = g, .dtype = dtype, .width = ringx__dtype_bytes(dtype), .from = from};
    bool is_root = g->index_of_me == root;
    RINGX_TRY_WIRE(w, ringx__check_data(what, "from", from, count * f.width));
    RINGX_TRY_WIRE(w, ringx__check_data(what, "to", to, is_root ? count * f.width : 0));
    RINGX_TRY(ringx__wire_begin(w, RINGX_VERB_REDUCE, call, 4 * (size_t)g->members));
    g->number++;
    cut_whole(w, g->members, count, f.width, root);
    return run_fold(w, &f, is_root ? to : NULL, root, call);
}

ringx_status ringx__wire_reduce_scatter(ringx_comm *comm, ringx_group *group, const void *from, void *to,
                                        const size_t *counts, const size_t *offsets, ringx_dtype dtype,
                                        const ringx_call *call)
{
    ringx_wire *w = (ringx_wire *)comm;
    ringx_group *g = group ? group : w->all;
    const char *what = ringx__call_what(call, RINGX_VERB_REDUCE_SCATTER);
    size_t total = 0, members = (size_t)g->members;
    for (size_t i = 0; i < members; i++)
        total += counts[i];
    RINGX_TRY_WIRE(w, ringx__check_dtype(what, dtype));
    fold f = {.group = g, .dtype = dtype, .width = ringx__dtype_bytes(dtype), .from = from};
    RINGX_TRY_WIRE(w, ringx__check_data(what, "from", from, total * f.width));
    RINGX_TRY_WIRE(w, ringx__check_data(what, "to", to, counts[g->index_of_me] * f.width));
    RINGX_TRY(ringx__wire_begin(w, RINGX_VERB_REDUCE_SCATTER, call, 4 * members));
    g->number++;
    memcpy(w->sizes, counts, members * sizeof *counts);
    memcpy(w->offsets, offsets, members * sizeof *offsets);
    return run_fold(w, &f, to, NOBODY, call);
}

ringx_status ringx__wire_allreduce_max(ringx_comm *comm, ringx_group *group, const float *from, float *to, size_t count,
                                       const ringx_call *call)
{
    ringx_wire *w = (ringx_wire *)comm;
    ringx_group *g = group ? group : w->all;
    const char *what = ringx__call_what(call, RINGX_VERB_ALLREDUCE_MAX);
    RINGX_TRY_WIRE(w, ringx__check_data(what, "from", from, count * sizeof *from));
    RINGX_TRY_WIRE(w, ringx__check_data(what, "to", to, count * sizeof *to));
    RINGX_TRY(ringx__wire_begin(w, RINGX_VERB_ALLREDUCE_MAX, call, 4 * (size_t)g->members));
    g->number++;
    fold f = {.group = g, .max = true, .width = sizeof(float), .from = (const unsigned char *)from};
    cut_whole(w, g->members, count, sizeof(float), 0);
    return run_fold(w, &f, to, ALL, call);
}
