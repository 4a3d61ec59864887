#ifndef STI_LOWRANK_SM90_H
#define STI_LOWRANK_SM90_H
/* y = alpha (x A) B^T + beta y in bf16 on Hopper's tensor cores, in one launch (lowrank_sm90.cu). */

#include <strata/context.h>
#include <strata/tensor.h>

typedef struct sti_lowrank_call {
    const strata_tensor *x, *y;
    const void *a, *b; /* (width of x, rank), (width of y, rank), row-major */
    int64_t rank;
    double alpha, beta; /* beta = 0 never reads y */
    void *z;            /* (count, rank): receives x A unless NULL */
} sti_lowrank_call;

/* How a call is run; any way gives the right result. */
typedef struct sti_lowrank_way {
    int rows;  /* of a panel, 64 or 128; 0: not at all, two products are faster */
    int split; /* blocks that share a panel's columns: 1, 2, 4, 8, 16 */
} sti_lowrank_way;

#if STRATA_HAVE_CUDA
STRATA_BEGIN
/* The way that was measured to be the fastest for such a call (README.md). */
sti_lowrank_way sti_lowrank_sm90_way(const strata_context *ctx, const sti_lowrank_call *call);
/* @return 0 when the shape or the alignment is not served: nothing was done */
int sti_lowrank_sm90(const strata_context *ctx, const sti_lowrank_call *call, sti_lowrank_way way);
STRATA_END
#else
static inline sti_lowrank_way sti_lowrank_sm90_way(const strata_context *ctx, const sti_lowrank_call *call)
{
    (void)ctx, (void)call;
    return (sti_lowrank_way){ 0, 1 };
}
static inline int sti_lowrank_sm90(const strata_context *ctx, const sti_lowrank_call *call, sti_lowrank_way way)
{
    (void)ctx, (void)call, (void)way;
    return 0;
}
#endif

#endif
