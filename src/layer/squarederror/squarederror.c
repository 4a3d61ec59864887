#include "kernel/squarederror/squarederror.h"

#include "core/device.h"
#include "layer/layer.h"

static strata_status forward(const sti_stage *s, const sti_io *io)
{
    const sti_graph *g = s->graph;
    sti_squarederror_forward(g->ctx, g->dtype, io->batch * io->time, g->buffer[s->in[0]].width, io->in[0], io->in[1],
                             io->out[0]);
    return STRATA_OK;
}

static strata_status backward(const sti_stage *s, const sti_io *io)
{
    const sti_graph *g = s->graph;
    if (io->din[0])
        sti_squarederror_backward(g->ctx, g->dtype, io->batch * io->time, g->buffer[s->in[0]].width, io->in[0],
                                  io->in[1], io->din[0], io->acc[0]);
    return STRATA_OK;
}

static void cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    c->bytes_fwd +=
        2 * (double)(batch * time * s->graph->buffer[s->in[0]].width) * (double)strata_dtype_size(s->graph->dtype);
}

static const sti_stage_class squarederror_class = {
    .kind = "squarederror", .forward = forward, .backward = backward, .cost = cost
};

int32_t sti_graph_squared_error(sti_graph *g, const char *name, int32_t y, int32_t targets)
{
    if (g->status != STRATA_OK || y < 0 || targets < 0) return -1;
    const sti_buffer *a = &g->buffer[y], *b = &g->buffer[targets];
    if (b->dtype != sti_sum_type(g->dtype) || b->width != a->width) {
        sti_graph_fail(g, sti_fail(STRATA_E_SHAPE,
                                   "%s: targets are %s of width %lld, but the outputs want %s of width %lld", name,
                                   strata_dtype_name(b->dtype), (long long)b->width,
                                   strata_dtype_name(sti_sum_type(g->dtype)), (long long)a->width));
        return -1;
    }
    const int32_t out = sti_graph_sum_buffer(g, 2);
    const sti_stage_desc d = { .cls = &squarederror_class,
                               .name = name,
                               .nin = 2,
                               .nout = 1,
                               .in = { y, targets },
                               .out = { out },
                               .keep_in = 3,
                               .no_grad = 2 };
    return sti_graph_add(g, &d) < 0 ? -1 : out;
}

const sti_layer_class sti_layer_class_squarederror = { .kind = "squarederror",
                                                       .role = "stage",
                                                       .summary = "squared error, the loss of models of numbers",
                                                       .keys = STI_NO_KEYS };
