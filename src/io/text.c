#include "io/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if STRATA_HAVE_ZLIB
#include <zlib.h>
#endif
#if STRATA_HAVE_ZSTD
#include <zstd.h>
#endif

#include "core/context.h"
#include "io/sys.h"

enum {
    INPUT = 1 << 17,
    ZSTD_WINDOW_LOG = 27 /* 128 MiB, what `zstd --ultra --long` makes; a header may ask for far more */
};

struct sti_reader {
    const char *format;
    /* Set n > 0 bytes of text; *got < n at the end. */
    strata_status (*read)(sti_reader *r, uint8_t *data, size_t n, size_t *got);
    char *path;
    int fd;
    bool open;   /* inside a compressed member or frame */
    bool failed; /* a stream that broke once stays broken */
    size_t at, have;
#if STRATA_HAVE_ZLIB
    z_stream zlib;
    bool zlib_ready;
#endif
#if STRATA_HAVE_ZSTD
    ZSTD_DStream *zstd;
#endif
    uint8_t input[INPUT];
};

/* ---- input -------------------------------------------------------------------------------------------------- */

/* Have unread input unless the file is at its end (then at == have). */
static strata_status refill(sti_reader *r)
{
    if (r->at < r->have) return STRATA_OK;
    r->at = r->have = 0;
    int err = sti_read_full(r->fd, r->input, INPUT, &r->have);
    return err ? sti_fail_errno(err, "read", r->path) : STRATA_OK;
}

static strata_status read_plain(sti_reader *r, uint8_t *data, size_t n, size_t *got)
{
    size_t k = STI_MIN(n, r->have - r->at);
    memcpy(data, r->input + r->at, k);
    r->at += k;
    int err = sti_read_full(r->fd, data + k, n - k, got);
    *got += k;
    return err ? sti_fail_errno(err, "read", r->path) : STRATA_OK;
}

#if STRATA_HAVE_ZLIB || STRATA_HAVE_ZSTD
static strata_status truncated(const sti_reader *r)
{
    return sti_fail(STRATA_E_FORMAT, "%s: the %s stream is truncated", r->path, r->format);
}

static strata_status corrupt(const sti_reader *r, const char *why)
{
    return sti_fail(STRATA_E_FORMAT, "%s: the %s stream is corrupt (%s)", r->path, r->format, why);
}
#endif

/* ---- gzip --------------------------------------------------------------------------------------------------- */

#if STRATA_HAVE_ZLIB
static strata_status start_gzip(sti_reader *r)
{
    if (inflateInit2(&r->zlib, 15 + 16) != Z_OK) /* + 16: gzip wrapper only */
        return sti_fail(STRATA_E_MEMORY, "out of memory reading %s", r->path);
    r->zlib_ready = true;
    return STRATA_OK;
}

static strata_status read_gzip(sti_reader *r, uint8_t *data, size_t n, size_t *got)
{
    *got = 0;
    while (*got < n) {
        STI_TRY(refill(r));
        bool ended = r->at == r->have;
        if (ended && !r->open) return STRATA_OK;
        if (!r->open && inflateReset(&r->zlib) != Z_OK) return corrupt(r, "cannot start"); /* members may follow */
        size_t room = STI_MIN(n - *got, (size_t)1 << 30);
        r->open = true;
        r->zlib.next_in = r->input + r->at;
        r->zlib.avail_in = (uInt)(r->have - r->at);
        r->zlib.next_out = data + *got;
        r->zlib.avail_out = (uInt)room;
        int z = inflate(&r->zlib, Z_NO_FLUSH);
        r->at = r->have - r->zlib.avail_in;
        *got += room - r->zlib.avail_out;
        if (z == Z_STREAM_END)
            r->open = false;
        else if (z == Z_MEM_ERROR)
            return sti_fail(STRATA_E_MEMORY, "out of memory reading %s", r->path);
        else if (z != Z_OK && z != Z_BUF_ERROR)
            return corrupt(r, r->zlib.msg ? r->zlib.msg : "invalid data");
        else if (ended && r->zlib.avail_out > 0)
            return truncated(r);
    }
    return STRATA_OK;
}
#endif

