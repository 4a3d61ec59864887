#include <stdio.h>

#include "kernel/twostage/twostage.h"
#include "operator/operator.h"

static const sti_key keys[] = {
    { "blocks", STI_KEY_INT, "4", "blocks of the first factor, k; cols are padded to a multiple", 1, 1 << 20, NULL },
    { "out_blocks", STI_KEY_INT, "", "blocks of the second factor, l; default blocks; divides k q", 1, 1 << 20, NULL },
    { "inner", STI_KEY_INT, "", "outputs of each first block, q; default min(ceil(cols/k), ceil(rows/l))", 1, 1 << 20,
      NULL },
};
static const char *const examples[] = { "monarch rows=16 cols=16",
                                        "monarch rows=7 cols=11 blocks=3",
                                        "monarch rows=12 cols=10 blocks=5 out_blocks=2 inner=6",
                                        "monarch rows=5 cols=3 blocks=4",
                                        "monarch rows=6 cols=9 blocks=1",
                                        "monarch rows=48 cols=64 blocks=8",
                                        NULL };

enum { W1, W2 };

static strata_status set_number(sti_op_plan *p, const char *key, int64_t n)
{
    char text[24];
    if (!sti_value_of(p->values, key)->empty) return STRATA_OK;
    snprintf(text, sizeof text, "%lld", (long long)n);
    return sti_values_set(p->values, key, text);
}

static strata_status plan(sti_op_plan *p)
{
    const int64_t k = sti_value_int(p->values, "blocks");
    STI_TRY(set_number(p, "out_blocks", k));
    const int64_t l = sti_value_int(p->values, "out_blocks"), pin = sti_ceil_div(p->cols, k),
                  s = sti_ceil_div(p->rows, l);
    STI_TRY(set_number(p, "inner", STI_MIN(pin, s)));
    const int64_t q = sti_value_int(p->values, "inner"), r = k * q / l;
    if (k * q % l)
        return sti_fail(STRATA_E_SPEC, "monarch: out_blocks=%lld does not divide blocks=%lld times inner=%lld",
                        (long long)l, (long long)k, (long long)q);
    int64_t scratch;
    STI_TRY(sti_op_factor(p, "w1", 3, (const int64_t[]){ k, q, pin }, pin, q, 2, false));
    STI_TRY(sti_op_factor(p, "w2", 3, (const int64_t[]){ l, s, r }, r, s, 2, true));
    sti_twostage *t = sti_heap(sizeof *t);
    if (!t) return sti_fail(STRATA_E_MEMORY, "monarch: no memory");
    p->data = t;
    *t = (sti_twostage){ .ctx = p->ctx,
                         .dtype = p->dtype,
                         .rows = p->rows,
                         .cols = p->cols,
                         .n1 = k,
                         .p = pin,
                         .q = q,
                         .n2 = l,
                         .r = r,
                         .s = s,
                         .group = 1,
                         .out_major = true };
    sti_twostage_plan(t, p->max_count, &scratch);
    p->flops = 2.0 * ((double)p->cols * (double)q + (double)p->rows * (double)r);
    return sti_op_reserve(p, scratch, t->width, NULL);
}

static void apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
    sti_twostage_apply(p->data, sti_op_param_at(p, params, W1), sti_op_param_at(p, params, W2), mode != STI_N, alpha, x,
                       beta, y, work);
}

static void grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    if (dparams)
        sti_twostage_grad(p->data, sti_op_param_at(p, params, W1), sti_op_param_at(p, params, W2), x, dy,
                          sti_op_grad_at(p, dparams, W1), sti_op_grad_at(p, dparams, W2), 1.0, acc ? 1.0 : 0.0, dx,
                          work);
    else
        apply(p, params, STI_T, 1.0, dy, acc ? 1.0 : 0.0, dx, work);
}

static void destroy(sti_op_plan *p)
{
    sti_heap_free(p->data);
}

const sti_op_class sti_op_class_monarch = {
    .kind = "monarch",
    .summary = "two block-diagonal factors and two permutations",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .plan = plan,
    .apply = apply,
    .grad = grad,
    .destroy = destroy,
};
