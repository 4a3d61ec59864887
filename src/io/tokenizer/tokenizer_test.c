#include "io/tokenizer/tokenizer.h"

#include "support/test.h"

static const sti_tokenizer_class *find(const char *name)
{
    const sti_tokenizer_class *t;
    CHECK_OK(sti_tokenizer_find(name, &t));
    CHECK_STR(t->name, name);
    return t;
}

static void registry(void)
{
    const sti_tokenizer_class *t;
    CHECK(sti_tokenizer_count() >= 2);
    for (int32_t i = 0; i < sti_tokenizer_count(); i++) {
        t = sti_tokenizer_at(i);
        CHECK(find(t->name) == t && *t->summary && t->vocab > 0 && t->vocab <= 256);
    }
    CHECK(!sti_tokenizer_at(-1) && !sti_tokenizer_at(sti_tokenizer_count()));
    CHECK_STATUS(sti_tokenizer_find("char69", &t), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("char96");
    CHECK(!t);
}

/* Any text: decode gives what the kind's README says remains; here pure ASCII, on which nothing is lost. */
static void round_trip_every_kind(void)
{
    uint8_t text[96], ids[96], back[96];
    for (int i = 0; i < 95; i++) text[i] = (uint8_t)(0x20 + i);
    text[95] = '\n';
    for (int32_t k = 0; k < sti_tokenizer_count(); k++) {
        const sti_tokenizer_class *t = sti_tokenizer_at(k);
        sti_token_counts n = { 0 };
        int32_t wide[96];
        size_t bytes;
        CHECK_OK(t->encode(text, 96, true, ids, &n));
        CHECK_OK(sti_tokenizer_encode_i32(t, text, 96, true, wide, &n));
        CHECK_INT(n.tokens, 2 * 96);
        for (int i = 0; i < 96; i++) CHECK(wide[i] == ids[i] && wide[i] < t->vocab);
        CHECK_OK(sti_tokenizer_decode(t, wide, 96, back, 96, &bytes));
        CHECK(bytes == 96 && memcmp(back, text, 96) == 0);
        CHECK_STATUS(sti_tokenizer_decode(t, wide, 96, back, 95, &bytes), STRATA_E_SPACE);
        wide[7] = t->vocab;
        CHECK_STATUS(sti_tokenizer_decode(t, wide, 96, back, 96, &bytes), STRATA_E_INVALID);
        wide[7] = -1;
        CHECK_STATUS(sti_tokenizer_decode(t, wide, 96, back, 96, &bytes), STRATA_E_INVALID);
        CHECK_INT(bytes, 0);
        CHECK_OK(t->encode(text, 0, true, ids, &n));
    }
}

static void byte_is_identity(void)
{
    const sti_tokenizer_class *t = find("byte");
    uint8_t text[256], ids[256], piece[STI_TOKEN_BYTES];
    sti_token_counts n = { 0 };
    CHECK_INT(t->vocab, 256);
    for (int i = 0; i < 256; i++) text[i] = (uint8_t)(255 - i);
    CHECK_OK(t->encode(text, 256, true, ids, &n));
    for (int i = 0; i < 256; i++) CHECK(ids[i] == 255 - i && t->decode(i, piece) == 1 && piece[0] == i);
    CHECK(n.tokens == 256 && !n.foreign && !n.tabs && !n.crlf && !n.line);
    CHECK_OK(t->encode(text, 256, true, text, &n));
    CHECK(memcmp(text, ids, 256) == 0);
}

static void char96_ids(void)
{
    const sti_tokenizer_class *t = find("char96");
    uint8_t ids[96], piece[STI_TOKEN_BYTES];
    sti_token_counts n = { 0 };
    CHECK_INT(t->vocab, 96);
    CHECK_OK(t->encode((const uint8_t *)"\n ~A", 4, true, ids, &n));
    CHECK(ids[0] == 0 && ids[1] == 1 && ids[2] == 95 && ids[3] == 'A' - 31);
    for (int i = 0; i < 96; i++) CHECK(t->decode(i, piece) == 1 && piece[0] == (i ? i + 31 : '\n'));
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
    const sti_tokenizer_class *t = find("char96");
    for (size_t i = 0; i < STI_COUNT(c); i++) {
        uint8_t buffer[32], back[32];
        int32_t ids[32];
        sti_token_counts n = { 0 };
        size_t bytes, want = strlen(c[i].out);
        CHECK_OK(sti_tokenizer_encode_i32(t, (const uint8_t *)c[i].in, c[i].n, false, ids, &n));
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
        CHECK_OK(t->encode(buffer, c[i].n, false, buffer, &m));
        for (size_t k = 0; k < want; k++) CHECK_INT(buffer[k], ids[k]);
        /* strict refuses exactly those with foreign characters, and says where */
        strata_status s = t->encode((const uint8_t *)c[i].in, c[i].n, true, buffer, &m);
        CHECK_STATUS(s, c[i].foreign ? STRATA_E_FORMAT : STRATA_OK);
        char where[64];
        snprintf(where, sizeof where, "line %d, byte %d:", (int)c[i].line, (int)c[i].col);
        if (c[i].foreign) CHECK_ERROR_TEXT(where);
    }
    uint8_t ids[8];
    sti_token_counts n = { 0 };
    CHECK_STATUS(t->encode((const uint8_t *)"ok \xe2\x82\xac", 6, true, ids, &n), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("line 1, byte 4: 0xe2 0x82 0xac is not in char96");
}

TESTS(T(registry), T(round_trip_every_kind), T(byte_is_identity), T(char96_ids), T(char96_foreign))
