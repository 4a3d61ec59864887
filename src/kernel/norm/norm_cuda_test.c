/* The device's norms against the oracle in f64: every way a row can be cut among threads, strided rows, odd widths. */
#include "kernel/norm/norm.h"

#include "support/device.h"

typedef struct shape {
    int64_t rows, width, stride;
} shape;

static const shape shapes[] = { { 1, 1, 1 },        { 3, 3, 3 },        { 37, 37, 37 },      { 129, 129, 131 },
                                { 1001, 16, 64 },   { 333, 64, 64 },    { 77, 128, 130 },    { 203, 256, 256 },
                                { 129, 512, 512 },  { 5003, 768, 768 }, { 129, 1024, 1024 }, { 37, 1536, 1536 },
                                { 37, 2048, 2056 }, { 19, 3072, 3072 }, { 7, 4096, 4096 },   { 3, 8192, 8192 },
                                { 3, 9000, 9000 } };
static const int32_t types[] = DEVICE_TYPES;

typedef struct arrays {
    double *x, *dy, *old, *gain, *bias, *y, *stat, *dx, *dgain, *dbias, *scale;
} arrays;

/* Bounds: with h = (x - mean) rstd and its size H = (|x| + mean |x|) rstd, y is good to H |gain| + |bias|, dx to
 * rstd (|g| + mean |g| + H mean(|g| H)), g = dy gain; sums over a row add sqrt(width) in the worst case. */
static void forward_scale(const sti_norm *n, const shape *s, const arrays *a, int64_t i, double *scale)
{
    const double *x = a->x + i * s->stride;
    double size = 0;
    for (int64_t j = 0; j < s->width; j++) size += n->center ? fabs(x[j]) / (double)s->width : 0;
    for (int64_t j = 0; j < s->width; j++)
        scale[j] = (fabs(x[j]) + size) * a->stat[2 * i + 1] * fabs(a->gain[j]) + (n->bias ? fabs(a->bias[j]) : 0);
}

static void backward_scale(const sti_norm *n, const shape *s, const arrays *a, int64_t i, int acc, double *scale)
{
    const double *x = a->x + i * s->stride, *dy = a->dy + i * s->stride, *old = a->old + i * s->stride;
    const double rstd = a->stat[2 * i + 1], w = (double)s->width;
    double size = 0, p = 0, q = 0;
    for (int64_t j = 0; j < s->width; j++) size += n->center ? fabs(x[j]) / w : 0;
    for (int64_t j = 0; j < s->width; j++) {
        const double g = fabs(dy[j] * a->gain[j]);
        p += g / w;
        q += g * (fabs(x[j]) + size) * rstd / w;
    }
    for (int64_t j = 0; j < s->width; j++) {
        const double h = (fabs(x[j]) + size) * rstd;
        scale[j] = acc * fabs(old[j]) + rstd * (fabs(dy[j] * a->gain[j]) + (n->center ? p : 0) + h * q);
    }
}

/* Only the columns of the norm are compared; what lies between them keeps its NaN. */
static void compare(const char *what, int32_t t, const shape *s, double *got, const double *ref, const double *scale,
                    double c)
{
    char text[96];
    snprintf(text, sizeof text, "%s of %lld x %lld", what, (long long)s->rows, (long long)s->width);
    double *g = malloc((size_t)(s->rows * s->width) * sizeof *g), *r = malloc((size_t)(s->rows * s->width) * sizeof *r);
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t j = 0; j < s->stride; j++) {
            if (j >= s->width) {
                CHECK(isnan(got[i * s->stride + j]));
                continue;
            }
            g[i * s->width + j] = got[i * s->stride + j];
            r[i * s->width + j] = ref[i * s->stride + j];
        }
    device_near(text, t, g, r, scale, s->rows * s->width, c, 1);
    free(g), free(r);
}

