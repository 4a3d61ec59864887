/* The kernel as a leaf stage. */
#include "kernel/rotary/rotary.h"

static int64_t heads_of(const sti_stage *s)
{
    return s->graph->buffer[s->in[0]].width / sti_rotary_width(s->plan);
}

static strata_status stage_forward(const sti_stage *s, const sti_io *io)
{
    return sti_rotary_apply(s->graph->ctx, s->plan, io->batch, io->time, heads_of(s), io->pos, false, false, io->in[0],
                            io->out[0]);
}

static strata_status stage_backward(const sti_stage *s, const sti_io *io)
{
    if (!io->din[0]) return STRATA_OK;
    return sti_rotary_apply(s->graph->ctx, s->plan, io->batch, io->time, heads_of(s), io->pos, true, io->acc[0],
                            io->dout[0], io->din[0]);
}

static void stage_cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    c->bytes_fwd +=
        2.0 * (double)(batch * time * s->graph->buffer[s->in[0]].width) * (double)strata_dtype_size(s->graph->dtype);
}

static const sti_stage_class rotary_class = { .kind = "rotary",
                                              .forward = stage_forward,
                                              .backward = stage_backward,
                                              .cost = stage_cost,
                                              .destroy = sti_rotary_destroy };

int32_t sti_graph_rotary(sti_graph *g, const char *name, int32_t levels, const int64_t *rank, double base, int32_t in)
{
    if (g->status || in < 0) return -1;
    sti_rotary *r;
    strata_status s = sti_rotary_create(g->ctx, g->dtype, levels, rank, base, g->time, &r);
    if (!s && g->buffer[in].width % sti_rotary_width(r) != 0) {
        s = sti_fail(STRATA_E_SHAPE, "%s: width %lld is not a multiple of the head's %lld", name,
                     (long long)g->buffer[in].width, (long long)sti_rotary_width(r));
        sti_rotary_destroy(r);
    }
    if (s) {
        sti_graph_fail(g, s);
        return -1;
    }
    const int32_t out = sti_graph_buffer(g, g->buffer[in].width);
    const sti_stage_desc d = {
        .cls = &rotary_class, .plan = r, .name = name, .nin = 1, .nout = 1, .in = { in }, .out = { out }
    };
    return sti_graph_add(g, &d) < 0 ? -1 : out;
}
