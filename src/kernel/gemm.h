#ifndef STI_GEMM_H
#define STI_GEMM_H
/* Dense matrix products, row-major (component kernel/gemm; declared here because the other kernels call it too).
 * OpenBLAS when built in, else a blocked C loop: f32 and f64. On a device cuBLASLt, also bf16 (sums in f32). */

#include <strata/tensor.h>

#include "core/context.h"

/* C (m,n) = alpha * op(A) op(B) + beta * C. op(A) is (m,k): A is (m,k) with row stride lda, or (k,m) when ta. op(B) is
 * (k,n). beta = 0 never reads C. Threads: the context's, serial inside a caller's parallel region; the split into slabs
 * depends on the shape alone when the context is deterministic. Never allocates, never fails. */
void sti_gemm(const strata_context *ctx, int32_t dtype, bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha,
              const void *a, int64_t lda, const void *b, int64_t ldb, double beta, void *c, int64_t ldc);

/* `count` products whose operands lie sa, sb, sc elements apart; threads over the products when there are enough. */
void sti_gemm_batch(const strata_context *ctx, int32_t dtype, bool ta, bool tb, int64_t m, int64_t n, int64_t k,
                    double alpha, const void *a, int64_t lda, int64_t sa, const void *b, int64_t ldb, int64_t sb,
                    double beta, void *c, int64_t ldc, int64_t sc, int64_t count);

/* The same with C in the type of sums (f32 for bf16 operands): gradients of parameters. */
void sti_gemm_sum(const strata_context *ctx, int32_t dtype, bool ta, bool tb, int64_t m, int64_t n, int64_t k,
                  double alpha, const void *a, int64_t lda, const void *b, int64_t ldb, double beta, void *c,
                  int64_t ldc);
void sti_gemm_sum_batch(const strata_context *ctx, int32_t dtype, bool ta, bool tb, int64_t m, int64_t n, int64_t k,
                        double alpha, const void *a, int64_t lda, int64_t sa, const void *b, int64_t ldb, int64_t sb,
                        double beta, void *c, int64_t ldc, int64_t sc, int64_t count);

/* "openblas 0.3.21" or "builtin". */
const char *sti_gemm_backend(void);
/* What products of a context with math=bf16 run on: "amx bf16", "avx512bf16", or NULL: they stay f32. */
const char *sti_gemm_backend_bf16(const strata_context *ctx);

#endif
