#!/usr/bin/env python3
"""Structured linear layers: strata bench operator beside a dense torch.nn.functional.linear, f32 (--bf16: PyTorch with
bf16 tensors, Strata with f32 arrays whose products round), same shapes, same run. Ratios above 1: Strata needs less CPU time (wall time in brackets)."""

import peer

try:
    import torch
except ImportError:
    raise SystemExit("torch_linear: PyTorch is not installed (python3 -m pip install torch); skipped")


def torch_times(n, count, repeat, dtype):
    """(wall, cpu) of forward, and of backward (both gradients)."""
    x = torch.randn(count, n, dtype=dtype, requires_grad=True)
    w = torch.randn(n, n, dtype=dtype, requires_grad=True)
    grad = torch.randn(count, n, dtype=dtype)
    with torch.no_grad():
        forward = peer.measure(lambda: torch.nn.functional.linear(x, w), repeat)
    out = {}

    def before():
        x.grad = w.grad = None
        out["y"] = torch.nn.functional.linear(x, w)

    return forward, peer.measure(lambda: out["y"].backward(grad), repeat, before)


def main():
    p = peer.arguments(__doc__)
    p.add_argument("--size", type=int, nargs="+", default=[1024, 4096])
    p.add_argument("--count", type=int, nargs="+", default=[1, 16, 1024])
    p.add_argument("--spec", nargs="+", default=["btt rank=1"])
    p.add_argument("--bf16", action="store_true", help="both sides in bf16")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} threads, {peer.machine()}")
    rows = []
    for n in args.size:
        for count in args.count:
            ours = peer.strata(args, "operator", "dense", *args.spec, "--rows", str(n), "--cols", str(n), "--count",
                               str(count), *(["--bf16"] if args.bf16 else []))
            theirs = torch_times(n, count, args.repeat, torch.bfloat16 if args.bf16 else torch.float32)
            seen = set()
            for r in ours:
                if f"{n}x{n}" not in r["what"] or r["what"] in seen:
                    continue
                seen.add(r["what"])
                wall, cpu = theirs[r["what"].endswith("backward")]
                rows.append([r["what"], f"{r['seconds'] * 1e3:.3f}", f"{r['cpu_seconds'] * 1e3:.3f}",
                             f"{cpu * 1e3:.3f}", f"{cpu / r['cpu_seconds']:.2f} ({wall / r['seconds']:.2f})"])
    peer.table(["bf16" if args.bf16 else "f32", "ms", "cpu ms", "torch dense cpu ms", "ratio"], rows)


if __name__ == "__main__":
    main()
