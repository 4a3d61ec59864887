#include "io/text.h"

#if STRATA_HAVE_ZLIB
#include <zlib.h>
#endif
#if STRATA_HAVE_ZSTD
#include <zstd.h>
#endif

#include "io/io_test.h"

/* Text that compresses, but not to nothing. */
static uint8_t *sample(size_t n)
{
    uint8_t *p = malloc(n + 1);
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (uint8_t) "etaoin shrdlu\nx."[x >> 28];
    }
    return p;
}

/* One gzip member, or one zstd frame, from n bytes; NULL when this build cannot. From malloc. */
static uint8_t *compress_as(const char *format, const uint8_t *p, size_t n, size_t *bytes)
{
    size_t cap = n + n / 8 + 1024;
    uint8_t *out = malloc(cap);
    *bytes = 0;
#if STRATA_HAVE_ZLIB
    if (strcmp(format, "gzip") == 0) {
        z_stream z = { 0 };
        CHECK(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
        z.next_in = (Bytef *)(uintptr_t)p;
        z.avail_in = (uInt)n;
        z.next_out = out;
        z.avail_out = (uInt)cap;
        CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
        *bytes = cap - z.avail_out;
        deflateEnd(&z);
    }
#endif
#if STRATA_HAVE_ZSTD
    if (strcmp(format, "zstd") == 0) {
        ZSTD_CCtx *c = ZSTD_createCCtx();
        ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
        *bytes = ZSTD_compress2(c, out, cap, p, n);
        CHECK(!ZSTD_isError(*bytes));
        ZSTD_freeCCtx(c);
    }
#endif
    if (*bytes) return out;
    free(out);
    return NULL;
}

static void check_text(const char *path, const char *format, const uint8_t *want, size_t n)
{
    sti_corpus c;
    CHECK_OK(sti_corpus_load(&path, 1, STI_CORPUS_LIMIT, &c));
    CHECK_STR(c.file[0].format, format);
    CHECK_STR(c.file[0].path, path);
    CHECK_INT(c.bytes, n);
    CHECK(memcmp(c.text, want, n) == 0);
    sti_corpus_free(&c);
    /* and in pieces of awkward size */
    sti_reader *r;
    uint8_t piece[1009];
    size_t at = 0, got;
    CHECK_OK(sti_reader_open(path, &r));
    do {
        CHECK_OK(sti_reader_read(r, piece, sizeof piece, &got));
        CHECK(at + got <= n && memcmp(piece, want + at, got) == 0);
        at += got;
    } while (got == sizeof piece);
    CHECK_INT(at, n);
    CHECK_OK(sti_reader_read(r, piece, sizeof piece, &got));
    CHECK_INT(got, 0);
    sti_reader_close(r);
}

static void plain(void)
{
    static const size_t sizes[] = { 0, 1, 3, 1 << 17, (1 << 17) + 1, 300000 };
    const char *path = test_path("a.gz"); /* a name that lies */
    for (size_t i = 0; i < STI_COUNT(sizes); i++) {
        uint8_t *p = sample(sizes[i]);
        test_put(path, p, sizes[i]);
        check_text(path, "plain", p, sizes[i]);
        free(p);
    }
    test_rmdir();
}

static void compressed(const char *format)
{
    static const size_t sizes[] = { 0, 1, 300000 };
    const char *path = test_path("a.txt");
    for (size_t i = 0; i < STI_COUNT(sizes); i++) {
        size_t n = sizes[i], bytes;
        uint8_t *p = sample(n), *z = compress_as(format, p, n, &bytes);
        if (!z) {
            free(p);
            SKIP("no %s in this build", format);
        }
        test_put(path, z, bytes);
        check_text(path, format, p, n);
        /* two members, or frames, one after the other */
        z = realloc(z, 2 * bytes);
        p = realloc(p, 2 * n + 1);
        memcpy(z + bytes, z, bytes);
        if (n) memcpy(p + n, p, n);
        test_put(path, z, 2 * bytes);
        check_text(path, format, p, 2 * n);
        free(p);
        free(z);
    }
    test_rmdir();
}

static void broken(const char *format)
{
    const char *path = test_path("a.txt");
    size_t n = 2000, bytes, ok = 0;
    uint8_t *p = sample(n), *z = compress_as(format, p, n, &bytes);
    free(p);
    if (!z) SKIP("no %s in this build", format);
    sti_corpus c;
    for (size_t cut = 4; cut < bytes; cut++) {
        test_put(path, z, cut);
        CHECK_STATUS(sti_corpus_load(&path, 1, STI_CORPUS_LIMIT, &c), STRATA_E_FORMAT);
        CHECK_ERROR_TEXT(path);
        CHECK(!c.text && !c.file);
    }
    /* a flipped byte is found by the checksum, except in header fields that say nothing about the data */
    for (size_t i = 4; i < bytes; i++) {
        z[i] ^= 0x55;
        test_put(path, z, bytes);
        if (sti_corpus_load(&path, 1, STI_CORPUS_LIMIT, &c) == STRATA_OK) ok++;
        sti_corpus_free(&c);
        z[i] ^= 0x55;
    }
    CHECK(ok <= 6); /* gzip: 4 bytes of time, 2 of system and flags */
    z = realloc(z, bytes + 5);
    memcpy(z + bytes, "trash", 5);
    test_put(path, z, bytes + 5);
    CHECK_STATUS(sti_corpus_load(&path, 1, STI_CORPUS_LIMIT, &c), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("corrupt");
    free(z);
    test_rmdir();
}

static void gzip(void)
{
    compressed("gzip");
}
static void zstd(void)
{
    compressed("zstd");
}
static void broken_gzip(void)
{
    broken("gzip");
}
static void broken_zstd(void)
{
    broken("zstd");
}

static void missing_library(void)
{
    static const struct {
        const char *magic, *text;
        int have;
    } c[] = { { "\x1f\x8b\x08", "this build has no zlib", STRATA_HAVE_ZLIB },
              { "\x28\xb5\x2f\xfd", "this build has no zstd", STRATA_HAVE_ZSTD } };
    if (c[0].have && c[1].have) SKIP("this build has zlib and zstd");
    const char *path = test_path("a");
    for (size_t i = 0; i < STI_COUNT(c); i++) {
        sti_reader *r;
        if (c[i].have) continue;
        test_put(path, c[i].magic, strlen(c[i].magic));
        CHECK_STATUS(sti_reader_open(path, &r), STRATA_E_UNSUPPORTED);
        CHECK_ERROR_TEXT(c[i].text);
    }
    test_rmdir();
}

static void several_files(void)
{
    const char *paths[] = { test_path("a"), test_path("b"), test_path("c") };
    test_put(paths[0], "foo", 3);
    test_put(paths[1], "", 0);
    test_put(paths[2], "bar\n", 4);
    sti_corpus c;
    CHECK_OK(sti_corpus_load(paths, 3, 7, &c));
    CHECK(c.count == 3 && c.bytes == 7 && memcmp(c.text, "foobar\n", 7) == 0);
    CHECK(c.file[1].offset == 3 && c.file[1].bytes == 0 && c.file[2].offset == 3 && c.file[2].bytes == 4);
    sti_hash h = sti_hash_add(sti_hash_start(), "bar\n", 4);
    CHECK(c.file[2].hash.hi == h.hi && c.file[2].hash.lo == h.lo);
    sti_corpus_free(&c);
    sti_corpus_free(&c);

    CHECK_STATUS(sti_corpus_load(paths, 3, 6, &c), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("limit of 6 bytes");
    CHECK_STATUS(sti_corpus_load(paths, 0, 6, &c), STRATA_E_INVALID);
    paths[1] = test_path("none");
    CHECK_STATUS(sti_corpus_load(paths, 3, 7, &c), STRATA_E_IO);
    CHECK_ERROR_TEXT("none: No such file");
    CHECK(!c.text && !c.file && !c.count);
    paths[1] = test_path(".");
    CHECK_STATUS(sti_corpus_load(paths, 3, 7, &c), STRATA_E_IO);
    CHECK_ERROR_TEXT("directory");
    test_rmdir();
}

/* Values by the definition in big integers: h = basis; h = (h ^ byte) * (2^88 + 0x13b) mod 2^128 (Python). */
static void hashes(void)
{
    static const char *const c[][2] = {
        { "", "6c62272e07bb014262b821756295c58d" },
        { "a", "d228cb696f1a8caf78912b704e4a8964" },
        { "foobar", "343e1662793c64bf6f0d3597ba446f18" },
    };
    for (size_t i = 0; i < STI_COUNT(c); i++) {
        char text[33];
        size_t n = strlen(c[i][0]);
        sti_hash h = sti_hash_add(sti_hash_start(), c[i][0], n / 2);
        sti_hash_text(sti_hash_add(h, c[i][0] + n / 2, n - n / 2), text);
        CHECK_STR(text, c[i][1]);
    }
}

TESTS(T(plain), T(gzip), T(zstd), T(broken_gzip), T(broken_zstd), T(missing_library), T(several_files), T(hashes))
