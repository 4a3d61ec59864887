#ifndef STI_DECOMPOSE_CUDA_H
#define STI_DECOMPOSE_CUDA_H
/* Moving average and rest on a device: arrays are (rows, n), the average is over 2 half + 1 numbers. Queued. */

#include <strata/context.h>

STRATA_BEGIN
void sti_decompose_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t n, int64_t half,
                                const void *x, void *trend, void *rest);
/* dx = drest + A^T (dtrend - drest), or += when acc; dtrend or drest NULL: zero. */
void sti_decompose_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t n, int64_t half,
                                 const void *dtrend, const void *drest, int acc, void *dx);
STRATA_END

#endif
