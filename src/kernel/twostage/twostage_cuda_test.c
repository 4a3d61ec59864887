/* The two stages on a device against the CPU's f64: every block size that the tensor-core kernels are built for,
 * groups, tied blocks, cut inputs and outputs, tiles of rows that end anywhere; and what falls back to the general
 * path. */
#include <strata/context.h>

#include "core/context.h"
#include "core/device.h"
#include "core/philox.h"
#include "kernel/twostage/twostage.h"
#include "support/test.h"

static strata_context *host, *gpu;
static uint64_t stream;

static void open_contexts(void)
{
    if (gpu) return;
    if (!host) CHECK_OK(strata_context_create("isa=ref threads=1", NULL, &host));
    const strata_status s = strata_context_create("device=cuda", NULL, &gpu);
    if (s == STRATA_E_DEVICE || s == STRATA_E_UNSUPPORTED || s == STRATA_E_SPEC)
        SKIP("no gpu: %s", strata_last_error());
    CHECK_OK(s);
}

typedef struct array { /* n numbers: on the device, in f64, and their absolute values */
    void *dev;
    double *v, *abs;
    int64_t n;
    int32_t type;
} array;

static double *room(int64_t n)
{
    double *p = calloc((size_t)n + 1, sizeof *p);
    if (!p) FAIL("no memory");
    return p;
}

static array numbers(int64_t n, int32_t type, double scale)
{
    array a = { NULL, room(n), room(n), n, type };
    void *wide;
    stream++;
    for (int64_t i = 0; i < n; i++) a.v[i] = scale * (2 * sti_uniform(3, stream, (uint64_t)i) - 1);
    CHECK_OK(strata_device_alloc(gpu, (size_t)n * 8, &wide));
    CHECK_OK(strata_device_alloc(gpu, (size_t)n * 8, &a.dev));
    CHECK_OK(strata_to_device(gpu, wide, a.v, (size_t)n * 8));
    sti_array_convert(gpu, a.dev, type, wide, STRATA_F64, n);
    sti_array_convert(gpu, wide, STRATA_F64, a.dev, type, n);
    CHECK_OK(strata_to_host(gpu, a.v, wide, (size_t)n * 8));
    strata_device_free(gpu, wide);
    for (int64_t i = 0; i < n; i++) a.abs[i] = fabs(a.v[i]);
    return a;
}

/* The device's copy becomes NaN. */
static void poison(array *a)
{
    double *nan = room(a->n);
    void *wide;
    for (int64_t i = 0; i < a->n; i++) nan[i] = NAN;
    CHECK_OK(strata_device_alloc(gpu, (size_t)a->n * 8, &wide));
    CHECK_OK(strata_to_device(gpu, wide, nan, (size_t)a->n * 8));
    sti_array_convert(gpu, a->dev, a->type, wide, STRATA_F64, a->n);
    CHECK_OK(strata_synchronize(gpu));
    strata_device_free(gpu, wide);
    free(nan);
}

static void drop(array *a)
{
    strata_device_free(gpu, a->dev);
    free(a->v);
    free(a->abs);
}

static void compare(const char *what, const array *a, int64_t width, int64_t ld, double tolerance)
{
    double *got = room(a->n), worst = 0;
    void *wide;
    int64_t where = 0;
    CHECK_OK(strata_device_alloc(gpu, (size_t)a->n * 8, &wide));
    sti_array_convert(gpu, wide, STRATA_F64, a->dev, a->type, a->n);
    CHECK_OK(strata_to_host(gpu, got, wide, (size_t)a->n * 8));
    CHECK_OK(strata_synchronize(gpu));
    strata_device_free(gpu, wide);
    for (int64_t i = 0; i < a->n; i++) {
        const double bound = tolerance * fabs(a->abs[i]) + 1e-30, e = fabs(got[i] - a->v[i]) / bound;
        if (i % ld >= width) continue; /* between rows */
        if (!(e <= worst)) worst = isnan(e) ? HUGE_VAL : e, where = i;
        CHECK(fabs(got[i] + 100 * bound - a->v[i]) > bound);
    }
    const double at = got[where];
    free(got);
    if (!(worst <= 1)) FAIL("%s[%lld] is %g, not %g: %g of the bound", what, (long long)where, at, a->v[where], worst);
}

