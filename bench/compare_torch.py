#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ringx against PyTorch's scaled_dot_product_attention, on the same tensors in the same run.

    compare_torch.py [--library build/libringx.so] [--device cpu|cuda] [--seq 4096] [--heads 8] [--kv-heads 8]
                     [--head-dim 64,128] [--dtype f32,bf16] [--mask full,causal] [--threads N] [--iterations N]
                     [--forward-only] [--csv FILE]

One rank.  Calls of both take turns, so that whatever else the machine does meets both alike.  Errors are relative
(Frobenius) to float64 on the same inputs.  A row for each shape, pass and implementation; ratio = their time / ours.
"""
import argparse
import csv
import ctypes
import math
import os
import statistics
import sys
import time

try:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention as sdpa
except ImportError as error:
    sys.exit(f"compare_torch.py: PyTorch is not installed ({error}); there is nothing to compare with")

I64, PTR, INT, SIZE, REAL, BOOL = (ctypes.c_int64, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_double,
                                   ctypes.c_bool)
TEXT = ctypes.c_char_p


class Problem(ctypes.Structure):  # ringx_problem
    _fields_ = [("size", SIZE), ("batch", I64), ("tokens", I64), ("q_heads", I64), ("kv_heads", I64),
                ("head_dim", I64), ("value_dim", I64), ("dtype", INT), ("scale", REAL), ("causal", BOOL),
                ("window_left", I64), ("window_right", I64), ("document_starts", PTR), ("documents", SIZE),
                ("softcap", REAL), ("dropout", REAL), ("seed", ctypes.c_uint64)]


class Options(ctypes.Structure):  # ringx_options
    _fields_ = [("size", SIZE), ("preset", TEXT), ("algorithm", TEXT), ("layout", TEXT), ("lookahead", INT),
                ("slices", INT), ("head_ranks", INT), ("ranks_per_node", INT), ("wire", INT),
                ("workspace_limit", SIZE), ("device", INT), ("kernel", TEXT), ("threads", INT), ("timeout", REAL),
                ("machine", TEXT), ("forward_only", BOOL), ("deterministic", BOOL), ("timeline", BOOL),
                ("stream", PTR)]


class Tensor(ctypes.Structure):  # ringx_tensor
    _fields_ = [("data", PTR), ("stride", I64 * 3)]


class Args(ctypes.Structure):  # ringx_args
    _fields_ = [("size", SIZE), ("q", Tensor), ("k", Tensor), ("v", Tensor), ("out", Tensor), ("lse", PTR),
                ("dout", Tensor), ("dq", Tensor), ("dk", Tensor), ("dv", Tensor), ("workspace", PTR),
                ("workspace_bytes", SIZE)]


DTYPES = {"f32": (0, torch.float32), "bf16": (1, torch.bfloat16), "f16": (2, torch.float16)}

# What PyTorch offers on each device: name, backend.
DEVICES = {
    "cpu": [("torch flash", SDPBackend.FLASH_ATTENTION)],
    "cuda": [("torch cudnn", SDPBackend.CUDNN_ATTENTION), ("torch flash", SDPBackend.FLASH_ATTENTION),
             ("torch efficient", SDPBackend.EFFICIENT_ATTENTION)],
}


class Shape:
    def __init__(self, options, head_dim, dtype, mask):
        self.batch, self.tokens = options.batch, options.seq
        self.heads, self.kv_heads = options.heads, options.kv_heads or options.heads
        self.dim, self.dtype, self.causal = head_dim, dtype, mask == "causal"

    def flops(self, backward):
        pairs = self.tokens * (self.tokens + 1) / 2 if self.causal else self.tokens**2
        return 4 * self.dim * pairs * self.heads * self.batch * (2.5 if backward else 1)

    def __str__(self):
        return (f"b{self.batch} s{self.tokens} {self.heads}:{self.kv_heads} d{self.dim} {self.dtype} "
                f"{'causal' if self.causal else 'full'}")


class Ringx:
    """One rank on tensors [batch][token][head][dim]."""
    name = "ringx"

    def __init__(self, library, shape, tensors, device, threads):
        self.lib = library
        self.comm, self.plan = PTR(), PTR()
        problem = Problem(size=ctypes.sizeof(Problem), batch=shape.batch, tokens=shape.tokens, q_heads=shape.heads,
                          kv_heads=shape.kv_heads, head_dim=shape.dim, dtype=DTYPES[shape.dtype][0],
                          causal=shape.causal, window_left=-1, window_right=-1)
        options = Options(size=ctypes.sizeof(Options), preset=b"ringX3", lookahead=-1, threads=threads,
                          device=device == "cuda")
        if device == "cuda":
            options.stream = torch.cuda.current_stream().cuda_stream
        self.check(self.lib.ringx_comm_self(ctypes.byref(self.comm)))
        self.check(self.lib.ringx_plan_create(ctypes.byref(self.plan), ctypes.byref(problem), ctypes.byref(options),
                                              self.comm))
        size = self.lib.ringx_plan_workspace(self.plan)
        q, k, v, dout = tensors
        self.workspace = torch.empty(size + 128, dtype=torch.uint8, device=device)
        start = -self.workspace.data_ptr() % 128
        self.out = torch.full_like(dout, math.nan)
        self.lse = torch.full((shape.batch, shape.heads, shape.tokens), math.nan, device=device)
        self.grads = [torch.full_like(x, math.nan) for x in (q, k, v)]
        self.args = Args(size=ctypes.sizeof(Args), lse=self.lse.data_ptr(), workspace=self.workspace.data_ptr() + start,
                         workspace_bytes=size)
        names = ("q", "k", "v", "dout", "out", "dq", "dk", "dv")
        for name, tensor in zip(names, [*tensors, self.out, *self.grads]):
            setattr(self.args, name, Tensor(data=tensor.data_ptr()))

    def check(self, status):
        if status:
            sys.exit(f"compare_torch.py: ringx: {self.lib.ringx_last_error().decode()}")

    def forward(self):
        self.check(self.lib.ringx_forward(self.plan, ctypes.byref(self.args)))

    def backward(self):
        self.check(self.lib.ringx_backward(self.plan, ctypes.byref(self.args)))

    def results(self):
        return [self.out, *self.grads]

    def close(self):
        self.lib.ringx_plan_destroy(self.plan)
        self.lib.ringx_comm_destroy(self.comm)


class Torch:
    """PyTorch on the same tensors, seen as it wants them: [batch][head][token][dim]."""

    def __init__(self, name, backend, shape, tensors):
        self.name, self.backend, self.shape = name, backend, shape
        self.q, self.k, self.v = (x.transpose(1, 2).detach().requires_grad_() for x in tensors[:3])
        self.dout = tensors[3].transpose(1, 2)

    def forward(self):
        with sdpa_kernel([self.backend]):
            self.out = sdpa(self.q, self.k, self.v, is_causal=self.shape.causal,
                            enable_gqa=self.shape.heads != self.shape.kv_heads)

    def backward(self):
        self.grads = torch.autograd.grad(self.out, (self.q, self.k, self.v), self.dout, retain_graph=True)

    def results(self):
        return [x.detach().transpose(1, 2) for x in (self.out, *getattr(self, "grads", ()))]

    def close(self):
        pass


def exact(shape, tensors, forward_only):
    """out, dq, dk, dv in float64, a query head at a time: the scores of one head are all that must fit."""
    group = shape.heads // shape.kv_heads
    q, k, v, dout = (x.double() for x in tensors)
    out, grads = torch.zeros_like(dout), [torch.zeros_like(x) for x in (q, k, v)]
    for b in range(shape.batch):
        for h in range(shape.heads):
            kv = h // group
            leaves = [q[b, :, h].clone().requires_grad_(), k[b, :, kv].clone().requires_grad_(),
                      v[b, :, kv].clone().requires_grad_()]
            scores = leaves[0] @ leaves[1].T / math.sqrt(shape.dim)
            if shape.causal:
                dead = torch.ones_like(scores, dtype=torch.bool).triu(1)
                scores = scores.masked_fill(dead, -math.inf)
            result = scores.softmax(-1) @ leaves[2]
            out[b, :, h] = result.detach()
            if not forward_only:
                part = torch.autograd.grad(result, leaves, dout[b, :, h])
                grads[0][b, :, h] = part[0]
                grads[1][b, :, kv] += part[1]
                grads[2][b, :, kv] += part[2]
    return [out] if forward_only else [out, *grads]


def timed(work, device):
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def usable(candidate):
    """A backend may refuse a shape or be missing from a build."""
    try:
        candidate.forward()
        return True
    except RuntimeError:
        print(f"  {candidate.name} does not do {candidate.shape}", file=sys.stderr)
        return False


def error_of(got, want):
    """The largest relative error of the tensors; NaN stays NaN."""
    errors = [((x.double() - y).norm() / y.norm()).item() for x, y in zip(got, want)]
    return math.nan if any(math.isnan(e) for e in errors) else max(errors)


def compare(options, library, shape):
    torch.manual_seed(1)
    sizes = [(shape.batch, shape.tokens, heads, shape.dim)
             for heads in (shape.heads, shape.kv_heads, shape.kv_heads, shape.heads)]
    tensors = [torch.randn(size).to(DTYPES[shape.dtype][1]).to(options.device) for size in sizes]
    ours = Ringx(library, shape, tensors, options.device, options.threads)
    theirs = [t for t in (Torch(name, backend, shape, tensors) for name, backend in DEVICES[options.device])
              if usable(t)]
    everyone = [ours, *theirs]
    times = {(one.name, backward): [] for one in everyone for backward in (False, True)}
    for i in range(-options.warmup, options.iterations):
        for one in everyone:
            for backward in (False,) if options.forward_only else (False, True):
                seconds = timed(one.backward if backward else one.forward, options.device)
                if i >= 0:
                    times[one.name, backward].append(seconds)
    want = exact(shape, tensors, options.forward_only)
    rows = []
    for backward in (False,) if options.forward_only else (False, True):
        mine = statistics.median(times[ours.name, backward])
        for one in everyone:
            median, least = statistics.median(times[one.name, backward]), min(times[one.name, backward])
            part = slice(1, None) if backward else slice(0, 1)
            rows.append({"shape": str(shape), "pass": "backward" if backward else "forward", "what": one.name,
                         "ms": 1e3 * median, "min_ms": 1e3 * least, "gflops": 1e-9 * shape.flops(backward) / median,
                         "ratio": median / mine, "error": error_of(one.results()[part], want[part])})
    ours.close()
    return rows


def open_library(path):
    here = os.path.dirname(os.path.abspath(__file__))
    for candidate in [path] if path else [os.path.join(here, "..", "build", "libringx.so"), "libringx.so"]:
        try:
            library = ctypes.CDLL(candidate)
            break
        except OSError as error:
            why = error
    else:
        sys.exit(f"compare_torch.py: {why}; build ringx and give its path with --library")
    library.ringx_last_error.restype = TEXT
    library.ringx_plan_workspace.restype = SIZE
    for name in ("ringx_plan_workspace", "ringx_plan_destroy", "ringx_comm_destroy"):
        getattr(library, name).argtypes = [PTR]
    library.ringx_plan_create.argtypes = [PTR, PTR, PTR, PTR]
    library.ringx_forward.argtypes = library.ringx_backward.argtypes = [PTR, PTR]
    return library


def print_rows(rows):
    print(f"{'shape':42} {'pass':9} {'what':16} {'ms':>10} {'min ms':>10} {'GFLOP/s':>10} {'ratio':>6} {'error':>8}")
    for r in rows:
        print(f"{r['shape']:42} {r['pass']:9} {r['what']:16} {r['ms']:10.3f} {r['min_ms']:10.3f} {r['gflops']:10.1f} "
              f"{r['ratio']:6.2f} {r['error']:8.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", metavar="LIBRARY", dest="shared_object")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seq", type=int, default=4096)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--kv-heads", type=int, default=0)
    parser.add_argument("--head-dim", default="64,128")
    parser.add_argument("--dtype", default="f32,bf16")
    parser.add_argument("--mask", default="full,causal")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--forward-only", action="store_true")
    parser.add_argument("--csv")
    options = parser.parse_args()
    for name, known in (("dtype", DTYPES), ("mask", {"full", "causal"})):
        for given in getattr(options, name).split(","):
            if given not in known:
                parser.error(f"--{name} {given} is unknown; there are {', '.join(sorted(known))}")
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("compare_torch.py: PyTorch sees no CUDA device here; use --device cpu")
    torch.set_num_threads(options.threads)
    library, rows = open_library(options.shared_object), []
    for head_dim in map(int, options.head_dim.split(",")):
        for dtype in options.dtype.split(","):
            for mask in options.mask.split(","):
                rows += compare(options, library, Shape(options, head_dim, dtype, mask))
    print(f"PyTorch {torch.__version__}, {options.threads} threads" if options.device == "cpu" else
          f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}")
    print_rows(rows)
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return any(not r["error"] < 0.05 for r in rows if r["what"] == "ringx")


if __name__ == "__main__":
    sys.exit(main())
