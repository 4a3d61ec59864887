#include <string.h>

#include "io/tokenizer/tokenizer.h"

static strata_status encode(const sti_tokenizer *t, const uint8_t *text, size_t n, bool strict, sti_ids *ids,
                            sti_token_counts *counts)
{
    (void)t;
    (void)strict; /* nothing is foreign */
    STI_TRY(sti_ids_reserve(ids, (int64_t)n));
    if (n > 0) memmove((uint8_t *)ids->id + ids->count, text, n);
    ids->count += (int64_t)n;
    counts->tokens += (int64_t)n;
    return STRATA_OK;
}

static size_t decode(const sti_tokenizer *t, int32_t id, uint8_t *out)
{
    (void)t;
    out[0] = (uint8_t)id;
    return 1;
}

const sti_tokenizer_class sti_tokenizer_class_byte = {
    .name = "byte", .summary = "one token per byte; loses nothing", .vocab = 256, .encode = encode, .decode = decode
};
