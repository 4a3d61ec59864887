/* The loops as leaf stages. */
#include "kernel/activation/activation.h"

static int64_t elements(const sti_stage *s, const sti_io *io)
{
    return io->batch * io->time * s->graph->buffer[s->in[0]].width;
}

/* The stage's plan is the address of its entry here. */
static const sti_act acts[] = { STI_ACT_GELU, STI_ACT_GELU_TANH, STI_ACT_RELU, STI_ACT_SILU };

static strata_status act_forward(const sti_stage *s, const sti_io *io)
{
    sti_act_forward(s->graph->ctx, s->graph->dtype, *(const sti_act *)s->plan, elements(s, io), io->in[0], io->out[0]);
    return STRATA_OK;
}

static strata_status act_backward(const sti_stage *s, const sti_io *io)
{
    if (io->din[0])
        sti_act_backward(s->graph->ctx, s->graph->dtype, *(const sti_act *)s->plan, elements(s, io), io->in[0],
                         io->dout[0], io->din[0], io->acc[0]);
    return STRATA_OK;
}

/* One exponential an element (relu has none). */
static void act_cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    const double n = (double)(batch * time * s->graph->buffer[s->in[0]].width);
    if (!s->plan || *(const sti_act *)s->plan != STI_ACT_RELU) c->exps += n;
    c->bytes_fwd += (s->nin + 1) * n * (double)strata_dtype_size(s->graph->dtype);
}

static strata_status gate_forward(const sti_stage *s, const sti_io *io)
{
    sti_gate_forward(s->graph->ctx, s->graph->dtype, elements(s, io), io->in[0], io->in[1], io->out[0]);
    return STRATA_OK;
}

static strata_status gate_backward(const sti_stage *s, const sti_io *io)
{
    sti_gate_backward(s->graph->ctx, s->graph->dtype, elements(s, io), io->in[0], io->in[1], io->dout[0], io->din[0],
                      io->acc[0], io->din[1], io->acc[1]);
    return STRATA_OK;
}

static const sti_stage_class act_class = {
    .kind = "activation", .forward = act_forward, .backward = act_backward, .cost = act_cost
};
static const sti_stage_class gate_class = {
    .kind = "gate", .forward = gate_forward, .backward = gate_backward, .cost = act_cost
};

int32_t sti_graph_activation(sti_graph *g, const char *name, sti_act act, int32_t in)
{
    if (g->status || in < 0) return -1;
    const int32_t out = sti_graph_buffer(g, g->buffer[in].width);
    const sti_stage_desc d = { .cls = &act_class,
                               .plan = (void *)(uintptr_t)&acts[act],
                               .name = name,
                               .nin = 1,
                               .nout = 1,
                               .in = { in },
                               .out = { out },
                               .keep_in = 1 };
    return sti_graph_add(g, &d) < 0 ? -1 : out;
}

int32_t sti_graph_gate(sti_graph *g, const char *name, int32_t a, int32_t b)
{
    if (g->status || a < 0 || b < 0) return -1;
    if (g->buffer[a].width != g->buffer[b].width) {
        sti_graph_fail(g, sti_fail(STRATA_E_SHAPE, "%s: gate of width %lld and input of width %lld", name,
                                   (long long)g->buffer[a].width, (long long)g->buffer[b].width));
        return -1;
    }
    const int32_t out = sti_graph_buffer(g, g->buffer[a].width);
    const sti_stage_desc d = {
        .cls = &gate_class, .name = name, .nin = 2, .nout = 1, .in = { a, b }, .out = { out }, .keep_in = 3
    };
    return sti_graph_add(g, &d) < 0 ? -1 : out;
}
