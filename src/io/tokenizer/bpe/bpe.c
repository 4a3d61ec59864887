/* The kind "bpe": what the registry knows. */

#include "io/tokenizer/bpe/bpe.h"

#include <string.h>

static strata_status open_files(sti_tokenizer *t)
{
    sti_bpe *b = NULL;
    STI_TRY(sti_bpe_load(t, &b));
    t->data = b;
    t->vocab = b->count;
    return STRATA_OK;
}

static void close_files(sti_tokenizer *t)
{
    sti_bpe_free(t->data);
    t->data = NULL;
}

static strata_status encode(const sti_tokenizer *t, const uint8_t *text, size_t n, bool strict, sti_ids *ids,
                            sti_token_counts *counts)
{
    const int64_t before = ids->count;
    (void)strict; /* nothing is foreign */
    STI_TRY(sti_bpe_encode(t->data, text, n, ids));
    counts->tokens += ids->count - before;
    return STRATA_OK;
}

static size_t decode(const sti_tokenizer *t, int32_t id, uint8_t *out)
{
    const sti_bpe *b = t->data;
    const int32_t token = b->token[id];
    const size_t n = b->start[token + 1] - b->start[token];
    memcpy(out, b->bytes + b->start[token], n);
    return n;
}

const sti_tokenizer_class sti_tokenizer_class_bpe = { .name = "bpe",
                                                      .summary = "byte pairs joined by a learned list; loses nothing",
                                                      .files = "MERGES[,IDS.json]",
                                                      .open = open_files,
                                                      .close = close_files,
                                                      .encode = encode,
                                                      .decode = decode,
                                                      .train = sti_bpe_train };
