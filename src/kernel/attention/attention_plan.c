/* Plan: choice of the variant, cost, and the checks that the public calls need. */
#include <math.h>
#include <string.h>

#include "core/device.h"
#include "kernel/attention/engine.h"

#if STRATA_HAVE_OPENMP
#include <omp.h>
#endif

static const sti_attention_kernel *const variants[] = { /* best first; `ref` only when asked for */
#if STRATA_X86
                                                        sti_attention_avx512, sti_attention_avx2,
#endif
                                                        sti_attention_c, sti_attention_ref
};

static const sti_attention_kernel *const narrow_variants[] = { /* products of bf16, best first */
#if STRATA_HAVE_AMX
                                                               &sti_attention_amx,
#endif
#if STRATA_HAVE_AVX512BF16
                                                               &sti_attention_avx512bf16,
#endif
                                                               NULL
};

/* Sizes that the two softmaxes of a plan do not share are left to the f32 kernels. */
static bool narrow_fits(const sti_attention_plan *p)
{
    return p->shape.parts == 1 || (p->shape.part[0].levels == 1 && p->shape.part[1].levels == 1);
}

int sti_attention_threads(const sti_attention_plan *p)
{
#if STRATA_HAVE_OPENMP
    return omp_in_parallel() ? 1 : p->ctx->threads;
#else
    (void)p;
    return 1;
#endif
}

strata_status sti_attention_plan_create(const strata_context *ctx, const sti_attention_shape *shape, int32_t dtype,
                                        int64_t batch, int64_t q_time, int64_t k_time, int32_t train,
                                        sti_attention_plan **out)
{
    void *memory = NULL;
    *out = NULL;
    if (dtype != STRATA_F32 && dtype != STRATA_F64 && dtype != STRATA_BF16)
        return sti_fail(STRATA_E_DTYPE, "attention takes f32, f64 or bf16, not %s", strata_dtype_name(dtype));
    if (dtype == STRATA_BF16 && ctx->isa == STI_ISA_REF && !sti_on_device(ctx))
        return sti_fail(STRATA_E_UNSUPPORTED, "attention: isa=ref computes in f32 or f64, not bf16");
    if (batch < 1 || q_time < 1 || k_time < 1)
        return sti_fail(STRATA_E_SHAPE, "attention: batch %lld, query time %lld and key time %lld must be positive",
                        (long long)batch, (long long)q_time, (long long)k_time);
    int64_t n = 0;
    if (!sti_mul_i64(batch, shape->heads, &n) || !sti_mul_i64(n, STI_MAX(q_time, k_time), &n) ||
        !sti_mul_i64(n, 16 * (shape->d_qk + shape->d_v), &n))
        return sti_fail(STRATA_E_SHAPE, "attention: batch %lld x heads %lld x time %lld is too large", (long long)batch,
                        (long long)shape->heads, (long long)STI_MAX(q_time, k_time));
    STI_TRY(sti_calloc(ctx, 1, sizeof(sti_attention_plan), &memory));
    sti_attention_plan *p = memory;
    p->ctx = sti_context_ref(ctx);
    p->shape = *shape;
    p->dtype = dtype;
    p->train = train;
    p->half = dtype == STRATA_BF16;
    p->batch = batch;
    p->q_time = q_time;
    p->k_time = k_time;
    p->capacity = k_time;
    for (int i = 0; i < shape->parts; i++) {
        sti_attention_part *a = &p->shape.part[i];
        for (int l = 1; l < a->levels; l++) p->varies[i] |= a->gain[l + 1] < a->gain[l] || a->gain[l + 1] > a->gain[l];
        for (int l = 0; l < a->levels; l++) {
            if (a->level[l].vrank > 0) p->vlevels[i] = l + 1;
            if (!p->varies[i]) {
                a->level[l].scale *= a->gain[l + 1];
                a->gain[l + 1] = 1;
            }
        }
    }
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        const strata_status s = sti_attention_device_kernel(p, &p->kernel);
        if (s != STRATA_OK) {
            sti_attention_plan_destroy(p);
            return s;
        }
        p->work = sti_round_up(p->kernel->work(p), STI_ALIGN);
        *out = p;
        return STRATA_OK;
    }
#endif
    size_t v = 0;
    while (v + 1 < STI_COUNT(variants) && (ctx->isa == STI_ISA_REF || variants[v][0].isa > ctx->isa)) v++;
    p->kernel = &variants[v][p->half ? 2 : dtype == STRATA_F64];
    p->work = p->kernel->work(p);
    const bool narrow = p->half || (dtype == STRATA_F32 && sti_rounds(ctx));
    for (size_t i = 0; narrow && narrow_fits(p) && !p->narrow && narrow_variants[i]; i++)
        if (narrow_variants[i]->isa <= ctx->isa) p->narrow = narrow_variants[i];
    if (p->narrow) p->work = STI_MAX(p->work, p->narrow->work(p));
    p->work = sti_round_up(p->work, STI_ALIGN);
    *out = p;
    return STRATA_OK;
}

void sti_attention_plan_destroy(sti_attention_plan *p)
{
    if (!p) return;
    strata_context *ctx = (strata_context *)(uintptr_t)p->ctx;
    strata_free(ctx, p);
    strata_context_destroy(ctx);
}

const sti_attention_shape *sti_attention_plan_shape(const sti_attention_plan *p)
{
    return &p->shape;
}

void sti_attention_plan_capacity(sti_attention_plan *p, int64_t capacity)
{
    p->capacity = capacity;
}

size_t sti_attention_work(const sti_attention_plan *p)
{
    return p->work;
}

const char *sti_attention_variant_name(const sti_attention_plan *p)
{
    return p->narrow ? p->narrow->name : p->kernel->name;
}

void sti_attention_forward(const sti_attention_plan *p, const sti_attention_call *c)
{
    (p->narrow ? p->narrow : p->kernel)->forward(p, c);
}

void sti_attention_backward(const sti_attention_plan *p, const sti_attention_call *c)
{
    (p->narrow ? p->narrow : p->kernel)->backward(p, c);
}

sti_attention_cost sti_attention_count(const sti_attention_shape *s, int64_t batch, int64_t q_time, int64_t k_time,
                                       int64_t q_pos, int64_t k_pos)
{
    sti_attention_cost cost = { 0 };
    sti_interval keys = { k_pos, k_pos + k_time };
    for (int part = 0; part < s->parts; part++)
        for (int l = 0; l < s->part[part].levels; l++) {
            const sti_attention_level *level = &s->part[part].level[l];
            double pairs = 0;
            for (int64_t i = q_pos; i < q_pos + q_time; i++) {
                sti_interval r = sti_meet(sti_attention_range(&s->part[part], s->causal, l, i, 0), keys);
                if (r.hi > r.lo) pairs += (double)(r.hi - r.lo);
            }
            cost.flops_fwd += 2 * pairs * (level->rank + level->vrank);
            cost.flops_bwd += 2 * pairs * (3.0 * level->rank + 2.0 * level->vrank);
            if (l == 0) cost.exps += pairs;
            if (l == 0 && part == 0) cost.pairs = pairs;
        }
    double n = (double)(batch * s->heads);
    cost.flops_fwd *= n;
    cost.flops_bwd *= n;
    cost.exps *= n;
    return cost;
}
