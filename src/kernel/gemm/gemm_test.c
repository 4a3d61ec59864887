#include "kernel/gemm/gemm.h"

#include "core/device.h"
#include "kernel/gemm/gemm_builtin.h"
#include "support/test.h"

/* One product against the triple loop in f64, with C inside a larger array whose border must stay as it is. */
typedef struct shape {
    int64_t m, n, k;
} shape;

static const shape shapes[] = { { 1, 1, 1 },    { 0, 3, 2 },     { 3, 0, 2 },     { 3, 2, 0 },    { 4, 8, 5 },
                                { 5, 9, 130 },  { 17, 1, 33 },   { 1, 19, 40 },   { 65, 129, 7 }, { 67, 131, 30 },
                                { 3, 200, 64 }, { 200, 5, 270 }, { 1, 400, 700 }, { 90, 70, 60 }, { 1, 700, 300 } };

enum { PAD = 3 };

static double get(const void *p, int32_t dtype, int64_t i)
{
    return dtype == STRATA_F32 ? (double)((const float *)p)[i] : ((const double *)p)[i];
}
static void put(void *p, int32_t dtype, int64_t i, double x)
{
    if (dtype == STRATA_F32)
        ((float *)p)[i] = (float)x;
    else
        ((double *)p)[i] = x;
}

static void *filled(int32_t dtype, int64_t n, uint64_t seed)
{
    void *p = calloc((size_t)n + 1, sizeof(double));
    for (int64_t i = 0; i < n; i++) { /* a linear congruence: speed matters here, quality does not */
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        put(p, dtype, i, (double)(seed >> 40) * 0x1p-23 - 1);
    }
    return p;
}

/* Largest |error| / bound over C; -1 when something outside C was written or C holds a NaN. */
static double compare(int32_t dtype, bool ta, bool tb, shape s, double alpha, const void *a, int64_t lda, const void *b,
                      int64_t ldb, double beta, const void *c0, const void *c, int64_t ldc)
{
    const double eps = dtype == STRATA_F32 ? 0x1p-24 * 2 : 0x1p-53 * 2;
    double worst = 0;
    for (int64_t i = 0; i < s.m; i++)
        for (int64_t j = 0; j < ldc; j++) {
            const int64_t at = i * ldc + j;
            const double got = get(c, dtype, at);
            if (j >= s.n) {
                if (got != get(c0, dtype, at)) return -1;
                continue;
            }
            double sum = 0, abs = 0;
            for (int64_t p = 0; p < s.k; p++) {
                const double t =
                    get(a, dtype, ta ? p * lda + i : i * lda + p) * get(b, dtype, tb ? j * ldb + p : p * ldb + j);
                sum += alpha * t, abs += fabs(alpha * t);
            }
            if (beta != 0) sum += beta * get(c0, dtype, at), abs += fabs(beta * get(c0, dtype, at));
            if (isnan(got)) return -1;
            const double bound = 2 * eps * sqrt((double)s.k + 2) * abs;
            const double e = fabs(got - sum);
            if (e > 0) worst = fmax(worst, bound > 0 ? e / bound : HUGE_VAL);
        }
    return worst;
}

typedef void (*product_fn)(const strata_context *, int32_t, bool, bool, int64_t, int64_t, int64_t, double, const void *,
                           int64_t, const void *, int64_t, double, void *, int64_t);

static void call_builtin(const strata_context *ctx, int32_t dtype, bool ta, bool tb, int64_t m, int64_t n, int64_t k,
                         double alpha, const void *a, int64_t lda, const void *b, int64_t ldb, double beta, void *c,
                         int64_t ldc)
{
    (void)ctx;
    (dtype == STRATA_F32 ? sti_gemm_builtin_f32 : sti_gemm_builtin_f64)(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c,
                                                                        ldc);
}

