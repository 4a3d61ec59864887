/* Attention on a device against the CPU's `ref` in f64, on fresh numbers that every type under test holds. */
#include <float.h>

#include "core/device.h"
#include "core/philox.h"
#include "kernel/attention/attention.h"
#include "support/test.h"

typedef struct problem {
    const char *spec;
    int d_qk, d_v, causal;
} problem;

typedef struct sizes {
    int batch, heads, kv_heads, tq, tk;
    int64_t q_pos, k_pos;
} sizes;

static const problem problems[] = {
    { "score=standard", 5, 3, 1 },
    { "score=standard causal=0 scale=mup", 16, 20, 0 },
    { "score=standard", 64, 64, 1 },
    { "score=standard causal=0", 64, 64, 0 },
    { "score=standard", 128, 128, 1 },
    { "score=standard", 40, 200, 1 },
    { "score=standard causal=0", 33, 96, 0 },
    { "score=window window=0", 7, 7, 1 },
    { "score=window window=70", 64, 64, 1 },
    { "score=window window=21 causal=0", 24, 12, 0 },
    { "score=mlr ranks=4,2,1 blocks=64,16,4 gain=levels", 7, 9, 1 },
    { "score=mlr ranks=2,4,1 blocks=128,32,2 gain=count causal=0 scale=2", 7, 8, 0 },
    { "score=mlr levels=4 gain=count", 8, 6, 1 },
    { "score=mlr ranks=32,16,16", 64, 64, 1 },
    { "score=mlr ranks=32,8,6,4,4,4,4,2 gain=count", 64, 64, 1 },
    { "score=mlr ranks=32,16,16 vranks=32,16,16", 64, 64, 1 },
    { "score=mlr ranks=64,16,16,16,16 vranks=32,32,32,16,16", 128, 128, 1 },
    { "score=mlr ranks=3,3 blocks=33,11 vranks=5,2", 6, 7, 1 },
    { "score=mlr ranks=2,3,2 blocks=96,24,8 vranks=1,4,3 causal=0 gain=levels", 7, 8, 0 },
    { "score=mlr ranks=4,2,2 blocks=100,33,7 depth=distance gain=count", 8, 4, 1 },
    { "score=mlr ranks=32,32,64 blocks=100,33,7 depth=distance vranks=16,16,32", 128, 64, 1 },
    { "score=mlr ranks=4,2,2 blocks=100,33,7 depth=distance causal=0 vranks=2,1,3", 8, 6, 0 },
    /* columns that Hopper's kernels fill up with zeros */
    { "score=standard", 96, 96, 1 },
    { "score=standard causal=0", 16, 120, 0 },
    { "score=window window=70", 128, 64, 1 },
    { "score=mlr ranks=24,8,8", 40, 72, 1 },
    { "score=mlr ranks=4,8,4 vranks=8,3,13 gain=count", 16, 24, 1 },
    { "score=mlr ranks=32,20,28 vranks=40,24,32", 80, 96, 1 },
    { "score=mlr ranks=32,48,8 blocks=100,33,7 depth=distance vranks=16,16,8", 88, 40, 1 },
    { "score=gswa ranks=3,4 window=5", 7, 6, 1 },
    { "score=gswa window=20 form=two causal=0 scale=mup", 64, 64, 0 },
    { "score=gswa ranks=32,32 window=40", 64, 64, 1 },
    { "score=gswa ranks=32,32 window=9 form=one", 64, 64, 1 },
    { "score=bilinear-mlr ranks=20,16,8,8,8,4 gain=levels", 404, 64, 1 },
    { "score=bilinear-btt", 192, 12, 1 },
};
enum { PROBLEMS = sizeof problems / sizeof *problems };

/* ---- numbers and arrays -------------------------------------------------------------------------------------------
 */

static double to_bf16(double x) /* 8 significant bits: what every type under test holds */
{
    int e;
    const double m = frexp(x, &e);
    return ldexp(rint(m * 256), e - 8);
}

static double *normal(int64_t n, uint64_t stream, double std)
{
    double *x = malloc((size_t)n * sizeof *x);
    CHECK(x);
    for (int64_t i = 0; i < n; i++) x[i] = to_bf16(std * sti_normal(11, stream, (uint64_t)i));
    return x;
}

