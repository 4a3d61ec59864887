#ifndef STI_REGRESSION_BASELINES_H
#define STI_REGRESSION_BASELINES_H
/* What predictors that know the problem's kind reach: measured on the very sequences, and in closed form. */

#include "core/context.h"
#include "task/regression/sampler.h"

enum { STI_BASE_ZERO, STI_BASE_OLS, STI_BASE_RIDGE, STI_BASE_STEP, STI_BASELINES };

/* Mean squared errors of the baselines after 0 … points - 1 examples, over the first `count` problems of an evaluation:
 * mean is (STI_BASELINES, points). ridge: its lambda; 0: left NaN. @return OK | E_MEMORY */
strata_status sti_regression_baselines(const strata_context *ctx, const sti_regression *r, double ridge, uint64_t seed,
                                       int64_t count, double *mean);
/* Expected squared errors after n examples; NaN where there is no closed form, infinite where the mean does not exist.
 */
void sti_regression_theory(const sti_regression *r, double ridge, int64_t n, double error[STI_BASELINES]);
/* Length of the one gradient step from zero, w = eta sum of y_i x_i, that has the least expected error. */
double sti_regression_step(const sti_regression *r, int64_t n);

#endif
