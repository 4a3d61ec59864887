#ifndef STI_OPERATOR_CUDA_H
#define STI_OPERATOR_CUDA_H
/* Loops over rows that several operators run on a device; `type` is F32, F64 or BF16, arithmetic is in its type of
 * sums. Defined in builds with CUDA only. */

#include <strata/context.h>

STRATA_BEGIN
/* y (rows, n) = alpha x d + beta y by columns; d NULL: ones. beta = 0 never reads y. */
void sti_op_scale_cuda(const strata_context *ctx, int32_t type, int64_t rows, int64_t n, double alpha, const void *d,
                       const void *x, int64_t ldx, double beta, void *y, int64_t ldy);
/* dd (n), in the type of sums, += sum over rows of a b */
void sti_op_columns_cuda(const strata_context *ctx, int32_t type, int64_t rows, int64_t n, const void *a, int64_t lda,
                         const void *b, int64_t ldb, void *dd);
/* a[i * step] = 1 for i < n */
void sti_op_ones_cuda(const strata_context *ctx, int32_t type, int64_t n, int64_t step, void *a);
STRATA_END

#endif
