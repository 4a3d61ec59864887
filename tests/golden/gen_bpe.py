#!/usr/bin/env python3
"""Golden file of the byte-pair tokenizer: a slow trainer, splitter and encoder from the published description.

    python3 tests/golden/gen_bpe.py tests/golden/bpe.safetensors

Independent of Strata: nothing here calls it. Pre-tokens come from Python's regular expressions, with the classes of
letters, numbers and white space spelled out from unicodedata; training recounts all pairs before every join; encoding is
the loop of the published encoder. Made with Python 3.11 (Unicode 14); the seed below fixes the texts.
"""
import json
import random
import re
import struct
import sys
import unicodedata

VOCAB = 256 + 400
SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


def char_class(test):
    """The inside of [...] that matches the characters for which test holds."""
    out, start = "", None
    for c in range(0x110001):
        inside = c < 0x110000 and test(c)
        if inside and start is None:
            start = c
        elif not inside and start is not None:
            out += re.escape(chr(start)) + "-" + re.escape(chr(c - 1))
            start = None
    return out


L = char_class(lambda c: unicodedata.category(chr(c))[0] == "L")
N = char_class(lambda c: unicodedata.category(chr(c))[0] == "N")
S = char_class(lambda c: c in SPACE)
RULE = re.compile(f"'s|'t|'re|'ve|'m|'ll|'d| ?[{L}]+| ?[{N}]+| ?[^{S}{L}{N}]+|[{S}]+(?![^{S}])|[{S}]+")


def split(text):
    words = RULE.findall(text)
    assert "".join(words) == text
    return [w.encode() for w in words]


def alphabet():
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return {**{b: chr(b) for b in shown}, **{b: chr(256 + i) for i, b in enumerate(hidden)}}


SYMBOL = alphabet()
ORDER = list(SYMBOL)


def train(words, vocab):
    """Most frequent pair first; equal counts: the older left token, then the older right token."""
    number = {bytes([b]): i for i, b in enumerate(ORDER)}
    count = {}
    for w in words:
        count[w] = count.get(w, 0) + 1
    parts = {w: [bytes([b]) for b in w] for w in count}
    merges = []
    while len(number) < vocab:
        pairs = {}
        for w, p in parts.items():
            for ab in zip(p, p[1:]):
                pairs[ab] = pairs.get(ab, 0) + count[w]
        if not pairs or max(pairs.values()) < 2:
            break
        a, b = min(pairs, key=lambda ab: (-pairs[ab], number[ab[0]], number[ab[1]]))
        merges.append((a, b))
        number[a + b] = len(number)
        parts = {w: join(p, a, b) for w, p in parts.items()}
    return merges


def join(parts, a, b):
    out, i = [], 0
    while i < len(parts):
        if i + 1 < len(parts) and parts[i] == a and parts[i + 1] == b:
            out.append(a + b)
            i += 2
        else:
            out.append(parts[i])
            i += 1
    return out


def encode(words, merges):
    number = {bytes([b]): i for i, b in enumerate(ORDER)}
    for a, b in merges:
        number.setdefault(a + b, len(number))
    rank = {ab: i for i, ab in enumerate(merges)}
    ids = []
    for w in words:
        parts = [bytes([b]) for b in w]
        while len(parts) > 1:
            best = min(zip(parts, parts[1:]), key=lambda ab: rank.get(ab, float("inf")))
            if best not in rank:
                break
            parts = join(parts, *best)
        ids += [number[p] for p in parts]
    return ids


def text(rng, n):
    stem = ["".join(rng.choice("etaoinshrdlucm") for _ in range(rng.randrange(1, 9))) for _ in range(150)]
    known = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    out = []
    for _ in range(n):
        k = rng.random()
        if k < 0.55:
            w = stem[min(int(rng.expovariate(0.03)), len(stem) - 1)]
            out.append((" " if rng.random() < 0.8 else "") + (w.capitalize() if rng.random() < 0.1 else w))
        elif k < 0.65:
            out.append(rng.choice(["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'", "''re", "n't", " 'tis"]))
        elif k < 0.75:
            out.append(rng.choice([" ", "  ", "   ", "\n", "\n\n", " \n ", "\t", "\r\n", "\u00a0", "\u3000 ", "\x1c", "\x85"]))
        elif k < 0.83:
            out.append(rng.choice(["1", "22", " 1984", "3.14", "x2", "\u00b2", "\u0663", " \u2167"]))
        elif k < 0.90:
            out.append(rng.choice([".", ", ", "...", "!?", " --", "(", ")", "#$%", "\u2026", " \u20ac"]))
        elif k < 0.95:
            out.append(rng.choice(["\u00fcber", "\u65e5\u672c\u8a9e", "\u043f\u0440\u0438\u0432\u0435\u0442", "e\u0301", "\U0001f600", "\u0e01\u0e33"]))
        else:
            out.append("".join(chr(rng.choice(known)) for _ in range(rng.randrange(1, 6))))
    return "".join(out)


def write(path, tensors, meta):
    header, data = {"__metadata__": meta}, b""
    for name, (dtype, size, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [len(raw) // size], "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + data)


def main():
    rng = random.Random(20240611)
    learn, other = text(rng, 3000), text(rng, 1500)
    merges = train(split(learn), VOCAB)
    spell = lambda t: "".join(SYMBOL[b] for b in t)
    lines = "#version: 0.2\n" + "".join(f"{spell(a)} {spell(b)}\n" for a, b in merges)
    words = split(other)
    i32 = lambda x: ("I32", 4, struct.pack(f"<{len(x)}i", *x))
    u8 = lambda x: ("U8", 1, x)
    write(sys.argv[1], {"lengths": i32([len(w) for w in words]), "ids": i32(encode(words, merges)),
                        "learn": u8(learn.encode()), "merges": u8(lines.encode()), "text": u8(other.encode())},
          {"generator": "tests/golden/gen_bpe.py", "vocab": str(256 + len(merges))})
    print(len(merges), "merges,", len(words), "pre-tokens")


main()
