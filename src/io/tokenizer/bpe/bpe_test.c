/* Byte pairs against the published examples, against a slow Python implementation (tests/golden/gen_bpe.py), and
 * against the published loop written again here, on lists that no training would make. */
#include "io/tokenizer/bpe/bpe.h"

#include <strata/file.h>

#include "core/context.h"
#include "core/philox.h"
#include "io/io_test.h"
#include "io/json.h"

static sti_tokenizer *restore(const char *merges, size_t bytes, const char *ids)
{
    const sti_tokenizer_text s[] = { { "m.txt", merges, bytes }, { "v.json", ids, ids ? strlen(ids) : 0 } };
    sti_tokenizer *t = NULL;
    CHECK_OK(sti_tokenizer_restore("bpe", s, ids ? 2 : 1, &t));
    return t;
}

/* Ids of a text; the caller frees. */
static int32_t *encode(const sti_tokenizer *t, const void *text, size_t n, int64_t *count)
{
    sti_ids ids = { .width = t->width };
    sti_token_counts c = { 0 };
    CHECK_OK(t->cls->encode(t, text, n, true, &ids, &c));
    CHECK(c.tokens == ids.count && !c.foreign && !c.line);
    int32_t *out = malloc(((size_t)ids.count + 1) * sizeof *out);
    CHECK(out);
    sti_ids_copy(&ids, 0, ids.count, out);
    *count = ids.count;
    sti_ids_free(&ids);
    return out;
}

static void check_ids(const sti_tokenizer *t, const void *text, size_t n, const int32_t *want, int64_t count)
{
    int64_t got = 0;
    int32_t *ids = encode(t, text, n, &got);
    for (int64_t i = 0; i < got && i < count; i++)
        if (ids[i] != want[i]) FAIL("token %lld is %d, not %d", (long long)i, (int)ids[i], (int)want[i]);
    CHECK_INT(got, count);
    free(ids);
}

static void check_round_trip(const sti_tokenizer *t, const uint8_t *text, size_t n)
{
    int64_t count = 0;
    size_t bytes = 0;
    int32_t *ids = encode(t, text, n, &count);
    uint8_t *back = malloc(n + 1);
    CHECK_OK(sti_tokenizer_decode(t, ids, count, back, n, &bytes));
    CHECK(bytes == n && memcmp(back, text, n) == 0);
    free(back);
    free(ids);
}

/* ---- pre-tokens ------------------------------------------------------------------------------------------------- */
static void check_split(const char *text, const char *const *want)
{
    const size_t n = strlen(text);
    size_t at = 0;
    for (int i = 0; want[i]; i++) {
        CHECK(at < n);
        size_t k = sti_bpe_split((const uint8_t *)text + at, n - at);
        if (k != strlen(want[i]) || memcmp(text + at, want[i], k) != 0)
            FAIL("\"%.*s\" instead of \"%s\"", (int)k, text + at, want[i]);
        at += k;
    }
    CHECK_INT(at, n);
}

#define WORDS(...)                                                                                                     \
    (const char *const[])                                                                                              \
    {                                                                                                                  \
        __VA_ARGS__, NULL                                                                                              \
    }
static void pre_tokens(void)
{
    check_split("Hello world", WORDS("Hello", " world"));
    check_split("I'm you're 'S we'll''ve", WORDS("I", "'m", " you", "'re", " '", "S", " we", "'ll", "''", "ve"));
    check_split("don't!'t ", WORDS("don", "'t", "!'", "t", " "));
    check_split("a  b   c", WORDS("a", " ", " b", "  ", " c"));
    check_split("x\n\ny \n z  ", WORDS("x", "\n", "\n", "y", " \n", " z", "  "));
    check_split(" 12abc 3.5%", WORDS(" 12", "abc", " 3", ".", "5", "%"));
    check_split("\xc2\xa0 \xe3\x80\x80x", WORDS("\xc2\xa0 ", "\xe3\x80\x80", "x")); /* no-break, ideographic space */
    check_split(" \xc3\xbc\xce\xb1\xd9\xa3\xc2\xb2.", WORDS(" \xc3\xbc\xce\xb1", "\xd9\xa3\xc2\xb2", "."));
    check_split("e\xcc\x81t\xc3", WORDS("e", "\xcc\x81", "t", "\xc3")); /* a mark is no letter; a cut-off character */
    check_split("\xff\xfe a\x1c\x85", WORDS("\xff\xfe", " a", "\x1c\x85"));
    check_split("  '", WORDS(" ", " '"));
}

