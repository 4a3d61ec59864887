#ifndef STI_BTT_STAGE_H
#define STI_BTT_STAGE_H
/* The projection of bilinear BTT scoring, between btt_stage.c and its execution on a device. */

#include "core/context.h"

typedef struct sti_btt {
    int64_t width, heads, rank;
    int64_t a, b, c, d; /* width = a b = c d */
    bool transposed;
    int64_t param_l;                 /* element offset of L; R stands at 0 */
    size_t z, dz, side, line, bytes; /* work: z, its gradient, and blocks (rows, c s) and (rows, a) */
    bool fused;                      /* on a device: btt_stage_cuda.cu takes it */
} sti_btt;

/* What the loops of one call need at hand. */
typedef struct sti_btt_call {
    const sti_btt *p;
    const strata_context *ctx;
    int32_t dtype;
    size_t e, sum;               /* bytes of an element, and of a parameter's gradient */
    int64_t rows, inner, cs, bs; /* inner: heads b s */
    char *z, *dz, *side, *line;  /* z: the start of the work */
    const char *R, *L;
} sti_btt_call;

/* On a device; defined in builds with CUDA. dR, dL, dx may be NULL: not wanted. */
void sti_btt_device_plan(const strata_context *ctx, sti_btt *p, int64_t rows, int32_t dtype);
void sti_btt_device_forward(const sti_btt_call *k, const char *x, char *y);
void sti_btt_device_backward(const sti_btt_call *k, const char *x, const char *dy, char *dx, int acc, char *dR,
                             char *dL);

#endif
