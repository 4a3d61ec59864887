/* Squared singular values: the Gram matrix, Householder's reduction to three diagonals, and all eigenvalues at once by
 * halving intervals, with Sturm's count of the eigenvalues below their middles. */

#include "train/spectrum.h"

#include <math.h>
#include <string.h>

size_t sti_ranks_work(int64_t n)
{
    return (size_t)(n * n + 6 * n);
}

/* g = s s^T */
static void gram(int64_t n, const double *s, double *g)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t k = 0; k < n; k++) sum += s[i * n + k] * s[j * n + k];
            g[i * n + j] = g[j * n + i] = sum;
        }
}

/* Symmetric a to diagonal d and the squares e of what stands beside it (e[i] between i and i + 1); a is used up. v, w:
 * room for n. */
static void tridiagonal(int64_t n, double *a, double *d, double *e, double *v, double *w)
{
    for (int64_t k = 0; k < n; k++) {
        double length = 0, dot = 0;
        d[k] = a[k * n + k];
        e[k] = 0;
        if (k + 1 == n) break;
        for (int64_t i = k + 1; i < n; i++) length += a[k * n + i] * a[k * n + i];
        e[k] = length;
        if (k + 2 == n || !(length > 0)) continue;
        memcpy(v + k + 1, a + k * n + k + 1, (size_t)(n - k - 1) * sizeof *v);
        v[k + 1] += copysign(sqrt(length), v[k + 1]);
        const double beta = 1 / (length + fabs(a[k * n + k + 1]) * sqrt(length)); /* 2 / |v|^2 */
        for (int64_t i = k + 1; i < n; i++) {
            double sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t j = k + 1; j < n; j++) sum += a[i * n + j] * v[j];
            w[i] = beta * sum;
            dot += v[i] * w[i];
        }
        for (int64_t i = k + 1; i < n; i++) w[i] -= 0.5 * beta * dot * v[i];
        for (int64_t i = k + 1; i < n; i++)
            for (int64_t j = k + 1; j < n; j++) a[i * n + j] -= v[i] * w[j] + w[i] * v[j];
    }
}

/* All eigenvalues, ascending, into low. high, q, count: room for n. */
static void eigenvalues(int64_t n, const double *d, const double *e, double *low, double *high, double *q,
                        double *count)
{
    double bound = 0;
    for (int64_t i = 0; i < n; i++) /* Gershgorin */
        bound = STI_MAX(bound, fabs(d[i]) + sqrt(e[i]) + (i > 0 ? sqrt(e[i - 1]) : 0));
    for (int64_t k = 0; k < n; k++) {
        low[k] = -bound;
        high[k] = bound;
    }
    for (int half = 0; half < 46; half++) {
        for (int64_t k = 0; k < n; k++) {
            q[k] = 1;
            count[k] = 0;
        }
        for (int64_t i = 0; i < n; i++) {
            const double di = d[i], before = i > 0 ? e[i - 1] : 0, tiny = 1e-300 + 1e-18 * bound;
#pragma omp simd
            for (int64_t k = 0; k < n; k++) {
                double x = di - 0.5 * (low[k] + high[k]) - before / q[k];
                x = fabs(x) < tiny ? -tiny : x;
                count[k] += x < 0 ? 1 : 0;
                q[k] = x;
            }
        }
        for (int64_t k = 0; k < n; k++) {
            const double mid = 0.5 * (low[k] + high[k]);
            if (count[k] > (double)k)
                high[k] = mid;
            else
                low[k] = mid;
        }
    }
}

sti_ranks sti_ranks_of(int64_t n, const double *s, double *work)
{
    double *g = work, *d = g + n * n, *e = d + n, *v = e + n, *w = v + n, *low = w + n, *high = low + n;
    double sum = 0, part = 0, entropy = 0;
    gram(n, s, g);
    tridiagonal(n, g, d, e, v, w);
    eigenvalues(n, d, e, low, high, v, w);
    const double least = 1e-12 * low[n - 1];
    for (int64_t k = 0; k < n; k++)
        if (low[k] > least) sum += low[k];
    if (!(sum > 0)) return (sti_ranks){ NAN, NAN };
    int64_t rank = 0;
    for (int64_t k = n - 1; k >= 0 && part < 0.99 * sum; k--, rank++) part += low[k];
    for (int64_t k = 0; k < n; k++)
        if (low[k] > least) entropy -= low[k] / sum * log(low[k] / sum);
    return (sti_ranks){ (double)rank, exp(entropy) };
}