/* ---- zstd --------------------------------------------------------------------------------------------------- */

#if STRATA_HAVE_ZSTD
static strata_status start_zstd(sti_reader *r)
{
    r->zstd = ZSTD_createDStream();
    if (!r->zstd || ZSTD_isError(ZSTD_DCtx_setParameter(r->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG)))
        return sti_fail(STRATA_E_MEMORY, "out of memory reading %s", r->path);
    return STRATA_OK;
}

static strata_status read_zstd(sti_reader *r, uint8_t *data, size_t n, size_t *got)
{
    *got = 0;
    while (*got < n) {
        STI_TRY(refill(r));
        bool ended = r->at == r->have;
        if (ended && !r->open) return STRATA_OK;
        ZSTD_inBuffer in = { r->input, r->have, r->at };
        ZSTD_outBuffer out = { data, n, *got };
        size_t z = ZSTD_decompressStream(r->zstd, &out, &in);
        r->at = in.pos;
        *got = out.pos;
        if (ZSTD_isError(z)) return corrupt(r, ZSTD_getErrorName(z));
        r->open = z != 0; /* 0: a frame ended; others may follow */
        if (ended && r->open && out.pos < n) return truncated(r);
    }
    return STRATA_OK;
}
#endif

/* ---- open, read, close -------------------------------------------------------------------------------------- */

static bool begins(const sti_reader *r, const char *magic, size_t n)
{
    return r->have >= n && memcmp(r->input, magic, n) == 0;
}

static strata_status choose_format(sti_reader *r)
{
    STI_TRY(refill(r));
    r->format = "plain";
    r->read = read_plain;
    if (begins(r, "\x1f\x8b", 2)) {
        r->format = "gzip";
#if STRATA_HAVE_ZLIB
        r->read = read_gzip;
        return start_gzip(r);
#else
        return sti_fail(STRATA_E_UNSUPPORTED, "%s is gzip-compressed and this build has no zlib", r->path);
#endif
    }
    /* a file may also start with one of the 16 skippable frames */
    bool skippable = r->have >= 4 && (r->input[0] & 0xf0) == 0x50 && memcmp(r->input + 1, "\x2a\x4d\x18", 3) == 0;
    if (begins(r, "\x28\xb5\x2f\xfd", 4) || skippable) {
        r->format = "zstd";
#if STRATA_HAVE_ZSTD
        r->read = read_zstd;
        return start_zstd(r);
#else
        return sti_fail(STRATA_E_UNSUPPORTED, "%s is zstd-compressed and this build has no zstd", r->path);
#endif
    }
    return STRATA_OK;
}

strata_status sti_reader_open(const char *path, sti_reader **out)
{
    *out = NULL;
    struct stat st;
    strata_status s = STRATA_OK;
    sti_reader *r = sti_heap(sizeof *r);
    if (r) r->path = sti_strdup(path);
    if (!r || !r->path) {
        sti_heap_free(r);
        return sti_fail(STRATA_E_MEMORY, "out of memory reading %s", path);
    }
    r->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0)
        s = sti_fail_errno(errno, "open", path);
    else if (fstat(r->fd, &st) == 0 && S_ISDIR(st.st_mode))
        s = sti_fail_errno(EISDIR, "read", path);
    else
        s = choose_format(r);
    if (s != STRATA_OK) {
        sti_reader_close(r);
        return s;
    }
    *out = r;
    return STRATA_OK;
}

strata_status sti_reader_read(sti_reader *r, void *data, size_t n, size_t *got)
{
    size_t k = 0;
    if (r->failed) return sti_fail(STRATA_E_FORMAT, "%s: the %s stream failed before", r->path, r->format);
    strata_status s = n > 0 ? r->read(r, data, n, &k) : STRATA_OK;
    r->failed = s != STRATA_OK;
    *got = s == STRATA_OK ? k : 0;
    return s;
}

const char *sti_reader_format(const sti_reader *r)
{
    return r->format;
}

void sti_reader_close(sti_reader *r)
{
    if (!r) return;
    if (r->fd >= 0) close(r->fd);
#if STRATA_HAVE_ZLIB
    if (r->zlib_ready) inflateEnd(&r->zlib);
#endif
#if STRATA_HAVE_ZSTD
    ZSTD_freeDStream(r->zstd);
#endif
    sti_heap_free(r->path);
    sti_heap_free(r);
}

