#!/usr/bin/env python3
"""Causal attention, forward and backward: strata bench attention beside PyTorch's scaled_dot_product_attention on the
CPU, same shapes, same run, f32 and bf16. Ratios above 1: Strata needs less CPU time (wall time in brackets)."""

import peer

try:
    import torch
except ImportError:
    raise SystemExit("torch_attention: PyTorch is not installed (python3 -m pip install torch); skipped")
from torch.nn.functional import scaled_dot_product_attention


def torch_times(dtype, heads, time, d, repeat):
    """(wall, cpu) of forward, and of backward."""
    q, k, v = (torch.randn(1, heads, time, d).to(dtype).requires_grad_() for _ in range(3))
    grad = torch.randn(1, heads, time, d).to(dtype)
    with torch.no_grad():
        forward = peer.measure(lambda: scaled_dot_product_attention(q, k, v, is_causal=True), repeat)
    out = {}

    def before():
        q.grad = k.grad = v.grad = None
        out["o"] = scaled_dot_product_attention(q, k, v, is_causal=True)

    return forward, peer.measure(lambda: out["o"].backward(grad), repeat, before)


def main():
    p = peer.arguments(__doc__)
    p.add_argument("--time", type=int, nargs="+", default=[1024, 4096])
    p.add_argument("--heads", type=int, default=8)
    p.add_argument("--d", type=int, nargs="+", default=[64, 128])
    p.add_argument("--spec", nargs="+", default=["score=mlr ranks=16,16,16,16"],
                   help="more specs; ranks are those of the first --d, scaled for the others")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} threads, {peer.machine()}")
    rows = []
    for d in args.d:
        for time in args.time:
            specs = [scaled(s, d // args.d[0]) for s in args.spec]
            for name, flags, dtype in (("f32", [], torch.float32), ("bf16", ["--bf16"], torch.bfloat16)):
                ours = peer.strata(args, "attention", "score=standard", *specs, "--time", str(time), "--heads",
                                   str(args.heads), "--d-qk", str(d), *flags)
                theirs, seen = torch_times(dtype, args.heads, time, d, args.repeat), set()
                for r in ours:
                    if not r["what"].startswith("score=") or r["what"] in seen:
                        continue
                    seen.add(r["what"])
                    wall, cpu = theirs[r["what"].endswith("backward")]
                    rows.append([f"{name} d={d} {r['what']}", f"{r['seconds'] * 1e3:.1f}",
                                 f"{r['cpu_seconds'] * 1e3:.1f}", f"{r['gflops_per_s']:.0f}",
                                 share(r.get("of_fma") or r.get("of_bf16")), f"{cpu * 1e3:.1f}",
                                 f"{cpu / r['cpu_seconds']:.2f} ({wall / r['seconds']:.2f})"])
    peer.table(["", "ms", "cpu ms", "GFLOP/s", "of roof", "torch cpu ms", "ratio"], rows)


def scaled(spec, factor):
    """The spec with its ranks times a factor."""
    words = []
    for w in spec.split():
        key, _, value = w.partition("=")
        if key in ("ranks", "vranks"):
            w = key + "=" + ",".join(str(int(x) * factor) for x in value.split(","))
        words.append(w)
    return " ".join(words)


def share(x):
    return f"{x:.3f}" if x else ""


if __name__ == "__main__":
    main()
