#!/usr/bin/env python3
"""Golden file of training: a tiny decoder, its gradients by hand, clipping, warm-up, cosine and AdamW, in NumPy float64.

    python3 tests/golden/gen_training.py tests/golden/training.safetensors

Independent of Strata: nothing here calls it. The gradients are checked against central differences before anything is
written. Made with NumPy 1.24; the seed below fixes every number.

Model (C.SPEC is the spec that the test gives to Strata): x = E[t] + P; x += attention(norm(x)); x += mlp(norm(x));
logits = norm(x) W^T; mean cross-entropy. Layer norm without bias, eps 1e-5; exact GELU; scores q.k / sqrt(d).
"""
import json
import math
import struct
import sys

import numpy as np

LAYERS, D, H, F, V, T, B = 2, 16, 2, 32, 11, 8, 3
STEPS, ACCUM = 10, 2
LR, WARMUP, MIN_LR, CLIP, BETA1, BETA2, EPS, DECAY, BASE = 0.01, 3, 0.002, 1.9, 0.9, 0.95, 1e-8, 0.1, 24
SPEC = (f"decoder layers={LAYERS} width={D} context={T} mixers=softmax(heads={H} score=standard qk_norm=0) "
        f"mlp=mlp(ratio={F // D} act=gelu) norm=layernorm pos=learned tied=0")

erf = np.vectorize(math.erf)


def parameters(rng):
    p = {"embed.weight": (V, D), "pos.weight": (T, D), "norm.weight": (D,), "head.weight": (V, D)}
    for l in range(LAYERS):
        b = f"blocks.{l}."
        p |= {b + "norm1.weight": (D,), b + "norm2.weight": (D,), b + "mlp.up.weight": (F, D),
              b + "mlp.down.weight": (D, F)}
        p |= {b + f"mixer.{k}.weight": (D, D) for k in ("q", "k", "v", "out")}
    scale = lambda s: 0.5 if len(s) == 1 else 1 / math.sqrt(s[1])
    return {k: (len(s) == 1) + scale(s) * rng.standard_normal(s) for k, s in p.items()}


def multiplier(name):  # learning-rate factor: base_width / fan_in for linear maps
    if name.endswith("mlp.down.weight"):
        return BASE / F
    return BASE / D if "mixer" in name or "mlp" in name or "head" in name else 1.0


def norm(x, w):
    c = x - x.mean(-1, keepdims=True)
    r = 1 / np.sqrt((c * c).mean(-1, keepdims=True) + 1e-5)
    return c * r * w, (c * r, r, w)


def norm_back(dy, saved):
    xh, r, w = saved
    g = dy * w
    dx = r * (g - g.mean(-1, keepdims=True) - xh * (g * xh).mean(-1, keepdims=True))
    return dx, (dy * xh).sum((0, 1))


def linear_back(dy, x, w):
    return dy @ w, np.einsum("bto,bti->oi", dy, x)


