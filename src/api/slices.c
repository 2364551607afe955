/* SPDX-License-Identifier: MIT */
/* Into how many slices of kv heads a pass is cut: each is computed beside the transfers of the next. */
#include <math.h>

#include "api/choose.h"

/* Slices where nobody said how many; ranks up to which each of the stages between GPUs is cut. */
enum { MOST_SLICES = 4, MOST_SLICED_RANKS = 4 };

/* Slices whose tiles are all of one kernel: their transfers follow each other, first of few heads, which the first
 * tiles need soon, then of ever more. */
enum { MOST_AWAITED = 6 };

/* Rows of a CUDA kernel's tile; tiles that one slice's share of the heads should have. */
enum { TILE_ROWS = 128, LEAST_TILES = 2000 };

/* Tiles of a launch that is one of many: about four for each multiprocessor. */
enum { LAUNCH_TILES = 512 };

/* Queries of a rank for each key head: with so many, tiles are so long beside transfers that a backward's slices need
 * not taper, and equal ones take less memory. */
enum { LONG_TILES = 32768 };

/* Between GPUs, which compute fast, the first and the last transfer of a few stages count: slices hide most of them. */
static bool slices_help(const ringx_choice *c, int ranks)
{
    return ringx__choice_is(c, "headswap") || ringx__choice_is(c, "kvgather") ||
           (c->joined && ranks <= MOST_SLICED_RANKS);
}

static bool sends_queries(const ringx_choice *c, int ranks)
{
    return ringx__choice_is(c, "qbcast") && ringx__qbcast_direct(ranks, c->lookahead, c->wire);
}

/* Slices give the one-stage algorithms their overlap; the others have it from their stages.  A slice of headswap must
 * have work for all ranks that share the heads. */
static int most_slices(const ringx_choice *c, const ringx_shape *shape, int ranks)
{
    int64_t most = shape->kv_heads;
    if (ranks == 1 || c->lookahead == 0 || !slices_help(c, ranks))
        return 1;
    if (ringx__choice_is(c, "headswap"))
        most = most * ringx__headswap_parts(shape, c->head_ranks) / c->head_ranks;
    return (int)(most < 1 ? 1 : most < MOST_SLICES ? most : MOST_SLICES);
}

/* ---- several GPUs: rules ---- */

/* A kernel needs many tiles for its multiprocessors to end together. */
static ringx_slicing forward_by_tiles(const ringx_choice *c, const ringx_shape *shape, int ranks)
{
    int64_t tiles = shape->batch * shape->q_heads * (shape->tokens / ranks / TILE_ROWS), most = tiles / LEAST_TILES;
    bool whole_first = !ringx__choice_is(c, "qbcast");
    if (sends_queries(c, ranks)) /* which come first, and results last */
        most *= 4;               /* equal ones */
    else if (!whole_first)
        most = 1;
    int slices = (int)(most < 1 ? 1 : most < c->slices ? most : c->slices);
    int64_t quarter = shape->kv_heads < 4 ? 1 : shape->kv_heads / 4;
    return (ringx_slicing){
        .slices = slices, .first = whole_first && slices == 2 ? (int32_t)quarter : 0, .taper = whole_first};
}

/* Of headswap: a rank has some units of heads of its group's tokens. */
static ringx_slicing slices_of_units(const ringx_choice *c, const ringx_shape *shape, bool backward)
{
    const int32_t parts = ringx__headswap_parts(shape, c->head_ranks);
    int64_t units = shape->kv_heads * parts / c->head_ranks, tokens = shape->tokens * c->head_ranks / c->layout.ranks;
    int64_t most = shape->batch * units * (tokens / TILE_ROWS) * (backward ? 1 : shape->group / parts) / LAUNCH_TILES;
    return (ringx_slicing){.slices = (int)(most < 1 ? 1 : most < c->slices ? most : c->slices)};
}

/* Of many stages two slices, of which the second has its own tile last, hide what the last stage sends home; if each
 * launch still has tiles enough. */
