/* Values against the textbook formula in f64, gradients against central differences and, in f32, against the f64 ones.
 */
#include "kernel/norm/norm.h"

#include "core/context.h"
#include "core/philox.h"
#include "support/near.h"

enum { ROWS = 901, WIDTH = 37, N = ROWS * WIDTH };

static double x[N], dy[N], y[N], dx[N], stat[2 * ROWS], gain[WIDTH], bias[WIDTH], dgain[WIDTH], dbias[WIDTH];
static float xf[N], dyf[N], yf[N], dxf[N], statf[2 * ROWS], gainf[WIDTH], biasf[WIDTH], dgainf[WIDTH], dbiasf[WIDTH];
static double ref[N], scale[N];

static strata_context *context(const char *spec)
{
    strata_context *ctx;
    CHECK_OK(strata_context_create(spec, NULL, &ctx));
    return ctx;
}

static void fill(void)
{
    for (uint64_t i = 0; i < N; i++) {
        x[i] = (double)(xf[i] = (float)(sti_normal(1, 0, i) * 2 + 0.5));
        dy[i] = (double)(dyf[i] = (float)sti_normal(1, 1, i));
    }
    for (uint64_t j = 0; j < WIDTH; j++) {
        gain[j] = (double)(gainf[j] = (float)sti_normal(1, 2, j));
        bias[j] = (double)(biasf[j] = (float)sti_normal(1, 3, j));
    }
}

/* Row i, and the same with absolute values: |x - mean| <= |x| + mean of |x|. */
static void formula(const sti_norm *n, int64_t i, double *out, double *size)
{
    const double *r = x + i * WIDTH;
    double mean = 0, amean = 0, var = 0;
    for (int j = 0; j < WIDTH; j++) mean += r[j] / WIDTH, amean += fabs(r[j]) / WIDTH;
    if (!n->center) mean = amean = 0;
    for (int j = 0; j < WIDTH; j++) var += (r[j] - mean) * (r[j] - mean) / WIDTH;
    for (int j = 0; j < WIDTH; j++) {
        out[j] = (r[j] - mean) / sqrt(var + n->eps) * gain[j] + (n->bias ? bias[j] : 0);
        size[j] = (fabs(r[j]) + amean) / sqrt(var + n->eps) * fabs(gain[j]) + (n->bias ? fabs(bias[j]) : 0);
    }
}

static const sti_norm kinds[] = { { WIDTH, 0, 1e-5, true, true },
                                  { WIDTH, 0, 1e-5, true, false },
                                  { WIDTH, 0, 1e-5, false, false },
                                  { WIDTH, 0, 0.5, false, true } };
static const char *specs[] = { "threads=1 isa=c", "threads=2 isa=avx2", "threads=3" };

static void values(void)
{
    fill();
    for (size_t k = 0; k < STI_COUNT(kinds); k++) {
        for (int64_t i = 0; i < ROWS; i++) formula(&kinds[k], i, ref + i * WIDTH, scale + i * WIDTH);
        for (size_t s = 0; s < STI_COUNT(specs); s++) {
            strata_context *ctx = context(specs[s]);
            for (int i = 0; i < N; i++) y[i] = (double)(yf[i] = NAN);
            sti_norm_forward(ctx, STRATA_F64, &kinds[k], ROWS, x, gain, bias, y, stat);
            near_all("f64", y, STRATA_F64, ref, scale, N, 4, 1 + WIDTH);
            sti_norm_forward(ctx, STRATA_F32, &kinds[k], ROWS, xf, gainf, biasf, yf, statf);
            near_all("f32", yf, STRATA_F32, ref, scale, N, 4, 1); /* statistics are exact to f32: sums run in f64 */
            strata_context_destroy(ctx);
        }
    }
}

static double loss(strata_context *ctx, const sti_norm *n)
{
    double sum = 0;
    sti_norm_forward(ctx, STRATA_F64, n, ROWS, x, gain, bias, y, NULL);
    for (int i = 0; i < N; i++) sum += y[i] * dy[i];
    return sum;
}

static double difference(strata_context *ctx, const sti_norm *n, double *p)
{
    const double keep = *p, h = 1e-5;
    *p = keep + h;
    const double up = loss(ctx, n);
    *p = keep - h;
    const double down = loss(ctx, n);
    *p = keep;
    return (up - down) / (2 * h);
}

