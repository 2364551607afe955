#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What ringx-gpt evaluate must say of a text of bytes, by the double model of make_steps.py.

Prints loss (windows of LENGTH predictions), and the ln p of TEXT's last CHOICE bytes after the others.
Needs PyTorch, NumPy and safetensors; usage: make_scores.py FOLDER LENGTH TEXT CHOICE
"""
import json
import sys

import torch
from make_steps import loss_of
from safetensors.numpy import load_file

folder, length, text, choice = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode(), int(sys.argv[4])
with open(f"{folder}/config.json", encoding="utf-8") as f:
    config = json.load(f)
weights = {k: torch.tensor(v, dtype=torch.float64) for k, v in load_file(f"{folder}/model.safetensors").items()}
ids = torch.tensor(list(text))


def nll(window, first):  # Σ −ln p of window[first …]
    targets = window[1:].clone()
    targets[: first - 1] = -100
    return loss_of(weights, config, window[None, :-1], targets[None]).item() * (len(window) - first)


total = sum(nll(ids[at : at + length + 1], 1) for at in range(0, len(ids) - 1, length))
print(f"loss {total / (len(ids) - 1):.6f}")
print(f"choice {-nll(ids, len(ids) - choice):.6f}")
