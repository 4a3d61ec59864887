/* Tokenizers: ids within the vocabulary, encoding in place gives the same, decoded text encodes to the same ids, and
 * strict accepts exactly the texts without foreign characters. */
#include "io/tokenizer/tokenizer.h"

#include "fuzz.h"

static void check(const sti_tokenizer *t, const uint8_t *text, size_t n)
{
    sti_token_counts c = { 0 }, d = { 0 };
    sti_ids ids = { .width = 1 };
    uint8_t *same = malloc(n + 1), *back = malloc(n + 1);
    int32_t *wide = malloc((n + 1) * sizeof *wide);
    size_t bytes;
    if (same && back && wide) {
        sti_ids in_place = { .id = same, .cap = (int64_t)n, .width = 1 };
        MUST(t->cls->encode(t, text, n, false, &ids, &c) == STRATA_OK && c.tokens >= 0 && (size_t)c.tokens <= n);
        MUST(ids.count == c.tokens);
        if (n > 0) memcpy(same, text, n);
        MUST(t->cls->encode(t, same, n, false, &in_place, &d) == STRATA_OK && memcmp(&c, &d, sizeof c) == 0);
        MUST(c.tokens == 0 || memcmp(ids.id, same, (size_t)c.tokens) == 0);
        sti_ids_copy(&ids, 0, ids.count, wide);
        for (int64_t i = 0; i < c.tokens; i++) MUST(wide[i] < t->vocab);
        MUST(sti_tokenizer_decode(t, wide, c.tokens, back, n, &bytes) == STRATA_OK);
        d = (sti_token_counts){ 0 };
        in_place.count = 0;
        MUST(bytes <= n && t->cls->encode(t, back, bytes, true, &in_place, &d) == STRATA_OK && d.tokens == c.tokens);
        MUST(c.tokens == 0 || memcmp(ids.id, same, (size_t)c.tokens) == 0);
        in_place.count = 0;
        MUST((t->cls->encode(t, text, n, true, &in_place, &d) == STRATA_OK) == (c.foreign == 0));
        MUST((c.foreign > 0) == (c.line > 0));
    }
    sti_ids_free(&ids);
    free(same);
    free(back);
    free(wide);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int32_t i = 0; i < sti_tokenizer_count(); i++) {
        sti_tokenizer *t = NULL;
        if (sti_tokenizer_at(i)->files) continue; /* bpe_fuzz */
        MUST(sti_tokenizer_open(sti_tokenizer_at(i)->name, "", &t) == STRATA_OK);
        check(t, data, size);
        sti_tokenizer_close(t);
    }
    return 0;
}
