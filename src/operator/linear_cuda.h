#ifndef STI_LINEAR_CUDA_H
#define STI_LINEAR_CUDA_H
/* Bias of a linear stage on a device. bias and dbias are of the type of sums. */

#include <stddef.h>

#include <strata/context.h>

STRATA_BEGIN
void sti_bias_add_cuda(const strata_context *ctx, int32_t dtype, int64_t count, int64_t width, const void *bias,
                       void *out);
/* dbias += the sum of the rows of dout, in an order that the shape fixes. work: sti_bias_work_cuda bytes. */
void sti_bias_grad_cuda(const strata_context *ctx, int32_t dtype, int64_t count, int64_t width, const void *dout,
                        void *dbias, void *work);
size_t sti_bias_work_cuda(int32_t dtype, int64_t width);
STRATA_END

#endif