static void put(void *to, int32_t dtype, int64_t i, double x)
{
    union {
        float f;
        uint32_t u;
    } y = { (float)x };
    if (dtype == STRATA_F64)
        ((double *)to)[i] = x;
    else if (dtype == STRATA_F32)
        ((float *)to)[i] = y.f;
    else
        ((uint16_t *)to)[i] = isnan(x) ? 0x7fc0 : (uint16_t)(y.u >> 16);
}

static double get(const void *from, int32_t dtype, int64_t i)
{
    if (dtype == STRATA_F64) return ((const double *)from)[i];
    if (dtype == STRATA_F32) return (double)((const float *)from)[i];
    union {
        uint32_t u;
        float f;
    } y = { (uint32_t)((const uint16_t *)from)[i] << 16 };
    return (double)y.f;
}

/* (b, h, t, d) contiguous on the host in f64, or on a device in some type as (b, t, h, d) with spare elements. */
typedef struct array {
    const strata_context *ctx;
    strata_tensor t;
    void *base;
    int64_t elements;
} array;

static array make(const strata_context *ctx, int32_t dtype, int spare, int64_t b, int64_t h, int64_t t, int64_t d,
                  const double *from)
{
    array a = { .ctx = ctx, .t = strata_view4(NULL, dtype, b, h, t, d) };
    if (spare >= 0) {
        a.t.stride[1] = d + spare;
        a.t.stride[2] = h * (d + spare);
        a.t.stride[0] = t * h * (d + spare);
    }
    a.t.device = ctx->device;
    a.elements = b * a.t.stride[0];
    const size_t bytes = (size_t)a.elements * strata_dtype_size(dtype);
    void *host = malloc(bytes);
    CHECK(host);
    for (int64_t i = 0; i < a.elements; i++) put(host, dtype, i, NAN);
    for (int64_t i = 0; from && i < b * h * t * d; i++) {
        const int64_t x = i % d, y = i / d % t, w = i / d / t % h, u = i / d / t / h;
        put(host, dtype, u * a.t.stride[0] + w * a.t.stride[1] + y * a.t.stride[2] + x, from[i]);
    }
    CHECK_OK(sti_array_calloc(ctx, a.elements, strata_dtype_size(dtype), &a.base));
    CHECK_OK(sti_to_device(ctx, a.base, host, bytes));
    free(host);
    a.t.data = a.base;
    return a;
}

static double *fetch(const array *a) /* (b, h, t, d); the spare elements are still NaN */
{
    const int64_t n = strata_tensor_count(&a->t), d = a->t.shape[3], t = a->t.shape[2], h = a->t.shape[1];
    const size_t bytes = (size_t)a->elements * strata_dtype_size(a->t.dtype);
    void *host = malloc(bytes);
    double *x = malloc((size_t)n * sizeof *x);
    CHECK(host && x);
    CHECK_OK(sti_to_host(a->ctx, host, a->base, bytes));
    for (int64_t i = 0; i < n; i++)
        x[i] =
            get(host, a->t.dtype,
                i / d / t / h * a->t.stride[0] + i / d / t % h * a->t.stride[1] + i / d % t * a->t.stride[2] + i % d);
    int64_t written = 0;
    for (int64_t i = 0; i < a->elements; i++) written += !isnan(get(host, a->t.dtype, i));
    CHECK(written <= n);
    free(host);
    return x;
}

static void release(array *a)
{
    sti_array_free(a->ctx, a->base);
}

/* Rows of d numbers: |x - want| <= unit (|want row| + |want| / sqrt(rows)) + each sqrt(d), norms; unit = 8 eps sqrt(k),
 * and for bf16 8 * 2^-9 in place of eps sqrt(k): roundings of probabilities and results are independent of each other.
 * Gradients have twice that, since delta is made from a rounded o. `each` is what any number may be off besides. */
static int64_t bad_rows(const double *x, const double *want, int64_t rows, int64_t d, double unit, double each,
                        double *worst)
{
    double all = 0;
    int64_t bad = 0;
    *worst = 0;
    for (int64_t i = 0; i < rows * d; i++) all += isfinite(want[i]) ? want[i] * want[i] : 0;
    if (all <= 0) all = (double)(rows * d); /* terms of order one that cancel: one visible key has no score gradient */
    for (int64_t r = 0; r < rows; r++) {
        double error = 0, norm = 0;
        for (int64_t i = r * d; i < (r + 1) * d; i++) {
            if (isinf(want[i]) && x[i] == want[i]) continue;
            error += (x[i] - want[i]) * (x[i] - want[i]);
            norm += want[i] * want[i];
        }
        const double bound = unit * (sqrt(norm) + sqrt(all / (double)rows)) + each * sqrt((double)d) + DBL_MIN;
        if (!(sqrt(error) <= bound)) bad++;
        *worst = fmax(*worst, sqrt(error) / bound);
    }
    return bad;
}

