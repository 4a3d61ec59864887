#ifndef STI_HOUSEHOLDER_CUDA_H
#define STI_HOUSEHOLDER_CUDA_H
/* Coefficients of Householder products on a device (householder.inc says what they are). Arrays are in the type of sums
 * of `type`, except V's betas (`given`) and `rounded`. */

#include <strata/context.h>

STRATA_BEGIN
void sti_householder_prepare_cuda(const strata_context *ctx, int32_t type, int64_t k, const void *given,
                                  const void *gram, void *beta);
void sti_householder_coefficients_cuda(const strata_context *ctx, int32_t type, int64_t k, const void *gram,
                                       const void *beta, int transposed, int64_t rows, void *c);
/* rounded (rows, k), of type `type`, = c diag(beta); beta NULL: ones */
void sti_householder_round_cuda(const strata_context *ctx, int32_t type, int64_t rows, int64_t k, const void *beta,
                                const void *c, void *rounded);
void sti_householder_small_cuda(const strata_context *ctx, int32_t type, int64_t k, const void *m, const void *gram,
                                const void *beta, int orthogonal, void *q, void *dbeta);
/* dv -= diag(beta) g, (k, n) */
void sti_householder_add_cuda(const strata_context *ctx, int32_t type, int64_t k, int64_t n, const void *beta,
                              const void *g, void *dv);
STRATA_END

#endif
