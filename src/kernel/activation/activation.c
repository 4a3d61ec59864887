#include "kernel/activation/activation.h"

#include <math.h>

#include "backend/cpu/threads.h"
#include "core/device.h"
#include "core/real.h"
#include "kernel/activation/activation_cuda.h"
#include "kernel/activation/activation_f32.h"
#include "kernel/activation/activation_isa.h"

#define SFX _f32_c
#include "kernel/activation/activation.inc"

enum { BLOCK = 4096 }; /* elements of one task */

static const sti_act_loops *loops_of(const strata_context *ctx, int32_t dtype)
{
    if (dtype == STRATA_F64) return &sti_act_loops_f64_ref;
    if (ctx->isa == STI_ISA_REF) return &sti_act_loops_f32_ref;
#if STRATA_X86
    if (ctx->isa >= STI_ISA_AVX512) return &sti_act_loops_f32_avx512;
    if (ctx->isa >= STI_ISA_AVX2) return &sti_act_loops_f32_avx2;
#endif
    return &sti_act_loops_f32_c;
}

static const void *at(const void *p, int64_t i, int32_t dtype)
{
    return (const char *)p + (size_t)i * strata_dtype_size(dtype);
}
static void *at_out(void *p, int64_t i, int32_t dtype)
{
    return p ? (char *)p + (size_t)i * strata_dtype_size(dtype) : NULL;
}

void sti_act_forward(const strata_context *ctx, int32_t dtype, sti_act act, int64_t n, const void *x, void *y)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        sti_act_forward_cuda(ctx, dtype, (int)act, n, x, y);
        return;
    }
#endif
    const sti_act_loops *l = loops_of(ctx, dtype);
    const int64_t blocks = sti_ceil_div(n, BLOCK);
#pragma omp parallel for num_threads(sti_threads_for(ctx, blocks, 4))
    for (int64_t b = 0; b < blocks; b++)
        l->forward[act](STI_MIN(BLOCK, n - b * BLOCK), at(x, b * BLOCK, dtype), at_out(y, b * BLOCK, dtype));
}

void sti_act_backward(const strata_context *ctx, int32_t dtype, sti_act act, int64_t n, const void *x, const void *dy,
                      void *dx, int acc)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        sti_act_backward_cuda(ctx, dtype, (int)act, n, x, dy, dx, acc);
        return;
    }
#endif
    const sti_act_loops *l = loops_of(ctx, dtype);
    const int64_t blocks = sti_ceil_div(n, BLOCK);
#pragma omp parallel for num_threads(sti_threads_for(ctx, blocks, 4))
    for (int64_t b = 0; b < blocks; b++)
        l->backward[act](STI_MIN(BLOCK, n - b * BLOCK), at(x, b * BLOCK, dtype), at(dy, b * BLOCK, dtype),
                         at_out(dx, b * BLOCK, dtype), acc);
}

void sti_gate_forward(const strata_context *ctx, int32_t dtype, int64_t n, const void *a, const void *b, void *y)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        sti_gate_forward_cuda(ctx, dtype, n, a, b, y);
        return;
    }
#endif
    const sti_act_loops *l = loops_of(ctx, dtype);
    const int64_t blocks = sti_ceil_div(n, BLOCK);
#pragma omp parallel for num_threads(sti_threads_for(ctx, blocks, 4))
    for (int64_t k = 0; k < blocks; k++)
        l->gate_forward(STI_MIN(BLOCK, n - k * BLOCK), at(a, k * BLOCK, dtype), at(b, k * BLOCK, dtype),
                        at_out(y, k * BLOCK, dtype));
}

void sti_gate_backward(const strata_context *ctx, int32_t dtype, int64_t n, const void *a, const void *b,
                       const void *dy, void *da, int acca, void *db, int accb)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        sti_gate_backward_cuda(ctx, dtype, n, a, b, dy, da, acca, db, accb);
        return;
    }
#endif
    const sti_act_loops *l = loops_of(ctx, dtype);
    const int64_t blocks = sti_ceil_div(n, BLOCK);
#pragma omp parallel for num_threads(sti_threads_for(ctx, blocks, 4))
    for (int64_t k = 0; k < blocks; k++)
        l->gate_backward(STI_MIN(BLOCK, n - k * BLOCK), at(a, k * BLOCK, dtype), at(b, k * BLOCK, dtype),
                         at(dy, k * BLOCK, dtype), at_out(da, k * BLOCK, dtype), acca, at_out(db, k * BLOCK, dtype),
                         accb);
}
