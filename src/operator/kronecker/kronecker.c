#include "kernel/twostage/twostage.h"
#include "operator/operator.h"

static const sti_key keys[] = {
    { "shape", STI_KEY_TEXT, "", "M1xM2,N1xN2: A is (M1, N1), B is (M2, N2); default nearest the square root", 0, 0,
      NULL },
};
static const char *const examples[] = { "kronecker rows=6 cols=8",   "kronecker shape=3x2,5x4",
                                        "kronecker rows=7 cols=5",   "kronecker shape=1x6,4x1",
                                        "kronecker rows=48 cols=64", NULL };

enum { A, B };

static strata_status size(sti_op_plan *p)
{
    int64_t f[4];
    if (sti_value_of(p->values, "shape")->empty) return STRATA_OK;
    STI_TRY(sti_op_shape_key(p, "shape", f));
    p->rows = f[0] * f[1];
    p->cols = f[2] * f[3];
    return STRATA_OK;
}

static strata_status plan(sti_op_plan *p)
{
    int64_t f[4], scratch;
    STI_TRY(sti_op_shape_key(p, "shape", f));
    const int64_t m1 = f[0], m2 = f[1], n1 = f[2], n2 = f[3];
    STI_TRY(sti_op_factor(p, "A", 2, (const int64_t[]){ m1, n1 }, n1, m1, 2, true));
    STI_TRY(sti_op_factor(p, "B", 2, (const int64_t[]){ m2, n2 }, n2, m2, 2, false));
    sti_twostage *t = sti_heap(sizeof *t);
    if (!t) return sti_fail(STRATA_E_MEMORY, "kronecker: no memory");
    p->data = t;
    /* B on each of the n1 slices of x, then A across them for each of the m2 results */
    *t = (sti_twostage){ .ctx = p->ctx,
                         .dtype = p->dtype,
                         .rows = p->rows,
                         .cols = p->cols,
                         .n1 = n1,
                         .p = n2,
                         .q = m2,
                         .n2 = m2,
                         .r = n1,
                         .s = m1,
                         .group = 1,
                         .out_major = true,
                         .tied = true };
    sti_twostage_plan(t, p->max_count, &scratch);
    p->flops = 2.0 * ((double)n1 * (double)n2 * (double)m2 + (double)m1 * (double)n1 * (double)m2);
    return sti_op_reserve(p, scratch, t->width, NULL);
}

static void apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
    sti_twostage_apply(p->data, sti_op_param_at(p, params, B), sti_op_param_at(p, params, A), mode != STI_N, alpha, x,
                       beta, y, work);
}

static void grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    if (dparams)
        sti_twostage_grad(p->data, sti_op_param_at(p, params, B), sti_op_param_at(p, params, A), x, dy,
                          sti_op_grad_at(p, dparams, B), sti_op_grad_at(p, dparams, A), 1.0, acc ? 1.0 : 0.0, dx, work);
    else
        apply(p, params, STI_T, 1.0, dy, acc ? 1.0 : 0.0, dx, work);
}

static void destroy(sti_op_plan *p)
{
    sti_heap_free(p->data);
}

const sti_op_class sti_op_class_kronecker = {
    .kind = "kronecker",
    .summary = "the Kronecker product of two matrices",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .size = size,
    .plan = plan,
    .apply = apply,
    .grad = grad,
    .destroy = destroy,
};
