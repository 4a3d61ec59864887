/* Attention against arrays that NumPy made (gen_attention.py), in f64 and every variant. */
#include <float.h>

#include <strata/attention.h>
#include <strata/file.h>

#include "support/test.h"

static strata_tensor get(const strata_file *f, const char *name)
{
    strata_tensor t;
    CHECK_OK(strata_file_get(f, name, &t));
    CHECK(t.dtype == STRATA_F64);
    return t;
}

static strata_tensor like(const strata_tensor *want)
{
    size_t bytes = (size_t)strata_tensor_count(want) * sizeof(double);
    strata_tensor t = *want;
    t.data = malloc(bytes);
    CHECK(t.data);
    memset(t.data, 0xff, bytes); /* NaN */
    return t;
}

/* |x - want|, with `planted` added to the first element. */
static double distance(const strata_tensor *x, const strata_tensor *want, double planted)
{
    const double *a = x->data, *b = want->data;
    double sum = 0;
    for (int64_t i = 0; i < strata_tensor_count(want); i++) {
        double e = a[i] - b[i] + (i ? 0 : planted);
        sum += e * e;
    }
    return sqrt(sum);
}

/* Norm-wise: |x - want| <= 8 eps sqrt(k) |want| with k = 64, above the longest sum (over time); an error of 100 times
 * the bound is seen. */
static void compare(const char *name, strata_tensor *x, const strata_tensor *want)
{
    double norm = 0;
    for (int64_t i = 0; i < strata_tensor_count(want); i++)
        norm += ((const double *)want->data)[i] * ((const double *)want->data)[i];
    double bound = 8 * DBL_EPSILON * 8 * sqrt(norm), error = distance(x, want, 0);
    if (!(error <= bound)) FAIL("%s: error %g above %g", name, error, bound);
    CHECK(norm > 0 && !(distance(x, want, 100 * bound) <= bound));
    free(x->data);
}

static void golden(const char *path)
{
    static const char *const isas[] = { "isa=ref", "isa=c", "isa=avx2", "isa=avx512" };
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        strata_context *ctx = NULL;
        strata_file *f = NULL;
        strata_attention *a = NULL;
        CHECK_OK(strata_context_create(isas[i], NULL, &ctx));
        CHECK_OK(strata_file_open(ctx, path, &f));
        strata_tensor q = get(f, "q"), k = get(f, "k"), v = get(f, "v"), dout = get(f, "do");
        strata_tensor want[] = { get(f, "o"), get(f, "lse"), get(f, "dq"), get(f, "dk"), get(f, "dv") }, x[5];
        for (int n = 0; n < 5; n++) x[n] = like(&want[n]);
        strata_attention_problem p = { STRATA_INIT(strata_attention_problem),
                                       .batch = q.shape[0],
                                       .heads = q.shape[1],
                                       .kv_heads = k.shape[1],
                                       .q_time = q.shape[2],
                                       .d_qk = q.shape[3],
                                       .d_v = v.shape[3],
                                       .dtype = STRATA_F64,
                                       .train = 1 };
        CHECK_OK(strata_attention_create(ctx, strata_file_meta(f, "spec"), &p, &a));
        CHECK_OK(strata_attention_forward(a, &q, &k, &v, &x[0], &x[1], NULL));
        CHECK_OK(strata_attention_backward(a, &q, &k, &v, &x[0], &x[1], &dout, &x[2], &x[3], &x[4], NULL));
        const char *names[] = { "o", "lse", "dq", "dk", "dv" };
        for (int n = 0; n < 5; n++) compare(names[n], &x[n], &want[n]);
        strata_attention_destroy(a);
        strata_file_close(f);
        strata_context_destroy(ctx);
    }
}

static void mlr(void)
{
    golden("tests/golden/attention_mlr.safetensors");
}
static void mlr_with_value_levels(void)
{
    golden("tests/golden/attention_mlr_values.safetensors");
}
static void gswa(void)
{
    golden("tests/golden/attention_gswa.safetensors");
}

TESTS(T(mlr), T(mlr_with_value_levels), T(gswa))
