#include "io/tokenizer/tokenizer.h"

#include <string.h>

#include "core/spec.h"

#define X(name) extern const sti_tokenizer_class sti_tokenizer_class_##name;
#include "registry/io/tokenizer.def"
#undef X

static const sti_tokenizer_class *const kinds[] = {
#define X(name) &sti_tokenizer_class_##name,
#include "registry/io/tokenizer.def"
#undef X
};

int32_t sti_tokenizer_count(void)
{
    return (int32_t)STI_COUNT(kinds);
}

const sti_tokenizer_class *sti_tokenizer_at(int32_t i)
{
    return i >= 0 && i < sti_tokenizer_count() ? kinds[i] : NULL;
}

strata_status sti_tokenizer_find(const char *name, const sti_tokenizer_class **out)
{
    const char *names[STI_COUNT(kinds)];
    *out = NULL;
    for (size_t i = 0; i < STI_COUNT(kinds); i++) {
        names[i] = kinds[i]->name;
        if (strcmp(names[i], name) == 0) *out = kinds[i];
    }
    if (*out) return STRATA_OK;
    const char *near = sti_nearest(name, names, sti_tokenizer_count());
    return sti_fail(STRATA_E_SPEC, "unknown tokenizer \"%s\"%s%s%s", name, near ? "; did you mean " : "",
                    near ? near : "", near ? "?" : "");
}

strata_status sti_tokenizer_encode_i32(const sti_tokenizer_class *tok, const uint8_t *text, size_t n, bool strict,
                                       int32_t *ids, sti_token_counts *counts)
{
    /* into the first quarter of the same memory, then spread from the end */
    uint8_t *narrow = (uint8_t *)ids;
    int64_t before = counts->tokens;
    STI_TRY(tok->encode(text, n, strict, narrow, counts));
    for (int64_t i = counts->tokens - before - 1; i >= 0; i--) {
        uint8_t id = narrow[i];
        ids[i] = id;
    }
    return STRATA_OK;
}

strata_status sti_tokenizer_decode(const sti_tokenizer_class *tok, const int32_t *ids, int64_t n, uint8_t *out,
                                   size_t cap, size_t *bytes)
{
    size_t at = 0;
    *bytes = 0;
    for (int64_t i = 0; i < n; i++) {
        uint8_t piece[STI_TOKEN_BYTES];
        if (ids[i] < 0 || ids[i] >= tok->vocab)
            return sti_fail(STRATA_E_INVALID, "token %d is not in %s, which has %d", (int)ids[i], tok->name,
                            (int)tok->vocab);
        size_t k = tok->decode(ids[i], piece);
        if (k > cap - at) return sti_fail(STRATA_E_SPACE, "%lld tokens need more than %zu bytes", (long long)n, cap);
        memcpy(out + at, piece, k);
        at += k;
    }
    *bytes = at;
    return STRATA_OK;
}
