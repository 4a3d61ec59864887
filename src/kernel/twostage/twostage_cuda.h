#ifndef STI_TWOSTAGE_CUDA_H
#define STI_TWOSTAGE_CUDA_H
/* Permutations of the general path on a device; arrays of type `type`, dense but for y. */

#include <strata/context.h>

STRATA_BEGIN
/* out (count, b, a, run) from in (count, a, b, run) */
void sti_twostage_permute_cuda(const strata_context *ctx, int32_t type, int64_t count, int64_t a, int64_t b,
                               int64_t run, const void *in, void *out);
/* z (count, n2, s) from y (count, rows): z[j][o] = y[o n2 + j], 0 past its end */
void sti_twostage_read_cuda(const strata_context *ctx, int32_t type, int64_t count, int64_t rows, int64_t n2, int64_t s,
                            const void *y, int64_t ldy, void *z);
/* y = alpha z + beta y, the other way round */
void sti_twostage_write_cuda(const strata_context *ctx, int32_t type, int64_t count, int64_t rows, int64_t n2,
                             int64_t s, double alpha, const void *z, double beta, void *y, int64_t ldy);
STRATA_END

#endif
