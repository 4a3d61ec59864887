#include "task/regression/baselines.h"

#include <math.h>
#include <string.h>

#include "backend/cpu/threads.h"

/* ---- least squares, one example after the other ------------------------------------------------------------- */

/* R'R = X'X (+ lambda I), R upper triangular, and z = Q'y: an orthogonal factorisation that grows by a row. */
typedef struct triangle {
    int64_t dims;
    double *r, *z;
} triangle;

static void triangle_add(const triangle *t, double *row, double y)
{
    const int64_t d = t->dims;
    for (int64_t j = 0; j < d; j++) {
        double *r = t->r + j * d;
        const double length = hypot(r[j], row[j]);
        if (!(length > 0)) continue;
        const double c = r[j] / length, s = row[j] / length, z = t->z[j];
        for (int64_t k = j; k < d; k++) {
            const double a = r[k], b = row[k];
            r[k] = c * a + s * b;
            row[k] = c * b - s * a;
        }
        t->z[j] = c * z + s * y;
        y = c * y - s * z;
    }
}

static void triangle_solve(const triangle *t, double *w)
{
    const int64_t d = t->dims;
    for (int64_t j = d; j-- > 0;) {
        const double *r = t->r + j * d;
        double sum = t->z[j];
        for (int64_t k = j + 1; k < d; k++) sum -= r[k] * w[k];
        w[j] = sum / r[j];
    }
}

static double dot(int64_t n, const double *a, const double *b)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* The shortest w that fits n <= dims examples: go on from the one that fits n - 1 along what is new in x. Rows of q are
 * orthonormal. */
static void shortest_add(int64_t d, int64_t n, double *q, const double *x, double y, double *w)
{
    double *new = q + (n - 1) * d;
    memcpy(new, x, (size_t)d * sizeof *new);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < n - 1; i++) {
            const double c = dot(d, q + i * d, new);
            for (int64_t j = 0; j < d; j++) new[j] -= c *q[i * d + j];
        }
    const double length = sqrt(dot(d, new, new)), step = (y - dot(d, x, w)) / length;
    for (int64_t j = 0; j < d; j++) {
        new[j] /= length;
        w[j] += new[j] * step;
    }
}

/* ---- one problem -------------------------------------------------------------------------------------------- */
typedef struct bench {
    const sti_regression *r;
    const double *eta; /* the gradient step of every point */
    double ridge;
    float *x, *y; /* (points, dims), (points) */
    double *row, *copy, *q, *least, *shrunk, *sum;
    triangle ols, reg;
    double *error; /* (STI_BASELINES, points) of this problem */
} bench;

static size_t bench_doubles(const sti_regression *r)
{
    const size_t d = (size_t)r->dims, n = (size_t)r->points;
    return (n * d + n) / 2 + 1 + 7 * d + 3 * d * d + STI_BASELINES * n;
}

static double *carve(double **at, size_t n)
{
    double *p = *at;
    *at += n;
    return p;
}

static bench bench_of(const sti_regression *r, double ridge, const double *eta, double *memory)
{
    const size_t d = (size_t)r->dims, n = (size_t)r->points;
    bench b = { .r = r, .eta = eta, .ridge = ridge };
    b.error = carve(&memory, STI_BASELINES * n);
    b.row = carve(&memory, d);
    b.copy = carve(&memory, d);
    b.least = carve(&memory, d);
    b.shrunk = carve(&memory, d);
    b.sum = carve(&memory, d);
    b.q = carve(&memory, d * d);
    b.ols = (triangle){ r->dims, carve(&memory, d * d), carve(&memory, d) };
    b.reg = (triangle){ r->dims, carve(&memory, d * d), carve(&memory, d) };
    b.x = (float *)memory;
    b.y = b.x + n * d;
    return b;
}

static void bench_reset(bench *b)
{
    const size_t d = (size_t)b->r->dims;
    memset(b->least, 0, d * sizeof(double));
    memset(b->shrunk, 0, d * sizeof(double));
    memset(b->sum, 0, d * sizeof(double));
    memset(b->ols.r, 0, d * d * sizeof(double));
    memset(b->ols.z, 0, d * sizeof(double));
    memset(b->reg.r, 0, d * d * sizeof(double));
    memset(b->reg.z, 0, d * sizeof(double));
    for (size_t j = 0; j < d; j++) b->reg.r[j * d + j] = sqrt(b->ridge);
}

static double square(double x)
{
    return x * x;
}

/* Squared errors at every point, predicted from the points before it. */
static void bench_run(bench *b, uint64_t seed, uint64_t problem)
{
    const int64_t d = b->r->dims, n = b->r->points;
    double *e = b->error;
    sti_regression_draw(b->r, seed, STI_REGRESSION_EVAL, problem, d, n, b->x, d, b->y, 1);
    bench_reset(b);
    for (int64_t i = 0; i < n; i++) {
        const double y = (double)b->y[i];
        for (int64_t j = 0; j < d; j++) b->row[j] = (double)b->x[i * d + j];
        e[STI_BASE_ZERO * n + i] = y * y;
        e[STI_BASE_OLS * n + i] = square(dot(d, b->row, b->least) - y);
        e[STI_BASE_RIDGE * n + i] = square(dot(d, b->row, b->shrunk) - y);
        e[STI_BASE_STEP * n + i] = square(b->eta[i] * dot(d, b->row, b->sum) - y);
        if (i + 1 == n) break;
        for (int64_t j = 0; j < d; j++) b->sum[j] += y * b->row[j];
        if (i < d) shortest_add(d, i + 1, b->q, b->row, y, b->least);
        memcpy(b->copy, b->row, (size_t)d * sizeof(double));
        triangle_add(&b->ols, b->copy, y);
        if (i >= d) triangle_solve(&b->ols, b->least);
        if (!(b->ridge > 0)) continue;
        triangle_add(&b->reg, b->row, y);
        triangle_solve(&b->reg, b->shrunk);
    }
}