/* ---- golden file ------------------------------------------------------------------------------------------------ */
typedef struct golden {
    strata_context *ctx;
    strata_file *file;
    strata_tensor learn, merges, text, lengths, ids;
} golden;

static golden open_golden(void)
{
    golden g = { 0 };
    CHECK_OK(strata_context_create("threads=1", NULL, &g.ctx));
    CHECK_OK(strata_file_open(g.ctx, "tests/golden/bpe.safetensors", &g.file));
    CHECK_OK(strata_file_get(g.file, "learn", &g.learn));
    CHECK_OK(strata_file_get(g.file, "merges", &g.merges));
    CHECK_OK(strata_file_get(g.file, "text", &g.text));
    CHECK_OK(strata_file_get(g.file, "lengths", &g.lengths));
    CHECK_OK(strata_file_get(g.file, "ids", &g.ids));
    return g;
}

static void close_golden(golden *g)
{
    strata_file_close(g->file);
    strata_context_destroy(g->ctx);
}

static void golden_split_and_ids(void)
{
    golden g = open_golden();
    const uint8_t *s = g.text.data;
    const size_t n = (size_t)g.text.shape[0];
    const int32_t *length = g.lengths.data;
    size_t at = 0;
    for (int64_t i = 0; i < g.lengths.shape[0]; i++) {
        size_t k = sti_bpe_split(s + at, n - at);
        if (k != (size_t)length[i])
            FAIL("pre-token %lld at byte %zu: %zu bytes, not %d", (long long)i, at, k, length[i]);
        at += k;
    }
    CHECK_INT(at, n);
    sti_tokenizer *t = restore(g.merges.data, (size_t)g.merges.shape[0], NULL);
    CHECK_INT(t->vocab, 656);
    CHECK_INT(t->width, 2);
    CHECK_INT(strlen(t->hash), 32);
    check_ids(t, s, n, g.ids.data, g.ids.shape[0]);
    check_round_trip(t, s, n);
    check_round_trip(t, g.learn.data, (size_t)g.learn.shape[0]);
    /* a second text goes behind the first, and a cut before white space changes nothing */
    sti_ids ids = { .width = 2 };
    sti_token_counts c = { 0 };
    for (at = n / 2; at < n && !(s[at] == ' ' && s[at - 1] >= 'a' && s[at - 1] <= 'z'); at++) {}
    CHECK_OK(t->cls->encode(t, s, at, true, &ids, &c));
    CHECK_OK(t->cls->encode(t, s + at, n - at, true, &ids, &c));
    CHECK_INT(ids.count, g.ids.shape[0]);
    for (int64_t i = 0; i < ids.count; i++) CHECK_INT(((uint16_t *)ids.id)[i], ((const int32_t *)g.ids.data)[i]);
    sti_ids_free(&ids);
    sti_tokenizer_close(t);
    close_golden(&g);
}

static void golden_training(void)
{
    golden g = open_golden();
    const char *text = test_path("text"), *out = test_path("out");
    size_t n = 0;
    test_put(text, g.learn.data, (size_t)g.learn.shape[0]);
    strata_tokenizer_training how = { .size = STRATA_INIT(strata_tokenizer_training), .vocab = 656 };
    CHECK_OK(strata_tokenizer_train(g.ctx, &text, 1, &how, out));
    CHECK_INT(how.vocab, 656);
    CHECK_INT(how.bytes, g.learn.shape[0]);
    CHECK(how.words > 300);
    char *made = test_get(out, &n);
    CHECK_INT(n, g.merges.shape[0]);
    CHECK(memcmp(made, g.merges.data, n) == 0);
    free(made);
    close_golden(&g);
    test_rmdir();
}

/* ---- the published loop ----------------------------------------------------------------------------------------- */
enum { LETTERS = 3, RULES = 24, LONGEST = 40 };

typedef struct rules { /* tokens are strings over a, b, c */
    char left[RULES][64], right[RULES][64];
    int n;
} rules;

static int slow_encode(const rules *r, const char *word, char part[][64])
{
    int n = 0;
    for (; word[n]; n++) snprintf(part[n], 64, "%c", word[n]);
    for (;;) {
        int best = r->n;
        for (int i = 0; i + 1 < n; i++)
            for (int k = 0; k < best; k++)
                if (!strcmp(part[i], r->left[k]) && !strcmp(part[i + 1], r->right[k])) best = k;
        if (best == r->n) return n;
        int m = 0;
        for (int i = 0; i < n; i++, m++) {
            char joined[128];
            snprintf(joined, sizeof joined, "%s", part[i]);
            if (i + 1 < n && !strcmp(part[i], r->left[best]) && !strcmp(part[i + 1], r->right[best]))
                snprintf(joined, sizeof joined, "%.60s%.60s", part[i], part[i + 1]), i++;
            snprintf(part[m], 64, "%.63s", joined);
        }
        n = m;
    }
}

