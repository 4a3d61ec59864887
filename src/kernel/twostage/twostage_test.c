#include "kernel/twostage/twostage.h"

#include "core/context.h"
#include "core/philox.h"
#include "support/test.h"

/* Against the two formulas of the README, applied step by step in f64. */

static double noise(uint64_t seed, int64_t i)
{
    return 2 * sti_uniform(seed, 5, (uint64_t)i) - 1;
}
static double get(const void *p, int32_t dtype, int64_t i)
{
    return dtype == STRATA_F32 ? (double)((const float *)p)[i] : ((const double *)p)[i];
}
static void *filled(int32_t dtype, int64_t n, uint64_t seed)
{
    void *p = calloc((size_t)n + 1, sizeof(double));
    for (int64_t i = 0; i < n; i++)
        if (dtype == STRATA_F32)
            ((float *)p)[i] = (float)noise(seed, i);
        else
            ((double *)p)[i] = noise(seed, i);
    return p;
}

/* W1_c[i][p] and W2_j[o][m] */
static double first(const sti_twostage *t, const void *w1, int64_t c, int64_t i, int64_t p)
{
    if (t->tied) c = 0;
    return get(w1, t->dtype, t->out_major ? (c * t->q + i) * t->p + p : (c * t->p + p) * t->q + i);
}
static double second(const sti_twostage *t, const void *w2, int64_t j, int64_t o, int64_t m)
{
    return get(w2, t->dtype, ((t->tied ? 0 : j) * t->s + o) * t->r + m);
}

/* The matrix, column by column; abs: with absolute values. */
static double *matrix(const sti_twostage *t, const void *w1, const void *w2, int abs)
{
    double *a = calloc((size_t)(t->rows * t->cols) + 1, sizeof *a), *u = calloc((size_t)(t->n1 * t->q), sizeof *u);
    for (int64_t x = 0; x < t->cols; x++) {
        for (int64_t i = 0; i < t->n1 * t->q; i++)
            u[i] = i / t->q == x / t->p ? first(t, w1, i / t->q, i % t->q, x % t->p) : 0;
        for (int64_t y = 0; y < t->rows; y++)
            for (int64_t m = 0; m < t->r; m++) {
                const int64_t o = y / t->n2, j = y % t->n2, g = m / t->group, k = m % t->group;
                const double z = second(t, w2, j, o, m) * u[(g * t->n2 + j) * t->group + k];
                a[y * t->cols + x] += abs ? fabs(z) : z;
            }
    }
    free(u);
    return a;
}

static const sti_twostage shapes[] = {
    { .rows = 6, .cols = 8, .n1 = 2, .p = 4, .q = 3, .n2 = 3, .r = 2, .s = 2, .group = 1, .out_major = true },
    { .rows = 7, .cols = 7, .n1 = 3, .p = 3, .q = 4, .n2 = 2, .r = 6, .s = 4, .group = 1, .out_major = true }, /* cut */
    { .rows = 3, .cols = 2, .n1 = 4, .p = 1, .q = 2, .n2 = 4, .r = 2, .s = 1, .group = 1, .out_major = true }, /* empty
                                                                                                                */
    { .rows = 12, .cols = 10, .n1 = 5, .p = 2, .q = 9, .n2 = 3, .r = 15, .s = 4, .group = 3 }, /* copy */
    { .rows = 4, .cols = 10, .n1 = 5, .p = 2, .q = 3, .n2 = 1, .r = 15, .s = 4, .group = 3 },  /* one block */
    { .rows = 15,
      .cols = 8,
      .n1 = 4,
      .p = 2,
      .q = 5,
      .n2 = 5,
      .r = 4,
      .s = 3,
      .group = 1,
      .out_major = true,
      .tied = true },
    { .rows = 40, .cols = 60, .n1 = 6, .p = 10, .q = 16, .n2 = 8, .r = 12, .s = 5, .group = 2 },
    /* blocks longer and wider than every tile, parts of vectors, outputs cut */
    { .rows = 85, .cols = 75, .n1 = 2, .p = 39, .q = 57, .n2 = 19, .r = 6, .s = 5, .group = 3 },
    /* blocks that math=bf16 gives to kernel/gemm */
    { .rows = 150, .cols = 140, .n1 = 2, .p = 70, .q = 75, .n2 = 2, .r = 75, .s = 75, .group = 1, .out_major = true },
    /* blocks of stage 1 that end inside a vector, the last too */
    { .rows = 70, .cols = 37, .n1 = 2, .p = 20, .q = 24, .n2 = 24, .r = 2, .s = 3, .group = 1 },
    /* no row of the last output, columns cut */
    { .rows = 75, .cols = 120, .n1 = 4, .p = 32, .q = 40, .n2 = 40, .r = 4, .s = 3, .group = 1 },
    { .rows = 64, .cols = 300, .n1 = 2, .p = 150, .q = 48, .n2 = 32, .r = 3, .s = 2, .group = 1, .out_major = true },
};

