/* strata_attention_*: tensors and spec text in front of plans. */
#include <string.h>

#include "core/device.h"
#include "kernel/attention/engine.h"

struct strata_attention {
    const strata_context *ctx; /* shared */
    sti_attention_plan *plan;
    strata_attention_problem problem; /* defaults filled in */
    char *text;                       /* "attention key=value …" */
    const char *keys;                 /* into text */
    void *work;                       /* the plan's own */
};

static const sti_key key_table[] = {
#include "kernel/attention/keys.def"
};

/* "score=mlr ranks=16,8,8", with or without the word softmax or attention before it. */
static strata_status bind(const char *spec, sti_values **out)
{
    static const char *const words[] = { "softmax", "attention" };
    static const char *const elsewhere[] = { "heads", "kv_heads", "d_qk", "d_v", "qk_norm", "pos", "side" };
    sti_spec *tree = NULL;
    strata_status s;
    *out = NULL;
    if (!spec) return sti_fail(STRATA_E_INVALID, "attention: the spec is NULL");
    spec += strspn(spec, " \t\n");
    for (size_t i = 0; i < STI_COUNT(words); i++) {
        size_t n = strlen(words[i]);
        if (strncmp(spec, words[i], n) == 0 && (!spec[n] || strchr(" \t\n", spec[n]))) {
            spec += n;
            break;
        }
    }
    if ((s = sti_spec_parse_keys(spec, "attention", &tree)) != STRATA_OK) return s;
    for (int32_t k = 0; k < tree->npair; k++)
        for (size_t i = 0; i < STI_COUNT(elsewhere); i++)
            if (strcmp(tree->pair[k].key, elsewhere[i]) == 0) {
                const char *why = i < 4 ? "sizes come from the tensors" : "it belongs to the mixer";
                s = sti_fail(STRATA_E_SPEC, "attention: the bare kernel has no key %s: %s", elsewhere[i], why);
                goto out;
            }
    if ((s = sti_values_bind(tree, "attention", (sti_keys)STI_KEYS(key_table), out)) != STRATA_OK) goto out;
    if ((s = sti_attention_check(*out)) != STRATA_OK) {
        sti_values_free(*out);
        *out = NULL;
    }
out:
    sti_spec_free(tree);
    return s;
}

strata_status strata_attention_check(const char *spec)
{
    sti_values *v = NULL;
    strata_status s = bind(spec, &v);
    if (s == STRATA_OK) sti_values_free(v);
    return s;
}

static strata_status fill_defaults(const strata_attention_problem *from, strata_attention_problem *p)
{
    if (!from || from->size < sizeof(size_t))
        return sti_fail(STRATA_E_INVALID, "attention: problem.size is not set; use STRATA_INIT");
    *p = (strata_attention_problem){ 0 };
    memcpy(p, from, STI_MIN(from->size, sizeof *p));
    p->size = sizeof *p;
    if (!p->kv_heads) p->kv_heads = p->heads;
    if (!p->k_time) p->k_time = p->q_time;
    if (!p->d_v) p->d_v = p->d_qk;
    if (!p->dtype) p->dtype = STRATA_F32;
    if (p->cu_seqlens) return sti_fail(STRATA_E_UNSUPPORTED, "attention: packed sequences (cu_seqlens) are not built");
    if (p->key_bias) return sti_fail(STRATA_E_UNSUPPORTED, "attention: key_bias is not built");
    if (p->q_pos < 0 || p->k_pos < 0 || p->q_pos > STI_NEVER / 4 || p->k_pos > STI_NEVER / 4)
        return sti_fail(STRATA_E_SHAPE, "attention: positions %lld and %lld are out of range", (long long)p->q_pos,
                        (long long)p->k_pos);
    if (p->batch < 1 || p->q_time < 1 || p->k_time < 1 || p->q_time > STI_NEVER / 4 || p->k_time > STI_NEVER / 4)
        return sti_fail(STRATA_E_SHAPE, "attention: batch %lld, query time %lld or key time %lld is out of range",
                        (long long)p->batch, (long long)p->q_time, (long long)p->k_time);
    if (!p->context) p->context = p->q_pos + p->q_time;
    if (p->context > STI_NEVER / 4)
        return sti_fail(STRATA_E_SHAPE, "attention: context %lld is out of range", (long long)p->context);
    return STRATA_OK;
}

