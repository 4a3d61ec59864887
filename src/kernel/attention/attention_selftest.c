/* One forward and backward of every variant this machine and context allow, beside `ref` in float64. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/device.h"
#include "core/philox.h"
#include "kernel/attention/engine.h"

enum { TIME = 70, WIDTH = 64, HEADS = 2, ELEMENTS = HEADS * TIME * WIDTH, ARRAYS = 8, OUTPUTS = 4 };

typedef void kernel_fn(const sti_attention_plan *p, const sti_attention_call *c);

/* q, k, v, do; then o, dq, dk, dv; then lse, in `memory`. */
static void call(kernel_fn *forward, kernel_fn *backward, const sti_attention_plan *p, void *memory, void *work)
{
    const size_t e = strata_dtype_size(p->dtype);
    sti_attention_array a[ARRAYS];
    for (size_t i = 0; i < ARRAYS; i++)
        a[i] = (sti_attention_array){ (char *)memory + i * ELEMENTS * e, ELEMENTS, TIME * WIDTH, WIDTH };
    sti_attention_call c = { .batch = 1, .q_time = TIME, .k_time = TIME, .work = work };
    c.q = a[0], c.k = a[1], c.v = a[2], c.dout = a[3], c.o = a[4], c.dq = a[5], c.dk = a[6], c.dv = a[7];
    c.lse = (sti_attention_array){ (char *)memory + ARRAYS * ELEMENTS * e, HEADS * TIME, TIME, 1 };
    forward(p, &c);
    backward(p, &c);
}

/* Inputs that bf16 holds, the same in every type. */
static float input(size_t i)
{
    int e;
    const double m = frexp(sti_normal(1, 0, i), &e);
    return (float)ldexp(rint(m * 256), e - 8);
}

static void run(const sti_attention_kernel *kernel, const sti_attention_plan *p, void *memory, void *work)
{
    for (size_t i = 0; i < OUTPUTS * ELEMENTS; i++)
        if (p->dtype == STRATA_F32)
            ((float *)memory)[i] = input(i);
        else
            ((double *)memory)[i] = (double)input(i);
    call(kernel->forward, kernel->backward, p, memory, work);
}

/* contracts: 8 eps sqrt(k) of the norm, k the keys of a row; for bf16 8 of its own roundings. */
static bool near(const double *want, const float *got, double unit, char *detail, size_t size)
{
    double error = 0, norm = 0;
    for (size_t n = OUTPUTS * ELEMENTS; n < ARRAYS * ELEMENTS; n++) {
        const double d = (double)got[n] - want[n];
        error += d * d;
        norm += want[n] * want[n];
    }
    snprintf(detail, size, "error %.1e of the norm", sqrt(error / norm));
    return sqrt(error) <= unit * sqrt(norm);
}

static const double unit_f32 = 8 * (double)FLT_EPSILON * 8.4 /* sqrt(TIME) */, unit_bf16 = 8.0 / 512;

/* What the device runs, in f32 and in bf16; `got` is host memory for the arrays. */
static strata_status on_device(const strata_context *ctx, const sti_attention_shape *shape, const double *want,
                               float *got, strata_selftest_fn fn, void *user)
{
    static const int32_t types[] = { STRATA_F32, STRATA_BF16 };
    const int64_t count = ARRAYS * ELEMENTS + HEADS * TIME;
    strata_status s = STRATA_OK, verdict = STRATA_OK;
    for (size_t i = 0; s == STRATA_OK && i < STI_COUNT(types); i++) {
        sti_attention_plan *p = NULL;
        void *wide = NULL, *memory = NULL, *work = NULL;
        char name[32], detail[80];
        const bool half = types[i] == STRATA_BF16;
        if ((s = sti_attention_plan_create(ctx, shape, types[i], 1, TIME, TIME, 1, &p)) != STRATA_OK) goto out;
        if ((s = sti_array_calloc(ctx, count, sizeof(float), &wide)) != STRATA_OK) goto out;
        if ((s = sti_array_calloc(ctx, count, sizeof(float), &memory)) != STRATA_OK) goto out;
        if ((s = sti_array_calloc(ctx, (int64_t)sti_attention_work(p), 1, &work)) != STRATA_OK) goto out;
        for (size_t n = 0; n < OUTPUTS * ELEMENTS; n++) got[n] = input(n);
        if ((s = sti_to_device(ctx, wide, got, OUTPUTS * ELEMENTS * sizeof *got)) != STRATA_OK) goto out;
        sti_array_convert(ctx, memory, types[i], wide, STRATA_F32, OUTPUTS * ELEMENTS);
        call(sti_attention_forward, sti_attention_backward, p, memory, work);
        sti_array_convert(ctx, wide, STRATA_F32, memory, types[i], ARRAYS * ELEMENTS);
        if ((s = sti_to_host(ctx, got, wide, ARRAYS * ELEMENTS * sizeof *got)) != STRATA_OK) goto out;
        const bool ok = near(want, got, half ? unit_bf16 : unit_f32, detail, sizeof detail);
        snprintf(name, sizeof name, "%s %s", sti_attention_variant_name(p), strata_dtype_name(types[i]));
        if (!ok) verdict = sti_fail(STRATA_E_NUMERIC, "attention %s: %s", name, detail);
        if (fn) fn(user, "attention", name, ok, detail);
    out:
        sti_array_free(ctx, wide);
        sti_array_free(ctx, memory);
        sti_array_free(ctx, work);
        sti_attention_plan_destroy(p);
    }
    return s == STRATA_OK ? verdict : s;
}

