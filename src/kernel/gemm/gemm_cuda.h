#ifndef STI_GEMM_CUDA_H
#define STI_GEMM_CUDA_H
/* The device side of kernel/gemm: C (m, n), of type ctype, from A and B of type `type` (bf16 products may add to f32).
 */

#include <strata/context.h>

STRATA_BEGIN
void sti_gemm_cuda(const strata_context *ctx, int32_t type, int32_t ctype, int ta, int tb, int64_t m, int64_t n,
                   int64_t k, double alpha, const void *a, int64_t lda, int64_t sa, const void *b, int64_t ldb,
                   int64_t sb, double beta, void *c, int64_t ldc, int64_t sc, int64_t count);
STRATA_END

#endif
