#include "kernel/gemm/gemm.h"
#include "operator/operator.h"

static const sti_key keys[] = {
    { "blocks", STI_KEY_INT, "4", "number of blocks; divides rows and cols", 1, INT32_MAX, NULL },
};
static const char *const examples[] = { "blockdiag rows=6 cols=15 blocks=3", "blockdiag rows=8 cols=4",
                                        "blockdiag rows=5 cols=5 blocks=5", "blockdiag rows=3 cols=7 blocks=1", NULL };

static strata_status plan(sti_op_plan *p)
{
    const int64_t n = sti_value_int(p->values, "blocks");
    if (p->rows % n || p->cols % n)
        return sti_fail(STRATA_E_SHAPE, "blockdiag: blocks=%lld does not divide rows=%lld and cols=%lld", (long long)n,
                        (long long)p->rows, (long long)p->cols);
    const int64_t m = p->rows / n, k = p->cols / n;
    p->flops = 2.0 * (double)p->rows * (double)k;
    return sti_op_factor(p, "blocks", 3, (const int64_t[]){ n, m, k }, k, m, 1, true);
}

static void apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
    (void)work;
    const int64_t n = sti_value_int(p->values, "blocks"), k = p->cols / n;
    const int64_t in = x->shape[1] / n, out = y->shape[1] / n;
    sti_gemm_batch(p->ctx, p->dtype, false, mode == STI_N, x->shape[0], out, in, alpha, x->data, x->stride[0], in,
                   params, k, in * out, beta, y->data, y->stride[0], out, n);
}

static void grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    const int64_t n = sti_value_int(p->values, "blocks"), m = p->rows / n, k = p->cols / n;
    if (dparams)
        sti_gemm_sum_batch(p->ctx, p->dtype, true, false, m, k, x->shape[0], 1.0, dy->data, dy->stride[0], m, x->data,
                           x->stride[0], k, 1.0, dparams, k, m * k, n);
    if (dx) apply(p, params, STI_T, 1.0, dy, acc ? 1.0 : 0.0, dx, work);
}

const sti_op_class sti_op_class_blockdiag = {
    .kind = "blockdiag",
    .summary = "independent blocks on the diagonal",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .plan = plan,
    .apply = apply,
    .grad = grad,
};
