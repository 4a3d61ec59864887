/* One forward and backward of every variant this machine and context allow, beside `ref` in float64. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/philox.h"
#include "kernel/attention/engine.h"

enum { TIME = 70, WIDTH = 8, HEADS = 2, ELEMENTS = HEADS * TIME * WIDTH, ARRAYS = 8, OUTPUTS = 4 };

/* q, k, v, do; then o, dq, dk, dv; then lse. Returns the outputs' place in `x`. */
static void run(const sti_attention_kernel *kernel, sti_attention_plan *p, void *memory, void *work)
{
    size_t e = strata_dtype_size(p->dtype);
    sti_attention_array a[ARRAYS];
    for (size_t i = 0; i < ARRAYS; i++)
        a[i] = (sti_attention_array){ (char *)memory + i * ELEMENTS * e, ELEMENTS, TIME * WIDTH, WIDTH };
    for (size_t i = 0; i < OUTPUTS * ELEMENTS; i++) {
        float x = (float)sti_normal(1, 0, i); /* the same numbers in both types */
        if (p->dtype == STRATA_F32)
            ((float *)memory)[i] = x;
        else
            ((double *)memory)[i] = (double)x;
    }
    sti_attention_call c = { .batch = 1, .q_time = TIME, .k_time = TIME, .work = work };
    c.q = a[0], c.k = a[1], c.v = a[2], c.dout = a[3], c.o = a[4], c.dq = a[5], c.dk = a[6], c.dv = a[7];
    c.lse = (sti_attention_array){ (char *)memory + ARRAYS * ELEMENTS * e, HEADS * TIME, TIME, 1 };
    kernel->forward(p, &c);
    kernel->backward(p, &c);
}

strata_status sti_attention_selftest(const strata_context *ctx, strata_selftest_fn fn, void *user)
{
    static const sti_attention_kernel *const all[] = {
#if STRATA_X86
        sti_attention_avx512,
        sti_attention_avx2,
#endif
        sti_attention_c
    };
    sti_attention_shape shape = { .heads = HEADS, .kv_heads = HEADS, .d_qk = WIDTH, .d_v = WIDTH, .causal = 1 };
    shape.parts = 1;
    shape.part[0] = (sti_attention_part){ .levels = 2, .blocks = 1, .gain = { 0, 1, 0.5 } };
    shape.part[0].level[0] = (sti_attention_level){ 5, WIDTH, STI_ATTENTION_ALL, 0.2 };
    shape.part[0].level[1] = (sti_attention_level){ 3, 0, 16, 1.0 / 3 };
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
        double error = 0, norm = 0;
        char detail[80];
        p->dtype = STRATA_F32;
        run(&all[i][0], p, got, work);
        for (int64_t n = OUTPUTS * ELEMENTS; n < ARRAYS * ELEMENTS; n++) {
            double w = ((const double *)want)[n], d = (double)((const float *)got)[n] - w;
            error += d * d;
            norm += w * w;
        }
        /* contracts: 8 eps sqrt(k) of the norm, k the keys of a row */
        bool ok = sqrt(error) <= 8 * (double)FLT_EPSILON * sqrt((double)TIME) * sqrt(norm);
        snprintf(detail, sizeof detail, "error %.1e of the norm", sqrt(error / norm));
        if (!ok) verdict = sti_fail(STRATA_E_NUMERIC, "attention %s: %s", all[i][0].name, detail);
        if (fn) fn(user, "attention", all[i][0].name, ok, detail);
    }
    s = verdict;
out:
    strata_free(ctx, want);
    strata_free(ctx, got);
    strata_free(ctx, work);
    sti_attention_plan_destroy(p);
    return s;
}
