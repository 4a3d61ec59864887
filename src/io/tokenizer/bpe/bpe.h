#ifndef STI_BPE_H
#define STI_BPE_H
/* The parts of the byte-pair tokenizer. See README.md. */

#include "io/tokenizer/tokenizer.h"

/* Bytes of the first pre-token of s[0 … n-1], n >= 1: what the published expression
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * matches at its start. A byte that belongs to no UTF-8 character is a character of its own, "other". */
size_t sti_bpe_split(const uint8_t *s, size_t n);

/* The published one-to-one map of bytes to printable characters, in which vocabulary files are written. */
typedef struct sti_bpe_alphabet {
    uint16_t symbol[256]; /* character of a byte */
    int16_t byte[324];    /* byte of a character, -1: none */
    uint8_t order[256];   /* the bytes in the order of their tokens */
} sti_bpe_alphabet;
void sti_bpe_alphabet_fill(sti_bpe_alphabet *a);
/* Append n bytes as symbols, in UTF-8. */
void sti_bpe_put(const sti_bpe_alphabet *a, const uint8_t *bytes, size_t n, sti_text *out);

typedef struct sti_bpe_merge { /* by rank */
    int32_t left, right, result;
} sti_bpe_merge;

typedef struct sti_bpe_pair { /* of the hash table: left << 32 | right */
    uint64_t key;             /* UINT64_MAX: empty */
    int32_t rank;
} sti_bpe_pair;

/* Tokens are numbered as the merges file makes them: the 256 bytes, then each new result; tokens that only the file of
 * ids has come last. `id` turns these numbers into ids. */
typedef struct sti_bpe {
    int32_t count; /* of tokens */
    uint8_t *bytes;
    uint32_t *start; /* token i is bytes[start[i] … start[i+1]-1] */
    int32_t *id, *token;
    int32_t of_byte[256];
    sti_bpe_merge *merge;
    int32_t merges;
    sti_bpe_pair *pair;
    uint64_t mask; /* of the table */
} sti_bpe;

/* The files of a tokenizer. E_FORMAT names file and line. */
strata_status sti_bpe_load(const sti_tokenizer *t, sti_bpe **out);
void sti_bpe_free(sti_bpe *b);

static inline uint64_t sti_bpe_mix(uint64_t x)
{
    x *= 0x9e3779b97f4a7c15u;
    return x ^ x >> 32;
}

static inline uint64_t sti_bpe_key(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* Rank of a pair, -1: it is never joined. */
static inline int32_t sti_bpe_rank(const sti_bpe *b, int32_t left, int32_t right)
{
    const uint64_t key = sti_bpe_key(left, right);
    for (uint64_t i = sti_bpe_mix(key) & b->mask;; i = (i + 1) & b->mask) {
        if (b->pair[i].key == key) return b->pair[i].rank;
        if (b->pair[i].key == UINT64_MAX) return -1;
    }
}

/* Append the ids of a text. */
strata_status sti_bpe_encode(const sti_bpe *b, const uint8_t *text, size_t n, sti_ids *ids);

/* sti_tokenizer_class.train */
strata_status sti_bpe_train(const sti_corpus *c, strata_tokenizer_training *how, sti_text *out);

#endif
