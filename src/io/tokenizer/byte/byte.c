#include <string.h>

#include "io/tokenizer/tokenizer.h"

static strata_status encode(const uint8_t *text, size_t n, bool strict, uint8_t *ids, sti_token_counts *counts)
{
    (void)strict; /* nothing is foreign */
    if (n > 0) memmove(ids, text, n);
    counts->tokens += (int64_t)n;
    return STRATA_OK;
}

static size_t decode(int32_t id, uint8_t *out)
{
    out[0] = (uint8_t)id;
    return 1;
}

const sti_tokenizer_class sti_tokenizer_class_byte = {
    .name = "byte", .summary = "one token per byte; loses nothing", .vocab = 256, .encode = encode, .decode = decode
};
