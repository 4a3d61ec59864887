/* Generation: caches against whole forwards, sampling against its distribution, limits and stop texts. */

#include "model/session.h"

#include "core/philox.h"
#include "model/checkpoint.h"
#include "training/training.h"

enum { CONTEXT = 16, VOCAB = 96 };

/* A model with weights of natural scale, as a checkpoint would give it. */
static strata_model *model(strata_context *ctx, const char *spec)
{
    sti_model_plan *plan = NULL;
    const sti_model_size size = { .base_width = 768 };
    CHECK_OK(sti_model_plan_create(ctx, spec, VOCAB, &size, &plan));
    float *p = calloc((size_t)plan->graph->params.elements, sizeof *p);
    sti_params_init(&plan->graph->params, p, STRATA_F32, 3, 1);
    const sti_checkpoint_head head = {
        .spec = plan->spec, .task = "text", .vocab = VOCAB, .base_width = 768, .more = "\"config\":{},\"files\":[]"
    };
    CHECK_OK(sti_checkpoint_write(ctx, test_path("m"), &plan->graph->params, &head, p, NULL, NULL));
    free(p);
    sti_model_plan_destroy(plan);
    strata_model *m = NULL;
    CHECK_OK(strata_model_load(ctx, test_path("m"), 0, &m));
    return m;
}

static const char *const specs[] = {
    "decoder layers=2 width=16 context=16 mixers=softmax(heads=2 score=mlr levels=2)|softmax(heads=2)",
    "decoder layers=2 width=16 context=16 mixers=softmax(heads=2 score=mlr ranks=4,2,2 gain=count) pos=rotary tied=1",
    "decoder layers=2 width=16 context=16 mixers=softmax(heads=4 kv_heads=2 score=window window=5) pos=alibi",
    "decoder layers=1 width=16 context=16 mixers=softmax(heads=2 qk_norm=1) pos=none mlp=swiglu norm=rmsnorm",
};

/* The training forward of the first n tokens: logits of the last one, from the losses of every possible target. */
static void losses_of(const strata_model *m, const int32_t *token, int64_t n, double *nats)
{
    sti_model_plan *p = NULL;
    sti_model_run r;
    const sti_model_size size = { .train = 1, .batch = VOCAB, .time = n, .base_width = m->base_width };
    CHECK_OK(sti_model_plan_create(m->ctx, m->plan->spec, VOCAB, &size, &p));
    CHECK_OK(sti_model_run_create(p, &r));
    int32_t *in = calloc((size_t)(VOCAB * n), sizeof *in), *out = calloc((size_t)(VOCAB * n), sizeof *out);
    for (int64_t b = 0; b < VOCAB; b++)
        for (int64_t i = 0; i < n; i++) {
            in[b * n + i] = token[i];
            out[b * n + i] = i == n - 1 ? (int32_t)b : -1;
        }
    r.exec.params = m->params;
    r.exec.batch = VOCAB;
    r.exec.time = n;
    r.exec.ext[0] = in;
    r.exec.ext[1] = out;
    CHECK_OK(sti_graph_forward(p->graph, &r.exec));
    const float *loss = sti_graph_data(p->graph, &r.exec, p->loss);
    for (int64_t b = 0; b < VOCAB; b++) nats[b] = (double)loss[2 * (b * n + n - 1)];
    free(in);
    free(out);
    sti_model_run_destroy(&r);
    sti_model_plan_destroy(p);
}

/* Negative log softmax of logits. */
static void losses_from(const float *logits, double *nats)
{
    double max = -HUGE_VAL, sum = 0;
    for (int i = 0; i < VOCAB; i++) max = fmax(max, (double)logits[i]);
    for (int i = 0; i < VOCAB; i++) sum += exp((double)logits[i] - max);
    for (int i = 0; i < VOCAB; i++) nats[i] = max + log(sum) - (double)logits[i];
}

static double distance(const double *a, const double *b)
{
    double worst = 0;
    for (int i = 0; i < VOCAB; i++) worst = fmax(worst, fabs(a[i] - b[i]));
    return worst;
}

