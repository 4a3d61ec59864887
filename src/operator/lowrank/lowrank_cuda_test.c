/* The fused kernel in every way that it runs, and the operator on top of it, against f64 on the host from the same bf16
 * numbers. The middle is rounded to bf16 in both, so that a result differs by its own rounding (2^-9 of it) and by
 * middles that round the other way (at most 2^-8 of each, |z| |u| in the sum). */
#include <strata/operator.h>

#include "core/device.h"
#include "core/philox.h"
#include "operator/lowrank/lowrank_sm90.h"
#include "support/test.h"

static strata_context *gpu;
static uint64_t stream;
static char label[160];

static void open_context(void)
{
    if (gpu) return;
    const strata_status s = strata_context_create("device=cuda", NULL, &gpu);
    if (s == STRATA_E_DEVICE || s == STRATA_E_UNSUPPORTED || s == STRATA_E_SPEC)
        SKIP("no gpu: %s", strata_last_error());
    CHECK_OK(s);
}

/* ---- arrays on both sides ---------------------------------------------------------------------------------------- */

typedef struct array { /* (rows, width) with leading stride ld */
    void *dev;
    float *v;
    int64_t rows, width, ld;
    int32_t type;
} array;

static void send(const array *a, const float *v)
{
    const int64_t n = a->rows * a->ld;
    void *wide;
    CHECK_OK(strata_device_alloc(gpu, (size_t)n * 4, &wide));
    CHECK_OK(strata_to_device(gpu, wide, v, (size_t)n * 4));
    sti_array_convert(gpu, a->dev, a->type, wide, STRATA_F32, n);
    CHECK_OK(strata_synchronize(gpu));
    strata_device_free(gpu, wide);
}

static float *receive(const array *a)
{
    const int64_t n = a->rows * a->ld;
    float *v = malloc((size_t)n * sizeof *v);
    void *wide;
    if (!v) FAIL("no memory");
    CHECK_OK(strata_device_alloc(gpu, (size_t)n * 4, &wide));
    sti_array_convert(gpu, wide, STRATA_F32, a->dev, a->type, n);
    CHECK_OK(strata_to_host(gpu, v, wide, (size_t)n * 4));
    CHECK_OK(strata_synchronize(gpu));
    strata_device_free(gpu, wide);
    return v;
}

static array numbers(int64_t rows, int64_t width, int64_t pad, int32_t type)
{
    array a = { NULL, malloc((size_t)(rows * (width + pad)) * sizeof(float)), rows, width, width + pad, type };
    if (!a.v) FAIL("no memory");
    stream++;
    for (int64_t i = 0; i < rows * a.ld; i++) a.v[i] = (float)(2 * sti_uniform(7, stream, (uint64_t)i) - 1);
    CHECK_OK(strata_device_alloc(gpu, (size_t)(rows * a.ld) * strata_dtype_size(type), &a.dev));
    send(&a, a.v);
    free(a.v);
    a.v = receive(&a); /* as rounded */
    return a;
}

static void poison(const array *a)
{
    const int64_t n = a->rows * a->ld;
    float *nan = malloc((size_t)n * sizeof *nan);
    if (!nan) FAIL("no memory");
    for (int64_t i = 0; i < n; i++) nan[i] = NAN;
    send(a, nan);
    free(nan);
}

static void drop(array *a)
{
    strata_device_free(gpu, a->dev);
    free(a->v);
}

static strata_tensor view(const array *a)
{
    strata_tensor t = strata_view2(a->dev, a->type, a->rows, a->width);
    t.stride[0] = a->ld;
    t.device = STRATA_CUDA;
    return t;
}

/* ---- f64 --------------------------------------------------------------------------------------------------------- */

static float rounded(double x) /* to bf16 */
{
    union {
        float f;
        uint32_t u;
    } b = { .f = (float)x };
    b.u = (b.u + 0x7fff + (b.u >> 16 & 1)) & 0xffff0000u;
    return b.f;
}

static double *room(int64_t n)
{
    double *p = calloc((size_t)n, sizeof *p);
    if (!p) FAIL("no memory");
    return p;
}

typedef struct result { /* and the same expression with absolute values */
    double *v, *abs;
} result;

static void drop_result(result *r)
{
    free(r->v);
    free(r->abs);
}

