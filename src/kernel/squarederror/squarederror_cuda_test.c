/* The device's squared error against the oracle in f64: rows longer and shorter than a warp, rows without a target,
 * gradients set and added. Targets are of the type of sums: a bf16 loss is that of its outputs beside exact targets. */
#include "kernel/squarederror/squarederror.h"

#include "core/philox.h"
#include "support/device.h"

static const int64_t shapes[][2] = { { 1, 1 }, { 3, 7 }, { 1203, 2 }, { 129, 96 }, { 5, 5000 } };
static const int32_t types[] = DEVICE_TYPES;

static void check(const device *d, int32_t t, int64_t rows, int64_t width, int acc)
{
    const int64_t n = rows * width;
    const int32_t sum = sti_sum_type(t);
    double *y = device_normal(t, n, 1, 1), *target = device_normal(sum, n, 1, 2), *dy = device_normal(t, n, 1, 3);
    double *old = malloc((size_t)n * sizeof *old), *want = malloc((size_t)rows * 2 * sizeof *want);
    double *scale = malloc((size_t)(n + 2 * rows) * sizeof *scale);
    int64_t scored = 0;
    CHECK(old && want && scale);
    for (int64_t i = 0; i < n; i++) {
        if (i != 0 && (sti_below(7, 2, (uint64_t)i, 3) == 0 || i / width == 1)) target[i] = (double)NAN;
        scored += !isnan(target[i]);
    }
    memcpy(old, dy, (size_t)n * sizeof *old);
    void *py = device_put(d, t, y, n, 0), *pt = device_put(d, sum, target, n, 0);
    void *pdy = device_put(d, t, acc ? dy : NULL, n, 0), *pout = device_put(d, sum, NULL, 2 * rows, 0);
    sti_squarederror_forward(d->cpu, STRATA_F64, rows, width, y, target, want);
    sti_squarederror_backward(d->cpu, STRATA_F64, rows, width, y, target, dy, acc);
    sti_squarederror_forward(d->gpu, t, rows, width, py, pt, pout);
    sti_squarederror_backward(d->gpu, t, rows, width, py, pt, pdy, acc);
    double *got = device_get(d, sum, pout, 2 * rows), *gdy = device_get(d, t, pdy, n);
    for (int64_t i = 0; i < rows; i++) {
        scale[2 * i] = want[2 * i];
        scale[2 * i + 1] = 0;
    }
    device_near("squared error", sum, got, want, scale, 2 * rows, t == STRATA_F64 ? 4 : 1,
                t == STRATA_F64 ? (double)width : 1); /* f64 inside: one rounding */
    for (int64_t i = 0; i < n; i++) {
        const double size = fabs(y[i]) + fabs(target[i]);
        scale[i] = acc * fabs(old[i]) + (isnan(target[i]) ? 0 : 2 * size / (double)scored);
    }
    device_near("its gradient", t, gdy, dy, scale, n, 4, 1);
    device_drop(d, py, t, 0), device_drop(d, pt, sum, 0), device_drop(d, pdy, t, 0), device_drop(d, pout, sum, 0);
    free(y), free(target), free(dy), free(old), free(want), free(scale), free(got), free(gdy);
}

static void all(void)
{
    device d = device_open();
    for (size_t k = 0; k < STI_COUNT(types); k++)
        for (size_t i = 0; i < STI_COUNT(shapes); i++)
            for (int acc = 0; acc < 2; acc++) check(&d, types[k], shapes[i][0], shapes[i][1], acc);
    device_close(&d);
}

TESTS(T(all))
