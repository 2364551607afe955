#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Random small Llamas of Hugging Face transformers against ringx-gpt: plain, llama3 rope scaling, tied head.

Each is saved by transformers, evaluated and continued by ringx-gpt, exported by ringx-gpt and loaded by transformers
again: the loss agrees within 1e-5, greedy texts are equal, logits of the export are those of the original bit by bit.
Needs PyTorch and transformers; usage: check_transformers.py RINGX_GPT WORK_FOLDER
"""
import json
import subprocess
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

program, work = sys.argv[1:3]
SHAPE = dict(hidden_size=256, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2, intermediate_size=704,
             vocab_size=512, max_position_embeddings=1024, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
SCALED = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32, rope_theta=5e5)
PLAIN = dict(rope_type="default", rope_theta=5e5)
CASES = {"plain": (PLAIN, False), "scaled": (SCALED, False), "tied": (PLAIN, True)}
TEXT = ("The state of the union is strong, and it will be stronger. " * 3)[:129]
BYTES = ["--tokenizer-type", "CharLevelTokenizer"]


def ringx(*arguments):
    return subprocess.run([program, *arguments], check=True, capture_output=True).stdout


for name, (rope, tied) in CASES.items():
    torch.manual_seed(len(name))
    config = LlamaConfig(**SHAPE, rope_parameters=rope, tie_word_embeddings=tied)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 2:
                p.mul_(3)  # far from uniform
    folder = f"{work}/{name}"
    model.save_pretrained(folder)
    with open(f"{work}/text", "w", encoding="ascii") as f:
        f.write(TEXT)
    ids = torch.tensor([list(TEXT.encode())])
    with torch.no_grad():
        logits = model(ids).logits
    right = torch.nn.functional.cross_entropy(logits[0, :-1].double(), ids[0, 1:]).item()
    ringx("evaluate", "--model", folder, *BYTES, "--input", f"{work}/text", "--output", f"{work}/result.json")
    with open(f"{work}/result.json", encoding="ascii") as f:
        found = json.load(f)["loss"]
    assert abs(found - right) <= 1e-5 * right, (name, found, right)
    with torch.no_grad():  # greedy among the bytes
        text = ids
        for _ in range(20):
            text = torch.cat([text, model(text).logits[:, -1:, :256].argmax(-1)], 1)
            if text[0, -1] == 0:
                text = text[:, :-1]
                break
    written = ringx("generate", "--model", folder, *BYTES, "--prompt", TEXT, "--maximum-tokens", "20")
    assert written == bytes(text[0].tolist()) + b"\n", (name, written)
    ringx("convert", "--model", folder, "--output", f"{folder}-export")
    again = LlamaForCausalLM.from_pretrained(f"{folder}-export", dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.equal(again(ids).logits, logits), name
    print(f"{name}: loss {found:.6f}, as transformers")
