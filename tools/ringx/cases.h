/* SPDX-License-Identifier: MIT */
/* Random cases for `ringx verify`: case k is a function of the seed, k and the filters alone. */
#ifndef RINGX_COMMAND_CASES_H
#define RINGX_COMMAND_CASES_H

#include "launch.h"

#define MAX_STARTS 18

typedef struct drawn {
    ringx_problem problem; /* document_starts points into starts */
    ringx_options options; /* threads are left to the caller */
    int64_t starts[MAX_STARTS];
    int ranks;
    mask_kind mask;
    double size;  /* standard deviation of q and k */
    uint64_t key; /* of the inputs and strides */
    bool repeat, strided;
} drawn;

/* The first cases go through every preset × mask × dtype asked for; the others draw them. */
void case_draw(const settings *s, const int64_t ranks[2], uint64_t index, drawn *d);
/* "ringX3, packed, bf16, 5 ranks, 1 x 37 tokens, …" */
void case_describe(const drawn *d, char *text, size_t bytes);

#endif
