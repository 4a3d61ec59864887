#include "core/device.h"
#include "core/name.h"
#include "kernel/gemm/gemm.h"
#include "layer/head/head_cuda.h"
#include "layer/layer.h"
#include "operator/operator.h"

/* Two leaf stages: logits = scale * W in with a weight that belongs to the embedding, and out = scale * in. */
typedef struct head {
    int64_t vocab, width;
    double scale;
} head;

static strata_status tied_forward(const sti_stage *s, const sti_io *io)
{
    const head *h = s->plan;
    sti_gemm(s->graph->ctx, s->graph->dtype, false, true, io->batch * io->time, h->vocab, h->width, h->scale, io->in[0],
             h->width, io->params, h->width, 0, io->out[0], h->vocab);
    return STRATA_OK;
}

static strata_status tied_backward(const sti_stage *s, const sti_io *io)
{
    const head *h = s->plan;
    const int64_t rows = io->batch * io->time;
    if (io->dparams)
        sti_gemm_sum(s->graph->ctx, s->graph->dtype, true, false, h->vocab, h->width, rows, h->scale, io->dout[0],
                     h->vocab, io->in[0], h->width, 1, io->dparams, h->width);
    if (io->din[0])
        sti_gemm(s->graph->ctx, s->graph->dtype, false, false, rows, h->width, h->vocab, h->scale, io->dout[0],
                 h->vocab, io->params, h->width, io->acc[0] ? 1 : 0, io->din[0], h->width);
    return STRATA_OK;
}

static void tied_cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    const head *h = s->plan;
    const double rows = (double)(batch * time), w = (double)h->width, v = (double)h->vocab;
    c->flops_fwd += 2 * rows * w * v;
    c->flops_bwd += 4 * rows * w * v;
    c->bytes_fwd += (rows * (w + v) + w * v) * (double)strata_dtype_size(s->graph->dtype);
}

/* y = scale * x, or y += */
static void scaled(const sti_stage *s, const sti_io *io, const void *x, int acc, void *y)
{
    const head *h = s->plan;
    const int64_t n = io->batch * io->time * h->vocab;
#if STRATA_HAVE_CUDA
    if (sti_on_device(s->graph->ctx)) {
        sti_scale_cuda(s->graph->ctx, s->graph->dtype, n, h->scale, x, acc, y);
        return;
    }
#endif
    if (s->graph->dtype == STRATA_F64)
        for (int64_t i = 0; i < n; i++)
            ((double *)y)[i] = h->scale * ((const double *)x)[i] + (acc ? ((double *)y)[i] : 0);
    else
        for (int64_t i = 0; i < n; i++)
            ((float *)y)[i] = (float)h->scale * ((const float *)x)[i] + (acc ? ((float *)y)[i] : 0);
}

static strata_status scale_forward(const sti_stage *s, const sti_io *io)
{
    scaled(s, io, io->in[0], 0, io->out[0]);
    return STRATA_OK;
}

static strata_status scale_backward(const sti_stage *s, const sti_io *io)
{
    if (io->din[0]) scaled(s, io, io->dout[0], io->acc[0], io->din[0]);
    return STRATA_OK;
}

static const sti_stage_class tied_class = {
    .kind = "tied head", .forward = tied_forward, .backward = tied_backward, .cost = tied_cost, .destroy = sti_heap_free
};
static const sti_stage_class scale_class = {
    .kind = "scale", .forward = scale_forward, .backward = scale_backward, .destroy = sti_heap_free
};

static int32_t add(sti_graph *g, const char *name, const sti_stage_class *cls, head h, int32_t in, int32_t tie)
{
    if (g->status != STRATA_OK || in < 0) return -1;
    head *plan = sti_heap(sizeof *plan);
    if (!plan) {
        sti_graph_fail(g, sti_fail(STRATA_E_MEMORY, "%s: no memory", name));
        return -1;
    }
    *plan = h;
    const int32_t out = sti_graph_buffer(g, h.vocab);
    const sti_stage_desc d = { .cls = cls,
                               .plan = plan,
                               .name = name,
                               .tie = tie,
                               .nin = 1,
                               .nout = 1,
                               .in = { in },
                               .out = { out },
                               .keep_in = cls == &tied_class };
    return sti_graph_add(g, &d) < 0 ? -1 : out;
}

int32_t sti_graph_head(sti_graph *g, const char *name, const sti_spec *op, int64_t vocab, int32_t in, int32_t tie,
                       double scale)
{
    if (g->status != STRATA_OK || in < 0) return -1;
    const head h = { vocab, g->buffer[in].width, scale };
    if (tie) {
        const sti_param *p = tie > 0 && tie <= g->params.count ? &g->params.p[tie - 1] : NULL;
        if (!p || p->ndim != 2 || p->shape[0] != vocab || p->shape[1] != h.width) {
            sti_graph_fail(g, sti_fail(STRATA_E_SHAPE, "%s: tied to %s, which is not a (%lld, %lld) table", name,
                                       p ? p->name : "no parameter", (long long)vocab, (long long)h.width));
            return -1;
        }
        return add(g, name, &tied_class, h, in, tie);
    }
    const int32_t logits = sti_graph_linear(g, name, op, vocab, in, false, true);
    if (scale < 1 || scale > 1) return add(g, sti_name_join(name, "scale").s, &scale_class, h, logits, 0);
    return logits;
}

const sti_layer_class sti_layer_class_head = {
    .kind = "head", .role = "stage", .summary = "logits: a linear layer, or the embedding's table", .keys = STI_NO_KEYS
};
