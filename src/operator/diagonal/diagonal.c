#include "backend/cpu/panels.h"
#include "core/real.h"
#include "operator/operator.h"
#include "operator/operator_cuda.h"

enum { PANEL = 256, WIDE = 32 };

#define REAL float
#define SFX _f32
#include "operator/diagonal/diagonal.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64
#include "operator/diagonal/diagonal.inc"

static const char *const examples[] = { "diagonal rows=7", "diagonal cols=1", "diagonal rows=130 cols=130", NULL };

static strata_status size(sti_op_plan *p)
{
    p->rows = p->cols = p->rows ? p->rows : p->cols;
    return STRATA_OK;
}

static strata_status plan(sti_op_plan *p)
{
    STI_TRY(sti_op_square(p));
    p->flops = 2.0 * (double)p->rows;
    p->yes = STI_PROP_SYMMETRIC | STI_PROP_DIAGONAL | STI_PROP_LOWER | STI_PROP_UPPER;
    STI_TRY(sti_op_factor(p, "d", 1, &p->rows, 1, 1, 1, true));
    p->params.p[0].lr_mult = 1.0;
    return STRATA_OK;
}

static void apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
    (void)mode, (void)work;
#if STRATA_HAVE_CUDA
    if (sti_on_device(p->ctx)) {
        sti_op_scale_cuda(p->ctx, p->dtype, x->shape[0], p->rows, alpha, params, x->data, x->stride[0], beta, y->data,
                          y->stride[0]);
        return;
    }
#endif
    if (p->dtype == STRATA_F32)
        apply_f32(p, params, alpha, x, beta, y);
    else
        apply_f64(p, params, alpha, x, beta, y);
}

static void sum_grad(const sti_op_plan *p, const strata_tensor *x, const strata_tensor *dy, void *dparams)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(p->ctx)) {
        sti_op_columns_cuda(p->ctx, p->dtype, x->shape[0], p->rows, dy->data, dy->stride[0], x->data, x->stride[0],
                            dparams);
        return;
    }
#endif
    if (p->dtype == STRATA_F32)
        grad_f32(p, x, dy, dparams);
    else
        grad_f64(p, x, dy, dparams);
}

static void grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    if (dparams) sum_grad(p, x, dy, dparams);
    if (dx) apply(p, params, STI_T, 1.0, dy, acc ? 1.0 : 0.0, dx, work);
}

const sti_op_class sti_op_class_diagonal = {
    .kind = "diagonal",
    .summary = "a diagonal matrix",
    .keys = STI_NO_KEYS,
    .examples = examples,
    .size = size,
    .plan = plan,
    .apply = apply,
    .grad = grad,
};
