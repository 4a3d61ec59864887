/* Every registered mixer through the graph, whole forwards against f64 formulas, and the public strata_mixer. */
#include "mixer/mixer.h"

#include <strata/mixer.h>

#include "core/context.h"
#include "core/spec.h"
#include "support/rig.h"

enum { WIDTH = 16, BATCH = 2, TIME = 11, CONTEXT = 16 };

static int32_t build(sti_graph *g, const char *text, int64_t width, int32_t in, char **canonical)
{
    const sti_mixer_env env = { .width = width, .context = CONTEXT, .pos = "learned" };
    sti_spec *spec;
    CHECK_OK(sti_spec_parse(text, &spec));
    const int32_t out = sti_mixer_build(g, "mixer", spec, &env, in, canonical);
    sti_spec_free(spec);
    return out;
}

static void every_class(void)
{
    int checked = 0;
    for (int32_t i = 0; i < sti_mixer_class_count(); i++) {
        const sti_mixer_class *c = sti_mixer_class_at(i);
        CHECK(c->kind && c->summary && sti_mixer_class_find(c->kind) == c);
        for (const char *const *spec = c->examples; *spec; spec++, checked++)
            rig_check(build, *spec, WIDTH, c->causal && !strstr(*spec, "causal=0"));
    }
    CHECK(checked >= 1);
}

static void bad_specs(void)
{
    static const struct {
        const char *spec;
        strata_status status;
        const char *text;
    } bad[] = {
        { "softmix", STRATA_E_SPEC, "did you mean softmax?" },
        { "softmax head=2", STRATA_E_SPEC, "nearest is heads" },
        { "softmax heads=3", STRATA_E_SHAPE, "heads=3 does not divide the width 16" },
        { "softmax heads=4 kv_heads=3", STRATA_E_SPEC, "kv_heads=3 does not divide heads=4" },
        { "softmax kv_heads=3", STRATA_E_SHAPE, "kv_heads 3 does not divide heads 1" },
        { "softmax heads=2 score=mlr ranks=4,5", STRATA_E_SHAPE, "ranks sum to 9 but d_qk is 8" },
        { "softmax heads=2 score=mlr ranks=5,3 pos=rotary", STRATA_E_SHAPE, "rank 5 of level 1 is not even" },
        { "softmax heads=2 window=4", STRATA_E_SPEC, "no key window" },
        { "softmax side=key", STRATA_E_SPEC, "side belongs to score=bilinear-btt" },
        { "softmax score=bilinear-btt heads=2 pos=rotary", STRATA_E_UNSUPPORTED, "rotary" },
        { "softmax score=bilinear-btt heads=2 kv_heads=1", STRATA_E_SPEC, "kv_heads=1" },
        { "softmax score=bilinear-mlr heads=2 ranks=2,2 d_qk=4", STRATA_E_SHAPE, "compares 6 columns but d_qk is 4" },
        { "softmax score=bilinear-mlr heads=2 ranks=1,1,1,1,1,1", STRATA_E_SHAPE, "32 chunks" },
        { "softmax qkv=dence", STRATA_E_SPEC, "dense" },
        { "softmax pos=learned", STRATA_E_SPEC, "not one of" },
        { "softmax scale=big", STRATA_E_SPEC, "scale=big" },
    };
    for (size_t i = 0; i < STI_COUNT(bad); i++) {
        const rig_plan plan = {
            .build = build, .spec = bad[i].spec, .batch = 1, .time = 2, .width = WIDTH, .dtype = STRATA_F32
        };
        const strata_status s = rig_try(&plan);
        if (s != bad[i].status) FAIL("%s gave %s (%s)", bad[i].spec, strata_status_name(s), strata_last_error());
        CHECK_ERROR_TEXT(bad[i].text);
    }
}

/* ---- whole forwards -------------------------------------------------------------------------------------------------
 */

static double *param(const rig *r, const char *name)
{
    const sti_param *p = sti_params_find(&r->g->params, name);
    if (!p) FAIL("no parameter %s", name);
    return (double *)r->params + p->offset;
}

/* y = W x; ys the same with absolute values */
static void linear(const double *w, int rows, int cols, const double *x, const double *xs, double *y, double *ys)
{
    for (int i = 0; i < rows; i++) {
        y[i] = ys[i] = 0;
        for (int j = 0; j < cols; j++) y[i] += w[i * cols + j] * x[j], ys[i] += fabs(w[i * cols + j]) * xs[j];
    }
}