static int slices_of_stages(const ringx_shape *shape, int ranks)
{
    return shape->batch * (shape->kv_heads / 2) * (shape->tokens / ranks / TILE_ROWS) >= LAUNCH_TILES ? 2 : 1;
}

static ringx_slicing backward_by_length(const ringx_choice *c, const ringx_shape *shape, int ranks)
{
    ringx_geometry g = ringx__choice_geometry(c, shape, 0);
    bool gathers = ringx__choice_is(c, "kvgather") && !ringx__queries_gather(&g);
    if (ranks > MOST_SLICED_RANKS && !gathers)
        return (ringx_slicing){.slices = slices_of_stages(shape, ranks)};
    return (ringx_slicing){.slices = c->slices, .taper = shape->tokens / ranks * shape->group < LONG_TILES};
}

/* ---- two GPUs: by what launches and transfers cost ----
 *
 * A launch takes as many turns as its tiles fill the multiprocessors, the last of them perhaps only in part; the more
 * heads in it, the less that counts.  A first transfer is hidden by the own tile of its slice, that of a backward's
 * keys by delta; the last one by the own tile of the last slice: the fewer heads in those, the less they take, and the
 * fewer tiles are cut in two.  Figures of an H200, which only weigh one against the other. */

/* The most slices of a backward that is weighed. */
enum { MOST_WEIGHED = 6 };

/* Above so many turns a launch's tiles of small heads end apart: with two slices for one, s259200 8:8 d48 took 0.6 %
 * longer, which the last turns do not explain. */
enum { SMALL_DIM = 64, MANY_TURNS = 16 };
#define DRIFT_TURNS  0.7
#define UNEVEN_TURNS 0.05

#define MULTIPROCESSORS 132.0
#define FORWARD_FLOPS   600e12
#define BACKWARD_FLOPS  520e12
#define TILE_SECONDS    5e-6  /* of a backward's tile, before and after its products */
#define LINK_BYTES      240e9 /* a second, each direction, row by row */
#define MEMORY_BYTES    4.2e12
#define STATE_BYTES     0.9e12 /* states: at the ends of tiles, where nothing else is under way */
#define DELTA_BYTES     2.4e12 /* of out and dout */
#define WIPE_BYTES      0.4e12 /* a second, beside tiles */
#define SAME            1.005  /* of two that are as good the one with less memory, */
#define FASTER          0.999  /* or else with fewer slices */

typedef struct ringx_weights { /* seconds of one kv head */
    double tiles;              /* of a launch on the own tile, or the other's */
    double turn, start;        /* a tile's time there; what it takes beside its products */
    bool even, drift;          /* all tiles are as long; but after many turns they do not end together */
    bool longer;               /* both in one launch: tiles of twice the length, else twice as many */
    bool joins, early;         /* the first slice has one launch, and the last one too (early.c) */
    double before;             /* delta, beside which a first transfer of keys runs */
    double there, back, ends;  /* transfers, with dQ that is wiped between; what is done after the last one */
    double state;              /* written and read once */
} weights;

