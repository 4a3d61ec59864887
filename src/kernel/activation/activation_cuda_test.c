/* The device's functions against the oracle in f64, on aligned and unaligned arrays of every length. */
#include "kernel/activation/activation.h"

#include "support/device.h"

enum { SIZES = 6 };
static const int64_t sizes[SIZES] = { 1, 3, 37, 129, 8197, 300007 };
static const int32_t types[] = DEVICE_TYPES;

/* How far f32 and f64 functions stray, in units of eps; bf16 is dominated by the rounding of the result. */
static double factor(int32_t t)
{
    return t == STRATA_BF16 ? 1 : 8;
}

static void check(const device *d, int32_t t, int act, int64_t n, int64_t pad, int acc)
{
    double *x = device_normal(t, n, 3, 1), *dy = device_normal(t, n, 1, 2), *old = device_normal(t, n, 1, 3);
    double *y = calloc((size_t)n, sizeof *y), *dx = malloc((size_t)n * sizeof *dx), *scale = malloc((size_t)n * 8);
    void *px = device_put(d, t, x, n, pad), *pdy = device_put(d, t, dy, n, pad), *py = device_put(d, t, NULL, n, pad);
    void *pdx = device_put(d, t, acc ? old : NULL, n, pad);
    memcpy(dx, old, (size_t)n * sizeof *dx);
    sti_act_forward(d->cpu, STRATA_F64, (sti_act)act, n, x, y);
    sti_act_backward(d->cpu, STRATA_F64, (sti_act)act, n, x, dy, dx, acc);
    sti_act_forward(d->gpu, t, (sti_act)act, n, px, py);
    sti_act_backward(d->gpu, t, (sti_act)act, n, px, pdy, pdx, acc);
    double *gy = device_get(d, t, py, n), *gdx = device_get(d, t, pdx, n);
    for (int64_t i = 0; i < n; i++) scale[i] = fabs(x[i]) + 1e-30;
    device_near("y", t, gy, y, scale, n, factor(t), 1);
    for (int64_t i = 0; i < n; i++) scale[i] = (1 + fabs(x[i])) * fabs(dy[i]) + acc * fabs(old[i]) + 1e-30;
    device_near("dx", t, gdx, dx, scale, n, factor(t), 1);
    sti_act_forward(d->gpu, t, (sti_act)act, n, px, px); /* in place */
    double *again = device_get(d, t, px, n);
    CHECK(memcmp(again, gy, (size_t)n * sizeof *gy) == 0);
    device_drop(d, px, t, pad), device_drop(d, pdy, t, pad), device_drop(d, py, t, pad), device_drop(d, pdx, t, pad);
    free(x), free(dy), free(old), free(y), free(dx), free(scale), free(gy), free(gdx), free(again);
}

static void functions(void)
{
    device d = device_open();
    for (size_t k = 0; k < STI_COUNT(types); k++)
        for (int act = 0; act < STI_ACT_COUNT; act++)
            for (int s = 0; s < SIZES; s++)
                for (int acc = 0; acc < 2; acc++) check(&d, types[k], act, sizes[s], (s + acc) % 2, acc);
    device_close(&d);
}

static void check_gate(const device *d, int32_t t, int64_t n, int64_t pad, int accs)
{
    double *a = device_normal(t, n, 3, 1), *b = device_normal(t, n, 1, 2), *dy = device_normal(t, n, 1, 3);
    double *da = device_normal(t, n, 1, 4), *db = device_normal(t, n, 1, 5);
    double *y = calloc((size_t)n, sizeof *y), *scale = malloc((size_t)n * sizeof *scale);
    const int acca = accs & 1, accb = accs >> 1 & 1;
    void *pa = device_put(d, t, a, n, pad), *pb = device_put(d, t, b, n, pad), *pdy = device_put(d, t, dy, n, pad);
    void *py = device_put(d, t, NULL, n, pad);
    void *pda = device_put(d, t, acca ? da : NULL, n, pad), *pdb = device_put(d, t, accb ? db : NULL, n, pad);
    double *olda = device_normal(t, n, 1, 4), *oldb = device_normal(t, n, 1, 5);
    sti_gate_forward(d->cpu, STRATA_F64, n, a, b, y);
    sti_gate_backward(d->cpu, STRATA_F64, n, a, b, dy, da, acca, db, accb);
    sti_gate_forward(d->gpu, t, n, pa, pb, py);
    sti_gate_backward(d->gpu, t, n, pa, pb, pdy, pda, acca, NULL, 0);
    sti_gate_backward(d->gpu, t, n, pa, pb, pdy, NULL, 0, pdb, accb);
    double *gy = device_get(d, t, py, n), *gda = device_get(d, t, pda, n), *gdb = device_get(d, t, pdb, n);
    for (int64_t i = 0; i < n; i++) scale[i] = fabs(a[i] * b[i]) + 1e-30;
    device_near("gate", t, gy, y, scale, n, factor(t), 1);
    for (int64_t i = 0; i < n; i++) scale[i] = (1 + fabs(a[i])) * fabs(b[i] * dy[i]) + acca * fabs(olda[i]) + 1e-30;
    device_near("da", t, gda, da, scale, n, factor(t), 1);
    for (int64_t i = 0; i < n; i++) scale[i] = fabs(a[i] * dy[i]) + accb * fabs(oldb[i]) + 1e-30;
    device_near("db", t, gdb, db, scale, n, factor(t), 1);
    void *const all[] = { pa, pb, pdy, py, pda, pdb };
    for (size_t i = 0; i < STI_COUNT(all); i++) device_drop(d, all[i], t, pad);
    free(a), free(b), free(dy), free(da), free(db), free(y), free(scale), free(olda), free(oldb), free(gy), free(gda);
    free(gdb);
}

static void gates(void)
{
    device d = device_open();
    for (size_t k = 0; k < STI_COUNT(types); k++)
        for (int s = 0; s < SIZES; s++)
            for (int accs = 0; accs < 4; accs++) check_gate(&d, types[k], sizes[s], s % 2, accs);
    device_close(&d);
}

/* As the CPU's: far-off inputs give the limits, NaN is handed on. */
static void extremes(void)
{
    device d = device_open();
    double in[4] = { 1e30, -1e30, (double)NAN, 0 };
    for (size_t k = 0; k < STI_COUNT(types); k++)
        for (int act = 0; act < STI_ACT_COUNT; act++) {
            double x[4];
            memcpy(x, in, sizeof x);
            device_round(types[k], x, 2);
            void *p = device_put(&d, types[k], x, 4, 0);
            sti_act_forward(d.gpu, types[k], (sti_act)act, 4, p, p);
            double *y = device_get(&d, types[k], p, 4);
            CHECK(y[0] == x[0] && fabs(y[1]) <= 1e-26 * 1e30 && isnan(y[2]) && !(y[3] < 0 || y[3] > 0));
            device_drop(&d, p, types[k], 0);
            free(y);
        }
    device_close(&d);
}

TESTS(T(functions), T(gates), T(extremes))
