/* Every operator class on a device against the same call on the CPU in f64: examples of all classes and a few sizes
 * that the fused kernels take, in f32, f64 and bf16, both modes, strided rows, alpha and beta, gradients. Inputs are
 * rounded to the type first, so that both sides compute from the same numbers. */
#include <strata/operator.h>

#include "core/context.h"
#include "core/device.h"
#include "core/philox.h"
#include "operator/operator.h"
#include "support/test.h"

static strata_context *host, *gpu;

static void open_contexts(void)
{
    if (gpu) return;
    if (!host) CHECK_OK(strata_context_create("isa=ref threads=1", NULL, &host));
    const strata_status s = strata_context_create("device=cuda", NULL, &gpu);
    if (s == STRATA_E_DEVICE || s == STRATA_E_UNSUPPORTED || s == STRATA_E_SPEC)
        SKIP("no gpu: %s", strata_last_error());
    CHECK_OK(s);
}

/* ---- arrays in f64 on the host and in some type on the device --------------------------------------------------- */

static uint64_t stream;

static double *numbers(int64_t n, double scale)
{
    double *p = malloc(((size_t)n + 1) * sizeof *p);
    if (!p) FAIL("no memory");
    stream++;
    for (int64_t i = 0; i < n; i++) p[i] = scale * (2 * sti_uniform(11, stream, (uint64_t)i) - 1);
    return p;
}

/* Device copy of v in type `type`; v is rounded to it. */
static void *upload(double *v, int64_t n, int32_t type)
{
    void *wide, *p;
    CHECK_OK(strata_device_alloc(gpu, (size_t)n * 8 + 1, &wide));
    CHECK_OK(strata_device_alloc(gpu, (size_t)n * 8 + 1, &p));
    if (n) CHECK_OK(strata_to_device(gpu, wide, v, (size_t)n * 8));
    sti_array_convert(gpu, p, type, wide, STRATA_F64, n);
    sti_array_convert(gpu, wide, STRATA_F64, p, type, n);
    if (n) CHECK_OK(strata_to_host(gpu, v, wide, (size_t)n * 8));
    strata_device_free(gpu, wide);
    return p;
}

static double *download(const void *p, int64_t n, int32_t type)
{
    double *v = malloc(((size_t)n + 1) * sizeof *v);
    void *wide;
    if (!v) FAIL("no memory");
    CHECK_OK(strata_device_alloc(gpu, (size_t)n * 8 + 1, &wide));
    sti_array_convert(gpu, wide, STRATA_F64, p, type, n);
    if (n) CHECK_OK(strata_to_host(gpu, v, wide, (size_t)n * 8));
    CHECK_OK(strata_synchronize(gpu));
    strata_device_free(gpu, wide);
    return v;
}

static double *copy_of(const double *v, int64_t n, bool absolute)
{
    double *c = malloc(((size_t)n + 1) * sizeof *c);
    if (!c) FAIL("no memory");
    for (int64_t i = 0; i < n; i++) c[i] = absolute ? fabs(v[i]) : v[i];
    return c;
}

static strata_tensor view(void *p, int32_t type, int64_t rows, int64_t width, int64_t ld, int32_t device)
{
    strata_tensor t = strata_view2(p, type, rows, width);
    t.stride[0] = ld;
    t.device = device;
    return t;
}

/* ---- the same expression with absolute values ------------------------------------------------------------------- */

/* A spec whose operator, on absolute values (and reflections with -|beta|), has nothing to cancel. */
static void plain_spec(char *text, size_t size, const char *spec)
{
    snprintf(text, size, "%s", spec);
    char *at = strstr(text, "beta=orthogonal"), *cap = strstr(text, "cap=1");
    if (at) memmove(at + 9, at + 15, strlen(at + 15) + 1), memcpy(at, "beta=free", 9);
    if (cap) cap[4] = '0';
}

static const strata_param_info *find(const strata_op *op, int32_t i)
{
    static strata_param_info p;
    CHECK_OK(strata_op_param(op, i, &p));
    return &p;
}

