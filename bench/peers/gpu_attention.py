#!/usr/bin/env python3
"""Attention on a GPU, forward and backward in bf16: strata bench attention --device cuda beside PyTorch's
scaled_dot_product_attention with the cuDNN backend (named, because the default backend is slower on Hopper), same shapes,
same run. TFLOP/s count useful FLOPs: the causal half; of MLR the prefixes. Ratios above 1: Strata is faster. With
--reference also MLR as published: one T x T score matrix per level in PyTorch."""

import time as clock

import peer

try:
    import torch
except ImportError:
    raise SystemExit("gpu_attention: PyTorch is not installed; skipped")
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention


def median_ms(call, repeat):
    """Median of `repeat` samples, taken as strata bench takes its own: after matrix products that heat the chip, which
    then lowers its clock, and with a wait after every 5 ms of calls."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(20):
        a @ a
    n, times = 1, []
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    while len(times) < repeat:
        start = clock.monotonic()
        for _ in range(n):
            call()
        torch.cuda.synchronize()
        took = clock.monotonic() - start
        if not times and took < 5e-3 and n < 4096:
            n *= 2
        else:
            times.append(took / n * 1e3)
    return sorted(times)[len(times) // 2]


def cudnn_ms(batch, heads, time, d, repeat):
    """(forward, backward) of full causal attention."""
    q, k, v = (torch.randn(batch, heads, time, d, device="cuda", dtype=torch.bfloat16).requires_grad_() for _ in range(3))
    grad = torch.randn_like(q)
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        with torch.no_grad():
            forward = median_ms(lambda: scaled_dot_product_attention(q, k, v, is_causal=True), repeat)
        o = scaled_dot_product_attention(q, k, v, is_causal=True)
        backward = median_ms(lambda: torch.autograd.grad(o, (q, k, v), grad, retain_graph=True), repeat)
    return forward, backward


def reference_ms(batch, heads, time, ranks, repeat):
    """(forward, backward) of MLR by its definition: a masked T x T product per level."""
    d = sum(ranks)
    q, k, v = (torch.randn(batch, heads, time, d, device="cuda", dtype=torch.bfloat16).requires_grad_() for _ in range(3))
    grad = torch.randn_like(q)
    at = torch.arange(time, device="cuda")
    causal = at[:, None] >= at[None, :]

    def attention():
        score, first = 0, 0
        for level, r in enumerate(ranks):
            block = time >> level
            same = (at[:, None] // block) == (at[None, :] // block)
            part = (q[..., first:first + r] @ k[..., first:first + r].transpose(-1, -2)) / r
            score = score + torch.where(same, part, 0)
            first += r
        return torch.softmax(score.masked_fill(~causal, float("-inf")), -1) @ v

    with torch.no_grad():
        forward = median_ms(attention, repeat)
    o = attention()
    return forward, median_ms(lambda: torch.autograd.grad(o, (q, k, v), grad, retain_graph=True), repeat)


def scaled(spec, factor):
    """The spec with its ranks times a factor."""
    words = []
    for w in spec.split():
        key, _, value = w.partition("=")
        if key in ("ranks", "vranks"):
            w = key + "=" + ",".join(str(round(int(x) * factor)) for x in value.split(","))
        words.append(w)
    return " ".join(words)


def main():
    p = peer.arguments(__doc__)
    p.set_defaults(threads=1)
    p.add_argument("--time", type=int, nargs="+", default=[2048, 8192, 16384])
    p.add_argument("--d", type=int, nargs="+", default=[128, 64])
    p.add_argument("--tokens", type=int, default=32768, help="batch x time")
    p.add_argument("--heads", type=int, default=16)
    p.add_argument("--spec", nargs="+", default=["score=mlr ranks=64,16,16,16,16", "score=mlr ranks=32,32,32,32",
                                                 "score=mlr ranks=64,16,16,16,16 vranks=64,16,16,16,16",
                                                 "score=mlr ranks=32,32,32,32 vranks=32,32,32,32"],
                   help="ranks are those of d = 128, scaled for the others")
    p.add_argument("--reference", action="store_true", help="also the T x T formulation, at T = 4096")
    args = p.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("gpu_attention: no GPU; skipped")
    print(f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, {torch.cuda.get_device_name()}")
    rows = []
    for d in args.d:
        for time in args.time:
            batch = max(args.tokens // time, 1)
            specs = [scaled(s, d / 128) for s in args.spec]
            ours = peer.strata(args, "attention", *specs, "--time", str(time), "--heads", str(args.heads), "--batch",
                               str(batch), "--d-qk", str(d), "--device", "cuda", "--bf16")
            theirs = cudnn_ms(batch, args.heads, time, d, args.repeat)
            seen = set()
            for r in ours:
                if not r["what"].startswith("score=") or r["what"] in seen:
                    continue
                seen.add(r["what"])
                ms = theirs[r["what"].endswith("backward")]
                rows.append([f"d={d} B={batch} {r['what']}", r["variant"], f"{r['seconds'] * 1e3:.3f}",
                             f"{r['gflops_per_s'] * 1e-3:.0f}", f"{ms:.3f}", f"{ms / (r['seconds'] * 1e3):.2f}",
                             f"{r['speedup']:.2f}" if r.get("speedup") else "", f"{r['promised']:.2f}" if r.get("promised") else ""])
    peer.table(["bf16, causal", "variant", "ms", "TFLOP/s", "cuDNN full ms", "ratio", "over own full", "FLOPs promise"], rows)
    if args.reference:
        ranks = [64, 16, 16, 16, 16]
        ours = peer.strata(args, "attention", "score=mlr ranks=" + ",".join(map(str, ranks)), "--time", "4096", "--heads",
                           str(args.heads), "--batch", "1", "--d-qk", "128", "--device", "cuda", "--bf16")
        mine = {r["what"].rsplit(" ", 1)[1]: r["seconds"] * 1e3 for r in ours if "mlr" in r["what"]}
        for name, ms in zip(("forward", "backward"), reference_ms(1, args.heads, 4096, ranks, 3)):
            print(f"T x T formulation, T=4096, d=128, {name}: {ms:.2f} ms, ours {mine[name]:.3f} ms, ratio {ms / mine[name]:.1f}")


if __name__ == "__main__":
    main()
