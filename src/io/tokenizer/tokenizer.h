#ifndef STI_TOKENIZER_H
#define STI_TOKENIZER_H
/* Text to token numbers and back. One folder per kind; its README names what it loses.
 *
 *   const sti_tokenizer_class *tok;
 *   STI_TRY(sti_tokenizer_find("char96", &tok));
 *   sti_token_counts n = { 0 };
 *   STI_TRY(tok->encode(text, bytes, strict, ids, &n));      // ids: `bytes` entries; may be `text` itself
 */

#include "core/base.h"

typedef struct sti_token_counts {
    int64_t tokens;
    int64_t foreign;   /* characters replaced because the vocabulary lacks them */
    int64_t tabs;      /* turned into blanks */
    int64_t crlf;      /* line ends "\r\n" turned into "\n" */
    int64_t line, col; /* where the first foreign character stands, both from 1, col in bytes; 0: there is none */
} sti_token_counts;

typedef struct sti_tokenizer_class {
    const char *name, *summary;
    int32_t vocab; /* ids are 0 … vocab - 1; at most 256, so that a stored token is one byte */
    /* Encode a whole text (a character is never split over two calls): at most n ids. `ids` may be `text`. Adds to the
     * counts. strict: E_FORMAT with line and byte at the first foreign character; ids and counts are then undefined. */
    strata_status (*encode)(const uint8_t *text, size_t n, bool strict, uint8_t *ids, sti_token_counts *counts);
    /* Bytes of a token, each token by itself. 0 <= id < vocab. @return how many, at most STI_TOKEN_BYTES */
    size_t (*decode)(int32_t id, uint8_t *out);
} sti_tokenizer_class;

enum { STI_TOKEN_BYTES = 16 };

/* E_SPEC naming the nearest kind. */
strata_status sti_tokenizer_find(const char *name, const sti_tokenizer_class **out);
int32_t sti_tokenizer_count(void);
const sti_tokenizer_class *sti_tokenizer_at(int32_t i);

/* encode into 32-bit ids (n entries). */
strata_status sti_tokenizer_encode_i32(const sti_tokenizer_class *tok, const uint8_t *text, size_t n, bool strict,
                                       int32_t *ids, sti_token_counts *counts);
/* Decode n ids into out (room for `cap` bytes). @return OK | E_INVALID (an id outside the vocabulary) | E_SPACE */
strata_status sti_tokenizer_decode(const sti_tokenizer_class *tok, const int32_t *ids, int64_t n, uint8_t *out,
                                   size_t cap, size_t *bytes);

#endif
