"""What the peer scripts share: running strata bench, timing a call, describing the machine."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def arguments(description):
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--strata", default=os.path.join(ROOT, "build/release/strata"), help="the program")
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="of both sides")
    p.add_argument("--repeat", type=int, default=9, help="timed calls; the medians count")
    return p


def strata(args, *words):
    """Rows of one strata bench run, as dicts."""
    command = [args.strata, "bench", *words, "--json", "--repeat", str(args.repeat), "--threads", str(args.threads)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def measure(call, repeat, before=lambda: None):
    """(median wall seconds, median CPU seconds of the process) of call(), `before` not counted."""
    wall, cpu = [], []
    for i in range(repeat + 1):
        before()
        w, c = time.monotonic(), time.process_time()
        call()
        c, w = time.process_time() - c, time.monotonic() - w
        if i:  # the first one warms up
            wall.append(w)
            cpu.append(c)
    return sorted(wall)[len(wall) // 2], sorted(cpu)[len(cpu) // 2]


def machine():
    """Processor, instruction sets, threads and load, one line each."""
    name, flags = platform.processor(), ""
    try:
        with open("/proc/cpuinfo") as f:
            info = dict(line.split(":", 1) for line in f if ":" in line)
        name = next(v.strip() for k, v in info.items() if k.startswith("model name"))
        flags = next(v for k, v in info.items() if k.startswith("flags"))
    except (OSError, StopIteration):
        pass
    isa = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags.split()]
    return f"{name}, {os.cpu_count()} processors, {' '.join(isa)}; load {os.getloadavg()[0]:.1f}"


def table(header, rows):
    """Print rows of strings under a header, columns aligned."""
    cells = [header, *rows]
    width = [max(len(r[i]) for r in cells) for i in range(len(header))]
    for r in cells:
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, width))))
    sys.stdout.flush()
