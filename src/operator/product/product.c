#include <stdio.h>

#include "backend/cpu/panels.h"
#include "operator/operator.h"

enum { PANEL = 512, MAX_TERMS = 64 };

static const sti_key keys[] = {
    { "terms", STI_KEY_SPECS, NULL, "factors, the one nearest y first", 0, 0, "operator" },
    { "inner", STI_KEY_INTS, "", "widths between the factors, left to right; default what the terms tell", 1, INT32_MAX,
      NULL },
};
static const char *const examples[] = { "product rows=6 cols=8 terms=dense,lowrank(rank=2) inner=4",
                                        "product terms=dense(rows=5 cols=3),diagonal,dense(cols=7)",
                                        "product rows=6 cols=6 terms=householder(k=2),btt(shape=2x3,3x3),dense",
                                        "product rows=3 cols=5 terms=dense", NULL };

typedef struct plan_data {
    int64_t n, width[MAX_TERMS + 1]; /* term i is (width[i], width[i + 1]) */
    size_t input[MAX_TERMS];         /* place of term i's input, i + 1 < n */
    size_t back[2];                  /* places of gradients on the way back */
} plan_data;

static strata_status known(plan_data *d, int64_t i, int64_t width)
{
    if (d->width[i] && width && d->width[i] != width)
        return sti_fail(STRATA_E_SPEC, "product: the width before term %lld is %lld, but %lld too", (long long)i,
                        (long long)d->width[i], (long long)width);
    if (width) d->width[i] = width;
    return STRATA_OK;
}

/* What the keys of the product and of its terms say. */
static strata_status written(const sti_op_plan *p, plan_data *d)
{
    const sti_value *inner = sti_value_of(p->values, "inner");
    if (!inner->empty && inner->i != d->n - 1)
        return sti_fail(STRATA_E_SPEC, "product: inner= has %lld widths, but %lld terms need %lld", (long long)inner->i,
                        (long long)d->n, (long long)(d->n - 1));
    for (int64_t i = 1; i < d->n && !inner->empty; i++) STI_TRY(known(d, i, inner->ints[i - 1]));
    for (int32_t i = 0; i < d->n; i++) {
        const sti_spec *s = sti_value_spec(p->values, "terms", i);
        const int64_t rows = sti_op_spec_size(s, "rows"), cols = sti_op_spec_size(s, "cols");
        if (i > 0) STI_TRY(known(d, i, rows)); /* the outermost are compared with the sizes given from outside */
        if (i + 1 < d->n) STI_TRY(known(d, i + 1, cols));
        if (i == 0 && !d->width[0]) d->width[0] = rows;
        if (i + 1 == d->n && !d->width[d->n]) d->width[d->n] = cols;
    }
    return STRATA_OK;
}

/* What the terms' structure tells (a diagonal is square, a btt may have a shape): plan each with what is known. */
static bool ask(const sti_op_plan *p, plan_data *d)
{
    bool news = false;
    for (int32_t i = 0; i < d->n; i++) {
        int64_t *rows = &d->width[i], *cols = &d->width[i + 1];
        sti_op_plan *c = NULL;
        if (*rows && *cols) continue;
        const sti_spec *s = sti_value_spec(p->values, "terms", i);
        if (sti_op_plan_create(p->ctx, s, *rows, *cols, 1, p->dtype, p->base_width, &c) != STRATA_OK) continue;
        *rows = c->rows;
        *cols = c->cols;
        sti_op_plan_destroy(c);
        news = true;
    }
    return news;
}

static strata_status size(sti_op_plan *p)
{
    if (p->data) return STRATA_OK;
    plan_data *d = sti_heap(sizeof *d);
    if (!d) return sti_fail(STRATA_E_MEMORY, "product: no memory");
    p->data = d;
    d->n = sti_value_of(p->values, "terms")->i;
    if (d->n > MAX_TERMS)
        return sti_fail(STRATA_E_SPEC, "product: %lld terms, more than %d", (long long)d->n, MAX_TERMS);
    d->width[0] = p->rows;
    d->width[d->n] = p->cols;
    STI_TRY(written(p, d));
    while (ask(p, d)) continue;
    for (int64_t i = 1; i < d->n; i++)
        if (!d->width[i])
            return sti_fail(STRATA_E_SPEC, "product: the width between terms %lld and %lld is not known: give inner=",
                            (long long)(i - 1), (long long)i);
    p->rows = d->width[0];
    p->cols = d->width[d->n];
    return STRATA_OK;
}

static strata_status set_inner(const sti_op_plan *p, const plan_data *d)
{
    sti_text t = { 0 };
    if (d->n == 1) return STRATA_OK;
    for (int64_t i = 1; i < d->n; i++) sti_text_add(&t, "%s%lld", i > 1 ? "," : "", (long long)d->width[i]);
    const strata_status s =
        t.failed ? sti_fail(STRATA_E_MEMORY, "product: no memory") : sti_values_set(p->values, "inner", t.s);
    sti_text_free(&t);
    return s;
}

