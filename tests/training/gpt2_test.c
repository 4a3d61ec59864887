/* GPT-2 weights made by NumPy (tests/golden/gen_gpt2.py): logits against float64, and back bit for bit. */

#include <strata/file.h>
#include <strata/gpt2.h>
#include <strata/train.h>

#include "core/base.h"
#include "model/session.h"
#include "support/near.h"
#include "training/training.h"

#define WEIGHTS "tests/golden/gpt2.safetensors"

static strata_context *context(void)
{
    strata_context *ctx = NULL;
    CHECK_OK(strata_context_create("threads=1", NULL, &ctx));
    return ctx;
}

static strata_gpt2_config bytes_and_heads(int64_t heads)
{
    return (strata_gpt2_config){ .size = STRATA_INIT(strata_gpt2_config), .heads = heads, .tokenizer = "byte" };
}

static strata_model *import(const strata_context *ctx, const char *weights, const char *out)
{
    const strata_gpt2_config cfg = bytes_and_heads(3);
    strata_model *m = NULL;
    CHECK_OK(strata_gpt2_import(ctx, weights, &cfg, out));
    CHECK_OK(strata_model_load(ctx, out, 0, &m));
    return m;
}

/* Token by token from the caches, and all at once. */
static void logits(void)
{
    strata_context *ctx = context();
    strata_model *m = import(ctx, WEIGHTS, test_path("model"));
    strata_file *g = NULL;
    strata_tensor tokens, want, size;
    CHECK_OK(strata_file_open(ctx, "tests/golden/gpt2_logits.safetensors", &g));
    CHECK_OK(strata_file_get(g, "tokens", &tokens));
    CHECK_OK(strata_file_get(g, "logits", &want));
    CHECK_OK(strata_file_get(g, "size", &size));
    const int64_t time = want.shape[0], vocab = want.shape[1];
    float *row = malloc((size_t)vocab * sizeof *row);
    for (int64_t prompt = 1; prompt <= time; prompt += time - 1) {
        sti_session *s = NULL;
        CHECK_OK(sti_session_create(m, 0, &s));
        CHECK_OK(sti_session_feed(s, tokens.data, prompt));
        for (int64_t i = prompt - 1; i < time; i++) {
            if (i >= prompt) CHECK_OK(sti_session_feed(s, (const int32_t *)tokens.data + i, 1));
            memcpy(row, sti_session_logits(s), (size_t)vocab * sizeof *row);
            /* ten roundings of relative size eps sqrt(80) meet on the way; k: the longest sum, F */
            near_all("logits", row, STRATA_F32, (const double *)want.data + i * vocab,
                     (const double *)size.data + i * vocab, vocab, 4, 80);
        }
        sti_session_destroy(s);
    }

    /* the loss of the same tokens as a text */
    char text[64];
    double nats = 0;
    for (int64_t i = 0; i < time; i++) text[i] = (char)((const int32_t *)tokens.data)[i];
    for (int64_t i = 0; i + 1 < time; i++) {
        const double *z = (const double *)want.data + i * vocab;
        double sum = 0;
        for (int64_t v = 0; v < vocab; v++) sum += exp(z[v]);
        nats += log(sum) - z[((const int32_t *)tokens.data)[i + 1]];
    }
    const char *file = test_path("text"), *model = test_path("model");
    strata_eval_result r = { .size = STRATA_INIT(strata_eval_result) };
    test_put(file, text, (size_t)time);
    CHECK_OK(strata_evaluate(ctx, model, 0, &file, 1, &r));
    CHECK_INT(r.tokens, time - 1);
    CHECK(fabs(r.nats - nats / (double)(time - 1)) < 1e-5);
    strata_measures_destroy(r.measures);
    free(row);
    strata_file_close(g);
    strata_model_destroy(m);
    strata_context_destroy(ctx);
    test_clean();
}

static void same_tensors(const strata_context *ctx, const char *got, const char *want)
{
    strata_file *a = NULL, *b = NULL;
    int32_t buffers = 0;
    CHECK_OK(strata_file_open(ctx, got, &a));
    CHECK_OK(strata_file_open(ctx, want, &b));
    for (int32_t i = 0; i < strata_file_count(b); i++) {
        const char *name = NULL;
        strata_tensor x, y;
        CHECK_OK(strata_file_at(b, i, &name, &x));
        if (strstr(name, ".attn.bias")) {
            buffers++;
            continue;
        }
        if (strncmp(name, "transformer.", 12) == 0) name += 12;
        CHECK_OK(strata_file_get(a, name, &y));
        CHECK(x.ndim == y.ndim && x.shape[0] == y.shape[0] && (x.ndim == 1 || x.shape[1] == y.shape[1]));
        CHECK(memcmp(x.data, y.data, (size_t)strata_tensor_count(&x) * sizeof(float)) == 0);
    }
    CHECK_INT(strata_file_count(a), strata_file_count(b) - buffers);
    CHECK_STR(strata_file_meta(a, "format"), "pt");
    strata_file_close(a);
    strata_file_close(b);
}