static void layer_norm(const double *gain, int n, double *x)
{
    double mean = 0, var = 0;
    for (int j = 0; j < n; j++) mean += x[j] / n;
    for (int j = 0; j < n; j++) var += (x[j] - mean) * (x[j] - mean) / n;
    for (int j = 0; j < n; j++) x[j] = (x[j] - mean) / sqrt(var + 1e-5) * gain[j];
}

static void rotate(int t, int n, double *x)
{
    for (int k = 0; k < n / 2; k++) {
        const double a = t * pow(10000, -2.0 * k / n), u = x[k], v = x[k + n / 2];
        x[k] = u * cos(a) - v * sin(a);
        x[k + n / 2] = u * sin(a) + v * cos(a);
    }
}

typedef struct features { /* of one sequence */
    double q[TIME][64], k[TIME][64], v[TIME][64], vs[TIME][64];
} features;

typedef double (*score_fn)(const double *q, const double *k, int i, int j);

/* Causal softmax of the given scores, then the output projection. Softmax turns an error of the scores, eps times their
 * sum of absolute values, into a relative error of P: `sharp` bounds that sum. */
static void attend(const rig *r, const features *f, int heads, int d_qk, int kv_heads, int d_v, score_fn score,
                   double sharp, double *y, double *size)
{
    for (int i = 0; i < TIME; i++) {
        double o[64] = { 0 }, os[64] = { 0 };
        for (int h = 0; h < heads; h++) {
            const int kh = h * kv_heads / heads;
            double p[TIME], z = 0;
            for (int j = 0; j <= i; j++) z += p[j] = exp(score(f->q[i] + h * d_qk, f->k[j] + kh * d_qk, i, j));
            for (int j = 0; j <= i; j++)
                for (int c = 0; c < d_v; c++) {
                    o[h * d_v + c] += p[j] / z * f->v[j][kh * d_v + c];
                    os[h * d_v + c] += p[j] / z * f->vs[j][kh * d_v + c] * (1 + sharp);
                }
        }
        linear(param(r, "mixer.out.weight"), WIDTH, heads * d_v, o, os, y + i * WIDTH, size + i * WIDTH);
    }
}

static double plain_score(const double *q, const double *k, int i, int j)
{
    (void)i, (void)j;
    double s = 0;
    for (int c = 0; c < 6; c++) s += q[c] * k[c];
    return s / sqrt(6.0);
}

/* ranks 4,2,2, blocks 16,8,4 */
static double mlr_score(const double *q, const double *k, int i, int j)
{
    double s = 0;
    int n = 1;
    for (int c = 0; c < 4; c++) s += q[c] * k[c] / 4;
    if (i / 8 == j / 8) s += (q[4] * k[4] + q[5] * k[5]) / 2, n++;
    if (i / 4 == j / 4) s += (q[6] * k[6] + q[7] * k[7]) / 2, n++;
    return s / n;
}

static void project(const rig *r, const char *name, int columns, int token, double *y, double *ys)
{
    const double *x = (const double *)r->x + token * WIDTH;
    double xs[WIDTH], spare[64];
    for (int j = 0; j < WIDTH; j++) xs[j] = fabs(x[j]);
    linear(param(r, name), columns, WIDTH, x, xs, y, ys ? ys : spare);
}

