#include <stdio.h>

#include "io/tokenizer/tokenizer.h"
#include "io/utf8.h"

enum { NEWLINE = 0, BLANK = 1, QUESTION = '?' - 0x20 + 1 };

static strata_status refuse(const uint8_t *s, size_t k, int64_t line, int64_t col)
{
    char hex[32] = "";
    for (size_t i = 0; i < k; i++) snprintf(hex + 5 * i, sizeof hex - 5 * i, " 0x%02x", s[i]);
    return sti_fail(STRATA_E_FORMAT, "line %lld, byte %lld:%s is not in char96 (newline and printable ASCII)",
                    (long long)line, (long long)col, hex);
}

static strata_status encode(const sti_tokenizer *t, const uint8_t *text, size_t n, bool strict, sti_ids *ids,
                            sti_token_counts *counts)
{
    (void)t;
    if (n == 0) return STRATA_OK;
    STI_TRY(sti_ids_reserve(ids, (int64_t)n));
    uint8_t *to = (uint8_t *)ids->id + ids->count;
    int64_t line = 1;
    size_t out = 0, start = 0; /* of the line */
    for (size_t i = 0; i < n;) {
        uint8_t c = text[i];
        size_t k = 1;
        if (c >= 0x20 && c < 0x7f) {
            c = (uint8_t)(c - 0x20 + 1);
        } else if (c == '\n' || (c == '\r' && i + 1 < n && text[i + 1] == '\n')) {
            k = c == '\n' ? 1 : 2;
            counts->crlf += k == 2;
            line++;
            start = i + k;
            c = NEWLINE;
        } else if (c == '\t') {
            counts->tabs++;
            c = BLANK;
        } else {
            k = sti_utf8_length(text + i, n - i);
            if (k == 0) k = 1; /* not UTF-8: byte by byte */
            int64_t col = (int64_t)(i - start) + 1;
            if (strict) return refuse(text + i, k, line, col);
            if (counts->foreign++ == 0) {
                counts->line = line;
                counts->col = col;
            }
            c = QUESTION;
        }
        to[out++] = c; /* out <= i: writing over the text itself is safe */
        i += k;
    }
    ids->count += (int64_t)out;
    counts->tokens += (int64_t)out;
    return STRATA_OK;
}

static size_t decode(const sti_tokenizer *t, int32_t id, uint8_t *out)
{
    (void)t;
    out[0] = id == NEWLINE ? '\n' : (uint8_t)(id + 0x20 - 1);
    return 1;
}

const sti_tokenizer_class sti_tokenizer_class_char96 = { .name = "char96",
                                                         .summary = "newline and printable ASCII, 96 symbols",
                                                         .vocab = 96,
                                                         .encode = encode,
                                                         .decode = decode };
