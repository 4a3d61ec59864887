/* Byte-pair vocabularies and texts: input is MERGES, then after a NUL IDS.json (empty: none), then after a NUL a text.
 * Loading never breaks; what loads encodes every text within the bounds, and decoding gives it back. */
#include "io/tokenizer/tokenizer.h"

#include "fuzz.h"

static void check(const sti_tokenizer *t, const uint8_t *text, size_t n)
{
    sti_ids ids = { .width = t->width };
    sti_token_counts c = { 0 };
    size_t bytes = 0;
    MUST(t->cls->encode(t, text, n, true, &ids, &c) == STRATA_OK);
    MUST(c.tokens == ids.count && (size_t)ids.count <= n && !c.foreign);
    int32_t *wide = malloc(((size_t)ids.count + 1) * sizeof *wide);
    uint8_t *back = malloc(n + 1);
    if (wide && back) {
        sti_ids_copy(&ids, 0, ids.count, wide);
        MUST(sti_tokenizer_decode(t, wide, ids.count, back, n, &bytes) == STRATA_OK);
        MUST(bytes == n && memcmp(back, text, n) == 0);
    }
    free(wide);
    free(back);
    sti_ids_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sti_tokenizer_text source[2] = { { .name = "merges" }, { .name = "ids" } };
    sti_tokenizer *t = NULL;
    for (int i = 0; i < 2; i++) {
        const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
        source[i].bytes = end ? (size_t)(end - data) : size;
        source[i].text = (const char *)data;
        data += source[i].bytes + (end != NULL);
        size -= source[i].bytes + (end != NULL);
    }
    if (sti_tokenizer_restore("bpe", source, source[1].bytes > 0 ? 2 : 1, &t) == STRATA_OK) check(t, data, size);
    sti_tokenizer_close(t);
    return 0;
}
