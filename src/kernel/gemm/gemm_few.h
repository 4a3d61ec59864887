#ifndef STI_GEMM_FEW_H
#define STI_GEMM_FEW_H
/* Products with few rows of A, f32: B is read once from where it lies, nothing of it is packed. */
#include "core/context.h"

enum { STI_GEMM_FEW = 8 };

/* C = alpha op(A) op(B) + beta C, `count` times with operands sa, sb, sc numbers apart; 1 <= m <= STI_GEMM_FEW, k >= 1.
 * The order of an element's sum stays as it is when C is cut at a multiple of 128 columns. */
typedef struct sti_gemm_few_call {
    bool ta, tb;
    int64_t m, n, k, count;
    float alpha, beta;
    const float *a, *b;
    float *c;
    int64_t lda, ldb, ldc, sa, sb, sc;
} sti_gemm_few_call;

typedef struct sti_gemm_few {
    void (*product)(const sti_gemm_few_call *q); /* on the calling thread */
} sti_gemm_few;

extern const sti_gemm_few sti_gemm_few_avx2, sti_gemm_few_avx512; /* x86-64 builds only */

#endif
