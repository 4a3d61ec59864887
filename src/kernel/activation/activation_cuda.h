#ifndef STI_ACTIVATION_CUDA_H
#define STI_ACTIVATION_CUDA_H
/* activation.h on a device; act is an sti_act, arrays may start anywhere (16-byte alignment is fast). */

#include <strata/context.h>

STRATA_BEGIN
void sti_act_forward_cuda(const strata_context *ctx, int32_t dtype, int act, int64_t n, const void *x, void *y);
void sti_act_backward_cuda(const strata_context *ctx, int32_t dtype, int act, int64_t n, const void *x, const void *dy,
                           void *dx, int acc);
void sti_gate_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t n, const void *a, const void *b, void *y);
void sti_gate_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t n, const void *a, const void *b,
                            const void *dy, void *da, int acca, void *db, int accb);
STRATA_END

#endif
