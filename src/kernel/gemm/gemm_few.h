#ifndef STI_GEMM_FEW_H
#define STI_GEMM_FEW_H
/* Products with few rows of A, f32: B is read once from where it lies, nothing of it is packed. */
#include "core/context.h"

enum { STI_GEMM_FEW = 8 };

typedef struct sti_gemm_few {
    /* C = alpha op(A) op(B) + beta C on the calling thread, 1 <= m <= STI_GEMM_FEW, k >= 1. The order of an
     * element's sum stays as it is when C is cut at a multiple of 128 columns. */
    void (*product)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                    const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
} sti_gemm_few;

extern const sti_gemm_few sti_gemm_few_avx2, sti_gemm_few_avx512; /* x86-64 builds only */

#endif