static void gradients(void)
{
    static double work[1 << 14];
    strata_context *ctx = context("threads=1");
    CHECK(sti_norm_work(ctx, WIDTH) <= sizeof work);
    for (size_t k = 0; k < STI_COUNT(kinds); k++) {
        const sti_norm *n = &kinds[k];
        fill();
        for (int i = 0; i < N; i++) dx[i] = (double)NAN;
        for (int j = 0; j < WIDTH; j++) dgain[j] = dbias[j] = 1;
        sti_norm_forward(ctx, STRATA_F64, n, ROWS, x, gain, bias, y, stat);
        sti_norm_backward(ctx, STRATA_F64, n, ROWS, x, gain, stat, dy, dx, 0, dgain, n->bias ? dbias : NULL, work);
        for (int i = 0; i < N; i += 307) CHECK(fabs(difference(ctx, n, &x[i]) - dx[i]) < 1e-7);
        for (int j = 0; j < WIDTH; j++) {
            CHECK(fabs(difference(ctx, n, &gain[j]) - (dgain[j] - 1)) < 1e-6);
            CHECK(fabs((n->bias ? difference(ctx, n, &bias[j]) : 0) - (dbias[j] - 1)) < 1e-6);
        }
        /* f32 against f64, set and added */
        sti_norm_forward(ctx, STRATA_F32, n, ROWS, xf, gainf, biasf, yf, statf);
        for (int acc = 0; acc < 2; acc++) {
            for (int i = 0; i < N; i++) {
                const double rstd = stat[2 * (i / WIDTH) + 1], *r = dy + i / WIDTH * WIDTH;
                double size = 0;
                for (int j = 0; j < WIDTH; j++) size += fabs(r[j] * gain[j]) / WIDTH;
                ref[i] = dx[i] + acc;
                scale[i] = acc + rstd * (fabs(dy[i] * gain[i % WIDTH]) + size * (1 + 12 * rstd * (fabs(x[i]) + 2)));
                dxf[i] = acc ? 1.0f : NAN;
            }
            sti_norm_backward(ctx, STRATA_F32, n, ROWS, xf, gainf, statf, dyf, dxf, acc, NULL, NULL, work);
            near_all("dx", dxf, STRATA_F32, ref, scale, N, 8, 1);
        }
    }
    strata_context_destroy(ctx);
}

/* Rows that stand apart: what lies between them is not touched. */
static void strided(void)
{
    static double wide[ROWS * (WIDTH + 3)], out[ROWS * (WIDTH + 3)];
    strata_context *ctx = context("threads=2");
    sti_norm n = kinds[0];
    fill();
    for (int i = 0; i < ROWS * (WIDTH + 3); i++) out[i] = 7;
    for (int i = 0; i < N; i++) wide[i / WIDTH * (WIDTH + 3) + i % WIDTH] = x[i];
    sti_norm_forward(ctx, STRATA_F64, &n, ROWS, x, gain, bias, y, stat);
    n.stride = WIDTH + 3;
    sti_norm_forward(ctx, STRATA_F64, &n, ROWS, wide, gain, bias, out, stat);
    for (int i = 0; i < ROWS * (WIDTH + 3); i++)
        CHECK(i % (WIDTH + 3) < WIDTH ? out[i] == y[i / (WIDTH + 3) * WIDTH + i % (WIDTH + 3)] : out[i] == 7);
    strata_context_destroy(ctx);
}

static void repeatable(void)
{
    static double work[1 << 14];
    static float first[WIDTH], second[WIDTH];
    fill();
    for (int t = 1; t <= 4; t++) {
        char spec[32];
        snprintf(spec, sizeof spec, "threads=%d", t);
        strata_context *ctx = context(spec);
        memset(dgainf, 0, sizeof dgainf);
        memset(dbiasf, 0, sizeof dbiasf);
        sti_norm_forward(ctx, STRATA_F32, &kinds[0], ROWS, xf, gainf, biasf, yf, statf);
        sti_norm_backward(ctx, STRATA_F32, &kinds[0], ROWS, xf, gainf, statf, dyf, dxf, 0, dgainf, dbiasf, work);
        if (t == 1) memcpy(first, dgainf, sizeof first), memcpy(second, dbiasf, sizeof second);
        CHECK(memcmp(first, dgainf, sizeof first) == 0 && memcmp(second, dbiasf, sizeof second) == 0);
        strata_context_destroy(ctx);
    }
}

TESTS(T(values), T(gradients), T(strided), T(repeatable))