/* x (count, k) a (k, r), rounded */
static result middle(const array *x, const array *a)
{
    const int64_t r = a->width;
    result z = { room(x->rows * r), room(x->rows * r) };
    for (int64_t i = 0; i < x->rows; i++) {
        double *v = z.v + i * r, *s = z.abs + i * r;
        for (int64_t k = 0; k < x->width; k++)
            for (int64_t j = 0; j < r; j++) {
                const double t = (double)x->v[i * x->ld + k] * (double)a->v[k * a->ld + j];
                v[j] += t;
                s[j] += fabs(t);
            }
        for (int64_t j = 0; j < r; j++) v[j] = (double)rounded(v[j]);
    }
    return z;
}

/* alpha z b^T + beta y */
static result outside(const result *z, const array *b, double alpha, double beta, const array *y)
{
    const int64_t r = b->width;
    result out = { room(y->rows * y->width), room(y->rows * y->width) };
    for (int64_t i = 0; i < y->rows; i++)
        for (int64_t n = 0; n < y->width; n++) {
            double v = 0, s = 0;
            for (int64_t j = 0; j < r; j++) {
                const double t = z->v[i * r + j] * (double)b->v[n * b->ld + j];
                v += t;
                s += fabs(t);
            }
            const double old = beta != 0 ? beta * (double)y->v[i * y->ld + n] : 0;
            out.v[i * y->width + n] = alpha * v + old;
            out.abs[i * y->width + n] = fabs(alpha) * s + fabs(old);
        }
    return out;
}

/* d += a^T z, a (count, m), z (count, r) */
static result weights(const array *a, const result *z, const array *d)
{
    const int64_t r = d->width, n = d->rows * r;
    result out = { room(n), room(n) };
    for (int64_t i = 0; i < n; i++) out.v[i] = (double)d->v[i], out.abs[i] = fabs(out.v[i]);
    for (int64_t i = 0; i < a->rows; i++)
        for (int64_t m = 0; m < d->rows; m++)
            for (int64_t j = 0; j < r; j++) {
                const double t = (double)a->v[i * a->ld + m] * z->v[i * r + j];
                out.v[m * r + j] += t;
                out.abs[m * r + j] += fabs(t);
            }
    return out;
}

/* Every element within 2^-7 of its absolute sum, a planted error of 100 bounds is not, and nothing between rows moved.
 */
static void compare(const char *what, const array *a, const result *want, double tolerance)
{
    float *got = receive(a);
    double worst = 0;
    int64_t where = 0;
    for (int64_t i = 0; i < a->rows * a->ld; i++) {
        const int64_t at = i / a->ld * a->width + i % a->ld;
        if (i % a->ld >= a->width) {
            if (!isnan(got[i]) && got[i] != a->v[i]) FAIL("%s: %s: wrote between rows", label, what);
            continue;
        }
        const double bound = tolerance * want->abs[at] + 1e-30, e = fabs((double)got[i] - want->v[at]) / bound;
        if (!(e <= worst)) worst = isnan(e) ? HUGE_VAL : e, where = i;
        if (!(fabs((double)got[i] + 100 * bound - want->v[at]) > bound)) FAIL("%s: %s: no error is seen", label, what);
    }
    const double at = (double)got[where];
    free(got);
    if (!(worst <= 1)) FAIL("%s: %s[%lld] is %g: %g of the bound", label, what, (long long)where, at, worst);
}