/* One token at a time, in uneven pieces, and the training forward: the same distribution at every position. */
static void incremental_equals_whole(void)
{
    strata_context *ctx = test_context();
    int32_t token[CONTEXT];
    for (int i = 0; i < CONTEXT; i++) token[i] = (int32_t)sti_below(1, 1, (uint64_t)i, VOCAB);
    for (size_t k = 0; k < sizeof specs / sizeof *specs; k++) {
        strata_model *m = model(ctx, specs[k]);
        sti_session *one = NULL, *other = NULL;
        CHECK_OK(sti_session_create(m, 0, &one));
        CHECK(sti_session_logits(one) == NULL);
        double want[VOCAB], got[VOCAB], before[VOCAB] = { 0 };
        for (int64_t n = 1; n <= CONTEXT; n++) {
            losses_of(m, token, n, want);
            CHECK_OK(sti_session_feed(one, token + n - 1, 1));
            CHECK_INT(sti_session_position(one), n);
            losses_from(sti_session_logits(one), got);
            /* sums of up to 32 terms in each of about ten layers of maps, on numbers of size |nats| */
            double size = 0;
            for (int i = 0; i < VOCAB; i++) size = fmax(size, fabs(want[i]));
            const double tol = 8 * 1.2e-7 * sqrt(10 * 32.0) * (1 + size);
            if (!(distance(got, want) <= tol))
                FAIL("%s: position %lld differs by %g, more than %g", specs[k], (long long)n, distance(got, want), tol);
            CHECK(distance(want, before) > 100 * tol); /* positions are far apart: a wrong one would be seen */
            memcpy(before, want, sizeof want);

            CHECK_OK(sti_session_create(m, 0, &other)); /* the same in two pieces */
            if (n > 1) CHECK_OK(sti_session_feed(other, token, n / 2));
            CHECK_OK(sti_session_feed(other, token + n / 2, n - n / 2));
            losses_from(sti_session_logits(other), got);
            CHECK(distance(got, want) <= tol);
            sti_session_destroy(other);
        }
        sti_session_destroy(one);
        strata_model_destroy(m);
    }
    strata_context_destroy(ctx);
    test_clean();
}

static void where_positions_end(void)
{
    strata_context *ctx = test_context();
    int32_t token[3 * CONTEXT] = { 0 };
    strata_model *learned = model(ctx, specs[0]);
    sti_session *s = NULL;
    CHECK_OK(sti_session_create(learned, 3 * CONTEXT, &s));
    CHECK_STATUS(sti_session_feed(s, token, CONTEXT + 1), STRATA_E_SPACE);
    CHECK_ERROR_TEXT("learned positions end at context=16");
    CHECK_INT(sti_session_position(s), 0);
    CHECK_OK(sti_session_feed(s, token, CONTEXT));
    CHECK_STATUS(sti_session_feed(s, token, 1), STRATA_E_SPACE);
    token[0] = VOCAB;
    sti_session_destroy(s);
    CHECK_OK(sti_session_create(learned, 0, &s));
    CHECK_STATUS(sti_session_feed(s, token, 1), STRATA_E_INVALID);
    CHECK_STATUS(sti_session_feed(s, token, 0), STRATA_E_INVALID);
    sti_session_destroy(s);
    strata_model_destroy(learned);

    token[0] = 0;
    for (size_t k = 1; k < sizeof specs / sizeof *specs; k++) {
        strata_model *m = model(ctx, specs[k]);
        CHECK_OK(sti_session_create(m, 3 * CONTEXT, &s));
        CHECK_OK(sti_session_feed(s, token, 3 * CONTEXT));
        for (int i = 0; i < VOCAB; i++) CHECK(isfinite(sti_session_logits(s)[i]));
        CHECK_STATUS(sti_session_feed(s, token, 1), STRATA_E_SPACE);
        CHECK_ERROR_TEXT("holds 48 tokens");
        sti_session_destroy(s);
        strata_model_destroy(m);
    }
    strata_context_destroy(ctx);
    test_clean();
}

