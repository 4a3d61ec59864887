#ifndef STI_SQUAREDERROR_H
#define STI_SQUAREDERROR_H
/* Squared error over rows of numbers; targets that are NaN are not scored. README.md has the formulas. */

#include "core/context.h"

/* For row i of y and target (rows, width): out[i] = { sum of (y - target)^2 over the scored, how many are scored }. y
 * is of type dtype (bf16 on a device only), target and out of its type of sums. Threads: the context's; rows are
 * computed alone. */
void sti_squarederror_forward(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t width, const void *y,
                              const void *target, void *out);
/* dy = 2 (y - target) / number of scored elements (0 where not scored), or += when acc. */
void sti_squarederror_backward(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t width, const void *y,
                               const void *target, void *dy, int acc);

#endif