/* Parameters of `plain` from those of op. */
static double *plain_params(const strata_op *op, const strata_op *plain, const double *w)
{
    const int64_t n = (int64_t)strata_op_param_bytes(plain) / 8, have = (int64_t)strata_op_param_bytes(op) / 8;
    double *a = numbers(n, 0);
    for (int64_t i = 0; i < STI_MIN(n, have); i++) a[i] = fabs(w[i]);
    for (int32_t i = 0; i < strata_op_param_count(plain); i++) {
        const strata_param_info p = *find(plain, i);
        const size_t end = strlen(p.name);
        if (end < 4 || strcmp(p.name + end - 4, "beta") != 0) continue;
        const strata_param_info v = *find(plain, i - 1); /* V stands before its betas */
        const int64_t k = p.count, width = v.count / k;
        for (int64_t r = 0; r < k; r++) {
            double vv = 0;
            for (int64_t j = 0; j < width; j++) vv += w[v.offset + r * width + j] * w[v.offset + r * width + j];
            a[p.offset + r] = -(i < strata_op_param_count(op) ? fabs(w[p.offset + r]) : 2 / vv);
        }
    }
    return a;
}

/* What betas and caps that depend on the parameters add to the gradients g of the plain operator. */
static void complete(const strata_op *op, const strata_op *plain, const double *w, double *g)
{
    const bool cap = strstr(strata_op_spec(op), "cap=1") != NULL;
    for (int32_t i = 0; i < strata_op_param_count(plain); i++) {
        const strata_param_info p = *find(plain, i);
        for (int64_t j = 0; j < p.count; j++) g[p.offset + j] = fabs(g[p.offset + j]);
        if (cap) {
            double dot = 0, square = 1e-8 * (double)p.count;
            for (int64_t j = 0; j < p.count; j++) {
                dot += g[p.offset + j] * fabs(w[p.offset + j]);
                square += w[p.offset + j] * w[p.offset + j];
            }
            for (int64_t j = 0; j < p.count; j++) g[p.offset + j] += fabs(w[p.offset + j]) * dot / square;
        }
    }
    if (strata_op_param_count(plain) == strata_op_param_count(op)) return;
    const strata_param_info v = *find(plain, 0), b = *find(plain, 1); /* orthogonal reflections */
    const int64_t width = v.count / b.count;
    for (int64_t r = 0; r < b.count; r++) {
        double vv = 0;
        for (int64_t j = 0; j < width; j++) vv += w[v.offset + r * width + j] * w[v.offset + r * width + j];
        for (int64_t j = 0; j < width; j++)
            g[v.offset + r * width + j] += 4 * g[b.offset + r] / (vv * vv) * fabs(w[v.offset + r * width + j]);
    }
}

/* ---- one operator, one type, one shape of rows ------------------------------------------------------------------ */

static char label[256];

/* Largest error in units of the bound; an error of 100 bounds must be seen. */
static void compare(const char *what, const double *got, const double *want, const double *scale, int64_t n,
                    int64_t width, int64_t ld, double tolerance)
{
    double worst = 0;
    int64_t where = -1, seen = 0, count = 0;
    for (int64_t i = 0; i < n; i++) {
        if (i % ld >= width) continue;
        const double bound = tolerance * fabs(scale[i]) + 1e-30, e = fabs(got[i] - want[i]) / bound;
        if (!(e <= worst)) worst = isnan(e) ? HUGE_VAL : e, where = i;
        seen += fabs(got[i] + 100 * bound - want[i]) > bound;
        count++;
    }
    if (!(worst <= 1))
        FAIL("%s: %s[%lld] is %g, not %g: %g of the bound", label, what, (long long)where, got[where], want[where],
             worst);
    if (seen != count) FAIL("%s: %s: a planted error is not seen", label, what);
}

typedef struct pair { /* the operator on both sides, and the plain one for bounds */
    strata_op *op, *ref, *plain;
    double *w, *a;
    void *dev;
    int64_t n;
    double eps;
    int32_t type;
} pair;

static void open_pair(pair *p, const char *spec, int64_t count, int32_t type)
{
    char text[256];
    *p = (pair){ .type = type };
    CHECK_OK(strata_op_create(gpu, spec, 0, 0, count, type, &p->op));
    CHECK_OK(strata_op_create(host, spec, 0, 0, count, STRATA_F64, &p->ref));
    CHECK_STR(strata_op_spec(p->op), strata_op_spec(p->ref));
    plain_spec(text, sizeof text, strata_op_spec(p->ref));
    CHECK_OK(strata_op_create(host, text, 0, 0, count, STRATA_F64, &p->plain));
    p->n = (int64_t)strata_op_param_bytes(p->ref) / 8;
    p->w = numbers(p->n, 0);
    double *more = numbers(p->n, 0.4);
    CHECK_OK(strata_op_init(p->ref, 5, p->w));
    const bool cap = strstr(spec, "cap=1") != NULL;
    for (int64_t i = 0; i < p->n; i++) p->w[i] = cap ? 2 * p->w[i] + more[i] : p->w[i] * (1 + more[i]);
    free(more);
    p->dev = upload(p->w, p->n, type);
    p->a = plain_params(p->ref, p->plain, p->w);
    p->eps = type == STRATA_BF16 ? 0x1p-8 : type == STRATA_F32 ? 0x1p-23 : 0x1p-50;
}

