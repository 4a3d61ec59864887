/* Operators: registry, planning, and the public strata_op_* functions. Arithmetic lives in the classes. */
#include "operator/operator.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <strata/operator.h>

#include "operator/operator_cuda.h"

/* ---- registry ---------------------------------------------------------------------------------------------------- */

#define X(name) extern const sti_op_class sti_op_class_##name;
#include "registry/operator.def"
#undef X

static const sti_op_class *const classes[] = {
#define X(name) &sti_op_class_##name,
#include "registry/operator.def"
#undef X
};

int32_t sti_op_class_count(void)
{
    return (int32_t)STI_COUNT(classes);
}

const sti_op_class *sti_op_class_at(int32_t i)
{
    return i >= 0 && i < sti_op_class_count() ? classes[i] : NULL;
}

const sti_op_class *sti_op_class_find(const char *kind)
{
    for (size_t i = 0; i < STI_COUNT(classes); i++)
        if (strcmp(classes[i]->kind, kind) == 0) return classes[i];
    return NULL;
}

/* ---- helpers for classes ----------------------------------------------------------------------------------------- */

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "operator: no memory");
}

strata_status sti_op_factor(sti_op_plan *p, const char *name, int32_t ndim, const int64_t *shape, int64_t d_in,
                            int64_t d_out, int32_t factors, bool output)
{
    const double in = (double)d_in, out = (double)d_out;
    const double std = sqrt((out < in ? out / in : 1.0) / in);
    const bool zero = output && p->zero_init;
    return sti_params_add(&p->params, name, ndim, shape, zero ? STI_INIT_CONST : STI_INIT_NORMAL, zero ? 0.0 : std, std,
                          p->base_width / in / factors);
}

static strata_status reserve(sti_op_plan *p, int32_t dtype, int64_t count, int64_t width, size_t *at)
{
    int64_t n, bytes, total;
    if (!sti_mul_i64(count, width, &n) || !sti_mul_i64(n, (int64_t)strata_dtype_size(dtype), &bytes) ||
        !sti_add_i64(bytes, STI_ALIGN + (int64_t)p->work, &total))
        return sti_fail(STRATA_E_SHAPE, "%s: %lld rows of %lld numbers of workspace overflow", p->cls->kind,
                        (long long)count, (long long)width);
    if (at) *at = p->work;
    p->work += sti_round_up((size_t)bytes, STI_ALIGN);
    return STRATA_OK;
}

strata_status sti_op_reserve(sti_op_plan *p, int64_t count, int64_t width, size_t *at)
{
    return reserve(p, p->dtype, count, width, at);
}

strata_status sti_op_reserve_sums(sti_op_plan *p, int64_t count, int64_t width, size_t *at)
{
    return reserve(p, sti_sum_type(p->dtype), count, width, at);
}

int64_t sti_op_spec_size(const sti_spec *spec, const char *key)
{
    int64_t n = 0;
    for (int32_t i = 0; i < spec->npair; i++)
        if (strcmp(spec->pair[i].key, key) == 0 && spec->pair[i].nitem == 1 && spec->pair[i].item[0].word)
            return sti_parse_i64(spec->pair[i].item[0].word, &n) && n > 0 ? n : 0;
    return 0;
}

strata_status sti_op_square(const sti_op_plan *p)
{
    if (p->rows == p->cols) return STRATA_OK;
    return sti_fail(STRATA_E_SHAPE, "%s: is square, but rows=%lld and cols=%lld", p->cls->kind, (long long)p->rows,
                    (long long)p->cols);
}

/* The divisor pair a <= n / a nearest the square root. */
static int64_t near_root(int64_t n)
{
    int64_t a = (int64_t)sqrt((double)n);
    while (a > 1 && (a > n / a || n % a)) a--;
    return STI_MAX(a, 1);
}

