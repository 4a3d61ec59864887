#ifndef STI_CROSSENTROPY_CUDA_H
#define STI_CROSSENTROPY_CUDA_H
/* crossentropy.h on a device. */

#include <strata/context.h>

STRATA_BEGIN
void sti_crossentropy_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t vocab,
                                   const void *logits, const int32_t *target, void *lse, void *out);
void sti_crossentropy_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t vocab,
                                    const void *logits, const int32_t *target, const void *lse, void *dlogits, int acc);
STRATA_END

#endif
