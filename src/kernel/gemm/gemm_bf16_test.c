/* Products with math=bf16 against sums in f64 of operands that the test rounds to bf16 itself. Up to eight rows, and
 * sums of up to eight terms, stay f32. */
#include "kernel/gemm/gemm.h"
#include "support/test.h"

typedef struct shape {
    int64_t m, n, k;
} shape;

static const shape shapes[] = { { 1, 1, 1 },     { 0, 3, 2 },     { 3, 0, 2 },     { 3, 2, 0 },    { 4, 8, 5 },
                                { 9, 9, 130 },   { 5, 9, 130 },   { 8, 77, 47 },   { 17, 1, 33 },  { 1, 19, 40 },
                                { 65, 129, 7 },  { 65, 129, 9 },  { 67, 131, 30 }, { 32, 32, 32 }, { 33, 48, 513 },
                                { 1, 400, 700 }, { 16, 16, 512 }, { 90, 70, 60 },  { 2, 3, 1100 }, { 48, 31, 545 },
                                { 70, 100, 96 }, { 9, 17, 2081 } };

enum { PAD = 3 };

static uint64_t state;
static float draw(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(state >> 40) * 0x1p-23 - 1);
}

/* rows x columns with NaN behind every row: what is read there shows. The last row ends where the memory ends. */
static float *matrix(int64_t rows, int64_t columns, uint64_t seed)
{
    const int64_t ld = columns + PAD, size = rows ? (rows - 1) * ld + columns : 0;
    float *p = calloc((size_t)size + 1, sizeof *p);
    state = seed;
    for (int64_t i = 0; i < size; i++) p[i] = i % ld < columns ? draw() : (float)NAN;
    return p;
}

static float *copied(const float *x, int64_t rows, int64_t columns)
{
    const size_t size = rows ? (size_t)((rows - 1) * (columns + PAD) + columns) : 0;
    float *p = calloc(size + 1, sizeof *p);
    memcpy(p, x, size * sizeof *p);
    return p;
}

typedef struct job {
    shape s;
    bool ta, tb;
    double alpha, beta;
    float *a, *b, *c0, *c;
    int64_t lda, ldb, ldc;
} job;

/* Nearest bf16, ties to even. */
static double rounded(float x, const job *j)
{
    if (j->s.m <= 8 || j->s.k <= 8) return (double)x;
    union {
        float f;
        uint32_t u;
    } y = { x };
    y.u = (y.u + 0x7fffu + (y.u >> 16 & 1)) & 0xffff0000u;
    return (double)y.f;
}

static job job_open(shape s, bool ta, bool tb, double alpha, double beta)
{
    job j = {
        s, ta, tb, alpha, beta, NULL, NULL, NULL, NULL, (ta ? s.m : s.k) + PAD, (tb ? s.k : s.n) + PAD, s.n + PAD
    };
    j.a = matrix(ta ? s.k : s.m, ta ? s.m : s.k, 1);
    j.b = matrix(tb ? s.n : s.k, tb ? s.k : s.n, 2);
    j.c0 = matrix(s.m, s.n, 3);
    j.c = copied(j.c0, s.m, s.n);
    for (int64_t i = 0; beta == 0 && i < s.m; i++) /* must not be read */
        for (int64_t n = 0; n < s.n; n++) j.c[i * j.ldc + n] = (float)NAN;
    return j;
}

static void job_close(job *j)
{
    free(j->a), free(j->b), free(j->c0), free(j->c);
}

static void job_run(const job *j, const strata_context *ctx)
{
    sti_gemm(ctx, STRATA_F32, j->ta, j->tb, j->s.m, j->s.n, j->s.k, j->alpha, j->a, j->lda, j->b, j->ldb, j->beta, j->c,
             j->ldc);
}

/* The product's element (i, n), and the bound of its error. */
static double want(const job *j, int64_t i, int64_t n, double *bound)
{
    double sum = 0, abs = 0;
    for (int64_t p = 0; p < j->s.k && j->alpha != 0; p++) {
        const double t = j->alpha * rounded(j->a[j->ta ? p * j->lda + i : i * j->lda + p], j) *
                         rounded(j->b[j->tb ? n * j->ldb + p : p * j->ldb + n], j);
        sum += t, abs += fabs(t);
    }
    if (j->beta != 0) {
        const double t = j->beta * (double)j->c0[i * j->ldc + n];
        sum += t, abs += fabs(t);
    }
    *bound = 2 * 0x1p-23 * sqrt((double)j->s.k + 2) * abs;
    return sum;
}