static double worst_of[3]; /* by type: f32, f64, bf16 */

static void compare(const char *what, const char *name, const array *a, const double *want, int64_t k, double each)
{
    const int64_t n = strata_tensor_count(&a->t), d = a->t.shape[3];
    double *x = fetch(a), worst,
           unit = 8 * (a->t.dtype == STRATA_F64 ? DBL_EPSILON : (double)FLT_EPSILON) * sqrt((double)k);
    if (a->t.dtype == STRATA_BF16) unit = (name[0] == 'd' ? 16.0 : 8.0) / 512;
    const int64_t bad = bad_rows(x, want, n / d, d, unit, each, &worst);
    if (bad)
        FAIL("%s: %lld of %lld rows of %s are off, worst %g bounds", what, (long long)bad, (long long)(n / d), name,
             worst);
    if (worst > worst_of[a->t.dtype - 1]) worst_of[a->t.dtype - 1] = worst;
    double norm = 0;
    for (int64_t i = 0; i < n; i++) norm += isfinite(want[i]) ? want[i] * want[i] : 0;
    for (int64_t i = n / 2; i < n; i++) { /* a planted error of 100 bounds is seen */
        if (!isfinite(want[i])) continue;
        double row = 0;
        for (int64_t j = i / d * d; j < i / d * d + d; j++) row += isfinite(want[j]) ? want[j] * want[j] : 0;
        x[i] += 100 * unit * (sqrt(row) + sqrt((norm > 0 ? norm : (double)n) * (double)d / (double)n)) +
                100 * each * sqrt((double)d) + 200 * DBL_MIN;
        if (bad_rows(x, want, n / d, d, unit, each, &worst) == 0)
            FAIL("%s: a planted error in %s was not seen", what, name);
        break;
    }
    free(x);
}

/* ---- contexts ------------------------------------------------------------------------------------------------------
 */

static strata_context *cpu(void)
{
    strata_context *ctx = NULL;
    CHECK_OK(strata_context_create("isa=ref threads=1", NULL, &ctx));
    return ctx;
}

static strata_context *device(void)
{
    strata_context *ctx = NULL;
    const strata_status s = strata_context_create("device=cuda threads=1", NULL, &ctx);
    if (s == STRATA_E_DEVICE || s == STRATA_E_UNSUPPORTED || s == STRATA_E_SPEC) SKIP("cuda: %s", strata_last_error());
    CHECK_OK(s);
    return ctx;
}

static strata_attention *plan(const strata_context *ctx, const problem *p, const sizes *z, int32_t dtype,
                              int64_t context)
{
    strata_attention_problem w = { STRATA_INIT(strata_attention_problem),
                                   .batch = z->batch,
                                   .heads = z->heads,
                                   .kv_heads = z->kv_heads,
                                   .q_time = z->tq,
                                   .k_time = z->tk,
                                   .d_qk = p->d_qk,
                                   .d_v = p->d_v,
                                   .q_pos = z->q_pos,
                                   .k_pos = z->k_pos,
                                   .context = context,
                                   .dtype = dtype,
                                   .train = 1 };
    strata_attention *a = NULL;
    CHECK_OK(strata_attention_create(ctx, p->spec, &w, &a));
    return a;
}

static int parts_of(const strata_attention *a)
{
    strata_attention_info info = { .size = STRATA_INIT(strata_attention_info) };
    CHECK_OK(strata_attention_query(a, &info));
    return info.lse_parts;
}

enum { Q, K, V, DO, O, LSE, DQ, DK, DV, ARRAYS };
static const char *const names[] = { "q", "k", "v", "do", "o", "lse", "dq", "dk", "dv" };

/* How far lse of sm90 may be off besides: columns of q whose scale, 1 / rank, is no power of two times level 1's are
 * rounded once more, a score is off by 2^-9 of each of its terms there (scale q k, q and k of deviation 1), and lse by
 * a mean of such errors. */
