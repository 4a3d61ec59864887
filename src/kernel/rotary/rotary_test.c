/* Against complex multiplication in long double; the way back is the transpose; scores depend on distances alone. */
#include "kernel/rotary/rotary.h"

#include "core/context.h"
#include "core/philox.h"
#include "support/near.h"

enum { BATCH = 2, TIME = 9, HEADS = 3, WIDTH = 14, N = BATCH * TIME * HEADS * WIDTH, CAPACITY = 32 };

static const int64_t rank[] = { 8, 4, 2 };
static double x[N], y[N], z[N], ref[N], scale[N];
static float xf[N], yf[N];

static void fill(void)
{
    for (uint64_t i = 0; i < N; i++) x[i] = (double)(xf[i] = (float)sti_normal(3, 0, i));
}

static void formula(const int64_t *pos)
{
    for (int i = 0; i < N / WIDTH; i++) {
        const int64_t t = i / HEADS % TIME + pos[i / HEADS / TIME];
        for (int l = 0, o = i * WIDTH; l < 3; o += (int)rank[l], l++)
            for (int64_t k = 0, half = rank[l] / 2; k < half; k++) {
                const long double a = (long double)t * powl(10000, -2.0L * (long double)k / (long double)rank[l]);
                ref[o + k] = (double)((long double)x[o + k] * cosl(a) - (long double)x[o + k + half] * sinl(a));
                ref[o + k + half] = (double)((long double)x[o + k] * sinl(a) + (long double)x[o + k + half] * cosl(a));
                /* the angle itself is good to eps |a| in f64, before it is rounded to f32 */
                scale[o + k] = scale[o + k + half] = fabs(x[o + k]) + fabs(x[o + k + half]);
            }
    }
}

static void values(void)
{
    strata_context *ctx;
    CHECK_OK(strata_context_create("threads=2", NULL, &ctx));
    const int64_t pos[] = { 0, 20 };
    sti_rotary *r;
    fill();
    formula(pos);
    for (int i = 0; i < N; i++) y[i] = (double)(yf[i] = NAN);
    CHECK_OK(sti_rotary_create(ctx, STRATA_F64, 3, rank, 10000, CAPACITY, &r));
    CHECK_OK(sti_rotary_apply(ctx, r, BATCH, TIME, HEADS, pos, false, false, x, y));
    near_all("f64", y, STRATA_F64, ref, scale, N, 4, CAPACITY);
    CHECK_OK(sti_rotary_apply(ctx, r, BATCH, TIME, HEADS, pos, true, false, y, z));
    for (int i = 0; i < N; i++) CHECK(fabs(z[i] - x[i]) < 1e-14);
    CHECK_OK(sti_rotary_apply(ctx, r, BATCH, TIME, HEADS, pos, true, true, y, z));
    for (int i = 0; i < N; i++) CHECK(fabs(z[i] - 2 * x[i]) < 1e-14);
    const int64_t late[] = { 0, CAPACITY - TIME + 1 };
    CHECK_STATUS(sti_rotary_apply(ctx, r, BATCH, TIME, HEADS, late, false, false, x, y), STRATA_E_SPACE);
    sti_rotary_destroy(r);
    CHECK_OK(sti_rotary_create(ctx, STRATA_F32, 3, rank, 10000, CAPACITY, &r));
    CHECK_OK(sti_rotary_apply(ctx, r, BATCH, TIME, HEADS, pos, false, false, xf, yf));
    near_all("f32", yf, STRATA_F32, ref, scale, N, 4, 1);
    sti_rotary_destroy(r);
    const int64_t odd[] = { 4, 3 };
    CHECK_STATUS(sti_rotary_create(ctx, STRATA_F32, 2, odd, 10000, 4, &r), STRATA_E_SHAPE);
    CHECK_ERROR_TEXT("rank 3 of level 2 is not even");
    strata_context_destroy(ctx);
}

TESTS(T(values))
