/* Student's t against closed forms and tables; Welch's interval against a worked example and by simulation. */

#include "statistics.h"

#include "core/philox.h"
#include "support/test.h"

static void near(double got, double want, double bound, const char *what)
{
    if (!(fabs(got - want) <= bound)) FAIL("%s: %.15g, not %.15g", what, got, want);
    /* the bound is one that an error of a hundred times it would not pass */
    if (fabs(got + 100 * bound - want) <= bound) FAIL("%s: the bound %g says nothing", what, bound);
}

/* One, two and four degrees of freedom have quantiles in closed form. */
static void closed_forms(void)
{
    static const double p[] = { 0.5001, 0.6, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9995, 0.999999 };
    const double pi = acos(-1.0);
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) {
        double one = tan(pi * (p[i] - 0.5)), a = 4 * p[i] * (1 - p[i]), two = 2 * (p[i] - 0.5) * sqrt(2 / a);
        double q = cos(acos(sqrt(a)) / 3) / sqrt(a), four = 2 * sqrt(q - 1);
        near(student_quantile(p[i], 1), one, 1e-9 * (1 + one), "1 degree");
        near(student_quantile(p[i], 2), two, 1e-9 * (1 + two), "2 degrees");
        near(student_quantile(p[i], 4), four, 1e-7 * (1 + four), "4 degrees");
        near(student_quantile(1 - p[i], 2), -two, 1e-9 * (1 + two), "below the median");
    }
}

/* The 97.5 % column of any printed table; the last is the normal distribution's. */
static void table(void)
{
    static const struct {
        double dof, t;
    } row[] = { { 3, 3.182446 },  { 5, 2.570582 },  { 6, 2.446912 },  { 8, 2.306004 },   { 10, 2.228139 },
                { 20, 2.085963 }, { 30, 2.042272 }, { 60, 2.000298 }, { 120, 1.979930 }, { 1e9, 1.959964 } };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        near(student_quantile(0.975, row[i].dof), row[i].t, 6e-7, "table");
}

static void distribution_function(void)
{
    CHECK(student_cdf(0, 7) == 0.5);
    for (double dof = 0.7; dof < 1e6; dof *= 1.9)
        for (double t = 0.01; t < 50; t *= 2.3) {
            near(student_cdf(t, dof) + student_cdf(-t, dof), 1, 1e-13, "symmetry");
            CHECK(student_cdf(t, dof) > student_cdf(0.99 * t, dof) || student_cdf(t, dof) > 1 - 1e-12);
            if (student_cdf(t, dof) < 0.9999)
                near(student_quantile(student_cdf(t, dof), dof), t, 1e-8 * (1 + t), "inverse");
        }
}

static void samples(void)
{
    const double x[] = { 2, 4, 4, 4, 5, 5, 7, 9 };
    sample s = sample_of(x, 8);
    CHECK(s.n == 8 && s.mean == 5 && s.min == 2 && s.max == 9);
    near(s.sd, sqrt(32.0 / 7), 1e-15, "standard deviation");
    s = sample_of(x, 1);
    CHECK(s.mean == 2 && isnan(s.sd));
    s = sample_of(x, 0);
    CHECK(s.n == 0 && isnan(s.mean) && isnan(s.min));
}

/* Means 3 and 8, variances 1 and 16 of 3 and 4 values: v = 1/3 + 4, dof = v^2/((1/9)/2 + 16/3). */
static void welch_by_hand(void)
{
    const double a[] = { 2, 3, 4 }, b[] = { 8 - sqrt(24), 8, 8, 8 + sqrt(24) };
    sample sa = sample_of(a, 3), sb = sample_of(b, 4);
    welch w;
    CHECK(welch_interval(&sa, &sb, 0.95, &w));
    double v = 1.0 / 3 + 4, dof = v * v / (1.0 / 18 + 16.0 / 3);
    near(w.difference, 5, 1e-14, "difference");
    near(w.dof, dof, 1e-13, "degrees of freedom");
    near(w.high - w.low, 2 * student_quantile(0.975, dof) * sqrt(v), 1e-12, "width");
    near(w.high + w.low, 10, 1e-13, "middle");
    sa.n = 1;
    CHECK(!welch_interval(&sa, &sb, 0.95, &w) && w.difference == 5 && isnan(w.low));
    sample flat = sample_of((const double[]){ 1, 1 }, 2), other = sample_of((const double[]){ 2, 2 }, 2);
    CHECK(welch_interval(&flat, &other, 0.95, &w) && w.low == 1 && w.high == 1);
}