strata_status sti_op_shape_key(sti_op_plan *p, const char *key, int64_t f[4])
{
    const sti_value *v = sti_value_of(p->values, key);
    if (v->empty) {
        char text[96];
        f[0] = near_root(p->rows);
        f[1] = p->rows / f[0];
        f[2] = near_root(p->cols);
        f[3] = p->cols / f[2];
        snprintf(text, sizeof text, "%lldx%lld,%lldx%lld", (long long)f[0], (long long)f[1], (long long)f[2],
                 (long long)f[3]);
        return sti_values_set(p->values, key, text);
    }
    static const char after[4] = { 'x', ',', 'x', '\0' };
    const char *t = v->text;
    for (int i = 0; i < 4; i++) {
        char digits[20];
        const size_t n = strspn(t, "0123456789");
        if (n == 0 || n >= 11 || t[n] != after[i])
            return sti_fail(STRATA_E_SPEC, "%s: %s=%s is not AxB,CxD", p->cls->kind, key, v->text);
        memcpy(digits, t, n);
        digits[n] = 0;
        if (!sti_parse_i64(digits, &f[i]) || f[i] < 1 || f[i] > INT32_MAX)
            return sti_fail(STRATA_E_SPEC, "%s: %s=%s: each factor is from 1 to %d", p->cls->kind, key, v->text,
                            INT32_MAX);
        t += n + 1;
    }
    if (p->rows && f[0] * f[1] != p->rows)
        return sti_fail(STRATA_E_SHAPE, "%s: %s=%s makes %lld rows, not %lld", p->cls->kind, key, v->text,
                        (long long)(f[0] * f[1]), (long long)p->rows);
    if (p->cols && f[2] * f[3] != p->cols)
        return sti_fail(STRATA_E_SHAPE, "%s: %s=%s makes %lld cols, not %lld", p->cls->kind, key, v->text,
                        (long long)(f[2] * f[3]), (long long)p->cols);
    return STRATA_OK;
}

/* ---- planning ---------------------------------------------------------------------------------------------------- */

static strata_status unknown_kind(const char *kind)
{
    const char *names[STI_COUNT(classes)];
    for (size_t i = 0; i < STI_COUNT(classes); i++) names[i] = classes[i]->kind;
    return sti_fail(STRATA_E_SPEC, "unknown operator %s; the nearest is %s", kind,
                    sti_nearest(kind, names, (int32_t)STI_COUNT(classes)));
}

static strata_status bind(sti_op_plan *p, const sti_spec *spec)
{
    static const sti_key size_keys[] = {
        { "rows", STI_KEY_INT, "", "output width", 1, INT32_MAX, NULL },
        { "cols", STI_KEY_INT, "", "input width", 1, INT32_MAX, NULL },
    };
    const sti_keys own = p->cls->keys;
    p->keys = sti_heap((STI_COUNT(size_keys) + (size_t)own.count) * sizeof *p->keys);
    if (!p->keys) return no_memory();
    memcpy(p->keys, size_keys, sizeof size_keys);
    if (own.count) memcpy(p->keys + STI_COUNT(size_keys), own.key, (size_t)own.count * sizeof *p->keys);
    const sti_keys all = { p->keys, own.count + (int32_t)STI_COUNT(size_keys) };
    return sti_values_bind(spec, p->cls->kind, all, &p->values);
}

static strata_status take_size(const sti_op_plan *p, const char *name, int64_t given, int64_t *size)
{
    const int64_t written = sti_value_int(p->values, name);
    *size = given ? given : written;
    if (given && written && given != written)
        return sti_fail(STRATA_E_SHAPE, "%s: %s=%lld, but %lld are needed", p->cls->kind, name, (long long)written,
                        (long long)given);
    return STRATA_OK;
}

static strata_status resolve(sti_op_plan *p, const sti_spec *spec, int64_t rows, int64_t cols)
{
    STI_TRY(bind(p, spec));
    STI_TRY(take_size(p, "rows", rows, &p->rows));
    STI_TRY(take_size(p, "cols", cols, &p->cols));
    if ((!p->rows || !p->cols) && p->cls->size) STI_TRY(p->cls->size(p));
    if (!p->rows || !p->cols) return sti_fail(STRATA_E_SPEC, "%s: rows= and cols= are needed", p->cls->kind);
    if (p->rows > INT32_MAX || p->cols > INT32_MAX)
        return sti_fail(STRATA_E_SHAPE, "%s: %lld x %lld is larger than %d a side", p->cls->kind, (long long)p->rows,
                        (long long)p->cols, INT32_MAX);
    STI_TRY(p->cls->plan(p));
    if (p->rows != p->cols) { /* what only square matrices are */
        const uint32_t square = STI_PROP_SYMMETRIC | STI_PROP_PSD | STI_PROP_ORTHOGONAL;
        p->yes &= ~square;
        p->no |= square;
    }
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)p->rows);
    STI_TRY(sti_values_set(p->values, "rows", text));
    snprintf(text, sizeof text, "%lld", (long long)p->cols);
    return sti_values_set(p->values, "cols", text);
}

