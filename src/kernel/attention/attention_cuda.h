#ifndef STI_ATTENTION_CUDA_H
#define STI_ATTENTION_CUDA_H
/* Attention on any CUDA device: every shape, f32, f64 and bf16 (f32 sums), queued on the context's stream. Arrays are
 * device memory; nothing waits and nothing allocates. A failure is reported by the next wait. */

#include <strata/context.h>

#include "kernel/attention/range.h"

STRATA_BEGIN

/* ---- attention_cuda.cu --------------------------------------------------------------------------------------------
 */

/* Bytes of workspace that backward wants. */
size_t sti_attention_cuda_work(const sti_attention_shape *s, int32_t dtype, int64_t batch, int64_t q_time);
/* 0, or the largest d_qk that fits the device's shared memory when the shape's does not. */
int64_t sti_attention_cuda_limit(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype);
void sti_attention_cuda_forward(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                                const sti_attention_call *c);
/* Deterministic: every number has one writer and one order of sums. */
void sti_attention_cuda_backward(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                                 const sti_attention_call *c);

/* ---- attention_short_cuda.cu: up to 64 positions and columns, f32 and bf16, one softmax whose levels cover all pairs
 * -
 */

/* 0: the call is not of this kind, and nothing was done. */
int sti_attention_short_forward(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                                const sti_attention_call *c);
int sti_attention_short_backward(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                                 const sti_attention_call *c);

/* ---- decode_cuda.cu -----------------------------------------------------------------------------------------------
 */

typedef struct sti_cuda_steps { /* one new token for each of `batch` sequences; pos is host memory */
    void *cache;
    size_t stride;
    const int64_t *pos;
    int64_t batch;
    sti_attention_array q, k, v, o;
    void *work;
} sti_cuda_steps;

size_t sti_attention_cuda_step_work(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                                    int64_t batch);
void sti_attention_cuda_append(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                               const sti_cache_layout *l, void *cache, int64_t pos, int64_t n,
                               const sti_attention_array *k, const sti_attention_array *v);
void sti_attention_cuda_step(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                             const sti_cache_layout *l, const sti_cuda_steps *c);

STRATA_END

#endif
