/* Every registered layer through the graph, and the stages that models call by name; values against f64 formulas. */
#include "layer/layer.h"

#include "core/context.h"
#include "core/philox.h"
#include "core/spec.h"
#include "operator/operator.h"
#include "support/rig.h"

enum { WIDTH = 16, BATCH = 2, TIME = 7, ROWS = BATCH * TIME, VOCAB = 9 };

static const char *role;

static int32_t build(sti_graph *g, const char *text, int64_t width, int32_t in, char **canonical)
{
    sti_spec *spec;
    CHECK_OK(sti_spec_parse(text, &spec));
    const int32_t out = sti_layer_build(g, "layer", spec, role, width, in, canonical);
    sti_spec_free(spec);
    return out;
}

static void every_class(void)
{
    int checked = 0;
    for (int32_t i = 0; i < sti_layer_class_count(); i++) {
        const sti_layer_class *c = sti_layer_class_at(i);
        CHECK(c->kind && c->role && c->summary && sti_layer_class_find(c->kind) == c);
        if (strcmp(c->role, "stage") == 0) continue;
        role = c->role;
        for (const char *const *spec = c->examples; *spec; spec++, checked++) rig_check(build, *spec, WIDTH, 1);
    }
    CHECK(checked >= 12);
}

static void bad_specs(void)
{
    static const struct {
        const char *role, *spec, *text;
    } bad[] = {
        { "norm", "layrnorm", "did you mean layernorm?" },
        { "norm", "mlp", "role mlp, but norm is wanted" },
        { "norm", "sum", "role stage, but norm is wanted" },
        { "norm", "layernorm epz=1", "nearest is eps" },
        { "norm", "rmsnorm eps=-1", "outside" },
        { "mlp", "mlp act=gelux", "not one of gelu|gelu_tanh|relu|silu" },
        { "mlp", "mlp ratio=0", "outside" },
        { "mlp", "mlp linear=dence", "dense" },
        { "mlp", "swiglu act=relu", "unknown key act" },
    };
    for (size_t i = 0; i < STI_COUNT(bad); i++) {
        const rig_plan plan = {
            .build = build, .spec = bad[i].spec, .batch = 1, .time = 2, .width = WIDTH, .dtype = STRATA_F32
        };
        role = bad[i].role;
        CHECK_STATUS(rig_try(&plan), STRATA_E_SPEC);
        CHECK_ERROR_TEXT(bad[i].text);
    }
}

/* ---- values ---------------------------------------------------------------------------------------------------------
 */

static const double *param(const rig *r, const char *name)
{
    const sti_param *p = sti_params_find(&r->g->params, name);
    if (!p) FAIL("no parameter %s", name);
    return (const double *)r->params + p->offset;
}

