/* Attention against an oracle of its own: float64, T x T matrices, each level an explicit block or band mask. */
#include <float.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/philox.h"
#include "kernel/attention/attention.h"
#include "support/test.h"

/* ---- the oracle ------------------------------------------------------------------------------------------------- */

#define INF ((double)INFINITY)
enum { NONE, LEVELS, COUNT };
#define ALL (INT64_C(1) << 40)

typedef struct softmax { /* described in the test's own words */
    int n, offset, rank[8];
    int64_t block[8]; /* 0: b_1 / 2^l of the smallest power of two not below the context */
    double scale[8];
    int gain, distance;
    int64_t window; /* keys at distance 0 to window; ALL */
} softmax;

typedef struct scoring {
    const char *spec;
    int d_qk, d_v, causal, parts;
    softmax part[2];
    int vrank[8]; /* of part 0's levels; all zero: one level */
    int alibi;
} scoring;

typedef struct sizes {
    int batch, heads, kv_heads, tq, tk;
    int64_t q_pos, k_pos;
} sizes;

typedef struct results { /* value and bound scale of every output, (b, h, t, d) contiguous */
    double *o, *lse, *dq, *dk, *dv, *so, *slse, *sdq, *sdk, *sdv;
} results;

static double *zeros(int64_t n)
{
    double *p = calloc((size_t)n + 1, sizeof *p);
    CHECK(p);
    return p;
}

