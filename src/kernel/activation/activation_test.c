/* Values against libm formulas in f64, gradients against central differences, for every instruction set. */
#include "kernel/activation/activation.h"

#include "backend/cpu/vexp.h"
#include "core/context.h"
#include "support/near.h"

enum { N = 60001 };

static double want(int act, double x)
{
    switch (act) {
    case STI_ACT_GELU: return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    case STI_ACT_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case STI_ACT_RELU: return x > 0 ? x : 0;
    default: return x / (1 + exp(-x));
    }
}
/* Central difference of a function that is smooth away from 0. */
static double slope(int act, double x)
{
    const double h = 1e-5;
    return (want(act, x + h) - want(act, x - h)) / (2 * h);
}

static strata_context *context(const char *spec)
{
    strata_context *ctx;
    CHECK_OK(strata_context_create(spec, NULL, &ctx));
    return ctx;
}

static const char *specs[] = { "threads=1 isa=c", "threads=2 isa=avx2", "threads=3" };
static double ref[N], scale[N], x[N], y[N], dy[N], dx[N], old[N];
static float xf[N], yf[N], dyf[N], dxf[N], keepf[N];

static void fill(void)
{
    for (int i = 0; i < N; i++) {
        xf[i] = (float)((i - N / 2) * 6e-4 + 1e-4); /* -18 … 18, never 0 */
        dyf[i] = (float)cos(i);
        x[i] = (double)xf[i];
        dy[i] = (double)dyf[i];
    }
}

static void values(void)
{
    fill();
    for (size_t s = 0; s < STI_COUNT(specs); s++) {
        strata_context *ctx = context(specs[s]);
        for (int act = 0; act < STI_ACT_COUNT; act++) {
            for (int i = 0; i < N; i++) {
                ref[i] = want(act, x[i]);
                scale[i] = fabs(x[i]) + 1e-30;
                y[i] = (double)(yf[i] = NAN);
            }
            sti_act_forward(ctx, STRATA_F64, (sti_act)act, N, x, y);
            near_all("f64", y, STRATA_F64, ref, scale, N, 4, 1);
            sti_act_forward(ctx, STRATA_F32, (sti_act)act, N, xf, yf);
            near_all("f32", yf, STRATA_F32, ref, scale, N, 4, 1);
        }
        strata_context_destroy(ctx);
    }
}

static void gradients(void)
{
    fill();
    for (size_t s = 0; s < STI_COUNT(specs); s++) {
        strata_context *ctx = context(specs[s]);
        for (int act = 0; act < STI_ACT_COUNT; act++)
            for (int acc = 0; acc < 2; acc++) {
                for (int i = 0; i < N; i++) {
                    ref[i] = slope(act, x[i]) * dy[i] + acc;
                    /* f' has terms up to (1 + x^2) that cancel in the tails; differences are good to 1e-9 */
                    scale[i] = (1 + fabs(x[i])) * fabs(dy[i]) + acc;
                    dx[i] = acc ? 1.0 : (double)NAN;
                    dxf[i] = acc ? 1.0f : NAN;
                }
                sti_act_backward(ctx, STRATA_F64, (sti_act)act, N, x, dy, dx, acc);
                for (int i = 0; i < N; i++) CHECK(fabs(dx[i] - ref[i]) < 1e-8);
                sti_act_backward(ctx, STRATA_F32, (sti_act)act, N, xf, dyf, dxf, acc);
                near_all("f32", dxf, STRATA_F32, ref, scale, N, 4, 1);
            }
        strata_context_destroy(ctx);
    }
}

static void gate(void)
{
    fill();
    for (size_t s = 0; s < STI_COUNT(specs); s++) {
        strata_context *ctx = context(specs[s]);
        /* b = dy, upstream gradient x/8 */
        for (int i = 0; i < N; i++) {
            ref[i] = want(STI_ACT_SILU, x[i]) * dy[i];
            scale[i] = fabs(x[i] * dy[i]) + 1e-30;
            yf[i] = NAN;
        }
        sti_gate_forward(ctx, STRATA_F32, N, xf, dyf, yf);
        near_all("gate", yf, STRATA_F32, ref, scale, N, 8, 1);
        for (int i = 0; i < N; i++) dx[i] = old[i] = 2.0;
        sti_gate_backward(ctx, STRATA_F64, N, x, dy, x, dx, 1, old, 1);
        for (int i = 0; i < N; i++) {
            CHECK(fabs(dx[i] - 2 - slope(STI_ACT_SILU, x[i]) * dy[i] * x[i]) < 1e-7);
            CHECK(fabs(old[i] - 2 - want(STI_ACT_SILU, x[i]) * x[i]) < 1e-12 * (1 + x[i] * x[i]));
        }
        strata_context_destroy(ctx);
    }
}

/* Bits do not depend on threads or on where an element stands. */
static void repeatable(void)
{
    fill();
    strata_context *one = context("threads=1"), *three = context("threads=3");
    sti_act_forward(one, STRATA_F32, STI_ACT_GELU, N, xf, yf);
    sti_act_forward(three, STRATA_F32, STI_ACT_GELU, N, xf, keepf);
    CHECK(memcmp(yf, keepf, sizeof yf) == 0);
    strata_context_destroy(one);
    strata_context_destroy(three);
}

/* The vector exponential, everywhere between its clamps and beyond them. */
static void exponential(void)
{
    for (int i = -90000; i <= 90000; i++) {
        const float v = (float)i * 1e-3f, e = sti_vexpf(v);
        if (v < -87.3f || v > 88.3f)
            CHECK(e > 0 && isfinite(e));
        else
            CHECK(fabs((double)e - exp((double)v)) <= 1.5 * (double)FLT_EPSILON * exp((double)v));
    }
    CHECK(isnan(sti_vexpf(NAN)));
}

static void extremes(void)
{
    strata_context *ctx = context("threads=1");
    float in[4] = { 1e30f, -1e30f, NAN, 0.0f }, out[4];
    for (int act = 0; act < STI_ACT_COUNT; act++) {
        sti_act_forward(ctx, STRATA_F32, (sti_act)act, 4, in, out);
        CHECK(out[0] == 1e30f && fabsf(out[1]) <= 1e-26f * 1e30f && isnan(out[2]) && out[3] == 0.0f);
    }
    strata_context_destroy(ctx);
}

TESTS(T(values), T(gradients), T(gate), T(repeatable), T(exponential), T(extremes))
