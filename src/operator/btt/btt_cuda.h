#ifndef STI_BTT_CUDA_H
#define STI_BTT_CUDA_H
/* The cap on a core's RMS, on a device. scale (2): the factor and the mean square, in the type of sums. */

#include <strata/context.h>

STRATA_BEGIN
/* scale from w (n); capped (n) = scale[0] * w */
void sti_btt_cap_cuda(const strata_context *ctx, int32_t type, int64_t n, double tau, const void *w, void *scale,
                      void *capped);
/* dw (n) += the gradient behind g, that of the capped core; both in the type of sums */
void sti_btt_cap_grad_cuda(const strata_context *ctx, int32_t type, int64_t n, const void *w, const void *scale,
                           const void *g, void *dw);
STRATA_END

#endif