strata_status sti_regression_baselines(const strata_context *ctx, const sti_regression *r, double ridge, uint64_t seed,
                                       int64_t count, double *mean)
{
    enum { GROUP = 64 }; /* problems whose errors are kept before they are added up, in order */
    const int threads = sti_threads(ctx);
    const size_t each = bench_doubles(r), width = STI_BASELINES * (size_t)r->points;
    double *work = sti_heap((size_t)threads * each * sizeof *work), *errors = sti_heap(GROUP * width * sizeof *errors),
           *eta = sti_heap((size_t)r->points * sizeof *eta);
    strata_status st = STRATA_OK;
    if (!work || !errors || !eta) {
        st = sti_fail(STRATA_E_MEMORY, "no memory for the baselines of %lld dimensions", (long long)r->dims);
        goto out;
    }
    for (int64_t i = 0; i < r->points; i++) eta[i] = sti_regression_step(r, i);
    memset(mean, 0, width * sizeof *mean);
    for (int64_t first = 0; first < count; first += GROUP) {
        const int64_t n = STI_MIN(GROUP, count - first);
#pragma omp parallel for num_threads(threads)
        for (int64_t t = 0; t < threads; t++) {
            bench b = bench_of(r, ridge, eta, work + (size_t)t * each);
            for (int64_t k = t; k < n; k += threads) {
                b.error = errors + (size_t)k * width;
                bench_run(&b, seed, (uint64_t)(first + k));
            }
        }
        for (int64_t k = 0; k < n; k++)
            for (size_t i = 0; i < width; i++) mean[i] += errors[(size_t)k * width + i] / (double)count;
    }
    if (!(ridge > 0))
        for (int64_t i = 0; i < r->points; i++) mean[STI_BASE_RIDGE * r->points + i] = (double)NAN;
out:
    sti_heap_free(work);
    sti_heap_free(errors);
    sti_heap_free(eta);
    return st;
}

/* ---- closed forms ------------------------------------------------------------------------------------------- */
double sti_regression_step(const sti_regression *r, int64_t n)
{
    double v[STI_REGRESSION_DIMS], two = 0, three = 0;
    sti_regression_spectrum(r, r->dims, v);
    for (int64_t j = 0; j < r->dims; j++) {
        two += v[j] * v[j];
        three += v[j] * v[j] * v[j];
    }
    return two / ((double)(n + 1) * three + two + r->noise * r->noise * two);
}

static double ols(const sti_regression *r, int64_t n)
{
    const double noise = r->noise * r->noise, d = (double)r->dims, k = (double)n;
    if (n >= r->dims) return noise > 0 ? n > r->dims + 1 ? noise * d / (k - d - 1) : (double)INFINITY : 0;
    if (n == 0) return 1;
    if (r->decay > 0) return (double)NAN;
    if (!(noise > 0)) return (d - k) / d;
    return n < r->dims - 1 ? (d - k) / d + noise * k / (d - k - 1) : (double)INFINITY;
}

/* s = trace of V (lambda I + n V / (1 + s))^-1, the large-dimension value of tr V (X'X + lambda I)^-1, by bisection;
 * with its derivative for the squared bias. */
static double ridge_error(const sti_regression *r, double lambda, int64_t n)
{
    double v[STI_REGRESSION_DIMS], low = 0, high = 1 / lambda, num = 0, den = 0;
    if (!(lambda > 0)) return (double)NAN;
    sti_regression_spectrum(r, r->dims, v);
    for (int i = 0; i < 200; i++) {
        const double s = (low + high) / 2, c = (double)n / (1 + s);
        double sum = 0;
        for (int64_t j = 0; j < r->dims; j++) sum += v[j] / (lambda + c * v[j]);
        if (sum > s)
            low = s;
        else
            high = s;
    }
    const double s = (low + high) / 2, c = (double)n / (1 + s);
    for (int64_t j = 0; j < r->dims; j++) {
        const double g = lambda + c * v[j];
        num += v[j] / (g * g);
        den += v[j] * v[j] / (g * g);
    }
    const double q = num / (1 - (double)n / ((1 + s) * (1 + s)) * den); /* -ds/dlambda */
    return lambda * lambda * q + r->noise * r->noise * (s - lambda * q);
}

void sti_regression_theory(const sti_regression *r, double ridge, int64_t n, double error[STI_BASELINES])
{
    double v[STI_REGRESSION_DIMS], two = 0;
    const double noise = r->noise * r->noise;
    sti_regression_spectrum(r, r->dims, v);
    for (int64_t j = 0; j < r->dims; j++) two += v[j] * v[j];
    error[STI_BASE_ZERO] = noise + 1;
    error[STI_BASE_OLS] = noise + ols(r, n);
    error[STI_BASE_RIDGE] = noise + ridge_error(r, ridge, n);
    error[STI_BASE_STEP] = noise + 1 - (double)n * sti_regression_step(r, n) * two;
}