static void results_free(results *r)
{
    double *all[] = { r->o, r->lse, r->dq, r->dk, r->dv, r->so, r->slse, r->sdq, r->sdk, r->sdv };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static bool in_level(const scoring *s, const softmax *m, int l, int64_t i, int64_t j, int64_t context)
{
    int64_t far = llabs(i - j), power = 1, block;
    if (s->causal && j > i) return false;
    if (far > m->window) return false;
    if (l == 0) return true;
    while (power < context) power *= 2;
    block = m->block[0] ? m->block[l] : power >> l;
    if (block < 1) block = 1;
    return m->distance ? far < block : i / block == j / block;
}

/* All outputs and, for each, the same expression in absolute values with the condition of the exponential: a score
 * carries an absolute error proportional to A_ij = sum |q k| scale, hence P_ij the relative error A_ij + mean A. */
static results oracle(const scoring *s, const sizes *z, const double *q, const double *k, const double *v,
                      const double *dout)
{
    int64_t tq = z->tq, tk = z->tk, dk = s->d_qk, dv = s->d_v, nq = (int64_t)z->batch * z->heads * tq;
    int64_t nk = (int64_t)z->batch * z->kv_heads * tk, context = z->q_pos + tq;
    results r = { zeros(nq * dv), zeros(nq * s->parts), zeros(nq * dk), zeros(nk * dk), zeros(nk * dv),
                  zeros(nq * dv), zeros(nq * s->parts), zeros(nq * dk), zeros(nk * dk), zeros(nk * dv) };
    double *score = zeros(tk), *size = zeros(tk), *prob = zeros(tk), *w = zeros(tk), *dp = zeros(tk), *adp = zeros(tk);
    for (int part = 0; part < s->parts; part++)
        for (int64_t bh = 0; bh < (int64_t)z->batch * z->heads; bh++)
            for (int64_t t = 0; t < tq; t++) {
                const softmax *m = &s->part[part];
                int64_t b = bh / z->heads, h = bh % z->heads, g = b * z->kv_heads + h / (z->heads / z->kv_heads);
                int64_t row = bh * tq + t, i = z->q_pos + t;
                double slope = s->alibi ? pow(2, -8.0 * (double)(h + 1) / z->heads) : 0, top = -INF, sum = 0;
                for (int64_t n = 0; n < tk; n++) {
                    int64_t j = z->k_pos + n, at = m->offset;
                    int depth = 0;
                    score[n] = size[n] = 0;
                    for (int l = 0; l < m->n; at += m->rank[l++])
                        if (in_level(s, m, l, i, j, context)) {
                            depth++;
                            for (int64_t d = at; d < at + m->rank[l]; d++) {
                                double x = q[row * dk + d] * k[(g * tk + n) * dk + d] * m->scale[l];
                                score[n] += x;
                                size[n] += fabs(x);
                            }
                        }
                    double gain = m->gain == COUNT && depth ? 1.0 / depth : m->gain == LEVELS ? 1.0 / m->n : 1;
                    score[n] = depth ? score[n] * gain - slope * (double)llabs(i - j) : -INF;
                    size[n] = size[n] * gain + slope * (double)llabs(i - j);
                    if (score[n] > top) top = score[n];
                }
                if (top == -INF) {
                    r.lse[part * nq + row] = -INF;
                    continue;
                }
                double mean = 0, delta = 0, adelta = 0;
                for (int64_t n = 0; n < tk; n++) sum += prob[n] = exp(score[n] - top);
                for (int64_t n = 0; n < tk; n++) mean += (prob[n] /= sum) * size[n];
                for (int64_t n = 0; n < tk; n++) w[n] = prob[n] * (1 + size[n] + mean + fabs(top));
                r.lse[part * nq + row] = top + log(sum);
                r.slse[part * nq + row] = 1 + fabs(top) + mean + fabs(log(sum));
                for (int64_t n = 0; n < tk; n++) {
                    int64_t at = 0, j = z->k_pos + n;
                    dp[n] = adp[n] = 0;
                    for (int l = 0; l < m->n; at += s->vrank[l++]) {
                        int64_t width = s->vrank[0] ? s->vrank[l] : l == 0 ? dv : 0;
                        if (!in_level(s, m, l, i, j, context)) continue;
                        for (int64_t d = at; d < at + width; d++) {
                            double y = v[(g * tk + n) * dv + d], dy = dout[row * dv + d];
                            r.o[row * dv + d] += prob[n] * y;
                            r.so[row * dv + d] += w[n] * fabs(y);
                            r.dv[(g * tk + n) * dv + d] += prob[n] * dy;
                            r.sdv[(g * tk + n) * dv + d] += w[n] * fabs(dy);
                            dp[n] += dy * y;
                            adp[n] += fabs(dy * y);
                        }
                    }
                    delta += prob[n] * dp[n];
                    adelta += w[n] * adp[n];
                }
                for (int64_t n = 0; n < tk; n++) {
                    int64_t j = z->k_pos + n, at = m->offset;
                    int depth = 0;
                    for (int l = 0; l < m->n; l++) depth += in_level(s, m, l, i, j, context);
                    if (!depth) continue;
                    double gain = m->gain == COUNT && depth ? 1.0 / depth : m->gain == LEVELS ? 1.0 / m->n : 1;
                    double ds = prob[n] * (dp[n] - delta) * gain, ads = w[n] * (adp[n] + adelta) * gain;
                    for (int l = 0; l < m->n; at += m->rank[l++])
                        if (in_level(s, m, l, i, j, context))
                            for (int64_t d = at; d < at + m->rank[l]; d++) {
                                double x = m->scale[l] * k[(g * tk + n) * dk + d], y = m->scale[l] * q[row * dk + d];
                                r.dq[row * dk + d] += ds * x;
                                r.sdq[row * dk + d] += ads * fabs(x);
                                r.dk[(g * tk + n) * dk + d] += ds * y;
                                r.sdk[(g * tk + n) * dk + d] += ads * fabs(y);
                            }
                }
            }
    double *scratch[] = { score, size, prob, w, dp, adp };
    for (size_t i = 0; i < sizeof scratch / sizeof *scratch; i++) free(scratch[i]);
    return r;
}

/* ---- arrays under test ------------------------------------------------------------------------------------------ */

enum { PLAIN, TIME_MAJOR }; /* (b, h, t, d), or (b, t, h, d) with three spare elements after each row */

typedef struct array {
    strata_tensor t;
    void *base;
    int64_t elements;
    int layout;
} array;

static double get(const strata_tensor *t, int64_t at)
{
    return t->dtype == STRATA_F32 ? (double)((const float *)t->data)[at] : ((const double *)t->data)[at];
}
static void put(const strata_tensor *t, int64_t at, double x)
{
    if (t->dtype == STRATA_F32)
        ((float *)t->data)[at] = (float)x;
    else
        ((double *)t->data)[at] = x;
}

/* Filled with NaN, spare elements included; then with `from` when given. */
static array make(int dtype, int layout, int64_t b, int64_t h, int64_t t, int64_t d, const double *from)
{
    array a = { .t = strata_view4(NULL, dtype, b, h, t, d), .layout = layout };
    if (layout == TIME_MAJOR) {
        a.t.stride[1] = d + 3;
        a.t.stride[2] = h * (d + 3);
        a.t.stride[0] = t * h * (d + 3);
    }
    a.elements = b * a.t.stride[0];
    a.base = malloc((size_t)a.elements * strata_dtype_size(dtype) + 8);
    CHECK(a.base);
    a.t.data = a.base;
    for (int64_t i = 0; i < a.elements; i++) put(&a.t, i, NAN);
    for (int64_t i = 0; from && i < b * h * t * d; i++) {
        int64_t x = i % d, y = i / d % t, w = i / d / t % h, u = i / d / t / h;
        put(&a.t, u * a.t.stride[0] + w * a.t.stride[1] + y * a.t.stride[2] + x, from[i]);
    }
    return a;
}

static double at4(const strata_tensor *t, int64_t i)
{
    int64_t d = t->shape[3], n = t->shape[2], h = t->shape[1];
    return get(t, i / d / n / h * t->stride[0] + i / d / n % h * t->stride[1] + i / d % n * t->stride[2] + i % d);
}

/* Elements outside the view are as they were: NaN. */
static void check_spare(const array *a, const char *what)
{
    int64_t d = a->t.shape[3], spare = 0;
    if (a->layout != TIME_MAJOR) return;
    for (int64_t i = 0; i < a->elements; i++)
        if (i % (d + 3) >= d) spare += !isnan(get(&a->t, i));
    if (spare) FAIL("%s: %lld elements outside the view were written", what, (long long)spare);
}

static double worst; /* ratio of error to bound in the last comparison */

static int64_t count_bad(const strata_tensor *t, const double *want, const double *scale, double unit, int64_t planted)
{
    int64_t bad = 0, n = strata_tensor_count(t);
    worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = at4(t, i), bound = unit * scale[i] + DBL_MIN;
        if (i == planted) x += 100 * bound;
        if (isinf(want[i]) ? x != want[i] : !(fabs(x - want[i]) <= bound)) bad++;
        if (isfinite(want[i])) worst = fmax(worst, fabs(x - want[i]) / bound);
    }
    return bad;
}

