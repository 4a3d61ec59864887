#include <math.h>

#include "backend/cpu/panels.h"
#include "kernel/gemm/gemm.h"
#include "operator/operator.h"

enum { PANEL = 256, MAX_LEVELS = 64 };

static const sti_key keys[] = {
    { "ranks", STI_KEY_INTS, NULL, "rank of each level's blocks, level 1 first", 1, 1 << 20, NULL },
    { "parts", STI_KEY_INTS, "", "blocks per level, each a multiple of the one before; default 1,2,4,…", 1, INT32_MAX,
      NULL },
};
static const char *const examples[] = { "mlr rows=8 cols=12 ranks=2,1,3",
                                        "mlr rows=10 cols=15 ranks=1,7 parts=1,5",
                                        "mlr rows=12 cols=6 ranks=2,1,1 parts=1,3,6",
                                        "mlr rows=5 cols=7 ranks=9",
                                        "mlr rows=48 cols=64 ranks=8,4,2,2",
                                        "mlr rows=6 cols=4 ranks=1,1 parts=2,2",
                                        NULL };

enum { B, C };

typedef struct level {
    int64_t parts, rank, m, n; /* blocks of (m, n) = (rows / parts, cols / parts) */
    int64_t col, z;            /* first column of its slice of B and C; its place in a row of Z */
} level;

typedef struct plan_data {
    int32_t levels;
    int64_t rank, width; /* sum of ranks; numbers in a row of Z: sum of parts * rank */
    level level[MAX_LEVELS];
} plan_data;

static strata_status resolve_parts(sti_op_plan *p, int64_t levels)
{
    const sti_value *parts = sti_value_of(p->values, "parts");
    if (levels > MAX_LEVELS)
        return sti_fail(STRATA_E_SPEC, "mlr: %lld levels, more than %d", (long long)levels, MAX_LEVELS);
    if (parts->empty) {
        sti_text t = { 0 };
        for (int64_t l = 0; l < levels; l++) sti_text_add(&t, "%s%lld", l ? "," : "", 1LL << STI_MIN(l, 31));
        strata_status s =
            t.failed ? sti_fail(STRATA_E_MEMORY, "mlr: no memory") : sti_values_set(p->values, "parts", t.s);
        sti_text_free(&t);
        STI_TRY(s);
    }
    if (parts->i != levels)
        return sti_fail(STRATA_E_SPEC, "mlr: %lld ranks, but %lld parts", (long long)levels, (long long)parts->i);
    return STRATA_OK;
}

/* Every level is a low-rank pair on its block: factors from n to rank and from rank to m, B divided by sqrt(levels). */
static strata_status add_params(sti_op_plan *p, const plan_data *d)
{
    strata_status s = STRATA_OK;
    double *f = sti_heap(2 * (size_t)d->rank * sizeof *f);
    if (!f) return sti_fail(STRATA_E_MEMORY, "mlr: no memory");
    double *init = f, *lr = f + d->rank;
    for (int which = B; s == STRATA_OK && which <= C; which++) {
        double std0 = 0, lr0 = 0; /* the largest standard deviation and the smallest multiplier: the tensor's own */
        for (int pass = 0; pass < 2; pass++)
            for (int32_t l = 0; l < d->levels; l++) {
                const level *v = &d->level[l];
                const double in = (double)(which == B ? v->rank : v->n), out = (double)(which == B ? v->m : v->rank);
                const double std = sqrt(fmin(1.0, out / in) / in) / (which == B ? sqrt(d->levels) : 1.0);
                const double mult = p->base_width / in / 2;
                if (pass == 0) {
                    std0 = fmax(std0, std);
                    lr0 = l ? fmin(lr0, mult) : mult;
                } else
                    for (int64_t c = v->col; c < v->col + v->rank; c++) init[c] = std / std0, lr[c] = mult / lr0;
            }
        const int64_t shape[] = { which == B ? p->rows : p->cols, d->rank };
        const bool zero = which == B && p->zero_init;
        s = sti_params_add(&p->params, which == B ? "B" : "C", 2, shape, zero ? STI_INIT_CONST : STI_INIT_NORMAL,
                           zero ? 0.0 : std0, std0, lr0);
        if (s == STRATA_OK) s = sti_params_columns(&p->params, d->rank, init, lr);
    }
    sti_heap_free(f);
    return s;
}

static strata_status plan(sti_op_plan *p)
{
    const sti_value *ranks = sti_value_of(p->values, "ranks");
    STI_TRY(resolve_parts(p, ranks->i));
    plan_data *d = sti_heap(sizeof *d);
    if (!d) return sti_fail(STRATA_E_MEMORY, "mlr: no memory");
    p->data = d;
    d->levels = (int32_t)ranks->i;
    for (int32_t l = 0; l < d->levels; l++) {
        const int64_t parts = sti_value_of(p->values, "parts")->ints[l], r = ranks->ints[l];
        if (p->rows % parts || p->cols % parts)
            return sti_fail(STRATA_E_SHAPE, "mlr: parts=%lld of level %d does not divide rows=%lld and cols=%lld",
                            (long long)parts, l + 1, (long long)p->rows, (long long)p->cols);
        if (l && parts % d->level[l - 1].parts)
            return sti_fail(STRATA_E_SPEC, "mlr: parts %lld of level %d do not nest in the %lld before",
                            (long long)parts, l + 1, (long long)d->level[l - 1].parts);
        d->level[l] = (level){ parts, r, p->rows / parts, p->cols / parts, d->rank, d->width };
        d->rank += r;
        d->width += parts * r; /* at most 2^31 * 2^20 * 64 */
    }
    p->flops = 2.0 * (double)d->rank * (double)(p->rows + p->cols);
    STI_TRY(add_params(p, d));
    const int64_t apply_rows = sti_panel_scratch(p->ctx, p->max_count, PANEL);
    const int64_t grad_rows = STI_MIN(p->max_count, sti_serial_rows(p->ctx, p->max_count, PANEL));
    return sti_op_reserve(p, STI_MAX(apply_rows, 2 * grad_rows), d->width, NULL);
}

