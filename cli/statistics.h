#ifndef STATISTICS_H
#define STATISTICS_H
/* What a handful of runs says: means, spreads, an interval for the difference of two means, readings at equal amounts,
 * power laws. Needs libc only. */

#include <stdbool.h>

typedef struct sample {
    int n;
    double mean, min, max;
    double sd; /* standard deviation with n - 1; NaN for n < 2 */
} sample;
/* All NaN for n = 0. */
sample sample_of(const double *x, int n);

/* P(T <= t) of Student's t with `dof` > 0 degrees of freedom, not necessarily whole. */
double student_cdf(double t, double dof);
/* The t with P(T <= t) = p, 0 < p < 1. */
double student_quantile(double p, double dof);

/* Interval for the difference of two means whose spreads may differ (Welch 1947), with the degrees of freedom of
 * Satterthwaite. */
typedef struct welch {
    double difference, low, high, dof; /* mean of b less that of a */
} welch;
/* `level` of confidence, 0.95. false: a sample has less than two values, only `difference` is set. */
bool welch_interval(const sample *a, const sample *b, double level, welch *out);

/* The curve (x ascending, positive) at `x0`: linear in log x between its points, NaN outside of them. */
double curve_at(const double *x, const double *y, int n, double x0);

/* ---- equal amounts ---------------------------------------------------------------------------------------------- */
/* What a run was trained with. Steps say the same as tokens where batches are alike: no curve is read by them. */
typedef enum amount { BY_TOKENS, BY_FLOPS, BY_SECONDS, AMOUNTS, BY_STEPS = AMOUNTS, BUDGETS } amount;

typedef struct loss_curve { /* the validation losses of a run */
    double *x[AMOUNTS], *loss;
    int n;
    bool still; /* nothing is trained: the loss is the same everywhere, and limits nobody */
} loss_curve;

/* The most of an amount at which each of n runs was still measured; runs without a curve are left out, NaN: all are. */
double common_amount(const loss_curve *const *run, int n, amount a);
/* Their losses where that much was spent; of runs whose curve does not hold the point there is none. `value`: room for
 * n numbers. */
sample losses_at(const loss_curve *const *run, int n, amount a, double at, double *value);

/* ---- power laws ------------------------------------------------------------------------------------------------- */
/* y = floor + factor x^-exponent. Errors are standard errors, from what the points are off the curve with n - (number
 * of parameters) degrees of freedom: noise of the points and a curve that is wrong both widen them. */
typedef struct power_law {
    double floor, factor, exponent;
    double floor_error, exponent_error;
    double t; /* Student's, for 95 % and these degrees of freedom: an interval is exponent -+ t exponent_error */
} power_law;
/* Without a floor: least squares through (log x, log y). false: fewer than three different x, or y <= 0. */
bool fit_power(const double *x, const double *y, int n, power_law *out);
/* With one: least squares of relative residuals; errors from the linearised curve. false: fewer than four different x,
 * or no such curve is best (the points ask for a floor below 0, or for a logarithm, exponent 0). */
bool fit_power_floor(const double *x, const double *y, int n, power_law *out);
double power_at(const power_law *p, double x);

#endif