static double normal(uint64_t index)
{
    return sti_normal(7, 1, index);
}

/* Of equal means the interval excludes 0 in at most 5 % of the trials, whatever the spreads; a wrong quantile (the
 * normal one) would do so in far more. */
static void coverage(void)
{
    enum { TRIALS = 4000 };
    uint64_t at = 0;
    for (int ratio = 1; ratio <= 4; ratio *= 2) {
        int wrong = 0, careless = 0;
        for (int t = 0; t < TRIALS; t++) {
            double a[3], b[3];
            welch w;
            for (int i = 0; i < 3; i++) {
                a[i] = normal(at++);
                b[i] = ratio * normal(at++);
            }
            sample sa = sample_of(a, 3), sb = sample_of(b, 3);
            CHECK(welch_interval(&sa, &sb, 0.95, &w));
            wrong += w.low > 0 || w.high < 0;
            careless += fabs(w.difference) > 1.96 * sqrt((sa.sd * sa.sd + sb.sd * sb.sd) / 3);
        }
        const double sd = sqrt(0.05 * 0.95 * TRIALS);
        CHECK(wrong < 0.06 * TRIALS + 4 * sd); /* Welch is not exact: up to 6 % for so few values */
        CHECK(careless > 0.06 * TRIALS + 4 * sd);
    }
}

static void curves(void)
{
    const double x[] = { 1, 10, 1000 }, y[] = { 5, 3, 1 };
    CHECK(curve_at(x, y, 3, 1) == 5 && curve_at(x, y, 3, 10) == 3 && curve_at(x, y, 3, 1000) == 1);
    near(curve_at(x, y, 3, sqrt(10)), 4, 1e-14, "between");
    near(curve_at(x, y, 3, 100), 2, 1e-14, "between");
    CHECK(isnan(curve_at(x, y, 3, 0.5)) && isnan(curve_at(x, y, 3, 1001)) && isnan(curve_at(x, y, 0, 1)));
}

/* Two runs that were trained, one that was not, one without a curve. */
static void equal_amounts(void)
{
    double x[] = { 1, 100 }, y[] = { 4, 2 }, longer[] = { 10, 1000 }, z[] = { 3, 1 }, at[] = { 1 }, flat[] = { 7 };
    double room[4];
    const loss_curve a = { { x, x, x }, y, 2, false }, b = { { longer, longer, longer }, z, 2, false },
                     naive = { { at, at, at }, flat, 1, true }, none = { { NULL }, NULL, 0, false };
    const loss_curve *const all[] = { &naive, &a, &none, &b };
    CHECK(common_amount(all, 4, BY_FLOPS) == 100 && common_amount(all + 2, 2, BY_FLOPS) == 1000);
    CHECK(isnan(common_amount(all, 1, BY_FLOPS)) && isnan(common_amount(all, 0, BY_FLOPS)));
    sample s = losses_at(all, 4, BY_TOKENS, 100, room); /* 7, 2, and halfway from 3 to 1 */
    CHECK(s.n == 3 && s.min == 2 && s.max == 7);
    near(s.mean, 11.0 / 3, 1e-14, "mean");
    s = losses_at(all + 1, 3, BY_SECONDS, 5, room); /* b begins at 10 */
    CHECK(s.n == 1 && isnan(s.sd));
    CHECK(losses_at(all + 2, 1, BY_TOKENS, 5, room).n == 0);
}

