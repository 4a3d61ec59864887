/* Batches and evaluation windows of the text task against the text itself. */

#include "core/philox.h"
#include "task/registry.h"
#include "training/training.h"

static char logged[1024];

static void log_line(void *user, int32_t level, const char *text)
{
    (void)user;
    (void)level;
    snprintf(logged, sizeof logged, "%s", text);
}

static strata_context *context(void)
{
    strata_context *ctx = NULL;
    const strata_context_config cfg = { .size = STRATA_INIT(strata_context_config), .log = log_line };
    CHECK_OK(strata_context_create("threads=1", &cfg, &ctx));
    return ctx;
}

/* Random bytes: no window occurs twice. */
static const char *bytes_file(const char *name, size_t n, uint64_t seed)
{
    const char *path = test_path(name);
    unsigned char *s = malloc(n);
    for (size_t i = 0; s && i < n; i++) s[i] = (unsigned char)sti_below(seed, 0, i, 256);
    test_put(path, s, n);
    free(s);
    return path;
}

static strata_status open_task(const strata_context *ctx, const char *const *pair, sti_task_use use,
                               const char *const *path, int32_t n, int64_t time, sti_task *t)
{
    strata_config *c = test_config(ctx, pair);
    CHECK_OK(sti_task_create(ctx, c, t));
    strata_config_destroy(c);
    strata_status st = t->cls->load(t, use, path, n, time);
    if (st != STRATA_OK) sti_task_destroy(t);
    return st;
}

/* Every token but the first is scored exactly once, with the right target, whatever the window. */
static void windows_cover_the_text(void)
{
    strata_context *ctx = context();
    const char *path = bytes_file("bytes", 1000, 7);
    size_t n = 0;
    char *raw = test_get(path, &n);
    const int64_t times[] = { 1, 7, 64, 999, 1000, 5000 };
    for (size_t k = 0; k < sizeof times / sizeof *times; k++) {
        const int64_t time = times[k];
        sti_task t;
        CHECK_OK(open_task(ctx, PAIRS("text.tokenizer", "byte"), STI_TASK_EVAL, &path, 1, time, &t));
        int32_t *in = malloc((size_t)time * sizeof *in), *out = malloc((size_t)time * sizeof *out);
        int64_t scored = 0;
        for (int64_t w = 0; w < t.cls->eval_windows(&t, time); w++) {
            memset(in, 0x7f, (size_t)time * sizeof *in);
            memset(out, 0x7f, (size_t)time * sizeof *out);
            t.cls->eval_window(&t, w, time, in, out);
            for (int64_t i = 0; i < time; i++) {
                CHECK(in[i] >= 0 && in[i] < 256);
                if (out[i] < 0) continue;
                CHECK_INT(w * time + i, scored); /* in order, without gap */
                CHECK_INT(in[i], (unsigned char)raw[scored]);
                CHECK_INT(out[i], (unsigned char)raw[scored + 1]);
                scored++;
            }
        }
        CHECK_INT(scored, 999);
        free(in);
        free(out);
        sti_task_destroy(&t);
    }
    free(raw);
    strata_context_destroy(ctx);
    test_clean();
}

static void batches_are_windows_of_the_training_part(void)
{
    enum { T = 16, B = 5 };
    strata_context *ctx = context();
    const char *path = bytes_file("bytes", 1000, 7);
    size_t n = 0;
    unsigned char *raw = (unsigned char *)test_get(path, &n);
    sti_task t;
    CHECK_OK(
        open_task(ctx, PAIRS("text.tokenizer", "byte", "text.val_fraction", "0.25"), STI_TASK_TRAIN, &path, 1, T, &t));
    int32_t in[B * T], out[B * T], again[B * T], other[B * T], rest[B * T];
    int64_t last = 0;
    for (int64_t index = 0; index < 200; index++) {
        t.cls->batch(&t, 3, index, B, T, in, out);
        for (int b = 0; b < B; b++) {
            int64_t at = -1;
            for (int64_t s = 0; s + T < 750 && at < 0; s++) {
                at = s;
                for (int i = 0; i < T; i++)
                    if (in[b * T + i] != raw[s + i] || out[b * T + i] != raw[s + i + 1]) at = -1;
            }
            CHECK(at >= 0); /* never a token of the validation part, 750 … 999 */
            last = at > last ? at : last;
        }
    }
    CHECK(last > 700); /* the end of the training part is reached */
    t.cls->batch(&t, 3, 17, B, T, in, out);
    t.cls->batch(&t, 3, 17, B, T, again, rest);
    CHECK(memcmp(in, again, sizeof in) == 0 && memcmp(out, rest, sizeof out) == 0);
    t.cls->batch(&t, 4, 17, B, T, other, rest);
    CHECK(memcmp(in, other, sizeof in) != 0);
    t.cls->batch(&t, 3, 18, B, T, other, rest);
    CHECK(memcmp(in, other, sizeof in) != 0);
    CHECK_INT(t.cls->eval_windows(&t, T), (249 + T - 1) / T);
    CHECK_INT(t.nfile, 1);
    CHECK_INT(t.file[0].bytes, 1000);
    CHECK_INT(strlen(t.file[0].hash), 32);
    sti_task_destroy(&t);
    free(raw);
    strata_context_destroy(ctx);
    test_clean();
}

