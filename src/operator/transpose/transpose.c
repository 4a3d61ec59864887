#include "operator/operator.h"

static const sti_key keys[] = {
    { "of", STI_KEY_SPEC, NULL, "the operator", 0, 0, "operator" },
};
static const char *const examples[] = { "transpose rows=5 cols=8 of=dense", "transpose of=btt(shape=3x2,1x4 rank=2)",
                                        "transpose rows=6 cols=8 of=mlr(ranks=2,1)",
                                        "transpose rows=4 cols=9 of=scaled(by=3 of=lowrank(rank=1))", NULL };

static strata_status build(sti_op_plan *p)
{
    if (p->nchild) return STRATA_OK;
    STI_TRY(sti_op_child(p, "of", sti_value_spec(p->values, "of", 0), p->cols, p->rows, p->max_count, true));
    p->rows = p->child[0]->cols;
    p->cols = p->child[0]->rows;
    return STRATA_OK;
}

static strata_status plan(sti_op_plan *p)
{
    STI_TRY(build(p));
    const sti_op_plan *c = p->child[0];
    const uint32_t triangle = STI_PROP_LOWER | STI_PROP_UPPER;
    p->flops = c->flops;
    p->work = c->work;
    p->yes = c->yes & ~triangle;
    if (c->yes & STI_PROP_LOWER) p->yes |= STI_PROP_UPPER;
    if (c->yes & STI_PROP_UPPER) p->yes |= STI_PROP_LOWER;
    return sti_op_set_children(p, "of");
}

static void apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
    sti_op_apply(p->child[0], sti_op_child_params(p, 0, params), mode == STI_N ? STI_T : STI_N, alpha, x, beta, y,
                 work);
}

/* <dy, B^T x> = <x, B dy>: the operator's gradient with input and output exchanged. */
static void grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    const void *own = sti_op_child_params(p, 0, params);
    if (dparams) sti_op_grad(p->child[0], own, dy, x, sti_op_child_grads(p, 0, dparams), NULL, 0, work);
    if (dx) sti_op_apply(p->child[0], own, STI_N, 1.0, dy, acc ? 1.0 : 0.0, dx, work);
}

const sti_op_class sti_op_class_transpose = {
    .kind = "transpose",
    .summary = "an operator transposed",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .size = build,
    .plan = plan,
    .apply = apply,
    .grad = grad,
};
