#ifndef STI_ROTARY_CUDA_H
#define STI_ROTARY_CUDA_H
/* rotary.h on a device. */

#include <strata/context.h>

STRATA_BEGIN
/* What the kernels read, in device memory: for every position the cos and sin of the pairs of a head, in the type of
 * sums, and for every pair the elements of the head that it turns. */
typedef struct sti_rotary_tables {
    const void *turn;      /* (time, width/2, 2) */
    const int32_t *member; /* (width/2, 2) */
    int64_t width;
    int64_t run; /* a power of two that divides every half-slice: so many pairs stand side by side */
} sti_rotary_tables;

/* pos: host memory, or NULL */
void sti_rotary_apply_cuda(const strata_context *ctx, int32_t dtype, const sti_rotary_tables *t, int64_t batch,
                           int64_t time, int64_t heads, const int64_t *pos, int back, int add, const void *x, void *y);
STRATA_END

#endif