strata_status strata_attention_create(const strata_context *ctx, const char *spec,
                                      const strata_attention_problem *problem, strata_attention **out)
{
    sti_values *v = NULL;
    strata_attention *a = NULL;
    strata_attention_problem p;
    sti_attention_shape shape;
    void *memory = NULL;
    strata_status s;
    if (!ctx || !out) return sti_fail(STRATA_E_INVALID, "attention: a NULL argument");
    *out = NULL;
    if ((s = bind(spec, &v)) != STRATA_OK) goto out;
    if ((s = fill_defaults(problem, &p)) != STRATA_OK) goto out;
    sti_attention_sizes n = { p.heads, p.kv_heads, p.d_qk, p.d_v, p.context };
    if ((s = sti_attention_resolve(v, &n, &shape)) != STRATA_OK) goto out;
    if ((s = sti_calloc(ctx, 1, sizeof *a, &memory)) != STRATA_OK) goto out;
    a = memory;
    a->ctx = sti_context_ref(ctx);
    a->problem = p;
    s = sti_attention_plan_create(ctx, &shape, p.dtype, p.batch, p.q_time, p.k_time, p.train, &a->plan);
    if (s != STRATA_OK) goto out;
    if ((s = sti_array_calloc(ctx, (int64_t)sti_attention_work(a->plan), 1, &a->work)) != STRATA_OK) goto out;
    a->text = sti_values_text(v, false);
    if (!a->text) {
        s = sti_fail(STRATA_E_MEMORY, "attention: no memory");
        goto out;
    }
    a->keys = a->text + strcspn(a->text, " ");
    a->keys += *a->keys == ' ';
    *out = a;
    a = NULL;
out:
    strata_attention_destroy(a);
    sti_values_free(v);
    return s;
}

void strata_attention_destroy(strata_attention *a)
{
    if (!a) return;
    strata_context *ctx = (strata_context *)(uintptr_t)a->ctx;
    sti_attention_plan_destroy(a->plan);
    sti_array_free(ctx, a->work);
    sti_heap_free(a->text);
    strata_free(ctx, a);
    strata_context_destroy(ctx);
}

strata_status strata_attention_query(const strata_attention *a, strata_attention_info *info)
{
    if (!a || !info || info->size < sizeof(size_t))
        return sti_fail(STRATA_E_INVALID, "attention: info.size is not set; use STRATA_INIT");
    const strata_attention_problem *p = &a->problem;
    const sti_attention_shape *s = sti_attention_plan_shape(a->plan);
    sti_attention_cost cost = sti_attention_count(s, p->batch, p->q_time, p->k_time, p->q_pos, p->k_pos);
    strata_attention_info full = { .size = info->size,
                                   .work = sti_attention_work(a->plan),
                                   .flops_fwd = cost.flops_fwd,
                                   .flops_bwd = cost.flops_bwd,
                                   .pairs = cost.pairs,
                                   .lse_parts = s->parts,
                                   .levels = s->part[0].levels };
    memcpy(info, &full, STI_MIN(info->size, sizeof full));
    return STRATA_OK;
}

const char *strata_attention_spec(const strata_attention *a)
{
    return a ? a->keys : NULL;
}

const char *strata_attention_variant(const strata_attention *a)
{
    return a ? sti_attention_variant_name(a->plan) : NULL;
}

/* ---- tensors ---------------------------------------------------------------------------------------------------- */

/* `t` has the wanted shape, type and a contiguous last dimension. */
static strata_status check_tensor(const strata_attention *a, const char *name, const strata_tensor *t, int32_t dtype,
                                  int32_t ndim, const int64_t *want)
{
    if (!t || !t->data) return sti_fail(STRATA_E_INVALID, "attention: %s is NULL", name);
    if (t->dtype != dtype)
        return sti_fail(STRATA_E_DTYPE, "attention: %s is %s but the plan wants %s", name, strata_dtype_name(t->dtype),
                        strata_dtype_name(dtype));
    if (t->device != a->ctx->device)
        return sti_fail(STRATA_E_DEVICE, "attention: %s is in %s memory but the context's device is %s", name,
                        t->device == STRATA_CPU ? "host" : "device", a->ctx->device == STRATA_CPU ? "cpu" : "cuda");
    if (t->ndim != ndim)
        return sti_fail(STRATA_E_SHAPE, "attention: %s has %d dimensions, not %d", name, t->ndim, ndim);
    for (int32_t i = 0; i < ndim; i++)
        if (t->shape[i] != want[i])
            return sti_fail(STRATA_E_SHAPE, "attention: dimension %d of %s is %lld, not %lld", i, name,
                            (long long)t->shape[i], (long long)want[i]);
    return STRATA_OK;
}

