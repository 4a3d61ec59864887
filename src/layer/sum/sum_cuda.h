#ifndef STI_SUM_CUDA_H
#define STI_SUM_CUDA_H
/* y = a + b on a device; y may be either. */

#include <strata/context.h>

STRATA_BEGIN
void sti_sum_cuda(const strata_context *ctx, int32_t dtype, int64_t n, const void *a, const void *b, void *y);
STRATA_END

#endif