/* most: rows of the largest product; types: 4 f32, 8 f64 too */
static void sweep_of(product_fn product, const strata_context *ctx, int64_t most, int types)
{
    static const double scale[][2] = { { 1, 0 }, { -0.5, 1 }, { 1, 0.75 }, { 0, 2 }, { 0, 0 } };
    for (size_t is = 0; is < STI_COUNT(shapes); is++)
        for (int v = 0; v < types && shapes[is].m <= most; v++)
            for (size_t ic = 0; ic < STI_COUNT(scale); ic++) {
                const shape s = shapes[is];
                const bool ta = v & 1, tb = v & 2;
                const int32_t dtype = v & 4 ? STRATA_F64 : STRATA_F32;
                const double alpha = scale[ic][0], beta = scale[ic][1];
                const int64_t lda = (ta ? s.m : s.k) + PAD, ldb = (tb ? s.k : s.n) + PAD + 1, ldc = s.n + PAD;
                void *a = filled(dtype, (ta ? s.k : s.m) * lda, 1), *b = filled(dtype, (tb ? s.n : s.k) * ldb, 2);
                void *c0 = filled(dtype, s.m * ldc, 3), *c = filled(dtype, s.m * ldc, 3);
                if (beta == 0) /* must not be read */
                    for (int64_t i = 0; i < s.m; i++)
                        for (int64_t j = 0; j < s.n; j++) put(c, dtype, i * ldc + j, (double)NAN);
                product(ctx, dtype, ta, tb, s.m, s.n, s.k, alpha, a, lda, b, ldb, beta, c, ldc);
                const double e = compare(dtype, ta, tb, s, alpha, a, lda, b, ldb, beta, c0, c, ldc);
                double planted = 100;
                if (s.m && s.n && s.k && alpha != 0) { /* an error of 100 bounds is seen */
                    double abs = 0;
                    for (int64_t p = 0; p < s.k; p++)
                        abs += fabs(alpha * get(a, dtype, ta ? p * lda : p) * get(b, dtype, tb ? p : p * ldb));
                    if (beta != 0) abs += fabs(beta * get(c0, dtype, 0));
                    const double eps = dtype == STRATA_F32 ? 0x1p-23 : 0x1p-52;
                    put(c, dtype, 0, get(c, dtype, 0) + 100 * 2 * eps * sqrt((double)s.k + 2) * abs);
                    planted = compare(dtype, ta, tb, (shape){ 1, 1, s.k }, alpha, a, lda, b, ldb, beta, c0, c, 1);
                }
                free(a), free(b), free(c0), free(c);
                if (!(e >= 0 && e <= 1) || planted < 2)
                    FAIL("m %lld n %lld k %lld ta %d tb %d f%d alpha %g beta %g: error %g of the bound, planted %g",
                         (long long)s.m, (long long)s.n, (long long)s.k, ta, tb, v & 4 ? 64 : 32, alpha, beta, e,
                         planted);
            }
}

static void sweep(product_fn product, const strata_context *ctx)
{
    sweep_of(product, ctx, INT64_MAX, 8);
}

static void builtin(void)
{
    sweep(call_builtin, NULL);
}

static void one_thread(void)
{
    strata_context ctx = { .threads = 1 };
    sweep(sti_gemm, &ctx);
}

static void three_threads(void)
{
    strata_context ctx = { .threads = 3 };
    sweep(sti_gemm, &ctx);
}

/* The kernels for few rows, which the contexts above do not have; cuts do not show in any bit. */
static void few_rows(void)
{
    for (int isa = STI_ISA_AVX2; isa <= STI_ISA_AVX512; isa++) {
        if ((int)sti_isa_detect() < isa) SKIP("no %s", sti_isa_name((sti_isa)isa));
        strata_context one = { .threads = 1, .isa = (sti_isa)isa }, three = { .threads = 3, .isa = (sti_isa)isa };
        sweep_of(sti_gemm, &one, 8, 4);
        sweep_of(sti_gemm, &three, 8, 4);
        for (int64_t m = 1; m <= 8; m++)
            for (int tb = 0; tb < 2; tb++) {
                enum { N = 1100, K = 1200 };
                float *a = filled(STRATA_F32, m * K, 1), *b = filled(STRATA_F32, N * K, 2), *c[2];
                for (int i = 0; i < 2; i++) {
                    c[i] = filled(STRATA_F32, m * N, 3);
                    sti_gemm(i ? &three : &one, STRATA_F32, false, tb, m, N, K, 1, a, K, b, tb ? K : N, 0.5, c[i], N);
                }
                CHECK(memcmp(c[0], c[1], (size_t)(m * N) * sizeof(float)) == 0);
                float *c0 = filled(STRATA_F32, m * N, 3);
                const shape sh = { m, N, K };
                if (m % 4 == 3 || m == 2)
                    CHECK(compare(STRATA_F32, false, tb, sh, 1, a, K, b, tb ? K : N, 0.5, c0, c[0], N) <= 1);
                free(c0);
                free(a), free(b), free(c[0]), free(c[1]);
            }
    }
}