static void check(const device *d, int32_t t, const shape *s, const sti_norm *n, int acc)
{
    const int64_t count = s->rows * s->stride, w = s->width;
    const int32_t sum = sti_sum_type(t);
    const double c = t == STRATA_BF16 ? 1 : 16;
    arrays a = { .x = device_normal(t, count, 2, 1),
                 .dy = device_normal(t, count, 1, 2),
                 .old = device_normal(t, count, 1, 3),
                 .gain = device_normal(sum, w, 1, 4),
                 .bias = device_normal(sum, w, 1, 5),
                 .dgain = device_normal(sum, w, 1, 6),
                 .dbias = device_normal(sum, w, 1, 7) };
    a.y = calloc((size_t)count, sizeof(double));
    a.dx = calloc((size_t)count, sizeof(double));
    a.stat = calloc((size_t)s->rows * 2, sizeof(double));
    a.scale = calloc((size_t)(s->rows * w), sizeof(double));
    memcpy(a.dx, a.old, (size_t)count * sizeof(double));
    /* between the columns of the norm the device's outputs hold NaN */
    double *hole = malloc((size_t)count * sizeof *hole);
    for (int64_t i = 0; i < count; i++) hole[i] = acc && i % s->stride < w ? a.old[i] : (double)NAN;

    void *x = device_put(d, t, a.x, count, 0), *dy = device_put(d, t, a.dy, count, 0);
    void *y = device_put(d, t, NULL, count, 0), *dx = device_put(d, t, hole, count, 0);
    void *gain = device_put(d, sum, a.gain, w, 0), *bias = device_put(d, sum, a.bias, w, 0);
    void *stat = device_put(d, sum, NULL, 2 * s->rows, 0), *work, *cpu_work;
    void *dgain = device_put(d, sum, a.dgain, w, 0), *dbias = device_put(d, sum, a.dbias, w, 0);
    void *dgain2 = device_put(d, sum, a.dgain, w, 0), *dbias2 = device_put(d, sum, a.dbias, w, 0);
    double *first_dgain = malloc((size_t)w * sizeof(double)), *first_dbias = malloc((size_t)w * sizeof(double));
    memcpy(first_dgain, a.dgain, (size_t)w * sizeof(double));
    memcpy(first_dbias, a.dbias, (size_t)w * sizeof(double));
    CHECK_OK(sti_array_calloc(d->gpu, 1, sti_norm_work(d->gpu, w), &work));
    CHECK_OK(sti_array_calloc(d->cpu, 1, sti_norm_work(d->cpu, w), &cpu_work));

    sti_norm_forward(d->cpu, STRATA_F64, n, s->rows, a.x, a.gain, a.bias, a.y, a.stat);
    sti_norm_backward(d->cpu, STRATA_F64, n, s->rows, a.x, a.gain, a.stat, a.dy, a.dx, acc, a.dgain,
                      n->bias ? a.dbias : NULL, cpu_work);
    sti_norm_forward(d->gpu, t, n, s->rows, x, gain, bias, y, stat);
    sti_norm_backward(d->gpu, t, n, s->rows, x, gain, stat, dy, dx, acc, dgain, n->bias ? dbias : NULL, work);
    sti_norm_backward(d->gpu, t, n, s->rows, x, gain, stat, dy, NULL, 0, dgain2, n->bias ? dbias2 : NULL, work);

    double *gy = device_get(d, t, y, count), *gdx = device_get(d, t, dx, count);
    double *gdgain = device_get(d, sum, dgain, w), *gdbias = device_get(d, sum, dbias, w);
    double *again = device_get(d, sum, dgain2, w), *again_bias = device_get(d, sum, dbias2, w);
    CHECK(memcmp(gdgain, again, (size_t)w * sizeof *again) == 0);
    CHECK(memcmp(gdbias, again_bias, (size_t)w * sizeof *again) == 0);
    for (int64_t i = 0; i < s->rows; i++) forward_scale(n, s, &a, i, a.scale + i * w);
    compare("y", t, s, gy, a.y, a.scale, c);
    for (int64_t i = 0; i < s->rows; i++) backward_scale(n, s, &a, i, acc, a.scale + i * w);
    compare("dx", t, s, gdx, a.dx, a.scale, c);
    for (int64_t j = 0; j < w; j++) {
        a.scale[j] = fabs(first_dgain[j]);
        for (int64_t i = 0; i < s->rows; i++) {
            double size = 0;
            if (n->center && j == 0)
                for (int64_t k = 0; k < w; k++) size += fabs(a.x[i * s->stride + k]) / (double)w;
            if (j == 0) a.y[i * s->stride] = size; /* y is done with: keep the sizes there */
            a.scale[j] +=
                fabs(a.dy[i * s->stride + j]) * (fabs(a.x[i * s->stride + j]) + a.y[i * s->stride]) * a.stat[2 * i + 1];
        }
    }
    device_near("dgain", sum, gdgain, a.dgain, a.scale, w, 8, 1);
    for (int64_t j = 0; j < w; j++) {
        a.scale[j] = fabs(first_dbias[j]);
        for (int64_t i = 0; i < s->rows && n->bias; i++) a.scale[j] += fabs(a.dy[i * s->stride + j]);
    }
    device_near("dbias", sum, gdbias, a.dbias, a.scale, w, 8, 1);

    void *const on_device[] = { x, dy, y, dx, gain, bias, stat, work, dgain, dbias, dgain2, dbias2 };
    for (size_t i = 0; i < STI_COUNT(on_device); i++) sti_array_free(d->gpu, on_device[i]);
    sti_array_free(d->cpu, cpu_work);
    double *const on_host[] = {
        a.x,     a.dy, a.old, a.gain, a.bias, a.y,   a.stat,     a.dx, a.dgain,     a.dbias,
        a.scale, gy,   gdx,   gdgain, gdbias, again, again_bias, hole, first_dgain, first_dbias
    };
    for (size_t i = 0; i < STI_COUNT(on_host); i++) free(on_host[i]);
}

