/* Against log-sum-exp in long double, gradients against central differences; far-off logits stay finite. */
#include "kernel/crossentropy/crossentropy.h"

#include "core/philox.h"
#include "support/near.h"

enum { ROWS = 603, VOCAB = 53, N = ROWS * VOCAB };

static double x[N], dx[N], lse[ROWS], out[2 * ROWS], ref[N], scale[N];
static float xf[N], dxf[N], lsef[ROWS], outf[2 * ROWS];
static int32_t target[ROWS];

static strata_context *context(const char *spec)
{
    strata_context *ctx;
    CHECK_OK(strata_context_create(spec, NULL, &ctx));
    return ctx;
}

static void fill(void)
{
    for (uint64_t i = 0; i < N; i++)
        x[i] = (double)(xf[i] = (float)(sti_normal(7, 0, i) * 3 + (i / VOCAB % 5 == 1 ? 500.0 : 0.0)));
    for (uint64_t i = 0; i < ROWS; i++) target[i] = (int32_t)sti_below(7, 1, i, VOCAB + 1) - 1;
}

static double formula(int i, double *size)
{
    const double *r = x + i * VOCAB;
    long double m = -1e30L, s = 0;
    for (int j = 0; j < VOCAB; j++) m = (long double)r[j] > m ? (long double)r[j] : m;
    for (int j = 0; j < VOCAB; j++) s += expl((long double)r[j] - m);
    *size = (double)fabsl(m) + (double)logl(s);
    return (double)(m + logl(s));
}

static const char *specs[] = { "threads=1 isa=c", "threads=2 isa=avx2", "threads=3" };

static void values(void)
{
    fill();
    for (size_t s = 0; s < STI_COUNT(specs); s++) {
        strata_context *ctx = context(specs[s]);
        for (int i = 0; i < ROWS; i++) {
            double size, z = formula(i, &size);
            ref[2 * i] = target[i] < 0 ? 0 : z - x[i * VOCAB + target[i]];
            ref[2 * i + 1] = target[i] >= 0;
            scale[2 * i] = target[i] < 0 ? 0 : size + fabs(x[i * VOCAB + target[i]]);
            scale[2 * i + 1] = 0;
            out[2 * i] = out[2 * i + 1] = (double)(outf[2 * i] = outf[2 * i + 1] = NAN);
        }
        CHECK_OK(sti_crossentropy_forward(ctx, STRATA_F64, ROWS, VOCAB, x, target, lse, out));
        near_all("f64", out, STRATA_F64, ref, scale, 2 * ROWS, 4, 1);
        CHECK_OK(sti_crossentropy_forward(ctx, STRATA_F32, ROWS, VOCAB, xf, target, lsef, outf));
        near_all("f32", outf, STRATA_F32, ref, scale, 2 * ROWS, 4, 1);
        strata_context_destroy(ctx);
    }
}

static double mean(void)
{
    double sum = 0, count = 0, size;
    for (int i = 0; i < ROWS; i++)
        if (target[i] >= 0) sum += formula(i, &size) - x[i * VOCAB + target[i]], count++;
    return sum / count;
}

static void gradients(void)
{
    fill();
    int counted = 0;
    for (int i = 0; i < ROWS; i++) counted += target[i] >= 0;
    CHECK(counted > 0 && counted < ROWS);
    for (size_t s = 0; s < STI_COUNT(specs); s++) {
        strata_context *ctx = context(specs[s]);
        for (int acc = 0; acc < 2; acc++) {
            for (int i = 0; i < N; i++) dx[i] = acc ? 3 : (double)NAN, dxf[i] = acc ? 3 : NAN;
            CHECK_OK(sti_crossentropy_forward(ctx, STRATA_F64, ROWS, VOCAB, x, target, lse, out));
            sti_crossentropy_backward(ctx, STRATA_F64, ROWS, VOCAB, x, target, lse, dx, acc);
            CHECK_OK(sti_crossentropy_forward(ctx, STRATA_F32, ROWS, VOCAB, xf, target, lsef, outf));
            sti_crossentropy_backward(ctx, STRATA_F32, ROWS, VOCAB, xf, target, lsef, dxf, acc);
            for (int i = 0; i < N; i++) {
                const double share = 1.0 / counted;
                ref[i] = dx[i]; /* p carries the rounding of x - lse */
                scale[i] = 3 * acc + share * (1 + fabs(x[i]) + fabs(lse[i / VOCAB]));
                if (i % 641 == 0 && s == 0 && !acc) {
                    const double keep = x[i], h = 1e-4;
                    x[i] = keep + h;
                    const double up = mean();
                    x[i] = keep - h;
                    const double down = mean();
                    x[i] = keep;
                    CHECK(fabs((up - down) / (2 * h) - (dx[i] - 3 * acc)) < 1e-9);
                }
            }
            near_all("dlogits", dxf, STRATA_F32, ref, scale, N, 4, 1);
        }
        strata_context_destroy(ctx);
    }
}

static void refuses(void)
{
    fill();
    strata_context *ctx = context("threads=1");
    target[5] = VOCAB;
    out[0] = 42;
    CHECK_STATUS(sti_crossentropy_forward(ctx, STRATA_F64, ROWS, VOCAB, x, target, lse, out), STRATA_E_INVALID);
    CHECK_ERROR_TEXT("target 53 of row 5 is outside the vocabulary of 53");
    CHECK(out[0] == 42);
    strata_context_destroy(ctx);
}

TESTS(T(values), T(gradients), T(refuses))
