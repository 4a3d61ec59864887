/* Tokenizers: ids within the vocabulary, encoding in place gives the same, decoded text encodes to the same ids, and
 * strict accepts exactly the texts without foreign characters. */
#include "io/tokenizer/tokenizer.h"

#include "fuzz.h"

static void check(const sti_tokenizer_class *t, const uint8_t *text, size_t n)
{
    sti_token_counts c = { 0 }, d = { 0 };
    uint8_t *ids = malloc(n + 1), *same = malloc(n + 1), *back = malloc(STI_TOKEN_BYTES * n + 1);
    int32_t *wide = malloc((n + 1) * sizeof *wide);
    size_t bytes;
    if (ids && same && back && wide) {
        MUST(t->encode(text, n, false, ids, &c) == STRATA_OK && c.tokens >= 0 && (size_t)c.tokens <= n);
        if (n > 0) memcpy(same, text, n);
        MUST(t->encode(same, n, false, same, &d) == STRATA_OK && memcmp(&c, &d, sizeof c) == 0);
        MUST(memcmp(ids, same, (size_t)c.tokens) == 0);
        MUST(sti_tokenizer_encode_i32(t, text, n, false, wide, &d) == STRATA_OK);
        for (int64_t i = 0; i < c.tokens; i++) MUST(wide[i] == ids[i] && ids[i] < t->vocab);
        MUST(sti_tokenizer_decode(t, wide, c.tokens, back, STI_TOKEN_BYTES * n, &bytes) == STRATA_OK);
        d = (sti_token_counts){ 0 };
        MUST(bytes <= n && t->encode(back, bytes, true, same, &d) == STRATA_OK && d.tokens == c.tokens);
        MUST(memcmp(ids, same, (size_t)c.tokens) == 0);
        MUST((t->encode(text, n, true, same, &d) == STRATA_OK) == (c.foreign == 0));
        MUST((c.foreign > 0) == (c.line > 0));
    }
    free(ids);
    free(same);
    free(back);
    free(wide);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int32_t i = 0; i < sti_tokenizer_count(); i++) check(sti_tokenizer_at(i), data, size);
    return 0;
}
