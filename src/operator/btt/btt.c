#include <math.h>
#include <string.h>

#include "kernel/twostage/twostage.h"
#include "operator/btt/btt_cuda.h"
#include "operator/operator.h"

static const sti_key keys[] = {
    { "shape", STI_KEY_TEXT, "", "AxB,CxD: A*B = rows, C*D = cols; default nearest the square root", 0, 0, NULL },
    { "rank", STI_KEY_INT, "1", "rank s of each (A, D) block", 1, 1 << 20, NULL },
    { "cap", STI_KEY_BOOL, "0", "1: divide each core by max(1, RMS / its starting RMS)", 0, 0, NULL },
};
static const char *const examples[] = { "btt rows=12 cols=8 rank=2",
                                        "btt shape=3x2,5x4",
                                        "btt rows=7 cols=5 rank=3",
                                        "btt rows=6 cols=10 rank=2 cap=1",
                                        "btt shape=4x1,1x6 rank=9 cap=1",
                                        "btt rows=48 cols=64 rank=2",
                                        NULL };

enum { CORE_R, CORE_L };

typedef struct plan_data {
    sti_twostage stage;
    bool cap;
    double tau[2];  /* the RMS that each core may have */
    size_t grad_at; /* cap: places in the workspace: gradients of the capped cores; on a device also these cores and */
    size_t core_at, scale_at; /* their factors and mean squares */
} plan_data;

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
    const int64_t a = f[0], b = f[1], c = f[2], d = f[3], s = sti_value_int(p->values, "rank");
    STI_TRY(sti_op_factor(p, "R", 4, (const int64_t[]){ c, d, b, s }, d, b * s, 2, false));
    STI_TRY(sti_op_factor(p, "L", 4, (const int64_t[]){ b, a, c, s }, c * s, a, 2, true));
    plan_data *q = sti_heap(sizeof *q);
    if (!q) return sti_fail(STRATA_E_MEMORY, "btt: no memory");
    p->data = q;
    q->cap = sti_value_int(p->values, "cap");
    for (int k = CORE_R; k <= CORE_L; k++) {
        const double in = (double)(k == CORE_R ? d : c * s), out = (double)(k == CORE_R ? b * s : a);
        q->tau[k] = sqrt(fmin(in, out)) / in;
    }
    q->stage = (sti_twostage){ .ctx = p->ctx,
                               .dtype = p->dtype,
                               .rows = p->rows,
                               .cols = p->cols,
                               .n1 = c,
                               .p = d,
                               .q = b * s,
                               .n2 = b,
                               .r = c * s,
                               .s = a,
                               .group = s };
    sti_twostage_plan(&q->stage, p->max_count, &scratch);
    p->flops = 2.0 * (double)s * ((double)p->cols * (double)b + (double)p->rows * (double)c);
    STI_TRY(sti_op_reserve(p, scratch, q->stage.width, NULL));
    if (q->cap) STI_TRY(sti_op_reserve_sums(p, p->params.elements, 1, &q->grad_at));
    if (q->cap && sti_on_device(p->ctx)) {
        STI_TRY(sti_op_reserve(p, p->params.elements, 1, &q->core_at));
        STI_TRY(sti_op_reserve_sums(p, 2, 2, &q->scale_at));
    }
    return STRATA_OK;
}

static double value(const sti_op_plan *p, const void *a, int64_t i)
{
    return p->dtype == STRATA_F32 ? (double)((const float *)a)[i] : ((const double *)a)[i];
}

/* Factor that the cap puts before core k, and its mean square. */
static double cap_factor(const sti_op_plan *p, const void *params, int k, double *square)
{
    const plan_data *q = p->data;
    *square = 0;
    if (!q->cap) return 1;
    const void *w = sti_op_param_at(p, params, k);
    const int64_t n = p->params.p[k].count;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += value(p, w, i) * value(p, w, i);
    *square = sum / (double)n + 1e-8;
    const double over = sqrt(*square) / q->tau[k];
    return over > 1 ? 1 / over : 1;
}

#if STRATA_HAVE_CUDA
/* The capped cores, in the workspace: their factors stay on the device. */
static const void *capped(const sti_op_plan *p, const void *params, void *work)
{
    const plan_data *q = p->data;
    void *core = (char *)work + q->core_at, *scale = (char *)work + q->scale_at;
    for (int k = CORE_R; k <= CORE_L; k++)
        sti_btt_cap_cuda(p->ctx, p->dtype, p->params.p[k].count, q->tau[k], sti_op_param_at(p, params, k),
                         sti_op_sum_at(p, scale, 2 * k), sti_op_at(p, core, p->params.p[k].offset));
    return core;
}

