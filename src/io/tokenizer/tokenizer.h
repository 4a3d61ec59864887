#ifndef STI_TOKENIZER_H
#define STI_TOKENIZER_H
/* Text to token numbers and back. One folder per kind; its README names what it loses.
 *
 *   sti_tokenizer *tok = NULL;
 *   STI_TRY(sti_tokenizer_open("bpe", "merges.txt", &tok));          // "char96", "": no file
 *   sti_ids ids = { .width = tok->width };
 *   sti_token_counts n = { 0 };
 *   strata_status st = tok->cls->encode(tok, text, bytes, strict, &ids, &n);
 *   …
 *   sti_ids_free(&ids);
 *   sti_tokenizer_close(tok);
 *
 * An open tokenizer is immutable: any number of threads may use it. */

#include <strata/tokenizer.h>

#include "core/spec.h"
#include "io/text.h"

/* ---- token numbers ------------------------------------------------------------------------------------------ */
typedef struct sti_ids { /* a growing array; as wide as the vocabulary needs */
    void *id;
    int64_t count, cap;
    int32_t width; /* bytes of one: 1, 2 or 4 */
} sti_ids;

/* Room for n more. E_MEMORY */
strata_status sti_ids_reserve(sti_ids *ids, int64_t n);
/* out[0 … n-1] = ids[from … from+n-1], which must exist. */
void sti_ids_copy(const sti_ids *ids, int64_t from, int64_t n, int32_t *out);
void sti_ids_free(sti_ids *ids); /* keeps the width */

/* ---- kinds -------------------------------------------------------------------------------------------------- */
typedef struct sti_token_counts {
    int64_t tokens;
    int64_t foreign;   /* characters replaced because the vocabulary lacks them */
    int64_t tabs;      /* turned into blanks */
    int64_t crlf;      /* line ends "\r\n" turned into "\n" */
    int64_t line, col; /* where the first foreign character stands, both from 1, col in bytes; 0: there is none */
} sti_token_counts;

enum {
    STI_TOKEN_BYTES = 1024, /* of text that one token may stand for */
    STI_TOKEN_FILES = 2,    /* of a vocabulary */
    STI_TOKEN_FILE_BYTES = 1 << 26
};

typedef struct sti_tokenizer sti_tokenizer;

typedef struct sti_tokenizer_class {
    const char *name, *summary;
    int32_t vocab;     /* ids are 0 … vocab - 1; 0: the files say how many */
    const char *files; /* what text.vocab names, "MERGES[,IDS]"; NULL: no file */
    /* Read t->source (1 … STI_TOKEN_FILES texts), set t->vocab and t->data. NULL when `files` is. E_FORMAT */
    strata_status (*open)(sti_tokenizer *t);
    void (*close)(sti_tokenizer *t); /* frees t->data, also half-made */
    /* Append the ids of a whole text (a character is never split over two calls): at most n. Where width is 1,
     * ids->id may be `text` or lie before it. Adds to the counts. strict: E_FORMAT with line and byte at the first
     * foreign character; ids and counts are then undefined. */
    strata_status (*encode)(const sti_tokenizer *t, const uint8_t *text, size_t n, bool strict, sti_ids *ids,
                            sti_token_counts *counts);
    /* Bytes of a token, each token by itself. 0 <= id < vocab. @return how many, at most STI_TOKEN_BYTES */
    size_t (*decode)(const sti_tokenizer *t, int32_t id, uint8_t *out);
    /* Append the text of a vocabulary of at most `vocab` tokens made for the corpus. NULL: nothing to learn. */
    strata_status (*train)(const sti_corpus *c, strata_tokenizer_training *how, sti_text *out);
} sti_tokenizer_class;

/* `out` is NULL after a failure. E_SPEC naming the nearest kind. */
strata_status sti_tokenizer_find(const char *name, const sti_tokenizer_class **out);
int32_t sti_tokenizer_count(void);
const sti_tokenizer_class *sti_tokenizer_at(int32_t i);

/* ---- open tokenizers ---------------------------------------------------------------------------------------- */
typedef struct sti_tokenizer_source { /* a vocabulary file as it was read, decompressed */
    char *name, *text;                /* owned */
    size_t bytes;
} sti_tokenizer_source;

struct sti_tokenizer {
    const sti_tokenizer_class *cls;
    int32_t vocab, width; /* width: of its ids */
    sti_tokenizer_source source[STI_TOKEN_FILES];
    int32_t sources;
    char hash[33]; /* of all sources; "" without */
    void *data;    /* the class's */
};

/* `files`: paths separated by commas, "" for kinds without. @return OK | E_SPEC | E_IO | E_FORMAT | E_MEMORY */
strata_status sti_tokenizer_open(const char *name, const char *files, sti_tokenizer **out);
typedef struct sti_tokenizer_text {
    const char *name, *text; /* the name stands in messages */
    size_t bytes;
} sti_tokenizer_text;
/* From texts that were kept; they are copied. */
strata_status sti_tokenizer_restore(const char *name, const sti_tokenizer_text *source, int32_t n, sti_tokenizer **out);
void sti_tokenizer_close(sti_tokenizer *t); /* accepts NULL */

/* Decode n ids into out (room for `cap` bytes). @return OK | E_INVALID (an id outside the vocabulary) | E_SPACE */
strata_status sti_tokenizer_decode(const sti_tokenizer *t, const int32_t *ids, int64_t n, uint8_t *out, size_t cap,
                                   size_t *bytes);

#endif