static strata_status take(const strata_attention *a, const char *name, const strata_tensor *t, int64_t batch,
                          int64_t heads, int64_t time, int64_t dim, sti_attention_array *out)
{
    STI_TRY(check_tensor(a, name, t, a->problem.dtype, 4, (const int64_t[]){ batch, heads, time, dim }));
    if (dim > 1 && t->stride[3] != 1)
        return sti_fail(STRATA_E_SHAPE, "attention: the last dimension of %s has stride %lld, not 1", name,
                        (long long)t->stride[3]);
    *out = (sti_attention_array){ t->data, t->stride[0], t->stride[1], t->stride[2] };
    return STRATA_OK;
}

static strata_status take_lse(const strata_attention *a, const strata_tensor *t, sti_attention_call *c)
{
    const sti_attention_shape *s = sti_attention_plan_shape(a->plan);
    const int64_t want[] = { s->parts, c->batch, s->heads, c->q_time };
    int32_t skip = s->parts == 1, dtype = a->problem.dtype == STRATA_F64 ? STRATA_F64 : STRATA_F32;
    STI_TRY(check_tensor(a, "lse", t, dtype, 4 - skip, want + skip));
    const int64_t *stride = t->stride + (1 - skip);
    c->lse = (sti_attention_array){ t->data, stride[0], stride[1], stride[2] };
    c->lse_part = skip ? 0 : t->stride[0];
    return STRATA_OK;
}

/* Sizes from q and k, which must fit the plan; then q, k, v. */
static strata_status take_inputs(const strata_attention *a, const strata_tensor *q, const strata_tensor *k,
                                 const strata_tensor *v, void *work, sti_attention_call *c)
{
    if (!a || !q || !k) return sti_fail(STRATA_E_INVALID, "attention: the plan, q or k is NULL");
    const strata_attention_problem *p = &a->problem;
    *c = (sti_attention_call){ .q_pos = p->q_pos, .k_pos = p->k_pos, .work = work ? work : a->work };
    if (q->ndim == 4 && k->ndim == 4) {
        c->batch = q->shape[0];
        c->q_time = q->shape[2];
        c->k_time = k->shape[2];
    }
    if (c->batch < 1 || c->q_time < 1 || c->k_time < 1 || c->batch > p->batch || c->q_time > p->q_time ||
        c->k_time > p->k_time)
        return sti_fail(STRATA_E_SHAPE,
                        "attention: batch %lld and times %lld, %lld are not within the planned %lld and %lld, %lld",
                        (long long)c->batch, (long long)c->q_time, (long long)c->k_time, (long long)p->batch,
                        (long long)p->q_time, (long long)p->k_time);
    STI_TRY(take(a, "q", q, c->batch, p->heads, c->q_time, p->d_qk, &c->q));
    STI_TRY(take(a, "k", k, c->batch, p->kv_heads, c->k_time, p->d_qk, &c->k));
    return take(a, "v", v, c->batch, p->kv_heads, c->k_time, p->d_v, &c->v);
}

strata_status strata_attention_forward(const strata_attention *a, const strata_tensor *q, const strata_tensor *k,
                                       const strata_tensor *v, const strata_tensor *o, const strata_tensor *lse,
                                       void *work)
{
    sti_attention_call c;
    STI_TRY(take_inputs(a, q, k, v, work, &c));
    const strata_attention_problem *p = &a->problem;
    STI_TRY(take(a, "o", o, c.batch, p->heads, c.q_time, p->d_v, &c.o));
    if (lse) STI_TRY(take_lse(a, lse, &c));
    sti_attention_forward(a->plan, &c);
    return STRATA_OK;
}

