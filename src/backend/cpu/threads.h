#ifndef STI_THREADS_H
#define STI_THREADS_H
/* How many threads a parallel region may use: the context's, one inside a region of the caller's. */

#include "core/context.h"

#ifdef _OPENMP
#include <omp.h>
#endif

static inline int sti_threads(const strata_context *ctx)
{
#ifdef _OPENMP
    return omp_in_parallel() ? 1 : (int)ctx->threads;
#else
    (void)ctx;
    return 1;
#endif
}

/* The same, but one thread when there are fewer than `grain` units of work for each. */
static inline int sti_threads_for(const strata_context *ctx, int64_t work, int64_t grain)
{
    const int n = sti_threads(ctx);
    const int64_t most = work / (grain > 0 ? grain : 1);
    return most >= n ? n : most > 1 ? (int)most : 1;
}

#endif
