/* SPDX-License-Identifier: MIT */
/* The tensor × context × data layout: places of ranks, and the groups along the axes. */
#include "train/group.h"

#include <string.h>

static const axis usual_order[AXES] = {AXIS_TENSOR, AXIS_CONTEXT, AXIS_DATA};

static int check(parallel *p, const int size[AXES], const axis order[AXES])
{
    int ranks = group_ranks(p->world), seen = 0;
    long long product = 1;
    for (int i = 0; i < AXES; i++) {
        seen |= 1 << order[i];
        p->size[i] = size[i];
        p->order[i] = order[i];
    }
    if (seen != (1 << AXES) - 1)
        return fail(CODE_CONFIGURATION, "the order of axes must name tensor, context and data once each");
    if (size[AXIS_TENSOR] < 1 || size[AXIS_CONTEXT] < 1 || size[AXIS_DATA] < 0)
        return fail(CODE_CONFIGURATION, "tensor %d × context %d × data %d ranks: each must be at least 1",
                    size[AXIS_TENSOR], size[AXIS_CONTEXT], size[AXIS_DATA]);
    if (size[AXIS_DATA] == 0) {
        p->size[AXIS_DATA] = ranks / size[AXIS_TENSOR] / size[AXIS_CONTEXT];
        p->size[AXIS_DATA] += p->size[AXIS_DATA] == 0;
    }
    for (int i = 0; i < AXES; i++)
        product *= p->size[i];
    return product == ranks
               ? CODE_GOOD
               : fail(CODE_CONFIGURATION, "tensor %d × context %d × data %d ranks are %lld, but there are %d",
                      p->size[AXIS_TENSOR], p->size[AXIS_CONTEXT], p->size[AXIS_DATA], product, ranks);
}

/* Number of the group that one gets when the axes in `along` run and the others stand still: same place, same color. */
static int color_of(const parallel *p, unsigned along)
{
    int color = 0;
    for (int i = 0; i < AXES; i++)
        if (!(along & 1u << i))
            color = color * p->size[i] + p->at[i];
    return color;
}

int parallel_create(parallel *p, group *world, const int size[AXES], const axis order[AXES])
{
    *p = (parallel){.world = world};
    int code = group_agree(world, check(p, size, order ? order : usual_order));
    if (code)
        return code;
    int rest = group_rank(world);
    for (int i = 0; i < AXES; i++) {
        axis a = p->order[i];
        p->at[a] = rest % p->size[a];
        rest /= p->size[a];
    }
    group **parts[] = {&p->tensor, &p->context, &p->data, &p->gradient};
    unsigned along[] = {1u << AXIS_TENSOR, 1u << AXIS_CONTEXT, 1u << AXIS_DATA, 1u << AXIS_CONTEXT | 1u << AXIS_DATA};
    int key[] = {p->at[AXIS_TENSOR], p->at[AXIS_CONTEXT], p->at[AXIS_DATA],
                 p->at[AXIS_CONTEXT] + p->size[AXIS_CONTEXT] * p->at[AXIS_DATA]};
    for (int i = 0; i < 4 && !code; i++)
        code = group_agree(world, group_split(world, color_of(p, along[i]), key[i], parts[i]));
    if (code)
        parallel_destroy(p);
    return code;
}

void parallel_destroy(parallel *p)
{
    group_destroy(p->gradient);
    group_destroy(p->data);
    group_destroy(p->context);
    group_destroy(p->tensor);
    *p = (parallel){.world = p->world};
}