static void close_pair(pair *p)
{
    strata_op_destroy(p->op);
    strata_op_destroy(p->ref);
    strata_op_destroy(p->plain);
    strata_device_free(gpu, p->dev);
    free(p->w);
    free(p->a);
}

/* Intermediate results are rounded too, a few times on the longest path of the compositions. */
static double tolerance_of(const pair *p)
{
    return 8 * p->eps * sqrt((double)(strata_op_rows(p->ref) + strata_op_cols(p->ref)));
}

static void poison(void *dev, int64_t n, int32_t type)
{
    double *nan = numbers(n, 0);
    for (int64_t i = 0; i < n; i++) nan[i] = NAN;
    void *p = upload(nan, n, type);
    sti_array_copy(gpu, dev, p, (size_t)n * strata_dtype_size(type));
    CHECK_OK(strata_synchronize(gpu));
    strata_device_free(gpu, p);
    free(nan);
}

static void test_apply(const pair *p, int32_t mode, int64_t count, int64_t pad, double alpha, double beta)
{
    const bool t = mode != STRATA_OP_N;
    const int64_t in = t ? strata_op_rows(p->ref) : strata_op_cols(p->ref),
                  out = t ? strata_op_cols(p->ref) : strata_op_rows(p->ref);
    const int64_t ldx = in + pad, ldy = out + pad, nx = count * ldx, ny = count * ldy;
    double *x = numbers(nx, 1), *y = numbers(ny, 1);
    void *dx = upload(x, nx, p->type), *dy = upload(y, ny, p->type);
    double *ax = copy_of(x, nx, true), *ay = copy_of(y, ny, true);
    if (beta == 0) poison(dy, ny, p->type);
    const strata_tensor X = view(dx, p->type, count, in, ldx, STRATA_CUDA),
                        Y = view(dy, p->type, count, out, ldy, STRATA_CUDA);
    const strata_tensor x64 = view(x, STRATA_F64, count, in, ldx, STRATA_CPU),
                        y64 = view(y, STRATA_F64, count, out, ldy, STRATA_CPU),
                        ax64 = view(ax, STRATA_F64, count, in, ldx, STRATA_CPU),
                        ay64 = view(ay, STRATA_F64, count, out, ldy, STRATA_CPU);
    CHECK_OK(strata_op_apply(p->op, p->dev, mode, alpha, &X, beta, &Y, NULL));
    CHECK_OK(strata_op_apply(p->ref, p->w, mode, alpha, &x64, beta, &y64, NULL));
    /* a negative `by` inside the operator is a sign, not a size */
    const double sign = strstr(strata_op_spec(p->plain), "by=-") ? -1 : 1;
    CHECK_OK(strata_op_apply(p->plain, p->a, mode, sign * fabs(alpha), &ax64, fabs(beta), &ay64, NULL));
    double *got = download(dy, ny, p->type);
    char what[64];
    snprintf(what, sizeof what, "%s count %lld pad %lld", t ? "A^T x" : "A x", (long long)count, (long long)pad);
    compare(what, got, y, ay, ny, out, ldy, tolerance_of(p));
    strata_device_free(gpu, dx), strata_device_free(gpu, dy);
    free(x), free(y), free(ax), free(ay), free(got);
}

