#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Efficiency over the number of GPUs, a panel a shape and pass: plot_scaling.py scaling.csv scaling.svg"""
import csv
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt


def main(source, target):
    with open(source, newline="") as f:
        rows = [r for r in csv.DictReader(f) if r["efficiency"]]
    shapes = list(dict.fromkeys((r["shape"], r["kv_heads"]) for r in rows))
    passes = ["forward", "backward"]
    figure, axes = plt.subplots(len(shapes), 2, figsize=(9, 2.6 * len(shapes)), squeeze=False, sharex=True)
    for i, (shape, heads) in enumerate(shapes):
        for j, what in enumerate(passes):
            ax = axes[i][j]
            mine = [r for r in rows if (r["shape"], r["kv_heads"], r["pass"]) == (shape, heads, what)]
            for preset in dict.fromkeys(r["preset"] for r in mine):
                points = sorted((int(r["ranks"]), 100 * float(r["efficiency"])) for r in mine if r["preset"] == preset)
                ax.plot(*zip(*points), marker="o", markersize=3, linewidth=1, label=preset)
            ax.set_title(f"{shape}, 32:{heads} heads, {what}", fontsize=9)
            ax.set_xscale("log", base=2)
            ax.set_ylim(0, 105)
            ax.grid(alpha=0.3)
            ax.set_ylabel("efficiency, %", fontsize=8)
        axes[i][0].legend(fontsize=7)
    for ax in axes[-1]:
        ax.set_xlabel("GPUs", fontsize=8)
    figure.tight_layout()
    figure.savefig(target)


main(*sys.argv[1:])