strata_status sti_op_plan_create_zero(const strata_context *ctx, const sti_spec *spec, int64_t rows, int64_t cols,
                                      int64_t max_count, int32_t dtype, double base_width, bool zero_init,
                                      sti_op_plan **out)
{
    *out = NULL;
    const sti_op_class *cls = sti_op_class_find(spec->kind);
    if (!cls) return unknown_kind(spec->kind);
    if (dtype != STRATA_F32 && dtype != STRATA_F64 && !(dtype == STRATA_BF16 && sti_on_device(ctx)))
        return sti_fail(STRATA_E_DTYPE, "%s: computes in f32 or f64%s, not %s", cls->kind,
                        sti_on_device(ctx) ? " or bf16" : "", strata_dtype_name(dtype));
    if (rows < 0 || cols < 0 || max_count < 1 || max_count > INT32_MAX)
        return sti_fail(STRATA_E_SHAPE, "%s: rows %lld, cols %lld, max_count %lld", cls->kind, (long long)rows,
                        (long long)cols, (long long)max_count);
    sti_op_plan *p = sti_heap(sizeof *p);
    if (!p) return no_memory();
    p->cls = cls;
    p->ctx = sti_context_ref(ctx);
    p->max_count = max_count;
    p->dtype = dtype;
    p->base_width = base_width;
    p->zero_init = zero_init;
    strata_status s = resolve(p, spec, rows, cols);
    /* sizes that stand in the spec alone cannot fail to fit anything else */
    if (s == STRATA_E_SHAPE && !rows && !cols) s = STRATA_E_SPEC;
    if (s != STRATA_OK) {
        sti_op_plan_destroy(p);
        return s;
    }
    *out = p;
    return STRATA_OK;
}

strata_status sti_op_plan_create(const strata_context *ctx, const sti_spec *spec, int64_t rows, int64_t cols,
                                 int64_t max_count, int32_t dtype, double base_width, sti_op_plan **out)
{
    return sti_op_plan_create_zero(ctx, spec, rows, cols, max_count, dtype, base_width, false, out);
}

void sti_op_plan_destroy(sti_op_plan *p)
{
    if (!p) return;
    if (p->cls->destroy) p->cls->destroy(p);
    for (int32_t i = 0; i < p->nchild; i++) sti_op_plan_destroy(p->child[i]);
    sti_heap_free(p->child);
    sti_heap_free(p->child_base);
    sti_params_free(&p->params);
    sti_values_free(p->values);
    sti_heap_free(p->keys);
    strata_context_destroy(p->ctx);
    sti_heap_free(p);
}

strata_status sti_op_child(sti_op_plan *p, const char *prefix, const sti_spec *spec, int64_t rows, int64_t cols,
                           int64_t count, bool zero)
{
    const size_t n = (size_t)p->nchild;
    sti_op_plan **child = sti_heap_grow(p->child, n * sizeof *child, (n + 1) * sizeof *child);
    if (!child) return no_memory();
    p->child = child;
    int64_t *base = sti_heap_grow(p->child_base, n * sizeof *base, (n + 1) * sizeof *base);
    if (!base) return no_memory();
    p->child_base = base;
    strata_status s = sti_op_plan_create_zero(p->ctx, spec, rows, cols, count, p->dtype, p->base_width,
                                              zero && p->zero_init, &p->child[n]);
    if (s != STRATA_OK) return sti_fail_prefix(s, "%s", p->cls->kind);
    p->nchild++;
    int32_t first;
    return sti_params_append(&p->params, prefix, &p->child[n]->params, &first, &p->child_base[n]);
}

const void *sti_op_child_params(const sti_op_plan *p, int32_t i, const void *params)
{
    return (const char *)params + (size_t)p->child_base[i] * strata_dtype_size(p->dtype);
}

void *sti_op_child_grads(const sti_op_plan *p, int32_t i, void *dparams)
{
    return sti_op_sum_at(p, dparams, p->child_base[i]);
}

