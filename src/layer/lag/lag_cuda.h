#ifndef STI_LAG_CUDA_H
#define STI_LAG_CUDA_H
/* The last numbers of a row repeated, on a device: in (rows, n), out (rows, m), 1 <= period <= n. Queued. */

#include <strata/context.h>

STRATA_BEGIN
void sti_lag_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t n, int64_t period, int64_t m,
                          const void *in, void *out);
/* din = what out's numbers send back, or += when acc. */
void sti_lag_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t n, int64_t period, int64_t m,
                           const void *dout, int acc, void *din);
STRATA_END

#endif
