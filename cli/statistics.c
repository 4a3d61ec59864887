/* Student's t, Welch's interval, curves. */
#include "statistics.h"

#include <float.h>
#include <math.h>

sample sample_of(const double *x, int n)
{
    const double nan = (double)NAN;
    sample s = { n, nan, nan, nan, nan };
    if (n < 1) return s;
    double sum = 0, squares = 0;
    s.min = s.max = x[0];
    for (int i = 0; i < n; i++) {
        sum += x[i];
        s.min = fmin(s.min, x[i]);
        s.max = fmax(s.max, x[i]);
    }
    s.mean = sum / n;
    for (int i = 0; i < n; i++) squares += (x[i] - s.mean) * (x[i] - s.mean);
    if (n > 1) s.sd = sqrt(squares / (n - 1));
    return s;
}

/* ---- Student's t ------------------------------------------------------------------------------------------------ */
/* The continued fraction of the incomplete beta function (DLMF 8.17.22), by the modified method of Lentz; it converges
 * quickly for x < (a + 1)/(a + b + 2). */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    if (fabs(d) < tiny) d = tiny;
    d = 1 / d;
    double f = d;
    for (int m = 1; m < 100000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double step = 1;
        for (int k = 0; k < 2; k++) {
            double e = k ? odd : even;
            d = 1 + e * d;
            c = 1 + e / c;
            if (fabs(d) < tiny) d = tiny;
            if (fabs(c) < tiny) c = tiny;
            d = 1 / d;
            step = c * d;
            f *= step;
        }
        if (fabs(step - 1) < 4 * DBL_EPSILON) break;
    }
    return f;
}

/* I_x(a, b), with y = 1 - x given apart: near 1, x has no digits left for it. */
static double incomplete_beta(double a, double b, double x, double y)
{
    if (x <= 0 || y <= 0) return x <= 0 ? 0 : 1;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(y));
    if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, y) / b;
}

double student_cdf(double t, double dof)
{
    double beyond = 0.5 * incomplete_beta(0.5 * dof, 0.5, dof / (dof + t * t), t * t / (dof + t * t));
    return t > 0 ? 1 - beyond : beyond;
}

double student_quantile(double p, double dof)
{
    if (p < 0.5) return -student_quantile(1 - p, dof);
    double low = 0, high = 1;
    while (student_cdf(high, dof) < p && high < 1e300) high *= 2;
    for (int i = 0; i < 200; i++) { /* the distribution function rises everywhere: halving cannot fail */
        double mid = 0.5 * (low + high);
        if (student_cdf(mid, dof) < p)
            low = mid;
        else
            high = mid;
    }
    return 0.5 * (low + high);
}

/* ---- differences ------------------------------------------------------------------------------------------------ */
bool welch_interval(const sample *a, const sample *b, double level, welch *out)
{
    const double nan = (double)NAN;
    *out = (welch){ b->mean - a->mean, nan, nan, nan };
    if (a->n < 2 || b->n < 2) return false;
    double va = a->sd * a->sd / a->n, vb = b->sd * b->sd / b->n, v = va + vb;
    double dof = a->n + b->n - 2;
    if (v > 0) dof = v * v / (va * va / (a->n - 1) + vb * vb / (b->n - 1));
    double half = student_quantile(0.5 + 0.5 * level, dof) * sqrt(v);
    out->dof = dof;
    out->low = out->difference - half;
    out->high = out->difference + half;
    return true;
}

/* ---- curves ----------------------------------------------------------------------------------------------------- */
double curve_at(const double *x, const double *y, int n, double x0)
{
    for (int i = 0; i < n; i++) {
        if (x[i] < x0) continue;
        if (x[i] <= x0) return y[i];
        if (i == 0) break;
        double t = log(x0 / x[i - 1]) / log(x[i] / x[i - 1]);
        return y[i - 1] + t * (y[i] - y[i - 1]);
    }
    return (double)NAN;
}

/* ---- equal amounts ---------------------------------------------------------------------------------------------- */
double common_amount(const loss_curve *const *run, int n, amount a)
{
    double common = (double)NAN;
    for (int i = 0; i < n; i++)
        if (run[i]->n && !run[i]->still) common = fmin(common, run[i]->x[a][run[i]->n - 1]); /* of NaN and x: x */
    return common;
}

sample losses_at(const loss_curve *const *run, int n, amount a, double at, double *value)
{
    int m = 0;
    for (int i = 0; i < n; i++) {
        const loss_curve *c = run[i];
        const double v = c->still && c->n ? c->loss[c->n - 1] : curve_at(c->x[a], c->loss, c->n, at);
        if (isfinite(v)) value[m++] = v;
    }
    return sample_of(value, m);
}
