#include <stdio.h>

#include "operator/operator.h"

static const sti_key keys[] = {
    { "terms", STI_KEY_SPECS, NULL, "operators to add", 0, 0, "operator" },
};
static const char *const examples[] = { "sum rows=6 cols=8 terms=btt(rank=1),lowrank(rank=2)",
                                        "sum rows=5 cols=5 terms=diagonal,lowrank(rank=1),dense",
                                        "sum terms=kronecker(shape=2x3,3x1),dense",
                                        "sum rows=7 cols=3 terms=sum(terms=dense,lowrank)", NULL };

/* Terms take the sizes known so far; the first one that knows its own gives them to the rest. */
static strata_status build(sti_op_plan *p)
{
    const int64_t n = sti_value_of(p->values, "terms")->i;
    while (p->nchild < n) {
        char prefix[24];
        const int32_t i = p->nchild;
        snprintf(prefix, sizeof prefix, "terms.%d", i);
        STI_TRY(sti_op_child(p, prefix, sti_value_spec(p->values, "terms", i), p->rows, p->cols, p->max_count, true));
        p->rows = p->child[i]->rows;
        p->cols = p->child[i]->cols;
    }
    return STRATA_OK;
}

static strata_status plan(sti_op_plan *p)
{
    STI_TRY(build(p));
    p->yes = STI_PROP_SYMMETRIC | STI_PROP_PSD | STI_PROP_LOWER | STI_PROP_UPPER | STI_PROP_DIAGONAL;
    for (int32_t i = 0; i < p->nchild; i++) {
        const sti_op_plan *c = p->child[i];
        p->flops += c->flops;
        p->work = STI_MAX(p->work, c->work);
        p->yes &= c->yes;
    }
    return sti_op_set_children(p, "terms");
}

static void apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
    for (int32_t i = 0; i < p->nchild; i++)
        sti_op_apply(p->child[i], sti_op_child_params(p, i, params), mode, alpha, x, i ? 1.0 : beta, y, work);
}

static void grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    for (int32_t i = 0; i < p->nchild; i++)
        sti_op_grad(p->child[i], sti_op_child_params(p, i, params), x, dy, sti_op_child_grads(p, i, dparams), dx,
                    i ? 1 : acc, work);
}

const sti_op_class sti_op_class_sum = {
    .kind = "sum",
    .summary = "operators added",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .size = build,
    .plan = plan,
    .apply = apply,
    .grad = grad,
};
