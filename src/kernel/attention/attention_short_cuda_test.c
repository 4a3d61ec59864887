/* Attention of short sequences on a device against the CPU in f64: narrow and wide columns, levels that differ in scale
 * alone, groups of heads, fewer keys than queries and more, arrays that are not aligned. */
#include "kernel/attention/attention.h"
#include "support/device.h"

typedef struct problem {
    const char *spec;
    int64_t heads, kv_heads, tq, tk, d_qk, d_v;
    int spare; /* numbers between rows */
} problem;

static const problem problems[] = {
    { "score=standard", 2, 2, 64, 64, 64, 8, 0 },
    { "score=standard", 8, 8, 64, 64, 8, 8, 0 },
    { "score=standard", 1, 1, 64, 64, 64, 64, 8 },
    { "score=standard", 3, 3, 37, 37, 5, 3, 0 },
    { "score=standard", 2, 2, 1, 1, 16, 20, 0 },
    { "score=standard", 2, 2, 50, 33, 20, 33, 1 },
    { "score=standard", 4, 2, 64, 64, 16, 16, 0 },
    { "score=standard causal=0", 2, 2, 64, 64, 32, 64, 4 },
    { "score=standard causal=0 scale=mup", 2, 2, 17, 61, 12, 9, 0 },
    { "score=standard causal=0", 2, 2, 61, 17, 48, 1, 3 },
    { "score=bilinear-mlr ranks=4,2,1,1 gain=levels", 3, 3, 64, 64, 20, 8, 0 },
    { "score=bilinear-mlr ranks=3,3,4", 2, 2, 40, 40, 25, 40, 0 },
    { "score=bilinear-btt", 2, 2, 64, 64, 36, 18, 0 },
};

enum { BATCH = 3, Q, K, V, DO, O, LSE, DQ, DK, DV, ARRAYS };

/* (batch, heads, time, dim) whose heads stand side by side in rows, `spare` numbers behind each; x NULL: NaN. */
static strata_tensor tensor(const strata_context *ctx, int32_t dtype, void *data, int64_t heads, int64_t time,
                            int64_t dim, int64_t row)
{
    strata_tensor t = strata_view4(data, dtype, BATCH, heads, time, dim);
    t.stride[0] = time * row;
    t.stride[1] = dim;
    t.stride[2] = row;
    t.device = ctx->device;
    return t;
}

typedef struct side {
    strata_tensor t[ARRAYS];
    void *base[ARRAYS];
    int64_t n[ARRAYS];
} side;

static void open_side(const device *d, const strata_context *ctx, const problem *p, int32_t dtype, double *const *x,
                      side *s)
{
    const int64_t heads[ARRAYS] = { [Q] = p->heads, [K] = p->kv_heads, [V] = p->kv_heads,  [DO] = p->heads,
                                    [O] = p->heads, [DQ] = p->heads,   [DK] = p->kv_heads, [DV] = p->kv_heads };
    const int64_t time[ARRAYS] = {
        [Q] = p->tq, [K] = p->tk, [V] = p->tk, [DO] = p->tq, [O] = p->tq, [DQ] = p->tq, [DK] = p->tk, [DV] = p->tk
    };
    const int64_t dim[ARRAYS] = { [Q] = p->d_qk, [K] = p->d_qk,  [V] = p->d_v,   [DO] = p->d_v,
                                  [O] = p->d_v,  [DQ] = p->d_qk, [DK] = p->d_qk, [DV] = p->d_v };
    for (int i = Q; i < ARRAYS; i++) {
        const int64_t row = i == LSE ? p->tq : heads[i] * dim[i] + p->spare;
        s->n[i] = BATCH * (i == LSE ? p->heads * p->tq : time[i] * row);
        const int32_t type = i == LSE ? sti_sum_type(dtype) : dtype;
        const double *from = i <= DO ? x[i] : NULL;
        if (ctx == d->gpu) {
            s->base[i] = device_put(d, type, from, s->n[i], 0);
        } else {
            s->base[i] = malloc((size_t)s->n[i] * sizeof(double));
            CHECK(s->base[i]);
            for (int64_t k = 0; k < s->n[i]; k++) ((double *)s->base[i])[k] = from ? from[k] : 0;
        }
        if (i == LSE) {
            s->t[i] = strata_view3(s->base[i], type, BATCH, p->heads, p->tq);
            s->t[i].device = ctx->device;
        } else {
            s->t[i] = tensor(ctx, dtype, s->base[i], heads[i], time[i], dim[i], row);
        }
    }
    const strata_attention_problem w = { STRATA_INIT(strata_attention_problem),
                                         .batch = BATCH,
                                         .heads = p->heads,
                                         .kv_heads = p->kv_heads,
                                         .q_time = p->tq,
                                         .k_time = p->tk,
                                         .d_qk = p->d_qk,
                                         .d_v = p->d_v,
                                         .dtype = dtype,
                                         .train = 1 };
    strata_attention *a = NULL;
    strata_tensor *t = s->t;
    CHECK_OK(strata_attention_create(ctx, p->spec, &w, &a));
    CHECK_OK(strata_attention_forward(a, &t[Q], &t[K], &t[V], &t[O], &t[LSE], NULL));
    CHECK_OK(strata_attention_backward(a, &t[Q], &t[K], &t[V], &t[O], &t[LSE], &t[DO], &t[DQ], &t[DK], &t[DV], NULL));
    CHECK_OK(sti_device_wait(ctx));
    strata_attention_destroy(a);
}

