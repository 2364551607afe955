/* SPDX-License-Identifier: MIT */
/* Lists of the pieces of a checkpoint, and the optimizer's states as such. */
#include "train/pieces.h"

#include "train/zero.h"

#include <stdlib.h>

static const char *const kind_names[STATE_KINDS] = {"weight", "m", "v"};

int pieces_create(piece_list *l, size_t most)
{
    *l = (piece_list){allocate(most * sizeof *l->items), allocate(most * sizeof *l->names), 0};
    return l->items && l->names ? CODE_GOOD : CODE_NO_MEMORY;
}

void pieces_free(piece_list *l)
{
    free(l->items);
    free(l->names);
    *l = (piece_list){.count = 0};
}

void pieces_add(piece_list *l, const char *kind, const checkpoint_piece *piece)
{
    checkpoint_piece *p = &l->items[l->count];
    snprintf(l->names[l->count], sizeof l->names[l->count], "%s/%s", kind, piece->name);
    *p = *piece;
    p->name = l->names[l->count++];
}

int pieces_of_states(piece_list *l, const zero *z, const checkpoint_piece *parts, int kinds, bool saving)
{
    float *const states[STATE_KINDS] = {z->master, z->m, z->v};
    const size_t *own = &z->bounds[group_rank(z->ranks->gradient)];
    size_t n = z->model.n_tensors, first = saving ? own[0] : z->first, count = saving ? own[1] - own[0] : z->count;
    int code = pieces_create(l, STATE_KINDS * n);
    for (int k = 0; k < kinds && !code; k++)
        for (size_t i = 0; i < n; i++) {
            const zero_tensor *t = &z->model.tensors[i];
            size_t begin, some;
            if (!zero_overlap(t, first, count, &begin, &some) ||
                (saving && !t->split && z->ranks->at[AXIS_TENSOR] != 0))
                continue;
            checkpoint_piece p = parts[i];
            p.begin = (int64_t)begin, p.count = (int64_t)some;
            p.values = states[k] + (t->offset + begin - z->first);
            p.device = z->model.on->ops->device;
            pieces_add(l, kind_names[k], &p);
        }
    return code;
}
