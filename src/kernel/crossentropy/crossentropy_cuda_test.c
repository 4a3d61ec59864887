/* The device's cross-entropy against the oracle in f64: short and long rows, odd vocabularies, rows that do not count,
 * gradients set, added and in place. */
#include "kernel/crossentropy/crossentropy.h"

#include "core/philox.h"
#include "support/device.h"

typedef struct shape {
    int64_t rows, vocab;
} shape;

static const shape shapes[] = { { 1, 1 },     { 3, 7 },     { 129, 96 },  { 1000, 53 }, { 37, 1000 },
                                { 37, 1024 }, { 19, 1025 }, { 13, 5000 }, { 5, 50257 }, { 4, 50304 } };
static const int32_t types[] = DEVICE_TYPES;

static void check(const device *d, int32_t t, const shape *s, int mode) /* 0: set, 1: add, 2: in place */
{
    const int64_t n = s->rows * s->vocab, rows = s->rows, vocab = s->vocab;
    const int32_t sum = sti_sum_type(t);
    double *x = device_normal(t, n, 3, 1), *dx = device_normal(t, n, 1, 2);
    int32_t *target = malloc((size_t)rows * sizeof *target);
    for (int64_t i = 0; i < rows; i++) target[i] = (int32_t)sti_below(7, 1, (uint64_t)i, (uint64_t)vocab + 1) - 1;
    target[0] = (int32_t)vocab - 1;
    for (int64_t i = 0; i < n; i++) x[i] += i / vocab % 5 == 1 ? 256 : 0; /* far-off rows stay finite */
    device_round(t, x, n);
    double *old = malloc((size_t)n * sizeof *old), *lse = malloc((size_t)(rows + 1) * sizeof *lse);
    double *out = malloc((size_t)rows * 2 * sizeof *out), *scale = malloc((size_t)(n + 2 * rows) * sizeof *scale);
    memcpy(old, dx, (size_t)n * sizeof *old);
    void *px = device_put(d, t, x, n, 0), *pdx = device_put(d, t, mode == 1 ? dx : NULL, n, 0);
    void *plse = device_put(d, sum, NULL, rows + 1, 0), *pout = device_put(d, sum, NULL, 2 * rows, 0);
    int32_t *ptarget = device_put_i32(d, target, rows);
    CHECK_OK(sti_crossentropy_forward(d->cpu, STRATA_F64, rows, vocab, x, target, lse, out));
    sti_crossentropy_backward(d->cpu, STRATA_F64, rows, vocab, x, target, lse, dx, mode == 1);
    CHECK_OK(sti_crossentropy_forward(d->gpu, t, rows, vocab, px, ptarget, plse, pout));
    sti_crossentropy_backward(d->gpu, t, rows, vocab, px, ptarget, plse, mode == 2 ? px : pdx, mode == 1);
    double *gout = device_get(d, sum, pout, 2 * rows), *gdx = device_get(d, t, mode == 2 ? px : pdx, n);

    int counted = 0;
    for (int64_t i = 0; i < rows; i++) {
        counted += target[i] >= 0;
        /* the sum of exponentials carries sqrt(vocab) / 64 roundings on top: threads add 200 numbers, then a tree */
        scale[2 * i] = target[i] < 0 ? 0 : fabs(lse[i]) + fabs(x[i * vocab + target[i]]) + 8;
        scale[2 * i + 1] = 0;
    }
    device_near("loss", sum, gout, out, scale, 2 * rows, 8, 1);
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = i / vocab;
        const double p = exp(x[i] - lse[row]), hit = target[row] == i % vocab;
        /* p carries the rounding of x - lse, which f32 knows to eps |lse| */
        const double f32 = p * (8 + fabs(x[i]) + fabs(lse[row])) * (t == STRATA_BF16 ? 1e-4 : 1);
        scale[i] = (mode == 1) * fabs(old[i]) + (target[row] >= 0) * (f32 + p + hit) / counted;
    }
    device_near("dlogits", t, gdx, dx, scale, n, t == STRATA_BF16 ? 1 : 4, 1);
    device_drop(d, px, t, 0), device_drop(d, pdx, t, 0), device_drop(d, plse, sum, 0), device_drop(d, pout, sum, 0);
    sti_array_free(d->gpu, ptarget);
    free(x), free(dx), free(target), free(old), free(lse), free(out), free(scale), free(gout), free(gdx);
}

static void all(void)
{
    device d = device_open();
    for (size_t k = 0; k < STI_COUNT(types); k++)
        for (size_t i = 0; i < STI_COUNT(shapes); i++)
            for (int mode = 0; mode < 3; mode++) check(&d, types[k], &shapes[i], mode);
    device_close(&d);
}

TESTS(T(all))