static void grad_capped(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                        void *dparams, const strata_tensor *dx, double beta, void *work)
{
    const plan_data *q = p->data;
    const void *core = capped(p, params, work);
    void *raw = (char *)work + q->grad_at, *scale = (char *)work + q->scale_at;
    sti_array_zero(p->ctx, raw, (size_t)p->params.elements * strata_dtype_size(sti_sum_type(p->dtype)));
    sti_twostage_grad(&q->stage, sti_op_param_at(p, core, CORE_R), sti_op_param_at(p, core, CORE_L), x, dy,
                      sti_op_grad_at(p, raw, CORE_R), sti_op_grad_at(p, raw, CORE_L), 1.0, beta, dx, work);
    for (int k = CORE_R; k <= CORE_L; k++)
        sti_btt_cap_grad_cuda(p->ctx, p->dtype, p->params.p[k].count, sti_op_param_at(p, params, k),
                              sti_op_sum_at(p, scale, 2 * k), sti_op_grad_at(p, raw, k), sti_op_grad_at(p, dparams, k));
}
#endif

static void apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
    const plan_data *q = p->data;
#if STRATA_HAVE_CUDA
    if (q->cap && sti_on_device(p->ctx)) {
        const void *core = capped(p, params, work);
        sti_twostage_apply(&q->stage, sti_op_param_at(p, core, CORE_R), sti_op_param_at(p, core, CORE_L), mode != STI_N,
                           alpha, x, beta, y, work);
        return;
    }
#endif
    double square;
    const double f = cap_factor(p, params, CORE_R, &square) * cap_factor(p, params, CORE_L, &square);
    sti_twostage_apply(&q->stage, sti_op_param_at(p, params, CORE_R), sti_op_param_at(p, params, CORE_L), mode != STI_N,
                       alpha * f, x, beta, y, work);
}

/* dW += f (G - W <G, W> / (n rho^2)) where capped (f < 1), else G; G = other * raw, raw from the uncapped cores. */
static void cap_grad(const sti_op_plan *p, const void *params, int k, double f, double other, double square,
                     const void *raw, void *dparams)
{
    const void *w = sti_op_param_at(p, params, k), *g = sti_op_param_at(p, raw, k);
    void *dw = sti_op_grad_at(p, dparams, k);
    const int64_t n = p->params.p[k].count;
    double dot = 0;
    if (f < 1)
        for (int64_t i = 0; i < n; i++) dot += value(p, g, i) * value(p, w, i);
    const double along = dot / ((double)n * square + (f < 1 ? 0 : 1));
    for (int64_t i = 0; i < n; i++) {
        const double d = f * other * (value(p, g, i) - along * value(p, w, i));
        if (p->dtype == STRATA_F32)
            ((float *)dw)[i] += (float)d;
        else
            ((double *)dw)[i] += d;
    }
}

static void grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    const plan_data *q = p->data;
    const double beta = acc ? 1.0 : 0.0;
    if (!dparams) {
        apply(p, params, STI_T, 1.0, dy, beta, dx, work);
        return;
    }
    const void *r = sti_op_param_at(p, params, CORE_R), *l = sti_op_param_at(p, params, CORE_L);
    if (!q->cap) {
        sti_twostage_grad(&q->stage, r, l, x, dy, sti_op_grad_at(p, dparams, CORE_R),
                          sti_op_grad_at(p, dparams, CORE_L), 1.0, beta, dx, work);
        return;
    }
#if STRATA_HAVE_CUDA
    if (sti_on_device(p->ctx)) {
        grad_capped(p, params, x, dy, dparams, dx, beta, work);
        return;
    }
#endif
    double square_r, square_l;
    const double fr = cap_factor(p, params, CORE_R, &square_r), fl = cap_factor(p, params, CORE_L, &square_l);
    void *raw = (char *)work + q->grad_at;
    memset(raw, 0, (size_t)p->params.elements * strata_dtype_size(p->dtype));
    sti_twostage_grad(&q->stage, r, l, x, dy, sti_op_grad_at(p, raw, CORE_R), sti_op_grad_at(p, raw, CORE_L), fr * fl,
                      beta, dx, work);
    cap_grad(p, params, CORE_R, fr, fl, square_r, raw, dparams);
    cap_grad(p, params, CORE_L, fl, fr, square_l, raw, dparams);
}

static void destroy(sti_op_plan *p)
{
    sti_heap_free(p->data);
}

const sti_op_class sti_op_class_btt = {
    .kind = "btt",
    .summary = "block tensor train with two cores",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .size = size,
    .plan = plan,
    .apply = apply,
    .grad = grad,
    .destroy = destroy,
};