def heads(x):
    return x.reshape(B, T, H, D // H).transpose(0, 2, 1, 3)


def unheads(x):
    return x.transpose(0, 2, 1, 3).reshape(B, T, D)


def loss_and_gradients(p, tokens, targets):
    """Mean loss over targets and its gradient."""
    x = p["embed.weight"][tokens] + p["pos.weight"]
    tape = []
    for l in range(LAYERS):
        b = f"blocks.{l}."
        h, n1 = norm(x, p[b + "norm1.weight"])
        q, k, v = (heads(h @ p[b + f"mixer.{i}.weight"].T) for i in "qkv")
        s = q @ k.transpose(0, 1, 3, 2) / math.sqrt(D // H)
        s = np.where(np.tril(np.ones((T, T), bool)), s, -np.inf)
        a = np.exp(s - s.max(-1, keepdims=True))
        a /= a.sum(-1, keepdims=True)
        o = unheads(a @ v)
        x = x + o @ p[b + "mixer.out.weight"].T
        m, n2 = norm(x, p[b + "norm2.weight"])
        u = m @ p[b + "mlp.up.weight"].T
        cdf = 0.5 * (1 + erf(u / math.sqrt(2)))
        x = x + (u * cdf) @ p[b + "mlp.down.weight"].T
        tape.append((h, n1, q, k, v, a, o, m, n2, u, cdf))
    f, nf = norm(x, p["norm.weight"])
    z = f @ p["head.weight"].T
    z = z - z.max(-1, keepdims=True)
    e = np.exp(z)
    prob = e / e.sum(-1, keepdims=True)
    pick = np.take_along_axis(z - np.log(e.sum(-1, keepdims=True)), targets[..., None], -1)
    loss = -pick.mean()

    g = {}
    dz = prob.copy()
    np.put_along_axis(dz, targets[..., None], np.take_along_axis(dz, targets[..., None], -1) - 1, -1)
    dz /= B * T
    df, g["head.weight"] = linear_back(dz, f, p["head.weight"])
    dx, g["norm.weight"] = norm_back(df, nf)
    for l in reversed(range(LAYERS)):
        b = f"blocks.{l}."
        h, n1, q, k, v, a, o, m, n2, u, cdf = tape[l]
        dact, g[b + "mlp.down.weight"] = linear_back(dx, u * cdf, p[b + "mlp.down.weight"])
        du = dact * (cdf + u * np.exp(-u * u / 2) / math.sqrt(2 * math.pi))
        dm, g[b + "mlp.up.weight"] = linear_back(du, m, p[b + "mlp.up.weight"])
        d, g[b + "norm2.weight"] = norm_back(dm, n2)
        dx = dx + d
        do, g[b + "mixer.out.weight"] = linear_back(dx, o, p[b + "mixer.out.weight"])
        do = heads(do)
        da = do @ v.transpose(0, 1, 3, 2)
        ds = a * (da - (da * a).sum(-1, keepdims=True)) / math.sqrt(D // H)
        dh = 0
        for i, part in zip("qkv", (ds @ k, ds.transpose(0, 1, 3, 2) @ q, a.transpose(0, 1, 3, 2) @ do)):
            dpart, g[b + f"mixer.{i}.weight"] = linear_back(unheads(part), h, p[b + f"mixer.{i}.weight"])
            dh = dh + dpart
        d, g[b + "norm1.weight"] = norm_back(dh, n1)
        dx = dx + d
    g["pos.weight"] = dx.sum(0)
    g["embed.weight"] = np.zeros((V, D))
    np.add.at(g["embed.weight"], tokens, dx)
    return loss, g


def check_gradients(p, tokens, targets, rng):
    _, g = loss_and_gradients(p, tokens, targets)
    for name, w in p.items():
        for _ in range(3):
            i, h = tuple(rng.integers(0, n) for n in w.shape), 1e-5
            keep = w[i]
            w[i] = keep + h
            up = loss_and_gradients(p, tokens, targets)[0]
            w[i] = keep - h
            down = loss_and_gradients(p, tokens, targets)[0]
            w[i] = keep
            assert abs((up - down) / (2 * h) - g[name][i]) < 1e-8, (name, i)


def rate(t):
    if t <= WARMUP:
        return LR * t / WARMUP
    return MIN_LR + (LR - MIN_LR) * 0.5 * (1 + math.cos(math.pi * (t - WARMUP) / (STEPS - WARMUP)))


def train(p, tokens, targets):
    m = {k: np.zeros_like(w) for k, w in p.items()}
    v = {k: np.zeros_like(w) for k, w in p.items()}
    losses, norms = [], []
    for t in range(1, STEPS + 1):
        parts = [loss_and_gradients(p, tokens[t - 1, a], targets[t - 1, a]) for a in range(ACCUM)]
        g = {k: sum(x[1][k] for x in parts) / ACCUM for k in p}
        n = math.sqrt(sum(float((x * x).sum()) for x in g.values()))
        losses.append(sum(x[0] for x in parts) / ACCUM)
        norms.append(n)
        for k in p:
            x = g[k] * min(1, CLIP / n)
            m[k] = BETA1 * m[k] + (1 - BETA1) * x
            v[k] = BETA2 * v[k] + (1 - BETA2) * x * x
            r = rate(t) * multiplier(k)
            step = (m[k] / (1 - BETA1**t)) / (np.sqrt(v[k] / (1 - BETA2**t)) + EPS)
            p[k] = p[k] - r * step - (r * DECAY * p[k] if p[k].ndim >= 2 else 0)
    return np.array(losses), np.array(norms)


def write(path, tensors, meta):
    header, data, at = {"__metadata__": meta}, b"", 0
    for k in sorted(tensors, key=lambda k: (-tensors[k].itemsize, k)):  # wide types first: aligned
        raw = tensors[k].tobytes()
        header[k] = {"dtype": {"f8": "F64", "i4": "I32"}[tensors[k].dtype.str[1:]], "shape": list(tensors[k].shape),
                     "data_offsets": [at, at + len(raw)]}
        data, at = data + raw, at + len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def main():
    rng = np.random.default_rng(20240607)
    p = parameters(rng)
    # a learnable rule with noise, so that the gradients do not vanish
    ids = np.zeros((STEPS, ACCUM, B, T + 1), np.int32)
    ids[..., 0] = rng.integers(0, V, ids.shape[:-1])
    for i in range(1, T + 1):
        rule = (3 * ids[..., i - 1] + 1) % V
        ids[..., i] = np.where(rng.random(rule.shape) < 0.8, rule, rng.integers(0, V, rule.shape))
    tokens, targets = np.ascontiguousarray(ids[..., :-1]), np.ascontiguousarray(ids[..., 1:])
    check_gradients(p, tokens[0, 0], targets[0, 0], rng)
    start = {"param." + k: w.copy() for k, w in p.items()}
    losses, norms = train(p, tokens, targets)
    assert (norms > CLIP).any() and (norms < CLIP).any()  # clipping is met and not met
    meta = {"spec": SPEC, "generator": "tests/golden/gen_training.py", "seed": "20240607"}
    for k, x in dict(vocab=V, accum=ACCUM, lr=LR, warmup=WARMUP, min_lr=MIN_LR, clip=CLIP, beta1=BETA1, beta2=BETA2,
                     eps=EPS, weight_decay=DECAY, base_width=BASE).items():
        meta[k] = repr(x)
    write(sys.argv[1], start | {"tokens": tokens, "targets": targets, "loss": losses, "grad_norm": norms}, meta)
    print("losses", losses, "norms", norms)


main()
