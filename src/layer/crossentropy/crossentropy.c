#include "kernel/crossentropy/crossentropy.h"
#include "core/device.h"
#include "layer/layer.h"

static strata_status forward(const sti_stage *s, const sti_io *io)
{
    const sti_graph *g = s->graph;
    return sti_crossentropy_forward(g->ctx, g->dtype, io->batch * io->time, g->buffer[s->in[0]].width, io->in[0],
                                    io->in[1], s->saved ? io->saved : NULL, io->out[0]);
}

static strata_status backward(const sti_stage *s, const sti_io *io)
{
    const sti_graph *g = s->graph;
    if (io->din[0])
        sti_crossentropy_backward(g->ctx, g->dtype, io->batch * io->time, g->buffer[s->in[0]].width, io->in[0],
                                  io->in[1], io->saved, io->din[0], io->acc[0]);
    return STRATA_OK;
}

static void cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    const double n = (double)(batch * time * s->graph->buffer[s->in[0]].width);
    c->exps += n;
    c->bytes_fwd += n * (double)strata_dtype_size(s->graph->dtype);
}

static const sti_stage_class crossentropy_class = {
    .kind = "crossentropy", .forward = forward, .backward = backward, .cost = cost
};

int32_t sti_graph_cross_entropy(sti_graph *g, const char *name, int32_t logits, int32_t targets)
{
    if (g->status != STRATA_OK || logits < 0 || targets < 0) return -1;
    if (g->buffer[targets].dtype != STRATA_I32 || g->buffer[targets].width != 1) {
        sti_graph_fail(g, sti_fail(STRATA_E_DTYPE, "%s: targets are i32 of width 1, not %s of width %lld", name,
                                   strata_dtype_name(g->buffer[targets].dtype), (long long)g->buffer[targets].width));
        return -1;
    }
    const int32_t out = sti_graph_sum_buffer(g, 2);
    const sti_stage_desc d = { .cls = &crossentropy_class,
                               .name = name,
                               .nin = 2,
                               .nout = 1,
                               .in = { logits, targets },
                               .out = { out },
                               .keep_in = 3,
                               .no_grad = 2,
                               .grad_over = 1,
                               .saved = (size_t)(g->batch * g->time + 1) * strata_dtype_size(sti_sum_type(g->dtype)) };
    return sti_graph_add(g, &d) < 0 ? -1 : out;
}

const sti_layer_class sti_layer_class_crossentropy = { .kind = "crossentropy",
                                                       .role = "stage",
                                                       .summary = "softmax cross-entropy, the loss of text models",
                                                       .keys = STI_NO_KEYS };
