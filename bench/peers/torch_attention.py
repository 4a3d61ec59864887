#!/usr/bin/env python3
"""Causal attention, forward and backward: strata bench attention beside PyTorch's scaled_dot_product_attention on the
CPU, same shapes, same run. Ratios above 1: Strata needs less CPU time (wall time in brackets)."""

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
            ours = peer.strata(args, "attention", "score=standard", *specs, "--time", str(time), "--heads",
                               str(args.heads), "--d-qk", str(d))
            theirs = {t: torch_times(t, args.heads, time, d, args.repeat) for t in (torch.float32, torch.bfloat16)}
            seen = set()
            for r in ours:
                if not r["what"].startswith("score=") or r["what"] in seen:
                    continue
                seen.add(r["what"])
                backward = r["what"].endswith("backward")
                cells = [f"d={d} {r['what']}", f"{r['seconds'] * 1e3:.1f}", f"{r['cpu_seconds'] * 1e3:.1f}",
                         share(r["of_fma"])]
                for wall, cpu in (t[backward] for t in theirs.values()):
                    cells += [f"{cpu * 1e3:.1f}", f"{cpu / r['cpu_seconds']:.2f} ({wall / r['seconds']:.2f})"]
                rows.append(cells)
    peer.table(["f32", "ms", "cpu ms", "of fma", "torch f32 cpu ms", "ratio", "torch bf16 cpu ms", "ratio"], rows)


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