strata_status sti_attention_selftest(const strata_context *ctx, strata_selftest_fn fn, void *user)
{
    static const sti_attention_kernel *const all[] = {
#if STRATA_HAVE_AMX
        &sti_attention_amx,
#endif
#if STRATA_HAVE_AVX512BF16
        &sti_attention_avx512bf16,
#endif
#if STRATA_X86
        sti_attention_avx512,
        sti_attention_avx2,
#endif
        sti_attention_c
    };
    sti_attention_shape shape = { .heads = HEADS, .kv_heads = HEADS, .d_qk = WIDTH, .d_v = WIDTH, .causal = 1 };
    shape.parts = 1;
    shape.part[0] = (sti_attention_part){ .levels = 2, .blocks = 1, .gain = { 0, 1, 0.5 } };
    shape.part[0].level[0] = (sti_attention_level){ 48, WIDTH, STI_ATTENTION_ALL, 1.0 / 48 };
    shape.part[0].level[1] = (sti_attention_level){ 16, 0, 16, 1.0 / 16 };
    sti_attention_plan *p = NULL;
    void *want = NULL, *got = NULL, *work = NULL;
    int64_t count = ARRAYS * ELEMENTS + HEADS * TIME;
    strata_status s = sti_attention_plan_create(ctx, &shape, STRATA_F64, 1, TIME, TIME, 1, &p), verdict = STRATA_OK;
    if (s != STRATA_OK) return s;
    size_t most = sti_attention_ref[1].work(p);
    for (size_t i = 0; i < STI_COUNT(all); i++) most = STI_MAX(most, all[i][0].work(p));
    if ((s = sti_calloc(ctx, count, sizeof(double), &want)) != STRATA_OK) goto out;
    if ((s = sti_calloc(ctx, count, sizeof(float), &got)) != STRATA_OK) goto out;
    if ((s = sti_calloc(ctx, (int64_t)most, 1, &work)) != STRATA_OK) goto out;
    run(&sti_attention_ref[1], p, want, work);
    for (size_t i = 0; i < STI_COUNT(all); i++) {
        if (all[i][0].isa > STI_MAX(ctx->isa, STI_ISA_C)) continue;
        char detail[80];
        p->dtype = STRATA_F32;
        run(&all[i][0], p, got, work);
        const bool narrow = all[i][0].isa > STI_ISA_AVX512; /* products of bf16 */
        const bool ok = near(want, got, narrow ? unit_bf16 : unit_f32, detail, sizeof detail);
        if (!ok) verdict = sti_fail(STRATA_E_NUMERIC, "attention %s: %s", all[i][0].name, detail);
        if (fn) fn(user, "attention", all[i][0].name, ok, detail);
    }
    s = verdict;
    if (s == STRATA_OK && sti_on_device(ctx)) s = on_device(ctx, &shape, want, got, fn, user);
out:
    strata_free(ctx, want);
    strata_free(ctx, got);
    strata_free(ctx, work);
    sti_attention_plan_destroy(p);
    return s;
}