static void compare_bits(const array *a, const float *before)
{
    float *now = receive(a);
    const int64_t n = a->rows * a->ld;
    for (int64_t i = 0; i < n; i++)
        if (!(now[i] == before[i] || (isnan(now[i]) && isnan(before[i])))) FAIL("%s: another result again", label);
    free(now);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static const sti_lowrank_way ways[] = { { 128, 1 }, { 64, 1 },  { 64, 2 },  { 64, 4 },  { 64, 8 },
                                        { 64, 16 }, { 128, 2 }, { 128, 4 }, { 128, 8 }, { 128, 16 } };

static void every_way(int64_t count, int64_t in, int64_t out, int64_t rank, double alpha, double beta, int64_t pad)
{
    array x = numbers(count, in, pad, STRATA_BF16), y = numbers(count, out, pad, STRATA_BF16),
          a = numbers(in, rank, 0, STRATA_BF16), b = numbers(out, rank, 0, STRATA_BF16),
          z = numbers(count, rank, 0, STRATA_BF16);
    result zr = middle(&x, &a), yr = outside(&zr, &b, alpha, beta, &y);
    const strata_tensor tx = view(&x), ty = view(&y);
    for (size_t i = 0; i < STI_COUNT(ways); i++) {
        const sti_lowrank_way w = ways[i];
        const int want_z = i % 2 == 0;
        const sti_lowrank_call c = { &tx, &ty, a.dev, b.dev, rank, alpha, beta, want_z ? z.dev : NULL };
        snprintf(label, sizeof label, "%lld rows, %lld to %lld, rank %lld, alpha %g, beta %g, %d rows by %d",
                 (long long)count, (long long)in, (long long)out, (long long)rank, alpha, beta, w.rows, w.split);
        if (w.split * 64 >= in + 64 || w.split * w.rows >= out + 64 || ((w.split > 1 || w.rows == 64) && rank > 128))
            continue;
        float *before = NULL;
        for (int again = 0; again < 2; again++) {
            if (beta == 0)
                poison(&y);
            else
                send(&y, y.v);
            poison(&z);
            if (!sti_lowrank_sm90(gpu, &c, w)) FAIL("%s: not served", label);
            CHECK_OK(strata_synchronize(gpu));
            if (again) compare_bits(&y, before);
            if (!again) before = receive(&y);
        }
        free(before);
        compare("y", &y, &yr, 0x1p-7);
        /* z: its own rounding, and sums in f32 */
        if (want_z) compare("z", &z, &zr, 0x1p-8);
    }
    drop(&x), drop(&y), drop(&a), drop(&b), drop(&z);
    drop_result(&zr), drop_result(&yr);
}

static void small_shapes(void)
{
    open_context();
    every_way(1, 72, 64, 8, 1, 0, 0);
    every_way(70, 64, 136, 64, -0.5, 0, 8);
    every_way(9, 1032, 1024, 16, 1, 1, 8);
}

static void all_ranks(void)
{
    open_context();
    const int64_t ranks[] = { 8, 16, 48, 64, 72, 128, 136, 192, 200, 256 };
    for (size_t i = 0; i < STI_COUNT(ranks); i++) {
        const int64_t r = ranks[i];
        every_way(1, 1024, 1032, r, 1, 0, 0);
        every_way(37, 1096, 1032, r, 1, 1, 16);
        every_way(64, 1032, 1024, r, -0.75, 0, 8);
        every_way(130, 264, 520, r, 1.5, -0.5, 0);
        every_way(300, 200, 328, r, 1, 1, 8);
    }
}

/* More panels than processors: blocks take one after the other. */
static void many_rows(void)
{
    open_context();
    every_way(20011, 72, 40, 16, 1, 0, 8);
    every_way(18000, 64, 72, 72, 0.5, 1, 0);
}

static void one_operator(int64_t rows, int64_t cols, int64_t rank, int64_t count, int acc, int64_t pad)
{
    char spec[96];
    strata_op *op;
    snprintf(spec, sizeof spec, "lowrank rows=%lld cols=%lld rank=%lld", (long long)rows, (long long)cols,
             (long long)rank);
    snprintf(label, sizeof label, "%s, %lld rows, acc %d, pad %lld", spec, (long long)count, acc, (long long)pad);
    CHECK_OK(strata_op_create(gpu, spec, 0, 0, count, STRATA_BF16, &op));
    strata_param_info iu, iv;
    CHECK_OK(strata_op_param(op, 0, &iu));
    CHECK_OK(strata_op_param(op, 1, &iv));
    const int64_t n = (int64_t)strata_op_param_bytes(op) / 2;
    array w = numbers(1, n, 0, STRATA_BF16), dw = numbers(1, n, 0, STRATA_F32);
    array x = numbers(count, cols, pad, STRATA_BF16), y = numbers(count, rows, pad, STRATA_BF16),
          dy = numbers(count, rows, pad, STRATA_BF16), dx = numbers(count, cols, pad, STRATA_BF16);
    const array u = { .v = w.v + iu.offset, .rows = rows, .width = rank, .ld = rank },
                v = { .v = w.v + iv.offset, .rows = cols, .width = rank, .ld = rank };
    array du = { (float *)dw.dev + iu.offset, dw.v + iu.offset, rows, rank, rank, STRATA_F32 },
          dv = { (float *)dw.dev + iv.offset, dw.v + iv.offset, cols, rank, rank, STRATA_F32 };
    const double beta = acc ? 1 : 0;
    result z = middle(&x, &v), dz = middle(&dy, &u), yr = outside(&z, &u, 1, beta, &y),
           dxr = outside(&dz, &v, 1, beta, &dx), dur = weights(&dy, &z, &du), dvr = weights(&x, &dz, &dv);
    const strata_tensor tx = view(&x), ty = view(&y), tdy = view(&dy), tdx = view(&dx);
    if (!acc) poison(&y), poison(&dx);
    CHECK_OK(strata_op_apply(op, w.dev, STRATA_OP_N, 1, &tx, beta, &ty, NULL));
    compare("y", &y, &yr, 0x1p-7);
    CHECK_OK(strata_op_apply(op, w.dev, STRATA_OP_T, 1, &tdy, beta, &tdx, NULL));
    compare("A^T dy", &dx, &dxr, 0x1p-7);
    if (acc)
        send(&dx, dx.v);
    else
        poison(&dx);
    CHECK_OK(strata_op_grad(op, w.dev, &tx, &tdy, dw.dev, &tdx, acc, NULL));
    compare("dx", &dx, &dxr, 0x1p-7);
    compare("dU", &du, &dur, 0x1p-7);
    compare("dV", &dv, &dvr, 0x1p-7);
    drop(&w), drop(&dw), drop(&x), drop(&y), drop(&dy), drop(&dx);
    drop_result(&z), drop_result(&dz), drop_result(&yr), drop_result(&dxr), drop_result(&dur), drop_result(&dvr);
    strata_op_destroy(op);
}

static void whole_operator(void)
{
    open_context();
    const int64_t counts[] = { 1, 100, 700 };
    for (size_t i = 0; i < STI_COUNT(counts); i++)
        for (int acc = 0; acc < 2; acc++) {
            one_operator(520, 264, 64, counts[i], acc, 8);
            one_operator(256, 512, 128, counts[i], acc, 0);
            one_operator(264, 328, 256, counts[i], acc, 8);
            one_operator(264, 328, 100, counts[i], acc, 8); /* the general path */
            one_operator(264, 327, 64, counts[i], acc, 0);
            one_operator(264, 320, 64, counts[i], acc, 3);
            one_operator(264, 320, 264, counts[i], acc, 0);
        }
    one_operator(64, 72, 32, 16500, 0, 0); /* panels for nearly all processors: the fused kernel */
    one_operator(72, 128, 72, 16500, 1, 8);
}

/* What is not served is left alone. */
static void refused(void)
{
    open_context();
    array x = numbers(20, 128, 4, STRATA_BF16), y = numbers(20, 128, 0, STRATA_BF16),
          a = numbers(128, 264, 0, STRATA_BF16);
    const strata_tensor tx = view(&x), ty = view(&y);
    strata_tensor odd = ty;
    odd.data = (char *)y.dev + 2;
    const sti_lowrank_way one = { 128, 1 }, none = { 0, 1 }, split = { 64, 4 };
    const sti_lowrank_call calls[] = { { &tx, &ty, a.dev, a.dev, 64, 1, 0, NULL },
                                       { &ty, &odd, a.dev, a.dev, 64, 1, 0, NULL },
                                       { &ty, &ty, a.dev, a.dev, 100, 1, 0, NULL },
                                       { &ty, &ty, a.dev, a.dev, 264, 1, 0, NULL },
                                       { &ty, &ty, (char *)a.dev + 2, a.dev, 64, 1, 0, NULL } };
    for (size_t i = 0; i < STI_COUNT(calls); i++) CHECK_INT(sti_lowrank_sm90(gpu, &calls[i], one), 0);
    const sti_lowrank_call fine = { &ty, &ty, a.dev, a.dev, 64, 1, 0, NULL };
    CHECK_INT(sti_lowrank_sm90(gpu, &fine, none), 0);
    CHECK_INT(sti_lowrank_sm90(gpu, &fine, split), 0); /* two boxes of columns are not four */
    float *now = receive(&y);
    for (int64_t i = 0; i < 20 * 128; i++) CHECK(now[i] == y.v[i]);
    free(now);
    drop(&x), drop(&y), drop(&a);
}

TESTS(T(small_shapes), T(all_ranks), T(many_rows), T(whole_operator), T(refused))