/* Z[level] (rows, parts * rank) = X blockdiag(F): F is C for x, B for y. */
static void inner(const sti_op_plan *p, const void *f, bool rows_side, const strata_tensor *x, void *z)
{
    const plan_data *d = p->data;
    for (int32_t l = 0; l < d->levels; l++) {
        const level *v = &d->level[l];
        const int64_t n = rows_side ? v->m : v->n;
        sti_gemm_batch(p->ctx, p->dtype, false, false, x->shape[0], v->rank, n, 1.0, x->data, x->stride[0], n,
                       (const char *)f + (size_t)v->col * strata_dtype_size(p->dtype), d->rank, n * d->rank, 0.0,
                       sti_op_at(p, z, v->z), d->width, v->rank, v->parts);
    }
}

/* Y = alpha * sum over levels of Z[level] blockdiag(F)^T + beta Y. */
static void outer(const sti_op_plan *p, const void *f, bool rows_side, double alpha, const void *z, double beta,
                  const strata_tensor *y)
{
    const plan_data *d = p->data;
    const size_t e = strata_dtype_size(p->dtype);
    for (int32_t l = 0; l < d->levels; l++) {
        const level *v = &d->level[l];
        const int64_t m = rows_side ? v->m : v->n;
        sti_gemm_batch(p->ctx, p->dtype, false, true, y->shape[0], m, v->rank, alpha,
                       (const char *)z + (size_t)v->z * e, d->width, v->rank, (const char *)f + (size_t)v->col * e,
                       d->rank, m * d->rank, l ? 1.0 : beta, y->data, y->stride[0], m, v->parts);
    }
}

typedef struct job {
    const sti_op_plan *p;
    const void *in, *out;
    bool transposed;
    double alpha, beta;
    const strata_tensor *x, *y;
    void *work;
    int64_t panel;
} job;

static void panel_apply(void *arg, int64_t first, int64_t rows, int thread)
{
    const job *j = arg;
    const plan_data *d = j->p->data;
    const strata_tensor x = sti_op_rows(j->x, first, rows), y = sti_op_rows(j->y, first, rows);
    void *z = sti_op_at(j->p, j->work, thread * j->panel * d->width);
    inner(j->p, j->in, j->transposed, &x, z);
    outer(j->p, j->out, !j->transposed, j->alpha, z, j->beta, &y);
}

static void apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
    const void *b = sti_op_param_at(p, params, B), *c = sti_op_param_at(p, params, C);
    const int64_t panel = sti_panel_rows(p->ctx, x->shape[0], PANEL);
    job j = { p, c, b, mode != STI_N, alpha, beta, x, y, work, panel };
    if (mode != STI_N) j.in = b, j.out = c;
    sti_panels(p->ctx, x->shape[0], panel, panel_apply, &j);
}

/* dF[level, block] += X_block^T Z_block */
static void factor_grad(const sti_op_plan *p, bool rows_side, const strata_tensor *x, const void *z, void *df)
{
    const plan_data *d = p->data;
    for (int32_t l = 0; l < d->levels; l++) {
        const level *v = &d->level[l];
        const int64_t n = rows_side ? v->m : v->n;
        sti_gemm_sum_batch(p->ctx, p->dtype, true, false, n, v->rank, x->shape[0], 1.0, x->data, x->stride[0], n,
                           (const char *)z + (size_t)v->z * strata_dtype_size(p->dtype), d->width, v->rank, 1.0,
                           sti_op_sum_at(p, df, v->col), d->rank, n * d->rank, v->parts);
    }
}

static void grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    const plan_data *d = p->data;
    const void *b = sti_op_param_at(p, params, B), *c = sti_op_param_at(p, params, C);
    if (!dparams) {
        apply(p, params, STI_T, 1.0, dy, acc ? 1.0 : 0.0, dx, work);
        return;
    }
    const int64_t count = x->shape[0];
    const int64_t panel = sti_serial_rows(p->ctx, count, PANEL);
    void *z = work, *dz = sti_op_at(p, work, STI_MIN(count, panel) * d->width);
    for (int64_t first = 0; first < count; first += panel) {
        const int64_t n = STI_MIN(panel, count - first);
        const strata_tensor xp = sti_op_rows(x, first, n), dyp = sti_op_rows(dy, first, n);
        inner(p, c, false, &xp, z);
        inner(p, b, true, &dyp, dz);
        factor_grad(p, true, &dyp, z, sti_op_grad_at(p, dparams, B));
        factor_grad(p, false, &xp, dz, sti_op_grad_at(p, dparams, C));
        if (dx) {
            const strata_tensor dxp = sti_op_rows(dx, first, n);
            outer(p, c, false, 1.0, dz, acc ? 1.0 : 0.0, &dxp);
        }
    }
}

static void destroy(sti_op_plan *p)
{
    sti_heap_free(p->data);
}

const sti_op_class sti_op_class_mlr = {
    .kind = "mlr",
    .summary = "multilevel low rank: low-rank blocks on nested block diagonals",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .plan = plan,
    .apply = apply,
    .grad = grad,
    .destroy = destroy,
};