strata_status sti_op_set_children(sti_op_plan *p, const char *name)
{
    sti_text t = { 0 };
    for (int32_t i = 0; i < p->nchild; i++) {
        char *s = sti_op_text(p->child[i], true, false);
        sti_text_add(&t, "%s%s", i ? "," : "", s ? s : "");
        t.failed |= !s;
        sti_heap_free(s);
    }
    strata_status status = t.failed ? no_memory() : sti_values_set(p->values, name, t.s);
    sti_text_free(&t);
    return status;
}

char *sti_op_text(const sti_op_plan *p, bool nested, bool standalone)
{
    if (standalone) return sti_values_text(p->values, nested);
    const sti_values own = { p->values->kind, p->values->v + 2, p->values->count - 2 }; /* without rows and cols */
    return sti_values_text(&own, nested);
}

void sti_op_apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work)
{
    if (x->shape[0] > 0) p->cls->apply(p, params, mode, alpha, x, beta, y, work);
}

void sti_op_grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work)
{
    if (x->shape[0] > 0 && (dparams || dx)) p->cls->grad(p, params, x, dy, dparams, dx, acc, work);
}

/* ---- public functions -------------------------------------------------------------------------------------------- */

struct strata_op {
    sti_op_plan *plan; /* owned */
    char *text;
    void *work;
    size_t work_bytes;
    size_t eye; /* to_dense: offset of its identity panel in the workspace */
    int64_t eye_rows;
};

strata_status strata_op_create(const strata_context *ctx, const char *spec, int64_t rows, int64_t cols,
                               int64_t max_count, int32_t dtype, strata_op **out)
{
    if (!out) return sti_fail(STRATA_E_INVALID, "operator: out is NULL");
    *out = NULL;
    if (!ctx || !spec) return sti_fail(STRATA_E_INVALID, "operator: %s is NULL", ctx ? "spec" : "the context");
    sti_spec *tree = NULL;
    STI_TRY(sti_spec_parse(spec, &tree));
    strata_status s = STRATA_OK;
    strata_op *op = sti_heap(sizeof *op);
    if (!op) s = no_memory();
    if (s == STRATA_OK) s = sti_op_plan_create(ctx, tree, rows, cols, max_count, dtype, 768.0, &op->plan);
    if (s == STRATA_OK) {
        op->eye = op->plan->work;
        op->eye_rows = STI_MIN(max_count, 32);
        s = sti_op_reserve(op->plan, op->eye_rows, op->plan->rows, &op->eye);
    }
    if (s == STRATA_OK) {
        op->work_bytes = op->plan->work;
        s = sti_array_calloc(ctx, (int64_t)STI_MAX(op->work_bytes, 1), 1, &op->work);
    }
    if (s == STRATA_OK && !(op->text = sti_op_text(op->plan, false, true))) s = no_memory();
    sti_spec_free(tree);
    if (s != STRATA_OK) {
        strata_op_destroy(op);
        return s;
    }
    *out = op;
    return STRATA_OK;
}

void strata_op_destroy(strata_op *op)
{
    if (!op) return;
    if (op->work) sti_array_free(op->plan->ctx, op->work);
    sti_heap_free(op->text);
    sti_op_plan_destroy(op->plan);
    sti_heap_free(op);
}

static strata_status null_argument(void)
{
    return sti_fail(STRATA_E_INVALID, "operator: a NULL argument");
}

int64_t strata_op_rows(const strata_op *op)
{
    return op ? op->plan->rows : 0;
}
int64_t strata_op_cols(const strata_op *op)
{
    return op ? op->plan->cols : 0;
}
int32_t strata_op_param_count(const strata_op *op)
{
    return op ? op->plan->params.count : 0;
}

strata_status strata_op_param(const strata_op *op, int32_t i, strata_param_info *info)
{
    if (!op || !info) return null_argument();
    if (i < 0 || i >= op->plan->params.count)
        return sti_fail(STRATA_E_INVALID, "operator: parameter %d of %d", i, op->plan->params.count);
    const sti_param *p = &op->plan->params.p[i];
    *info = (strata_param_info){ p->name, p->ndim, { 0 }, p->offset, p->count, p->lr_mult };
    memcpy(info->shape, p->shape, sizeof info->shape);
    return STRATA_OK;
}

