/* The attention kernel as a leaf stage. */
#include <string.h>

#include "core/context.h"
#include "core/real.h"
#include "mixer/softmax/softmax.h"

typedef struct stage_plan {
    sti_attention_plan *attention;
    sti_attention_shape shape;
    bool share_q, share_k; /* one query, one key for all heads: a stride of 0, and gradients that are summed */
    size_t grad_off[2];    /* where the work of a call keeps the gradients of shared q and k, heads apart */
    size_t pos_off;        /* and the positions of a step */
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

/* New tokens of sequences that have some already: one after the other. */
static strata_status steps(const sti_stage *s, const sti_io *io)
{
    const stage_plan *p = s->plan;
    const size_t e = strata_dtype_size(s->graph->dtype);
    int64_t *pos = (int64_t *)(void *)((char *)io->work + p->pos_off);
    sti_attention_call c = call_of(s, io);
    for (int64_t t = 0; t < io->time; t++) {
        for (int64_t b = 0; b < io->batch; b++) pos[b] = (io->pos ? io->pos[b] : 0) + t;
        STI_TRY(sti_attention_step(p->attention, io->state, io->state_stride, pos, io->batch, &c.q, &c.k, &c.v, &c.o,
                                   io->work));
        c.q.data = (char *)c.q.data + (size_t)c.q.time * e;
        c.k.data = (char *)c.k.data + (size_t)c.k.time * e;
        c.v.data = (char *)c.v.data + (size_t)c.v.time * e;
        c.o.data = (char *)c.o.data + (size_t)c.o.time * e;
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
        sti_attention_array k = c.k, v = c.v;
        k.data = (char *)k.data + (size_t)(b * k.batch) * e;
        v.data = (char *)v.data + (size_t)(b * v.batch) * e;
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
        if (s->graph->dtype == STRATA_F64)
            sum_heads_f64(io->batch * t, heads[i], h->d_qk, grad[i]->data, io->din[i], io->acc[i]);
        else
            sum_heads_f32(io->batch * t, heads[i], h->d_qk, grad[i]->data, io->din[i], io->acc[i]);
    }
    return STRATA_OK;
}

static void state_init(const sti_stage *s, void *state)
{
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
    p->pos_off = at;
    d->work = at + (size_t)g->batch * sizeof(int64_t);
    for (int32_t k = 0; k < shape->parts; k++) d->saved += rows * (size_t)shape->heads * e;
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
