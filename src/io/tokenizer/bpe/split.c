/* The published pre-tokenisation by hand: one pass, no backtracking but for one character of white space. */

#include "io/tokenizer/bpe/bpe.h"
#include "io/utf8.h"

enum { OTHER, LETTER, NUMBER, SPACE };

static const uint32_t runs[] = {
#include "io/tokenizer/bpe/classes.inc"
};

/* clang-format off */
static const uint8_t ascii[128] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0,
    0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0,
    0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0,
};
/* clang-format on */

static uint8_t class_of(uint32_t c)
{
    size_t lo = 0, hi = STI_COUNT(runs); /* runs[lo - 1] begins at or before c */
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (runs[mid] >> 2 <= c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo == 0 ? OTHER : (uint8_t)(runs[lo - 1] & 3);
}

/* Class and length of the character at s. */
static inline uint8_t character(const uint8_t *s, size_t n, size_t *len)
{
    *len = 1;
    if (s[0] < 0x80) return ascii[s[0]];
    size_t k = sti_utf8_length(s, n);
    if (k == 0) return OTHER;
    *len = k;
    uint32_t c = s[0] & (0x7fu >> k);
    for (size_t i = 1; i < k; i++) c = c << 6 | (s[i] & 0x3fu);
    return class_of(c);
}

static size_t contraction(const uint8_t *s, size_t n)
{
    if (n >= 2 && (s[1] == 's' || s[1] == 't' || s[1] == 'm' || s[1] == 'd')) return 2;
    if (n < 3) return 0;
    bool three = (s[1] == 'r' && s[2] == 'e') || (s[1] == 'v' && s[2] == 'e') || (s[1] == 'l' && s[2] == 'l');
    return three ? 3 : 0;
}

size_t sti_bpe_split(const uint8_t *s, size_t n)
{
    size_t at = s[0] == '\'' ? contraction(s, n) : 0, len = 1, last = 1;
    if (at > 0) return at;
    at = s[0] == ' ' && n > 1;
    uint8_t kind = character(s + at, n - at, &len);
    if (kind == SPACE && at == 1) kind = character(s, n, &len), at = 0; /* two blanks: white space */
    if (kind != SPACE) {
        for (at += len; at < n && character(s + at, n - at, &len) == kind; at += len) {}
        return at;
    }
    size_t count = 0;
    while (at < n && character(s + at, n - at, &len) == SPACE) {
        at += len;
        last = len;
        count++;
    }
    return at < n && count > 1 ? at - last : at; /* the last one belongs to what follows */
}
