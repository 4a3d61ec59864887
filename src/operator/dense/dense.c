#include "kernel/gemm/gemm.h"
#include "operator/operator.h"

static const char *const examples[] = { "dense rows=7 cols=5", "dense rows=3 cols=11", "dense rows=1 cols=1",
                                        "dense rows=48 cols=33", NULL };

static strata_status plan(sti_op_plan *p)
{
    p->flops = 2.0 * (double)p->rows * (double)p->cols;
    return sti_op_factor(p, "weight", 2, (const int64_t[]){ p->rows, p->cols }, p->cols, p->rows, 1, true);
}

static void apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
    (void)work;
    sti_gemm(p->ctx, p->dtype, false, mode == STI_N, x->shape[0], y->shape[1], x->shape[1], alpha, x->data,
             x->stride[0], params, p->cols, beta, y->data, y->stride[0]);
}

static void grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    if (dparams)
        sti_gemm_sum(p->ctx, p->dtype, true, false, p->rows, p->cols, x->shape[0], 1.0, dy->data, dy->stride[0],
                     x->data, x->stride[0], 1.0, dparams, p->cols);
    if (dx) apply(p, params, STI_T, 1.0, dy, acc ? 1.0 : 0.0, dx, work);
}

const sti_op_class sti_op_class_dense = {
    .kind = "dense",
    .summary = "a full matrix",
    .keys = STI_NO_KEYS,
    .examples = examples,
    .plan = plan,
    .apply = apply,
    .grad = grad,
};
