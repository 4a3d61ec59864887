#include <math.h>

#include "backend/cpu/panels.h"
#include "core/real.h"
#include "kernel/gemm/gemm.h"
#include "operator/householder/householder_cuda.h"
#include "operator/operator.h"
#include "operator/operator_cuda.h"

#define REAL float
#define SFX _f32
#include "operator/householder/householder.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64
#include "operator/householder/householder.inc"

/* Call the f32 or the f64 function. */
#define CALL(f, ...) (p->dtype == STRATA_F32 ? f##_f32(__VA_ARGS__) : f##_f64(__VA_ARGS__))

enum { PANEL = 256 };

static const sti_key keys[] = {
    { "k", STI_KEY_INT, "1", "number of reflections", 1, 1 << 16, NULL },
    { "beta", STI_KEY_WORD, "free", "free: a parameter; orthogonal: 2/|v|^2", 0, 0, "free|orthogonal" },
};
static const char *const examples[] = { "householder rows=7 k=3",
                                        "householder cols=5 k=2 beta=orthogonal",
                                        "householder rows=3 cols=3 k=5",
                                        "householder rows=2 k=1 beta=orthogonal",
                                        "householder rows=40 k=4 beta=orthogonal",
                                        NULL };

enum { V, BETA };

typedef struct plan_data {
    int64_t k;
    bool orthogonal;
    /* places in the workspace, in the type of sums; beside them `rounded`, two times coef's size in the plan's type */
    size_t gram, beta, coef, coef2, small, wide, rounded;
} plan_data;

static strata_status size(sti_op_plan *p)
{
    p->rows = p->cols = p->rows ? p->rows : p->cols;
    return STRATA_OK;
}

static strata_status plan(sti_op_plan *p)
{
    STI_TRY(sti_op_square(p));
    if (p->zero_init) return sti_fail(STRATA_E_UNSUPPORTED, "householder: no factor makes it 0 at the start");
    plan_data *d = sti_heap(sizeof *d);
    if (!d) return sti_fail(STRATA_E_MEMORY, "householder: no memory");
    p->data = d;
    const int64_t n = p->rows, k = d->k = sti_value_int(p->values, "k");
    d->orthogonal = sti_value_is(p->values, "beta", "orthogonal");
    STI_TRY(sti_params_add(&p->params, "V", 2, (const int64_t[]){ k, n }, STI_INIT_NORMAL, sqrt(1.0 / (double)n),
                           sqrt(1.0 / (double)n), p->base_width / (double)n / (double)k));
    if (!d->orthogonal)
        STI_TRY(sti_params_add(&p->params, "beta", 1, &k, STI_INIT_CONST, 2.0, 0.5, 1.0));
    else
        p->yes = STI_PROP_ORTHOGONAL;
    if (k == 1) p->yes |= STI_PROP_SYMMETRIC;
    p->flops = 4.0 * (double)n * (double)k + (double)k * (double)(k - 1);
    const int64_t rows = STI_MAX(sti_panel_scratch(p->ctx, p->max_count, PANEL), STI_MIN(p->max_count, PANEL));
    STI_TRY(sti_op_reserve_sums(p, k, k, &d->gram));
    STI_TRY(sti_op_reserve_sums(p, 1, k, &d->beta));
    STI_TRY(sti_op_reserve_sums(p, rows, k, &d->coef));
    STI_TRY(sti_op_reserve_sums(p, rows, k, &d->coef2));
    STI_TRY(sti_op_reserve_sums(p, 2 * k, k, &d->small));
    STI_TRY(sti_op_reserve_sums(p, k, n, &d->wide));
    return sti_on_device(p->ctx) ? sti_op_reserve(p, 2 * rows + k, STI_MAX(k, 1), &d->rounded) : STRATA_OK;
}

static void *place(void *work, size_t at)
{
    return (char *)work + at;
}

#if STRATA_HAVE_CUDA
/* The same steps on a device. Coefficients stay in the type of sums; the products round them to the plan's type. */
static void prepare_cuda(const sti_op_plan *p, const void *params, void *work)
{
    const plan_data *d = p->data;
    const void *v = sti_op_param_at(p, params, V);
    const void *given = d->orthogonal ? NULL : sti_op_param_at(p, params, BETA);
    sti_gemm_sum(p->ctx, p->dtype, false, true, d->k, d->k, p->rows, 1.0, v, p->rows, v, p->rows, 0.0,
                 place(work, d->gram), d->k);
    sti_householder_prepare_cuda(p->ctx, p->dtype, d->k, given, place(work, d->gram), place(work, d->beta));
}

/* c (rows, k): the coefficients of x */
static void coefficients_cuda(const sti_op_plan *p, const void *v, bool transposed, const strata_tensor *x, void *work,
                              void *c)
{
    const plan_data *d = p->data;
    sti_gemm_sum(p->ctx, p->dtype, false, true, x->shape[0], d->k, p->rows, 1.0, x->data, x->stride[0], v, p->rows, 0.0,
                 c, d->k);
    sti_householder_coefficients_cuda(p->ctx, p->dtype, d->k, place(work, d->gram), place(work, d->beta), transposed,
                                      x->shape[0], c);
}

