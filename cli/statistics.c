/* Student's t, Welch's interval, curves, power laws. */
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

/* ---- power laws ------------------------------------------------------------------------------------------------- */
double power_at(const power_law *p, double x)
{
    return p->floor + p->factor * pow(x, -p->exponent);
}

static int different(const double *x, int n)
{
    int count = 0;
    for (int i = 0; i < n; i++) {
        bool seen = false;
        for (int k = 0; k < i; k++) seen = seen || (x[k] >= x[i] && x[k] <= x[i]);
        count += !seen;
    }
    return count;
}

static bool positive(const double *x, const double *y, int n)
{
    for (int i = 0; i < n; i++)
        if (!(x[i] > 0) || !(y[i] > 0) || !isfinite(x[i]) || !isfinite(y[i])) return false;
    return true;
}

bool fit_power(const double *x, const double *y, int n, power_law *out)
{
    double mx = 0, my = 0, sxx = 0, sxy = 0, rss = 0;
    if (!positive(x, y, n) || different(x, n) < 3) return false;
    for (int i = 0; i < n; i++) {
        mx += log(x[i]) / n;
        my += log(y[i]) / n;
    }
    for (int i = 0; i < n; i++) {
        sxx += (log(x[i]) - mx) * (log(x[i]) - mx);
        sxy += (log(x[i]) - mx) * (log(y[i]) - my);
    }
    const double slope = sxy / sxx;
    for (int i = 0; i < n; i++) {
        const double off = log(y[i]) - my - slope * (log(x[i]) - mx);
        rss += off * off;
    }
    *out = (power_law){ .factor = exp(my - slope * mx),
                        .exponent = -slope,
                        .exponent_error = sqrt(rss / (n - 2) / sxx),
                        .t = student_quantile(0.975, n - 2) };
    return true;
}

/* The best floor and factor for an exponent, x in units of `unit`. @return sum of squared relative residuals */
static double fit_linear(const double *x, const double *y, int n, double unit, double exponent, power_law *p)
{
    double s11 = 0, s12 = 0, s22 = 0, b1 = 0, b2 = 0, rss = 0;
    for (int i = 0; i < n; i++) {
        const double one = 1 / y[i], u = pow(x[i] / unit, -exponent) / y[i];
        s11 += one * one;
        s12 += one * u;
        s22 += u * u;
        b1 += one;
        b2 += u;
    }
    const double det = s11 * s22 - s12 * s12;
    p->exponent = exponent;
    p->floor = (s22 * b1 - s12 * b2) / det;
    p->factor = (s11 * b2 - s12 * b1) / det;
    for (int i = 0; i < n; i++) {
        const double off = 1 - (p->floor + p->factor * pow(x[i] / unit, -exponent)) / y[i];
        rss += off * off;
    }
    return rss;
}

/* Entry (k, k) of the inverse of a symmetric 3 x 3 matrix. */
static double inverse_at(double m[3][3], int k)
{
    const int i = k == 0 ? 1 : 0, j = k == 2 ? 1 : 2;
    const double det = m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[1][2]) -
                       m[0][1] * (m[0][1] * m[2][2] - m[1][2] * m[0][2]) +
                       m[0][2] * (m[0][1] * m[1][2] - m[1][1] * m[0][2]);
    return (m[i][i] * m[j][j] - m[i][j] * m[i][j]) / det;
}

bool fit_power_floor(const double *x, const double *y, int n, power_law *out)
{
    enum { GRID = 120 };
    const double least = 1e-3, ratio = pow(1e4, 1.0 / GRID);
    double unit = 0, best = (double)INFINITY;
    int at = -1;
    power_law p = { 0 };
    if (!positive(x, y, n) || different(x, n) < 4) return false;
    for (int i = 0; i < n; i++) unit += log(x[i]) / n;
    unit = exp(unit);
    for (int k = 0; k <= GRID; k++) {
        const double rss = fit_linear(x, y, n, unit, least * pow(ratio, k), &p);
        if (rss < best) {
            best = rss;
            at = k;
        }
    }
    if (at < 1 || at == GRID) return false;
    double low = log(least) + (at - 1) * log(ratio), high = low + 2 * log(ratio);
    const double golden = 0.5 * (sqrt(5.0) - 1);
    for (int i = 0; i < 80; i++) {
        const double a = high - golden * (high - low), b = low + golden * (high - low);
        if (fit_linear(x, y, n, unit, exp(a), &p) < fit_linear(x, y, n, unit, exp(b), &p))
            high = b;
        else
            low = a;
    }
    const double rss = fit_linear(x, y, n, unit, exp(0.5 * (low + high)), &p);
    if (!(p.floor >= 0) || !(p.factor > 0)) return false;
    double m[3][3] = { { 0 } };
    for (int i = 0; i < n; i++) {
        const double u = pow(x[i] / unit, -p.exponent);
        const double d[3] = { 1 / y[i], u / y[i], -p.factor * u * log(x[i] / unit) / y[i] };
        for (int r = 0; r < 3; r++)
            for (int c = 0; c < 3; c++) m[r][c] += d[r] * d[c];
    }
    const double variance = rss / (n - 3);
    p.floor_error = sqrt(variance * inverse_at(m, 0));
    p.exponent_error = sqrt(variance * inverse_at(m, 2));
    p.factor *= pow(unit, p.exponent);
    p.t = student_quantile(0.975, n - 3);
    *out = p;
    return true;
}
