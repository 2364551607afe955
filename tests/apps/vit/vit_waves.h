/* SPDX-License-Identifier: MIT */
/* A folder with a small configuration, and fields in which waves travel: something to learn. */
#ifndef RINGX_TEST_VIT_WAVES_H
#define RINGX_TEST_VIT_WAVES_H

#include "apps/vit/vit_fields.h"

#include "shared/numbers.h"
#include "train/checkpoint.h"

enum { HEIGHT = 6, WIDTH = 10 }; /* 3 x 5 = 15 patches */

static const char waves_yaml[] = "small:\n"
                                 "  embed_dim: 16\n  depth: 2\n  num_heads: 4\n  patch_size: 2\n  img_size: [6, 10]\n"
                                 "  n_in_channels: 3\n  n_out_channels: 3\n  global_batch_size: 4\n  num_iters: 14\n"
                                 "  lr: 5e-3\n  lr_schedule: 'cosine'\n  warmup: 3\n  num_data_workers: 0\n  seed: 7\n";

static inline void put_waves(const char *sub, int64_t year, int64_t steps)
{
    double latitudes[HEIGHT], longitudes[WIDTH];
    float values[3 * HEIGHT * WIDTH];
    vit_channel channels[3] = {{"u", "m/s", 0, 1}, {"v", "m/s", 0, 1}, {"t", "K", 0, 1}};
    char name[64];
    fields_output *o;
    for (int j = 0; j < HEIGHT; j++)
        latitudes[j] = 75 - 30 * j;
    for (int i = 0; i < WIDTH; i++)
        longitudes[i] = 36 * i;
    mkdir(in_folder(sub), 0777);
    snprintf(name, sizeof name, "%s/%lld.h5", sub, (long long)year);
    fields_size size = {steps, 3, HEIGHT, WIDTH};
    must(fields_create(&o, in_folder(name), &size, &(fields_axes){latitudes, longitudes, NULL, channels}));
    for (int64_t t = 0; t < steps; t++) {
        for (int i = 0; i < 3 * HEIGHT * WIDTH; i++) {
            int c = i / (HEIGHT * WIDTH), row = i / WIDTH % HEIGHT, column = i % WIDTH;
            double phase = 0.628 * (column - (1 + c) * (double)t) + 0.9 * row + (double)year;
            values[i] = (float)(sin(phase) + 0.3 * (double)random_normal((uint64_t)(year * 100 + t), (uint64_t)i));
        }
        must(fields_write(o, t, values));
    }
    must(fields_commit(o));
}

static inline int make_data(void **state)
{
    if (make_folder(state))
        return -1;
    put_waves("train", 1990, 13);
    put_waves("train", 1991, 11);
    put_waves("valid", 1992, 8);
    return folder_write_text(in_folder("vit.yaml"), waves_yaml);
}

#endif
