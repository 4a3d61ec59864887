/* Attention against an oracle of its own: float64, T x T matrices, each level an explicit block or band mask. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
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
    if (t->dtype == STRATA_BF16) {
        union {
            uint32_t u;
            float f;
        } x = { (uint32_t)((const uint16_t *)t->data)[at] << 16 };
        return (double)x.f;
    }
    return t->dtype == STRATA_F32 ? (double)((const float *)t->data)[at] : ((const double *)t->data)[at];
}
static void put(const strata_tensor *t, int64_t at, double x)
{
    if (t->dtype == STRATA_BF16) { /* numbers under test are bf16 already */
        union {
            float f;
            uint32_t u;
        } y = { (float)x };
        ((uint16_t *)t->data)[at] = (uint16_t)(y.u >> 16);
    } else if (t->dtype == STRATA_F32)
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

/* |x - want| <= 8 eps sqrt(k) scale, of f32 for bf16 arrays, and 2^-8 scale for every rounding to bf16 on the way. And
 * an error of 100 times that at the middle element is seen. */
static void compare_rounded(const char *what, const char *name, const array *a, const double *want, const double *scale,
                            int64_t k, int roundings)
{
    int64_t n = strata_tensor_count(&a->t), middle = n / 2;
    double unit = 8 * (a->t.dtype == STRATA_F64 ? DBL_EPSILON : (double)FLT_EPSILON) * sqrt((double)k);
    unit += roundings / 256.0;
    int64_t bad = count_bad(&a->t, want, scale, unit, -1);
    if (bad)
        FAIL("%s: %lld of %lld elements of %s are off, worst %g bounds", what, (long long)bad, (long long)n, name,
             worst);
    while (middle < n - 1 && !isfinite(want[middle])) middle++;
    if (isfinite(want[middle]) && scale[middle] > 0 && count_bad(&a->t, want, scale, unit, middle) == 0)
        FAIL("%s: a planted error in %s was not seen", what, name);
    check_spare(a, what);
}

/* A result of bf16 is rounded once; the o that delta was computed from loses less. */
static void compare(const char *what, const char *name, const array *a, const double *want, const double *scale,
                    int64_t k)
{
    compare_rounded(what, name, a, want, scale, k, a->t.dtype == STRATA_BF16);
}

/* Standard normal numbers that f32 holds. */
static double *normal(int64_t n, uint64_t stream, double std)
{
    double *x = zeros(n);
    for (int64_t i = 0; i < n; i++) x[i] = (double)(float)(std * sti_normal(7, stream, (uint64_t)i));
    return x;
}

static const char *const isas[] = { "ref", "c", "avx2", "avx512" };
static const char *const narrow_isas[] = { "c", "avx2", "avx512", "avx512bf16", "amx" }; /* that take bf16 */