static strata_status plan(sti_op_plan *p)
{
    STI_TRY(size(p));
    plan_data *d = p->data;
    const int64_t count = STI_MIN(p->max_count, sti_serial_rows(p->ctx, p->max_count, PANEL));
    int64_t widest = 1;
    p->yes = STI_PROP_ORTHOGONAL | STI_PROP_LOWER | STI_PROP_UPPER | STI_PROP_DIAGONAL;
    for (int32_t i = 0; i < d->n; i++) {
        char prefix[24];
        snprintf(prefix, sizeof prefix, "terms.%d", i);
        STI_TRY(sti_op_child(p, prefix, sti_value_spec(p->values, "terms", i), d->width[i], d->width[i + 1], count,
                             i == 0));
        p->flops += p->child[i]->flops;
        p->work = STI_MAX(p->work, p->child[i]->work); /* shared by the terms, at the start of the workspace */
        p->yes &= p->child[i]->yes;
        if (i) widest = STI_MAX(widest, d->width[i]);
    }
    if (d->n == 1) p->yes = p->child[0]->yes;
    for (int64_t i = 0; i + 1 < d->n; i++) STI_TRY(sti_op_reserve(p, count, d->width[i + 1], &d->input[i]));
    for (int k = 0; k < 2; k++) STI_TRY(sti_op_reserve(p, count, widest, &d->back[k]));
    STI_TRY(set_inner(p, d));
    return sti_op_set_children(p, "terms");
}

static strata_tensor vector(const sti_op_plan *p, void *work, size_t place, int64_t n, int64_t width)
{
    return strata_view2((char *)work + place, p->dtype, n, width);
}

/* Inputs of terms n - 2 … 0 from x. */
static strata_tensor advance(const sti_op_plan *p, const void *params, const strata_tensor *x, void *work)
{
    const plan_data *d = p->data;
    strata_tensor v = *x;
    for (int32_t i = (int32_t)d->n - 1; i > 0; i--) {
        const strata_tensor next = vector(p, work, d->input[i - 1], x->shape[0], d->width[i]);
        sti_op_apply(p->child[i], sti_op_child_params(p, i, params), STI_N, 1.0, &v, 0.0, &next, work);
        v = next;
    }
    return v;
}

static void panel_transposed(const sti_op_plan *p, const void *params, double alpha, const strata_tensor *x,
                             double beta, const strata_tensor *y, void *work)
{
    const plan_data *d = p->data;
    const int32_t last = (int32_t)d->n - 1;
    strata_tensor v = *x;
    for (int32_t i = 0; i < last; i++) {
        const strata_tensor next = vector(p, work, d->back[i % 2], x->shape[0], d->width[i + 1]);
        sti_op_apply(p->child[i], sti_op_child_params(p, i, params), STI_T, 1.0, &v, 0.0, &next, work);
        v = next;
    }
    sti_op_apply(p->child[last], sti_op_child_params(p, last, params), STI_T, alpha, &v, beta, y, work);
}

static void apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
    const int64_t panel = sti_serial_rows(p->ctx, x->shape[0], PANEL);
    for (int64_t first = 0; first < x->shape[0]; first += panel) {
        const int64_t n = STI_MIN(panel, x->shape[0] - first);
        const strata_tensor xp = sti_op_rows(x, first, n), yp = sti_op_rows(y, first, n);
        if (mode != STI_N) {
            panel_transposed(p, params, alpha, &xp, beta, &yp, work);
            continue;
        }
        const strata_tensor v = advance(p, params, &xp, work);
        sti_op_apply(p->child[0], sti_op_child_params(p, 0, params), STI_N, alpha, &v, beta, &yp, work);
    }
}

static void grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    const plan_data *d = p->data;
    const int32_t last = (int32_t)d->n - 1;
    if (!dparams) {
        apply(p, params, STI_T, 1.0, dy, acc ? 1.0 : 0.0, dx, work);
        return;
    }
    const int64_t panel = sti_serial_rows(p->ctx, x->shape[0], PANEL);
    for (int64_t first = 0; first < x->shape[0]; first += panel) {
        const int64_t n = STI_MIN(panel, x->shape[0] - first);
        const strata_tensor xp = sti_op_rows(x, first, n), dxp = dx ? sti_op_rows(dx, first, n) : xp;
        strata_tensor g = sti_op_rows(dy, first, n);
        advance(p, params, &xp, work);
        for (int32_t i = 0; i <= last; i++) {
            const strata_tensor in = i < last ? vector(p, work, d->input[i], n, d->width[i + 1]) : xp;
            const strata_tensor din = i < last ? vector(p, work, d->back[i % 2], n, d->width[i + 1]) : dxp;
            sti_op_grad(p->child[i], sti_op_child_params(p, i, params), &in, &g, sti_op_child_grads(p, i, dparams),
                        i < last || dx ? &din : NULL, i < last ? 0 : acc, work);
            g = din;
        }
    }
}

static void destroy(sti_op_plan *p)
{
    sti_heap_free(p->data);
}

const sti_op_class sti_op_class_product = {
    .kind = "product",
    .summary = "operators multiplied",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .size = size,
    .plan = plan,
    .apply = apply,
    .grad = grad,
    .destroy = destroy,
};
