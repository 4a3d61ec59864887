#include <math.h>
#include <stdio.h>

#include "backend/cpu/panels.h"
#include "kernel/gemm/gemm.h"
#include "operator/lowrank/lowrank_sm90.h"
#include "operator/operator.h"

enum { PANEL = 256 };

static const sti_key keys[] = {
    { "rank", STI_KEY_INT, "", "inner width; default ceil(sqrt(min(rows, cols)))", 1, 1 << 24, NULL },
};
static const char *const examples[] = { "lowrank rows=7 cols=5 rank=2", "lowrank rows=11 cols=13",
                                        "lowrank rows=3 cols=4 rank=9", "lowrank rows=1 cols=6 rank=1", NULL };

enum { U, V };

static strata_status plan(sti_op_plan *p)
{
    const sti_value *v = sti_value_of(p->values, "rank");
    if (v->empty) {
        char text[24];
        snprintf(text, sizeof text, "%.0f", ceil(sqrt((double)STI_MIN(p->rows, p->cols))));
        STI_TRY(sti_values_set(p->values, "rank", text));
    }
    const int64_t r = v->i;
    p->flops = 2.0 * (double)r * (double)(p->rows + p->cols);
    STI_TRY(sti_op_factor(p, "U", 2, (const int64_t[]){ p->rows, r }, r, p->rows, 2, true));
    STI_TRY(sti_op_factor(p, "V", 2, (const int64_t[]){ p->cols, r }, p->cols, r, 2, false));
    const int64_t apply_rows = sti_panel_scratch(p->ctx, p->max_count, PANEL);
    const int64_t grad_rows = STI_MIN(p->max_count, sti_serial_rows(p->ctx, p->max_count, PANEL));
    return sti_op_reserve(p, STI_MAX(apply_rows, 2 * grad_rows), r, NULL);
}

typedef struct job {
    const sti_op_plan *p;
    const void *in, *out; /* factor next to x, factor next to y */
    double alpha, beta;
    const strata_tensor *x, *y;
    void *work;
    int64_t r, panel;
} job;

static void panel_apply(void *arg, int64_t first, int64_t rows, int thread)
{
    const job *j = arg;
    const sti_op_plan *p = j->p;
    const strata_tensor x = sti_op_rows(j->x, first, rows), y = sti_op_rows(j->y, first, rows);
    void *z = sti_op_at(p, j->work, thread * j->panel * j->r);
    sti_gemm(p->ctx, p->dtype, false, false, rows, j->r, x.shape[1], 1.0, x.data, x.stride[0], j->in, j->r, 0.0, z,
             j->r);
    sti_gemm(p->ctx, p->dtype, false, true, rows, y.shape[1], j->r, j->alpha, z, j->r, j->out, j->r, j->beta, y.data,
             y.stride[0]);
}

/* Both products in one launch, where a device has one for the call; z (NULL: not wanted) receives x in. */
static bool fused(const sti_op_plan *p, const void *in, const void *out, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *z)
{
    const sti_lowrank_call c = { x, y, in, out, sti_value_int(p->values, "rank"), alpha, beta, z };
    return sti_on_device(p->ctx) && p->dtype == STRATA_BF16 &&
           sti_lowrank_sm90(p->ctx, &c, sti_lowrank_sm90_way(p->ctx, &c));
}

static void apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
    const void *u = sti_op_param_at(p, params, U), *v = sti_op_param_at(p, params, V);
    if (mode == STI_N ? fused(p, v, u, alpha, x, beta, y, NULL) : fused(p, u, v, alpha, x, beta, y, NULL)) return;
    const int64_t count = x->shape[0], panel = sti_panel_rows(p->ctx, count, PANEL);
    job j = { p, v, u, alpha, beta, x, y, work, sti_value_int(p->values, "rank"), panel };
    if (mode != STI_N) j.in = u, j.out = v;
    sti_panels(p->ctx, count, panel, panel_apply, &j);
}

static void grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    const void *u = sti_op_param_at(p, params, U), *v = sti_op_param_at(p, params, V);
    const int64_t r = sti_value_int(p->values, "rank"), count = x->shape[0];
    if (!dparams) {
        apply(p, params, STI_T, 1.0, dy, acc ? 1.0 : 0.0, dx, work);
        return;
    }
    const int64_t panel = sti_serial_rows(p->ctx, count, PANEL);
    void *z = work, *dz = sti_op_at(p, work, STI_MIN(count, panel) * r);
    for (int64_t first = 0; first < count; first += panel) {
        const int64_t n = STI_MIN(panel, count - first);
        const strata_tensor xp = sti_op_rows(x, first, n), dyp = sti_op_rows(dy, first, n);
        sti_gemm(p->ctx, p->dtype, false, false, n, r, p->cols, 1.0, xp.data, xp.stride[0], v, r, 0.0, z, r);
        const double beta = acc ? 1.0 : 0.0;
        const strata_tensor dxp = dx ? sti_op_rows(dx, first, n) : (strata_tensor){ 0 };
        const bool both = dx && fused(p, u, v, 1.0, &dyp, beta, &dxp, dz);
        if (!both)
            sti_gemm(p->ctx, p->dtype, false, false, n, r, p->rows, 1.0, dyp.data, dyp.stride[0], u, r, 0.0, dz, r);
        sti_gemm_sum(p->ctx, p->dtype, true, false, p->rows, r, n, 1.0, dyp.data, dyp.stride[0], z, r, 1.0,
                     sti_op_grad_at(p, dparams, U), r);
        sti_gemm_sum(p->ctx, p->dtype, true, false, p->cols, r, n, 1.0, xp.data, xp.stride[0], dz, r, 1.0,
                     sti_op_grad_at(p, dparams, V), r);
        if (dx && !both)
            sti_gemm(p->ctx, p->dtype, false, true, n, p->cols, r, 1.0, dz, r, v, r, beta, dxp.data, dxp.stride[0]);
    }
}

const sti_op_class sti_op_class_lowrank = {
    .kind = "lowrank",
    .summary = "U V^T",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .plan = plan,
    .apply = apply,
    .grad = grad,
};