static double rounding_of_q(const char *spec)
{
    const char *at = strstr(spec, " ranks=");
    double first = 0, squares = 0;
    for (at = at ? at + 7 : ""; *at;) {
        char *end;
        int exponent;
        const double rank = (double)strtol(at, &end, 10);
        if (end == at) break;
        if (first <= 0) first = rank;
        if (frexp(first / rank, &exponent) > 0.5) squares += 1 / rank;
        at = *end == ',' ? end + 1 : end;
    }
    return 8.0 / 512 * sqrt(squares);
}

/* Forward and backward; the arrays of `x` stay for the caller. */
static void run(const strata_context *ctx, const strata_attention *a, const problem *p, const sizes *z, int32_t dtype,
                int spare, double *const from[4], array x[ARRAYS])
{
    const int parts = parts_of(a), heads[] = { z->heads, z->kv_heads, z->kv_heads, z->heads, z->heads };
    const int time[] = { z->tq, z->tk, z->tk, z->tq, z->tq }, dim[] = { p->d_qk, p->d_qk, p->d_v, p->d_v, p->d_v };
    for (int i = Q; i <= O; i++)
        x[i] = make(ctx, dtype, spare, z->batch, heads[i], time[i], dim[i], i < O ? from[i] : NULL);
    for (int i = 0; i < 3; i++) x[DQ + i] = make(ctx, dtype, spare, z->batch, heads[i], time[i], dim[i], NULL);
    x[LSE] = make(ctx, dtype == STRATA_F64 ? STRATA_F64 : STRATA_F32, -1, parts, z->batch, z->heads, z->tq, NULL);
    strata_tensor lse = x[LSE].t;
    if (parts == 1) {
        lse = strata_view3(lse.data, lse.dtype, z->batch, z->heads, z->tq);
        lse.device = ctx->device;
    }
    CHECK_OK(strata_attention_forward(a, &x[Q].t, &x[K].t, &x[V].t, &x[O].t, &lse, NULL));
    CHECK_OK(strata_attention_backward(a, &x[Q].t, &x[K].t, &x[V].t, &x[O].t, &lse, &x[DO].t, &x[DQ].t, &x[DK].t,
                                       &x[DV].t, NULL));
    CHECK_OK(sti_device_wait(ctx));
}

static void against_ref(const strata_context *gpu, const problem *p, const sizes *z)
{
    static const int32_t types[] = { STRATA_F32, STRATA_F64, STRATA_BF16 };
    strata_context *host = cpu();
    const int64_t nq = (int64_t)z->batch * z->heads * z->tq, nk = (int64_t)z->batch * z->kv_heads * z->tk;
    double *from[4] = { normal(nq * p->d_qk, 1, 1), normal(nk * p->d_qk, 2, 1), normal(nk * p->d_v, 3, 1),
                        normal(nq * p->d_v, 4, 1) };
    array want[ARRAYS], got[ARRAYS];
    strata_attention *a = plan(host, p, z, STRATA_F64, 0);
    run(host, a, p, z, STRATA_F64, -1, from, want);
    strata_attention_destroy(a);
    const int64_t k = z->tk + p->d_qk + p->d_v + (int64_t)z->tq * z->heads / z->kv_heads;
    for (int i = 0; i < 3; i++) {
        char what[256];
        a = plan(gpu, p, z, types[i], 0);
        snprintf(what, sizeof what, "%s d %d %d, %d x %d/%d, tq %d tk %d at %lld %lld, %s %s", p->spec, p->d_qk, p->d_v,
                 z->batch, z->heads, z->kv_heads, z->tq, z->tk, (long long)z->q_pos, (long long)z->k_pos,
                 strata_dtype_name(types[i]), strata_attention_variant(a));
        run(gpu, a, p, z, types[i], z->tq == 70 ? 3 : 8, from, got); /* 8: what tensor cores ask for */
        const bool rounds = types[i] == STRATA_BF16 && strcmp(strata_attention_variant(a), "sm90") == 0;
        for (int n = O; n < ARRAYS; n++)
            compare(what, names[n], &got[n], want[n].base, k, rounds && n == LSE ? rounding_of_q(p->spec) : 0);
        strata_attention_destroy(a);
        for (int n = 0; n < ARRAYS; n++) release(&got[n]);
    }
    for (int n = 0; n < ARRAYS; n++) release(&want[n]);
    for (int i = 0; i < 4; i++) free(from[i]);
    strata_context_destroy(host);
}