/* ---- sampling ----------------------------------------------------------------------------------------------- */
static void frequencies(const sti_sampler *how, const double *want)
{
    enum { N = 20000 };
    const float logits[4] = { 0.0F, 1.0F, -1.0F, 0.5F };
    double work[8];
    int count[4] = { 0 };
    for (uint64_t i = 0; i < N; i++) {
        int32_t t = -1;
        CHECK_OK(sti_sample(logits, 4, how, i, work, &t));
        CHECK(t >= 0 && t < 4);
        count[t]++;
    }
    for (int i = 0; i < 4; i++) {
        const double sd = sqrt(want[i] * (1 - want[i]) * N);
        if (want[i] <= 0)
            CHECK_INT(count[i], 0);
        else if (!(fabs(count[i] - N * want[i]) <= 5 * sd))
            FAIL("token %d came %d times instead of %g +- %g", i, count[i], N * want[i], sd);
    }
}

static void sampling(void)
{
    const double e[4] = { 1, exp(1), exp(-1), exp(0.5) }, z = e[0] + e[1] + e[2] + e[3];
    frequencies(&(sti_sampler){ 1, 1, 0, 1 }, (double[]){ e[0] / z, e[1] / z, e[2] / z, e[3] / z });
    const double y = e[1] + e[3];
    frequencies(&(sti_sampler){ 2, 1, 2, 1 }, (double[]){ 0, e[1] / y, 0, e[3] / y });
    frequencies(&(sti_sampler){ 3, 1, 1, 1 }, (double[]){ 0, 1, 0, 0 });
    /* masses 0.474 0.288 0.174 0.064: 0.7 needs two, 0.8 needs three */
    frequencies(&(sti_sampler){ 4, 1, 0, 0.7 }, (double[]){ 0, e[1] / y, 0, e[3] / y });
    const double x = y + e[0];
    frequencies(&(sti_sampler){ 5, 1, 0, 0.8 }, (double[]){ e[0] / x, e[1] / x, 0, e[3] / x });
    const double h[4] = { 1, exp(2), exp(-2), exp(1) }, w = h[0] + h[1] + h[2] + h[3];
    frequencies(&(sti_sampler){ 6, 0.5, 0, 1 }, (double[]){ h[0] / w, h[1] / w, h[2] / w, h[3] / w });

    double work[6];
    int32_t t = -1;
    const sti_sampler greedy = { 1, 1, 1, 1 };
    CHECK_OK(sti_sample((const float[]){ 1, 2, 2 }, 3, &greedy, 0, work, &t));
    CHECK_INT(t, 1); /* equal logits: the smaller id */
    CHECK_OK(sti_sample((const float[]){ -INFINITY, -5e30F, -INFINITY }, 3, &greedy, 0, work, &t));
    CHECK_INT(t, 1);
    CHECK_STATUS(sti_sample((const float[]){ 1, (float)NAN, 2 }, 3, &greedy, 0, work, &t), STRATA_E_NUMERIC);
    CHECK_STATUS(sti_sample((const float[]){ 1, INFINITY, 2 }, 3, &greedy, 0, work, &t), STRATA_E_NUMERIC);
    CHECK_STATUS(sti_sample((const float[]){ -INFINITY, -INFINITY }, 2, &greedy, 0, work, &t), STRATA_E_NUMERIC);
}

/* ---- text --------------------------------------------------------------------------------------------------- */

/* Text until the stop text or the end of the room; at most 200 bytes. */
static strata_status generate(const strata_model *m, const strata_session_config *cfg, size_t cap, char *text)
{
    strata_session *s = NULL;
    size_t n = 0, k = 1;
    CHECK_OK(strata_session_create(m, cfg, &s));
    CHECK_OK(strata_session_prompt(s, "abc", 3));
    strata_status st = STRATA_OK;
    while (k > 0 && n + cap <= 200 && st == STRATA_OK) {
        st = strata_session_next(s, text + n, cap, &k);
        if (st == STRATA_OK) n += k;
    }
    text[n] = '\0';
    strata_session_destroy(s);
    return st;
}

