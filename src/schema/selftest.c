/* Self-tests of what runs on this machine: seconds at most, each against a formula written out here. The test suite is
 * thorough; these tell whether the installed library computes. */
#include <strata/attention.h>
#include <strata/mixer.h>
#include <strata/schema.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/context.h"
#include "core/philox.h"
#include "kernel/gemm/gemm.h"
#include "mixer/mixer.h"
#include "operator/operator.h"

typedef struct tester {
    strata_selftest_fn fn;
    void *user;
    bool failed;
} tester;

/* Report one test: the largest error against its bound, or the status that ended it. */
static void report(tester *t, const char *kernel, const char *variant, strata_status s, double error, double bound)
{
    char detail[200];
    bool ok = s == STRATA_OK && error <= bound; /* NaN fails */
    if (s != STRATA_OK)
        (void)snprintf(detail, sizeof detail, "%.190s", strata_last_error());
    else
        (void)snprintf(detail, sizeof detail, "error %.2g, bound %.2g", error, bound);
    t->failed |= !ok;
    if (t->fn) t->fn(t->user, kernel, variant, ok, detail);
}

/* ---- numbers ---------------------------------------------------------------------------------------------------- */
static void fill(int32_t dtype, void *p, int64_t n, uint64_t stream)
{
    for (int64_t i = 0; i < n; i++) {
        double v = sti_uniform(1, stream, (uint64_t)i) - 0.5;
        if (dtype == STRATA_F32)
            ((float *)p)[i] = (float)v;
        else
            ((double *)p)[i] = v;
    }
}

/* ---- matrix product --------------------------------------------------------------------------------------------- */
static void test_gemm(tester *t, const strata_context *ctx, const char *name)
{
    enum { M = 13, N = 19, K = 27 };
    float a[M * K], b[K * N], c[M * N];
    double error = 0;
    fill(STRATA_F32, a, M * K, 0);
    fill(STRATA_F32, b, K * N, 1);
    memset(c, 0xff, sizeof c);
    sti_gemm(ctx, STRATA_F32, false, false, M, N, K, 1, a, K, b, N, 0, c, N);
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < K; k++) sum += (double)a[i * K + k] * (double)b[k * N + j];
            error = fmax(error, fabs(sum - (double)c[i * N + j]));
            if (isnan(c[i * N + j])) error = (double)NAN;
        }
    }
    const double eps = sti_rounds(ctx) ? 0x1p-7 : 1.2e-7; /* both operands are rounded to 8 bits */
    report(t, "gemm", name, STRATA_OK, error, 8 * eps * sqrt(K) * K * 0.25);
}

/* ---- attention -------------------------------------------------------------------------------------------------- */
/* MLR of two levels, one head: ranks 5 and 3, blocks: everything and 8, scale 1/rank. */
enum { T = 21, D = 8, V = 5, RANK = 5, BLOCK = 8 };

static double attention_error(const float *q, const float *k, const float *v, const float *o)
{
    double error = 0;
    for (int i = 0; i < T; i++) {
        double p[T], sum = 0;
        for (int j = 0; j <= i; j++) {
            double s = 0, deep = 0;
            for (int d = 0; d < RANK; d++) s += (double)q[i * D + d] * (double)k[j * D + d] / RANK;
            for (int d = RANK; d < D; d++) deep += (double)q[i * D + d] * (double)k[j * D + d] / (D - RANK);
            p[j] = exp(i / BLOCK == j / BLOCK ? s + deep : s);
            sum += p[j];
        }
        for (int d = 0; d < V; d++) {
            double want = 0;
            for (int j = 0; j <= i; j++) want += p[j] / sum * (double)v[j * V + d];
            double e = fabs(want - (double)o[i * V + d]);
            error = e <= error ? error : e; /* keeps NaN */
        }
    }
    return error;
}