static void combine_cuda(const sti_op_plan *p, const void *v, double alpha, const strata_tensor *x, const void *c,
                         double beta, const strata_tensor *y, void *work)
{
    const plan_data *d = p->data;
    const int64_t rows = x->shape[0], n = p->rows;
    void *scaled = place(work, d->rounded);
    sti_op_scale_cuda(p->ctx, p->dtype, rows, n, alpha, NULL, x->data, x->stride[0], beta, y->data, y->stride[0]);
    sti_householder_round_cuda(p->ctx, p->dtype, rows, d->k, place(work, d->beta), c, scaled);
    sti_gemm(p->ctx, p->dtype, false, false, rows, n, d->k, -alpha, scaled, d->k, v, n, 1.0, y->data, y->stride[0]);
}

static void apply_cuda(const sti_op_plan *p, const void *params, bool transposed, double alpha, const strata_tensor *x,
                       double beta, const strata_tensor *y, void *work)
{
    const plan_data *d = p->data;
    const void *v = sti_op_param_at(p, params, V);
    void *c = place(work, d->coef);
    prepare_cuda(p, params, work);
    coefficients_cuda(p, v, transposed, x, work, c);
    combine_cuda(p, v, alpha, x, c, beta, y, work);
}

static void grad_cuda(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                      void *dparams, const strata_tensor *dx, int acc, void *work)
{
    const plan_data *d = p->data;
    const int64_t n = p->rows, k = d->k, rows = x->shape[0];
    const int32_t sums = sti_sum_type(p->dtype);
    const void *v = sti_op_param_at(p, params, V), *gram = place(work, d->gram), *beta = place(work, d->beta);
    void *s = place(work, d->coef), *t = place(work, d->coef2), *m = place(work, d->small);
    void *q = sti_op_sum_at(p, m, k * k), *g = place(work, d->wide), *dv = sti_op_grad_at(p, dparams, V);
    void *s16 = place(work, d->rounded), *t16 = sti_op_at(p, s16, rows * k), *q16 = sti_op_at(p, t16, rows * k);
    prepare_cuda(p, params, work);
    coefficients_cuda(p, v, false, x, work, s);
    coefficients_cuda(p, v, true, dy, work, t);
    sti_gemm(p->ctx, sums, true, false, k, k, rows, 1.0, s, k, t, k, 0.0, m, k);
    sti_householder_small_cuda(p->ctx, p->dtype, k, m, gram, beta, d->orthogonal, q,
                               d->orthogonal ? NULL : sti_op_grad_at(p, dparams, BETA));
    sti_householder_round_cuda(p->ctx, p->dtype, rows, k, NULL, s, s16);
    sti_householder_round_cuda(p->ctx, p->dtype, rows, k, NULL, t, t16);
    sti_householder_round_cuda(p->ctx, p->dtype, k, k, NULL, q, q16);
    sti_gemm_sum(p->ctx, p->dtype, true, false, k, n, rows, 1.0, s16, k, dy->data, dy->stride[0], 0.0, g, n);
    sti_gemm_sum(p->ctx, p->dtype, true, false, k, n, rows, 1.0, t16, k, x->data, x->stride[0], 1.0, g, n);
    sti_householder_add_cuda(p->ctx, p->dtype, k, n, beta, g, dv);
    sti_gemm_sum(p->ctx, p->dtype, false, false, k, n, k, 1.0, q16, k, v, n, 1.0, dv, n);
    if (dx) combine_cuda(p, v, 1.0, dy, t, acc ? 1.0 : 0.0, dx, work);
}
#endif

static void prepare(const sti_op_plan *p, const void *params, void *work)
{
    const plan_data *d = p->data;
    const void *v = sti_op_param_at(p, params, V);
    const void *given = d->orthogonal ? NULL : sti_op_param_at(p, params, BETA);
    void *gram = place(work, d->gram), *beta = place(work, d->beta);
    sti_gemm(p->ctx, p->dtype, false, true, d->k, d->k, p->rows, 1.0, v, p->rows, v, p->rows, 0.0, gram, d->k);
    CALL(prepare, p, given, gram, beta, d->k);
}

/* y = alpha x + beta y - alpha (c diag(beta)) V, c the coefficients of x; scaled: scratch of c's size */
static void combine(const sti_op_plan *p, const void *v, double alpha, const strata_tensor *x, const void *c,
                    double beta, const strata_tensor *y, void *scaled, const void *betas)
{
    const plan_data *d = p->data;
    const int64_t rows = x->shape[0], n = p->rows;
    if (p->dtype == STRATA_F32)
        axpby_f32(rows, n, (float)alpha, x->data, x->stride[0], (float)beta, y->data, y->stride[0]);
    else
        axpby_f64(rows, n, alpha, x->data, x->stride[0], beta, y->data, y->stride[0]);
    CALL(times_beta, betas, d->k, rows, c, scaled);
    sti_gemm(p->ctx, p->dtype, false, false, rows, n, d->k, -alpha, scaled, d->k, v, n, 1.0, y->data, y->stride[0]);
}

