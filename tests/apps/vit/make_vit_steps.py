#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ten steps of Adam from the tiny vision transformer of tests/data/vit, in double with PyTorch: steps.safetensors.

    make_vit_steps.py tests/data/vit

Adam (betas 0.9, 0.95; eps 1e-8; no decay), lr 2e-3, cosine over 20 steps with a warm-up of 3, the whole batch each step.
Written: loss [10] before each step, and the head's weight and the first norm's after the last.
"""
import math
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

torch.set_default_dtype(torch.float64)
DEPTH, HEADS, PATCH, EPS = 2, 4, 4, 1e-6


def forward(w, x):
    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], EPS)

    def linear(x, name):
        return F.linear(x, w[name + ".weight"], w[name + ".bias"])

    batch, channels, height, width = x.shape
    h = F.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=PATCH).flatten(2).transpose(1, 2)
    h = h + w["pos_embed"]
    tokens, embed = h.shape[1:]
    for i in range(DEPTH):
        block = f"blocks.{i}."
        n = norm(h, block + "norm1")
        q, k, v = (
            linear(n, block + "attn." + c).view(batch, tokens, HEADS, embed // HEADS).transpose(1, 2) for c in "qkv"
        )
        weights = (q @ k.transpose(-1, -2) / math.sqrt(embed // HEADS)).softmax(-1)
        h = h + linear((weights @ v).transpose(1, 2).reshape(batch, tokens, embed), block + "attn.proj")
        n = norm(h, block + "norm2")
        h = h + linear(F.gelu(linear(n, block + "mlp.fc1")), block + "mlp.fc2")
    y = F.linear(norm(h, "norm"), w["head.weight"])
    y = y.view(batch, height // PATCH, width // PATCH, PATCH, PATCH, channels)
    return y.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, height, width)


def main(folder):
    w = {k: v.double().requires_grad_() for k, v in load_file(f"{folder}/model.safetensors").items()}
    reference = load_file(f"{folder}/reference.safetensors")
    x, target = reference["input"].double(), reference["target"].double()
    optimizer = torch.optim.Adam(w.values(), lr=2e-3, betas=(0.9, 0.95), eps=1e-8)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min((n + 1) / 3, 0.5 * (1 + math.cos(math.pi * n / 20)))
    )
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        difference = (forward(w, x) - target).flatten(1).norm(dim=1)
        loss = (difference / target.flatten(1).norm(dim=1)).mean()
        loss.backward()
        optimizer.step()
        rate.step()
        losses.append(loss.item())
    assert abs(losses[0] - reference["loss"].item()) < 1e-6, "the model is not the reference's"
    after = {name: w[name].detach().float() for name in ("head.weight", "blocks.0.norm1.weight")}
    save_file({"loss": torch.tensor(losses, dtype=torch.float32), **after}, f"{folder}/steps.safetensors")
    print(losses)


main(sys.argv[1])