static void texts(void)
{
    strata_context *ctx = test_context();
    strata_model *m = model(ctx, specs[3]);
    char a[256], b[256], c[256];
    strata_session_config cfg = { .size = STRATA_INIT(strata_session_config), .seed = 5, .max_tokens = 40 };
    CHECK_STATUS(generate(m, &cfg, 16, a), STRATA_E_SPACE);
    CHECK_INT(strlen(a), 37); /* and 3 of the prompt */
    CHECK_STATUS(generate(m, &cfg, 1, b), STRATA_E_SPACE);
    CHECK_STR(a, b);
    cfg.seed = 6;
    CHECK_STATUS(generate(m, &cfg, 16, b), STRATA_E_SPACE);
    CHECK(strcmp(a, b) != 0);

    /* the stop text and everything after it is not printed, wherever the pieces end */
    cfg.seed = 5;
    char stop[4] = { a[20], a[21], a[22], 0 };
    const char *first = strstr(a, stop);
    cfg.stop = stop;
    for (size_t cap = 1; cap <= 16; cap += 5) {
        CHECK_OK(generate(m, &cfg, cap, c));
        CHECK_INT(strlen(c), first - a);
        CHECK(strncmp(a, c, strlen(c)) == 0);
    }
    /* what could have become the stop text comes out at the end */
    char tail[3] = { a[36], (char)(a[36] == 'x' ? 'y' : 'x'), 0 };
    if (!strstr(a, tail)) {
        cfg.stop = tail;
        CHECK_STATUS(generate(m, &cfg, 16, c), STRATA_E_SPACE);
        CHECK_STR(a, c);
    }

    /* so many tokens and no more, whatever the stop text still waits for */
    for (size_t cap = 1; cap <= 16; cap += 15) {
        cfg.new_tokens = 7;
        cfg.stop = (const char[]){ a[6], a[7], '~', 0 };
        CHECK_OK(generate(m, &cfg, cap, c));
        CHECK(strlen(c) == 7 && strncmp(a, c, 7) == 0);
        cfg.new_tokens = 38; /* the room ends first */
        CHECK_STATUS(generate(m, &cfg, cap, c), STRATA_E_SPACE);
        CHECK_STR(a, c);
    }

    /* greedy text is what the largest logit of a fresh prefill says */
    cfg = (strata_session_config){ .size = STRATA_INIT(strata_session_config), .top_k = 1, .max_tokens = 12 };
    CHECK_STATUS(generate(m, &cfg, 16, a), STRATA_E_SPACE);
    for (size_t n = 0; n < 9; n++) {
        char text[16] = "abc";
        memcpy(text + 3, a, n);
        strata_session *s = NULL;
        size_t k = 0;
        CHECK_OK(strata_session_create(m, &cfg, &s));
        CHECK_OK(strata_session_prompt(s, text, 3 + n));
        char next[16];
        CHECK_OK(strata_session_next(s, next, sizeof next, &k));
        CHECK_INT(k, 1);
        CHECK_INT(next[0], a[n]);
        strata_session_destroy(s);
    }
    strata_model_destroy(m);
    strata_context_destroy(ctx);
    test_clean();
}