static void everywhere(const sizes *z, int n)
{
    strata_context *gpu = device();
    for (int i = 0; i < n; i++)
        for (int p = 0; p < PROBLEMS; p++) against_ref(gpu, &problems[p], &z[i]);
    strata_context_destroy(gpu);
    printf("  worst share of the bound: f32 %.2g, f64 %.2g, bf16 %.2g\n", worst_of[0], worst_of[1], worst_of[2]);
}

static void equals_ref_at_short_lengths(void)
{
    static const sizes z[] = { { 1, 2, 2, 1, 1, 0, 0 }, { 1, 2, 1, 7, 7, 0, 0 }, { 2, 2, 2, 65, 65, 0, 0 } };
    everywhere(z, 3);
}

/* Several tiles of Hopper's kernels, which run where they fit: last ones of one row and of many, groups, a
 * continuation. */
static void equals_ref_at_length_200(void)
{
    static const sizes z[] = { { 1, 2, 1, 200, 200, 0, 0 },
                               { 2, 2, 2, 129, 129, 0, 0 },
                               { 1, 4, 2, 150, 277, 127, 0 } };
    everywhere(z, 3);
}

static void equals_ref_with_offsets_and_groups(void)
{
    static const sizes z[] = { { 2, 6, 2, 37, 90, 53, 0 }, { 1, 4, 1, 70, 33, 11, 40 } }; /* rows that see nothing */
    everywhere(z, 2);
}

/* Scores that rise and fall by up to 900 away from the diagonal, in steps of a hundred keys: top scores are passed by
 * far more than weights can hold, several times a row, and (30, 60) by what sums can just hold. Column 0 carries them,
 * where q is 1: level 1, whose scale is given. Windows: tiles come first in which a row sees nothing. */
static void equals_ref_where_scores_grow(void)
{
    static const struct {
        problem p;
        double scale;
    } list[] = {
        { { "score=standard", 128, 128, 1 }, 0.088388347648318447 },
        { { "score=standard causal=0", 64, 64, 0 }, 0.125 },
        { { "score=window window=300", 64, 64, 1 }, 0.125 },
        { { "score=window window=70 causal=0", 128, 128, 0 }, 0.088388347648318447 },
        { { "score=mlr ranks=64,16,16,16,16", 128, 128, 1 }, 1.0 / 64 },
        { { "score=mlr ranks=32,32,32,32 vranks=32,32,32,32", 128, 128, 1 }, 1.0 / 32 },
        { { "score=mlr ranks=32,8,8,8,8 vranks=32,8,8,8,8 blocks=1024,512,256,64,32", 64, 64, 1 }, 1.0 / 32 },
        { { "score=mlr ranks=16,16,16,16 depth=distance blocks=1024,300,200,100 gain=count", 64, 64, 1 }, 1.0 / 16 },
    };
    static const double signs[] = { 1, -1, 1, -1 }, heights[] = { 900, 900, 60, 30 };
    const sizes z = { 1, 4, 4, 650, 700, 50, 0 };
    strata_context *gpu = device(), *host = cpu();
    for (size_t n = 0; n < sizeof list / sizeof *list; n++) {
        const problem *p = &list[n].p;
        const int64_t nq = (int64_t)z.heads * z.tq, nk = (int64_t)z.kv_heads * z.tk;
        double *q = normal(nq * p->d_qk, 1, 0.5), *k = normal(nk * p->d_qk, 2, 0.5), *v = normal(nk * p->d_v, 3, 1);
        for (int64_t i = 0; i < nq; i++) q[i * p->d_qk] = 1;
        for (int64_t i = 0; i < nk; i++) {
            const int64_t h = i / z.tk, step = (z.tk - 1 - i % z.tk) / 100;
            k[i * p->d_qk] = to_bf16(signs[h] * heights[h] * (double)step / 6 / list[n].scale);
        }
        const double *const from[4] = { q, k, v, NULL };
        array x[2][5]; /* q, k, v, o, lse; host and device */
        for (int side = 0; side < 2; side++) {
            const strata_context *ctx = side ? gpu : host;
            const int32_t dtype = side ? STRATA_BF16 : STRATA_F64;
            for (int i = 0; i < 4; i++)
                x[side][i] = make(ctx, dtype, side ? 8 : -1, z.batch, i % 3 ? z.kv_heads : z.heads, i % 3 ? z.tk : z.tq,
                                  i < 2 ? p->d_qk : p->d_v, from[i]);
            x[side][4] = make(ctx, side ? STRATA_F32 : STRATA_F64, -1, 1, z.batch, z.heads, z.tq, NULL);
            strata_tensor lse = strata_view3(x[side][4].base, x[side][4].t.dtype, z.batch, z.heads, z.tq);
            lse.device = ctx->device;
            strata_attention *a = plan(ctx, p, &z, dtype, 0);
            CHECK_OK(
                strata_attention_forward(a, &x[side][0].t, &x[side][1].t, &x[side][2].t, &x[side][3].t, &lse, NULL));
            CHECK_OK(sti_device_wait(ctx));
            strata_attention_destroy(a);
        }
        char what[256];
        snprintf(what, sizeof what, "%s d %d, growing", p->spec, p->d_qk);
        for (int i = 3; i < 5; i++) compare(what, i == 3 ? "o" : "lse", &x[1][i], x[0][i].base, z.tk + p->d_qk, 0);
        for (int i = 0; i < 10; i++) release(&x[i / 5][i % 5]);
        free(q);
        free(k);
        free(v);
    }
    strata_context_destroy(host);
    strata_context_destroy(gpu);
}