static void there_and_back(void)
{
    strata_context *ctx = context();
    strata_model *m = import(ctx, WEIGHTS, test_path("model"));
    CHECK_INT(strata_model_context(m), 20);
    CHECK_OK(strata_gpt2_export(m, test_path("out")));
    same_tensors(ctx, test_path("out"), WEIGHTS);
    strata_model_destroy(m);
    m = import(ctx, test_path("out"), test_path("again"));
    strata_model_destroy(m);
    strata_context_destroy(ctx);
    test_clean();
}

/* ---- refusals --------------------------------------------------------------------------------------------------- */
enum { MOST = 48 };
typedef struct copy { /* of the weights file, to change */
    strata_file *f;
    strata_file_entry e[MOST];
    char name[MOST][80];
    int32_t n;
} copy;

static copy copy_weights(const strata_context *ctx, const char *prefix)
{
    copy c = { 0 };
    CHECK_OK(strata_file_open(ctx, WEIGHTS, &c.f));
    for (c.n = 0; c.n < strata_file_count(c.f); c.n++) {
        const char *name = NULL;
        CHECK(c.n + 1 < MOST);
        CHECK_OK(strata_file_at(c.f, c.n, &name, &c.e[c.n].tensor));
        snprintf(c.name[c.n], sizeof c.name[0], "%s%s", prefix, name);
    }
    return c;
}

static const char *write_copy(const strata_context *ctx, copy *c)
{
    const char *path = test_path("changed");
    for (int32_t i = 0; i < c->n; i++) c->e[i].name = c->name[i];
    CHECK_OK(strata_file_write(ctx, path, c->e, c->n, NULL, 0));
    return path;
}

static int32_t find(const copy *c, const char *name)
{
    for (int32_t i = 0; i < c->n; i++)
        if (strcmp(c->name[i], name) == 0) return i;
    FAIL("no tensor %s", name);
}