static void deterministic(void)
{
    strata_context ctx = { .threads = 2, .deterministic = 1 };
    sweep(sti_gemm, &ctx);
}

/* The products of a batch are the single products; operands overlap nowhere and may interleave (sa < lda * k). */
static void batch(void)
{
    enum { M = 9, N = 20, K = 11, COUNT = 37 };
    for (int threads = 1; threads <= 3; threads++)
        for (int dtype = STRATA_F32; dtype <= STRATA_F64; dtype++) {
            strata_context ctx = { .threads = threads };
            void *a = filled(dtype, M * COUNT * K, 1), *b = filled(dtype, COUNT * K * N, 2);
            void *c = filled(dtype, M * COUNT * N, 3), *d = filled(dtype, M * COUNT * N, 3);
            const size_t e = dtype == STRATA_F32 ? 4 : 8;
            /* a and c are column blocks of one wide matrix */
            sti_gemm_batch(&ctx, dtype, false, false, M, N, K, 2, a, COUNT * K, K, b, N, K * N, 1, c, COUNT * N, N,
                           COUNT);
            for (size_t i = 0; i < COUNT; i++)
                call_builtin(&ctx, dtype, false, false, M, N, K, 2, (char *)a + i * K * e, COUNT * K,
                             (char *)b + i * K * N * e, N, 1, (char *)d + i * N * e, COUNT * N);
            double worst = 0;
            for (int64_t i = 0; i < M * COUNT * N; i++) worst = fmax(worst, fabs(get(c, dtype, i) - get(d, dtype, i)));
            free(a), free(b), free(c), free(d);
            CHECK(worst <= (dtype == STRATA_F32 ? 0x1p-23 : 0x1p-52) * 8 * sqrt(K) * K * 8);
        }
}

/* deterministic = 1: the bits do not depend on the number of threads. Always: not on the run. */
static void same_bits(void)
{
    enum { M = 150, N = 333, K = 200 };
    for (int dtype = STRATA_F32; dtype <= STRATA_F64; dtype++)
        for (int count = 1; count <= 5; count += 4) {
            const int64_t nc = (int64_t)M * N * count;
            void *a = filled(dtype, (int64_t)M * K * count, 1), *b = filled(dtype, (int64_t)K * N * count, 2);
            void *c[5];
            for (int i = 0; i < 5; i++) {
                c[i] = filled(dtype, nc, 3);
                strata_context ctx = { .threads = i < 3 ? 1 + i : 2, .deterministic = i < 3 };
                sti_gemm_batch(&ctx, dtype, true, false, M, N, K, 1, a, M, M * K, b, N, K * N, 0.5, c[i], N, M * N,
                               count);
            }
            const size_t bytes = (size_t)nc * (dtype == STRATA_F32 ? 4 : 8);
            const int det = memcmp(c[0], c[1], bytes) || memcmp(c[0], c[2], bytes), run = memcmp(c[3], c[4], bytes);
            for (int i = 0; i < 5; i++) free(c[i]);
            free(a), free(b);
            CHECK(!det);
            CHECK(!run);
        }
}

static void backend(void)
{
    CHECK(strncmp(sti_gemm_backend(), "openblas ", 9) == 0 || strcmp(sti_gemm_backend(), "builtin") == 0);
}

static strata_context *gpu(void)
{
    strata_context *ctx = NULL;
    const strata_status s = strata_context_create("device=cuda", NULL, &ctx);
    if (s == STRATA_E_DEVICE) SKIP("no GPU: %s", strata_last_error());
    CHECK_OK(s);
    return ctx;
}

static void *placed(const strata_context *ctx, const void *host, size_t bytes)
{
    void *p = NULL;
    CHECK_OK(sti_array_calloc(ctx, (int64_t)bytes, 1, &p));
    CHECK_OK(sti_to_device(ctx, p, host, bytes));
    return p;
}

/* One product on the device, from host arrays and back. */
static void call_device(const strata_context *ctx, int32_t dtype, bool ta, bool tb, int64_t m, int64_t n, int64_t k,
                        double alpha, const void *a, int64_t lda, const void *b, int64_t ldb, double beta, void *c,
                        int64_t ldc)
{
    const size_t e = strata_dtype_size(dtype), bytes = (size_t)(m * ldc) * e;
    void *da = placed(ctx, a, (size_t)((ta ? k : m) * lda) * e), *db = placed(ctx, b, (size_t)((tb ? n : k) * ldb) * e);
    void *dc = placed(ctx, c, bytes);
    sti_gemm(ctx, dtype, ta, tb, m, n, k, alpha, da, lda, db, ldb, beta, dc, ldc);
    CHECK_OK(sti_to_host(ctx, c, dc, bytes));
    sti_array_free(ctx, da);
    sti_array_free(ctx, db);
    sti_array_free(ctx, dc);
}