/* Twice the same bits. */
static void repeats_bit_for_bit(void)
{
    strata_context *gpu = device();
    const sizes z = { 1, 4, 2, 190, 190, 0, 0 };
    for (int p = 0; p < PROBLEMS; p += 3) {
        const problem *s = &problems[p];
        const int64_t nq = (int64_t)z.heads * z.tq, nk = (int64_t)z.kv_heads * z.tk;
        double *from[4] = { normal(nq * s->d_qk, 1, 1), normal(nk * s->d_qk, 2, 1), normal(nk * s->d_v, 3, 1),
                            normal(nq * s->d_v, 4, 1) };
        array x[2][ARRAYS];
        for (int i = 0; i < 2; i++) {
            strata_attention *a = plan(gpu, s, &z, p % 2 ? STRATA_BF16 : STRATA_F32, 0);
            run(gpu, a, s, &z, p % 2 ? STRATA_BF16 : STRATA_F32, 8, from, x[i]);
            strata_attention_destroy(a);
        }
        for (int n = O; n < ARRAYS; n++) {
            double *one = fetch(&x[0][n]), *two = fetch(&x[1][n]);
            CHECK(memcmp(one, two, (size_t)strata_tensor_count(&x[0][n].t) * sizeof *one) == 0);
            free(one);
            free(two);
        }
        for (int i = 0; i < 2 * ARRAYS; i++) release(&x[i / ARRAYS][i % ARRAYS]);
        for (int i = 0; i < 4; i++) free(from[i]);
    }
    strata_context_destroy(gpu);
}

/* ---- decoding ------------------------------------------------------------------------------------------------------
 */

typedef struct stepping { /* one call of step */
    strata_attention *a;
    void *cache;
    size_t bytes;
    int64_t pos[8];
    strata_tensor t[4];
} stepping;

static strata_status one_step(void *arg)
{
    const stepping *s = arg;
    return strata_attention_step(s->a, s->cache, s->bytes, s->pos, &s->t[0], &s->t[1], &s->t[2], &s->t[3], NULL);
}

/* The last step again, called and then recorded and replayed: row `row` of o, poisoned before, has the same bits, and
 * what is in front of the slabs of each cache is zero as before. */
static void again(const strata_context *gpu, const char *what, stepping *s, array *o, int batch, int64_t row)
{
    const int64_t heads = o->t.shape[1], time = o->t.shape[2], d = o->t.shape[3];
    const size_t e = strata_dtype_size(o->t.dtype);
    double *want = fetch(o);
    void *poison = malloc((size_t)o->elements * e);
    sti_recording *recording = NULL;
    CHECK(poison);
    for (int64_t i = 0; i < o->elements; i++) put(poison, o->t.dtype, i, NAN);
    CHECK_OK(sti_record(gpu, one_step, s, &recording));
    for (int i = 0; i < 4; i++) {
        CHECK_OK(sti_to_device(gpu, o->base, poison, (size_t)o->elements * e));
        CHECK_OK(i < 2 ? one_step(s) : sti_replay(gpu, recording));
        double *x = fetch(o);
        for (int64_t r = row; r < batch * heads * time; r += time)
            if (memcmp(x + r * d, want + r * d, (size_t)d * sizeof *x) != 0)
                FAIL("%s: call %d of the same step differs in row %lld", what, i, (long long)r);
        free(x);
    }
    for (int b = 0; b < batch; b++) {
        unsigned char head[64 + 4 * 32];
        const size_t bytes = 64 + 4 * (size_t)heads;
        CHECK(bytes <= sizeof head);
        CHECK_OK(sti_to_host(gpu, head, (char *)s->cache + (size_t)b * s->bytes, bytes));
        for (size_t i = 0; i < bytes; i++) CHECK_INT(head[i], 0);
    }
    sti_recording_free(gpu, recording);
    free(poison);
    free(want);
}

