#ifndef STI_BTT_STAGE_CUDA_H
#define STI_BTT_STAGE_CUDA_H
/* The key side of bilinear BTT scoring in one pass over the rows, for cores small enough to lie in registers. f32 and
 * bf16; sums and what lies between the cores are f32. Queued. */

#include <strata/context.h>

typedef struct sti_btt_shape {
    int64_t rows, width, heads, rank;
    int64_t a, b, c, d; /* width = a b = c d */
} sti_btt_shape;

STRATA_BEGIN
/* Bytes of scratch that a backward pass of at most s->rows rows wants; 0: the shape or type does not fit. */
size_t sti_btt_fused_work(const strata_context *ctx, const sti_btt_shape *s, int32_t dtype);
/* y (rows, heads, a, b) from x (rows, width), cores R (c, d, heads b rank) and L (heads b, a, c rank). */
void sti_btt_fused_forward(const strata_context *ctx, const sti_btt_shape *s, int32_t dtype, const void *R,
                           const void *L, const void *x, void *y);
/* dR, dL += in f32, both or neither NULL; dx = or, when acc, +=, may be NULL. */
void sti_btt_fused_backward(const strata_context *ctx, const sti_btt_shape *s, int32_t dtype, const void *R,
                            const void *L, const void *x, const void *dy, void *dx, int acc, void *dR, void *dL,
                            void *work);
STRATA_END

#endif
