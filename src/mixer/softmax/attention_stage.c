/* The attention kernel as a leaf stage. */
#include <string.h>

#include "core/device.h"
#include "core/real.h"
#include "mixer/softmax/softmax.h"
#include "mixer/softmax/softmax_cuda.h"

typedef struct stage_plan {
    sti_attention_plan *attention;
    sti_attention_shape shape;
    bool share_q, share_k; /* one query, one key for all heads: a stride of 0, and gradients that are summed */
    size_t grad_off[2];    /* where the work of a call keeps the gradients of shared q and k, heads apart */
} stage_plan;

static void destroy(void *plan)
{
    stage_plan *p = plan;
    if (!p) return;
    sti_attention_plan_destroy(p->attention);
    sti_heap_free(p);
}

/* The array of a buffer (batch, time, heads, dim), or (batch, time, dim) when shared. */
static sti_attention_array array_of(const void *data, int64_t time, int64_t heads, int64_t dim, bool shared)
{
    const int64_t row = shared ? dim : heads * dim;
    sti_attention_array a = { .batch = time * row, .head = shared ? 0 : dim, .time = row };
    memcpy(&a.data, &data, sizeof data); /* const away: the kernel says what it writes */
    return a;
}

static sti_attention_call call_of(const sti_stage *s, const sti_io *io)
{
    const stage_plan *p = s->plan;
    const sti_attention_shape *h = &p->shape;
    const int64_t t = io->time;
    return (sti_attention_call){ .batch = io->batch,
                                 .q_time = t,
                                 .k_time = t,
                                 .q = array_of(io->in[0], t, h->heads, h->d_qk, p->share_q),
                                 .k = array_of(io->in[1], t, h->kv_heads, h->d_qk, p->share_k),
                                 .v = array_of(io->in[2], t, h->kv_heads, h->d_v, false),
                                 .o = array_of(io->out[0], t, h->heads, h->d_v, false),
                                 .lse = { s->saved ? io->saved : NULL, h->heads * t, t, 1 },
                                 .lse_part = io->batch * h->heads * t,
                                 .work = io->work };
}

enum { SEQUENCES = 256 }; /* of one step */

/* Sequence b of an array. */
static sti_attention_array sequence(const sti_attention_array *a, int64_t b, size_t e)
{
    sti_attention_array s = *a;
    s.data = (char *)a->data + (size_t)(b * a->batch) * e;
    return s;
}

static void advance(sti_attention_array *a, size_t e)
{
    a->data = (char *)a->data + (size_t)a->time * e;
}

/* New tokens of sequences that have some already: one after the other. */
static strata_status steps(const sti_stage *s, const sti_io *io)
{
    const stage_plan *p = s->plan;
    const size_t e = strata_dtype_size(s->graph->dtype);
    const sti_attention_call c = call_of(s, io);
    int64_t pos[SEQUENCES];
    for (int64_t b0 = 0; b0 < io->batch; b0 += SEQUENCES) {
        const int64_t batch = STI_MIN(io->batch - b0, SEQUENCES);
        sti_attention_array q = sequence(&c.q, b0, e), k = sequence(&c.k, b0, e), v = sequence(&c.v, b0, e),
                            o = sequence(&c.o, b0, e);
        for (int64_t t = 0; t < io->time; t++) {
            for (int64_t b = 0; b < batch; b++) pos[b] = (io->pos ? io->pos[b0 + b] : 0) + t;
            STI_TRY(sti_attention_step(p->attention, (char *)io->state + (size_t)b0 * io->state_stride,
                                       io->state_stride, pos, batch, &q, &k, &v, &o, io->work));
            advance(&q, e);
            advance(&k, e);
            advance(&v, e);
            advance(&o, e);
        }
    }
    return STRATA_OK;
}

static strata_status forward(const sti_stage *s, const sti_io *io)
{
    const stage_plan *p = s->plan;
    sti_attention_call c = call_of(s, io);
    bool fresh = true;
    for (int64_t b = 0; io->pos && b < io->batch; b++) fresh = fresh && io->pos[b] == 0;
    if (io->state && !p->shape.causal)
        return sti_fail(STRATA_E_UNSUPPORTED, "%s: causal=0 cannot run token by token", s->name);
    if (io->state && (!fresh || io->time == 1)) return steps(s, io);
    sti_attention_forward(p->attention, &c);
    if (!io->state) return STRATA_OK;
    const size_t e = strata_dtype_size(s->graph->dtype);
    for (int64_t b = 0; b < io->batch; b++) {
        const sti_attention_array k = sequence(&c.k, b, e), v = sequence(&c.v, b, e);
        STI_TRY(sti_attention_cache_append(p->attention, (char *)io->state + (size_t)b * io->state_stride, 0, io->time,
                                           &k, &v));
    }
    return STRATA_OK;
}

#define REAL float
#define SFX _f32
#include "mixer/softmax/attention_stage.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64
#include "mixer/softmax/attention_stage.inc"

static void sum_heads(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t heads, int64_t dim,
                      const void *from, void *to, int acc)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        sti_softmax_sum_heads_cuda(ctx, dtype, rows, heads, dim, from, to, acc);
        return;
    }
#endif
    (void)ctx;
    (dtype == STRATA_F64 ? sum_heads_f64 : sum_heads_f32)(rows, heads, dim, from, to, acc);
}

