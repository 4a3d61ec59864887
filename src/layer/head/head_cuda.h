#ifndef STI_HEAD_CUDA_H
#define STI_HEAD_CUDA_H
/* y = scale * x, or y += when acc, on a device. */

#include <strata/context.h>

STRATA_BEGIN
void sti_scale_cuda(const strata_context *ctx, int32_t dtype, int64_t n, double scale, const void *x, int acc, void *y);
STRATA_END

#endif