/* Largest |error| / bound; -1: something outside C was written, or C holds a NaN. */
static double worst(const job *j)
{
    double w = 0;
    for (int64_t i = 0; i < j->s.m; i++)
        for (int64_t n = 0; n < j->ldc - (i == j->s.m - 1 ? PAD : 0); n++) {
            const float got = j->c[i * j->ldc + n];
            double bound;
            if (n >= j->s.n) {
                if (!isnan(got)) return -1;
                continue;
            }
            if (isnan(got)) return -1;
            const double e = fabs((double)got - want(j, i, n, &bound));
            if (e > 0) w = fmax(w, bound > 0 ? e / bound : HUGE_VAL);
        }
    return w;
}

/* Contexts of both instruction sets; a skip where neither is there. */
static strata_context *open(const char *spec)
{
    strata_context *ctx = NULL;
    CHECK_OK(strata_context_create(spec, NULL, &ctx));
    if (strcmp(strata_context_math(ctx), "bf16") != 0) {
        strata_context_destroy(ctx);
        SKIP("no instructions for bf16 products");
    }
    return ctx;
}

static void sweep(const char *spec)
{
    static const double scale[][2] = { { 1, 0 }, { -0.5, 1 }, { 1, 0.75 }, { 1, 1 }, { 0, 2 } };
    strata_context *ctx = open(spec);
    for (size_t is = 0; is < STI_COUNT(shapes); is++)
        for (int v = 0; v < 4; v++)
            for (size_t ic = 0; ic < STI_COUNT(scale); ic++) {
                const shape s = shapes[is];
                job j = job_open(s, v & 1, v & 2, scale[ic][0], scale[ic][1]);
                job_run(&j, ctx);
                const double e = worst(&j);
                double planted = 100, bound;
                if (s.m && s.n && s.k && j.alpha != 0) { /* an error of 100 bounds is seen */
                    const int64_t i = s.m - 1, n = s.n - 1;
                    (void)want(&j, i, n, &bound);
                    j.c[i * j.ldc + n] += (float)(100 * bound);
                    const double off = fabs((double)j.c[i * j.ldc + n] - want(&j, i, n, &bound));
                    planted = bound > 0 ? off / bound : 100;
                }
                job_close(&j);
                if (!(e >= 0 && e <= 1) || planted < 2)
                    FAIL("%s: m %lld n %lld k %lld ta %d tb %d alpha %g beta %g: error %g of the bound, planted %g",
                         spec, (long long)s.m, (long long)s.n, (long long)s.k, v & 1, v >> 1, scale[ic][0],
                         scale[ic][1], e, planted);
            }
    strata_context_destroy(ctx);
}

static void native(void)
{
    sweep("math=bf16 threads=1");
}

static void without_tiles(void)
{
    sweep("math=bf16 threads=1 isa=avx512bf16");
}

static void three_threads(void)
{
    sweep("math=bf16 threads=3");
}

/* Sums of unrounded operands are far outside the bound: the option does something. */
static void rounds(void)
{
    strata_context *ctx = open("math=bf16 threads=1"), *f32 = NULL;
    CHECK_OK(strata_context_create("threads=1", NULL, &f32));
    job j = job_open((shape){ 40, 40, 100 }, false, false, 1, 0);
    job_run(&j, f32);
    CHECK(worst(&j) > 10);
    job_run(&j, ctx);
    CHECK(worst(&j) >= 0 && worst(&j) <= 1);
    job_close(&j);
    strata_context_destroy(ctx);
    strata_context_destroy(f32);
}

