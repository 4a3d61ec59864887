#ifndef STI_SOFTMAX_GATHER_H
#define STI_SOFTMAX_GATHER_H
/* Strided tables to dense blocks and back, in either type. See gather.inc for the meaning of the strides. */

#include <strata/tensor.h>

#include "core/base.h"
#include "core/device.h"
#include "core/real.h"
#include "mixer/softmax/softmax_cuda.h"

#define REAL float
#define SFX _f32
#include "mixer/softmax/gather.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64
#include "mixer/softmax/gather.inc"
#undef REAL
#undef SFX

static inline void gather(const strata_context *ctx, int32_t dtype, int64_t n, int64_t m, int64_t l, const void *table,
                          int64_t si, int64_t sj, int64_t sk, void *dense)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        sti_softmax_gather_cuda(ctx, dtype, n, m, l, table, si, sj, sk, dense);
        return;
    }
#endif
    (void)ctx;
    (dtype == STRATA_F64 ? gather_f64 : gather_f32)(n, m, l, table, si, sj, sk, dense);
}

static inline void scatter(const strata_context *ctx, int32_t dtype, int64_t n, int64_t m, int64_t l, const void *dense,
                           void *table, int64_t si, int64_t sj, int64_t sk, bool add)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        sti_softmax_scatter_cuda(ctx, dtype, n, m, l, dense, table, si, sj, sk, add);
        return;
    }
#endif
    (void)ctx;
    (dtype == STRATA_F64 ? scatter_f64 : scatter_f32)(n, m, l, dense, table, si, sj, sk, add);
}

#endif