/* ---- hash --------------------------------------------------------------------------------------------------- */

sti_hash sti_hash_start(void)
{
    return (sti_hash){ 0x6c62272e07bb0142u, 0x62b821756295c58du };
}

sti_hash sti_hash_add(sti_hash h, const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t hi = h.hi, lo = h.lo;
    for (size_t i = 0; i < n; i++) {
        /* times the prime 2^88 + 0x13b, modulo 2^128 */
        lo ^= p[i];
        uint64_t a = (lo & 0xffffffffu) * 0x13bu, b = (lo >> 32) * 0x13bu + (a >> 32);
        hi = hi * 0x13bu + (b >> 32) + (lo << 24);
        lo = b << 32 | (a & 0xffffffffu);
    }
    return (sti_hash){ hi, lo };
}

void sti_hash_text(sti_hash h, char out[33])
{
    snprintf(out, 33, "%016" PRIx64 "%016" PRIx64, h.hi, h.lo);
}

/* ---- corpus ------------------------------------------------------------------------------------------------- */

/* Room for at least one more byte than is used, so that the end of a file shows without growing once more. */
static strata_status reserve(sti_corpus *c, size_t *cap, size_t want, size_t limit)
{
    size_t n = STI_MIN(want, limit) + 1;
    if (n <= *cap) return STRATA_OK;
    uint8_t *text = sti_heap_grow(c->text, *cap, n);
    if (!text) return sti_fail(STRATA_E_MEMORY, "out of memory for %zu bytes of text", n);
    c->text = text;
    *cap = n;
    return STRATA_OK;
}

static size_t size_on_disk(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 ? (size_t)st.st_size : 0;
}

static strata_status load_one(sti_corpus *c, size_t *cap, const char *path, size_t limit)
{
    sti_corpus_file *f = &c->file[c->count++];
    sti_reader *r = NULL;
    f->offset = c->bytes;
    f->path = sti_strdup(path);
    if (!f->path) return sti_fail(STRATA_E_MEMORY, "out of memory reading %s", path);
    STI_TRY(sti_reader_open(path, &r));
    f->format = sti_reader_format(r);
    strata_status s = reserve(c, cap, c->bytes + size_on_disk(path), limit);
    for (bool more = true; more && s == STRATA_OK;) {
        size_t got = 0, room = *cap - c->bytes;
        s = sti_reader_read(r, c->text + c->bytes, room, &got);
        c->bytes += got;
        more = got == room;
        if (s == STRATA_OK && c->bytes > limit)
            s = sti_fail(STRATA_E_FORMAT, "%s: the text exceeds the limit of %zu bytes", path, limit);
        if (s == STRATA_OK && more) s = reserve(c, cap, *cap + *cap / 2 + 4096, limit);
    }
    sti_reader_close(r);
    f->bytes = c->bytes - f->offset;
    if (s == STRATA_OK) f->hash = sti_hash_add(sti_hash_start(), c->text + f->offset, f->bytes);
    return s;
}

strata_status sti_corpus_load(const char *const *paths, int32_t n, size_t limit, sti_corpus *out)
{
    sti_corpus c = { 0 };
    size_t cap = 0;
    strata_status s = STRATA_OK;
    *out = c;
    if (n < 1) return sti_fail(STRATA_E_INVALID, "no text files given");
    c.file = sti_heap((size_t)n * sizeof *c.file);
    if (!c.file) return sti_fail(STRATA_E_MEMORY, "out of memory for %d files", (int)n);
    for (int32_t i = 0; i < n && s == STRATA_OK; i++) s = load_one(&c, &cap, paths[i], limit);
    if (s == STRATA_OK)
        *out = c;
    else
        sti_corpus_free(&c);
    return s;
}

void sti_corpus_free(sti_corpus *c)
{
    for (int32_t i = 0; i < c->count; i++) sti_heap_free(c->file[i].path);
    sti_heap_free(c->file);
    sti_heap_free(c->text);
    *c = (sti_corpus){ 0 };
}