static void test_attention(tester *t, const strata_context *ctx)
{
    strata_attention_problem p = {
        .size = STRATA_INIT(strata_attention_problem), .batch = 1, .heads = 1, .q_time = T, .d_qk = D, .d_v = V
    };
    strata_attention *att = NULL;
    float q[T * D], k[T * D], v[T * V], o[T * V];
    fill(STRATA_F32, q, T * D, 2);
    fill(STRATA_F32, k, T * D, 3);
    fill(STRATA_F32, v, T * V, 4);
    memset(o, 0xff, sizeof o);
    strata_tensor tq = strata_view4(q, STRATA_F32, 1, 1, T, D), tk = strata_view4(k, STRATA_F32, 1, 1, T, D),
                  tv = strata_view4(v, STRATA_F32, 1, 1, T, V), to = strata_view4(o, STRATA_F32, 1, 1, T, V);
    strata_status s = strata_attention_create(ctx, "score=mlr ranks=5,3 blocks=32,8", &p, &att);
    if (s == STRATA_OK) s = strata_attention_forward(att, &tq, &tk, &tv, &to, NULL, NULL);
    /* |o| <= 0.5; the scores' rounding enters through the exponential. bf16: operands and weights have 8 bits */
    report(t, "attention", att ? strata_attention_variant(att) : strata_context_isa(ctx), s,
           s == STRATA_OK ? attention_error(q, k, v, o) : 0,
           sti_rounds(ctx) ? 8 * 0x1p-8 * 0.5 : 8 * 1.2e-7 * sqrt(T + D));
    strata_attention_destroy(att);
}

/* ---- operators: apply against the dense matrix ------------------------------------------------------------------- */
static void test_operator(tester *t, const strata_context *ctx, const sti_op_class *c)
{
    enum { COUNT = 3 };
    strata_op *op = NULL;
    void *w = NULL, *mem = NULL;
    double error = 0, bound = 0;
    strata_status s = strata_op_create(ctx, c->examples[0], 0, 0, 64, STRATA_F32, &op);
    char name[64];
    (void)snprintf(name, sizeof name, "operator %s", c->kind);
    if (s == STRATA_OK) {
        int64_t rows = strata_op_rows(op), cols = strata_op_cols(op);
        w = sti_heap(strata_op_param_bytes(op) + 1);
        mem = sti_heap((size_t)(COUNT * (rows + cols) + rows * cols) * sizeof(float));
        float *x = mem;
        if (!w || !mem) s = sti_fail(STRATA_E_MEMORY, "selftest: no memory");
        if (s == STRATA_OK) s = strata_op_init(op, 1, w);
        if (s == STRATA_OK) {
            float *y = x + COUNT * cols, *a = y + COUNT * rows;
            fill(STRATA_F32, x, COUNT * cols, 5);
            memset(y, 0xff, (size_t)(COUNT * rows) * sizeof *y);
            strata_tensor tx = strata_view2(x, STRATA_F32, COUNT, cols), ty = strata_view2(y, STRATA_F32, COUNT, rows);
            strata_tensor ta = strata_view2(a, STRATA_F32, rows, cols);
            s = strata_op_apply(op, w, STRATA_OP_N, 1, &tx, 0, &ty, NULL);
            if (s == STRATA_OK) s = strata_op_to_dense(op, w, &ta, NULL);
            for (int64_t i = 0; s == STRATA_OK && i < COUNT * rows; i++) {
                double want = 0, size = 0;
                for (int64_t k = 0; k < cols; k++) {
                    double term = (double)a[i % rows * cols + k] * (double)x[i / rows * cols + k];
                    want += term;
                    size += fabs(term);
                }
                double e = fabs(want - (double)y[i]);
                error = e <= error ? error : e;
                bound = fmax(bound, size);
            }
            bound *= 32 * 1.2e-7 * sqrt((double)cols); /* structured products round in up to four stages */
        }
    }
    report(t, name, strata_context_isa(ctx), s, error, bound);
    strata_op_destroy(op);
    sti_heap_free(w);
    sti_heap_free(mem);
}

/* ---- mixers: one directional derivative in f64 --------------------------------------------------------------------
 */
