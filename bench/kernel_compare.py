#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Our CUDA kernels against PyTorch's cuDNN and FlashAttention kernels on the same tensors in the same run.

    kernel_compare.py LIBRARY [--kernel cuda-sm90] [--shapes 0,1,2] [--csv FILE] [--no-backward]

LIBRARY is libcuda_compare.so of bench/run_kernels.sh.  Times are medians of CUDA events; errors are against
float64 on a sample of heads and queries.  A backward is all of one: from out and its gradient to gradients rounded to bf16.
"""
import argparse
import ctypes
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as sdpa

# batch, tokens, q_heads, kv_heads, head_dim, value_dim, causal
SHAPES = [
    (1, 16384, 32, 32, 128, 128, False),
    (1, 16384, 32, 32, 128, 128, True),
    (1, 65536, 32, 8, 128, 128, True),
    (2, 16384, 32, 32, 64, 64, False),
    (2, 16384, 32, 32, 64, 64, True),
    (1, 16384, 16, 16, 96, 96, False),
    (1, 16384, 16, 16, 192, 128, False),
    (1, 16384, 16, 16, 256, 256, False),
    (1, 16384, 16, 16, 256, 256, True),
    (4, 8192, 16, 16, 48, 48, False),
]


def timed(works, repeats):
    """Milliseconds of each, medians; they take turns, so that a clock that drifts serves all alike."""
    times = {name: [] for name in works}
    for i in range(repeats + 2):
        for name, work in works.items():
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            work()
            end.record()
            end.synchronize()
            if i >= 2:
                times[name].append(begin.elapsed_time(end))
    return {name: statistics.median(t) for name, t in times.items()}


def relative(got, want):
    off = all_of_it = 0
    for a, b in zip(got.flatten(0, 1).split(1024), want.flatten(0, 1).split(1024)):  # in double, a piece at a time
        off += (a.double() - b.double()).square().sum()
        all_of_it += b.double().square().sum()
    error = (off / all_of_it).sqrt().item()
    return error if error == error else float("inf")


def truth(q, k, v, causal, batch, head, group, queries):
    """Rows `queries` of one head in float64."""
    s = q[batch, queries, head].double() @ k[batch, :, head // group].double().T / q.shape[-1] ** 0.5
    if causal:
        s = s.masked_fill(torch.arange(k.shape[1], device=q.device) > queries[:, None], float("-inf"))
    return torch.softmax(s, 1) @ v[batch, :, head // group].double()


class Ours:
    def __init__(self, path, name, shape, q, k, v, dout, ordered=False):
        self.lib, self.name, self.shape, self.ordered = ctypes.CDLL(path), name.encode(), shape, ordered
        self.q, self.k, self.v, self.dout = q, k, v, dout
        b, s, hq, hk, d, dv, _ = shape
        device = q.device
        self.out = torch.full((b, s, hq, dv), float("nan"), dtype=q.dtype, device=device)
        self.lse = torch.full((b, hq, s), float("nan"), device=device)
        self.delta = torch.empty((b, hq, s), device=device)
        self.scratch = torch.empty(64 << 20, dtype=torch.uint8, device=device)

    def prepare_backward(self):
        b, s, hq, hk, d, dv, _ = self.shape
        make = lambda h, w, dtype: torch.full((b, s, h, w), float("nan"), dtype=dtype, device=self.q.device)
        self.sums, self.grads = ([make(hq, d, t), make(hk, d, t), make(hk, dv, t)] for t in (torch.float32, self.q.dtype))

    def run(self, backward):
        b, s, hq, hk, d, dv, causal = self.shape
        p = lambda t: ctypes.c_void_p(t.data_ptr())
        three = lambda name: (ctypes.c_void_p * 3)(*(t.data_ptr() for t in getattr(self, name, [])))
        n = ctypes.c_int64
        status = self.lib.cuda_compare_attention(
            self.name, backward, int(self.ordered), n(b), n(s), n(hq), n(hk), n(d), n(dv), 1, int(causal), p(self.q),
            p(self.k), p(self.v), p(self.out), p(self.lse), p(self.dout), p(self.delta), three("sums"), three("grads"),
            p(self.scratch), ctypes.c_void_p(torch.cuda.current_stream().cuda_stream))
        if status:
            sys.exit("kernel failed")


def peer(args, name, backend, tensors, shape, row, error_of, grads, forward, backward):
    """Adds PyTorch's kernel to what is timed, and its errors to the row."""
    q, k, v, dout = tensors
    qt, kt, vt = (x.transpose(1, 2).detach().requires_grad_() for x in (q, k, v))

    def call():
        with sdpa_kernel(backend):
            return sdpa(qt, kt, vt, is_causal=shape[-1], enable_gqa=q.shape[2] != k.shape[2])

    def plain():
        with torch.no_grad():
            call()

    try:
        out = call()
        row[name + "_err"] = error_of(out.detach().transpose(1, 2))
        forward[name] = plain
        if not args.no_backward:
            back = lambda: torch.autograd.grad(out, (qt, kt, vt), dout.transpose(1, 2), retain_graph=True)
            row[name + "_dgrad"] = max(relative(a, t.transpose(1, 2)) for a, t in zip(grads, back()))
            backward[name] = back
    except RuntimeError as e:
        print(f"# {name}: {str(e).splitlines()[0][:100]}")