typedef struct kind { /* of a plan: products of bf16 read arrays of either type */
    const char *isa, *math;
    int dtype;
} kind;
static const kind kinds[] = {
    { "ref", "f32", STRATA_F32 },         { "c", "f32", STRATA_F32 },    { "avx2", "f32", STRATA_F32 },
    { "avx512", "f32", STRATA_F32 },      { "c", "f32", STRATA_BF16 },   { "avx512bf16", "f32", STRATA_BF16 },
    { "avx512bf16", "bf16", STRATA_F32 }, { "amx", "f32", STRATA_BF16 }, { "amx", "bf16", STRATA_F32 },
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static strata_context *context_of(const kind *k, int threads, int deterministic)
{
    char text[128];
    strata_context *ctx = NULL;
    snprintf(text, sizeof text, "isa=%s threads=%d deterministic=%d math=%s", k->isa, threads, deterministic, k->math);
    CHECK_OK(strata_context_create(text, NULL, &ctx));
    return ctx;
}

static strata_context *context(const char *isa, int threads, int deterministic)
{
    char text[128];
    strata_context *ctx = NULL;
    snprintf(text, sizeof text, "isa=%s threads=%d deterministic=%d", isa, threads, deterministic);
    CHECK_OK(strata_context_create(text, NULL, &ctx));
    return ctx;
}

/* This machine has it and this build its variants. */
static int available(const char *isa)
{
    if (!STRATA_HAVE_AMX && strcmp(isa, "amx") == 0) return 0;
    if (!STRATA_HAVE_AVX512BF16 && strcmp(isa, "avx512bf16") == 0) return 0;
    strata_context *ctx = context(isa, 1, 0);
    int same = strcmp(strata_context_isa(ctx), isa) == 0;
    strata_context_destroy(ctx);
    return same;
}

/* `ref` refuses arrays of bf16 (counted by every_variant_is_there where the environment asks for it). */
static int runs(const kind *k)
{
    return k->dtype != STRATA_BF16 || available("c");
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
                      .lse = make(dtype == STRATA_F64 ? STRATA_F64 : STRATA_F32, PLAIN, s->parts, B, H, z->tq, NULL),
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

static void round_to_bf16(double *x, int64_t n) /* to 8 significant bits: what every type under test holds */
{
    for (int64_t i = 0; i < n; i++) {
        int e;
        double m = frexp(x[i], &e);
        x[i] = ldexp(rint(m * 256), e - 8);
    }
}

static int of_bf16_products(const kind *k)
{
    const int instructions = strcmp(k->isa, "avx512bf16") == 0 || strcmp(k->isa, "amx") == 0;
    return instructions && (k->dtype == STRATA_BF16 || strcmp(k->math, "bf16") == 0);
}

static void variant_against_oracle(const scoring *s, const sizes *z, const inputs *x, const results *r, const kind *n,
                                   int deterministic)
{
    const char *isa = n->isa;
    const int dtype = n->dtype;
    const int64_t k = z->tk + s->d_qk + (int64_t)s->d_v + (int64_t)z->tq * z->heads / z->kv_heads;
    char what[256];
    if (!available(isa)) return; /* counted by every_variant_is_there */
    strata_context *ctx = context_of(n, 1, deterministic);
    strata_attention *a = plan(ctx, s, z, dtype);
    tensors y = tensors_make(s, z, dtype, (z->tq + deterministic) % 2 ? PLAIN : TIME_MAJOR, x);
    snprintf(what, sizeof what, "%s, tq %d tk %d at %lld %lld, %s %s deterministic=%d", s->spec, z->tq, z->tk,
             (long long)z->q_pos, (long long)z->k_pos, isa, strata_dtype_name(dtype), deterministic);
    CHECK_STR(strata_attention_variant(a), isa);
    run(a, &y, NULL);
    /* Products of bf16 also round weights and, where levels' scales differ, q (counted in `scale` by the size of a
     * score): outputs twice; delta carries that of o, and gradients of scores are rounded too: four times. */
    const int once = dtype == STRATA_BF16, more = of_bf16_products(n);
    compare_rounded(what, "o", &y.o, r->o, r->so, k, once + more);
    compare_rounded(what, "lse", &y.lse, r->lse, r->slse, k, more);
    compare_rounded(what, "dq", &y.dq, r->dq, r->sdq, k, once + 3 * more);
    compare_rounded(what, "dk", &y.dk, r->dk, r->sdk, k, once + 3 * more);
    compare_rounded(what, "dv", &y.dv, r->dv, r->sdv, k, once + more);
    tensors_free(&y);
    strata_attention_destroy(a);
    strata_context_destroy(ctx);
}

static void against_oracle(const scoring *s, const sizes *z)
{
    inputs x = draw(s, z, 10);
    int64_t nq = (int64_t)z->batch * z->heads * z->tq, nk = (int64_t)z->batch * z->kv_heads * z->tk;
    round_to_bf16(x.q, nq * s->d_qk);
    round_to_bf16(x.k, nk * s->d_qk);
    round_to_bf16(x.v, nk * s->d_v);
    round_to_bf16(x.dout, nq * s->d_v);
    results r = oracle(s, z, x.q, x.k, x.v, x.dout);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        for (int n = 0; n < 4; n++) /* few heads: backward takes one pass, or two when deterministic */
            if (n < 2 || i > 0)
                variant_against_oracle(s, z, &x, &r, &(kind){ isas[i], "f32", n % 2 ? STRATA_F64 : STRATA_F32 }, n / 2);
    for (size_t i = 0; i < sizeof narrow_isas / sizeof *narrow_isas; i++)
        for (int n = 0; n < 2; n++)
            variant_against_oracle(s, z, &x, &r, &(kind){ narrow_isas[i], "f32", STRATA_BF16 }, n);
    for (size_t i = 3; i < sizeof narrow_isas / sizeof *narrow_isas; i++)
        variant_against_oracle(s, z, &x, &r, &(kind){ narrow_isas[i], "bf16", STRATA_F32 }, z->tq % 2);
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

static void every_variant_is_there(void)
{
    char missing[64] = "";
    for (size_t i = 0; i < sizeof narrow_isas / sizeof *narrow_isas; i++)
        if (!available(narrow_isas[i]))
            snprintf(missing + strlen(missing), sizeof missing - strlen(missing), " %s", narrow_isas[i]);
    if (*missing) SKIP("not on this machine or not in this build:%s", missing);
}

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

/* Columns that fill no tile, or many: the contraction is padded, and prefixes end inside a step. */
static void equals_oracle_with_odd_columns(void)
{
    static const scoring wide[] = {
        { "score=standard", 40, 72, 1, 1, ONE_LEVEL(40, 0.15811388300841897, ALL), { 0 }, 0 },
        { "score=standard causal=0", 404, 33, 0, 1, ONE_LEVEL(404, 0.049751859510499465, ALL), { 0 }, 0 },
        { "score=mlr ranks=20,33,7 blocks=256,64,16 gain=count vranks=17,40,16",
          60,
          73,
          1,
          1,
          MLR(.n = 3, .rank = { 20, 33, 7 }, .block = { 256, 64, 16 }, .scale = { 1. / 20, 1. / 33, 1. / 7 },
              .gain = COUNT),
          { 17, 40, 16 },
          0 },
        { "score=mlr ranks=32,64 blocks=100,50 depth=distance",
          96,
          64,
          1,
          1,
          MLR(.n = 2, .rank = { 32, 64 }, .block = { 100, 50 }, .scale = { 1. / 32, 1. / 64 }, .distance = 1),
          { 0 },
          0 },
    };
    static const int times[] = { 1, 7, 33, 65, 130, 200 };
    for (size_t s = 0; s < sizeof wide / sizeof *wide; s++)
        for (size_t t = 0; t < sizeof times / sizeof *times; t++)
            against_oracle(&wide[s], &(sizes){ 1, 2, 1 + (int)(t % 2), times[t], times[t], 0, 0 });
}

/* ---- decoding --------------------------------------------------------------------------------------------------- */

/* Bytes of the formula, from the description: level 1 grows to N, deeper levels are rings, a window holds w + 1. */
static size_t formula(const scoring *s, int64_t kv_heads, int64_t capacity, int64_t context, size_t e)
{
    int64_t n = 0, power = 1, widest = 0;
    while (power < context) power *= 2;
    for (int part = 0; part < s->parts; part++) {
        const softmax *m = &s->part[part];
        int64_t first = m->window < ALL ? m->window + 1 : ALL;
        widest = first > widest ? first : widest;
        for (int l = 0; l < m->n; l++) {
            int64_t block = l == 0 ? first : m->block[0] ? m->block[l] : power >> l;
            n += m->rank[l] * (block < capacity ? block : capacity);
            if (part == 0 && l > 0) n += s->vrank[l] * (block < capacity ? block : capacity);
        }
    }
    n += (s->vrank[0] ? s->vrank[0] : s->d_v) * (widest < capacity ? widest : capacity);
    return (size_t)(n * kv_heads) * e;
}

static strata_tensor token(const array *a, int64_t t) /* (b, h, d) of one time */
{
    strata_tensor x = strata_view3(NULL, a->t.dtype, a->t.shape[0], a->t.shape[1], a->t.shape[3]);
    x.stride[0] = a->t.stride[0];
    x.stride[1] = a->t.stride[1];
    x.data = (char *)a->t.data + (size_t)(t * a->t.stride[2]) * strata_dtype_size(a->t.dtype);
    return x;
}
static strata_tensor stretch(const array *a, int64_t b, int64_t n) /* (h, first n times, d) of one sequence */
{
    strata_tensor x = strata_view3(NULL, a->t.dtype, a->t.shape[1], n, a->t.shape[3]);
    x.stride[0] = a->t.stride[1];
    x.stride[1] = a->t.stride[2];
    x.data = (char *)a->t.data + (size_t)(b * a->t.stride[0]) * strata_dtype_size(a->t.dtype);
    return x;
}

static void decode(const scoring *s, const char *isa, int dtype, int prompt)
{
    char what[256];
    sizes z = { 2, 4, 2, 90, 90, 0, 0 };
    inputs x = draw(s, &z, 30);
    if (dtype == STRATA_BF16) {
        round_to_bf16(x.q, (int64_t)2 * 4 * 90 * s->d_qk);
        round_to_bf16(x.k, (int64_t)2 * 2 * 90 * s->d_qk);
        round_to_bf16(x.v, (int64_t)2 * 2 * 90 * s->d_v);
    }
    results r = oracle(s, &z, x.q, x.k, x.v, x.dout);
    tensors y = tensors_make(s, &z, dtype, prompt ? PLAIN : TIME_MAJOR, &x);
    strata_context *ctx = context(isa, 2, 0);
    strata_attention *a = plan(ctx, s, &z, dtype);
    size_t bytes = 0, payload = 0;
    CHECK_OK(strata_attention_cache_size(a, 90, &bytes, &payload));
    CHECK_INT(payload, formula(s, 2, 90, 90, strata_dtype_size(dtype)));
    CHECK(bytes >= payload && bytes < payload + 64 * 24 && bytes % 64 == 0);
    char *cache = strata_alloc(ctx, 2 * bytes), *moved = strata_alloc(ctx, 2 * bytes);
    memset(cache, 0xff, 2 * bytes);
    for (int b = 0; b < 2; b++) {
        strata_tensor k = stretch(&y.k, b, prompt), v = stretch(&y.v, b, prompt);
        CHECK_OK(strata_attention_cache_init(a, 90, cache + (size_t)b * bytes));
        CHECK_OK(strata_attention_cache_append(a, cache + (size_t)b * bytes, 0, &k, &v));
    }
    for (int64_t t = prompt; t < 90; t++) {
        strata_tensor q = token(&y.q, t), k = token(&y.k, t), v = token(&y.v, t), o = token(&y.o, t);
        CHECK_OK(strata_attention_step(a, cache, bytes, (const int64_t[]){ t, t }, &q, &k, &v, &o, NULL));
        if (t == 50) { /* a copy is as good as the original */
            memcpy(moved, cache, 2 * bytes);
            memset(cache, 0xff, 2 * bytes);
            char *swap = cache;
            cache = moved;
            moved = swap;
        }
    }
    for (int64_t i = 0; i < strata_tensor_count(&y.o.t); i++) /* rows of the prompt were not computed */
        if (i / s->d_v % 90 < prompt) r.o[i] = r.so[i] = 0;
    strata_tensor prompt_rows = y.o.t;
    for (int64_t b = 0; b < 2; b++)
        for (int64_t h = 0; h < 4; h++)
            for (int64_t t = 0; t < prompt; t++)
                for (int64_t d = 0; d < s->d_v; d++)
                    put(&prompt_rows, b * y.o.t.stride[0] + h * y.o.t.stride[1] + t * y.o.t.stride[2] + d, 0);
    snprintf(what, sizeof what, "step of %s after %d, %s %s", s->spec, prompt, isa, strata_dtype_name(dtype));
    compare(what, "o", &y.o, r.o, r.so, 90 + s->d_qk);
    strata_tensor q = token(&y.q, 0), k = token(&y.k, 0), v = token(&y.v, 0), o = token(&y.o, 0);
    if (s->part[0].window < 89) /* a ring never fills */
        CHECK_OK(strata_attention_step(a, cache, bytes, (const int64_t[]){ 90, 90 }, &q, &k, &v, &o, NULL));
    else
        CHECK_STATUS(strata_attention_step(a, cache, bytes, (const int64_t[]){ 89, 90 }, &q, &k, &v, &o, NULL),
                     STRATA_E_SPACE);
    strata_free(ctx, cache);
    strata_free(ctx, moved);
    strata_attention_destroy(a);
    strata_context_destroy(ctx);
    tensors_free(&y);
    results_free(&r);
    inputs_free(&x);
}

static void step_equals_forward(void)
{
    static const int types[] = { STRATA_F32, STRATA_F64, STRATA_BF16 };
    for (int s = 0; s < SCORINGS; s++)
        for (size_t i = 0; scorings[s].causal && i < sizeof isas / sizeof *isas; i++)
            for (size_t n = 0; n < (i ? 3 : 2) && available(isas[i]); n++)
                decode(&scorings[s], isas[i], types[n], n % 2 ? 41 : 0);
}

static int same_bits(const array *a, const array *b)
{
    return memcmp(a->t.data, b->t.data, (size_t)a->elements * strata_dtype_size(a->t.dtype)) == 0;
}

/* A step at the end of a cache that is long enough to be split, group of 3 heads and of 9; the cache ends at a page
 * that cannot be read; any number of threads gives the same bits. */
static void long_caches_are_split(void)
{
    enum { LONG = 2300 };
    static const int types[] = { STRATA_F32, STRATA_F64, STRATA_BF16 };
    for (int n = 0; n < SCORINGS * 12; n++) {
        const scoring *s = &scorings[n / 12];
        const char *isa = isas[n / 3 % 4];
        int dtype = types[n % 3], kv_heads = n / 12 % 2 ? 1 : 2, heads = kv_heads == 1 ? 9 : 6;
        if (!s->causal || !available(isa) || (dtype == STRATA_BF16 && strcmp(isa, "ref") == 0)) continue;
        sizes z = { 1, heads, kv_heads, 1, LONG, LONG - 1, 0 };
        inputs x = draw(s, &z, 60);
        if (dtype == STRATA_BF16) {
            round_to_bf16(x.q, (int64_t)heads * s->d_qk);
            round_to_bf16(x.k, (int64_t)kv_heads * LONG * s->d_qk);
            round_to_bf16(x.v, (int64_t)kv_heads * LONG * s->d_v);
        }
        results r = oracle(s, &z, x.q, x.k, x.v, x.dout);
        tensors y[3];
        for (int threads = 1; threads <= 3; threads++) {
            tensors *w = &y[threads - 1];
            size_t bytes = 0, page = (size_t)sysconf(_SC_PAGESIZE);
            strata_context *ctx = context(isa, threads, 0);
            strata_attention *a = plan(ctx, s, &z, dtype);
            *w = tensors_make(s, &z, dtype, PLAIN, &x);
            CHECK_OK(strata_attention_cache_size(a, LONG, &bytes, NULL));
            size_t room = (bytes + page - 1) / page * page;
            char *map = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            CHECK(map != MAP_FAILED && mprotect(map + room, page, PROT_NONE) == 0);
            char *cache = map + room - bytes;
            memset(cache, 0xff, bytes);
            strata_tensor before_k = stretch(&w->k, 0, LONG - 1), before_v = stretch(&w->v, 0, LONG - 1);
            strata_tensor q = token(&w->q, 0), k = token(&w->k, LONG - 1), v = token(&w->v, LONG - 1);
            strata_tensor o = token(&w->o, 0);
            CHECK_OK(strata_attention_cache_init(a, LONG, cache));
            CHECK_OK(strata_attention_cache_append(a, cache, 0, &before_k, &before_v));
            CHECK_OK(strata_attention_step(a, cache, bytes, (const int64_t[]){ LONG - 1 }, &q, &k, &v, &o, NULL));
            CHECK(same_bits(&y[0].o, &w->o));
            strata_attention_destroy(a);
            strata_context_destroy(ctx);
            CHECK(munmap(map, room + page) == 0);
        }
        compare(s->spec, "o of a long step", &y[0].o, r.o, r.so, LONG + s->d_qk);
        for (int i = 0; i < 3; i++) tensors_free(&y[i]);
        results_free(&r);
        inputs_free(&x);
    }
}

static void sequences_step_at_their_own_positions(void)
{
    const scoring *s = &scorings[13];
    sizes z = { 2, 2, 1, 60, 60, 0, 0 };
    inputs x = draw(s, &z, 50);
    results r = oracle(s, &z, x.q, x.k, x.v, x.dout);
    tensors y = tensors_make(s, &z, STRATA_F64, PLAIN, &x);
    strata_context *ctx = context("native", 1, 0);
    strata_attention *a = plan(ctx, s, &z, STRATA_F64);
    size_t bytes = 0;
    CHECK_OK(strata_attention_cache_size(a, 60, &bytes, NULL));
    char *cache = strata_alloc(ctx, 2 * bytes);
    for (int b = 0; b < 2; b++) CHECK_OK(strata_attention_cache_init(a, 60, cache + (size_t)b * bytes));
    strata_tensor k = stretch(&y.k, 1, 17), v = stretch(&y.v, 1, 17);
    CHECK_OK(strata_attention_cache_append(a, cache + bytes, 0, &k, &v)); /* sequence 1 is 17 tokens ahead */
    for (int64_t t = 0; t < 43; t++) {
        strata_tensor q = token(&y.q, t), o = token(&y.o, t);
        k = token(&y.k, t);
        v = token(&y.v, t);
        q.stride[0] += 17 * y.q.t.stride[2];
        k.stride[0] += 17 * y.k.t.stride[2];
        v.stride[0] += 17 * y.v.t.stride[2];
        o.stride[0] += 17 * y.o.t.stride[2];
        CHECK_OK(strata_attention_step(a, cache, bytes, (const int64_t[]){ t, t + 17 }, &q, &k, &v, &o, NULL));
    }
    for (int64_t i = 0; i < strata_tensor_count(&y.o.t); i++) {
        int64_t t = i / s->d_v % 60, b = i / s->d_v / 60 / 2;
        if (b == 0 ? t < 43 : t >= 17)
            CHECK(fabs(at4(&y.o.t, i) - r.o[i]) <= 1e-13 * (1 + r.so[i]));
        else
            CHECK(isnan(at4(&y.o.t, i)));
    }
    strata_free(ctx, cache);
    strata_attention_destroy(a);
    strata_context_destroy(ctx);
    tensors_free(&y);
    results_free(&r);
    inputs_free(&x);
}

static void bad_caches_are_refused(void)
{
    sizes z = { 1, 1, 1, 8, 8, 0, 0 };
    strata_context *ctx = context("c", 1, 0);
    strata_attention *a = plan(ctx, &scorings[1], &z, STRATA_F32), *b = plan(ctx, &scorings[0], &z, STRATA_F32);
    size_t bytes = 0;
    float one[64] = { 0 };
    strata_tensor q = strata_view3(one, STRATA_F32, 1, 1, 5), v = strata_view3(one, STRATA_F32, 1, 1, 3);
    _Alignas(64) char cache[4096] = { 0 };
    CHECK_STATUS(strata_attention_cache_size(a, 8, &bytes, NULL), STRATA_E_UNSUPPORTED); /* not causal */
    CHECK_STATUS(strata_attention_cache_size(b, 0, &bytes, NULL), STRATA_E_INVALID);
    CHECK_STATUS(strata_attention_cache_size(b, INT64_MAX / 2, &bytes, NULL), STRATA_E_MEMORY);
    CHECK_STATUS(strata_attention_cache_append(b, cache, 0, &q, &v), STRATA_E_INVALID); /* no header */
    CHECK_OK(strata_attention_cache_size(b, 8, &bytes, NULL));
    CHECK(bytes <= sizeof cache);
    CHECK_OK(strata_attention_cache_init(b, 8, cache));
    CHECK_STATUS(strata_attention_cache_append(b, cache, 8, &q, &v), STRATA_E_SPACE);
    CHECK_ERROR_TEXT("8 tokens");
    CHECK_STATUS(strata_attention_cache_append(b, cache, -1, &q, &v), STRATA_E_INVALID);
    CHECK_STATUS(strata_attention_cache_append(b, cache, 0, &v, &v), STRATA_E_SHAPE);
    strata_attention_destroy(a);
    strata_attention_destroy(b);
    strata_context_destroy(ctx);
}

/* ---- other properties ------------------------------------------------------------------------------------------- */

/* Every array ends where the process may not look. */
static array guarded(int dtype, int64_t b, int64_t h, int64_t t, int64_t d, const double *from)
{
    array a = make(dtype, PLAIN, b, h, t, d, from);
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (size_t)a.elements * strata_dtype_size(dtype);
    size_t room = (bytes + page - 1) / page * page;
    char *map = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(map != MAP_FAILED);
    CHECK(mprotect(map + room, page, PROT_NONE) == 0);
    memcpy(map + room - bytes, a.base, bytes);
    free(a.base);
    a.base = map;
    a.t.data = map + room - bytes;
    a.elements = (int64_t)(room + page);
    return a;
}

static void nothing_is_read_past_an_array(void)
{
    static const int lengths[] = { 1, 13, 65 };
    for (int c = 0; c < SCORINGS; c++)
        for (size_t n = 0; n < 3; n++)
            for (int i = 0; i < KINDS + 4; i++) {
                const kind how = i < KINDS ? kinds[i] : (kind){ isas[i - KINDS], "f32", STRATA_F64 };
                const int dtype = how.dtype;
                const scoring *s = &scorings[c];
                int T = lengths[n];
                if (!runs(&how)) continue;
                sizes z = { 1, 2, 2, T, T, 0, 0 };
                inputs x = draw(s, &z, 60);
                tensors y = { .q = guarded(dtype, 1, 2, T, s->d_qk, x.q),
                              .k = guarded(dtype, 1, 2, T, s->d_qk, x.k),
                              .v = guarded(dtype, 1, 2, T, s->d_v, x.v),
                              .dout = guarded(dtype, 1, 2, T, s->d_v, x.dout),
                              .o = guarded(dtype, 1, 2, T, s->d_v, NULL),
                              .lse = guarded(dtype == STRATA_F64 ? dtype : STRATA_F32, s->parts, 1, 2, T, NULL),
                              .dq = guarded(dtype, 1, 2, T, s->d_qk, NULL),
                              .dk = guarded(dtype, 1, 2, T, s->d_qk, NULL),
                              .dv = guarded(dtype, 1, 2, T, s->d_v, NULL) };
                strata_context *ctx = context_of(&how, 1, 0);
                strata_attention *a = plan(ctx, s, &z, dtype);
                run(a, &y, NULL);
                strata_attention_destroy(a);
                strata_context_destroy(ctx);
                array *all[] = { &y.q, &y.k, &y.v, &y.dout, &y.o, &y.lse, &y.dq, &y.dk, &y.dv };
                for (int k = 0; k < 9; k++) munmap(all[k]->base, (size_t)all[k]->elements);
                inputs_free(&x);
            }
}

static void gradients_are_those_of_forward(void)
{
    for (int c = 0; c < SCORINGS; c++) {
        const scoring *s = &scorings[c];
        sizes z = { 1, 2, 1, 19, 19, 0, 0 };
        inputs x = draw(s, &z, 70);
        strata_context *ctx = context("ref", 1, 0);
        strata_attention *a = plan(ctx, s, &z, STRATA_F64);
        tensors y = tensors_make(s, &z, STRATA_F64, PLAIN, &x);
        run(a, &y, NULL);
        array *in[] = { &y.q, &y.k, &y.v };
        const array *grad[] = { &y.dq, &y.dk, &y.dv };
        for (int w = 0; w < 3; w++) {
            double norm = 0, step = 1e-5;
            for (int64_t i = 0; i < in[w]->elements; i += 1 + in[w]->elements / 23) {
                double sum[2] = { 0 }, *at = (double *)in[w]->t.data + i, was = *at;
                for (int side = 0; side < 2; side++) {
                    *at = was + (side ? -step : step);
                    CHECK_OK(strata_attention_forward(a, &y.q.t, &y.k.t, &y.v.t, &y.o.t, NULL, NULL));
                    for (int64_t n = 0; n < y.o.elements; n++) sum[side] += get(&y.o.t, n) * x.dout[n];
                }
                *at = was;
                double want = (sum[0] - sum[1]) / (2 * step), got = get(&grad[w]->t, i);
                if (fabs(want - got) > 1e-6 * (1 + fabs(want)))
                    FAIL("%s: gradient %d at %lld is %g, differences give %g", s->spec, w, (long long)i, got, want);
                norm += got * got;
            }
            if (s->spec[13] != '0' && !strstr(s->spec, "window=0")) CHECK(norm > 1e-6); /* one key: dq = 0 */
        }
        tensors_free(&y);
        strata_attention_destroy(a);
        strata_context_destroy(ctx);
        inputs_free(&x);
    }
}

static int allocations;
static void *counting_alloc(void *user, size_t bytes)
{
    (void)user;
    allocations++;
    void *p = NULL;
    return posix_memalign(&p, 64, bytes) == 0 ? p : NULL;
}
static void counting_free(void *user, void *p)
{
    (void)user;
    free(p);
}

static void calls_never_allocate_and_work_is_enough(void)
{
    strata_allocator alloc = { counting_alloc, counting_free, NULL };
    strata_context_config config = { STRATA_INIT(strata_context_config), .allocator = &alloc };
    for (int i = 0; i < KINDS; i++)
        for (int c = 0; c < SCORINGS; c++) {
            const scoring *s = &scorings[c];
            char text[64];
            sizes z = { 1, 2, 2, 70, 70, 0, 0 };
            if (!runs(&kinds[i])) continue;
            inputs x = draw(s, &z, 80);
            strata_context *ctx = NULL;
            snprintf(text, sizeof text, "isa=%s math=%s threads=3", kinds[i].isa, kinds[i].math);
            CHECK_OK(strata_context_create(text, &config, &ctx));
            strata_attention *a = plan(ctx, s, &z, kinds[i].dtype);
            strata_attention_info info = { .size = STRATA_INIT(strata_attention_info) };
            CHECK_OK(strata_attention_query(a, &info));
            CHECK_INT(info.lse_parts, s->parts);
            size_t bytes = (info.work + 63) / 64 * 64;
            unsigned char *work = aligned_alloc(64, bytes + 64);
            memset(work, 0xff, bytes + 64); /* NaN, and a sentinel after the end */
            tensors y = tensors_make(s, &z, kinds[i].dtype, PLAIN, &x);
            int before = allocations;
            run(a, &y, work);
            CHECK_INT(allocations, before);
            for (int k = 0; k < 64; k++) CHECK(work[info.work + (size_t)k] == 0xff);
            for (int64_t k = 0; k < y.dq.elements; k++) CHECK(isfinite(get(&y.dq.t, k)));
            free(work);
            tensors_free(&y);
            strata_attention_destroy(a);
            strata_context_destroy(ctx);
            inputs_free(&x);
        }
}

static void bits_do_not_depend_on_threads(void)
{
    for (int i = 1; i < KINDS; i++)
        for (int c = 0; c < SCORINGS; c++) {
            const scoring *s = &scorings[c];
            sizes z = { 2, c % 2 ? 4 : 2, c % 2 ? 4 : 1, 131, 131, 0, 0 }; /* 8 pairs: one pass backward; 2: two */
            if (!runs(&kinds[i])) continue;
            inputs x = draw(s, &z, 90);
            tensors y[4];
            for (int n = 0; n < 4; n++) {
                strata_context *ctx = context_of(&kinds[i], n == 3 ? 2 : n + 1, 1);
                strata_attention *a = plan(ctx, s, &z, kinds[i].dtype);
                y[n] = tensors_make(s, &z, kinds[i].dtype, PLAIN, &x);
                run(a, &y[n], NULL);
                strata_attention_destroy(a);
                strata_context_destroy(ctx);
                CHECK(same_bits(&y[0].o, &y[n].o) && same_bits(&y[0].lse, &y[n].lse));
                CHECK(same_bits(&y[0].dq, &y[n].dq) && same_bits(&y[0].dk, &y[n].dk) && same_bits(&y[0].dv, &y[n].dv));
            }
            for (int n = 0; n < 4; n++) tensors_free(&y[n]);
            inputs_free(&x);
        }
}

static void the_past_does_not_see_the_future(void)
{
    for (int i = 0; i < KINDS; i++)
        for (int c = 0; c < SCORINGS; c++) {
            const scoring *s = &scorings[c];
            sizes z = { 1, 2, 2, 100, 100, 0, 0 };
            if (!s->causal || !runs(&kinds[i])) continue;
            inputs x = draw(s, &z, 100);
            tensors y[2];
            strata_context *ctx = context_of(&kinds[i], 1, 0);
            strata_attention *a = plan(ctx, s, &z, kinds[i].dtype);
            for (int n = 0; n < 2; n++) {
                y[n] = tensors_make(s, &z, kinds[i].dtype, PLAIN, &x);
                run(a, &y[n], NULL);
                double *all[] = { x.q, x.k, x.v };
                int width[] = { s->d_qk, s->d_qk, s->d_v };
                for (int w = 0; w < 3; w++)
                    for (int64_t k = 0; k < (int64_t)200 * width[w]; k++)
                        if (k / width[w] % 100 > 70) all[w][k] = -3 * all[w][k] + 1;
            }
            for (int64_t k = 0; k < (int64_t)200 * s->d_v; k++) {
                int past = k / s->d_v % 100 <= 70;
                if (past) CHECK(get(&y[0].o.t, k) == get(&y[1].o.t, k));
            }
            for (int n = 0; n < 2; n++) tensors_free(&y[n]);
            strata_attention_destroy(a);
            strata_context_destroy(ctx);
            inputs_free(&x);
        }
}

static void smaller_calls_than_planned(void)
{
    const scoring *s = &scorings[10];
    sizes big = { 3, 4, 2, 200, 220, 0, 0 }, z = { 2, 4, 2, 33, 47, 0, 0 };
    inputs x = draw(s, &z, 110);
    results r = oracle(s, &z, x.q, x.k, x.v, x.dout);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        strata_context *ctx = context(isas[i], 2, 0);
        strata_attention *a = plan(ctx, s, &big, STRATA_F64);
        tensors y = tensors_make(s, &z, STRATA_F64, TIME_MAJOR, &x);
        run(a, &y, NULL);
        compare(s->spec, "o", &y.o, r.o, r.so, 64);
        compare(s->spec, "dq", &y.dq, r.dq, r.sdq, 64);
        compare(s->spec, "dk", &y.dk, r.dk, r.sdk, 64);
        compare(s->spec, "dv", &y.dv, r.dv, r.sdv, 64);
        tensors_free(&y);
        strata_attention_destroy(a);
        strata_context_destroy(ctx);
    }
    results_free(&r);
    inputs_free(&x);
}

/* alibi is the caller's to switch on, so it goes through the plan. */
static void alibi_bias(void)
{
    static const int which[] = { 0, 1, 10, 16, 17 };
    for (size_t c = 0; c < sizeof which / sizeof *which; c++)
        for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
            for (int dtype = STRATA_F32; dtype <= STRATA_F64; dtype++) {
                static const sti_key table[] = {
#include "kernel/attention/keys.def"
                };
                scoring s = scorings[which[c]];
                sizes z = { 1, 4, 2, 77, 77, 0, 0 };
                s.alibi = 1;
                inputs x = draw(&s, &z, 120);
                results r = oracle(&s, &z, x.q, x.k, x.v, x.dout);
                strata_context *ctx = context(isas[i], 1, 0);
                sti_spec *tree = NULL;
                sti_values *v = NULL;
                sti_attention_shape shape;
                sti_attention_plan *p = NULL;
                CHECK_OK(sti_spec_parse_keys(s.spec, "attention", &tree));
                CHECK_OK(sti_values_bind(tree, "attention", (sti_keys)STI_KEYS(table), &v));
                CHECK_OK(sti_attention_resolve(v, &(sti_attention_sizes){ 4, 2, s.d_qk, s.d_v, 77 }, &shape));
                shape.alibi = 1;
                CHECK_OK(sti_attention_plan_create(ctx, &shape, dtype, 1, 77, 77, 1, &p));
                tensors y = tensors_make(&s, &z, dtype, PLAIN, &x);
#define ARRAY(a) { (a).t.data, (a).t.stride[0], (a).t.stride[1], (a).t.stride[2] }
                sti_attention_call call = { .batch = 1,
                                            .q_time = 77,
                                            .k_time = 77,
                                            .q = ARRAY(y.q),
                                            .k = ARRAY(y.k),
                                            .v = ARRAY(y.v),
                                            .o = ARRAY(y.o),
                                            .dout = ARRAY(y.dout),
                                            .dq = ARRAY(y.dq),
                                            .dk = ARRAY(y.dk),
                                            .dv = ARRAY(y.dv),
                                            .lse = { y.lse.t.data, 4 * 77, 77, 1 },
                                            .lse_part = 4 * 77 };
                call.work = strata_alloc(ctx, sti_attention_work(p));
                sti_attention_forward(p, &call);
                sti_attention_backward(p, &call);
                compare(s.spec, "o", &y.o, r.o, r.so, 100);
                compare(s.spec, "lse", &y.lse, r.lse, r.slse, 100);
                compare(s.spec, "dq", &y.dq, r.dq, r.sdq, 100);
                compare(s.spec, "dk", &y.dk, r.dk, r.sdk, 200);
                compare(s.spec, "dv", &y.dv, r.dv, r.sdv, 200);
                if (s.causal) { /* and the last row, decoded */
                    size_t bytes = 0;
                    CHECK_OK(sti_attention_cache_size(p, 77, &bytes, NULL));
                    void *cache = strata_alloc(ctx, bytes);
                    CHECK_OK(sti_attention_cache_init(p, 77, cache));
                    CHECK_OK(sti_attention_cache_append(p, cache, 0, 76, &call.k, &call.v));
                    sti_attention_array last[] = { call.q, call.k, call.v, call.o };
                    array *from[] = { &y.q, &y.k, &y.v, &y.o };
                    for (int n = 0; n < 4; n++)
                        last[n].data =
                            (char *)last[n].data + (size_t)(76 * from[n]->t.stride[2]) * strata_dtype_size(dtype);
                    CHECK_OK(sti_attention_step(p, cache, bytes, (const int64_t[]){ 76 }, 1, &last[0], &last[1],
                                                &last[2], &last[3], call.work));
                    compare(s.spec, "o", &y.o, r.o, r.so, 100);
                    strata_free(ctx, cache);
                }
                strata_free(ctx, call.work);
                tensors_free(&y);
                sti_attention_plan_destroy(p);
                sti_values_free(v);
                sti_spec_free(tree);
                strata_context_destroy(ctx);
                results_free(&r);
                inputs_free(&x);
            }
}

static void flops_count_the_pairs_of_the_mask(void)
{
    for (int c = 0; c < SCORINGS; c++) {
        const scoring *s = &scorings[c];
        sizes z = { 2, 4, 2, 50, 60, 20, 3 };
        strata_context *ctx = context("c", 1, 0);
        strata_attention *a = plan(ctx, s, &z, STRATA_F32);
        strata_attention_info info = { .size = STRATA_INIT(strata_attention_info) };
        double fwd = 0, bwd = 0, pairs = 0;
        CHECK_OK(strata_attention_query(a, &info));
        for (int part = 0; part < s->parts; part++)
            for (int64_t i = z.q_pos; i < z.q_pos + z.tq; i++)
                for (int64_t j = z.k_pos; j < z.k_pos + z.tk; j++)
                    for (int l = 0; l < s->part[part].n; l++)
                        if (in_level(s, &s->part[part], l, i, j, z.q_pos + z.tq)) {
                            int v = s->vrank[0] ? s->vrank[l] : l ? 0 : s->d_v, r = s->part[part].rank[l];
                            fwd += 2 * 8 * (r + v);
                            bwd += 2 * 8 * (3 * r + 2 * v);
                            pairs += part == 0 && l == 0;
                        }
        CHECK(info.flops_fwd == fwd && info.flops_bwd == bwd && info.pairs == pairs);
        strata_attention_destroy(a);
        strata_context_destroy(ctx);
    }
    strata_context *ctx = context("c", 1, 0);
    sizes z = { 1, 2, 2, 1000, 1000, 0, 0 };
    strata_attention *a = plan(ctx, &scorings[0], &z, STRATA_F32);
    strata_attention_info info = { .size = STRATA_INIT(strata_attention_info) };
    CHECK_OK(strata_attention_query(a, &info));
    CHECK(info.flops_fwd == 2.0 * 2 * (1000.0 * 1001 / 2) * (5 + 3)); /* T (T + 1) / 2 */
    strata_attention_destroy(a);
    strata_context_destroy(ctx);
}

static void memory_grows_with_time_only(void)
{
    strata_context *ctx = context("native", 2, 0);
    sizes z = { 1, 8, 8, 65536, 65536, 0, 0 };
    scoring s = { "score=mlr ranks=16,16,16,16 gain=count", 64, 64, 1, 1, { { 0 } }, { 0 }, 0 };
    strata_attention *a = plan(ctx, &s, &z, STRATA_F32);
    strata_attention_info info = { .size = STRATA_INIT(strata_attention_info) };
    CHECK_OK(strata_attention_query(a, &info));
    CHECK(info.work < (size_t)8 << 20); /* a T x T matrix has 16 GiB */
    strata_attention_destroy(a);
    strata_context_destroy(ctx);
}

static void two_softmaxes_sum_to_two_and_one_to_one(void)
{
    float q[40 * 4], one[40 * 2], o[40 * 2];
    for (int i = 0; i < 160; i++) q[i] = (float)sti_normal(1, 2, (uint64_t)i);
    for (int i = 0; i < 80; i++) one[i] = 1;
    for (int two = 0; two < 2; two++) {
        strata_attention_problem p = {
            STRATA_INIT(strata_attention_problem), .batch = 1, .heads = 1, .q_time = 40, .d_qk = 4, .d_v = 2
        };
        strata_context *ctx = context("native", 1, 0);
        strata_attention *a = NULL;
        CHECK_OK(strata_attention_create(ctx, two ? "score=gswa window=3" : "score=gswa window=3 form=one", &p, &a));
        strata_tensor tq = strata_view4(q, STRATA_F32, 1, 1, 40, 4), tv = strata_view4(one, STRATA_F32, 1, 1, 40, 2);
        strata_tensor to = strata_view4(o, STRATA_F32, 1, 1, 40, 2);
        CHECK_OK(strata_attention_forward(a, &tq, &tq, &tv, &to, NULL, NULL));
        for (int i = 0; i < 80; i++) CHECK(fabs((double)o[i] - (two ? 2 : 1)) < 1e-5);
        strata_attention_destroy(a);
        strata_context_destroy(ctx);
    }
}

static void bad_specs_are_refused_with_a_reason(void)
{
    static const struct {
        const char *spec, *text;
        strata_status status;
    } bad[] = {
        { "score=mlr", "ranks", STRATA_E_SPEC },
        { "score=mlr ranks=4,4 window=3", "no key window", STRATA_E_SPEC },
        { "score=window", "window=w", STRATA_E_SPEC },
        { "score=standard ranks=4,4", "no key ranks", STRATA_E_SPEC },
        { "score=mlr ranks=4,4 blocks=8,16", "16", STRATA_E_SPEC },
        { "score=mlr ranks=4,2,2 blocks=64,24,5", "divide", STRATA_E_SPEC },
        { "score=mlr ranks=4,4 blocks=8,16 depth=distance", "larger", STRATA_E_SPEC },
        { "score=mlr ranks=4,4 levels=3", "levels=3", STRATA_E_SPEC },
        { "score=mlr ranks=4,4 vranks=8", "1 entries for 2", STRATA_E_SPEC },
        { "score=mlr ranks=4,5", "sum to 9 but d_qk is 8", STRATA_E_SHAPE },
        { "score=mlr ranks=4,4 vranks=4,3", "sum to 7 but d_v is 8", STRATA_E_SHAPE },
        { "score=mlr levels=3", "divide", STRATA_E_SHAPE },
        { "score=mlr ranks=0,8", "ranks", STRATA_E_SPEC },
        { "score=gswa ranks=4,2 window=3", "sum to 6 but d_qk is 8", STRATA_E_SHAPE },
        { "score=gswa ranks=4,2,2 window=3", "3", STRATA_E_SPEC },
        { "score=bilinear-mlr", "ranks", STRATA_E_SPEC },
        { "score=bilinear-mlr ranks=4,4", "12 but d_qk is 8", STRATA_E_SHAPE },
        { "scale=big", "scale=big", STRATA_E_SPEC },
        { "scale=nan", "scale=nan", STRATA_E_SPEC },
        { "socre=mlr", "score", STRATA_E_SPEC },
        { "score=mrl", "mrl", STRATA_E_SPEC },
        { "heads=4", "heads", STRATA_E_SPEC },
        { "pos=alibi", "mixer", STRATA_E_SPEC },
        { "causal=2", "causal", STRATA_E_SPEC },
        { "window=3", "no key window", STRATA_E_SPEC },
        { "score=window window=-1", "window", STRATA_E_SPEC },
    };
    strata_attention_problem p = { STRATA_INIT(strata_attention_problem), .batch = 1, .heads = 2, .q_time = 40,
                                   .d_qk = 8 };
    strata_context *ctx = context("c", 1, 0);
    strata_attention *a = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (bad[i].status == STRATA_E_SPEC)
            CHECK_STATUS(strata_attention_check(bad[i].spec), STRATA_E_SPEC);
        else
            CHECK_OK(strata_attention_check(bad[i].spec));
        a = (void *)&p;
        CHECK_STATUS(strata_attention_create(ctx, bad[i].spec, &p, &a), bad[i].status);
        CHECK_ERROR_TEXT(bad[i].text);
        CHECK(!a);
    }
    strata_attention_problem wrong = p;
    wrong.kv_heads = 3;
    CHECK_STATUS(strata_attention_create(ctx, "score=standard", &wrong, &a), STRATA_E_SHAPE);
    wrong = p;
    wrong.dtype = STRATA_I32;
    CHECK_STATUS(strata_attention_create(ctx, "score=standard", &wrong, &a), STRATA_E_DTYPE);
    wrong = p;
    wrong.cu_seqlens = &p.batch;
    CHECK_STATUS(strata_attention_create(ctx, "score=standard", &wrong, &a), STRATA_E_UNSUPPORTED);
    wrong = p;
    wrong.batch = INT64_MAX / 4;
    CHECK_STATUS(strata_attention_create(ctx, "score=standard", &wrong, &a), STRATA_E_SHAPE);

    CHECK_OK(strata_attention_create(ctx, "", &p, &a));
    float x[640] = { 0 };
    strata_tensor t = strata_view4(x, STRATA_F32, 1, 2, 40, 8), u = t;
    CHECK_STATUS(strata_attention_forward(a, &t, &t, NULL, &t, NULL, NULL), STRATA_E_INVALID);
    u.shape[1] = 1;
    CHECK_STATUS(strata_attention_forward(a, &t, &u, &t, &t, NULL, NULL), STRATA_E_SHAPE);
    u = t;
    u.dtype = STRATA_F64;
    CHECK_STATUS(strata_attention_forward(a, &t, &t, &u, &t, NULL, NULL), STRATA_E_DTYPE);
    u = t;
    u.stride[3] = 2;
    CHECK_STATUS(strata_attention_forward(a, &t, &t, &u, &t, NULL, NULL), STRATA_E_SHAPE);
    u = t;
    u.shape[2] = 41;
    CHECK_STATUS(strata_attention_forward(a, &u, &t, &t, &t, NULL, NULL), STRATA_E_SHAPE);
    CHECK_STATUS(strata_attention_backward(a, &t, &t, &t, &t, &t, &t, &t, &t, &t, NULL), STRATA_E_INVALID);
    CHECK_ERROR_TEXT("train");
    strata_attention_destroy(a);
    strata_attention_destroy(NULL);
    strata_context_destroy(ctx);
}

static void canonical_keys_make_the_same_plan(void)
{
    for (int c = 0; c < SCORINGS; c++) {
        const scoring *s = &scorings[c];
        sizes z = { 1, 2, 2, 40, 40, 0, 0 };
        strata_context *ctx = context("c", 1, 0);
        strata_attention *a = plan(ctx, s, &z, STRATA_F32);
        scoring again = *s;
        again.spec = strata_attention_spec(a);
        strata_attention *b = plan(ctx, &again, &z, STRATA_F32);
        CHECK_STR(strata_attention_spec(b), strata_attention_spec(a));
        strata_attention_destroy(a);
        strata_attention_destroy(b);
        strata_context_destroy(ctx);
    }
    strata_context *ctx = context("c", 1, 0);
    sizes z = { 1, 1, 1, 37, 37, 0, 0 };
    scoring s = { "score=mlr levels=4", 8, 8, 1, 1, { { 0 } }, { 0 }, 0 };
    strata_attention *a = plan(ctx, &s, &z, STRATA_F32);
    CHECK_STR(strata_attention_spec(a),
              "score=mlr causal=1 scale=sp ranks=2,2,2,2 blocks=64,32,16,8 levels=4 gain=none "
              "depth=block");
    strata_attention_destroy(a);
    strata_context_destroy(ctx);
}

static void count_verdicts(void *user, const char *kernel, const char *variant, int32_t ok, const char *detail)
{
    CHECK_STR(kernel, "attention");
    CHECK(variant && detail && ok);
    ++*(int *)user;
}

static void self_test_passes(void)
{
    int n = 0;
    strata_context *ctx = context("native", 1, 0);
    CHECK_OK(sti_attention_selftest(ctx, count_verdicts, &n));
    CHECK_INT(n, 1 + available("avx2") + available("avx512") + available("avx512bf16") + available("amx"));
    strata_context_destroy(ctx);
}

/* Scores so far apart, up to 2^30 in units of the exponential, that a row's output is the value of its largest: they
 * rise along the keys, or fall, or rise to a few thousand. */
static void large_scores_pick_one_value(void)
{
    enum { N = 230, D = 4 };
    static const double slope[] = { 4e6, -4e6, 3e3, -3e3 };
    const scoring s = { "score=standard scale=1", D, D, 1, 1, { { 0 } }, { 0 }, 0 };
    const sizes z = { 1, 1, 1, N, N, 0, 0 };
    for (size_t c = 0; c < sizeof slope / sizeof *slope; c++) {
        inputs x = draw(&s, &z, 140 + c);
        for (int i = 0; i < N * D; i++) {
            x.q[i] = i % D ? 0 : slope[c] / 64;
            x.k[i] = i % D ? 0 : 64 * (i / D + 1);
        }
        for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
            strata_context *ctx = context(isas[i], 1, 0);
            strata_attention *a = plan(ctx, &s, &z, STRATA_F32);
            tensors y = tensors_make(&s, &z, STRATA_F32, PLAIN, &x);
            run(a, &y, NULL);
            for (int t = 0; t < N; t++) {
                int best = slope[c] > 0 ? t : 0;
                CHECK(fabs(get(&y.lse.t, t) - slope[c] * (best + 1)) <= 1e-6 * fabs(slope[c]) * (best + 1));
                for (int d = 0; d < D; d++)
                    CHECK(fabs(get(&y.o.t, t * D + d) - x.v[best * D + d]) <= 1e-6 * fabs(x.v[best * D + d]));
            }
            tensors_free(&y);
            strata_attention_destroy(a);
            strata_context_destroy(ctx);
        }
        inputs_free(&x);
    }
}