/* |x - want| <= 8 eps sqrt(k) scale, and an error of 100 times that at the middle element is seen. */
static void compare(const char *what, const char *name, const array *a, const double *want, const double *scale,
                    int64_t k)
{
    int64_t n = strata_tensor_count(&a->t), middle = n / 2;
    double unit = 8 * (a->t.dtype == STRATA_F32 ? (double)FLT_EPSILON : DBL_EPSILON) * sqrt((double)k);
    int64_t bad = count_bad(&a->t, want, scale, unit, -1);
    if (bad)
        FAIL("%s: %lld of %lld elements of %s are off, worst %g bounds", what, (long long)bad, (long long)n, name,
             worst);
    while (middle < n - 1 && !isfinite(want[middle])) middle++;
    if (isfinite(want[middle]) && scale[middle] > 0 && count_bad(&a->t, want, scale, unit, middle) == 0)
        FAIL("%s: a planted error in %s was not seen", what, name);
    check_spare(a, what);
}

/* Standard normal numbers that f32 holds. */
static double *normal(int64_t n, uint64_t stream, double std)
{
    double *x = zeros(n);
    for (int64_t i = 0; i < n; i++) x[i] = (double)(float)(std * sti_normal(7, stream, (uint64_t)i));
    return x;
}

static const char *const isas[] = { "ref", "c", "avx2", "avx512" };

static strata_context *context(const char *isa, int threads, int deterministic)
{
    char text[128];
    strata_context *ctx = NULL;
    snprintf(text, sizeof text, "isa=%s threads=%d deterministic=%d", isa, threads, deterministic);
    CHECK_OK(strata_context_create(text, NULL, &ctx));
    return ctx;
}

typedef struct tensors {
    array q, k, v, dout, o, lse, dq, dk, dv;
} tensors;