/* Byte pairs: the windows hold the tokenizer's ids, the unit is a token, and windows stand for the text's bytes. */
static void windows_of_byte_pairs(void)
{
    enum { T = 7 };
    strata_context *ctx = context();
    const char *path = test_path("words"), *vocab = test_path("merges");
    const char *merges = "t h\nth e\n\xc4\xa0 the\n\xc4\xa0 c\na t\n\xc4\xa0"
                         "c at\n";
    const char *line = "the cat the hat \xff the cats";
    test_put(vocab, merges, strlen(merges));
    test_put(path, line, strlen(line));
    sti_task t;
    CHECK_OK(open_task(ctx, PAIRS("text.tokenizer", "bpe", "text.vocab", vocab), STI_TASK_EVAL, &path, 1, T, &t));
    CHECK_INT(t.vocab, 262);
    CHECK_STR(t.unit, "token");
    CHECK_INT(strlen(t.vocab_hash), 32);
    int32_t in[T], out[T];
    char text[64];
    size_t n = 0;
    for (int64_t w = 0; w < t.cls->eval_windows(&t, T); w++) {
        t.cls->eval_window(&t, w, T, in, out);
        for (int i = 0; i < T; i++) {
            char piece[STI_TASK_PIECE];
            if (w == 0 && i == 0) {
                CHECK_INT(in[0], 257);
                CHECK_INT(in[1], 261);
                n = t.cls->decode(&t, in[0], text);
            }
            if (out[i] < 0) continue;
            const size_t k = t.cls->decode(&t, out[i], piece);
            CHECK(n + k <= sizeof text);
            memcpy(text + n, piece, k);
            n += k;
        }
    }
    CHECK(n == strlen(line) && memcmp(text, line, n) == 0);
    CHECK_INT(t.cls->eval_bytes(&t), (int64_t)strlen(line) - 3);
    sti_task_destroy(&t);
    strata_config *c = test_config(ctx, PAIRS("text.tokenizer", "bpe"));
    CHECK_STATUS(sti_task_create(ctx, c, &t), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("text.vocab");
    strata_config_destroy(c);
    strata_context_destroy(ctx);
    test_clean();
}

static void validation_files(void)
{
    strata_context *ctx = context();
    const char *a = bytes_file("a", 300, 3), *b = bytes_file("b", 40, 5), *c = bytes_file("c", 60, 11);
    char list[1024];
    snprintf(list, sizeof list, "%s,%s", b, c);
    sti_task t;
    CHECK_OK(open_task(ctx, PAIRS("text.tokenizer", "byte", "text.val", list), STI_TASK_TRAIN, &a, 1, 16, &t));
    CHECK_INT(t.nfile, 3);
    CHECK_INT(t.file[0].validation, 0);
    CHECK_INT(t.file[2].validation, 1);
    CHECK_INT(t.cls->eval_windows(&t, 10), 10); /* 100 tokens, 99 scored */
    sti_task_destroy(&t);
    strata_context_destroy(ctx);
    test_clean();
}

static void refusals(void)
{
    strata_context *ctx = context();
    const char *empty = test_path("empty"), *brief = test_path("brief"), *foreign = test_path("foreign"),
               *none = "/none";
    test_put(empty, "", 0);
    test_put(brief, "abcdefgh", 8);
    static const char odd[] = "ab\xc3\xa9\tcd and more of it, long enough for a window";
    test_put(foreign, odd, sizeof odd - 1);
    sti_task t;
    CHECK_STATUS(open_task(ctx, NULL, STI_TASK_TRAIN, &empty, 1, 4, &t), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("empty");
    CHECK_STATUS(open_task(ctx, NULL, STI_TASK_TRAIN, &none, 1, 4, &t), STRATA_E_IO);
    CHECK_STATUS(open_task(ctx, NULL, STI_TASK_TRAIN, NULL, 0, 4, &t), STRATA_E_INVALID);
    CHECK_STATUS(open_task(ctx, PAIRS("text.val_fraction", "0.25"), STI_TASK_TRAIN, &brief, 1, 6, &t), STRATA_E_SHAPE);
    CHECK_ERROR_TEXT("6 tokens, but context=6 needs at least 7");
    CHECK_STATUS(open_task(ctx, NULL, STI_TASK_TRAIN, &brief, 1, 4, &t), STRATA_E_SHAPE); /* no validation token */
    CHECK_ERROR_TEXT("validation");
    CHECK_STATUS(open_task(ctx, PAIRS("text.strict", "1"), STI_TASK_EVAL, &foreign, 1, 4, &t), STRATA_E_FORMAT);
    logged[0] = '\0';
    CHECK_OK(open_task(ctx, NULL, STI_TASK_EVAL, &foreign, 1, 4, &t));
    CHECK(logged[0]);
    sti_task_destroy(&t);

    strata_config *c = test_config(ctx, PAIRS("text.tokenizer", "char97"));
    CHECK_STATUS(sti_task_create(ctx, c, &t), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("char96");
    strata_config_destroy(c);
    CHECK_STATUS(strata_config_create(ctx, "txt", &c), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("text");
    strata_context_destroy(ctx);
    test_clean();
}

TESTS(T(windows_cover_the_text), T(batches_are_windows_of_the_training_part), T(windows_of_byte_pairs),
      T(validation_files), T(refusals))
