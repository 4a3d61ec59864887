/* Files built byte by byte here, from the format's description, are the oracle for the reader; the writer's bytes are
 * compared with such a file. */
#include "io/safetensors.h"

#include "io/io_test.h"

static strata_context *ctx;

static void begin(void)
{
    CHECK_OK(strata_context_create(NULL, NULL, &ctx));
}

static void end(void)
{
    strata_context_destroy(ctx);
    test_rmdir();
}

/* header text + n bytes 0, 1, 2, … as a file in memory (from malloc, exactly sized so that ASan sees overruns) */
static uint8_t *make(const char *header, size_t n, size_t *bytes)
{
    size_t h = strlen(header);
    uint8_t *p = malloc(8 + h + n);
    *bytes = 8 + h + n;
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)((uint64_t)h >> 8 * i);
    memcpy(p + 8, header, h);
    for (size_t i = 0; i < n; i++) p[8 + h + i] = (uint8_t)i;
    return p;
}

static strata_status parse(const char *header, size_t n)
{
    size_t bytes;
    uint8_t *p = make(header, n, &bytes);
    strata_file *f = (strata_file *)&bytes;
    strata_status s = sti_file_parse(ctx, p, bytes, &f);
    if ((s == STRATA_OK) != (f != NULL)) FAIL("handle and status disagree for %s", header);
    strata_file_close(f);
    free(p);
    return s;
}

static void accepts(void)
{
    static const struct {
        const char *header;
        size_t bytes;
    } good[] = {
        { "{}", 0 },
        { "{}      ", 0 },
        { "{\"__metadata__\":{}}", 0 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[3,0,9223372036854775807],\"data_offsets\":[0,0]}}", 0 },
        { "{\"z\":{\"dtype\":\"F64\",\"shape\":[0],\"data_offsets\":[2,2]},"
          "\"b\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[0,2]},"
          "\"a\":{\"dtype\":\"I64\",\"shape\":[1,2],\"data_offsets\":[2,18]}}",
          18 },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}", 2 },
        { "{\"a\":{\"dtype\":\"NEW\",\"shape\":[1],\"data_offsets\":[0,3]}}", 3 },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1 },
    };
    begin();
    for (size_t i = 0; i < STI_COUNT(good); i++) CHECK_OK(parse(good[i].header, good[i].bytes));
    end();
}

