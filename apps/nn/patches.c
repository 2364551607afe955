/* SPDX-License-Identifier: MIT */
/* Patches of images as rows of a matrix, on CPUs; with a linear layer that is the patch embedding (a convolution whose
 * stride is its size; the weight [out][channels][patch][patch] is the linear layer's). */
#include "nn/nn_cpu.h"
#include "nn/rows.h"

#include "shared/report.h"

/* Copies between the piece of a row of the image and the piece of a patch that are the same pixels. */
static void move(const nn_patches *p, void *image, void *patch, bool gather)
{
    float buffer[NN_BLOCK];
    ringx_dtype from = gather ? p->image.dtype : p->patches.dtype, to = gather ? p->patches.dtype : p->image.dtype;
    for (int64_t i = 0; i < p->patch; i += NN_BLOCK) {
        int64_t n = nn_least(NN_BLOCK, p->patch - i);
        void *source = gather ? image : patch, *target = gather ? patch : image;
        source = (char *)source + (size_t)i * dtype_bytes(from);
        target = (char *)target + (size_t)i * dtype_bytes(to);
        const float *values = nn_load(from, source, n, buffer);
        if (to == RINGX_F32)
            memcpy(target, values, (size_t)n * sizeof *values);
        nn_store(to, target, n, values);
    }
}

static int move_all(const nn_patches *p, bool gather)
{
    if (p->patch < 1 || p->height % p->patch || p->width % p->patch)
        return fail(CODE_CONFIGURATION, "patch is %lld; it must divide the image's height %lld and width %lld",
                    (long long)p->patch, (long long)p->height, (long long)p->width);
    int64_t across = p->width / p->patch, row = p->channels * p->patch * p->patch;
#pragma omp parallel for schedule(static) if (nn_worth(p->batch * p->tokens * row))
    for (int64_t i = 0; i < p->batch * p->tokens; i++) {
        int64_t position = p->positions ? p->positions[i % p->tokens] : i % p->tokens;
        for (int64_t line = 0; line < p->channels * p->patch; line++) {
            int64_t channel = line / p->patch, y = position / across * p->patch + line % p->patch;
            int64_t first = ((i / p->tokens * p->channels + channel) * p->height + y) * p->width;
            move(p, nn_at(&p->image, 0, 0, first + position % across * p->patch),
                 nn_at(&p->patches, row, i, line * p->patch), gather);
        }
    }
    return CODE_GOOD;
}

int nn_cpu_patches_gather(const nn_context *on, const nn_patches *p)
{
    (void)on;
    return move_all(p, true);
}

int nn_cpu_patches_scatter(const nn_context *on, const nn_patches *p)
{
    (void)on;
    return move_all(p, false);
}