/* ---- the exponential -------------------------------------------------------------------------------------------- */

#include "core/real.h"
#define VB 16
#define REAL float
#define INT int32_t
#define UINT uint32_t
#define SFX _test
#define STI_VECTOR_F32
#include "backend/cpu/vector.inc"

static void exponential_within_three_ulp(void)
{
    double most = 0;
    for (int i = 0; i < 400000; i++) {
        float x = -64.0f * (float)i / 400000.0f * (i % 3 ? 1.0f : 0.01f);
        double y = (double)expbase_test(splat_test(x))[0], want = exp2((double)x);
        most = fmax(most, fabs(y - want) / (double)(nextafterf((float)want, 2) - (float)want));
    }
    CHECK(most > 0 && most <= 3);
    CHECK(expbase_test(splat_test(0))[0] == 1.0f);
    CHECK(expbase_test(splat_test(-64.5f))[1] == 0.0f);
    CHECK(expbase_test(splat_test(-INFINITY))[2] == 0.0f);
    CHECK(expbase_test(splat_test(-FLT_MAX))[3] == 0.0f);
    CHECK(larger_test(splat_test(1), splat_test(2))[0] == 2.0f);
    CHECK(choose_test(splat_test(1) > splat_test(2), splat_test(3), splat_test(4))[0] == 4.0f);
}

TESTS(T(every_variant_is_there), T(equals_oracle_at_every_length), T(equals_oracle_at_length_300),
      T(equals_oracle_with_offsets_and_groups), T(equals_oracle_with_odd_columns), T(step_equals_forward),
      T(long_caches_are_split), T(sequences_step_at_their_own_positions), T(bad_caches_are_refused),
      T(nothing_is_read_past_an_array), T(gradients_are_those_of_forward), T(calls_never_allocate_and_work_is_enough),
      T(bits_do_not_depend_on_threads), T(the_past_does_not_see_the_future), T(smaller_calls_than_planned),
      T(alibi_bias), T(flops_count_the_pairs_of_the_mask), T(memory_grows_with_time_only),
      T(two_softmaxes_sum_to_two_and_one_to_one), T(bad_specs_are_refused_with_a_reason),
      T(canonical_keys_make_the_same_plan), T(large_scores_pick_one_value), T(self_test_passes),
      T(exponential_within_three_ulp))
