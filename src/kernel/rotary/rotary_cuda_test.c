/* The device's rotation against the oracle in f64: slices of every width, positions of many sequences, both ways. */
#include "kernel/rotary/rotary.h"

#include "support/device.h"

typedef struct shape {
    int64_t batch, time, heads;
    int32_t levels;
    int64_t rank[5];
} shape;

static const shape shapes[] = { { 1, 1, 1, 1, { 2 } },       { 2, 9, 3, 3, { 8, 4, 2 } },
                                { 3, 37, 12, 1, { 64 } },    { 2, 129, 5, 5, { 64, 16, 16, 16, 16 } },
                                { 300, 1, 4, 2, { 24, 8 } }, { 2, 2049, 12, 1, { 64 } } };
static const int32_t types[] = DEVICE_TYPES;

static void check(const device *d, int32_t t, const shape *s, int back, int add, int placed)
{
    int64_t width = 0, pos[512];
    for (int32_t l = 0; l < s->levels; l++) width += s->rank[l];
    for (int64_t b = 0; b < s->batch; b++) pos[b] = b * 7 % 97;
    const int64_t n = s->batch * s->time * s->heads * width, capacity = s->time + 97;
    double *x = device_normal(t, n, 1, 1), *y = device_normal(t, n, 1, 2), *scale = malloc((size_t)n * sizeof *scale);
    void *px = device_put(d, t, x, n, 0), *py = device_put(d, t, add ? y : NULL, n, 0);
    for (int64_t i = 0; i < n; i += width)
        for (int64_t l = 0, o = i; l < s->levels; o += s->rank[l], l++)
            for (int64_t k = 0, half = s->rank[l] / 2; k < half; k++) {
                const double size = fabs(x[o + k]) + fabs(x[o + k + half]);
                scale[o + k] = size + add * fabs(y[o + k]);
                scale[o + k + half] = size + add * fabs(y[o + k + half]);
            }
    sti_rotary *r, *rd;
    CHECK_OK(sti_rotary_create(d->cpu, STRATA_F64, s->levels, s->rank, 10000, capacity, &r));
    CHECK_OK(sti_rotary_create(d->gpu, t, s->levels, s->rank, 10000, capacity, &rd));
    const int64_t *at = placed ? pos : NULL;
    CHECK_OK(sti_rotary_apply(d->cpu, r, s->batch, s->time, s->heads, at, back, add, x, y));
    CHECK_OK(sti_rotary_apply(d->gpu, rd, s->batch, s->time, s->heads, at, back, add, px, py));
    double *got = device_get(d, t, py, n);
    device_near("rotated", t, got, y, scale, n, t == STRATA_BF16 ? 1 : 4, 1);
    if (!add) { /* in place */
        CHECK_OK(sti_rotary_apply(d->gpu, rd, s->batch, s->time, s->heads, at, back, add, px, px));
        double *again = device_get(d, t, px, n);
        CHECK(memcmp(again, got, (size_t)n * sizeof *got) == 0);
        free(again);
    }
    pos[0] = capacity - s->time + 1;
    CHECK_STATUS(sti_rotary_apply(d->gpu, rd, s->batch, s->time, s->heads, pos, back, add, px, py), STRATA_E_SPACE);
    sti_rotary_destroy(r);
    sti_rotary_destroy(rd);
    device_drop(d, px, t, 0), device_drop(d, py, t, 0);
    free(x), free(y), free(scale), free(got);
}

static void all(void)
{
    device d = device_open();
    for (size_t k = 0; k < STI_COUNT(types); k++)
        for (size_t i = 0; i < STI_COUNT(shapes); i++)
            for (int mode = 0; mode < 4; mode++) check(&d, types[k], &shapes[i], mode & 1, mode >> 1, (int)(i % 2));
    device_close(&d);
}

static int32_t stage(sti_graph *g, int32_t in)
{
    static const int64_t rank[] = { 16, 8 };
    return sti_graph_rotary(g, "rotary", 2, rank, 10000, in);
}

static void stages(void)
{
    device d = device_open();
    for (int residual = 0; residual < 2; residual++)
        device_check(&d,
                     &(device_graph){
                         .name = "rotary", .build = stage, .batch = 3, .time = 37, .width = 72, .residual = residual });
    device_close(&d);
}

TESTS(T(all), T(stages))