enum { FUSED = 1, GENERAL = 0 };

typedef struct shape {
    sti_twostage t;
    int fused; /* in bf16 */
} shape;

#define SHAPE(fused_, rows_, cols_, n1_, p_, q_, n2_, r_, s_, group_, major_, tied_)                                   \
    {                                                                                                                  \
        .t = { .rows = rows_,                                                                                          \
               .cols = cols_,                                                                                          \
               .n1 = n1_,                                                                                              \
               .p = p_,                                                                                                \
               .q = q_,                                                                                                \
               .n2 = n2_,                                                                                              \
               .r = r_,                                                                                                \
               .s = s_,                                                                                                \
               .group = group_,                                                                                        \
               .out_major = major_,                                                                                    \
               .tied = tied_ },                                                                                        \
        .fused = fused_                                                                                                \
    }

static const shape shapes[] = {
    SHAPE(FUSED, 64, 64, 8, 8, 8, 8, 8, 8, 1, true, false),
    SHAPE(FUSED, 256, 256, 16, 16, 16, 16, 16, 16, 1, false, false),
    SHAPE(FUSED, 512, 1024, 32, 32, 16, 16, 32, 32, 1, true, false),
    SHAPE(FUSED, 384, 768, 16, 48, 24, 24, 16, 16, 1, false, false), /* 24 blocks: a group and a half */
    SHAPE(FUSED, 768, 768, 8, 96, 96, 24, 32, 32, 1, true, false),
    SHAPE(FUSED, 1024, 1024, 8, 128, 128, 16, 64, 64, 1, false, false),
    SHAPE(FUSED, 1024, 512, 16, 32, 128, 16, 128, 64, 1, true, false),
    SHAPE(FUSED, 256, 256, 16, 16, 32, 16, 32, 16, 2, false, false),  /* groups of two */
    SHAPE(FUSED, 512, 256, 16, 16, 128, 32, 64, 16, 4, false, false), /* of four */
    SHAPE(FUSED, 2048, 2048, 32, 64, 64, 64, 32, 32, 1, false, false),
    SHAPE(FUSED, 1024, 1024, 32, 32, 32, 32, 32, 32, 1, true, true),
    SHAPE(FUSED, 120, 104, 8, 16, 16, 8, 16, 16, 1, true, false),     /* both ends cut */
    SHAPE(FUSED, 40, 24, 8, 16, 16, 8, 16, 16, 1, true, false),       /* blocks past the input, outputs past the end */
    SHAPE(FUSED, 512, 1024, 32, 32, 16, 16, 32, 32, 1, true, true),   /* tied */
    SHAPE(GENERAL, 60, 64, 8, 8, 8, 8, 8, 8, 1, true, false),         /* rows are not whole chunks */
    SHAPE(GENERAL, 144, 256, 16, 16, 27, 9, 48, 16, 3, false, false), /* groups of three */
    SHAPE(GENERAL, 144, 1152, 4, 288, 16, 8, 8, 18, 1, true, false),
};

