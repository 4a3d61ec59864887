/* Against sums in long double and central differences; what is not scored is not seen. */
#include "kernel/squarederror/squarederror.h"

#include "core/philox.h"
#include "support/near.h"

enum { ROWS = 1203, WIDTH = 7, N = ROWS * WIDTH };

static double y[N], t[N], dy[N], out[2 * ROWS], ref[N], scale[N];
static float yf[N], tf[N], dyf[N], outf[2 * ROWS];
static int64_t scored;

static strata_context *context(const char *spec)
{
    strata_context *ctx;
    CHECK_OK(strata_context_create(spec, NULL, &ctx));
    return ctx;
}

static const char *const specs[] = { "threads=1 isa=c", "threads=2 isa=avx2", "threads=3" };

static void fill(void)
{
    scored = 0;
    for (uint64_t i = 0; i < N; i++) {
        y[i] = (double)(yf[i] = (float)sti_normal(7, 0, i));
        t[i] = (double)(tf[i] = (float)sti_normal(7, 1, i));
        if (sti_below(7, 2, i, 3) == 0 || i / WIDTH == 5) t[i] = (double)(tf[i] = NAN); /* row 5: nothing */
        if (isnan(t[i]) && i % 2) y[i] = (double)(yf[i] = NAN);
        scored += !isnan(t[i]);
    }
    CHECK(scored > 0 && scored < N);
}

static void values(void)
{
    fill();
    for (size_t s = 0; s < STI_COUNT(specs); s++) {
        strata_context *ctx = context(specs[s]);
        for (int i = 0; i < ROWS; i++) {
            long double sum = 0;
            int count = 0;
            for (int j = i * WIDTH; j < (i + 1) * WIDTH; j++)
                if (!isnan(t[j])) sum += ((long double)y[j] - t[j]) * ((long double)y[j] - t[j]), count++;
            ref[2 * i] = scale[2 * i] = (double)sum;
            ref[2 * i + 1] = count;
            scale[2 * i + 1] = 0;
            out[2 * i] = out[2 * i + 1] = (double)(outf[2 * i] = outf[2 * i + 1] = NAN);
        }
        CHECK(!(ref[2 * 5] > 0) && !(ref[2 * 5 + 1] > 0));
        sti_squarederror_forward(ctx, STRATA_F64, ROWS, WIDTH, y, t, out);
        near_all("f64", out, STRATA_F64, ref, scale, 2 * ROWS, 4, WIDTH);
        sti_squarederror_forward(ctx, STRATA_F32, ROWS, WIDTH, yf, tf, outf);
        near_all("f32", outf, STRATA_F32, ref, scale, 2 * ROWS, 1, 1); /* f64 inside: one rounding */
        strata_context_destroy(ctx);
    }
}

static double mean(void)
{
    double sum = 0;
    for (int i = 0; i < N; i++)
        if (!isnan(t[i])) sum += (y[i] - t[i]) * (y[i] - t[i]);
    return sum / (double)scored;
}

static void gradients(void)
{
    fill();
    for (size_t s = 0; s < STI_COUNT(specs); s++) {
        strata_context *ctx = context(specs[s]);
        for (int acc = 0; acc < 2; acc++) {
            for (int i = 0; i < N; i++) {
                dy[i] = acc ? 3 : (double)NAN;
                dyf[i] = acc ? 3 : NAN;
                ref[i] = 3 * acc + (isnan(t[i]) ? 0 : 2 / (double)scored * (y[i] - t[i]));
                scale[i] = 3 * acc + (isnan(t[i]) ? 0 : 2 / (double)scored * (fabs(y[i]) + fabs(t[i])));
            }
            sti_squarederror_backward(ctx, STRATA_F64, ROWS, WIDTH, y, t, dy, acc);
            near_all("f64", dy, STRATA_F64, ref, scale, N, 4, 1);
            sti_squarederror_backward(ctx, STRATA_F32, ROWS, WIDTH, yf, tf, dyf, acc);
            near_all("f32", dyf, STRATA_F32, ref, scale, N, 4, 1);
        }
        strata_context_destroy(ctx);
    }
    for (int i = 0; i < N; i += 97) { /* the formula itself: the loss is quadratic, differences are exact */
        if (isnan(t[i])) continue;
        const double keep = y[i], h = 1;
        y[i] = keep + h;
        const double up = mean();
        y[i] = keep - h;
        const double down = mean();
        y[i] = keep;
        CHECK(fabs((up - down) / (2 * h) - (dy[i] - 3)) < 1e-13);
    }
}

static void nothing_scored(void)
{
    strata_context *ctx = context("threads=1");
    const double none[2] = { (double)NAN, (double)NAN }, some[2] = { 1, 2 };
    double sums[2] = { 5, 5 }, d[2] = { 5, 5 };
    sti_squarederror_forward(ctx, STRATA_F64, 1, 2, some, none, sums);
    sti_squarederror_backward(ctx, STRATA_F64, 1, 2, some, none, d, 0);
    for (int i = 0; i < 2; i++) CHECK(fabs(sums[i]) < 1e-300 && fabs(d[i]) < 1e-300);
    strata_context_destroy(ctx);
}

TESTS(T(values), T(gradients), T(nothing_scored))
