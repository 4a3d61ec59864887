#!/usr/bin/env python3
"""Causal attention, forward: strata bench attention beside ggml's flash attention on the CPU, same shapes, same run. Give
a built ggml: its source tree (with include/ and the libraries anywhere below), or a prefix it is installed in. Ratios
above 1: Strata needs less CPU time (wall time in brackets)."""

import glob
import os
import subprocess
import tempfile

import peer


def build(ggml, folder):
    """The timing program, linked with the libraries found below the path."""
    headers = [os.path.dirname(p) for p in glob.glob(os.path.join(ggml, "**/ggml-cpu.h"), recursive=True)]
    libraries = {}
    for name in ("ggml", "ggml-cpu", "ggml-base"):
        found = [p for end in ("so", "a") for p in glob.glob(os.path.join(ggml, f"**/lib{name}.{end}"), recursive=True)]
        if found:
            libraries[name] = os.path.abspath(found[0])
    if not headers or "ggml-cpu" not in libraries or "ggml-base" not in libraries:
        raise SystemExit(f"ggml_attention: no ggml-cpu.h, libggml-cpu and libggml-base below {ggml}")
    program = os.path.join(folder, "ggml_attention")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ggml_attention.c")
    paths = ["-Wl,-rpath," + d for d in sorted({os.path.dirname(p) for p in libraries.values()})]
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-std=gnu11", "-I", headers[0], source, "-o", program, *paths,
                    *libraries.values(), "-fopenmp", "-lstdc++", "-lm", "-ldl", "-lpthread"], check=True)
    return program


def main():
    p = peer.arguments(__doc__)
    p.add_argument("--ggml", help="path of a ggml build; without it nothing is timed")
    p.add_argument("--time", type=int, nargs="+", default=[1024, 4096], help="multiples of 64")
    p.add_argument("--heads", type=int, default=8)
    p.add_argument("--d", type=int, nargs="+", default=[64, 128])
    args = p.parse_args()
    if not args.ggml:
        raise SystemExit("ggml_attention: no --ggml PATH of a ggml build; skipped")
    print(f"{args.threads} threads, {peer.machine()}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        program = build(args.ggml, folder)
        for d in args.d:
            for time in args.time:
                ours = peer.strata(args, "attention", "score=standard", "--time", str(time), "--heads", str(args.heads),
                                   "--d-qk", str(d))
                ours = next(r for r in ours if r["what"].startswith("score=") and not r["what"].endswith("backward"))
                cells = [f"d={d} T={time} forward", f"{ours['cpu_seconds'] * 1e3:.1f}"]
                for kind in ("f32", "f16"):
                    words = [program, str(time), str(args.heads), str(d), str(args.threads), str(args.repeat), kind]
                    run = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
                    wall, cpu, error = map(float, run.stdout.split())
                    cells += [f"{cpu * 1e3:.1f}", f"{cpu / ours['cpu_seconds']:.2f} ({wall / ours['seconds']:.2f})",
                              f"{error:.1e}"]
                rows.append(cells)
    peer.table(["f32", "cpu ms", "ggml f32 cpu ms", "ratio", "error", "ggml f16 keys cpu ms", "ratio", "error"], rows)


if __name__ == "__main__":
    main()