/* Points on the curve give it back, with no error left. */
static void power_laws_exact(void)
{
    const double x[] = { 2e4, 1e5, 7e5, 4e6, 3e7 };
    double y[5];
    power_law p;
    for (int i = 0; i < 5; i++) y[i] = 40 * pow(x[i], -0.21);
    CHECK(fit_power(x, y, 5, &p));
    near(p.exponent, 0.21, 1e-12, "exponent");
    near(p.factor, 40, 1e-9, "factor");
    CHECK(p.floor == 0 && p.exponent_error < 1e-12);
    near(p.t, 3.182446, 6e-7, "three degrees of freedom");
    for (int i = 0; i < 5; i++) y[i] = 0.9 + 40 * pow(x[i], -0.35);
    CHECK(fit_power_floor(x, y, 5, &p));
    near(p.exponent, 0.35, 1e-6, "exponent beside a floor"); /* a minimum is found to the root of eps */
    near(p.floor, 0.9, 1e-6, "floor");
    near(p.factor, 40, 1e-3, "factor");
    near(p.t, 4.302653, 6e-7, "two degrees of freedom");
    near(power_at(&p, 7e5), y[2], 1e-7, "curve");
    CHECK(fit_power(x, y, 5, &p) && p.exponent_error > 1e-3); /* the wrong curve is off the points, and says so */
}

/* The slope's standard error as in any textbook: sqrt(RSS / (n - 2) / Sxx), here for logs 0, 1, 2 and y 0, 1, 0. */
static void power_law_by_hand(void)
{
    const double e = exp(1.0), x[] = { 1, e, e * e }, y[] = { 1, e, 1 };
    power_law p;
    CHECK(fit_power(x, y, 3, &p));
    near(p.exponent, 0, 1e-15, "slope");
    near(p.factor, exp(1.0 / 3), 1e-14, "level");
    near(p.exponent_error, sqrt(2.0 / 3 / 1 / 2), 1e-14, "standard error");
}

static void power_laws_refused(void)
{
    const double x[] = { 1, 2, 3, 4 }, y[] = { 4, 3, 2, 1 }, twice[] = { 1, 1, 2, 2 }, bad[] = { 1, 0, 2, 3 };
    const double logs[] = { 9, 9 - log(2.0), 9 - log(3.0), 9 - log(4.0) };
    power_law p;
    CHECK(!fit_power(x, y, 2, &p) && !fit_power(twice, y, 4, &p) && !fit_power(x, bad, 4, &p));
    CHECK(!fit_power_floor(x, y, 3, &p));    /* three points, three parameters */
    CHECK(!fit_power_floor(x, y, 4, &p));    /* falls ever faster: no floor above 0 */
    CHECK(!fit_power_floor(x, logs, 4, &p)); /* a logarithm has no floor */
}

/* Intervals hold the exponent in 95 % of the trials: exactly for noise in the logarithm, nearly with a floor. */
static void power_law_coverage(void)
{
    enum { TRIALS = 4000 };
    const double x[] = { 1e4, 3e4, 1e5, 3e5, 1e6, 3e6 };
    uint64_t at = 1u << 30;
    int plain = 0, floor = 0, careless = 0;
    for (int t = 0; t < TRIALS; t++) {
        double y[6], z[6];
        power_law p;
        for (int i = 0; i < 6; i++) {
            const double noise = exp(0.01 * normal(at++));
            y[i] = 5 * pow(x[i], -0.1) * noise;
            z[i] = (0.5 + 30 * pow(x[i], -0.4)) * noise;
        }
        CHECK(fit_power(x, y, 4, &p));
        plain += fabs(p.exponent - 0.1) <= p.t * p.exponent_error;
        careless += fabs(p.exponent - 0.1) <= 1.96 * p.exponent_error;
        floor += fit_power_floor(x, z, 6, &p) && fabs(p.exponent - 0.4) <= p.t * p.exponent_error;
    }
    const double sd = sqrt(0.05 * 0.95 * TRIALS);
    CHECK(fabs(plain - 0.95 * TRIALS) < 4 * sd && careless < 0.95 * TRIALS - 4 * sd);
    CHECK(fabs(floor - 0.95 * TRIALS) < 0.02 * TRIALS + 4 * sd);
}

TESTS(T(closed_forms), T(table), T(distribution_function), T(samples), T(welch_by_hand), T(coverage), T(curves),
      T(equal_amounts), T(power_laws_exact), T(power_law_by_hand), T(power_laws_refused), T(power_law_coverage))