static void test_grad(const pair *p, int64_t count, int64_t pad, int acc, bool params, bool input)
{
    const int64_t rows = strata_op_rows(p->ref), cols = strata_op_cols(p->ref), ldx = cols + pad, ldy = rows + pad;
    const int64_t nx = count * ldx, ny = count * ldy;
    const int32_t sums = sti_sum_type(p->type);
    double *x = numbers(nx, 1), *dy = numbers(ny, 1), *dx = numbers(nx, 1), *dw = numbers(p->n, 1);
    void *gx = upload(x, nx, p->type), *gdy = upload(dy, ny, p->type), *gdx = upload(dx, nx, p->type),
         *gdw = upload(dw, p->n, sums);
    double *ax = copy_of(x, nx, true), *ady = copy_of(dy, ny, true), *adx = copy_of(dx, nx, true),
           *adw = numbers(p->n + 64 + (int64_t)strata_op_param_bytes(p->plain) / 8, 0), *dw0 = copy_of(dw, p->n, true);
    if (!acc) poison(gdx, nx, p->type);
    const strata_tensor X = view(gx, p->type, count, cols, ldx, STRATA_CUDA),
                        DY = view(gdy, p->type, count, rows, ldy, STRATA_CUDA),
                        DX = view(gdx, p->type, count, cols, ldx, STRATA_CUDA);
    const strata_tensor x64 = view(x, STRATA_F64, count, cols, ldx, STRATA_CPU),
                        dy64 = view(dy, STRATA_F64, count, rows, ldy, STRATA_CPU),
                        dx64 = view(dx, STRATA_F64, count, cols, ldx, STRATA_CPU),
                        ax64 = view(ax, STRATA_F64, count, cols, ldx, STRATA_CPU),
                        ady64 = view(ady, STRATA_F64, count, rows, ldy, STRATA_CPU),
                        adx64 = view(adx, STRATA_F64, count, cols, ldx, STRATA_CPU);
    CHECK_OK(strata_op_grad(p->op, p->dev, &X, &DY, params ? gdw : NULL, input ? &DX : NULL, acc, NULL));
    CHECK_OK(strata_op_grad(p->ref, p->w, &x64, &dy64, params ? dw : NULL, input ? &dx64 : NULL, acc, NULL));
    CHECK_OK(strata_op_grad(p->plain, p->a, &ax64, &ady64, adw, NULL, 0, NULL));
    CHECK_OK(strata_op_apply(p->plain, p->a, STRATA_OP_T, strstr(strata_op_spec(p->plain), "by=-") ? -1 : 1, &ady64,
                             acc ? 1 : 0, &adx64, NULL));
    complete(p->ref, p->plain, p->w, adw);
    for (int64_t i = 0; i < p->n; i++) adw[i] += dw0[i];
    char what[64];
    snprintf(what, sizeof what, "dx count %lld pad %lld acc %d", (long long)count, (long long)pad, acc);
    if (input) {
        double *got = download(gdx, nx, p->type);
        compare(what, got, dx, adx, nx, cols, ldx, tolerance_of(p));
        free(got);
    }
    if (params) {
        double *got = download(gdw, p->n, sums), norm = 0;
        for (int32_t i = 0; i < strata_op_param_count(p->ref); i++) { /* the padding between them is nobody's */
            const strata_param_info q = *find(p->ref, i);
            snprintf(what, sizeof what, "d%.30s count %lld", q.name, (long long)count);
            compare(what, got + q.offset, dw + q.offset, adw + q.offset, q.count, q.count, q.count,
                    tolerance_of(p) * sqrt((double)count));
            for (int64_t j = q.offset; j < q.offset + q.count; j++) norm += fabs(dw[j] - dw0[j]);
        }
        CHECK(norm > 0);
        free(got);
    }
    strata_device_free(gpu, gx), strata_device_free(gpu, gdy), strata_device_free(gpu, gdx),
        strata_device_free(gpu, gdw);
    free(x), free(dy), free(dx), free(dw), free(ax), free(ady), free(adx), free(adw), free(dw0);
}

static void one_operator(const char *spec, int32_t type, bool more)
{
    enum { MOST = 200 };
    pair p;
    snprintf(label, sizeof label, "%s %s", spec, strata_dtype_name(type));
    open_pair(&p, spec, MOST, type);
    for (int32_t mode = STRATA_OP_N; mode <= STRATA_OP_T; mode++) {
        test_apply(&p, mode, 1, 0, 1, 0);
        test_apply(&p, mode, 37, 3, -0.7, 0);
        test_apply(&p, mode, 40, 8, 1.5, -0.5);
        if (more) test_apply(&p, mode, MOST, 0, 1, 0);
    }
    test_grad(&p, 1, 0, 0, true, true);
    test_grad(&p, 37, 3, 1, true, true);
    test_grad(&p, 40, 8, 0, true, false);
    test_grad(&p, 40, 8, 1, false, true);
    if (more) test_grad(&p, MOST, 0, 0, true, true);
    close_pair(&p);
}