static void test_mixer(tester *t, const strata_context *ctx, const sti_mixer_class *c)
{
    enum { B = 1, TIME = 7, W = 16, N = B * TIME * W };
    strata_mixer_problem p = {
        .size = STRATA_INIT(strata_mixer_problem), .batch = B, .time = TIME, .width = W, .dtype = STRATA_F64, .train = 1
    };
    strata_mixer *m = NULL;
    double x[N], y[N], dy[N], dx[N], dir[N], side[2] = { 0, 0 }, slope = 0;
    const double h = 1e-5;
    void *w = NULL, *dw = NULL;
    char name[64];
    (void)snprintf(name, sizeof name, "mixer %s", c->kind);
    strata_status s = strata_mixer_create(ctx, c->examples[0], &p, &m);
    if (s == STRATA_OK) {
        w = sti_heap(strata_mixer_param_bytes(m) + 1);
        dw = sti_heap(strata_mixer_param_bytes(m) + 1);
        if (!w || !dw) s = sti_fail(STRATA_E_MEMORY, "selftest: no memory");
    }
    if (s == STRATA_OK) s = strata_mixer_init(m, 1, w);
    if (s == STRATA_OK) /* initial zeros would hide a wrong backward */
        fill(STRATA_F64, w, (int64_t)(strata_mixer_param_bytes(m) / sizeof(double)), 6);
    fill(STRATA_F64, dy, N, 7);
    fill(STRATA_F64, dir, N, 8);
    strata_tensor tx = strata_view3(x, STRATA_F64, B, TIME, W), ty = strata_view3(y, STRATA_F64, B, TIME, W);
    strata_tensor tdy = strata_view3(dy, STRATA_F64, B, TIME, W), tdx = strata_view3(dx, STRATA_F64, B, TIME, W);
    for (int k = 0; k < 3 && s == STRATA_OK; k++) { /* x + h dir, x - h dir, x */
        fill(STRATA_F64, x, N, 9);
        for (int i = 0; i < N; i++) x[i] += (k == 0 ? h : k == 1 ? -h : 0) * dir[i];
        s = strata_mixer_forward(m, w, &tx, &ty);
        for (int i = 0; i < N && k < 2; i++) side[k] += dy[i] * y[i];
    }
    if (s == STRATA_OK) s = strata_mixer_backward(m, w, &tx, &tdy, dw, &tdx);
    for (int i = 0; i < N && s == STRATA_OK; i++) slope += dx[i] * dir[i];
    double error = s == STRATA_OK ? fabs((side[0] - side[1]) / (2 * h) - slope) : 0;
    report(t, name, strata_context_isa(ctx), s, error, 1e-6 * (fabs(slope) + 1e-3));
    strata_mixer_destroy(m);
    sti_heap_free(w);
    sti_heap_free(dw);
}

strata_status strata_selftest(const strata_context *ctx, strata_selftest_fn fn, void *user)
{
    static const char *const isa[] = {
        "isa=ref", "isa=c", "isa=avx2", "isa=avx512", "math=bf16 isa=avx512bf16", "math=bf16 isa=amx"
    };
    tester t = { fn, user, false };
    if (!ctx) return sti_fail(STRATA_E_INVALID, "selftest: no context");
    test_gemm(&t, ctx, sti_gemm_backend());
    strata_context *bf16 = NULL;
    if (sti_context_with_math(ctx, STI_MATH_BF16, &bf16) == STRATA_OK && sti_rounds(bf16))
        test_gemm(&t, bf16, sti_gemm_backend_bf16(bf16));
    strata_context_destroy(bf16);
    for (size_t i = 0; i < STI_COUNT(isa); i++) { /* every level up to the context's */
        strata_context *c = NULL;
        if (strata_context_create(isa[i], NULL, &c) == STRATA_OK && c->isa <= ctx->isa &&
            !strcmp(strata_context_isa(c), strstr(isa[i], "isa=") + 4) && (isa[i][0] == 'i' || sti_rounds(c)))
            test_attention(&t, c);
        strata_context_destroy(c);
    }
    for (int32_t i = 0; i < sti_op_class_count(); i++) test_operator(&t, ctx, sti_op_class_at(i));
    for (int32_t i = 0; i < sti_mixer_class_count(); i++) test_mixer(&t, ctx, sti_mixer_class_at(i));
    return t.failed ? sti_fail(STRATA_E_NUMERIC, "a self-test failed") : STRATA_OK;
}
