#ifndef STI_NORM_CUDA_H
#define STI_NORM_CUDA_H
/* norm.h on a device. x, y, dy and dx are of type dtype; gain, bias, stat, dgain and dbias of the type of sums. */

#include <stddef.h>

#include <strata/context.h>

STRATA_BEGIN
typedef struct sti_norm_shape {
    int64_t rows, width, stride; /* elements */
    double eps;
    int center;
} sti_norm_shape;

/* bias, stat: NULL when not wanted */
void sti_norm_forward_cuda(const strata_context *ctx, int32_t dtype, const sti_norm_shape *n, const void *x,
                           const void *gain, const void *bias, void *y, void *stat);
/* x = a + b first; rows lie one behind the other */
void sti_norm_sum_forward_cuda(const strata_context *ctx, int32_t dtype, const sti_norm_shape *n, const void *a,
                               const void *b, void *x, const void *gain, const void *bias, void *y, void *stat);
void sti_norm_backward_cuda(const strata_context *ctx, int32_t dtype, const sti_norm_shape *n, const void *x,
                            const void *gain, const void *stat, const void *dy, void *dx, int acc, void *dgain,
                            void *dbias, void *work);
size_t sti_norm_work_cuda(int64_t width); /* bytes, for any number of rows */
STRATA_END

#endif