static void refuses(void)
{
    static const struct {
        const char *header;
        size_t bytes;
        const char *text; /* in the message */
    } bad[] = {
        { "", 0, "header" },
        { "[]", 0, "not an object" },
        { "{} x", 0, "header" },
        { "{\"a\":1}", 0, "tensor a" },
        { "{\"a\":{}}", 0, "tensor a has no dtype" },
        { "{\"a\":{\"dtype\":1,\"shape\":[],\"data_offsets\":[0,4]}}", 4, "no dtype" },
        { "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "no shape" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,4]}}", 4, "no shape" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "no data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "no data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "no data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "data_offsets [4, 0]" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4.0]}}", 4, "data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,99999999999999999999]}}", 4, "data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[null,\"4\"]}}", 4, "data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "dimension 0" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1.5],\"data_offsets\":[0,4]}}", 4, "dimension 1" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,[]],\"data_offsets\":[0,4]}}", 4, "dimension 1" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "dimension 1" },
        { "{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0, "do not fill" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "do not fill" },
        { "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "do not fill" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 3, "ends at byte 4" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, "4 bytes but the file has 5" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "begins at byte 4" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
          "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
          3, "tensor b begins at byte 1" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
          "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
          2, "tensor b begins at byte 0" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
          "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
          2, "two members \"a\"" },
        { "{\"a\\u0000\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "NUL" },
        { "{\"__metadata__\":1}", 0, "__metadata__" },
        { "{\"__metadata__\":{\"k\":1}}", 0, "metadata k" },
        { "{\"__metadata__\":{\"k\":\"\\u0000\"}}", 0, "metadata k" },
    };
    begin();
    for (size_t i = 0; i < STI_COUNT(bad); i++) {
        strata_status s = parse(bad[i].header, bad[i].bytes);
        if (s != STRATA_E_FORMAT) FAIL("%s gave %s", bad[i].header, strata_status_name(s));
        CHECK_ERROR_TEXT(bad[i].text);
    }
    strata_file *f;
    static const uint8_t huge[16] = { 255, 255, 255, 255, 255, 255, 255, 255, '{', '}' };
    CHECK_STATUS(sti_file_parse(ctx, huge, sizeof huge, &f), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("not a safetensors file");
    end();
}

static void every_truncation(void)
{
    static const char header[] = "{\"__metadata__\":{\"k\":\"v\"},"
                                 "\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
                                 "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[16,19]}}";
    begin();
    size_t bytes;
    uint8_t *p = make(header, 19, &bytes);
    strata_file *f;
    CHECK_OK(sti_file_parse(ctx, p, bytes, &f));
    strata_file_close(f);
    for (size_t n = 0; n < bytes; n++) {
        uint8_t *cut = malloc(n ? n : 1);
        memcpy(cut, p, n);
        CHECK_STATUS(sti_file_parse(ctx, cut, n, &f), STRATA_E_FORMAT);
        free(cut);
    }
    /* and every single damaged byte: any verdict, no crash */
    for (size_t i = 0; i < bytes; i++)
        for (int bit = 0; bit < 8; bit++) {
            p[i] ^= (uint8_t)(1 << bit);
            if (sti_file_parse(ctx, p, bytes, &f) == STRATA_OK) strata_file_close(f);
            p[i] ^= (uint8_t)(1 << bit);
        }
    free(p);
    end();
}

static void reads(void)
{
    /* the data begins at an odd address: views must be aligned all the same */
    static const char header[] = "{\"u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                                 "\"h\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[33,35]},"
                                 "\"d\":{\"dtype\":\"F64\",\"shape\":[2,2],\"data_offsets\":[1,33]},"
                                 "\"n\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1],\"data_offsets\":[35,36]},"
                                 "\"__metadata__\":{\"key\":\"\\u00e9\"}}";
    begin();
    size_t bytes;
    uint8_t *p = make(header, 36, &bytes);
    const char *path = test_path("a.safetensors"), *name;
    test_put(path, p, bytes);
    free(p);
    strata_file *f;
    strata_tensor t;
    CHECK_OK(strata_file_open(ctx, path, &f));
    CHECK_INT(strata_file_count(f), 4);
    CHECK_OK(strata_file_at(f, 0, &name, &t));
    CHECK_STR(name, "u");
    CHECK(t.dtype == STRATA_U8 && t.ndim == 1 && t.shape[0] == 1 && *(uint8_t *)t.data == 0);
    CHECK_OK(strata_file_at(f, 1, &name, &t));
    CHECK_STR(name, "d");
    CHECK(t.dtype == STRATA_F64 && t.ndim == 2 && t.shape[0] == 2 && t.stride[0] == 2 && t.stride[1] == 1);
    CHECK_INT((uintptr_t)t.data % 8, 0);
    for (int i = 0; i < 32; i++) CHECK_INT(((uint8_t *)t.data)[i], i + 1);
    const void *d = t.data;
    CHECK_OK(strata_file_get(f, "d", &t));
    CHECK(t.data == d);
    CHECK_STATUS(strata_file_get(f, "h", &t), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("tensor h has dtype F16");
    CHECK_STATUS(strata_file_get(f, "n", &t), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("7 dimensions");
    CHECK(t.data == d);
    CHECK_STATUS(strata_file_get(f, "none", &t), STRATA_E_NOTFOUND);
    CHECK_STATUS(strata_file_at(f, 4, &name, &t), STRATA_E_INVALID);
    CHECK_STATUS(strata_file_at(f, -1, &name, &t), STRATA_E_INVALID);
    CHECK_STR(strata_file_meta(f, "key"), "\xc3\xa9");
    CHECK(!strata_file_meta(f, "none") && !strata_file_meta(f, NULL));
    strata_file_close(f);
    strata_file_close(NULL);

    CHECK_STATUS(strata_file_open(ctx, test_path("none"), &f), STRATA_E_IO);
    CHECK_ERROR_TEXT("none: No such file");
    CHECK_STATUS(strata_file_open(ctx, test_path("."), &f), STRATA_E_IO);
    CHECK_STATUS(strata_file_open(NULL, path, &f), STRATA_E_INVALID);
    test_put(path, "", 0);
    CHECK_STATUS(strata_file_open(ctx, path, &f), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("a.safetensors: 0 bytes");
    end();
}

/* The exact bytes, written out by hand. */
static void writes(void)
{
    begin();
    const char *path = test_path("a.safetensors");
    uint8_t u[3] = { 1, 2, 3 };
    float x[6] = { 1, 2, 3, 4, 5, 6 };
    strata_tensor t = strata_view2(x, STRATA_F32, 3, 2); /* transposed view of (2, 3) */
    t.stride[0] = 1;
    t.stride[1] = 3;
    strata_file_entry e[] = { { "u", strata_view1(u, STRATA_U8, 3) },
                              { "s", strata_view(x, STRATA_F32, 0, NULL) },
                              { "t\n", t },
                              { "e", strata_view2(NULL, STRATA_F64, 0, 5) } };
    strata_file_pair m[] = { { "format", "x\"y" } };
    CHECK_OK(strata_file_write(ctx, path, e, 4, m, 1));
    static const char header[] = "{\"__metadata__\":{\"format\":\"x\\\"y\"},"
                                 "\"e\":{\"dtype\":\"F64\",\"shape\":[0,5],\"data_offsets\":[0,0]},"
                                 "\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                                 "\"t\\n\":{\"dtype\":\"F32\",\"shape\":[3,2],\"data_offsets\":[4,28]},"
                                 "\"u\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[28,31]}}";
    static const float data[7] = { 1, 1, 4, 2, 5, 3, 6 };
    size_t n, h = sizeof header - 1, padded = (8 + h + 63) / 64 * 64 - 8;
    char *got = test_get(path, &n);
    CHECK_INT(n, 8 + padded + 31);
    CHECK_INT((uint8_t)got[0] + 256 * (uint8_t)got[1], padded);
    CHECK(memcmp(got + 8, header, h) == 0);
    for (size_t i = h; i < padded; i++) CHECK_INT(got[8 + i], ' ');
    CHECK(memcmp(got + 8 + padded, data, sizeof data) == 0 && memcmp(got + 8 + padded + 28, u, 3) == 0);
    free(got);
    end();
}

static void round_trip(void)
{
    static const int32_t types[] = { STRATA_U8, STRATA_F64, STRATA_BF16, STRATA_I32, STRATA_F32, STRATA_I64 };
    static uint8_t buffer[6][8 * 210];
    begin();
    const char *path = test_path("a.safetensors");
    strata_file_entry e[6];
    char names[6][32];
    for (int i = 0; i < 6; i++) {
        for (size_t k = 0; k < sizeof buffer[i]; k++) buffer[i][k] = (uint8_t)(k * 7 + (size_t)i * 31 + 1);
        int64_t shape[6] = { 1, 2, 3, 5, 7, 1 };
        snprintf(names[i], sizeof names[i], "w.%d \xc3\xa9", i);
        e[i] = (strata_file_entry){ names[i], strata_view(buffer[i], types[i], 1 + i, shape) };
    }
    CHECK_OK(strata_file_write(ctx, path, e, 6, NULL, 0));
    strata_file *f;
    CHECK_OK(strata_file_open(ctx, path, &f));
    CHECK_INT(strata_file_count(f), 6);
    for (int i = 0; i < 6; i++) {
        strata_tensor t;
        CHECK_OK(strata_file_get(f, names[i], &t));
        CHECK(t.dtype == types[i] && t.ndim == 1 + i && t.device == STRATA_CPU);
        for (int d = 0; d <= i; d++) CHECK(t.shape[d] == e[i].tensor.shape[d]);
        CHECK(memcmp(t.data, buffer[i], (size_t)strata_tensor_count(&t) * strata_dtype_size(t.dtype)) == 0);
        CHECK_INT((uintptr_t)t.data % strata_dtype_size(t.dtype), 0);
    }
    CHECK(!strata_file_meta(f, "x"));
    /* replacing the file leaves the open one intact */
    CHECK_OK(strata_file_write(ctx, path, NULL, 0, NULL, 0));
    strata_tensor t;
    CHECK_OK(strata_file_get(f, names[5], &t));
    CHECK(memcmp(t.data, buffer[5], 210 * 8) == 0);
    strata_file_close(f);
    CHECK_OK(strata_file_open(ctx, path, &f));
    CHECK_INT(strata_file_count(f), 0);
    strata_file_close(f);
    end();
}

/* Strides of zero and below, against a loop. */
static void odd_strides(void)
{
    begin();
    const char *path = test_path("a.safetensors");
    int32_t x[24];
    for (int i = 0; i < 24; i++) x[i] = i;
    strata_tensor t = strata_view3(x + 23, STRATA_I32, 2, 3, 4);
    t.stride[0] = -12;
    t.stride[1] = 0;
    t.stride[2] = -2;
    strata_file_entry e = { "a", t };
    CHECK_OK(strata_file_write(ctx, path, &e, 1, NULL, 0));
    strata_file *f;
    CHECK_OK(strata_file_open(ctx, path, &f));
    CHECK_OK(strata_file_get(f, "a", &t));
    const int32_t *got = t.data;
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 4; k++) CHECK_INT(*got++, 23 - 12 * i - 2 * k);
    strata_file_close(f);
    end();
}

static void refuses_to_write(void)
{
    begin();
    const char *path = test_path("a.safetensors");
    float x[2] = { 0 };
    strata_tensor ok = strata_view1(x, STRATA_F32, 2), t;
    strata_file_entry e[2] = { { "a", ok }, { "a", ok } };
    strata_file_pair m[2] = { { "k", "v" }, { "k", "w" } };
    CHECK_STATUS(strata_file_write(ctx, path, e, 2, NULL, 0), STRATA_E_INVALID);
    CHECK_ERROR_TEXT("two of tensor a");
    CHECK_STATUS(strata_file_write(ctx, path, e, 1, m, 2), STRATA_E_INVALID);
    m[0].value = "\xff";
    CHECK_STATUS(strata_file_write(ctx, path, e, 1, m, 1), STRATA_E_INVALID);
    static const char *const names[] = { NULL, "\xc3", "__metadata__" };
    for (size_t i = 0; i < STI_COUNT(names); i++) {
        e[0].name = names[i];
        CHECK_STATUS(strata_file_write(ctx, path, e, 1, NULL, 0), STRATA_E_INVALID);
    }
    for (int i = 0; i < 5; i++) {
        t = ok;
        if (i == 0) t.dtype = STRATA_C64;
        if (i == 1) t.device = STRATA_CUDA;
        if (i == 2) t.ndim = 7;
        if (i == 3) t.shape[0] = -1;
        if (i == 4) t.data = NULL;
        e[0] = (strata_file_entry){ "a", t };
        CHECK_STATUS(strata_file_write(ctx, path, e, 1, NULL, 0), STRATA_E_INVALID);
    }
    CHECK_STATUS(strata_file_write(NULL, path, NULL, 0, NULL, 0), STRATA_E_INVALID);
    CHECK_STATUS(strata_file_write(ctx, path, NULL, 1, NULL, 0), STRATA_E_INVALID);
    e[0] = (strata_file_entry){ "a", ok };
    CHECK_STATUS(strata_file_write(ctx, test_path("none/a"), e, 1, NULL, 0), STRATA_E_IO);
    CHECK_INT(test_files(0), 0);
    end();
}

TESTS(T(accepts), T(refuses), T(every_truncation), T(reads), T(writes), T(round_trip), T(odd_strides),
      T(refuses_to_write))