/* Where C is cut, and so the number of threads, does not show in any bit. */
static void cuts(void)
{
    strata_context *ctx[3] = { open("math=bf16 threads=1"), open("math=bf16 threads=3"),
                               open("math=bf16 threads=2 deterministic=1") };
    static const double scale[][2] = { { 1, 0 }, { 1, 1 }, { -0.5, 0.25 } };
    for (int v = 0; v < 4; v++)
        for (size_t ic = 0; ic < STI_COUNT(scale); ic++) {
            job j[3];
            for (int i = 0; i < 3; i++) {
                j[i] = job_open((shape){ 201, 300, 1030 }, v & 1, v & 2, scale[ic][0], scale[ic][1]);
                job_run(&j[i], ctx[i]);
            }
            const size_t bytes = sizeof(float) * (size_t)(200 * j[0].ldc + 300);
            for (int i = 1; i < 3; i++) CHECK(memcmp(j[0].c, j[i].c, bytes) == 0);
            for (int i = 0; i < 3; i++) job_close(&j[i]);
        }
    for (int i = 0; i < 3; i++) strata_context_destroy(ctx[i]);
}

/* A batch, with more products than threads, and calls from threads of the caller. */
static void batches(void)
{
    enum { M = 20, N = 36, K = 50, COUNT = 7 };
    strata_context *ctx = open("math=bf16 threads=3");
    float *a = matrix(COUNT * M, K - PAD, 1), *b = matrix(K, COUNT * N - PAD, 2), c[COUNT][M * N], alone[M * N];
    for (int i = 0; i < COUNT * M * K - PAD; i++) a[i] = draw();
    for (int i = 0; i < K * COUNT * N - PAD; i++) b[i] = draw();
    sti_gemm_batch(ctx, STRATA_F32, false, false, M, N, K - PAD, 1, a, K, M * K, b, COUNT * N, N, 0, c, N, M * N,
                   COUNT);
#pragma omp parallel for num_threads(2) private(alone)
    for (int i = 0; i < COUNT; i++) {
        sti_gemm(ctx, STRATA_F32, false, false, M, N, K - PAD, 1, a + i * M * K, K, b + i * N, COUNT * N, 0, alone, N);
        CHECK(memcmp(alone, c[i], sizeof alone) == 0);
    }
    free(a), free(b);
    strata_context_destroy(ctx);
}

/* More calls at once than the context has rooms for. */
static void crowded(void)
{
    strata_context *ctx = open("math=bf16 threads=1");
    void *room = sti_room_take(ctx);
    CHECK(room && !sti_room_take(ctx));
    job j = job_open((shape){ 70, 300, 1030 }, false, true, 1, 0), k = job_open(j.s, false, true, 1, 0);
    job_run(&j, ctx);
    sti_room_give(ctx, room);
    job_run(&k, ctx);
    CHECK(memcmp(j.c, k.c, sizeof(float) * (size_t)(69 * j.ldc + 300)) == 0);
    job_close(&j);
    job_close(&k);
    strata_context_destroy(ctx);
}

/* Without the instructions, and in f64, math=bf16 changes nothing. */
static void elsewhere(void)
{
    strata_context *plain = NULL, *asked = NULL;
    CHECK_OK(strata_context_create("threads=1 isa=avx2", NULL, &plain));
    CHECK_OK(strata_context_create("threads=1 isa=avx2 math=bf16", NULL, &asked));
    job j = job_open((shape){ 40, 30, 100 }, false, false, 1, 0), k = job_open(j.s, false, false, 1, 0);
    job_run(&j, plain);
    job_run(&k, asked);
    CHECK(memcmp(j.c, k.c, sizeof(float) * (size_t)(39 * j.ldc + 30)) == 0);
    job_close(&j);
    job_close(&k);
    strata_context_destroy(plain);
    strata_context_destroy(asked);
    CHECK_OK(strata_context_create("threads=1 math=bf16", NULL, &asked));
    double a[6] = { 1.0000001, 2, 3, 4, 5, 6 }, c[4];
    sti_gemm(asked, STRATA_F64, false, true, 2, 2, 3, 1, a, 3, a, 3, 0, c, 2);
    CHECK(fabs(c[0] - (1.0000001 * 1.0000001 + 13)) < 1e-14);
    strata_context_destroy(asked);
}

TESTS(T(native), T(without_tiles), T(three_threads), T(rounds), T(cuts), T(batches), T(crowded), T(elsewhere))