static strata_status backward(const sti_stage *s, const sti_io *io)
{
    const stage_plan *p = s->plan;
    const sti_attention_shape *h = &p->shape;
    const int64_t t = io->time;
    const bool shared[2] = { p->share_q, p->share_k };
    const int64_t heads[2] = { h->heads, h->kv_heads };
    sti_attention_call c = call_of(s, io);
    sti_attention_array *const grad[2] = { &c.dq, &c.dk };
    c.dout = array_of(io->dout[0], t, h->heads, h->d_v, false);
    c.dv = array_of(io->din[2], t, h->kv_heads, h->d_v, false);
    for (int i = 0; i < 2; i++)
        *grad[i] = array_of(shared[i] ? (char *)io->work + p->grad_off[i] : io->din[i], t, heads[i], h->d_qk, false);
    sti_attention_backward(p->attention, &c);
    for (int i = 0; i < 2; i++) {
        if (!shared[i] || !io->din[i]) continue;
        sum_heads(s->graph->ctx, s->graph->dtype, io->batch * t, heads[i], h->d_qk, grad[i]->data, io->din[i],
                  io->acc[i]);
    }
    return STRATA_OK;
}

static void state_init(const sti_stage *s, void *state)
{
    if (sti_on_device(s->graph->ctx)) return; /* zeroed memory is an empty cache there */
    /* cannot fail: the size was asked for the same capacity */
    (void)sti_attention_cache_init(((const stage_plan *)s->plan)->attention, s->graph->time, state);
}

static void cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    const stage_plan *p = s->plan;
    const sti_attention_cost a = sti_attention_count(&p->shape, batch, time, time, 0, 0);
    double width = 0;
    for (int32_t k = 0; k < s->nin; k++) width += (double)s->graph->buffer[s->in[k]].width;
    width += (double)s->graph->buffer[s->out[0]].width;
    c->flops_fwd += a.flops_fwd;
    c->flops_bwd += a.flops_bwd;
    c->exps += a.exps;
    c->bytes_fwd += (double)(batch * time) * width * (double)strata_dtype_size(s->graph->dtype);
}

static const sti_stage_class attention_class = { .kind = "attention",
                                                 .forward = forward,
                                                 .backward = backward,
                                                 .cost = cost,
                                                 .state_init = state_init,
                                                 .destroy = destroy };

const sti_attention_shape *sti_softmax_shape_of(const sti_stage *s)
{
    return s->cls == &attention_class ? &((const stage_plan *)s->plan)->shape : NULL;
}

/* Widths of the buffers, the kernel's plan, and the sizes of work and state. */
static strata_status prepare(const sti_graph *g, const char *name, const sti_attention_shape *shape, sti_stage_desc *d)
{
    const int64_t wide[3] = { shape->heads * shape->d_qk, shape->kv_heads * shape->d_qk, shape->kv_heads * shape->d_v };
    for (int k = 0; k < 3; k++) {
        const int64_t w = g->buffer[d->in[k]].width;
        if (w != wide[k] && (k == 2 || w != shape->d_qk))
            return sti_fail(STRATA_E_SHAPE, "%s: input %d has width %lld, not %lld", name, k, (long long)w,
                            (long long)wide[k]);
    }
    stage_plan *p = sti_heap(sizeof *p);
    if (!p) return sti_fail(STRATA_E_MEMORY, "%s: no memory", name);
    d->plan = p;
    p->shape = *shape;
    p->share_q = g->buffer[d->in[0]].width != wide[0];
    p->share_k = g->buffer[d->in[1]].width != wide[1];
    STI_TRY(sti_attention_plan_create(g->ctx, shape, g->dtype, g->batch, g->chunk, g->chunk, g->train, &p->attention));
    const size_t e = strata_dtype_size(g->dtype), rows = (size_t)(g->batch * g->chunk);
    size_t at = sti_round_up(sti_attention_work(p->attention), STI_ALIGN);
    for (int k = 0; k < 2; k++) {
        p->grad_off[k] = at;
        if (g->train && (k ? p->share_k : p->share_q)) at += sti_round_up(rows * (size_t)wide[k] * e, STI_ALIGN);
    }
    d->work = at;
    d->saved = (size_t)shape->parts * rows * (size_t)shape->heads * strata_dtype_size(sti_sum_type(g->dtype));
    sti_attention_plan_capacity(p->attention, g->time);
    if (shape->causal) {
        size_t payload;
        STI_TRY(sti_attention_cache_size(p->attention, g->time, &d->state, &payload));
        d->state_token_bytes = (double)payload;
        if (g->train) d->state = 0;
    }
    return STRATA_OK;
}

int32_t sti_softmax_attention(sti_graph *g, const char *name, const sti_attention_shape *shape, int32_t q, int32_t k,
                              int32_t v)
{
    if (g->status != STRATA_OK || q < 0 || k < 0 || v < 0) return -1;
    sti_stage_desc d = {
        .cls = &attention_class, .name = name, .nin = 3, .nout = 1, .in = { q, k, v }, .keep_in = 7, .keep_out = 1
    };
    const strata_status s = prepare(g, name, shape, &d);
    if (s != STRATA_OK) {
        destroy(d.plan);
        sti_graph_fail(g, s);
        return -1;
    }
    d.out[0] = sti_graph_buffer(g, shape->heads * shape->d_v);
    return sti_graph_add(g, &d) < 0 ? -1 : d.out[0];
}