static void one_shape(const shape *sh, int32_t type, int64_t count, int64_t pad, double alpha, double beta)
{
    sti_twostage t = sh->t, h = sh->t;
    int64_t rows, host_rows;
    t.ctx = gpu, t.dtype = type;
    h.ctx = host, h.dtype = STRATA_F64;
    sti_twostage_plan(&t, count, &rows);
    sti_twostage_plan(&h, count, &host_rows);
    CHECK_INT(t.fused, type == STRATA_BF16 && sh->fused);
    const int32_t sums = sti_sum_type(type);
    const int64_t lx = t.cols + pad, ly = t.rows + pad, one = (t.tied ? 1 : t.n1) * t.p * t.q,
                  two = (t.tied ? 1 : t.n2) * t.s * t.r;
    array w1 = numbers(one, type, 1), w2 = numbers(two, type, 1), x = numbers(count * lx, type, 1),
          y = numbers(count * ly, type, 1), dx = numbers(count * lx, type, 1), dy = numbers(count * ly, type, 1),
          d1 = numbers(one, sums, 1), d2 = numbers(two, sums, 1);
    void *work, *host_work = aligned_alloc(STI_ALIGN, sti_round_up((size_t)(host_rows * h.width) * 8, STI_ALIGN));
    CHECK_OK(strata_device_alloc(gpu, (size_t)(rows * t.width) * strata_dtype_size(type), &work));
    if (!host_work) FAIL("no memory");
    if (beta == 0) poison(&y), poison(&dx);
#define VIEW(name, a, base, dtype_, width, ld)                                                                         \
    strata_tensor name = strata_view2(base, dtype_, count, width);                                                     \
    name.stride[0] = ld
    VIEW(X, x, x.dev, type, t.cols, lx);
    VIEW(Y, y, y.dev, type, t.rows, ly);
    VIEW(DX, dx, dx.dev, type, t.cols, lx);
    VIEW(DY, dy, dy.dev, type, t.rows, ly);
    sti_twostage_apply(&t, w1.dev, w2.dev, false, alpha, &X, beta, &Y, work);
    sti_twostage_grad(&t, w1.dev, w2.dev, &X, &DY, d1.dev, d2.dev, alpha, beta, &DX, work);
    for (int abs = 0; abs < 2; abs++) {
        const double a = abs ? fabs(alpha) : alpha, b = abs ? fabs(beta) : beta;
        VIEW(hx, x, abs ? x.abs : x.v, STRATA_F64, t.cols, lx);
        VIEW(hy, y, abs ? y.abs : y.v, STRATA_F64, t.rows, ly);
        VIEW(hdx, dx, abs ? dx.abs : dx.v, STRATA_F64, t.cols, lx);
        VIEW(hdy, dy, abs ? dy.abs : dy.v, STRATA_F64, t.rows, ly);
        const double *v1 = abs ? w1.abs : w1.v, *v2 = abs ? w2.abs : w2.v;
        sti_twostage_apply(&h, v1, v2, false, a, &hx, b, &hy, host_work);
        sti_twostage_grad(&h, v1, v2, &hx, &hdy, abs ? d1.abs : d1.v, abs ? d2.abs : d2.v, a, b, &hdx, host_work);
    }
    const double eps = type == STRATA_BF16  ? 0x1p-8
                       : type == STRATA_F32 ? 0x1p-23
                                            : 0x1p-50,
                 c = 8 * eps * sqrt((double)(t.p + t.q + t.r + t.s)), many = sqrt((double)count);
    compare("y", &y, t.rows, ly, c);
    compare("dx", &dx, t.cols, lx, c);
    compare("dw1", &d1, one, one, c * many);
    compare("dw2", &d2, two, two, c * many);
    /* the transposed map alone gives dx again */
    if (beta == 0) {
        poison(&dx);
        sti_twostage_apply(&t, w1.dev, w2.dev, true, alpha, &DY, 0, &DX, work);
        compare("A^T y", &dx, t.cols, lx, c);
    }
    drop(&w1), drop(&w2), drop(&x), drop(&y), drop(&dx), drop(&dy), drop(&d1), drop(&d2);
    strata_device_free(gpu, work);
    free(host_work);
}

static void all_shapes(int32_t type)
{
    open_contexts();
    for (size_t i = 0; i < STI_COUNT(shapes); i++) {
        const shape *s = &shapes[i];
        one_shape(s, type, 1, 0, 1, 0);
        one_shape(s, type, 33, 8, -0.5, 0);
        one_shape(s, type, 31, 5, 2, 0.75); /* rows that are not aligned */
        one_shape(s, type, 300, 16, 1.5, -1);
    }
}
static void bf16(void)
{
    all_shapes(STRATA_BF16);
}
static void f32(void)
{
    all_shapes(STRATA_F32);
}

/* Many tiles for each thread block, and the same bits in every call. */
static void many_rows(void)
{
    open_contexts();
    one_shape(&shapes[2], STRATA_BF16, 9001, 0, 1, 0);
    one_shape(&shapes[6], STRATA_BF16, 6000, 0, 1, 0);
    one_shape(&shapes[9], STRATA_BF16, 2100, 0, 1, 0);
}

TESTS(T(bf16), T(f32), T(many_rows))
