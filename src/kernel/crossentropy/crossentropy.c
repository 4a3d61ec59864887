#include "kernel/crossentropy/crossentropy.h"

#include <string.h>

#include <strata/tensor.h>

#include "backend/cpu/threads.h"
#include "backend/cpu/vexp.h"
#include "core/device.h"
#include "core/real.h"
#include "kernel/crossentropy/crossentropy_cuda.h"
#include "kernel/crossentropy/crossentropy_isa.h"

#define REAL float
#define SFX _f32_c
#define EXP(x) sti_vexpf(x)
#include "kernel/crossentropy/crossentropy.inc"

static const sti_ce_loops *loops_of(const strata_context *ctx, int32_t dtype)
{
    if (dtype == STRATA_F64) return &sti_ce_loops_f64_ref;
    if (ctx->isa == STI_ISA_REF) return &sti_ce_loops_f32_ref;
#if STRATA_X86
    if (ctx->isa >= STI_ISA_AVX512) return &sti_ce_loops_f32_avx512;
    if (ctx->isa >= STI_ISA_AVX2) return &sti_ce_loops_f32_avx2;
#endif
    return &sti_ce_loops_f32_c;
}

static double get(int32_t dtype, const void *p, int64_t i)
{
    return dtype == STRATA_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}
static void put(int32_t dtype, void *p, int64_t i, double v)
{
    if (dtype == STRATA_F64)
        ((double *)p)[i] = v;
    else
        ((float *)p)[i] = (float)v;
}

strata_status sti_crossentropy_forward(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t vocab,
                                       const void *logits, const int32_t *target, void *lse, void *out)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        sti_crossentropy_forward_cuda(ctx, dtype, rows, vocab, logits, target, lse, out);
        return STRATA_OK;
    }
#endif
    for (int64_t i = 0; i < rows; i++)
        if (target[i] < -1 || target[i] >= vocab)
            return sti_fail(STRATA_E_INVALID, "cross-entropy: target %d of row %lld is outside the vocabulary of %lld",
                            (int)target[i], (long long)i, (long long)vocab);
    const sti_ce_loops *l = loops_of(ctx, dtype);
    const size_t row = (size_t)vocab * strata_dtype_size(dtype);
#pragma omp parallel for num_threads(sti_threads_for(ctx, rows *vocab, 8192))
    for (int64_t i = 0; i < rows; i++) {
        const void *x = (const char *)logits + (size_t)i * row;
        const double z = l->lse(vocab, x);
        if (lse) put(dtype, lse, i, z);
        put(dtype, out, 2 * i, target[i] < 0 ? 0.0 : z - get(dtype, x, target[i]));
        put(dtype, out, 2 * i + 1, target[i] < 0 ? 0.0 : 1.0);
    }
    return STRATA_OK;
}

void sti_crossentropy_backward(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t vocab,
                               const void *logits, const int32_t *target, const void *lse, void *dlogits, int acc)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        sti_crossentropy_backward_cuda(ctx, dtype, rows, vocab, logits, target, lse, dlogits, acc);
        return;
    }
#endif
    const sti_ce_loops *l = loops_of(ctx, dtype);
    const size_t row = (size_t)vocab * strata_dtype_size(dtype);
    int64_t counted = 0;
    for (int64_t i = 0; i < rows; i++) counted += target[i] >= 0;
    const double scale = counted ? 1.0 / (double)counted : 0.0;
#pragma omp parallel for num_threads(sti_threads_for(ctx, rows *vocab, 8192))
    for (int64_t i = 0; i < rows; i++) {
        void *d = (char *)dlogits + (size_t)i * row;
        const double z = get(dtype, lse, i);
        if (target[i] >= 0) {
            l->grad(vocab, (const char *)logits + (size_t)i * row, z, scale, d, acc);
            put(dtype, d, target[i], get(dtype, d, target[i]) - scale);
        } else if (!acc) {
            memset(d, 0, row);
        }
    }
}