static void formula(const char *spec, int heads, int kv_heads, int d_qk, int d_v, int norm, const int *slice,
                    score_fn score)
{
    static double ref[BATCH * TIME * WIDTH], size[BATCH * TIME * WIDTH];
    static features f;
    rig r;
    const rig_plan plan = {
        .build = build, .spec = spec, .batch = BATCH, .time = TIME, .width = WIDTH, .dtype = STRATA_F64, .train = 1
    };
    rig_open(&r, &plan);
    rig_forward(&r, BATCH, TIME, NULL, r.x, 0);
    double sharp = 0;
    for (int b = 0; b < BATCH; b++) {
        for (int t = 0; t < TIME; t++) {
            const int token = b * TIME + t;
            project(&r, "mixer.q.weight", heads * d_qk, token, f.q[t], NULL);
            project(&r, "mixer.k.weight", kv_heads * d_qk, token, f.k[t], NULL);
            project(&r, "mixer.v.weight", kv_heads * d_v, token, f.v[t], f.vs[t]);
            for (int h = 0; h < heads + kv_heads; h++) {
                double *x = h < heads ? f.q[t] + h * d_qk : f.k[t] + (h - heads) * d_qk;
                if (norm) layer_norm(param(&r, h < heads ? "mixer.q_norm.weight" : "mixer.k_norm.weight"), d_qk, x);
                for (int l = 0, at = 0; slice[l]; at += slice[l++]) rotate(t, slice[l], x + at);
                double n = 0;
                for (int c = 0; c < d_qk; c++) n += x[c] * x[c];
                sharp = fmax(sharp, n);
            }
        }
        attend(&r, &f, heads, d_qk, kv_heads, d_v, score, 4 * sharp, ref + b * TIME * WIDTH, size + b * TIME * WIDTH);
    }
    near_all(spec, r.y, STRATA_F64, ref, size, BATCH * TIME * WIDTH, 8, WIDTH + TIME);
    rig_close(&r);
}

static void formulas(void)
{
    static const int whole[] = { 6, 0 }, levels[] = { 4, 2, 2, 0 };
    formula("softmax heads=4 kv_heads=2 d_qk=6 d_v=5 qk_norm=1 pos=rotary", 4, 2, 6, 5, 1, whole, plain_score);
    formula("softmax heads=2 score=mlr ranks=4,2,2 qk_norm=1 pos=rotary gain=count", 2, 2, 8, 8, 1, levels, mlr_score);
}

/* ---- bilinear scorings against their definition ------------------------------------------------------------------ */

/* Level l of x: chunk c times its own matrix; score sum over levels of scale * features. */
static void bilinear_mlr(void)
{
    static double ref[TIME * WIDTH], size[TIME * WIDTH];
    static const int rank[] = { 4, 2, 1 };
    enum { HEADS = 2, D_V = WIDTH / HEADS };
    rig r;
    const rig_plan plan = { .build = build,
                            .spec = "softmax heads=2 score=bilinear-mlr ranks=4,2,1",
                            .batch = 1,
                            .time = TIME,
                            .width = WIDTH,
                            .dtype = STRATA_F64,
                            .train = 1 };
    rig_open(&r, &plan);
    CHECK_INT(sti_params_find(&r.g->params, "mixer.q.3")->shape[0], 4);
    CHECK_INT(sti_params_find(&r.g->params, "mixer.q.3")->shape[1], WIDTH / 4);
    CHECK_INT(sti_params_find(&r.g->params, "mixer.q.3")->shape[2], HEADS * 1);
    CHECK(fabs(sti_params_find(&r.g->params, "mixer.q.3")->lr_mult - 768 / 4) < 1e-9);
    rig_forward(&r, 1, TIME, NULL, r.x, 0);
    const double *x = r.x;
    for (int i = 0; i < TIME; i++) {
        double o[WIDTH] = { 0 }, os[WIDTH] = { 0 };
        for (int h = 0; h < HEADS; h++) {
            double p[TIME], z = 0, v[TIME][WIDTH], vs[TIME][WIDTH];
            for (int j = 0; j <= i; j++) {
                double s = 0;
                for (int l = 0; l < 3; l++) {
                    char name[32];
                    const int chunks = 1 << l, n = WIDTH / chunks;
                    snprintf(name, sizeof name, "mixer.q.%d", l + 1);
                    const double *wq = param(&r, name);
                    name[6] = 'k';
                    const double *wk = param(&r, name);
                    for (int c = 0; c < chunks; c++)
                        for (int e = 0; e < rank[l]; e++) {
                            double q = 0, k = 0;
                            for (int m = 0; m < n; m++) {
                                const int w = (c * n + m) * HEADS * rank[l] + h * rank[l] + e;
                                q += x[i * WIDTH + c * n + m] * wq[w];
                                k += x[j * WIDTH + c * n + m] * wk[w];
                            }
                            s += q * k / sqrt((double)(rank[l] * chunks));
                        }
                }
                z += p[j] = exp(s);
                project(&r, "mixer.v.weight", WIDTH, j, v[j], vs[j]);
            }
            for (int j = 0; j <= i; j++)
                for (int c = h * D_V; c < (h + 1) * D_V; c++)
                    o[c] += p[j] / z * v[j][c], os[c] += p[j] / z * vs[j][c] * 200; /* scores are within 200 */
        }
        linear(param(&r, "mixer.out.weight"), WIDTH, WIDTH, o, os, ref + i * WIDTH, size + i * WIDTH);
    }
    near_all("bilinear-mlr", r.y, STRATA_F64, ref, size, TIME * WIDTH, 8, WIDTH + TIME);
    rig_close(&r);
}

