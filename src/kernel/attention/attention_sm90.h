#ifndef STI_ATTENTION_SM90_H
#define STI_ATTENTION_SM90_H
/* Attention on Hopper's tensor cores (attention_fwd_sm90.cu, attention_bwd_sm90.cu): bf16 arrays in device memory, f32
 * lse and sums, one softmax of any levels (blocks or distances, value levels), window, grouped heads, any lengths and
 * positions below 2^30. Built only with CUDA. Arrays start at and stride by multiples of 16 bytes. */

#include <stdbool.h>
#include <stddef.h>

#include <strata/context.h>

#include "kernel/attention/shape.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Columns at which the kernels work, 0: they do not. Fewer arrive filled up with zeros, which are not stored again. */
static inline int sti_attention_sm90_width(const sti_attention_shape *s)
{
    const int64_t most = s->d_qk > s->d_v ? s->d_qk : s->d_v;
    return s->d_qk % 8 || s->d_v % 8 || most > 128 ? 0 : most > 64 ? 128 : 64;
}

/* Whether the forward takes the shape on this type and device, and the arrays of a call (no strides of 0). */
bool sti_attention_sm90_fits(const strata_context *ctx, const sti_attention_shape *shape, int32_t dtype);
bool sti_attention_sm90_aligned(const sti_attention_call *c);

/* o and lse, on the context's stream; the same bits every time. `work`: STI_ATTENTION_SM90_WORK bytes of device memory,
 * or NULL at a few percent of the speed. A failure is reported by the next wait. */
enum { STI_ATTENTION_SM90_WORK = 64 };
void sti_attention_sm90_forward(const strata_context *ctx, const sti_attention_shape *shape,
                                const sti_attention_call *c);

/* dq, dk and dv, the same bits every time; o and lse as forward gave them. At most 8 levels. `work` is device memory
 * aligned to 256. */
bool sti_attention_sm90_backward_fits(const sti_attention_shape *shape, int32_t dtype);
size_t sti_attention_sm90_backward_work(const sti_attention_shape *shape, int64_t batch, int64_t q_time);
void sti_attention_sm90_backward(const strata_context *ctx, const sti_attention_shape *shape,
                                 const sti_attention_call *c);

#ifdef __cplusplus
}
#endif

#endif