enum { MOST = 530 };

static void shape_against_matrix(size_t is, int32_t dtype, int threads, sti_isa isa, int64_t count)
{
    /* past AVX512 there is only what math=bf16 adds */
    strata_context ctx = { .threads = threads,
                           .isa = isa,
                           .math = isa > STI_ISA_AVX512 ? STI_MATH_BF16 : STI_MATH_F32 };
    sti_twostage t = shapes[is];
    t.ctx = &ctx;
    t.dtype = dtype;
    int64_t scratch;
    sti_twostage_plan(&t, count == MOST ? MOST : count + 3, &scratch);
    const size_t e = strata_dtype_size(dtype);
    const int64_t n1 = (t.tied ? 1 : t.n1) * t.p * t.q, n2 = (t.tied ? 1 : t.n2) * t.s * t.r;
    void *w1 = filled(dtype, n1, 1), *w2 = filled(dtype, n2, 2), *x = filled(dtype, count * t.cols, 3),
         *y = filled(dtype, count * t.rows, 4);
    void *ax = filled(dtype, count * t.rows, 5), *aty = filled(dtype, count * t.cols, 6),
         *dx = filled(dtype, count * t.cols, 6);
    void *d1 = calloc((size_t)n1, 8), *d2 = calloc((size_t)n2, 8), *work;
    const size_t bytes = sti_round_up((size_t)(scratch * t.width) * e, STI_ALIGN);
    work = aligned_alloc(STI_ALIGN, bytes);
    memset(work, 0xff, bytes);
    double *a = matrix(&t, w1, w2, 0), *b = matrix(&t, w1, w2, 1);
    const strata_tensor X = strata_view2(x, dtype, count, t.cols), Y = strata_view2(y, dtype, count, t.rows);
    const strata_tensor AX = strata_view2(ax, dtype, count, t.rows), ATY = strata_view2(aty, dtype, count, t.cols),
                        DX = strata_view2(dx, dtype, count, t.cols);
    sti_twostage_apply(&t, w1, w2, false, 2, &X, -0.5, &AX, work);
    sti_twostage_apply(&t, w1, w2, true, 2, &Y, -0.5, &ATY, work);
    sti_twostage_grad(&t, w1, w2, &X, &Y, d1, d2, 2, -0.5, &DX, work);
    /* rounded: four operands on the way of a term, each by at most 2^-9 of itself */
    const double c =
        sti_rounds(&ctx) ? 4.1 * 0x1p-9 : 8 * (dtype == STRATA_F32 ? 0x1p-23 : 0x1p-52) * sqrt((double)(t.p + t.r + 2));
    double worst = 0, planted = 0;
    for (int64_t r = 0; r<count; r += count> 50 ? 13 : 1)
        for (int side = 0; side < 2; side++)
            for (int64_t i = 0; i < (side ? t.cols : t.rows); i++) {
                double want = -0.5 * noise(side ? 6 : 5, r * (side ? t.cols : t.rows) + i), abs = fabs(want);
                for (int64_t j = 0; j < (side ? t.rows : t.cols); j++) {
                    const int64_t at = side ? j * t.cols + i : i * t.cols + j;
                    const double v = side ? get(y, dtype, r * t.rows + j) : get(x, dtype, r * t.cols + j);
                    want += 2 * a[at] * v, abs += 2 * b[at] * fabs(v);
                }
                const int64_t at = r * (side ? t.cols : t.rows) + i;
                const double got = get(side ? aty : ax, dtype, at), bound = c * abs;
                worst = fmax(worst, isnan(got) ? HUGE_VAL : fabs(got - want) / bound);
                if (side)
                    worst = fmax(worst, isnan(get(dx, dtype, at)) ? HUGE_VAL : fabs(get(dx, dtype, at) - want) / bound);
                planted = fmax(planted, fabs(got + 100 * bound - want) / bound);
            }
    /* <dW1, W1> = <dW2, W2> = <y, A x>: the map is linear in each factor */
    double form = 0, scale = 0, along1 = 0, along2 = 0;
    for (int64_t r = 0; r < count; r++)
        for (int64_t i = 0; i < t.rows; i++)
            for (int64_t j = 0; j < t.cols; j++) {
                const double z = get(y, dtype, r * t.rows + i) * get(x, dtype, r * t.cols + j);
                form += z * a[i * t.cols + j], scale += fabs(z) * b[i * t.cols + j];
            }
    for (int64_t i = 0; i < n1; i++) along1 += get(d1, dtype, i) * get(w1, dtype, i);
    for (int64_t i = 0; i < n2; i++) along2 += get(d2, dtype, i) * get(w2, dtype, i);
    free(w1), free(w2), free(x), free(y), free(ax), free(aty), free(dx), free(d1), free(d2), free(work), free(a),
        free(b);
    if (!(worst <= 1))
        FAIL("shape %zu f%d %s: error %g of the bound", is, dtype == STRATA_F32 ? 32 : 64, sti_twostage_variant(&t),
             worst);
    CHECK(planted > 10);
    if (!(fabs(along1 - form) <= c * scale && fabs(along2 - form) <= c * scale))
        FAIL("shape %zu %s: gradients along W give %g and %g, not %g", is, sti_twostage_variant(&t), along1, along2,
             form);
}