/* W_h[(a,b),(c,d)] = sum_s L[(h,b)][a][(c,s)] R[c][d][(h,b,s)], scores x_i . W_h x_j / sqrt D; both sides agree. */
static void bilinear_btt(void)
{
    static double ref[TIME * WIDTH], size[TIME * WIDTH], W[WIDTH][WIDTH];
    enum { HEADS = 2, D_V = WIDTH / HEADS, S = 2, Q = 4 };
    rig r, other;
    rig_plan plan = { .build = build,
                      .spec = "softmax heads=2 score=bilinear-btt rank=2",
                      .batch = 1,
                      .time = TIME,
                      .width = WIDTH,
                      .dtype = STRATA_F64,
                      .train = 1 };
    rig_open(&r, &plan);
    plan.spec = "softmax heads=2 score=bilinear-btt rank=2 side=query";
    rig_open(&other, &plan);
    CHECK(fabs(sti_params_find(&r.g->params, "mixer.k.R")->lr_mult - 768 / 4) < 1e-9);
    CHECK(fabs(sti_params_find(&r.g->params, "mixer.k.L")->lr_mult - 768 / 8) < 1e-9);
    const double *x = r.x, *R = param(&r, "mixer.k.R"), *L = param(&r, "mixer.k.L");
    memcpy(param(&other, "mixer.q.R"), R, sizeof(double) * Q * Q * HEADS * Q * S);
    memcpy(param(&other, "mixer.q.L"), L, sizeof(double) * HEADS * Q * Q * Q * S);
    memcpy(param(&other, "mixer.v.weight"), param(&r, "mixer.v.weight"), sizeof W);
    memcpy(param(&other, "mixer.out.weight"), param(&r, "mixer.out.weight"), sizeof W);
    rig_forward(&r, 1, TIME, NULL, r.x, 0);
    rig_forward(&other, 1, TIME, NULL, r.x, 0);
    for (int i = 0; i < TIME; i++) {
        double o[WIDTH] = { 0 }, os[WIDTH] = { 0 };
        for (int h = 0; h < HEADS; h++) {
            double p[TIME], z = 0, v[TIME][WIDTH], vs[TIME][WIDTH];
            for (int a = 0; a < Q; a++)
                for (int b = 0; b < Q; b++)
                    for (int c = 0; c < Q; c++)
                        for (int d = 0; d < Q; d++) {
                            double w = 0;
                            for (int s = 0; s < S; s++)
                                w += L[((h * Q + b) * Q + a) * Q * S + c * S + s] *
                                     R[(c * Q + d) * HEADS * Q * S + (h * Q + b) * S + s];
                            W[a * Q + b][c * Q + d] = w;
                        }
            for (int j = 0; j <= i; j++) {
                double s = 0;
                for (int m = 0; m < WIDTH; m++)
                    for (int n = 0; n < WIDTH; n++) s += x[i * WIDTH + m] * W[m][n] * x[j * WIDTH + n] / sqrt(WIDTH);
                z += p[j] = exp(s);
                project(&r, "mixer.v.weight", WIDTH, j, v[j], vs[j]);
            }
            for (int j = 0; j <= i; j++)
                for (int c = h * D_V; c < (h + 1) * D_V; c++)
                    o[c] += p[j] / z * v[j][c], os[c] += p[j] / z * vs[j][c] * 200; /* scores are within 200 */
        }
        linear(param(&r, "mixer.out.weight"), WIDTH, WIDTH, o, os, ref + i * WIDTH, size + i * WIDTH);
    }
    near_all("key side", r.y, STRATA_F64, ref, size, TIME * WIDTH, 8, WIDTH + TIME);
    near_all("query side", other.y, STRATA_F64, ref, size, TIME * WIDTH, 8, WIDTH + TIME);
    rig_close(&other);
    rig_close(&r);
}

