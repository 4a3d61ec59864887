#ifndef STI_GEMM_BUILTIN_H
#define STI_GEMM_BUILTIN_H
/* The portable product by itself, on the calling thread; the tests run it also where OpenBLAS is built in. */
#include "core/base.h"

void sti_gemm_builtin_f32(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const void *a, int64_t lda,
                          const void *b, int64_t ldb, double beta, void *c, int64_t ldc);
void sti_gemm_builtin_f64(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const void *a, int64_t lda,
                          const void *b, int64_t ldb, double beta, void *c, int64_t ldc);

#endif
