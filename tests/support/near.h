#ifndef NEAR_H
#define NEAR_H
/* Comparisons with derived bounds (contracts 4): element i passes when |x - ref| <= c eps sqrt(k) scale[i], scale being
 * the reference expression with absolute values. near_all also plants an error of 100 times the bound and insists that
 * it is seen. */

#include <float.h>

#include <strata/tensor.h>

#include "support/test.h"

static inline double near_get(const void *p, int32_t dtype, int64_t i)
{
    return dtype == STRATA_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}
static inline void near_put(void *p, int32_t dtype, int64_t i, double v)
{
    if (dtype == STRATA_F64)
        ((double *)p)[i] = v;
    else
        ((float *)p)[i] = (float)v;
}

/* First element out of bounds, or -1. NaN is out of bounds. */
static inline int64_t near_first(const void *x, int32_t dtype, const double *ref, const double *scale, int64_t n,
                                 double factor)
{
    const double eps = dtype == STRATA_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(near_get(x, dtype, i) - ref[i]) <= factor * eps * scale[i])) return i;
    return -1;
}

static inline void near_all(const char *what, void *x, int32_t dtype, const double *ref, const double *scale, int64_t n,
                            double c, double k)
{
    const double factor = c * sqrt(k), eps = dtype == STRATA_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
    int64_t i = near_first(x, dtype, ref, scale, n, factor);
    if (i >= 0)
        FAIL("%s[%lld] is %.17g, not %.17g: off by %.3g, bound %.3g", what, (long long)i, near_get(x, dtype, i), ref[i],
             fabs(near_get(x, dtype, i) - ref[i]), factor * eps * scale[i]);
    i = n / 2;
    while (i < n && !(scale[i] > 0)) i++;
    if (i == n) return;
    const double keep = near_get(x, dtype, i);
    near_put(x, dtype, i, ref[i] + 100 * factor * eps * scale[i]);
    if (near_first(x, dtype, ref, scale, n, factor) < 0) FAIL("%s: a planted error is not seen", what);
    near_put(x, dtype, i, keep);
}

#endif