/* Sizes that the fused kernels take (multiples of 8 throughout), whole and cut short, and some that they leave. */
static const char *const larger[] = { "btt rows=256 cols=512",
                                      "btt rows=1024 cols=768 rank=2",
                                      "btt rows=256 cols=256 rank=3",
                                      "btt rows=1024 cols=1024 cap=1",
                                      "btt rows=2048 cols=2048",
                                      "monarch rows=2048 cols=2048 blocks=32",
                                      "kronecker rows=1024 cols=1024",
                                      "btt shape=64x128,8x16",
                                      "btt shape=128x64,16x128 rank=1",
                                      "monarch rows=1024 cols=1024 blocks=32",
                                      "monarch rows=512 cols=1024 blocks=16 out_blocks=32 inner=32",
                                      "monarch rows=500 cols=1000 blocks=16",
                                      "monarch rows=496 cols=504 blocks=16",
                                      "kronecker rows=1024 cols=512",
                                      "kronecker shape=16x48,64x24",
                                      "mlr rows=256 cols=128 ranks=8,4,4",
                                      "lowrank rows=256 cols=512 rank=16",
                                      "product rows=256 cols=256 inner=256,256 terms=btt,householder(k=3),btt(rank=2)",
                                      "sum rows=256 cols=256 terms=btt,lowrank(rank=8),diagonal" };

static void all_classes(int32_t type)
{
    open_contexts();
    for (int32_t c = 0; c < sti_op_class_count(); c++)
        for (const char *const *e = sti_op_class_at(c)->examples; *e; e++) one_operator(*e, type, false);
    for (size_t i = 0; i < STI_COUNT(larger); i++) one_operator(larger[i], type, true);
}
static void all_f32(void)
{
    all_classes(STRATA_F32);
}
static void all_f64(void)
{
    all_classes(STRATA_F64);
}
static void all_bf16(void)
{
    all_classes(STRATA_BF16);
}

static void initialisation_is_the_cpu_s(void)
{
    open_contexts();
    pair p;
    snprintf(label, sizeof label, "initialisation");
    open_pair(&p, "btt rows=12 cols=8 rank=2", 4, STRATA_BF16);
    CHECK_OK(strata_op_init(p.op, 9, p.dev));
    CHECK_OK(strata_op_init(p.ref, 9, p.w));
    void *rounded = upload(p.w, p.n, STRATA_BF16);
    double *got = download(p.dev, p.n, STRATA_BF16);
    for (int64_t i = 0; i < p.n; i++) CHECK(got[i] == p.w[i]);
    free(got);
    strata_device_free(gpu, rounded);
    close_pair(&p);
}

static void dense_matrix(void)
{
    open_contexts();
    pair p;
    snprintf(label, sizeof label, "to_dense");
    open_pair(&p, "btt rows=48 cols=64 rank=2", 8, STRATA_F32);
    double *a = numbers(48 * 64, 1), *want = numbers(48 * 64, 1), *s = numbers(48 * 64, 1);
    void *dev = upload(a, 48 * 64, STRATA_F32);
    const strata_tensor A = view(dev, STRATA_F32, 48, 64, 64, STRATA_CUDA),
                        W = view(want, STRATA_F64, 48, 64, 64, STRATA_CPU),
                        S = view(s, STRATA_F64, 48, 64, 64, STRATA_CPU);
    CHECK_OK(strata_op_to_dense(p.op, p.dev, &A, NULL));
    CHECK_OK(strata_op_to_dense(p.ref, p.w, &W, NULL));
    CHECK_OK(strata_op_to_dense(p.plain, p.a, &S, NULL));
    double *got = download(dev, 48 * 64, STRATA_F32);
    compare("A", got, want, s, 48 * 64, 64, 64, tolerance_of(&p));
    free(a), free(want), free(s), free(got);
    strata_device_free(gpu, dev);
    close_pair(&p);
}

static void arrays_must_be_on_the_device(void)
{
    open_contexts();
    strata_op *op;
    float x[8] = { 0 }, y[8] = { 0 };
    CHECK_OK(strata_op_create(gpu, "dense", 4, 4, 2, STRATA_F32, &op));
    const strata_tensor X = strata_view2(x, STRATA_F32, 2, 4), Y = strata_view2(y, STRATA_F32, 2, 4);
    CHECK_STATUS(strata_op_apply(op, x, STRATA_OP_N, 1, &X, 0, &Y, NULL), STRATA_E_DEVICE);
    CHECK_ERROR_TEXT("x is on device cpu, the operator on cuda");
    strata_op_destroy(op);
    CHECK_STATUS(strata_op_create(host, "dense", 4, 4, 2, STRATA_BF16, &op), STRATA_E_DTYPE);
}

TESTS(T(all_f32), T(all_f64), T(all_bf16), T(initialisation_is_the_cpu_s), T(dense_matrix),
      T(arrays_must_be_on_the_device))