static weights weigh(const ringx_choice *c, const ringx_shape *shape, bool backward)
{
    const ringx_mask *mask = &shape->mask;
    ringx_geometry g = {.joined = c->joined, .shape = shape};
    int64_t rows = (shape->tokens + 1) / 2;
    bool even = !mask->starts && mask->left >= mask->tokens && mask->right >= mask->tokens;
    bool queries = backward && ringx__queries_travel(&g);
    double group = (double)shape->group, tiles = ceil((double)rows / TILE_ROWS) * (double)shape->batch;
    double flops = 2.0 * (double)(shape->head_dim + shape->value_dim) * TILE_ROWS * (double)rows * (even ? 1 : 0.5);
    double speed = (backward ? BACKWARD_FLOPS / 2.5 : FORWARD_FLOPS) / MULTIPROCESSORS;
    ringx_kind out = queries ? RINGX_QDO : RINGX_KV, home = queries ? RINGX_DQ : RINGX_DKV;
    double there = (double)ringx__block_bytes(shape, out, rows, queries ? shape->group : 1);
    double back = backward ? (double)ringx__block_bytes(shape, home, rows, queries ? shape->group : 1) : 0;
    double delta = (double)ringx__block_bytes(shape, RINGX_OUT, rows, shape->q_heads) * 2;
    double state = (double)ringx__block_bytes(shape, RINGX_STATE, rows, shape->group);
    return (weights){.tiles = tiles * (backward ? 1 : group),
                     .turn = flops * (backward ? group : 1) / speed,
                     .start = backward ? TILE_SECONDS : 0,
                     .even = even,
                     .drift = even && backward && shape->head_dim <= SMALL_DIM && shape->value_dim <= SMALL_DIM,
                     .longer = !backward || queries,
                     .joins = backward && !queries,
                     .early = backward && !queries && c->early,
                     .before = backward && !queries ? delta / DELTA_BYTES : 0,
                     .there = there / LINK_BYTES + (queries ? 2 * back / WIPE_BYTES : 0),
                     .back = back / LINK_BYTES,
                     .ends = 2.5 * back / MEMORY_BYTES, /* two of floats read, one of half their size written */
                     .state = backward ? 0 : 2 * state / STATE_BYTES};
}

static double launch(const weights *w, double heads, bool both)
{
    double turns = heads * w->tiles * (both && !w->longer ? 2 : 1) / MULTIPROCESSORS;
    double last = w->even ? ceil(turns) - turns : UNEVEN_TURNS; /* what the last turn leaves free */
    if (w->drift && turns > MANY_TURNS)
        last += DRIFT_TURNS;
    return (turns + last) * (w->start + w->turn * (both && w->longer ? 2 : 1));
}

static double not_hidden(double transfer, double work)
{
    return transfer > work ? transfer - work : 0;
}

/* first: heads of the first of two slices; all heads: one slice. */
static double forward_seconds(const weights *w, double heads, double first)
{
    double own = launch(w, first, false), rest = heads - first;
    double seconds = 2 * own + first * w->state + not_hidden(first * w->there, own);
    return rest > 0 ? seconds + launch(w, rest, true) + not_hidden(heads * w->there, 2 * own) : seconds;
}

/* now: after delta.  Two slots: the blocks of a slice arrive when those of the second before it have been used. */
static double backward_seconds(const weights *w, int64_t heads, ringx_slicing cut)
{
    double now = 0, arrived = -w->before, returned = 0, done[2] = {0, 0}, ends = 0;
    for (int i = 0; i < cut.slices; i++) {
        int64_t from = ringx__slice_begin(heads, &cut, i, true), to = ringx__slice_begin(heads, &cut, i + 1, true);
        const double n = (double)(to - from), own = launch(w, n, false), both = launch(w, n, true);
        const bool last = i == cut.slices - 1, own_first = i == 0 && !w->joins;
        const bool own_last = last && !w->early && !own_first;
        arrived = fmax(arrived, done[i % 2]) + n * w->there;
        if (own_first)
            now += own;
        now = fmax(now, arrived) + (own_first || own_last ? own : both);
        done[i % 2] = now;
        returned = fmax(returned, last && w->early ? now - own : now) + n * w->back;
        if (own_last)
            now += own;
        ends = n * w->ends;
    }
    return fmax(now, returned) + ends;
}

typedef struct ringx_weighed { /* the best cut so far, the seconds of the fastest, and heads of which memory grows */
    ringx_slicing cut;
    double least;
    int64_t held;
} weighed;

static void weigh_cut(weighed *w, ringx_slicing cut, double seconds, int64_t held)
{
    if (seconds < w->least * (held < w->held ? SAME : FASTER)) {
        w->cut = cut;
        w->held = held;
    }
    w->least = fmin(seconds, w->least);
}