static void dots(const sti_op_plan *p, const void *v, const strata_tensor *x, void *c)
{
    const int64_t k = ((const plan_data *)p->data)->k;
    sti_gemm(p->ctx, p->dtype, false, true, x->shape[0], k, p->rows, 1.0, x->data, x->stride[0], v, p->rows, 0.0, c, k);
}

typedef struct job {
    const sti_op_plan *p;
    const void *v;
    bool transposed;
    double alpha, beta;
    const strata_tensor *x, *y;
    void *work;
    int64_t panel;
} job;

static void panel_apply(void *arg, int64_t first, int64_t rows, int thread)
{
    const job *j = arg;
    const sti_op_plan *p = j->p;
    const plan_data *d = p->data;
    const strata_tensor x = sti_op_rows(j->x, first, rows), y = sti_op_rows(j->y, first, rows);
    void *c = sti_op_at(p, place(j->work, d->coef), thread * j->panel * d->k);
    void *scaled = sti_op_at(p, place(j->work, d->coef2), thread * j->panel * d->k);
    dots(p, j->v, &x, c);
    CALL(coefficients, place(j->work, d->gram), place(j->work, d->beta), d->k, j->transposed, rows, c);
    combine(p, j->v, j->alpha, &x, c, j->beta, &y, scaled, place(j->work, d->beta));
}

static void apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(p->ctx)) {
        apply_cuda(p, params, mode != STI_N, alpha, x, beta, y, work);
        return;
    }
#endif
    const int64_t panel = sti_panel_rows(p->ctx, x->shape[0], PANEL);
    job j = { p, sti_op_param_at(p, params, V), mode != STI_N, alpha, beta, x, y, work, panel };
    prepare(p, params, work);
    sti_panels(p->ctx, x->shape[0], panel, panel_apply, &j);
}

static void grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    const plan_data *d = p->data;
    if (!dparams) {
        apply(p, params, STI_T, 1.0, dy, acc ? 1.0 : 0.0, dx, work);
        return;
    }
#if STRATA_HAVE_CUDA
    if (sti_on_device(p->ctx)) {
        grad_cuda(p, params, x, dy, dparams, dx, acc, work);
        return;
    }
#endif
    const int64_t n = p->rows, k = d->k;
    const void *v = sti_op_param_at(p, params, V), *gram = place(work, d->gram), *beta = place(work, d->beta);
    void *s = place(work, d->coef), *t = place(work, d->coef2), *m = place(work, d->small);
    void *q = sti_op_at(p, m, k * k), *g = place(work, d->wide), *dv = sti_op_grad_at(p, dparams, V);
    void *dbeta = d->orthogonal ? NULL : sti_op_grad_at(p, dparams, BETA);
    prepare(p, params, work);
    for (int64_t first = 0; first < x->shape[0]; first += PANEL) {
        const int64_t rows = STI_MIN(PANEL, x->shape[0] - first);
        const strata_tensor xp = sti_op_rows(x, first, rows), dyp = sti_op_rows(dy, first, rows);
        dots(p, v, &xp, s);
        CALL(coefficients, gram, beta, k, false, rows, s);
        dots(p, v, &dyp, t);
        CALL(coefficients, gram, beta, k, true, rows, t);
        sti_gemm(p->ctx, p->dtype, true, false, k, k, rows, 1.0, s, k, t, k, 0.0, m, k);
        CALL(small_grad, m, gram, beta, k, d->orthogonal, q, dbeta);
        sti_gemm(p->ctx, p->dtype, true, false, k, n, rows, 1.0, s, k, dyp.data, dyp.stride[0], 0.0, g, n);
        sti_gemm(p->ctx, p->dtype, true, false, k, n, rows, 1.0, t, k, xp.data, xp.stride[0], 1.0, g, n);
        CALL(add_grad, g, beta, k, n, dv);
        sti_gemm(p->ctx, p->dtype, false, false, k, n, k, 1.0, q, k, v, n, 1.0, dv, n);
        if (dx) { /* t holds the coefficients of dy under the transpose; s is free */
            const strata_tensor dxp = sti_op_rows(dx, first, rows);
            combine(p, v, 1.0, &dyp, t, acc ? 1.0 : 0.0, &dxp, s, beta);
        }
    }
}

static void destroy(sti_op_plan *p)
{
    sti_heap_free(p->data);
}

const sti_op_class sti_op_class_householder = {
    .kind = "householder",
    .summary = "a product of Householder reflections",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .size = size,
    .plan = plan,
    .apply = apply,
    .grad = grad,
    .destroy = destroy,
};
