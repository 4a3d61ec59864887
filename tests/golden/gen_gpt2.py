#!/usr/bin/env python3
"""Golden files of GPT-2: random weights of a tiny model in the published layout, and its logits in float64.

    python3 tests/golden/gen_gpt2.py tests/golden/gpt2.safetensors tests/golden/gpt2_logits.safetensors

Independent of Strata: the forward pass is written from the published description (layer norm before attention and MLP,
learned positions, tanh form of GELU, head tied to the token table, matrices stored (in, out)). `size` is the sum of
absolute values of the head's products: the scale of a logit's rounding error. Made with NumPy; the seed fixes all numbers.
"""
import json
import struct
import sys

import numpy as np

LAYERS, D, HEADS, F, T, V = 2, 24, 3, 80, 20, 256


def weights(rng):
    w = {"wte.weight": 0.3 * rng.standard_normal((V, D)), "wpe.weight": 0.2 * rng.standard_normal((T, D))}
    norm = lambda n: {n + ".weight": 1 + 0.2 * rng.standard_normal(D), n + ".bias": 0.2 * rng.standard_normal(D)}
    linear = lambda n, i, o: {n + ".weight": rng.standard_normal((i, o)) / np.sqrt(i), n + ".bias": 0.2 * rng.standard_normal(o)}
    for l in range(LAYERS):
        h = f"h.{l}."
        w |= norm(h + "ln_1") | linear(h + "attn.c_attn", D, 3 * D) | linear(h + "attn.c_proj", D, D)
        w |= norm(h + "ln_2") | linear(h + "mlp.c_fc", D, F) | linear(h + "mlp.c_proj", F, D)
        w[h + "attn.bias"] = np.tril(np.ones((1, 1, T, T)))  # a buffer that readers pass over
    w |= norm("ln_f")
    return {k: x.astype(np.float32) for k, x in w.items()}


def layer_norm(x, w, n):
    c = x - x.mean(-1, keepdims=True)
    return c / np.sqrt((c * c).mean(-1, keepdims=True) + 1e-5) * w[n + ".weight"] + w[n + ".bias"]


def forward(w, tokens):
    n = len(tokens)
    linear = lambda x, k: x @ w[k + ".weight"] + w[k + ".bias"]
    x = w["wte.weight"][tokens] + w["wpe.weight"][:n]
    for l in range(LAYERS):
        h = f"h.{l}."
        q, k, v = np.split(linear(layer_norm(x, w, h + "ln_1"), h + "attn.c_attn"), 3, -1)
        out = []
        for a in range(HEADS):
            c = slice(a * D // HEADS, (a + 1) * D // HEADS)
            s = q[:, c] @ k[:, c].T / np.sqrt(D // HEADS)
            s[np.triu_indices(n, 1)] = -np.inf
            p = np.exp(s - s.max(-1, keepdims=True))
            out.append(p / p.sum(-1, keepdims=True) @ v[:, c])
        x = x + linear(np.concatenate(out, -1), h + "attn.c_proj")
        m = linear(layer_norm(x, w, h + "ln_2"), h + "mlp.c_fc")
        m = 0.5 * m * (1 + np.tanh(np.sqrt(2 / np.pi) * (m + 0.044715 * m**3)))
        x = x + linear(m, h + "mlp.c_proj")
    x = layer_norm(x, w, "ln_f")
    return x @ w["wte.weight"].T, np.abs(x) @ np.abs(w["wte.weight"]).T


def write(path, tensors, meta):
    header, data = {"__metadata__": meta}, b""
    for k in sorted(tensors, key=lambda k: (-tensors[k].itemsize, k)):
        raw = tensors[k].tobytes()
        header[k] = {"dtype": {"f8": "F64", "f4": "F32", "i4": "I32"}[tensors[k].dtype.str[1:]],
                     "shape": list(tensors[k].shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def main():
    rng = np.random.default_rng(20240612)
    w = weights(rng)
    tokens = rng.integers(32, 127, T).astype(np.int32)
    logits, size = forward({k: x.astype(np.float64) for k, x in w.items()}, tokens)
    write(sys.argv[1], w, {"format": "pt"})
    write(sys.argv[2], {"tokens": tokens, "logits": logits, "size": size},
          {"generator": "tests/golden/gen_gpt2.py", "heads": str(HEADS)})


main()