static int64_t largest_slice(int64_t heads, ringx_slicing cut)
{
    int64_t most = 0;
    for (int i = 0; i < cut.slices; i++) {
        int64_t n = ringx__slice_begin(heads, &cut, i + 1, true) - ringx__slice_begin(heads, &cut, i, true);
        most = n > most ? n : most;
    }
    return most;
}

static ringx_slicing weigh_forward(const ringx_choice *c, const ringx_shape *shape)
{
    weights w = weigh(c, shape, false);
    const double heads = (double)shape->kv_heads;
    weighed best = {.cut = {.slices = 1}, .least = forward_seconds(&w, heads, heads), .held = shape->kv_heads};
    for (int64_t first = shape->kv_heads / 2; first >= 1 && c->slices > 1; first--)
        weigh_cut(&best, (ringx_slicing){.slices = 2, .first = (int32_t)first},
                  forward_seconds(&w, heads, (double)first), first);
    return best.cut;
}

/* Equal slices, tapered ones, and small ones at both ends, of which none holds more than c->slices equal ones would.
 * Small launches of tiles that are not as long as each other end too unevenly: s16384 causal took 15 % longer. */
static ringx_slicing weigh_backward(const ringx_choice *c, const ringx_shape *shape)
{
    weights w = weigh(c, shape, true);
    const int64_t heads = shape->kv_heads, largest = (heads + c->slices - 1) / c->slices;
    const ringx_slicing one = {.slices = 1};
    weighed best = {.cut = one, .least = backward_seconds(&w, heads, one), .held = heads};
    for (int n = 2; n <= c->slices; n++)
        for (int taper = 1; taper >= 0; taper--) {
            ringx_slicing cut = {.slices = n, .taper = taper != 0};
            weigh_cut(&best, cut, backward_seconds(&w, heads, cut), largest_slice(heads, cut));
        }
    for (int n = 3; n <= MOST_WEIGHED && c->slices > 1 && w.even; n++)
        for (int64_t end = largest; end >= 1; end--) {
            ringx_slicing cut = {.slices = n, .first = (int32_t)end};
            const int64_t between = heads - 2 * end;
            if (between >= n - 2 && between <= largest * (n - 2))
                weigh_cut(&best, cut, backward_seconds(&w, heads, cut), largest_slice(heads, cut));
        }
    return best.cut;
}

int ringx__most_awaited(int ranks)
{
    return (RINGX_AWAITED_RUNS / RINGX_MAX_RUNS - 1) / (ranks - 1); /* beside the own ones */
}

static ringx_slicing awaited(const ringx_shape *shape, int ranks)
{
    ringx_slicing cut = {.slices = 1, .taper = true};
    const int room = ringx__most_awaited(ranks), most = room < MOST_AWAITED ? room : MOST_AWAITED;
    while (cut.slices < most && INT64_C(1) << cut.slices <= shape->kv_heads)
        cut.slices++;
    return cut;
}

void ringx__choose_slices(ringx_choice *c, const ringx_options *o, const ringx_shape *shape, int ranks)
{
    c->slices = o->slices ? o->slices : most_slices(c, shape, ranks);
    c->forward = c->backward = (ringx_slicing){.slices = c->slices};
    if (!c->joined || o->slices || o->workspace_limit || c->lookahead == 0 || ranks == 1)
        return;
    if (ringx__choice_is(c, "headswap")) {
        c->forward = slices_of_units(c, shape, false);
        c->backward = slices_of_units(c, shape, true);
    } else {
        c->forward = c->awaits   ? awaited(shape, ranks)
                     : ranks > 2 ? forward_by_tiles(c, shape, ranks)
                                 : weigh_forward(c, shape);
        c->backward = ranks == 2 ? weigh_backward(c, shape) : backward_by_length(c, shape, ranks);
    }
    c->slices = c->forward.slices > c->backward.slices ? c->forward.slices : c->backward.slices;
}