static void tensors_free(tensors *x)
{
    array *all[] = { &x->q, &x->k, &x->v, &x->dout, &x->o, &x->lse, &x->dq, &x->dk, &x->dv };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->base);
}

typedef struct inputs {
    double *q, *k, *v, *dout;
} inputs;

static inputs draw(const scoring *s, const sizes *z, uint64_t seed)
{
    int64_t nq = (int64_t)z->batch * z->heads * z->tq, nk = (int64_t)z->batch * z->kv_heads * z->tk;
    return (inputs){ normal(nq * s->d_qk, seed, 1.5), normal(nk * s->d_qk, seed + 1, 1.5),
                     normal(nk * s->d_v, seed + 2, 1), normal(nq * s->d_v, seed + 3, 1) };
}
static void inputs_free(inputs *x)
{
    free(x->q);
    free(x->k);
    free(x->v);
    free(x->dout);
}

static tensors tensors_make(const scoring *s, const sizes *z, int dtype, int layout, const inputs *x)
{
    int B = z->batch, H = z->heads, G = z->kv_heads;
    return (tensors){ .q = make(dtype, layout, B, H, z->tq, s->d_qk, x->q),
                      .k = make(dtype, layout, B, G, z->tk, s->d_qk, x->k),
                      .v = make(dtype, layout, B, G, z->tk, s->d_v, x->v),
                      .dout = make(dtype, layout, B, H, z->tq, s->d_v, x->dout),
                      .o = make(dtype, layout, B, H, z->tq, s->d_v, NULL),
                      .lse = make(dtype, PLAIN, s->parts, B, H, z->tq, NULL),
                      .dq = make(dtype, layout, B, H, z->tq, s->d_qk, NULL),
                      .dk = make(dtype, layout, B, G, z->tk, s->d_qk, NULL),
                      .dv = make(dtype, layout, B, G, z->tk, s->d_v, NULL) };
}

static strata_attention *plan(const strata_context *ctx, const scoring *s, const sizes *z, int dtype)
{
    strata_attention_problem p = { STRATA_INIT(strata_attention_problem),
                                   .batch = z->batch,
                                   .heads = z->heads,
                                   .kv_heads = z->kv_heads,
                                   .q_time = z->tq,
                                   .k_time = z->tk,
                                   .d_qk = s->d_qk,
                                   .d_v = s->d_v,
                                   .q_pos = z->q_pos,
                                   .k_pos = z->k_pos,
                                   .dtype = dtype,
                                   .train = 1 };
    strata_attention *a = NULL;
    CHECK_OK(strata_attention_create(ctx, s->spec, &p, &a));
    return a;
}

static strata_tensor lse_view(const tensors *x)
{
    strata_tensor t = x->lse.t;
    if (t.shape[0] == 1) t = strata_view3(t.data, t.dtype, t.shape[1], t.shape[2], t.shape[3]);
    return t;
}

static void run(const strata_attention *a, tensors *x, void *work)
{
    strata_tensor lse = lse_view(x);
    CHECK_OK(strata_attention_forward(a, &x->q.t, &x->k.t, &x->v.t, &x->o.t, &lse, work));
    CHECK_OK(strata_attention_backward(a, &x->q.t, &x->k.t, &x->v.t, &x->o.t, &lse, &x->dout.t, &x->dq.t, &x->dk.t,
                                       &x->dv.t, work));
}

static void against_oracle(const scoring *s, const sizes *z)
{
    inputs x = draw(s, z, 10);
    results r = oracle(s, z, x.q, x.k, x.v, x.dout);
    int64_t k = z->tk + s->d_qk + (int64_t)s->d_v + (int64_t)z->tq * z->heads / z->kv_heads;
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        for (int dtype = STRATA_F32; dtype <= STRATA_F64; dtype++) {
            char what[256];
            strata_context *ctx = context(isas[i], 1, 0);
            int fell_back = strcmp(strata_context_isa(ctx), isas[i]) != 0;
            if (!fell_back) {
                strata_attention *a = plan(ctx, s, z, dtype);
                tensors y = tensors_make(s, z, dtype, (z->tq + (int)i) % 2 ? PLAIN : TIME_MAJOR, &x);
                snprintf(what, sizeof what, "%s, tq %d tk %d at %lld %lld, %s %s", s->spec, z->tq, z->tk,
                         (long long)z->q_pos, (long long)z->k_pos, isas[i], strata_dtype_name(dtype));
                CHECK_STR(strata_attention_variant(a), isas[i]);
                run(a, &y, NULL);
                compare(what, "o", &y.o, r.o, r.so, k);
                compare(what, "lse", &y.lse, r.lse, r.slse, k);
                compare(what, "dq", &y.dq, r.dq, r.sdq, k);
                compare(what, "dk", &y.dk, r.dk, r.sdk, k);
                compare(what, "dv", &y.dv, r.dv, r.sdv, k);
                tensors_free(&y);
                strata_attention_destroy(a);
            }
            strata_context_destroy(ctx);
        }
    results_free(&r);
    inputs_free(&x);
}