size_t strata_op_param_bytes(const strata_op *op)
{
    return op ? (size_t)op->plan->params.elements * strata_dtype_size(op->plan->dtype) : 0;
}
size_t strata_op_work_bytes(const strata_op *op)
{
    return op ? op->work_bytes : 0;
}
double strata_op_flops(const strata_op *op)
{
    return op ? op->plan->flops : 0;
}
const char *strata_op_spec(const strata_op *op)
{
    return op ? op->text : NULL;
}

strata_status strata_op_init(const strata_op *op, uint64_t seed, void *params)
{
    if (!op) return null_argument();
    if (!params && op->plan->params.count) return sti_fail(STRATA_E_INVALID, "operator: params is NULL");
    if (!params) return STRATA_OK;
    const sti_op_plan *p = op->plan;
    if (!sti_on_device(p->ctx)) {
        sti_params_init(&p->params, params, p->dtype, seed, 0);
        return STRATA_OK;
    }
    const int32_t type = sti_sum_type(p->dtype); /* drawn on the host */
    const size_t e = strata_dtype_size(type), n = (size_t)p->params.elements;
    void *drawn = sti_heap(n * e), *copy = NULL;
    strata_status s = drawn ? sti_array_calloc(p->ctx, (int64_t)n, e, &copy) : no_memory();
    if (s == STRATA_OK) {
        sti_params_init(&p->params, drawn, type, seed, 0);
        s = sti_to_device(p->ctx, copy, drawn, n * e);
    }
    if (s == STRATA_OK) sti_array_convert(p->ctx, params, p->dtype, copy, type, (int64_t)n);
    sti_array_free(p->ctx, copy);
    sti_heap_free(drawn);
    return s;
}

/* A (count, width) view of the operator's type whose rows do not overlap; *count is set, or compared when >= 0. */
static strata_status check_view(const strata_op *op, const char *name, const strata_tensor *t, int64_t width,
                                int64_t *count)
{
    const char *kind = op->plan->cls->kind;
    if (!t) return sti_fail(STRATA_E_INVALID, "%s: %s is NULL", kind, name);
    if (t->dtype != op->plan->dtype)
        return sti_fail(STRATA_E_DTYPE, "%s: %s is %s, the operator %s", kind, name, strata_dtype_name(t->dtype),
                        strata_dtype_name(op->plan->dtype));
    if (t->device != op->plan->ctx->device)
        return sti_fail(STRATA_E_DEVICE, "%s: %s is on device %s, the operator on %s", kind, name,
                        t->device == STRATA_CUDA ? "cuda" : "cpu",
                        op->plan->ctx->device == STRATA_CUDA ? "cuda" : "cpu");
    if (t->ndim != 2) return sti_fail(STRATA_E_SHAPE, "%s: %s has %d dimensions, not 2", kind, name, t->ndim);
    if (t->shape[1] != width || t->shape[0] < 0)
        return sti_fail(STRATA_E_SHAPE, "%s: %s is (%lld, %lld), but its rows hold %lld numbers", kind, name,
                        (long long)t->shape[0], (long long)t->shape[1], (long long)width);
    if (*count >= 0 && t->shape[0] != *count)
        return sti_fail(STRATA_E_SHAPE, "%s: %s has %lld rows, x %lld", kind, name, (long long)t->shape[0],
                        (long long)*count);
    if (*count < 0 && t->shape[0] > op->plan->max_count)
        return sti_fail(STRATA_E_SHAPE, "%s: %s has %lld rows, but the plan is for %lld", kind, name,
                        (long long)t->shape[0], (long long)op->plan->max_count);
    if (t->stride[1] != 1 && width > 1)
        return sti_fail(STRATA_E_SHAPE, "%s: the last stride of %s is %lld, not 1", kind, name,
                        (long long)t->stride[1]);
    if (t->shape[0] > 1 && t->stride[0] < width)
        return sti_fail(STRATA_E_SHAPE, "%s: the row stride %lld of %s is below its width %lld", kind,
                        (long long)t->stride[0], name, (long long)width);
    if (!t->data && t->shape[0] > 0) return sti_fail(STRATA_E_INVALID, "%s: %s has no data", kind, name);
    *count = t->shape[0];
    return STRATA_OK;
}

static strata_status check_params(const strata_op *op, const void *params)
{
    if (params || !op->plan->params.count) return STRATA_OK;
    return sti_fail(STRATA_E_INVALID, "%s: params is NULL", op->plan->cls->kind);
}

