#ifndef STRATA_TOKENIZER_H
#define STRATA_TOKENIZER_H
/* Tokenizers: train a vocabulary, text to token numbers, and back.
 *
 *   strata_tokenizer *tok = NULL;
 *   strata_tokenizer_open(ctx, "bpe", "merges.txt", &tok);
 *   strata_tokenizer_encode(tok, text, bytes, &ids, &n);          // ids: strata_free(ctx, ids)
 *   strata_tokenizer_close(tok);
 *
 * Kinds: char96, byte, bpe (`strata help keys task text`). An open tokenizer is immutable and may be used by any number
 * of threads. */

#include <strata/context.h>

STRATA_BEGIN

typedef struct strata_tokenizer strata_tokenizer;

/** @param files vocabulary files separated by commas, plain, .gz or .zst (bpe: "MERGES[,IDS.json]"); "" for kinds
 * without. @return OK | E_SPEC (unknown kind, number of files) | E_IO | E_FORMAT (names file and line) | E_MEMORY */
STRATA_API strata_status strata_tokenizer_open(const strata_context *ctx, const char *kind, const char *files,
                                               strata_tokenizer **out);
STRATA_API void strata_tokenizer_close(strata_tokenizer *t);          /* accepts NULL */
STRATA_API int32_t strata_tokenizer_vocab(const strata_tokenizer *t); /* ids are below this */
/** Token numbers of a text, in memory of the context (strata_free); *ids is never NULL after OK. Characters that the
 * vocabulary lacks are replaced. @return OK | E_INVALID | E_MEMORY */
STRATA_API strata_status strata_tokenizer_encode(const strata_tokenizer *t, const void *text, size_t bytes,
                                                 int32_t **ids, int64_t *count);
/** Bytes of tokens, in memory of the context (strata_free). @return OK | E_INVALID (an id outside the vocabulary) |
 * E_MEMORY */
STRATA_API strata_status strata_tokenizer_decode(const strata_tokenizer *t, const int32_t *ids, int64_t count,
                                                 void **text, size_t *bytes);

typedef struct strata_tokenizer_training {
    size_t size;    /* STRATA_INIT(strata_tokenizer_training) */
    int32_t vocab;  /* wanted, at least 256; afterwards: reached. Fewer when no pair occurs twice any more */
    int64_t bytes;  /* out: of text read */
    int64_t words;  /* out: different words in it */
    double seconds; /* out */
} strata_tokenizer_training;

/** Learn a byte-pair vocabulary from text files (plain, .gz, .zst) and write it, whole or not at all.
 *  The result depends on the texts and `vocab` only. @return OK | E_INVALID | E_IO | E_FORMAT | E_MEMORY */
STRATA_API strata_status strata_tokenizer_train(const strata_context *ctx, const char *const *paths, int32_t n,
                                                strata_tokenizer_training *how, const char *out_path);

STRATA_END
#endif
