#include "io/tokenizer/tokenizer.h"

#include "support/test.h"

static sti_tokenizer *open_kind(const char *name)
{
    sti_tokenizer *t;
    CHECK_OK(sti_tokenizer_open(name, "", &t));
    CHECK_STR(t->cls->name, name);
    CHECK_INT(t->vocab, t->cls->vocab);
    return t;
}

static void registry(void)
{
    const sti_tokenizer_class *c;
    sti_tokenizer *t;
    CHECK(sti_tokenizer_count() >= 3);
    for (int32_t i = 0; i < sti_tokenizer_count(); i++) {
        const sti_tokenizer_class *x = sti_tokenizer_at(i);
        CHECK_OK(sti_tokenizer_find(x->name, &c));
        CHECK(c == x && *c->summary && !c->vocab == !!c->files && c->vocab <= 256);
    }
    CHECK(!sti_tokenizer_at(-1) && !sti_tokenizer_at(sti_tokenizer_count()));
    CHECK_STATUS(sti_tokenizer_find("char69", &c), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("char96");
    CHECK(!c);
    CHECK_STATUS(sti_tokenizer_open("char69", "", &t), STRATA_E_SPEC);
    CHECK(!t);
    CHECK_STATUS(sti_tokenizer_open("byte", "file", &t), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("byte has no vocabulary file");
    CHECK_STATUS(sti_tokenizer_open("bpe", "", &t), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("MERGES");
    CHECK_STATUS(sti_tokenizer_open("bpe", "/none", &t), STRATA_E_IO);
    CHECK(!t);
    CHECK_STATUS(sti_tokenizer_restore("byte", &(sti_tokenizer_text){ "a", "b", 1 }, 1, &t), STRATA_E_FORMAT);
    CHECK_STATUS(sti_tokenizer_restore("bpe", NULL, 0, &t), STRATA_E_FORMAT);
}

/* Any text: decode gives what the kind's README says remains; here pure ASCII, on which nothing is lost. */
static void round_trip_every_kind(void)
{
    uint8_t text[96], back[96];
    for (int i = 0; i < 95; i++) text[i] = (uint8_t)(0x20 + i);
    text[95] = '\n';
    for (int32_t k = 0; k < sti_tokenizer_count(); k++) {
        if (sti_tokenizer_at(k)->files) continue;
        sti_tokenizer *t = open_kind(sti_tokenizer_at(k)->name);
        sti_ids ids = { .width = t->width };
        sti_token_counts n = { 0 };
        int32_t wide[96];
        size_t bytes;
        CHECK_OK(t->cls->encode(t, text, 96, true, &ids, &n));
        CHECK_OK(t->cls->encode(t, text, 96, true, &ids, &n));
        CHECK_INT(n.tokens, 2 * 96);
        CHECK_INT(ids.count, 2 * 96);
        sti_ids_copy(&ids, 96, 96, wide);
        for (int i = 0; i < 96; i++) CHECK(wide[i] == ((uint8_t *)ids.id)[i] && wide[i] < t->vocab);
        CHECK_OK(sti_tokenizer_decode(t, wide, 96, back, 96, &bytes));
        CHECK(bytes == 96 && memcmp(back, text, 96) == 0);
        CHECK_STATUS(sti_tokenizer_decode(t, wide, 96, back, 95, &bytes), STRATA_E_SPACE);
        wide[7] = t->vocab;
        CHECK_STATUS(sti_tokenizer_decode(t, wide, 96, back, 96, &bytes), STRATA_E_INVALID);
        wide[7] = -1;
        CHECK_STATUS(sti_tokenizer_decode(t, wide, 96, back, 96, &bytes), STRATA_E_INVALID);
        CHECK_INT(bytes, 0);
        CHECK_OK(t->cls->encode(t, text, 0, true, &ids, &n));
        sti_ids_free(&ids);
        sti_tokenizer_close(t);
    }
}

/* Encode `n` bytes over themselves, or into `out`. */
static strata_status encode_into(const sti_tokenizer *t, const void *text, size_t n, bool strict, uint8_t *out,
                                 sti_token_counts *counts)
{
    sti_ids ids = { .id = out, .cap = (int64_t)n, .width = 1 };
    strata_status st = t->cls->encode(t, text, n, strict, &ids, counts);
    CHECK(ids.id == out);
    return st;
}

static void ids_of_every_width(void)
{
    static const int32_t width[] = { 1, 2, 4 };
    for (int w = 0; w < 3; w++) {
        sti_ids ids = { .width = width[w] };
        int32_t out[40], most = w == 0 ? 255 : w == 1 ? 65535 : INT32_MAX;
        for (int i = 0; i < 1000; i++) {
            CHECK_OK(sti_ids_reserve(&ids, 1));
            if (w == 0) ((uint8_t *)ids.id)[ids.count++] = (uint8_t)(most - i % 50);
            if (w == 1) ((uint16_t *)ids.id)[ids.count++] = (uint16_t)(most - i % 50);
            if (w == 2) ((int32_t *)ids.id)[ids.count++] = most - i % 50;
        }
        sti_ids_copy(&ids, 960, 40, out);
        for (int i = 0; i < 40; i++) CHECK_INT(out[i], most - (960 + i) % 50);
        CHECK_STATUS(sti_ids_reserve(&ids, INT64_MAX), STRATA_E_MEMORY);
        CHECK_INT(ids.count, 1000);
        sti_ids_free(&ids);
        CHECK_INT(ids.width, width[w]);
    }
}

static void byte_is_identity(void)
{
    sti_tokenizer *t = open_kind("byte");
    uint8_t text[256], ids[256], piece[STI_TOKEN_BYTES];
    sti_token_counts n = { 0 };
    CHECK_INT(t->vocab, 256);
    for (int i = 0; i < 256; i++) text[i] = (uint8_t)(255 - i);
    CHECK_OK(encode_into(t, text, 256, true, ids, &n));
    for (int i = 0; i < 256; i++) CHECK(ids[i] == 255 - i && t->cls->decode(t, i, piece) == 1 && piece[0] == i);
    CHECK(n.tokens == 256 && !n.foreign && !n.tabs && !n.crlf && !n.line);
    CHECK_OK(encode_into(t, text, 256, true, text, &n));
    CHECK(memcmp(text, ids, 256) == 0);
    sti_tokenizer_close(t);
}

static void char96_ids(void)
{
    sti_tokenizer *t = open_kind("char96");
    uint8_t ids[96], piece[STI_TOKEN_BYTES];
    sti_token_counts n = { 0 };
    CHECK_INT(t->vocab, 96);
    CHECK_OK(encode_into(t, "\n ~A", 4, true, ids, &n));
    CHECK(ids[0] == 0 && ids[1] == 1 && ids[2] == 95 && ids[3] == 'A' - 31);
    for (int i = 0; i < 96; i++) CHECK(t->cls->decode(t, i, piece) == 1 && piece[0] == (i ? i + 31 : '\n'));
    sti_tokenizer_close(t);
}

static void char96_foreign(void)
{
    static const struct {
        const char *in, *out;
        size_t n;
        int64_t foreign, tabs, crlf, line, col;
    } c[] = {
        { "a\tb\r\nc\r\n", "a b\nc\n", 8, 0, 1, 2, 0, 0 },
        { "a\rb\r", "a?b?", 4, 2, 0, 0, 1, 2 },
        { "\r\r\n", "?\n", 3, 1, 0, 1, 1, 1 },
        { "x\n\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80y", "x\n???y", 12, 3, 0, 0, 2, 1 },
        { "\xff\xc3x\xe2\x82", "??x??", 5, 4, 0, 0, 1, 1 }, /* stray, lone lead, cut off */
        { "ab\r\n\0\x7f\x1b", "ab\n???", 7, 3, 0, 1, 2, 1 },
        { "a\r\nbc\xc2\xa0", "a\nbc?", 7, 1, 0, 1, 2, 3 },
    };
    sti_tokenizer *t = open_kind("char96");
    for (size_t i = 0; i < STI_COUNT(c); i++) {
        uint8_t buffer[32], back[32];
        int32_t ids[32];
        sti_ids grown = { .width = 1 };
        sti_token_counts n = { 0 };
        size_t bytes, want = strlen(c[i].out);
        CHECK_OK(t->cls->encode(t, (const uint8_t *)c[i].in, c[i].n, false, &grown, &n));
        sti_ids_copy(&grown, 0, grown.count, ids);
        sti_ids_free(&grown);
        CHECK_INT(n.tokens, want);
        CHECK_OK(sti_tokenizer_decode(t, ids, n.tokens, back, sizeof back, &bytes));
        CHECK(bytes == want && memcmp(back, c[i].out, want) == 0);
        CHECK_INT(n.foreign, c[i].foreign);
        CHECK_INT(n.tabs, c[i].tabs);
        CHECK_INT(n.crlf, c[i].crlf);
        CHECK_INT(n.line, c[i].line);
        CHECK_INT(n.col, c[i].col);
        /* in place gives the same */
        sti_token_counts m = { 0 };
        memcpy(buffer, c[i].in, c[i].n);
        CHECK_OK(encode_into(t, buffer, c[i].n, false, buffer, &m));
        for (size_t k = 0; k < want; k++) CHECK_INT(buffer[k], ids[k]);
        /* strict refuses exactly those with foreign characters, and says where */
        strata_status s = encode_into(t, c[i].in, c[i].n, true, buffer, &m);
        CHECK_STATUS(s, c[i].foreign ? STRATA_E_FORMAT : STRATA_OK);
        char where[64];
        snprintf(where, sizeof where, "line %d, byte %d:", (int)c[i].line, (int)c[i].col);
        if (c[i].foreign) CHECK_ERROR_TEXT(where);
    }
    uint8_t ids[8];
    sti_token_counts n = { 0 };
    CHECK_STATUS(encode_into(t, "ok \xe2\x82\xac", 6, true, ids, &n), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("line 1, byte 4: 0xe2 0x82 0xac is not in char96");
    sti_tokenizer_close(t);
}

TESTS(T(registry), T(round_trip_every_kind), T(ids_of_every_width), T(byte_is_identity), T(char96_ids),
      T(char96_foreign))