/* A lone row may come with any stride; the kernels want a leading dimension. */
static strata_tensor normal(const strata_tensor *t)
{
    strata_tensor v = *t;
    v.stride[1] = 1;
    if (v.stride[0] < v.shape[1]) v.stride[0] = v.shape[1];
    return v;
}

strata_status strata_op_apply(const strata_op *op, const void *params, int32_t mode, double alpha,
                              const strata_tensor *x, double beta, const strata_tensor *y, void *work)
{
    if (!op) return null_argument();
    const sti_op_plan *p = op->plan;
    if (mode < STRATA_OP_N || mode > STRATA_OP_H)
        return sti_fail(STRATA_E_INVALID, "%s: mode %d is not N, T or H", p->cls->kind, mode);
    const bool n = mode == STRATA_OP_N;
    int64_t count = -1;
    STI_TRY(check_view(op, "x", x, n ? p->cols : p->rows, &count));
    STI_TRY(check_view(op, "y", y, n ? p->rows : p->cols, &count));
    STI_TRY(check_params(op, params));
    const strata_tensor vx = normal(x), vy = normal(y);
    sti_op_apply(p, params, n ? STI_N : STI_T, alpha, &vx, beta, &vy, work ? work : op->work);
    return STRATA_OK;
}

strata_status strata_op_grad(const strata_op *op, const void *params, const strata_tensor *x, const strata_tensor *dy,
                             void *dparams, const strata_tensor *dx, int32_t accumulate, void *work)
{
    if (!op) return null_argument();
    const sti_op_plan *p = op->plan;
    int64_t count = -1;
    STI_TRY(check_view(op, "x", x, p->cols, &count));
    STI_TRY(check_view(op, "dy", dy, p->rows, &count));
    if (dx) STI_TRY(check_view(op, "dx", dx, p->cols, &count));
    STI_TRY(check_params(op, params));
    const strata_tensor vx = normal(x), vdy = normal(dy), vdx = dx ? normal(dx) : vx;
    sti_op_grad(p, params, &vx, &vdy, dparams, dx ? &vdx : NULL, accumulate != 0, work ? work : op->work);
    return STRATA_OK;
}

/* a[i][first + i] = 1 for the n rows of a (n, rows) */
static void ones(const sti_op_plan *p, int64_t n, int64_t first, void *a)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(p->ctx)) {
        sti_op_ones_cuda(p->ctx, p->dtype, n, p->rows + 1, sti_op_at(p, a, first));
        return;
    }
#endif
    for (int64_t i = 0; i < n; i++)
        if (p->dtype == STRATA_F32)
            ((float *)a)[i * (p->rows + 1) + first] = 1;
        else
            ((double *)a)[i * (p->rows + 1) + first] = 1;
}

/* Row i of A is A^T e_i: the transpose is applied to panels of the identity. */
strata_status strata_op_to_dense(const strata_op *op, const void *params, const strata_tensor *a, void *work)
{
    if (!op) return null_argument();
    const sti_op_plan *p = op->plan;
    STI_TRY(check_params(op, params));
    if (!a || a->ndim != 2 || a->shape[0] != p->rows)
        return sti_fail(STRATA_E_SHAPE, "%s: the dense matrix is not a (%lld, %lld) view", p->cls->kind,
                        (long long)p->rows, (long long)p->cols);
    int64_t count = a->shape[0];
    STI_TRY(check_view(op, "the dense matrix", a, p->cols, &count));
    const strata_tensor v = normal(a);
    char *mine = work ? work : op->work;
    const size_t e = strata_dtype_size(p->dtype);
    for (int64_t i0 = 0; i0 < p->rows; i0 += op->eye_rows) {
        const int64_t n = STI_MIN(op->eye_rows, p->rows - i0);
        strata_tensor eye = strata_view2(mine + op->eye, p->dtype, n, p->rows);
        sti_array_zero(p->ctx, eye.data, (size_t)(n * p->rows) * e);
        ones(p, n, i0, eye.data);
        const strata_tensor rows = sti_op_rows(&v, i0, n);
        sti_op_apply(p, params, STI_T, 1.0, &eye, 0.0, &rows, mine);
    }
    return STRATA_OK;
}