strata_status strata_attention_backward(const strata_attention *a, const strata_tensor *q, const strata_tensor *k,
                                        const strata_tensor *v, const strata_tensor *o, const strata_tensor *lse,
                                        const strata_tensor *dout, const strata_tensor *dq, const strata_tensor *dk,
                                        const strata_tensor *dv, void *work)
{
    sti_attention_call c;
    STI_TRY(take_inputs(a, q, k, v, work, &c));
    const strata_attention_problem *p = &a->problem;
    if (!p->train) return sti_fail(STRATA_E_INVALID, "attention: backward needs a plan with train=1");
    STI_TRY(take(a, "o", o, c.batch, p->heads, c.q_time, p->d_v, &c.o));
    STI_TRY(take_lse(a, lse, &c));
    STI_TRY(take(a, "do", dout, c.batch, p->heads, c.q_time, p->d_v, &c.dout));
    STI_TRY(take(a, "dq", dq, c.batch, p->heads, c.q_time, p->d_qk, &c.dq));
    STI_TRY(take(a, "dk", dk, c.batch, p->kv_heads, c.k_time, p->d_qk, &c.dk));
    STI_TRY(take(a, "dv", dv, c.batch, p->kv_heads, c.k_time, p->d_v, &c.dv));
    sti_attention_backward(a->plan, &c);
    return STRATA_OK;
}

/* ---- decoding --------------------------------------------------------------------------------------------------- */

strata_status strata_attention_cache_size(const strata_attention *a, int64_t capacity, size_t *bytes, size_t *payload)
{
    if (!a || !bytes) return sti_fail(STRATA_E_INVALID, "attention: a NULL argument");
    return sti_attention_cache_size(a->plan, capacity, bytes, payload);
}

strata_status strata_attention_cache_init(const strata_attention *a, int64_t capacity, void *cache)
{
    if (!a || !cache) return sti_fail(STRATA_E_INVALID, "attention: a NULL argument");
    return sti_attention_cache_init(a->plan, capacity, cache);
}

/* A 3-dimensional tensor (first, second, dim) with contiguous dim. */
static strata_status take3(const strata_attention *a, const char *name, const strata_tensor *t, int64_t first,
                           int64_t second, int64_t dim, strata_tensor const **out)
{
    STI_TRY(check_tensor(a, name, t, a->problem.dtype, 3, (const int64_t[]){ first, second, dim }));
    if (dim > 1 && t->stride[2] != 1)
        return sti_fail(STRATA_E_SHAPE, "attention: the last dimension of %s has stride %lld, not 1", name,
                        (long long)t->stride[2]);
    *out = t;
    return STRATA_OK;
}

strata_status strata_attention_cache_append(const strata_attention *a, void *cache, int64_t pos, const strata_tensor *k,
                                            const strata_tensor *v)
{
    if (!a || !cache || !k) return sti_fail(STRATA_E_INVALID, "attention: a NULL argument");
    const strata_attention_problem *p = &a->problem;
    int64_t n = k->ndim == 3 ? k->shape[1] : 0;
    STI_TRY(take3(a, "k", k, p->kv_heads, n, p->d_qk, &k));
    STI_TRY(take3(a, "v", v, p->kv_heads, n, p->d_v, &v));
    sti_attention_array ka = { k->data, 0, k->stride[0], k->stride[1] },
                        va = { v->data, 0, v->stride[0], v->stride[1] };
    return sti_attention_cache_append(a->plan, cache, pos, n, &ka, &va);
}

strata_status strata_attention_step(const strata_attention *a, void *cache, size_t stride, const int64_t *pos,
                                    const strata_tensor *q, const strata_tensor *k, const strata_tensor *v,
                                    const strata_tensor *o, void *work)
{
    if (!a || !cache || !pos || !q) return sti_fail(STRATA_E_INVALID, "attention: a NULL argument");
    const strata_attention_problem *p = &a->problem;
    int64_t batch = q->ndim == 3 ? q->shape[0] : 0;
    if (batch > p->batch)
        return sti_fail(STRATA_E_SHAPE, "attention: batch %lld is above the planned %lld", (long long)batch,
                        (long long)p->batch);
    STI_TRY(take3(a, "q", q, batch, p->heads, p->d_qk, &q));
    STI_TRY(take3(a, "k", k, batch, p->kv_heads, p->d_qk, &k));
    STI_TRY(take3(a, "v", v, batch, p->kv_heads, p->d_v, &v));
    STI_TRY(take3(a, "o", o, batch, p->heads, p->d_v, &o));
    sti_attention_array qa = { q->data, q->stride[0], q->stride[1], 0 };
    sti_attention_array ka = { k->data, k->stride[0], k->stride[1], 0 };
    sti_attention_array va = { v->data, v->stride[0], v->stride[1], 0 };
    sti_attention_array oa = { o->data, o->stride[0], o->stride[1], 0 };
    return sti_attention_step(a->plan, cache, stride, pos, batch, &qa, &ka, &va, &oa, work ? work : a->work);
}