/* y (rows) and size, the same with absolute values: y = W x + bias */
static void linear(const double *w, const double *bias, int rows, int cols, const double *x, const double *xs,
                   double *y, double *ys)
{
    for (int i = 0; i < rows; i++) {
        y[i] = bias ? bias[i] : 0;
        ys[i] = fabs(y[i]);
        for (int j = 0; j < cols; j++) y[i] += w[i * cols + j] * x[j], ys[i] += fabs(w[i * cols + j]) * xs[j];
    }
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static void values(const char *layer_role, const char *spec, int hidden,
                   void (*formula)(const rig *, const double *, int, double *, double *))
{
    static double ref[ROWS * WIDTH], size[ROWS * WIDTH];
    rig r;
    const rig_plan plan = {
        .build = build, .spec = spec, .batch = BATCH, .time = TIME, .width = WIDTH, .dtype = STRATA_F64, .train = 1
    };
    role = layer_role;
    rig_open(&r, &plan);
    rig_forward(&r, BATCH, TIME, NULL, r.x, 0);
    for (int i = 0; i < ROWS; i++)
        formula(&r, (const double *)r.x + i * WIDTH, hidden, ref + i * WIDTH, size + i * WIDTH);
    near_all(spec, r.y, STRATA_F64, ref, size, ROWS * WIDTH, 8, WIDTH + hidden);
    rig_close(&r);
}

static void norm_formula(const rig *r, const double *x, int center, double *y, double *size)
{
    double mean = 0, amean = 0, var = 0;
    for (int j = 0; center && j < WIDTH; j++) mean += x[j] / WIDTH, amean += fabs(x[j]) / WIDTH;
    for (int j = 0; j < WIDTH; j++) var += (x[j] - mean) * (x[j] - mean) / WIDTH;
    for (int j = 0; j < WIDTH; j++) {
        const double s = 1 / sqrt(var + 1e-5), gain = param(r, "layer.weight")[j], bias = param(r, "layer.bias")[j];
        y[j] = (x[j] - mean) * s * gain + bias;
        size[j] = (fabs(x[j]) + amean) * s * fabs(gain) + fabs(bias);
    }
}

static void mlp_formula(const rig *r, const double *x, int hidden, double *y, double *size)
{
    double h[64], hs[64], xs[WIDTH];
    for (int j = 0; j < WIDTH; j++) xs[j] = fabs(x[j]);
    linear(param(r, "layer.up.weight"), param(r, "layer.up.bias"), hidden, WIDTH, x, xs, h, hs);
    for (int j = 0; j < hidden; j++) h[j] = 0.5 * h[j] * (1 + erf(h[j] / sqrt(2.0)));
    linear(param(r, "layer.down.weight"), param(r, "layer.down.bias"), WIDTH, hidden, h, hs, y, size);
}

static void swiglu_formula(const rig *r, const double *x, int hidden, double *y, double *size)
{
    double a[64], as[64], b[64], bs[64], xs[WIDTH];
    for (int j = 0; j < WIDTH; j++) xs[j] = fabs(x[j]);
    linear(param(r, "layer.gate.weight"), NULL, hidden, WIDTH, x, xs, a, as);
    linear(param(r, "layer.up.weight"), NULL, hidden, WIDTH, x, xs, b, bs);
    for (int j = 0; j < hidden; j++) a[j] = silu(a[j]) * b[j], as[j] *= bs[j];
    linear(param(r, "layer.down.weight"), NULL, WIDTH, hidden, a, as, y, size);
}

static void formulas(void)
{
    values("norm", "layernorm bias=1", 1, norm_formula);
    values("norm", "rmsnorm bias=1", 0, norm_formula);
    values("mlp", "mlp ratio=3 bias=1", 48, mlp_formula);
    values("mlp", "swiglu", 48, swiglu_formula); /* 16 * 8/3 = 42.7, up to a multiple of 8 */
}

/* Shapes, initialisation and multipliers of contracts 2. */
static void starts(void)
{
    rig r;
    const rig_plan plan = { .build = build,
                            .spec = "mlp ratio=3 bias=1",
                            .batch = 1,
                            .time = 1,
                            .width = WIDTH,
                            .dtype = STRATA_F64,
                            .train = 1 };
    role = "mlp";
    rig_open(&r, &plan);
    const sti_param *up = sti_params_find(&r.g->params, "layer.up.weight"),
                    *down = sti_params_find(&r.g->params, "layer.down.weight"),
                    *bias = sti_params_find(&r.g->params, "layer.up.bias");
    CHECK(up && down && bias);
    CHECK(up->init == STI_INIT_NORMAL && fabs(up->init_value - 0.25) < 1e-15 && fabs(up->lr_mult - 48) < 1e-12);
    sti_params_init(&r.g->params, r.params, STRATA_F64, 1, 0);
    CHECK(!(rig_norm((double *)r.params + down->offset, STRATA_F64, down->count) > 0));
    CHECK(!(rig_norm((double *)r.params + bias->offset, STRATA_F64, bias->count) > 0));
    CHECK(fabs(down->lr_mult - 16) < 1e-12 && fabs(bias->lr_mult - 1) < 1e-15);
    rig_close(&r);
}

/* The matrix that a linear layer starts with, times rows of the identity. */
static void start_of(strata_context *ctx, const char *text, int64_t cols, int64_t rows, bool reads, double *a)
{
    sti_graph *g;
    sti_spec *spec;
    CHECK_OK(sti_graph_create(ctx, STRATA_F64, 1, cols, cols, 0, 768, &g));
    CHECK_OK(sti_spec_parse(text, &spec));
    const int32_t x = sti_graph_input(g, cols, STRATA_F64, 0),
                  y = reads ? sti_graph_read_in(g, "in", spec, rows, x, true)
                            : sti_graph_linear(g, "in", spec, rows, x, true, false);
    sti_graph_output(g, y);
    CHECK_OK(sti_graph_finish(g));
    for (int32_t i = 0; i < g->params.count && reads; i++) CHECK(fabs(g->params.p[i].lr_mult - 1) < 1e-15);
    double *w = strata_alloc(ctx, (size_t)g->params.elements * sizeof *w),
           *unit = strata_alloc(ctx, (size_t)(cols * cols) * sizeof *unit);
    void *arena[] = { strata_alloc(ctx, g->act_bytes), strata_alloc(ctx, g->work_bytes + 64) };
    for (int64_t i = 0; i < cols * cols; i++) unit[i] = i % (cols + 1) == 0;
    sti_params_init(&g->params, w, STRATA_F64, 5, 0);
    const sti_exec e = { .params = w, .act = arena[0], .work = arena[1], .batch = 1, .time = cols, .ext = { unit } };
    CHECK_OK(sti_graph_forward(g, &e));
    memcpy(a, sti_graph_data(g, &e, y), (size_t)(cols * rows) * sizeof *a);
    for (int i = 0; i < 2; i++) strata_free(ctx, arena[i]);
    strata_free(ctx, unit);
    strata_free(ctx, w);
    sti_spec_free(spec);
    sti_graph_destroy(g);
}

/* What reads numbers starts as an embedding does: a dense one at N(0, 0.02^2), others scaled by as much. */
static void read_in(void)
{
    enum { IN = 40, OUT = 64 };
    static const char *const specs[] = { "dense", "lowrank(rank=8)", "btt(rank=2)" };
    static double a[IN * OUT], b[IN * OUT];
    strata_context *ctx;
    CHECK_OK(strata_context_create("threads=1", NULL, &ctx));
    for (size_t k = 0; k < STI_COUNT(specs); k++) {
        double sum = 0;
        start_of(ctx, specs[k], IN, OUT, true, a);
        start_of(ctx, specs[k], IN, OUT, false, b);
        for (int i = 0; i < IN * OUT; i++) {
            sum += a[i] * a[i];
            CHECK(fabs(a[i] - 0.02 * sqrt(IN) * b[i]) < 1e-13);
        }
        const double std = sqrt(sum / (IN * OUT)); /* of 2560 draws: 1.4 % */
        CHECK(k > 0 || fabs(std / 0.02 - 1) < 0.06);
        CHECK(std > 0.002);
    }
    sti_graph *g;
    CHECK_OK(sti_graph_create(ctx, STRATA_F32, 1, 2, 2, 1, 768, &g));
    const int32_t y = sti_graph_input(g, 3, STRATA_F32, 0), t = sti_graph_input(g, 2, STRATA_F32, 0);
    CHECK_INT(sti_graph_squared_error(g, "loss", y, t), -1);
    CHECK_ERROR_TEXT("targets are f32 of width 2, but the outputs want f32 of width 3");
    sti_graph_destroy(g);
    strata_context_destroy(ctx);
}

/* ---- embedding, positions, sum, head, cross-entropy: a model without blocks ------------------------------------- */

typedef struct tiny {
    strata_context *ctx;
    sti_graph *g;
    int32_t logits, loss;
    double *params, *dparams;
    void *arena[4];
    int32_t token[ROWS], target[ROWS];
} tiny;

static void tiny_open(tiny *m, int tied, int64_t context, int32_t dtype, const char *spec)
{
    *m = (tiny){ 0 };
    CHECK_OK(strata_context_create(spec, NULL, &m->ctx));
    CHECK_OK(sti_graph_create(m->ctx, dtype, BATCH, TIME, TIME, 1, 768, &m->g));
    sti_spec *dense;
    CHECK_OK(sti_spec_parse("dense", &dense));
    const int32_t tokens = sti_graph_input(m->g, 1, STRATA_I32, 0), targets = sti_graph_input(m->g, 1, STRATA_I32, 0);
    int32_t h = sti_graph_embedding(m->g, "embedding", VOCAB, WIDTH, tokens);
    h = sti_graph_positions(m->g, "positions", context, WIDTH, h);
    h = sti_graph_sum(m->g, "twice", h, h);
    m->logits = sti_graph_head(m->g, "head", dense, VOCAB, h, tied ? 1 : 0, tied ? 0.25 : 2.0);
    m->loss = sti_graph_cross_entropy(m->g, "loss", m->logits, targets);
    sti_graph_output(m->g, m->loss);
    sti_spec_free(dense);
    CHECK_OK(sti_graph_finish(m->g));
    const size_t e = strata_dtype_size(dtype),
                 bytes[] = { m->g->act_bytes, m->g->grad_bytes, m->g->saved_bytes, m->g->work_bytes };
    for (int i = 0; i < 4; i++)
        m->arena[i] = strata_alloc(m->ctx, bytes[i] + 64), memset(m->arena[i], 0xff, bytes[i] + 64);
    m->params = strata_alloc(m->ctx, (size_t)m->g->params.elements * e);
    m->dparams = strata_alloc(m->ctx, (size_t)m->g->params.elements * e);
    sti_params_init(&m->g->params, m->params, dtype, 3, 1);
    memset(m->dparams, 0, (size_t)m->g->params.elements * e);
    for (int i = 0; i < ROWS; i++) {
        m->token[i] = (int32_t)sti_below(5, 0, (uint64_t)i, VOCAB - 1); /* token 8 never comes */
        m->target[i] = i == 4 ? -1 : (int32_t)sti_below(5, 1, (uint64_t)i, VOCAB);
    }
}

static void tiny_close(tiny *m)
{
    for (int i = 0; i < 4; i++) strata_free(m->ctx, m->arena[i]);
    strata_free(m->ctx, m->params);
    strata_free(m->ctx, m->dparams);
    sti_graph_destroy(m->g);
    strata_context_destroy(m->ctx);
}

static sti_exec tiny_exec(tiny *m, const int64_t *pos)
{
    return (sti_exec){ .params = m->params,
                       .dparams = m->dparams,
                       .act = m->arena[0],
                       .grad = m->arena[1],
                       .saved = m->arena[2],
                       .work = m->arena[3],
                       .pos = pos,
                       .batch = BATCH,
                       .time = TIME,
                       .ext = { m->token, m->target } };
}

static double tiny_loss(tiny *m)
{
    const sti_exec e = tiny_exec(m, NULL);
    double sum = 0, counted = 0;
    CHECK_OK(sti_graph_forward(m->g, &e));
    const double *out = sti_graph_data(m->g, &e, m->loss);
    for (int i = 0; i < ROWS; i++) sum += out[2 * i], counted += out[2 * i + 1];
    CHECK(fabs(counted - (ROWS - 1)) < 0.5);
    return sum / counted;
}

/* The whole forward by hand. */
static double tiny_formula(const tiny *m, int tied)
{
    const sti_params *p = &m->g->params;
    const double *E = m->params + sti_params_find(p, "embedding.weight")->offset;
    const double *P = m->params + sti_params_find(p, "positions.weight")->offset;
    const double *W = tied ? E : m->params + sti_params_find(p, "head.weight")->offset;
    double sum = 0;
    for (int i = 0; i < ROWS; i++) {
        double logit[VOCAB], z = 0;
        if (m->target[i] < 0) continue;
        for (int v = 0; v < VOCAB; v++) {
            logit[v] = 0;
            for (int j = 0; j < WIDTH; j++)
                logit[v] += W[v * WIDTH + j] * 2 * (E[m->token[i] * WIDTH + j] + P[i % TIME * WIDTH + j]);
            logit[v] *= tied ? 0.25 : 2.0;
            z += exp(logit[v]);
        }
        sum += log(z) - logit[m->target[i]];
    }
    return sum / (ROWS - 1);
}

static void model(void)
{
    for (int tied = 0; tied < 2; tied++) {
        tiny m;
        tiny_open(&m, tied, TIME + 2, STRATA_F64, "threads=2");
        CHECK_INT(m.g->params.count, tied ? 2 : 3);
        const double want = tiny_formula(&m, tied);
        CHECK(fabs(tiny_loss(&m) - want) < 1e-13 * (1 + fabs(want)) * 50);
        const sti_exec e = tiny_exec(&m, NULL);
        for (int64_t i = 0; i < m.g->params.elements; i++) m.dparams[i] = 1;
        memset(m.arena[1], 0xff, m.g->grad_bytes);
        memset(m.arena[3], 0xff, m.g->work_bytes);
        CHECK_OK(sti_graph_backward(m.g, &e));
        for (int32_t k = 0; k < m.g->params.count; k++) {
            const sti_param *p = &m.g->params.p[k];
            double norm = 0;
            for (int64_t i = 0; i < p->count; i++) {
                double *x = m.params + p->offset + i, keep = *x, h = 1e-5;
                *x = keep + h;
                const double up = tiny_loss(&m);
                *x = keep - h;
                const double down = tiny_loss(&m), got = m.dparams[p->offset + i] - 1;
                *x = keep;
                norm += got * got;
                if (!(fabs((up - down) / (2 * h) - got) < 1e-8))
                    FAIL("gradient of %s[%lld] is %g, differences give %g", p->name, (long long)i, got,
                         (up - down) / (2 * h));
            }
            CHECK(norm > 1e-6);
        }
        /* a token that never comes and a position that is never reached have no gradient */
        const sti_param *p = sti_params_find(&m.g->params, "positions.weight");
        CHECK(m.dparams[p->offset + TIME * WIDTH] == 1);
        if (!tied) CHECK(m.dparams[(VOCAB - 1) * WIDTH] == 1);
        tiny_close(&m);
    }
}

static void model_refuses(void)
{
    tiny m;
    tiny_open(&m, 0, TIME, STRATA_F64, "threads=1");
    const int64_t late[] = { 0, 1 };
    sti_exec e = tiny_exec(&m, late);
    CHECK_STATUS(sti_graph_forward(m.g, &e), STRATA_E_SPACE);
    CHECK_ERROR_TEXT("learned positions end at context=7");
    m.token[3] = VOCAB;
    e.pos = NULL;
    CHECK_STATUS(sti_graph_forward(m.g, &e), STRATA_E_INVALID);
    CHECK_ERROR_TEXT("token 9 at 3 is outside the vocabulary of 9");
    m.token[3] = 0;
    m.target[2] = -2;
    CHECK_STATUS(sti_graph_forward(m.g, &e), STRATA_E_INVALID);
    CHECK_ERROR_TEXT("target -2");
    tiny_close(&m);

    strata_context *ctx;
    sti_graph *g;
    CHECK_OK(strata_context_create(NULL, NULL, &ctx));
    CHECK_OK(sti_graph_create(ctx, STRATA_F32, 1, 2, 2, 1, 768, &g));
    const int32_t a = sti_graph_input(g, 4, STRATA_F32, 1), b = sti_graph_input(g, 5, STRATA_F32, 1);
    CHECK_INT(sti_graph_sum(g, "sum", a, b), -1);
    CHECK_ERROR_TEXT("widths 4 and 5 do not add");
    CHECK_STATUS(sti_graph_finish(g), STRATA_E_SHAPE);
    sti_graph_destroy(g);
    CHECK_OK(sti_graph_create(ctx, STRATA_F32, 1, 2, 2, 1, 768, &g));
    CHECK_INT(sti_graph_embedding(g, "e", 5, 4, sti_graph_input(g, 4, STRATA_F32, 1)), -1);
    CHECK_STATUS(sti_graph_finish(g), STRATA_E_DTYPE);
    sti_graph_destroy(g);
    CHECK_OK(sti_graph_create(ctx, STRATA_F32, 1, 2, 2, 1, 768, &g));
    const int32_t x = sti_graph_embedding(g, "e", 5, 4, sti_graph_input(g, 1, STRATA_I32, 0));
    CHECK_INT(sti_graph_head(g, "head", NULL, 6, x, 1, 1.0), -1);
    CHECK_ERROR_TEXT("tied to e.weight, which is not a (6, 4) table");
    sti_graph_destroy(g);
    strata_context_destroy(ctx);
}

/* Enough rows that threads share the work of the embedding, the positions and the loss: the same bits for any number.
 */
static void stages_repeat(void)
{
    enum { MANY = 4, LONG = 160, WIDE = 64 };
    static int32_t token[MANY * LONG], target[MANY * LONG];
    static float keep[2][(VOCAB + LONG) * WIDE];
    for (uint64_t i = 0; i < MANY * LONG; i++) {
        token[i] = (int32_t)sti_below(6, 0, i, VOCAB);
        target[i] = (int32_t)sti_below(6, 1, i, VOCAB);
    }
    for (int t = 1; t <= 3; t++) {
        char spec[48];
        strata_context *ctx;
        sti_graph *g;
        snprintf(spec, sizeof spec, "threads=%d deterministic=1", t);
        CHECK_OK(strata_context_create(spec, NULL, &ctx));
        CHECK_OK(sti_graph_create(ctx, STRATA_F32, MANY, LONG, LONG, 1, 768, &g));
        const int32_t tokens = sti_graph_input(g, 1, STRATA_I32, 0), targets = sti_graph_input(g, 1, STRATA_I32, 0);
        int32_t h = sti_graph_embedding(g, "embedding", VOCAB, WIDE, tokens);
        h = sti_graph_sum(g, "twice", h, h);
        h = sti_graph_positions(g, "positions", LONG, WIDE, h);
        sti_graph_output(g,
                         sti_graph_cross_entropy(g, "loss", sti_graph_head(g, "head", NULL, VOCAB, h, 1, 1), targets));
        CHECK_OK(sti_graph_finish(g));
        CHECK_INT(g->params.elements, (VOCAB + LONG) * WIDE);
        float *params = strata_alloc(ctx, sizeof keep[0]), *dparams = strata_alloc(ctx, sizeof keep[0]);
        void *arena[] = { strata_alloc(ctx, g->act_bytes), strata_alloc(ctx, g->grad_bytes),
                          strata_alloc(ctx, g->saved_bytes), strata_alloc(ctx, g->work_bytes + 64) };
        sti_params_init(&g->params, params, STRATA_F32, 3, 1);
        memset(dparams, 0, sizeof keep[0]);
        const sti_exec e = { .params = params,
                             .dparams = dparams,
                             .act = arena[0],
                             .grad = arena[1],
                             .saved = arena[2],
                             .work = arena[3],
                             .batch = MANY,
                             .time = LONG,
                             .ext = { token, target } };
        CHECK_OK(sti_graph_forward(g, &e));
        CHECK_OK(sti_graph_backward(g, &e));
        memcpy(keep[t > 1], dparams, sizeof keep[0]);
        CHECK(t == 1 || memcmp(keep[0], keep[1], sizeof keep[0]) == 0);
        for (size_t i = 0; i < STI_COUNT(arena); i++) strata_free(ctx, arena[i]);
        strata_free(ctx, params);
        strata_free(ctx, dparams);
        sti_graph_destroy(g);
        strata_context_destroy(ctx);
    }
    CHECK(rig_norm(keep[0], STRATA_F32, (VOCAB + LONG) * WIDE) > 0);
}

TESTS(T(every_class), T(bad_specs), T(formulas), T(starts), T(read_in), T(model), T(model_refuses), T(stages_repeat))
