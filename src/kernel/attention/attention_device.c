/* The CUDA variants in front of plans: "sm90" for what the Hopper kernels take, "cuda" for every shape. */
#include "kernel/attention/engine.h"

#if STRATA_HAVE_CUDA

#include "core/device.h"
#include "kernel/attention/attention_cuda.h"
#include "kernel/attention/attention_sm90.h"

static size_t work(const sti_attention_plan *p)
{
    const size_t backward = p->train ? sti_attention_cuda_work(&p->shape, p->dtype, p->batch, p->q_time) : 0;
    const size_t step = p->shape.causal ? sti_attention_cuda_step_work(p->ctx, &p->shape, p->dtype, p->batch) : 0;
    return STI_MAX(backward, step);
}

static void forward(const sti_attention_plan *p, const sti_attention_call *c)
{
    if (sti_attention_short_forward(p->ctx, &p->shape, p->dtype, c)) return;
    sti_attention_cuda_forward(p->ctx, &p->shape, p->dtype, c);
}

static void backward(const sti_attention_plan *p, const sti_attention_call *c)
{
    if (sti_attention_short_backward(p->ctx, &p->shape, p->dtype, c)) return;
    sti_attention_cuda_backward(p->ctx, &p->shape, p->dtype, c);
}

static void append(const sti_attention_plan *p, unsigned char *cache, int64_t pos, int64_t n,
                   const sti_attention_array *k, const sti_attention_array *v)
{
    sti_cache_layout l;
    sti_attention_cache_layout(p, p->capacity, &l);
    sti_attention_cuda_append(p->ctx, &p->shape, p->dtype, &l, cache, pos, n, k, v);
}

static void step(const sti_attention_plan *p, const sti_attention_steps *s)
{
    const sti_cuda_steps c = { s->cache, s->stride, s->pos, s->batch, s->q, s->k, s->v, s->o, s->work };
    sti_cache_layout l;
    sti_attention_cache_layout(p, p->capacity, &l);
    sti_attention_cuda_step(p->ctx, &p->shape, p->dtype, &l, &c);
}

static const sti_attention_kernel cuda = { "cuda", STI_ISA_C, work, forward, backward, append, step };

/* ---- Hopper: a call whose arrays do not suit its copies, and what it has not, run above -----------------------------
 */

static size_t sm90_work(const sti_attention_plan *p)
{
    size_t n = STI_MAX(work(p), (size_t)STI_ATTENTION_SM90_WORK);
    if (p->train && sti_attention_sm90_backward_fits(&p->shape, p->dtype))
        n = STI_MAX(n, sti_attention_sm90_backward_work(&p->shape, p->batch, p->q_time));
    return n;
}

/* Arrays that would be filled up with zeros: in a sequence of one tile attention_short_cuda.cu does only what there is.
 */
static bool narrow(const sti_attention_plan *p)
{
    const int width = sti_attention_sm90_width(&p->shape);
    return p->shape.d_qk < width || p->shape.d_v < width;
}

static void sm90_forward(const sti_attention_plan *p, const sti_attention_call *c)
{
    if (narrow(p) && sti_attention_short_forward(p->ctx, &p->shape, p->dtype, c)) return;
    if (sti_attention_sm90_aligned(c))
        sti_attention_sm90_forward(p->ctx, &p->shape, c);
    else
        forward(p, c);
}

static void sm90_backward(const sti_attention_plan *p, const sti_attention_call *c)
{
    if (narrow(p) && sti_attention_short_backward(p->ctx, &p->shape, p->dtype, c)) return;
    const sti_attention_array *const arrays[] = { &c->dout, &c->dq, &c->dk, &c->dv };
    bool aligned = sti_attention_sm90_backward_fits(&p->shape, p->dtype) && sti_attention_sm90_aligned(c);
    for (size_t i = 0; i < STI_COUNT(arrays); i++) {
        const sti_attention_array *a = arrays[i];
        aligned &= ((uintptr_t)a->data | (uintptr_t)(a->batch | a->head | a->time) * 2) % 16 == 0;
    }
    if (aligned)
        sti_attention_sm90_backward(p->ctx, &p->shape, c);
    else
        backward(p, c);
}

static const sti_attention_kernel sm90 = { "sm90", STI_ISA_C, sm90_work, sm90_forward, sm90_backward, append, step };

strata_status sti_attention_device_kernel(const sti_attention_plan *p, const sti_attention_kernel **out)
{
    const int64_t most = sti_attention_cuda_limit(p->ctx, &p->shape, p->dtype);
    if (most)
        return sti_fail(STRATA_E_UNSUPPORTED, "attention: d_qk %lld is above %lld, the most that fits this device",
                        (long long)p->shape.d_qk, (long long)most);
    *out = sti_attention_sm90_fits(p->ctx, &p->shape, p->dtype) ? &sm90 : &cuda;
    return STRATA_OK;
}

#endif