static void device(void)
{
    strata_context *ctx = gpu();
    sweep(call_device, ctx);
    strata_context_destroy(ctx);
}

/* bf16 operands, C in f32: exact products and f32 sums, so the bound is that of f32; and C in bf16, rounded once. */
static void device_bf16(void)
{
    strata_context *ctx = gpu();
    for (size_t is = 0; is < STI_COUNT(shapes); is++)
        for (int v = 0; v < 8; v++) {
            const shape s = shapes[is];
            const bool ta = v & 1, tb = v & 2, narrow = v & 4;
            const int64_t lda = (ta ? s.m : s.k) + PAD, ldb = (tb ? s.k : s.n) + PAD + 1, ldc = s.n + PAD;
            const int64_t na = (ta ? s.k : s.m) * lda, nb = (tb ? s.n : s.k) * ldb, nc = s.m * ldc;
            float *a = filled(STRATA_F32, na, 1), *b = filled(STRATA_F32, nb, 2), *c0 = filled(STRATA_F32, nc, 3);
            float *c = filled(STRATA_F32, nc, 3);
            void *fa = placed(ctx, a, (size_t)na * 4), *fb = placed(ctx, b, (size_t)nb * 4);
            void *fc = placed(ctx, c, (size_t)nc * 4), *ha, *hb, *hc;
            CHECK_OK(sti_array_calloc(ctx, na, 2, &ha));
            CHECK_OK(sti_array_calloc(ctx, nb, 2, &hb));
            CHECK_OK(sti_array_calloc(ctx, nc, 2, &hc));
            sti_array_convert(ctx, ha, STRATA_BF16, fa, STRATA_F32, na);
            sti_array_convert(ctx, hb, STRATA_BF16, fb, STRATA_F32, nb);
            sti_array_convert(ctx, hc, STRATA_BF16, fc, STRATA_F32, nc);
            sti_array_convert(ctx, fa, STRATA_F32, ha, STRATA_BF16, na);
            sti_array_convert(ctx, fb, STRATA_F32, hb, STRATA_BF16, nb);
            sti_array_convert(ctx, fc, STRATA_F32, hc, STRATA_BF16, nc);
            CHECK_OK(sti_to_host(ctx, a, fa, (size_t)na * 4)); /* what the operands are after rounding */
            CHECK_OK(sti_to_host(ctx, b, fb, (size_t)nb * 4));
            CHECK_OK(sti_to_host(ctx, c0, fc, (size_t)nc * 4));
            if (narrow) {
                sti_gemm(ctx, STRATA_BF16, ta, tb, s.m, s.n, s.k, 1, ha, lda, hb, ldb, 1, hc, ldc);
                sti_array_convert(ctx, fc, STRATA_F32, hc, STRATA_BF16, nc);
            } else {
                sti_gemm_sum(ctx, STRATA_BF16, ta, tb, s.m, s.n, s.k, 1, ha, lda, hb, ldb, 1, fc, ldc);
            }
            CHECK_OK(sti_to_host(ctx, c, fc, (size_t)nc * 4));
            /* rounding to bf16 is 2^-9 relative to the result: 2^15 f32 units, less than the bound's share of it */
            const double e = compare(STRATA_F32, ta, tb, s, 1, a, lda, b, ldb, 1, c0, c, ldc);
            if (!(e >= 0 && e <= (narrow ? 0x1p15 : 1)))
                FAIL("m %lld n %lld k %lld ta %d tb %d narrow %d: error %g of the bound", (long long)s.m,
                     (long long)s.n, (long long)s.k, ta, tb, narrow, e);
            void *const all[] = { fa, fb, fc, ha, hb, hc };
            for (size_t i = 0; i < STI_COUNT(all); i++) sti_array_free(ctx, all[i]);
            free(a), free(b), free(c0), free(c);
        }
    strata_context_destroy(ctx);
}

TESTS(T(device), T(device_bf16), T(builtin), T(one_thread), T(three_threads), T(few_rows), T(deterministic), T(batch),
      T(same_bits), T(backend))