def measure(args, shape):
    b, s, hq, hk, d, dv, causal = shape
    torch.manual_seed(s + d)
    make = lambda h, w: torch.randn(b, s, h, w, device="cuda", dtype=torch.bfloat16)
    q, k, v, dout = make(hq, d), make(hk, d), make(hk, dv), make(hq, dv)
    flops = 2 * (d + dv) * b * s * s * hq * (0.5 if causal else 1)
    row = {"shape": f"b{b} s{s} {hq}:{hk} d{d}/{dv} {'causal' if causal else 'full'}"}
    queries = torch.tensor([0, 1, 63, 64, s // 2, s - 129, s - 2, s - 1], device="cuda")
    wanted = [truth(q, k, v, causal, b - 1, h, hq // hk, queries) for h in (0, hq - 1)]
    error_of = lambda out: max(relative(out[b - 1, queries, h], w) for h, w in zip((0, hq - 1), wanted))

    ours = Ours(args.shared_object, args.kernel, shape, q, k, v, dout, args.ordered)
    forward, backward = {"": lambda: ours.run(0)}, {}
    ours.run(0)
    row["err"] = error_of(ours.out)
    grads = None
    if not args.no_backward:
        ours.prepare_backward()
        ours.run(1)
        grads = [g.clone() for g in ours.grads]
        backward[""] = lambda: ours.run(1)
    for name, backend in (("cudnn", SDPBackend.CUDNN_ATTENTION), ("fa2", SDPBackend.FLASH_ATTENTION)):
        if name in args.against:
            peer(args, name, backend, (q, k, v, dout), shape, row, error_of, grads, forward, backward)
    for what, works in (("fwd", forward), ("bwd", backward)):
        row |= {f"{name}_{what}" if name else what: ms for name, ms in timed(works, args.repeats).items()}
    tf = lambda ms, m: f"{m * flops / ms * 1e-9:.0f}" if ms else "-"
    text = f"{row['shape']:38s} ours {tf(row['fwd'], 1):>4s}"
    for name in args.against:
        if row.get(name + "_fwd"):
            text += f" {name} {tf(row[name + '_fwd'], 1)} ratio {row[name + '_fwd'] / row['fwd']:.3f}"
            text += f" err {row['err']:.2e}/{row[name + '_err']:.2e}"
    if "bwd" in row:
        text += f" | bwd ours {tf(row['bwd'], 2.5):>4s}"
        for name in args.against:
            if row.get(name + "_bwd"):
                text += f" {name} {tf(row[name + '_bwd'], 2.5)} ratio {row[name + '_bwd'] / row['bwd']:.3f}"
                text += f" diff {row[name + '_dgrad']:.1e}"
    print(text, flush=True)
    torch.cuda.empty_cache()
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shared_object", metavar="library")
    parser.add_argument("--kernel", default="cuda-sm90")
    parser.add_argument("--shapes", default=",".join(str(i) for i in range(len(SHAPES))))
    parser.add_argument("--against", default="cudnn")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-backward", action="store_true")
    parser.add_argument("--ordered", action="store_true")
    parser.add_argument("--csv")
    args = parser.parse_args()
    args.against = [x for x in args.against.split(",") if x]
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    ms = timed({"product": lambda: a @ b}, 50)["product"]
    print(f"# {torch.cuda.get_device_name()} torch {torch.__version__} cudnn {torch.backends.cudnn.version()}"
          f" 8192^3 bf16 product {2 * 8192 ** 3 / ms * 1e-9:.0f} TF")
    rows = [measure(args, SHAPES[int(i)]) for i in args.shapes.split(",")]
    if args.csv:
        keys = sorted({k for r in rows for k in r})
        with open(args.csv, "w") as f:
            f.write(",".join(keys) + "\n")
            f.writelines(",".join(str(r.get(k, "")) for k in keys) + "\n" for r in rows)


if __name__ == "__main__":
    main()
