#include "core/real.h"
#include "operator/operator.h"

#define REAL float
#define SFX _f32
#include "operator/antidiagonal/antidiagonal.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64
#include "operator/antidiagonal/antidiagonal.inc"

static const char *const examples[] = { "antidiagonal rows=7", "antidiagonal cols=1", "antidiagonal rows=33 cols=33",
                                        NULL };

static strata_status size(sti_op_plan *p)
{
    p->rows = p->cols = p->rows ? p->rows : p->cols;
    return STRATA_OK;
}

static strata_status plan(sti_op_plan *p)
{
    STI_TRY(sti_op_square(p));
    p->flops = 2.0 * (double)p->rows;
    STI_TRY(sti_op_factor(p, "d", 1, &p->rows, 1, 1, 1, true));
    p->params.p[0].lr_mult = 1.0;
    return STRATA_OK;
}

static void apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
    (void)work;
    if (p->dtype == STRATA_F32)
        apply_f32(p->rows, params, mode != STI_N, (float)alpha, x, (float)beta, y);
    else
        apply_f64(p->rows, params, mode != STI_N, alpha, x, beta, y);
}

static void grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    if (dparams && p->dtype == STRATA_F32) grad_f32(p->rows, x, dy, dparams);
    if (dparams && p->dtype == STRATA_F64) grad_f64(p->rows, x, dy, dparams);
    if (dx) apply(p, params, STI_T, 1.0, dy, acc ? 1.0 : 0.0, dx, work);
}

const sti_op_class sti_op_class_antidiagonal = {
    .kind = "antidiagonal",
    .summary = "an antidiagonal matrix",
    .keys = STI_NO_KEYS,
    .examples = examples,
    .size = size,
    .plan = plan,
    .apply = apply,
    .grad = grad,
};
