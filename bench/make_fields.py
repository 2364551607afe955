#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real fields repeated to the size of the original's: 20 channels of 360 x 720, for figures of speed and memory.

    make_fields.py FROM.h5 FOLDER [STEPS]

FROM.h5 is a yearly file of ringx-vit (scripts/fetch-fields makes some).  Its fields, standardised, are repeated along
both axes (each second time mirrored, so that nothing jumps) and over the channels; FOLDER gets 2000.h5 with STEPS (12)
time steps.  Needs h5py and NumPy.
"""
import pathlib
import sys

import h5py
import numpy as np

CHANNELS, HEIGHT, WIDTH = 20, 360, 720


def main(source, folder, steps=12):
    with h5py.File(source) as f:
        fields = f["fields"][: int(steps)].astype(np.float32)
    fields = np.nan_to_num((fields - np.nanmean(fields, (0, 2, 3), keepdims=True)) / np.nanstd(fields, (0, 2, 3), keepdims=True))
    _, channels, height, width = fields.shape
    mirrored = np.concatenate([fields, fields[:, :, ::-1]], 2)
    mirrored = np.concatenate([mirrored, mirrored[:, :, :, ::-1]], 3)
    whole = np.tile(mirrored, (1, -(-CHANNELS // channels), -(-HEIGHT // (2 * height)), -(-WIDTH // (2 * width))))
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    with h5py.File(f"{folder}/2000.h5", "w") as f:
        f["fields"] = whole[:, :CHANNELS, :HEIGHT, :WIDTH]


main(*sys.argv[1:])
