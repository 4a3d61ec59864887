#ifndef STI_GEMM_BF16_H
#define STI_GEMM_BF16_H
/* Products of f32 arrays whose operands are rounded to bf16 (math=bf16): one per instruction set that has them. */
#include "core/context.h"

typedef struct sti_gemm_bf16 {
    const char *name;
    sti_isa isa;
    /* C = alpha op(A) op(B) + beta C on the calling thread, k >= 1. `pack`: `room` bytes at a multiple of 64, at least
     * STI_GEMM_BF16_LEAST. Each element is summed in an order that k alone fixes. */
    void (*product)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                    const float *b, int64_t ldb, float beta, float *c, int64_t ldc, void *pack, int64_t room);
} sti_gemm_bf16;

enum {
    STI_GEMM_BF16_SUM = 512,                                  /* terms that are summed before C is touched */
    STI_GEMM_BF16_LEAST = 2 * STI_GEMM_BF16_SUM * (128 + 64), /* room of the pack, in bytes */
};

extern const sti_gemm_bf16 sti_gemm_bf16_amx, sti_gemm_bf16_avx512bf16;

#endif
