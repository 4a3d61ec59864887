#ifndef STI_SQUAREDERROR_CUDA_H
#define STI_SQUAREDERROR_CUDA_H
/* The device side of kernel/squarederror: y and dy of type dtype, target and out of its type of sums. */

#include <stdint.h>

#include <strata/context.h>

STRATA_BEGIN
void sti_squarederror_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t width, const void *y,
                                   const void *target, void *out);
/* Every block counts the scored elements for itself: targets are few beside what made them. */
void sti_squarederror_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t width,
                                    const void *y, const void *target, void *dy, int acc);
STRATA_END

#endif
