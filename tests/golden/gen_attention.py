#!/usr/bin/env python3
"""Goldens of attention: NumPy float64, every level a T x T mask, gradients by the chain rule on whole matrices.

Run in this folder: python3 gen_attention.py. Writes attention_*.safetensors (spec and seed in the metadata)."""
import json
import struct

import numpy as np


def write(path, tensors, meta):
    header, blobs, at = {"__metadata__": meta}, [], 0
    for name, x in tensors.items():
        blob = np.ascontiguousarray(x, dtype="<f8").tobytes()
        header[name] = {"dtype": "F64", "shape": list(x.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def mask_of(t, causal, window, block, distance):
    i, j = np.arange(t)[:, None], np.arange(t)[None, :]
    m = (j <= i) if causal else np.ones((t, t), bool)
    if window is not None:
        m = m & (abs(i - j) <= window)
    if block is not None:
        m = m & ((abs(i - j) < block) if distance else (i // block == j // block))
    return m


def attention(q, k, v, do, parts, causal=True, vranks=None):
    """parts: softmaxes [(first column, ranks, blocks, scales, gain, window, distance)], gain 'none' or 'count'."""
    B, H, T, _ = q.shape
    G, dv_ = k.shape[1], v.shape[3]
    o, lse = np.zeros((B, H, T, dv_)), np.zeros((len(parts), B, H, T))
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for p, (first, ranks, blocks, scales, gain, window, distance) in enumerate(parts):
        masks = [mask_of(T, causal, window, b, distance) for b in blocks]
        depth = np.maximum(sum(m.astype(float) for m in masks), 1)
        g = 1 / depth if gain == "count" else np.ones((T, T))
        cut = first + np.concatenate([[0], np.cumsum(ranks)])
        vcut = np.concatenate([[0], np.cumsum(vranks or [dv_] + [0] * (len(ranks) - 1))])
        for b in range(B):
            for h in range(H):
                c = h * G // H
                s = np.zeros((T, T))
                for l, m in enumerate(masks):
                    a = slice(cut[l], cut[l + 1])
                    s += m * (q[b, h][:, a] @ k[b, c][:, a].T) * scales[l]
                s = np.where(masks[0], s * g, -np.inf)
                top = s.max(1, keepdims=True)
                e = np.exp(s - top)
                P = e / e.sum(1, keepdims=True)
                lse[p, b, h] = top[:, 0] + np.log(e.sum(1))
                dP = np.zeros((T, T))
                for l, m in enumerate(masks):
                    a = slice(vcut[l], vcut[l + 1])
                    o[b, h][:, a] += (P * m) @ v[b, c][:, a]
                    dv[b, c][:, a] += (P * m).T @ do[b, h][:, a]
                    dP += m * (do[b, h][:, a] @ v[b, c][:, a].T)
                dS = P * (dP - (P * dP).sum(1, keepdims=True)) * g
                for l, m in enumerate(masks):
                    a = slice(cut[l], cut[l + 1])
                    dq[b, h][:, a] += scales[l] * (m * dS) @ k[b, c][:, a]
                    dk[b, c][:, a] += scales[l] * (m * dS).T @ q[b, h][:, a]
    return o, (lse[0] if len(parts) == 1 else lse), dq, dk, dv


def golden(name, spec, seed, T, H, G, dqk, dv, parts, **options):
    r = np.random.default_rng(seed)
    q, k = r.normal(size=(2, H, T, dqk)), r.normal(size=(2, G, T, dqk))
    v, do = r.normal(size=(2, G, T, dv)), r.normal(size=(2, H, T, dv))
    names = ("o", "lse", "dq", "dk", "dv")
    out = dict(zip(names, attention(q, k, v, do, parts, **options)))
    write(f"attention_{name}.safetensors", {"q": q, "k": k, "v": v, "do": do, **out},
          {"spec": spec, "seed": str(seed), "generator": "gen_attention.py"})


golden("mlr", "score=mlr ranks=4,2,1,1 gain=count", 1, 37, 3, 1, 8, 6,
       [(0, [4, 2, 1, 1], [None, 32, 16, 8], [1 / 4, 1 / 2, 1, 1], "count", None, False)])
golden("mlr_values", "score=mlr ranks=3,3,2 blocks=48,12,4 vranks=3,2,2 causal=0", 2, 41, 2, 2, 8, 7,
       [(0, [3, 3, 2], [None, 12, 4], [1 / 3, 1 / 3, 1 / 2], "none", None, False)], causal=False, vranks=[3, 2, 2])
golden("gswa", "score=gswa ranks=3,5 window=6", 3, 35, 2, 1, 8, 5,
       [(0, [3], [None], [3**-0.5], "none", None, False), (3, [5], [None], [5**-0.5], "none", 6, False)])