/* ---- the model's word, state bytes, initialisation ----------------------------------------------------------------
 */

static int32_t build_rotary(sti_graph *g, const char *text, int64_t width, int32_t in, char **canonical)
{
    const sti_mixer_env env = { .width = width, .context = 20, .pos = "rotary" };
    sti_spec *spec;
    CHECK_OK(sti_spec_parse(text, &spec));
    const int32_t out = sti_mixer_build(g, "mixer", spec, &env, in, canonical);
    sti_spec_free(spec);
    return out;
}

static void inherits(void)
{
    rig r;
    rig_plan plan = { .build = build_rotary,
                      .spec = "softmax heads=2 score=mlr levels=4",
                      .batch = 1,
                      .time = 4,
                      .width = WIDTH,
                      .dtype = STRATA_F32,
                      .train = 0 };
    rig_open(&r, &plan);
    CHECK(strstr(r.text, "pos=rotary") && strstr(r.text, "blocks=32,16,8,4") && strstr(r.text, "ranks=2,2,2,2"));
    /* capacity 4: every level holds min(block, 4) tokens; 2 heads, 4 bytes */
    double payload = 0;
    for (int32_t i = 0; i < r.g->nstage; i++) payload += r.g->stage[i].state_token_bytes;
    CHECK(fabs(payload - 2 * 4 * (4 * 8 + 4 * 8)) < 0.5);
    rig_close(&r);
    plan.spec = "softmax heads=2 pos=none";
    rig_open(&r, &plan);
    CHECK(strstr(r.text, "pos=none") != NULL);
    rig_close(&r);
}

static void starts(void)
{
    rig r;
    const rig_plan plan = { .build = build,
                            .spec = "softmax heads=2 qk_norm=1 bias=1",
                            .batch = 1,
                            .time = 4,
                            .width = WIDTH,
                            .dtype = STRATA_F64,
                            .train = 1 };
    rig_open(&r, &plan);
    sti_params_init(&r.g->params, r.params, STRATA_F64, 1, 0);
    const sti_param *out = sti_params_find(&r.g->params, "mixer.out.weight"),
                    *q = sti_params_find(&r.g->params, "mixer.q.weight");
    CHECK(!(rig_norm((double *)r.params + out->offset, STRATA_F64, out->count) > 0));
    CHECK(fabs(rig_norm((double *)r.params + q->offset, STRATA_F64, q->count) / 16 - 0.25) < 0.05);
    CHECK(fabs(q->lr_mult - 48) < 1e-12 && param(&r, "mixer.q_norm.weight")[3] == 1);
    rig_close(&r);
}

/* ---- public --------------------------------------------------------------------------------------------------------
 */

