#ifndef STI_SOFTMAX_CUDA_H
#define STI_SOFTMAX_CUDA_H
/* The component's copies on a device; meanings and strides are those of gather.inc and attention_stage.inc. Queued. */

#include <strata/context.h>

STRATA_BEGIN
void sti_softmax_gather_cuda(const strata_context *ctx, int32_t dtype, int64_t n, int64_t m, int64_t l,
                             const void *table, int64_t si, int64_t sj, int64_t sk, void *dense);
void sti_softmax_scatter_cuda(const strata_context *ctx, int32_t dtype, int64_t n, int64_t m, int64_t l,
                              const void *dense, void *table, int64_t si, int64_t sj, int64_t sk, int add);
void sti_softmax_sum_heads_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t heads, int64_t dim,
                                const void *from, void *to, int acc);
STRATA_END

#endif