static void all(void)
{
    device d = device_open();
    for (size_t k = 0; k < STI_COUNT(types); k++)
        for (size_t i = 0; i < STI_COUNT(shapes); i++)
            for (int kind = 0; kind < 4; kind++) {
                const sti_norm n = { shapes[i].width, shapes[i].stride, kind == 3 ? 0.5 : 1e-5, kind < 2,
                                     kind % 2 == 0 };
                check(&d, types[k], &shapes[i], &n, (int)(i + (size_t)kind) % 2);
            }
    device_close(&d);
}

/* The norm of a sum is bit for bit the sum, rounded, and then its norm. */
static void of_a_sum(void)
{
    device d = device_open();
    for (size_t k = 0; k < STI_COUNT(types); k++)
        for (size_t i = 0; i < STI_COUNT(shapes); i++) {
            const shape *s = &shapes[i];
            const int32_t t = types[k], sums = sti_sum_type(t);
            const int64_t count = s->rows * s->width;
            const sti_norm n = { s->width, 0, 1e-5, i % 2 == 0, i % 3 == 0 };
            double *a = device_normal(t, count, 1, 11), *b = device_normal(t, count, 1, 12),
                   *gain = device_normal(sums, s->width, 1, 13), *bias = device_normal(sums, s->width, 1, 14);
            void *da = device_put(&d, t, a, count, 0), *db = device_put(&d, t, b, count, 0),
                 *dg = device_put(&d, sums, gain, s->width, 0), *dbias = device_put(&d, sums, bias, s->width, 0);
            void *x = device_put(&d, t, NULL, count, 0), *y = device_put(&d, t, NULL, count, 0),
                 *y2 = device_put(&d, t, NULL, count, 0), *stat = device_put(&d, sums, NULL, 2 * s->rows, 0),
                 *stat2 = device_put(&d, sums, NULL, 2 * s->rows, 0);
            sti_norm_sum_forward(d.gpu, t, &n, s->rows, da, db, x, dg, dbias, y, stat);
            sti_norm_forward(d.gpu, t, &n, s->rows, x, dg, dbias, y2, stat2);
            double *gx = device_get(&d, t, x, count), *gy = device_get(&d, t, y, count),
                   *gy2 = device_get(&d, t, y2, count), *gs = device_get(&d, sums, stat, 2 * s->rows),
                   *gs2 = device_get(&d, sums, stat2, 2 * s->rows);
            const double eps = t == STRATA_BF16 ? 0x1p-8 : t == STRATA_F32 ? 0x1p-23 : 0x1p-52;
            for (int64_t j = 0; j < count; j++) CHECK(fabs(gx[j] - (a[j] + b[j])) <= eps * fabs(a[j] + b[j]));
            CHECK(memcmp(gy, gy2, (size_t)count * sizeof *gy) == 0);
            CHECK(memcmp(gs, gs2, (size_t)s->rows * 2 * sizeof *gs) == 0);
            void *const on_device[] = { da, db, dg, dbias, x, y, y2, stat, stat2 };
            double *const on_host[] = { a, b, gain, bias, gx, gy, gy2, gs, gs2 };
            for (size_t j = 0; j < STI_COUNT(on_device); j++) sti_array_free(d.gpu, on_device[j]);
            for (size_t j = 0; j < STI_COUNT(on_host); j++) free(on_host[j]);
        }
    device_close(&d);
}

/* As a stage: parameters from the masters, gradients into f32, statistics in f32; slices of heads. */
static int32_t layer_norm(sti_graph *g, int32_t in)
{
    const sti_norm n = { 48, 0, 1e-5, true, true };
    return sti_graph_norm(g, "norm", &n, in);
}
static int32_t slices(sti_graph *g, int32_t in)
{
    static const int64_t width[] = { 16, 5, 3 };
    const sti_norm n = { 0, 0, 1e-5, false, false };
    return sti_graph_norm_slices(g, "norm", &n, 3, width, in);
}

static void stages(void)
{
    device d = device_open();
    for (int residual = 0; residual < 2; residual++) {
        device_check(
            &d, &(device_graph){
                    .name = "norm", .build = layer_norm, .batch = 3, .time = 37, .width = 48, .residual = residual });
        device_check(
            &d,
            &(device_graph){
                .name = "sliced norm", .build = slices, .batch = 3, .time = 37, .width = 48, .residual = residual });
    }
    device_close(&d);
}

TESTS(T(all), T(of_a_sum), T(stages))