static void public_calls(void)
{
    static float x[BATCH * TIME * WIDTH], y[BATCH * TIME * WIDTH], z[BATCH * TIME * WIDTH], dx[BATCH * TIME * WIDTH];
    strata_context *ctx;
    strata_mixer *m = NULL, *step = NULL;
    CHECK_OK(strata_context_create("threads=2", NULL, &ctx));
    strata_mixer_problem p = { STRATA_INIT(strata_mixer_problem), .batch = BATCH, .time = TIME, .width = WIDTH,
                               .train = 1 };
    CHECK_OK(strata_mixer_create(ctx, "softmax heads=2 score=mlr ranks=4,4", &p, &m));
    p.train = 0;
    CHECK_OK(strata_mixer_create(ctx, strata_mixer_spec(m), &p, &step));
    CHECK_STR(strata_mixer_spec(step), strata_mixer_spec(m));
    CHECK(strncmp(strata_mixer_spec(m), "softmax heads=2 ", 16) == 0);
    CHECK_INT(strata_mixer_param_count(m), 4);
    strata_param_info info;
    CHECK_OK(strata_mixer_param(m, 0, &info));
    CHECK_STR(info.name, "q.weight");
    CHECK_STATUS(strata_mixer_param(m, 4, &info), STRATA_E_INVALID);
    CHECK(strata_mixer_flops(m, 1, TIME, 1) > strata_mixer_flops(m, 1, TIME, 0));
    float *params = strata_alloc(ctx, strata_mixer_param_bytes(m)),
          *dparams = strata_alloc(ctx, strata_mixer_param_bytes(m));
    const size_t values = strata_mixer_param_bytes(m) / sizeof *params;
    CHECK_OK(strata_mixer_init(m, 7, params));
    for (size_t i = 0; i < values; i++) params[i] += 0.01f * (float)(i % 13), dparams[i] = 0; /* out starts at zero */
    for (int i = 0; i < BATCH * TIME * WIDTH; i++) x[i] = (float)sin(i), y[i] = dx[i] = NAN;
    const strata_tensor xt = strata_view3(x, STRATA_F32, BATCH, TIME, WIDTH),
                        yt = strata_view3(y, STRATA_F32, BATCH, TIME, WIDTH),
                        dxt = strata_view3(dx, STRATA_F32, BATCH, TIME, WIDTH);
    const long before = rig_allocations;
    CHECK_OK(strata_mixer_forward(m, params, &xt, &yt));
    CHECK_OK(strata_mixer_backward(m, params, &xt, &yt, dparams, &dxt));
    CHECK_INT(rig_allocations, before);
    CHECK(rig_norm(dx, STRATA_F32, BATCH * TIME * WIDTH) > 0 && rig_norm(dparams, STRATA_F32, (int64_t)values) > 0);

    char *state = strata_alloc(ctx, strata_mixer_state_bytes(step) * BATCH);
    for (int b = 0; b < BATCH; b++)
        CHECK_OK(strata_mixer_state_init(step, state + (size_t)b * strata_mixer_state_bytes(step)));
    for (int64_t t = 0; t < TIME; t++) {
        float one[BATCH * WIDTH], out[BATCH * WIDTH];
        const int64_t pos[] = { t, t };
        for (int b = 0; b < BATCH; b++) memcpy(one + b * WIDTH, x + (b * TIME + t) * WIDTH, sizeof(float) * WIDTH);
        const strata_tensor ot = strata_view3(one, STRATA_F32, BATCH, 1, WIDTH),
                            zt = strata_view3(out, STRATA_F32, BATCH, 1, WIDTH);
        CHECK_OK(strata_mixer_step(step, params, state, pos, &ot, &zt));
        for (int b = 0; b < BATCH; b++) memcpy(z + (b * TIME + t) * WIDTH, out + b * WIDTH, sizeof(float) * WIDTH);
        if (t == TIME - 1) {
            const int64_t past[] = { TIME, TIME };
            CHECK_STATUS(strata_mixer_step(step, params, state, past, &ot, &zt), STRATA_E_SPACE);
        }
    }
    for (int i = 0; i < BATCH * TIME * WIDTH; i++) CHECK(fabsf(z[i] - y[i]) < 1e-5f);

    /* misuse */
    CHECK_STATUS(strata_mixer_backward(step, params, &xt, &yt, dparams, &dxt), STRATA_E_INVALID);
    CHECK_STATUS(strata_mixer_state_init(m, state), STRATA_E_INVALID);
    strata_tensor wrong = xt;
    wrong.shape[2] = WIDTH + 1;
    CHECK_STATUS(strata_mixer_forward(m, params, &wrong, &yt), STRATA_E_SHAPE);
    wrong = xt;
    wrong.dtype = STRATA_F64;
    CHECK_STATUS(strata_mixer_forward(m, params, &wrong, &yt), STRATA_E_DTYPE);
    wrong = xt;
    wrong.shape[0] = 1;
    CHECK_STATUS(strata_mixer_forward(m, params, &wrong, &yt), STRATA_E_SHAPE);
    strata_mixer *none = m;
    CHECK_STATUS(strata_mixer_create(ctx, "softmax heads=(", &p, &none), STRATA_E_SPEC);
    CHECK(none == NULL);
    p.width = 0;
    CHECK_STATUS(strata_mixer_create(ctx, "softmax", &p, &none), STRATA_E_SHAPE);
    strata_free(ctx, params);
    strata_free(ctx, dparams);
    strata_free(ctx, state);
    strata_mixer_destroy(m);
    strata_mixer_destroy(step);
    strata_mixer_destroy(NULL);
    strata_context_destroy(ctx);
}

TESTS(T(every_class), T(bad_specs), T(formulas), T(bilinear_mlr), T(bilinear_btt), T(inherits), T(starts),
      T(public_calls))
