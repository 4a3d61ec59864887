#!/usr/bin/env python3
"""Write classes.inc: where the class of characters changes (letter \\p{L}, number \\p{N}, white space, other).

    python3 src/io/tokenizer/bpe/classes.py > src/io/tokenizer/bpe/classes.inc

Categories are those of this Python's unicodedata. White space is Unicode's White_Space property, which is what \\s means
in the regular expressions of the published rule (str.isspace() would add U+001C to U+001F)."""
import sys
import unicodedata

SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


def char_class(c):
    if c in SPACE:
        return 3
    return {"L": 1, "N": 2}.get(unicodedata.category(chr(c))[0], 0)


words, last = [], 0
for c in range(0x110000):
    now = char_class(c)
    if now != last:
        words.append(f"0x{c << 2 | now:x}")
        last = now
print(f"/* Written by classes.py from Unicode {unicodedata.unidata_version}: (first character << 2 | class) of every run. */")
print("/* clang-format off */")
line = ""
for w in words:
    if len(line) + len(w) + 2 > 118:
        print(line.rstrip())
        line = ""
    line += w + ", "
print(line.rstrip())
print(len(words), "runs", file=sys.stderr)