/* ---- scorings ----------------------------------------------------------------------------------------------------*/

#define ONE_LEVEL(r, s, w)                                                                                             \
    {                                                                                                                  \
        {                                                                                                              \
            .n = 1, .rank = { r }, .block = { 1 }, .scale = { s }, .window = (w)                                       \
        }                                                                                                              \
    }
#define MLR(...)                                                                                                       \
    {                                                                                                                  \
        {                                                                                                              \
            .window = ALL, __VA_ARGS__                                                                                 \
        }                                                                                                              \
    }

static const scoring scorings[] = {
    { "score=standard", 5, 3, 1, 1, ONE_LEVEL(5, 0.4472135954999579, ALL), { 0 }, 0 },
    { "score=standard causal=0 scale=mup", 16, 20, 0, 1, ONE_LEVEL(16, 0.5, ALL), { 0 }, 0 },
    { "softmax score=standard scale=0.3", 1, 1, 1, 1, ONE_LEVEL(1, 0.3, ALL), { 0 }, 0 },
    { "score=window window=0", 7, 7, 1, 1, ONE_LEVEL(7, 0.3779644730092272, 0), { 0 }, 0 },
    { "score=window window=9 scale=mup", 8, 5, 1, 1, ONE_LEVEL(8, 1, 9), { 0 }, 0 },
    { "score=window window=70", 4, 12, 1, 1, ONE_LEVEL(4, 0.5, 70), { 0 }, 0 },
    { "score=window window=21 causal=0", 4, 2, 0, 1, ONE_LEVEL(4, 0.5, 21), { 0 }, 0 },
    { "score=mlr ranks=4", 4, 6, 1, 1, MLR(.n = 1, .rank = { 4 }, .block = { 1 }, .scale = { 0.25 }), { 0 }, 0 },
    { "score=mlr ranks=4,2,1 blocks=64,16,4",
      7,
      9,
      1,
      1,
      MLR(.n = 3, .rank = { 4, 2, 1 }, .block = { 64, 16, 4 }, .scale = { 0.25, 0.5, 1 }),
      { 0 },
      0 },
    { "score=mlr ranks=4,2,1 blocks=64,16,4 gain=levels",
      7,
      9,
      1,
      1,
      MLR(.n = 3, .rank = { 4, 2, 1 }, .block = { 64, 16, 4 }, .scale = { 0.25, 0.5, 1 }, .gain = LEVELS),
      { 0 },
      0 },
    { "score=mlr ranks=2,4,1 blocks=128,32,2 gain=count",
      7,
      13,
      1,
      1,
      MLR(.n = 3, .rank = { 2, 4, 1 }, .block = { 128, 32, 2 }, .scale = { 0.5, 0.25, 1 }, .gain = COUNT),
      { 0 },
      0 },
    { "score=mlr ranks=2,4,1 blocks=128,32,2 gain=count causal=0 scale=2",
      7,
      8,
      0,
      1,
      MLR(.n = 3, .rank = { 2, 4, 1 }, .block = { 128, 32, 2 }, .scale = { 1, 0.5, 2 }, .gain = COUNT),
      { 0 },
      0 },
    { "score=mlr levels=4 gain=count",
      8,
      6,
      1,
      1,
      MLR(.n = 4, .rank = { 2, 2, 2, 2 }, .block = { 0 }, .scale = { 0.5, 0.5, 0.5, 0.5 }, .gain = COUNT),
      { 0 },
      0 },
    { "score=mlr ranks=3,3 blocks=33,11 vranks=5,2",
      6,
      7,
      1,
      1,
      MLR(.n = 2, .rank = { 3, 3 }, .block = { 33, 11 }, .scale = { 1. / 3, 1. / 3 }),
      { 5, 2 },
      0 },
    { "score=mlr ranks=2,3,2 blocks=96,24,8 vranks=1,4,3 causal=0 gain=levels",
      7,
      8,
      0,
      1,
      MLR(.n = 3, .rank = { 2, 3, 2 }, .block = { 96, 24, 8 }, .scale = { 0.5, 1. / 3, 0.5 }, .gain = LEVELS),
      { 1, 4, 3 },
      0 },
    { "score=mlr ranks=4,2,2 blocks=100,33,7 depth=distance gain=count",
      8,
      4,
      1,
      1,
      MLR(.n = 3, .rank = { 4, 2, 2 }, .block = { 100, 33, 7 }, .scale = { 0.25, 0.5, 0.5 }, .gain = COUNT,
          .distance = 1),
      { 0 },
      0 },
    { "score=mlr ranks=4,2,2 blocks=100,33,7 depth=distance causal=0 vranks=2,1,3",
      8,
      6,
      0,
      1,
      MLR(.n = 3, .rank = { 4, 2, 2 }, .block = { 100, 33, 7 }, .scale = { 0.25, 0.5, 0.5 }, .distance = 1),
      { 2, 1, 3 },
      0 },
    { "score=gswa ranks=3,4 window=5",
      7,
      6,
      1,
      2,
      { { .n = 1, .rank = { 3 }, .block = { 1 }, .scale = { 0.5773502691896258 }, .window = ALL },
        { .n = 1, .offset = 3, .rank = { 4 }, .block = { 1 }, .scale = { 0.5 }, .window = 5 } },
      { 0 },
      0 },
    { "score=gswa window=20 form=two causal=0 scale=mup",
      8,
      8,
      0,
      2,
      { { .n = 1, .rank = { 4 }, .block = { 1 }, .scale = { 2 }, .window = ALL },
        { .n = 1, .offset = 4, .rank = { 4 }, .block = { 1 }, .scale = { 2 }, .window = 20 } },
      { 0 },
      0 },
    { "score=gswa ranks=4,4 window=9 form=one",
      8,
      7,
      1,
      1,
      MLR(.n = 2, .rank = { 4, 4 }, .block = { 1, 10 }, .scale = { 0.5, 0.5 }, .distance = 1),
      { 0 },
      0 },
    { "score=bilinear-mlr ranks=3,2,1 gain=levels",
      11,
      6,
      1,
      1,
      MLR(.n = 3, .rank = { 3, 4, 4 }, .block = { ALL, ALL, ALL }, .scale = { 0.5773502691896258, 0.5, 0.5 },
          .gain = LEVELS),
      { 0 },
      0 },
    { "score=bilinear-btt", 16, 4, 1, 1, ONE_LEVEL(16, 0.25, ALL), { 0 }, 0 },
};
enum { SCORINGS = sizeof scorings / sizeof *scorings };

static void equals_oracle_at_every_length(void)
{
    static const int times[] = { 1, 2, 7, 64, 65, 127, 130 };
    for (int s = 0; s < SCORINGS; s++)
        for (size_t t = 0; t < sizeof times / sizeof *times; t++)
            against_oracle(&scorings[s], &(sizes){ 1, 2, s % 2 ? 1 : 2, times[t], times[t], 0, 0 });
}

static void equals_oracle_at_length_300(void)
{
    for (int s = 0; s < SCORINGS; s++) against_oracle(&scorings[s], &(sizes){ 1, 1, 1, 300, 300, 0, 0 });
}

static void equals_oracle_with_offsets_and_groups(void)
{
    for (int s = 0; s < SCORINGS; s++) {
        against_oracle(&scorings[s], &(sizes){ 2, 6, 2, 37, 90, 53, 0 });
        against_oracle(&scorings[s], &(sizes){ 1, 4, 1, 70, 33, 11, 40 }); /* rows without a visible key */
    }
}

TESTS(T(equals_oracle_at_every_length), T(equals_oracle_at_length_300), T(equals_oracle_with_offsets_and_groups))
