#ifndef STI_UTF8_H
#define STI_UTF8_H

#include "core/base.h"

/* Bytes (1 to 4) of the character that starts at s, or 0 when it is not well-formed: overlong forms, surrogates, values
 * above U+10FFFF and characters cut off at n are not (Unicode 15, table 3-7). n >= 1. */
static inline size_t sti_utf8_length(const uint8_t *s, size_t n)
{
    uint8_t a = s[0], lo = 0x80, hi = 0xbf;
    if (a < 0x80) return 1;
    if (a < 0xc2 || a > 0xf4) return 0;
    size_t len = a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;
    if (n < len) return 0;
    if (a == 0xe0) lo = 0xa0;
    if (a == 0xed) hi = 0x9f;
    if (a == 0xf0) lo = 0x90;
    if (a == 0xf4) hi = 0x8f;
    if (s[1] < lo || s[1] > hi) return 0;
    for (size_t i = 2; i < len; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    return len;
}

static inline bool sti_utf8_valid(const void *text, size_t n)
{
    const uint8_t *s = text;
    for (size_t i = 0; i < n;) {
        size_t k = sti_utf8_length(s + i, n - i);
        if (k == 0) return false;
        i += k;
    }
    return true;
}

#endif
