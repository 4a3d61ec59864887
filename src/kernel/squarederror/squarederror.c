#include "kernel/squarederror/squarederror.h"

#include <math.h>

#include <strata/tensor.h>

#include "backend/cpu/threads.h"
#include "core/device.h"
#include "core/real.h"
#include "kernel/squarederror/squarederror_cuda.h"

enum { PIECE = 4096 }; /* elements that one thread takes at a time */

#define REAL float
#define SFX _f32
#include "kernel/squarederror/squarederror.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64
#include "kernel/squarederror/squarederror.inc"

void sti_squarederror_forward(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t width, const void *y,
                              const void *target, void *out)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        sti_squarederror_forward_cuda(ctx, dtype, rows, width, y, target, out);
        return;
    }
#endif
#pragma omp parallel for num_threads(sti_threads_for(ctx, rows *width, 32768))
    for (int64_t i = 0; i < rows; i++) (dtype == STRATA_F64 ? row_f64 : row_f32)(i, width, y, target, out);
}

void sti_squarederror_backward(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t width, const void *y,
                               const void *target, void *dy, int acc)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        sti_squarederror_backward_cuda(ctx, dtype, rows, width, y, target, dy, acc);
        return;
    }
#endif
    const int64_t n = rows * width;
    const int64_t scored = (dtype == STRATA_F64 ? scored_f64 : scored_f32)(n, target);
    const double scale = scored ? 2.0 / (double)scored : 0.0;
#pragma omp parallel for num_threads(sti_threads_for(ctx, n, 32768))
    for (int64_t i = 0; i < n; i += PIECE)
        (dtype == STRATA_F64 ? grad_f64 : grad_f32)(i, STI_MIN(PIECE, n - i), scale, y, target, dy, acc);
}