/* Rules in random order of length, so that joins make pairs of lower rank, and one string is made in several ways. */
static void random_rules(rules *r, uint64_t seed)
{
    uint64_t draw = 0;
    char known[RULES + LETTERS][64] = { "a", "b", "c" };
    int tokens = LETTERS;
    r->n = 0;
    while (r->n < RULES) {
        const char *a = known[sti_below(seed, 0, draw++, (uint64_t)tokens)];
        const char *b = known[sti_below(seed, 0, draw++, (uint64_t)tokens)];
        bool skip = strlen(a) + strlen(b) > 12;
        for (int i = 0; i < r->n; i++) skip |= !strcmp(r->left[i], a) && !strcmp(r->right[i], b);
        if (skip) continue;
        snprintf(r->left[r->n], 64, "%s", a);
        snprintf(r->right[r->n++], 64, "%s", b);
        snprintf(known[tokens++], 64, "%.30s%.30s", r->left[r->n - 1], r->right[r->n - 1]);
    }
}

static void any_rules(void)
{
    for (uint64_t seed = 0; seed < 300; seed++) {
        rules r;
        sti_text text = { 0 };
        random_rules(&r, seed);
        for (int i = 0; i < r.n; i++) sti_text_add(&text, "%s %s\n", r.left[i], r.right[i]);
        sti_tokenizer *t = restore(text.s, text.len, NULL);
        for (uint64_t w = 0; w < 20; w++) {
            char word[LONGEST + 1] = "", part[LONGEST][64];
            int64_t got = 0;
            const int n = 1 + (int)sti_below(seed, 1, w, LONGEST);
            for (int i = 0; i < n; i++) word[i] = (char)('a' + sti_below(seed, 2 + w, (uint64_t)i, LETTERS));
            const int want = slow_encode(&r, word, part);
            int32_t *ids = encode(t, word, (size_t)n, &got);
            CHECK_INT(got, want);
            for (int i = 0; i < want; i++) {
                uint8_t piece[STI_TOKEN_BYTES];
                size_t k = t->cls->decode(t, ids[i], piece);
                CHECK(k == strlen(part[i]) && memcmp(piece, part[i], k) == 0);
            }
            free(ids);
        }
        sti_tokenizer_close(t);
        sti_text_free(&text);
    }
}

static void any_bytes(void)
{
    static const char merges[] = "a a\naa aa\naaaa aaaa\n\xc4\x80 \xc4\x80\n\xc4\xa0 \xc4\xa0\n\xc3\xbf \xc3\xbe\n";
    enum { N = 200000 };
    uint8_t *s = malloc(N);
    sti_tokenizer *t = restore(merges, sizeof merges - 1, NULL), *none = restore("", 0, NULL);
    CHECK_INT(t->vocab, 262);
    CHECK_INT(none->vocab, 256);
    for (int i = 0; i < N; i++) s[i] = (uint8_t)sti_below(1, 0, (uint64_t)i, 256);
    check_round_trip(t, s, N);
    check_round_trip(none, s, N);
    memset(s, 'a', N); /* one word; 25000 tokens of 8 */
    check_round_trip(t, s, N);
    int64_t n = 0;
    free(encode(t, s, N, &n));
    CHECK_INT(n, N / 8);
    memset(s, ' ', N);
    check_round_trip(t, s, N);
    check_round_trip(t, s, 0);
    sti_tokenizer_close(t);
    sti_tokenizer_close(none);
    free(s);
}

/* ---- files ------------------------------------------------------------------------------------------------------ */
/* All tokens of "a b", "ab c" as JSON: token i has id count - 1 - i; `extra` comes last. */
static char *json_of(const char *extra)
{
    sti_bpe_alphabet a;
    sti_text t = { 0 };
    const int count = 258 + (*extra != '\0');
    sti_bpe_alphabet_fill(&a);
    sti_text_add(&t, "{");
    for (int i = 0; i < 256; i++) {
        sti_text name = { 0 };
        sti_bpe_put(&a, &a.order[i], 1, &name);
        sti_json_put_string(&t, name.s, name.len);
        sti_text_add(&t, ":%d,", count - 1 - i);
        sti_text_free(&name);
    }
    sti_text_add(&t, "\"ab\":%d,\"abc\":%d", count - 257, count - 258);
    if (*extra) sti_text_add(&t, ",\"%s\":0", extra);
    sti_text_add(&t, "}");
    CHECK(!t.failed);
    return t.s;
}