/* Tokens [0, first) are appended at once, the rest step; each output equals its row of the CPU's forward. */
static void decode(const strata_context *gpu, const problem *p, int batch, int heads, int kv_heads, int time, int first,
                   int32_t dtype)
{
    strata_context *host = cpu();
    const sizes all = { batch, heads, kv_heads, time - first, time, first, 0 };
    const int64_t nq = (int64_t)batch * heads * (time - first), nk = (int64_t)batch * kv_heads * time;
    double *q = normal(nq * p->d_qk, 1, 1), *k = normal(nk * p->d_qk, 2, 1), *v = normal(nk * p->d_v, 3, 1);
    array hq = make(host, STRATA_F64, -1, batch, heads, time - first, p->d_qk, q);
    array hk = make(host, STRATA_F64, -1, batch, kv_heads, time, p->d_qk, k);
    array hv = make(host, STRATA_F64, -1, batch, kv_heads, time, p->d_v, v);
    array ho = make(host, STRATA_F64, -1, batch, heads, time - first, p->d_v, NULL);
    strata_attention *a = plan(host, p, &all, STRATA_F64, time);
    CHECK_OK(strata_attention_forward(a, &hq.t, &hk.t, &hv.t, &ho.t, NULL, NULL));
    strata_attention_destroy(a);

    const sizes planned = { batch, heads, kv_heads, time, time, 0, 0 };
    array gq = make(gpu, dtype, 3, batch, heads, time - first, p->d_qk, q);
    array gk = make(gpu, dtype, 3, batch, kv_heads, time, p->d_qk, k);
    array gv = make(gpu, dtype, 3, batch, kv_heads, time, p->d_v, v);
    array go = make(gpu, dtype, 3, batch, heads, time - first, p->d_v, NULL);
    size_t bytes = 0, payload = 0;
    void *cache = NULL;
    a = plan(gpu, p, &planned, dtype, time);
    CHECK_OK(strata_attention_cache_size(a, time, &bytes, &payload));
    CHECK(payload <= bytes);
    CHECK_STATUS(strata_attention_cache_size(a, time + 1, &bytes, NULL), STRATA_E_UNSUPPORTED);
    CHECK_OK(sti_array_calloc(gpu, batch, bytes, &cache));
    stepping s = { .a = a, .cache = cache, .bytes = bytes };
    CHECK(batch <= 8);
    for (int b = 0; b < batch; b++) {
        char *mine = (char *)cache + (size_t)b * bytes;
        strata_tensor kt = gk.t, vt = gv.t, *both[2] = { &kt, &vt };
        for (int i = 0; i < 2; i++) { /* (kv_heads, first, dim) of sequence b */
            strata_tensor *t = both[i], from = *t;
            *t = strata_view3((char *)from.data + (size_t)(b * from.stride[0]) * strata_dtype_size(dtype), dtype,
                              kv_heads, first, from.shape[3]);
            t->stride[0] = from.stride[1];
            t->stride[1] = from.stride[2];
            t->device = gpu->device;
        }
        CHECK_OK(strata_attention_cache_init(a, time, mine));
        if (first > 0) CHECK_OK(strata_attention_cache_append(a, mine, 0, &kt, &vt));
    }
    for (int t = first; t < time; t++) {
        strata_tensor *const at = s.t;
        const array *const from[4] = { &gq, &gk, &gv, &go };
        for (int i = 0; i < 4; i++) {
            const strata_tensor *f = &from[i]->t;
            const int64_t row = i == 0 || i == 3 ? t - first : t;
            at[i] = strata_view3((char *)f->data + (size_t)(row * f->stride[2]) * strata_dtype_size(dtype), dtype,
                                 batch, f->shape[1], f->shape[3]);
            at[i].stride[0] = f->stride[0];
            at[i].stride[1] = f->stride[1];
            at[i].device = gpu->device;
        }
        for (int b = 0; b < batch; b++) s.pos[b] = t;
        CHECK_OK(one_step(&s));
    }
    CHECK_OK(sti_device_wait(gpu));
    char what[256];
    snprintf(what, sizeof what, "step: %s d %d %d, %d x %d/%d, %d from %d, %s", p->spec, p->d_qk, p->d_v, batch, heads,
             kv_heads, time, first, strata_dtype_name(dtype));
    compare(what, "o", &go, ho.base, time + p->d_qk, 0);
    again(gpu, what, &s, &go, batch, time - first - 1);
    strata_attention_destroy(a);
    sti_array_free(gpu, cache);
    array *const x[] = { &hq, &hk, &hv, &ho, &gq, &gk, &gv, &go };
    for (int i = 0; i < 8; i++) release(x[i]);
    free(q);
    free(k);
    free(v);
    strata_context_destroy(host);
}

