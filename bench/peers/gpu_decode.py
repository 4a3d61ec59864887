#!/usr/bin/env python3
"""One step of decoding on the GPU: attention_cuda_bench decode beside PyTorch's scaled_dot_product_attention with one query,
same shapes and bytes, same run. The backend is named: cuDNN, and flash where cuDNN refuses. Times are of CUDA graphs of
20 calls on both sides, `plain` of 20 calls of ours without a graph; ratios above 1: Strata is faster."""

import argparse
import os
import re
import subprocess
import warnings

try:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError:
    raise SystemExit("gpu_decode: PyTorch is not installed; skipped")
from torch.nn.functional import scaled_dot_product_attention

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LINE = re.compile(r"decode (\w+) spec '(.*)' batch (\d+) heads (\d+) kv_heads (\d+) d (\d+) context (\d+) us (\S+) "
                  r"GB/s (\S+) of_copy (\S+) plain (\S+)")


def torch_step(dtype, batch, heads, kv_heads, d, context, backend):
    """Microseconds of one call, or None where the backend refuses."""
    q = torch.randn(batch, heads, 1, d, device="cuda", dtype=dtype)
    k, v = (torch.randn(batch, kv_heads, context, d, device="cuda", dtype=dtype) for _ in range(2))

    def call():
        return scaled_dot_product_attention(q, k, v, enable_gqa=heads != kv_heads)

    try:
        with sdpa_kernel(backend):
            for _ in range(3):
                call()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(20):
                    call()
            best = 1e9
            for _ in range(6):
                a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                a.record()
                graph.replay()
                b.record()
                torch.cuda.synchronize()
                best = min(best, a.elapsed_time(b) / 20)
            return best * 1e3
    except RuntimeError:
        return None


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--bench", default=os.path.join(ROOT, "build/cuda/attention_cuda_bench"), help="the program")
    args = p.parse_args()
    warnings.filterwarnings("ignore")  # why a backend refuses
    out = subprocess.run([args.bench, "decode"], stdout=subprocess.PIPE, text=True, check=True).stdout
    print(f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, {torch.cuda.get_device_name()}")
    print(out.splitlines()[0])
    print(f"{'spec':52s} {'B':>3s} {'heads':>6s} {'d':>3s} {'context':>7s} {'us':>8s} {'plain':>8s} {'GB/s':>6s} {'copy':>5s} "
          f"{'cudnn':>8s} {'x':>5s} {'flash':>8s} {'x':>5s}")
    seen = {}
    for line in out.splitlines():
        m = LINE.match(line)
        if not m:
            continue
        dtype, spec = m[1], m[2]
        b, h, g, d, n = (int(m[i]) for i in range(3, 8))
        us = float(m[8])
        key = (dtype, b, h, g, d, n)
        if key not in seen:
            kind = torch.bfloat16 if dtype == "bf16" else torch.float32
            seen[key] = [torch_step(kind, b, h, g, d, n, x) for x in
                         (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION)]
            torch.cuda.empty_cache()
        cells = "".join(f" {t:8.1f} {t / us:5.2f}" if t else f" {'-':>8s} {'-':>5s}" for t in seen[key])
        print(f"{spec:52s} {b:3d} {h:3d}/{g:<2d} {d:3d} {n:7d} {us:8.1f} {float(m[11]):8.1f} {float(m[9]):6.0f} {100 * float(m[10]):4.0f}%"
              f"{cells}", flush=True)


if __name__ == "__main__":
    main()