/* Every variant that this machine runs. */
static sti_isa best_isa(void)
{
    strata_context *ctx;
    CHECK_OK(strata_context_create(NULL, NULL, &ctx));
    const sti_isa isa = ctx->isa;
    strata_context_destroy(ctx);
    return isa;
}
static void all_shapes(int threads)
{
    static const int64_t counts[] = { 1, 3, 8, MOST };
    for (int isa = STI_ISA_C; isa <= (int)best_isa(); isa++)
        for (size_t i = 0; i < STI_COUNT(shapes); i++)
            for (int32_t d = STRATA_F32; d <= STRATA_F64; d++)
                if (d == STRATA_F32 || isa == STI_ISA_C)
                    for (size_t c = 0; c < STI_COUNT(counts); c++)
                        shape_against_matrix(i, d, threads, (sti_isa)isa, counts[c]);
}
static void one_thread(void)
{
    all_shapes(1);
}
static void three_threads(void)
{
    all_shapes(3);
}

/* The workspace does not grow with the batch. */
static void bounded_workspace(void)
{
    strata_context ctx = { .threads = 2 };
    sti_twostage t = shapes[6];
    int64_t a, b;
    t.ctx = &ctx;
    t.dtype = STRATA_F32;
    sti_twostage_plan(&t, 100000, &a);
    sti_twostage_plan(&t, 1000000000, &b);
    CHECK_INT(a, b);
}

TESTS(T(one_thread), T(three_threads), T(bounded_workspace))
