#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ten steps of AdamW (PyTorch's) and of LAMB (written here) on the tiny Llama of tests/data/llama, in double.

Writes steps.safetensors into that folder: for each optimizer the loss before every step, the gradient norms before
clipping, and of each parameter at the end every 7th value (at most 64) and the norm of its change.
Needs PyTorch, NumPy and safetensors; usage: make_steps.py FOLDER
"""
import json
import math
import sys

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

STEPS, DECAY, CLIP, EPS = 10, 0.1, 1.0, 1e-8
ADAM = {"lr": 2e-3, "betas": (0.9, 0.95)}
LAMB = {"lr": 6e-3, "betas": (0.9, 0.999)}


def frequencies(config):
    rope = config["rope_parameters"]
    dim = config["head_dim"]
    plain = rope["rope_theta"] ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    result = []
    for f in plain.tolist():
        wave = 2 * math.pi / f
        original, low, high = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"]
        if wave > original / low:
            f = f / rope["factor"]
        elif wave >= original / high:
            m = (original / wave - low) / (high - low)
            f = (1 - m) * f / rope["factor"] + m * f
        result.append(f)
    return torch.tensor(result, dtype=torch.float64)


def norm(x, weight, eps):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def turn(x, angle):  # x [batch, heads, tokens, dim]
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def loss_of(weights, config, tokens, targets):
    heads, kv, dim, eps = (config[k] for k in ("num_attention_heads", "num_key_value_heads", "head_dim", "rms_norm_eps"))
    batch, length = tokens.shape
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequencies(config)[None]
    hidden = torch.full((length, length), -math.inf, dtype=torch.float64).triu(1)
    x = weights["model.embed_tokens.weight"][tokens]
    for layer in range(config["num_hidden_layers"]):
        w = lambda name: weights[f"model.layers.{layer}.{name}.weight"]
        split = lambda y, n: y.view(batch, length, n, dim).transpose(1, 2)
        n = norm(x, w("input_layernorm"), eps)
        q = turn(split(n @ w("self_attn.q_proj").T, heads), angle)
        k = turn(split(n @ w("self_attn.k_proj").T, kv), angle).repeat_interleave(heads // kv, 1)
        v = split(n @ w("self_attn.v_proj").T, kv).repeat_interleave(heads // kv, 1)
        seen = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(dim) + hidden, -1) @ v
        x = x + seen.transpose(1, 2).reshape(batch, length, heads * dim) @ w("self_attn.o_proj").T
        n = norm(x, w("post_attention_layernorm"), eps)
        gate = n @ w("mlp.gate_proj").T
        x = x + (gate * torch.sigmoid(gate) * (n @ w("mlp.up_proj").T)) @ w("mlp.down_proj").T
    logits = norm(x, weights["model.norm.weight"], eps) @ weights["lm_head.weight"].T
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


class Lamb:  # DeepSpeed's form: no bias correction inside the direction
    def __init__(self, groups, lr, betas):
        self.groups, self.lr, self.betas, self.step_number, self.state = groups, lr, betas, 0, {}

    def zero_grad(self):
        for group in self.groups:
            for p in group["params"]:
                p.grad = None

    @torch.no_grad()
    def step(self):
        self.step_number += 1
        b1, b2 = self.betas
        rate = self.lr * math.sqrt(1 - b2**self.step_number) / (1 - b1**self.step_number)
        for group in self.groups:
            for p in group["params"]:
                m, v = self.state.setdefault(p, (torch.zeros_like(p), torch.zeros_like(p)))
                m.mul_(b1).add_((1 - b1) * p.grad)
                v.mul_(b2).add_((1 - b2) * p.grad**2)
                u = m / (v.sqrt() + EPS) + group["weight_decay"] * p
                wn, un = p.norm().item(), u.norm().item()
                trust = min(max(wn / un, 0.01), 10.0) if wn > 0 and un > 0 else 1.0
                p.sub_(rate * trust * u)


def run(name, folder, config, result):
    first = {k: torch.tensor(v, dtype=torch.float64) for k, v in load_file(f"{folder}/model.safetensors").items()}
    weights = {k: v.clone().requires_grad_() for k, v in first.items()}
    data = load_file(f"{folder}/reference.safetensors")
    tokens, targets = (torch.tensor(data[k], dtype=torch.int64) for k in ("tokens", "targets"))
    groups = [
        {"params": [w for w in weights.values() if w.dim() == 2], "weight_decay": DECAY},
        {"params": [w for w in weights.values() if w.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, eps=EPS, **ADAM) if name == "adamw" else Lamb(groups, **LAMB)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(weights, config, tokens, targets)
        loss.backward()
        total = math.sqrt(sum((w.grad**2).sum().item() for w in weights.values()))
        for w in weights.values():
            w.grad.div_(max(1.0, (total + 1e-6) / CLIP))
        optimizer.step()
        losses.append(loss.item())
        norms.append(total)
    result[f"{name}.loss"], result[f"{name}.norm"] = np.array(losses), np.array(norms)
    for key, w in weights.items():
        w = w.detach()
        result[f"{name}.values.{key}"] = w.flatten()[::7][:64].numpy().copy()
        result[f"{name}.change.{key}"] = np.array([(w - first[key]).norm().item()])


def main():
    folder, result = sys.argv[1], {}
    with open(f"{folder}/config.json", encoding="utf-8") as f:
        config = json.load(f)
    for name in ("adamw", "lamb"):
        run(name, folder, config, result)
    print({k: v.tolist() for k, v in result.items() if k.endswith((".loss", ".norm"))})
    save_file(result, f"{folder}/steps.safetensors")


if __name__ == "__main__":
    main()