static void ids_of_a_file(void)
{
    uint8_t piece[STI_TOKEN_BYTES];
    char *j = json_of("<|\xe2\x82\xac|>");
    sti_tokenizer *t = restore("a b\r\nab c\r\n", 11, j); /* CR LF, no last newline */
    CHECK_INT(t->vocab, 259);
    check_ids(t, "abcabb", 6, (const int32_t[]){ 1, 2, 258 - 65 }, 3); /* '!' is token 0, 'b' token 65 */
    CHECK(t->cls->decode(t, 0, piece) == 7 && memcmp(piece, "<|\xe2\x82\xac|>", 7) == 0);
    check_round_trip(t, (const uint8_t *)"<|\xe2\x82\xac|>", 7); /* as text, not as the token */
    sti_tokenizer_close(t);
    sti_heap_free(j);
}

static void refuse(const char *merges, size_t n, const char *ids, const char *why)
{
    const sti_tokenizer_text s[] = { { "m.txt", merges, n }, { "v.json", ids, ids ? strlen(ids) : 0 } };
    sti_tokenizer *t = NULL;
    CHECK_STATUS(sti_tokenizer_restore("bpe", s, ids ? 2 : 1, &t), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT(why);
    CHECK(!t);
}

#define REFUSE(merges, why) refuse(merges, sizeof merges - 1, NULL, why)
static void refusals(void)
{
    REFUSE("#version: 0.2\na b\nab\n", "m.txt:3: not two tokens");
    REFUSE("a b c\n", "m.txt:1: not two tokens");
    REFUSE("a b\n a\n", "m.txt:2: not two tokens");
    REFUSE("a b\nb \n", "m.txt:2: not two tokens");
    REFUSE("a b\n#version 1\n", "m.txt:2: \"#version\" is neither a byte nor made by an earlier line");
    REFUSE("a b\nbc a\n", "m.txt:2: \"bc\" is neither");
    REFUSE("a b\nab c\na b\n", "m.txt:3: this pair stands in an earlier line");
    REFUSE("a \xe2\x82\xac\n", "m.txt:1: byte 1 of \"\xe2\x82\xac\"");
    REFUSE("a \xc5\x84\n", "m.txt:1: byte 1 of"); /* U+0144, one beyond the last symbol */
    REFUSE("a \xff\n", "m.txt: not UTF-8");
    REFUSE("\0\0\0", "m.txt:1: not two tokens");
    sti_text t = { 0 };
    for (int k = 1; k <= 1024; k *= 2) {
        for (int side = 0; side < 2; side++) {
            for (int i = 0; i < k; i++) sti_text_add(&t, "z");
            sti_text_add(&t, side ? "\n" : " ");
        }
    }
    refuse(t.s, t.len, NULL, "m.txt:11: a token is too long");
    sti_text_free(&t);

    char *j = json_of("");
    refuse("a b\n", 4, "{\"a\":0}", "v.json has no id for");
    refuse("a b\n", 4, "{\"a\":0,\"a\":1}", "v.json");
    refuse("a b\n", 4, "{\"a\":1}", "\"a\": its id is not");
    refuse("a b\n", 4, "{\"a\":0,\"b\":0}", "\"b\": its id belongs to another");
    refuse("a b\n", 4, "{\"a\":0.5}", "its id is not");
    refuse("a b\n", 4, "[1]", "not an object");
    refuse("a b\n", 4, "{", "v.json: line 1");
    refuse("a b\nab c\nab b\n", 14, j, "v.json has no id for \"abb\", which m.txt makes");
    sti_heap_free(j);
}

/* ---- training --------------------------------------------------------------------------------------------------- */
static void training(void)
{
    strata_context *ctx = NULL;
    CHECK_OK(strata_context_create("threads=1", NULL, &ctx));
    const char *text = test_path("text"), *out = test_path("out"), *empty = test_path("empty");
    test_put(text, "aaaa aaaa ab", 12);
    test_put(empty, "", 0);
    strata_tokenizer_training how = { .size = STRATA_INIT(strata_tokenizer_training), .vocab = 300 };
    CHECK_OK(strata_tokenizer_train(ctx, &text, 1, &how, out));
    /* (a, a) 6 times, counted at every position; then (aa, aa) twice; then " " and what follows, twice */
    char *made = test_get(out, NULL);
    CHECK_STR(made, "#version: 0.2\na a\naa aa\n");
    CHECK_INT(how.vocab, 258);
    CHECK_INT(how.words, 3);
    free(made);
    how.vocab = 256;
    CHECK_OK(strata_tokenizer_train(ctx, &text, 1, &how, out));
    made = test_get(out, NULL);
    CHECK_STR(made, "#version: 0.2\n");
    free(made);
    how.vocab = 255;
    CHECK_STATUS(strata_tokenizer_train(ctx, &text, 1, &how, out), STRATA_E_INVALID);
    how.vocab = 300;
    CHECK_STATUS(strata_tokenizer_train(ctx, &empty, 1, &how, out), STRATA_E_FORMAT);
    CHECK_STATUS(strata_tokenizer_train(ctx, &text, 1, &how, test_path("none/out")), STRATA_E_IO);
    CHECK_STATUS(strata_tokenizer_train(ctx, &text, 0, &how, out), STRATA_E_INVALID);
    CHECK_INT(how.vocab, 300);

    /* public calls */
    strata_tokenizer *t = NULL;
    int32_t *ids = NULL;
    int64_t n = 0;
    void *back = NULL;
    size_t bytes = 0;
    test_put(out, "a a\naa aa\n", 10);
    CHECK_OK(strata_tokenizer_open(ctx, "bpe", out, &t));
    CHECK_INT(strata_tokenizer_vocab(t), 258);
    CHECK_OK(strata_tokenizer_encode(t, "aaaaaaa", 7, &ids, &n));
    CHECK(n == 3 && ids[0] == 257 && ids[1] == 256 && ids[2] == 64);
    CHECK_OK(strata_tokenizer_decode(t, ids, n, &back, &bytes));
    CHECK(bytes == 7 && memcmp(back, "aaaaaaa", 7) == 0);
    strata_free(ctx, back);
    ids[1] = 258;
    CHECK_STATUS(strata_tokenizer_decode(t, ids, n, &back, &bytes), STRATA_E_INVALID);
    strata_free(ctx, ids);
    CHECK_OK(strata_tokenizer_encode(t, NULL, 0, &ids, &n));
    CHECK(n == 0 && ids);
    strata_free(ctx, ids);
    strata_tokenizer_close(t);
    CHECK_STATUS(strata_tokenizer_open(ctx, "bpe", "a,b,c", &t), STRATA_E_IO);
    CHECK(!t);
    strata_tokenizer_close(NULL);
    strata_context_destroy(ctx);
    test_rmdir();
}

/* ---- the published vocabulary ----------------------------------------------------------------------------------- */
static void published_ids(void)
{
    const char *data = getenv("STRATA_DATA");
    char merges[512], both[1024];
    snprintf(merges, sizeof merges, "%s/weights/gpt2-tokenizer/vocab.bpe.zst", data && *data ? data : "data");
    snprintf(both, sizeof both, "%s,%s/weights/gpt2-tokenizer/encoder.json.zst", merges, data && *data ? data : "data");
    if (access(merges, R_OK) != 0) SKIP("no data: weights/gpt2-tokenizer");
    sti_tokenizer *t = NULL;
    strata_status st = sti_tokenizer_open("bpe", merges, &t);
    if (st == STRATA_E_UNSUPPORTED) SKIP("%s", strata_last_error());
    CHECK_OK(st);
    CHECK_INT(t->vocab, 50256);
    for (int with_ids = 0; with_ids < 2; with_ids++) {
        check_ids(t, "Hello world", 11, (const int32_t[]){ 15496, 995 }, 2);
        check_ids(t, "Hello, I'm a language model,", 28, (const int32_t[]){ 15496, 11, 314, 1101, 257, 3303, 2746, 11 },
                  8);
        check_ids(t, "<|endoftext|>", 13, (const int32_t[]){ 27, 91, 437, 1659, 5239, 91, 29 }, 7);
        sti_tokenizer_close(t);
        t = NULL;
        if (!with_ids) CHECK_OK(sti_tokenizer_open("bpe", both, &t));
        if (!with_ids) CHECK_INT(t->vocab, 50257);
    }
}

TESTS(T(pre_tokens), T(golden_split_and_ids), T(golden_training), T(any_rules), T(any_bytes), T(ids_of_a_file),
      T(refusals), T(training), T(published_ids))
