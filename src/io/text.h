#ifndef STI_TEXT_H
#define STI_TEXT_H
/* Text files, plain or compressed. The first bytes tell which: the name is only a name. */

#include "core/base.h"

/* ---- one file as a stream ----------------------------------------------------------------------------------- */

typedef struct sti_reader sti_reader;

/* E_IO, E_MEMORY; E_UNSUPPORTED when the file is compressed and this build lacks the library. */
strata_status sti_reader_open(const char *path, sti_reader **out);
/* Decompressed bytes: *got < n only at the end of the text. A truncated or corrupt stream is E_FORMAT.
 * Errors name the path. */
strata_status sti_reader_read(sti_reader *r, void *data, size_t n, size_t *got);
const char *sti_reader_format(const sti_reader *r); /* "plain", "gzip" or "zstd" */
void sti_reader_close(sti_reader *r);               /* accepts NULL */

/* ---- whole files in memory ---------------------------------------------------------------------------------- */

#define STI_CORPUS_LIMIT ((size_t)16 << 30)

typedef struct sti_hash { /* FNV-1a, 128 bits, of the decompressed bytes: tells changed data, no defence against forgery
                           */
    uint64_t hi, lo;
} sti_hash;

typedef struct sti_corpus_file {
    char *path;           /* as given. owned */
    const char *format;   /* as sti_reader_format */
    size_t offset, bytes; /* the file's part of `text` */
    sti_hash hash;
} sti_corpus_file;

typedef struct sti_corpus {
    uint8_t *text; /* the files' texts, one after the other. owned; not NULL when loaded */
    size_t bytes;
    sti_corpus_file *file;
    int32_t count;
} sti_corpus;

/* Load n >= 1 files; more than `limit` bytes in total are E_FORMAT. An empty file is legal here and has bytes = 0. */
strata_status sti_corpus_load(const char *const *paths, int32_t n, size_t limit, sti_corpus *out);
void sti_corpus_free(sti_corpus *c); /* also on a zeroed one */

sti_hash sti_hash_start(void);
sti_hash sti_hash_add(sti_hash h, const void *data, size_t n);
/* 32 hexadecimal digits. */
void sti_hash_text(sti_hash h, char out[33]);

#endif