/* Numbers between the rows are nobody's: they must still be what they were, and count as 0. */
static void clean(const problem *p, double *x, int64_t n, int64_t row)
{
    for (int64_t i = 0; i < n; i++) {
        if (i % row < row - p->spare) continue;
        CHECK(isnan(x[i]) || !(fabs(x[i]) > 0));
        x[i] = 0;
    }
}

static void check(const device *d, const problem *p, int32_t dtype)
{
    static const char *const names[] = { [O] = "o", [LSE] = "lse", [DQ] = "dq", [DK] = "dk", [DV] = "dv" };
    double *x[DO + 1] = { NULL };
    for (int i = Q; i <= DO; i++) {
        const int64_t time = i == K || i == V ? p->tk : p->tq, heads = i == K || i == V ? p->kv_heads : p->heads;
        const int64_t row = heads * (i == Q || i == K ? p->d_qk : p->d_v) + p->spare;
        x[i] = device_normal(dtype, BATCH * time * row, 1, (uint64_t)i);
        for (int64_t k = 0; k < BATCH * time * row; k++)
            if (k % row >= row - p->spare) x[i][k] = (double)NAN;
    }
    side host, gpu;
    open_side(d, d->cpu, p, STRATA_F64, x, &host);
    open_side(d, d->gpu, p, dtype, x, &gpu);
    for (int i = O; i < ARRAYS; i++) {
        const int32_t type = i == LSE ? sti_sum_type(dtype) : dtype;
        const int64_t n = gpu.n[i], row = gpu.t[i].stride[i == LSE ? 1 : 2];
        double *got = device_get(d, type, gpu.base[i], n);
        char what[128];
        snprintf(what, sizeof what, "%s, %lld x %lld, d %lld %lld: %s", p->spec, (long long)p->tq, (long long)p->tk,
                 (long long)p->d_qk, (long long)p->d_v, names[i]);
        if (i != LSE) clean(p, got, n, row), clean(p, host.base[i], n, row);
        /* f32: the longest sums; bf16: a few roundings of what the kernel reads and writes, none between */
        const double terms = dtype == STRATA_BF16 ? 1 : (double)(p->tq + p->tk + p->d_qk + p->d_v);
        if (p->tk > 1 || i == O || i == DV) /* one visible key has no score gradient, and lse is a score */
            device_near_norm(what, dtype, got, host.base[i], n, 8, terms);
        free(got);
    }
    for (int i = Q; i < ARRAYS; i++) {
        free(host.base[i]);
        sti_array_free(d->gpu, gpu.base[i]);
        if (i <= DO) free(x[i]);
    }
}

static void all(void)
{
    static const int32_t types[] = DEVICE_TYPES;
    device d = device_open();
    for (size_t i = 0; i < STI_COUNT(problems); i++)
        for (size_t k = 0; k < STI_COUNT(types); k++) check(&d, &problems[i], types[k]);
    device_close(&d);
}

TESTS(T(all))