static void steps_equal_forward(void)
{
    strata_context *gpu = device();
    for (int p = 0; p < PROBLEMS; p++) {
        if (!problems[p].causal) continue;
        decode(gpu, &problems[p], 2, 2, 2, 70, p % 2 ? 61 : 0, STRATA_F32);
        decode(gpu, &problems[p], 1, 6, 1, 40, 33, STRATA_F64);
        decode(gpu, &problems[p], 2, 6, 2, 131, 120, STRATA_BF16);
        decode(gpu, &problems[p], 1, 1, 1, 131, 120, STRATA_BF16);
    }
    strata_context_destroy(gpu);
}

static void steps_equal_forward_at_length_5000(void)
{
    strata_context *gpu = device();
    for (int p = 0; p < PROBLEMS; p++) {
        if (!problems[p].causal) continue;
        decode(gpu, &problems[p], 1, 4, 2, 5000, 4999, STRATA_BF16);
        decode(gpu, &problems[p], 3, 2, 2, 4200, 4198, STRATA_F32);
        if (problems[p].d_qk > 128) continue;
        decode(gpu, &problems[p], 1, 8, 8, 4001, 4000, STRATA_BF16); /* many stretches of few tiles */
        decode(gpu, &problems[p], 1, 16, 1, 3000, 2999, STRATA_BF16);
        decode(gpu, &problems[p], 2, 24, 1, 2000, 1999, STRATA_BF16);
        decode(gpu, &problems[p], 8, 6, 3, 900, 898, STRATA_BF16);
        decode(gpu, &problems[p], 1, 3, 1, 2500, 2499, STRATA_F64);
    }
    strata_context_destroy(gpu);
}

static void refuses_what_does_not_fit(void)
{
    strata_context *gpu = device();
    const problem p = { "score=standard", 8, 8, 1 };
    const sizes z = { 1, 1, 1, 4, 4, 0, 0 };
    strata_attention *a = plan(gpu, &p, &z, STRATA_F32, 0);
    float x[32] = { 0 };
    const strata_tensor t = strata_view4(x, STRATA_F32, 1, 1, 4, 8);
    CHECK_STR(strata_attention_variant(a), "cuda");
    CHECK_STATUS(strata_attention_forward(a, &t, &t, &t, &t, NULL, NULL), STRATA_E_DEVICE);
    CHECK_ERROR_TEXT("q is in host memory but the context's device is cuda");
    void *cache = NULL;
    size_t bytes = 0;
    const int64_t pos = 4;
    CHECK_OK(strata_attention_cache_size(a, 4, &bytes, NULL));
    CHECK_OK(sti_array_calloc(gpu, 1, bytes, &cache));
    strata_tensor row = strata_view3(cache, STRATA_F32, 1, 1, 8);
    row.device = STRATA_CUDA;
    CHECK_STATUS(strata_attention_step(a, cache, bytes, &pos, &row, &row, &row, &row, NULL), STRATA_E_SPACE);
    sti_array_free(gpu, cache);
    strata_attention_destroy(a);
    strata_context_destroy(gpu);
}

TESTS(T(equals_ref_at_short_lengths), T(equals_ref_at_length_200), T(equals_ref_with_offsets_and_groups),
      T(equals_ref_where_scores_grow), T(repeats_bit_for_bit), T(steps_equal_forward),
      T(steps_equal_forward_at_length_5000), T(refuses_what_does_not_fit))
