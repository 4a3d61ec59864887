#!/usr/bin/env python3
"""Structured linear layers on a GPU, bf16, one run: strata bench operator beside PyTorch's dense layer (cuBLAS) and its
Monarch layer of two batched products with permuted copies, same shapes. Milliseconds; ratios above 1: Strata is faster."""

import peer

try:
    import torch
except ImportError:
    raise SystemExit("gpu_linear: PyTorch is not installed; skipped")


def milliseconds(call, repeat):
    """Median over `repeat` samples of one call, each sample long enough for the clock."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    calls = max(1, min(200, int(5 / max(start.elapsed_time(end), 1e-3))))
    times = []
    for _ in range(repeat):
        start.record()
        for _ in range(calls):
            call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / calls)
    return sorted(times)[repeat // 2]


def forward_backward(fn, x, weights, repeat):
    """Milliseconds of fn(x) alone, and of the gradients of x and the weights alone (both with the result at hand)."""
    with torch.no_grad():
        forward = milliseconds(lambda: fn(x), repeat)
    y = fn(x)
    dy = torch.randn_like(y)
    backward = milliseconds(lambda: torch.autograd.grad(y, (x, *weights), dy, retain_graph=True), repeat)
    return forward, backward


def tensor(*shape, scale=1.0):
    return (torch.randn(*shape, device="cuda") * scale).to(torch.bfloat16).requires_grad_()


def dense(n, count, repeat):
    x, w = tensor(count, n), tensor(n, n, scale=n**-0.5)
    return forward_backward(lambda v: torch.nn.functional.linear(v, w), x, [w], repeat)


def monarch(n, count, repeat):
    """blocks = the largest power of two below the square root; index maps as in the operator's README."""
    k = 1 << (n.bit_length() - 1) // 2
    p = n // k
    x, w1, w2 = tensor(count, n), tensor(k, p, p, scale=p**-0.5), tensor(p, k, k, scale=k**-0.5)

    def layer(v):
        u = torch.bmm(v.view(-1, k, p).transpose(0, 1), w1)  # (k, count, p)
        z = torch.bmm(u.permute(2, 1, 0).contiguous(), w2)  # (p, count, k)
        return z.permute(1, 2, 0).reshape(-1, n)

    return forward_backward(layer, x, [w1, w2], repeat)


def main():
    p = peer.arguments(__doc__)
    p.add_argument("--size", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    p.add_argument("--count", type=int, nargs="+", default=[1, 16, 256, 16384])
    p.add_argument("--spec", nargs="+", default=["btt", "rank=1"])
    args = p.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("gpu_linear: no GPU; skipped")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, bf16")
    rows = []
    for n in args.size:
        for count in args.count:
            ours = peer.strata(args, "operator", " ".join(args.spec), "--rows", str(n), "--cols", str(n), "--count",
                               str(count), "--device", "cuda", "--bf16")
            theirs, two = dense(n, count, args.repeat), monarch(n, count, args.repeat)
            for back, pass_ in enumerate(("forward", "backward")):
                mine = next(r for r in ours if r["what"].startswith(args.spec[0]) and r["what"].endswith(pass_))
                own = next(r for r in ours if r["what"].startswith("dense") and r["what"].endswith(pass_))
                ms = mine["seconds"] * 1e3
                rows.append([f"{n} x {n}, {count} rows, {pass_}", f"{ms:.4f}", f"{own['seconds'] * 1e3:.4f}",
                             f"{theirs[back]:.4f}", f"{two[back]:.4f}", f"{theirs[back] / ms:.2f}",
                             f"{two[back] / ms:.2f}"])
    peer.table([" ".join(args.spec), "strata", "strata dense", "torch dense", "torch monarch", "dense ratio",
                "monarch ratio"], rows)


if __name__ == "__main__":
    main()