static void with_a_prefix_and_a_head(void)
{
    strata_context *ctx = context();
    copy c = copy_weights(ctx, "transformer.");
    const strata_gpt2_config cfg = bytes_and_heads(3);
    c.e[c.n].tensor = c.e[find(&c, "transformer.wte.weight")].tensor;
    snprintf(c.name[c.n++], sizeof c.name[0], "lm_head.weight");
    strata_model *m = import(ctx, write_copy(ctx, &c), test_path("model"));
    CHECK_OK(strata_gpt2_export(m, test_path("out")));
    same_tensors(ctx, test_path("out"), WEIGHTS);
    strata_model_destroy(m);
    float other[256 * 24] = { 0 };
    c.e[c.n - 1].tensor = strata_view2(other, STRATA_F32, 256, 24);
    CHECK_STATUS(strata_gpt2_import(ctx, write_copy(ctx, &c), &cfg, test_path("none")), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("lm_head.weight differs");
    strata_file_close(c.f);
    strata_context_destroy(ctx);
    test_clean();
}

static void refusals(void)
{
    strata_context *ctx = context();
    float zero[4096] = { 0 };
    double wide[24] = { 0 };
    const struct {
        const char *name;
        strata_tensor tensor; /* ndim 0: take it away */
        const char *why;
    } bad[] = {
        { "h.1.mlp.c_proj.bias", { 0 }, "tensor \"h.1.mlp.c_proj.bias\" of GPT-2 is missing" },
        { "wpe.weight", { 0 }, "\"wpe.weight\" of GPT-2 is missing" },
        { "h.0.ln_1.weight", { 0 }, "\"h.0.ln_1.weight\" of GPT-2 is missing" },
        { "h.0.attn.c_attn.weight", strata_view2(zero, STRATA_F32, 72, 24), "is (72, 24), not (24, 72)" },
        { "h.0.ln_2.bias", strata_view1(zero, STRATA_F32, 23), "has 23 numbers, not 24" },
        { "ln_f.weight", strata_view2(zero, STRATA_F32, 1, 24), "has 2 dimensions, not 1" },
        { "ln_f.weight", strata_view1(wide, STRATA_F64, 24), "is not f32" },
        { "h.0.attn.c_attn.q", strata_view1(zero, STRATA_F32, 24), "\"h.0.attn.c_attn.q\" is not part of GPT-2" },
        { "h.2.ln_2.bias", strata_view1(zero, STRATA_F32, 24), "\"h.2.ln_2.bias\" is not part of GPT-2" },
        { "h.1.ln_1.weight", { 0 }, "is not part of GPT-2" }, /* one layer, and the rest of a second */
    };
    strata_gpt2_config cfg = bytes_and_heads(3);
    for (size_t i = 0; i < STI_COUNT(bad); i++) {
        copy c = copy_weights(ctx, "");
        int32_t at = 0;
        while (at < c.n && strcmp(c.name[at], bad[i].name) != 0) at++;
        if (bad[i].tensor.ndim == 0) {
            CHECK(at < c.n);
            memmove(c.name[at], c.name[at + 1], (size_t)(c.n - at - 1) * sizeof c.name[0]);
            memmove(&c.e[at], &c.e[at + 1], (size_t)(c.n - at - 1) * sizeof c.e[0]);
            c.n--;
        } else {
            if (at == c.n) snprintf(c.name[c.n++], sizeof c.name[0], "%s", bad[i].name);
            c.e[at].tensor = bad[i].tensor;
        }
        CHECK_STATUS(strata_gpt2_import(ctx, write_copy(ctx, &c), &cfg, test_path("none")), STRATA_E_FORMAT);
        CHECK_ERROR_TEXT(bad[i].why);
        strata_file_close(c.f);
    }
    cfg.heads = 5;
    CHECK_STATUS(strata_gpt2_import(ctx, WEIGHTS, &cfg, test_path("none")), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("5 heads do not divide the width 24");
    cfg = bytes_and_heads(3);
    cfg.tokenizer = "char96";
    CHECK_STATUS(strata_gpt2_import(ctx, WEIGHTS, &cfg, test_path("none")), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("256 tokens, but the vocabulary 96");
    CHECK_STATUS(strata_gpt2_import(ctx, "/none", &cfg, test_path("none")), STRATA_E_IO);
    FILE *f = fopen(test_path("none"), "rb");
    CHECK(!f); /* nothing was written */
    strata_context_destroy(ctx);
    test_clean();
}

/* Models that the layout cannot hold. */
static void other_models(void)
{
    static const char gpt2[] =
        "decoder layers=1 width=8 context=8 mixers=softmax(heads=2) mlp=mlp(act=gelu_tanh) tied=1 "
        "bias=1";
    const struct {
        const char *model, *width, *why;
    } c[] = {
        { gpt2, "8", NULL },
        { gpt2, "768", "base_width/width = 768/8" },
        { "decoder layers=1 width=8 context=8 mixers=softmax(heads=2) tied=1 bias=1", "8", "act=gelu" },
        { "decoder layers=1 width=8 context=8 mixers=softmax(heads=2) mlp=swiglu tied=1 bias=1", "8", "layout holds" },
        { "decoder layers=1 width=8 context=8 mixers=softmax(heads=2 score=window window=4) mlp=mlp(act=gelu_tanh) "
          "tied=1 "
          "bias=1",
          "8", "layout holds" },
    };
    strata_context *ctx = context();
    const char *text = test_path("text");
    test_put(text, "abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz", 80);
    for (size_t i = 0; i < STI_COUNT(c); i++) {
        strata_config *cfg =
            test_config(ctx, PAIRS("model.spec", c[i].model, "train.base_width", c[i].width, "train.steps", "1",
                                   "train.batch", "1", "text.val_fraction", "0.2"));
        strata_model *m = NULL;
        char run[32];
        snprintf(run, sizeof run, "run%d", (int)i);
        CHECK_OK(strata_train(ctx, cfg, &text, 1, test_path(run), NULL, NULL));
        CHECK_OK(strata_model_load(ctx, test_path(run), 0, &m));
        CHECK_STATUS(strata_gpt2_export(m, test_path("out")), c[i].why ? STRATA_E_UNSUPPORTED : STRATA_OK);
        if (c[i].why) CHECK_ERROR_TEXT(c[i].why);
        strata_model_destroy(m);
        strata_config_destroy(cfg);
    }
    strata_context_destroy(ctx);
    test_clean();
}

TESTS(T(logits), T(there_and_back), T(with_a_prefix_and_a_head), T(refusals), T(other_models))