static void bad_calls(void)
{
    strata_context *ctx = test_context();
    strata_model *m = model(ctx, specs[0]);
    strata_session *s = NULL;
    const strata_session_config bad[] = {
        { .size = STRATA_INIT(strata_session_config), .temperature = -1 },
        { .size = STRATA_INIT(strata_session_config), .temperature = (double)NAN },
        { .size = STRATA_INIT(strata_session_config), .top_k = -1 },
        { .size = STRATA_INIT(strata_session_config), .top_p = 1.5 },
        { .size = STRATA_INIT(strata_session_config), .max_tokens = -1 },
        { .size = STRATA_INIT(strata_session_config), .new_tokens = -1 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_STATUS(strata_session_create(m, &bad[i], &s), STRATA_E_INVALID);
        CHECK(s == NULL);
    }
    char buf[16];
    size_t n = 0;
    CHECK_OK(strata_session_create(m, NULL, &s));
    CHECK_STATUS(strata_session_next(s, buf, sizeof buf, &n), STRATA_E_INVALID); /* nothing to continue */
    CHECK_STATUS(strata_session_prompt(s, "", 0), STRATA_E_INVALID);
    CHECK_STATUS(strata_session_prompt(s, "a prompt that is far too long", 29), STRATA_E_SPACE);
    CHECK_ERROR_TEXT("context=16");
    CHECK_OK(strata_session_prompt(s, "a prompt", 8)); /* the refused one left no trace */
    for (int i = 0; i < 8; i++) CHECK_OK(strata_session_next(s, buf, sizeof buf, &n));
    CHECK_STATUS(strata_session_next(s, buf, sizeof buf, &n), STRATA_E_SPACE);
    CHECK_ERROR_TEXT("learned positions end at context=16");
    strata_session_destroy(s);
    strata_model_destroy(m);
    strata_context_destroy(ctx);
    test_clean();
}

/* A model of numbers: positions fed in parts give what the training forward of all of them gives. */
static void numbers(void)
{
    enum { IN = 3, OUT = 2, N = 11 };
    strata_context *ctx = test_context();
    sti_model_plan *p = NULL, *q = NULL;
    sti_model_run r;
    const sti_model_size one = { .inputs = IN, .outputs = OUT, .context = CONTEXT },
                         all = { .inputs = IN, .outputs = OUT, .context = CONTEXT, .train = 1 };
    static const char spec[] = "decoder layers=2 width=16 mixers=softmax(heads=2 score=mlr levels=2)";
    CHECK_OK(sti_model_plan_create(ctx, spec, 0, &one, &p));
    CHECK_OK(sti_model_plan_create(ctx, spec, 0, &all, &q));
    CHECK_STR(p->spec, q->spec);
    CHECK_INT(p->context, CONTEXT);
    CHECK(strstr(p->spec, "inputs=3 outputs=2 read_in=dense"));
    float *w = calloc((size_t)p->graph->params.elements, sizeof *w), x[N * IN];
    sti_params_init(&p->graph->params, w, STRATA_F32, 3, 1);
    for (uint64_t i = 0; i < N * IN; i++) x[i] = (float)sti_normal(4, 0, i);
    CHECK_OK(sti_model_run_create(q, &r));
    float y[CONTEXT * OUT] = { 0 };
    r.exec.params = w;
    r.exec.batch = 1;
    r.exec.time = N;
    r.exec.ext[0] = x;
    r.exec.ext[1] = y;
    CHECK_OK(sti_graph_forward(q->graph, &r.exec));
    const float *want = sti_graph_data(q->graph, &r.exec, q->logits);

    strata_model m = { .ctx = ctx, .plan = p, .params = w, .base_width = 768 };
    sti_session *s = NULL;
    CHECK_OK(sti_session_create(&m, 0, &s));
    const int32_t token = 0;
    CHECK_STATUS(sti_session_feed(s, &token, 1), STRATA_E_INVALID);
    CHECK_ERROR_TEXT("reads numbers");
    for (int64_t done = 0, k = 4; done < N; done += k, k = 1) {
        CHECK_OK(sti_session_feed_numbers(s, x + done * IN, k));
        for (int j = 0; j < OUT; j++) {
            const double got = (double)sti_session_logits(s)[j], ref = (double)want[(done + k - 1) * OUT + j];
            CHECK(fabs(ref) > 1e-3 && fabs(got - ref) < 1e-4 * (1 + fabs(ref)));
        }
    }
    CHECK_STATUS(sti_session_feed_numbers(s, x, CONTEXT), STRATA_E_SPACE);
    sti_session_destroy(s);
    sti_model_run_destroy(&r);
    sti_model_plan_destroy(p);
    sti_model_plan_destroy(q);

    static const struct {
        const char *spec, *text;
        int64_t vocab;
        sti_model_size size;
    } bad[] = {
        { "decoder inputs=4", "inputs=4, but the task has 3", 0, { .inputs = 3, .outputs = 1 } },
        { "decoder inputs=4", "a model of numbers has both", 0, { 0 } },
        { "decoder inputs=4 outputs=1", "tokens of a vocabulary", 96, { 0 } },
        { "decoder tied=1", "no embedding", 0, { .inputs = 3, .outputs = 1 } },
        { "decoder read_in=dense", "reads tokens", 96, { 0 } },
        { "decoder context=0", "context", 0, { .inputs = 3, .outputs = 1 } },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_STATUS(sti_model_plan_create(ctx, bad[i].spec, bad[i].vocab, &bad[i].size, &p), STRATA_E_SPEC);
        CHECK_ERROR_TEXT(bad[i].text);
    }
    free(w);
    strata_context_destroy(ctx);
}

TESTS(T(incremental_equals_whole), T(where_positions_end), T(sampling), T(texts), T(bad_calls), T(numbers))
