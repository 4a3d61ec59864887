#include "backend/cpu/panels.h"
#include "core/real.h"
#include "operator/operator.h"
#include "operator/operator_cuda.h"

#define REAL float
#define SFX _f32
#include "operator/scaled/scaled.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64
#include "operator/scaled/scaled.inc"

enum { PANEL = 512 };

static const sti_key keys[] = {
    { "by", STI_KEY_NUM, "1", "the factor", 0, 0, NULL },
    { "of", STI_KEY_SPEC, NULL, "the operator", 0, 0, "operator" },
};
static const char *const examples[] = { "scaled rows=5 cols=7 by=-0.5 of=dense", "scaled of=btt(shape=3x2,1x4) by=2",
                                        "scaled cols=6 by=0.1 of=diagonal", NULL };

static strata_status build(sti_op_plan *p)
{
    if (p->nchild) return STRATA_OK;
    STI_TRY(sti_op_child(p, "of", sti_value_spec(p->values, "of", 0), p->rows, p->cols, p->max_count, true));
    p->rows = p->child[0]->rows;
    p->cols = p->child[0]->cols;
    return STRATA_OK;
}

static strata_status plan(sti_op_plan *p)
{
    STI_TRY(build(p));
    const sti_op_plan *c = p->child[0];
    const double by = sti_value_num(p->values, "by");
    p->flops = c->flops;
    p->work = c->work;
    p->yes = c->yes;
    if (by < 0) p->yes &= ~(uint32_t)STI_PROP_PSD;
    if (by != 1 && by != -1) p->yes &= ~(uint32_t)STI_PROP_ORTHOGONAL;
    const int64_t panel = sti_serial_rows(p->ctx, p->max_count, PANEL);
    STI_TRY(sti_op_reserve(p, STI_MIN(p->max_count, panel), p->rows, NULL)); /* after the child's: scaled dy */
    return sti_op_set_children(p, "of");
}

static void apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
    sti_op_apply(p->child[0], sti_op_child_params(p, 0, params), mode, alpha * sti_value_num(p->values, "by"), x, beta,
                 y, work);
}

/* b (n, rows), dense, = by a */
static void scale_rows(const sti_op_plan *p, double by, const strata_tensor *a, void *b)
{
    const int64_t n = a->shape[0];
#if STRATA_HAVE_CUDA
    if (sti_on_device(p->ctx)) {
        sti_op_scale_cuda(p->ctx, p->dtype, n, p->rows, by, NULL, a->data, a->stride[0], 0.0, b, p->rows);
        return;
    }
#endif
    if (p->dtype == STRATA_F32)
        scale_rows_f32(n, p->rows, (float)by, a->data, a->stride[0], b);
    else
        scale_rows_f64(n, p->rows, by, a->data, a->stride[0], b);
}

/* The operator's own gradient of <by dy, A x>. */
static void grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    const double by = sti_value_num(p->values, "by");
    void *mine = (char *)work + p->child[0]->work;
    const int64_t panel = sti_serial_rows(p->ctx, x->shape[0], PANEL);
    for (int64_t first = 0; first < x->shape[0]; first += panel) {
        const int64_t n = STI_MIN(panel, x->shape[0] - first);
        const strata_tensor xp = sti_op_rows(x, first, n), dyp = sti_op_rows(dy, first, n);
        const strata_tensor scaled = strata_view2(mine, p->dtype, n, p->rows);
        scale_rows(p, by, &dyp, mine);
        const strata_tensor dxp = dx ? sti_op_rows(dx, first, n) : xp;
        sti_op_grad(p->child[0], sti_op_child_params(p, 0, params), &xp, &scaled, sti_op_child_grads(p, 0, dparams),
                    dx ? &dxp : NULL, acc, work);
    }
}

const sti_op_class sti_op_class_scaled = {
    .kind = "scaled",
    .summary = "an operator times a number",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .size = build,
    .plan = plan,
    .apply = apply,
    .grad = grad,
};
