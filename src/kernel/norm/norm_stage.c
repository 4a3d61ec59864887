/* The kernel as a leaf stage. */
#include "core/context.h"
#include "kernel/norm/norm.h"

static int64_t rows_of(const sti_stage *s, const sti_io *io)
{
    return io->batch * io->time * (s->graph->buffer[s->in[0]].width / ((const sti_norm *)s->plan)->width);
}

/* Element offset of the bias, which follows the gain. */
static size_t bias_bytes(const sti_stage *s)
{
    const sti_graph *g = s->graph;
    return (size_t)(g->params.p[s->param_first + 1].offset - s->param_base) * strata_dtype_size(g->dtype);
}

static strata_status norm_forward(const sti_stage *s, const sti_io *io)
{
    const sti_norm *n = s->plan;
    const void *bias = n->bias ? (const char *)io->params + bias_bytes(s) : NULL;
    sti_norm_forward(s->graph->ctx, s->graph->dtype, n, rows_of(s, io), io->in[0], io->params, bias, io->out[0],
                     io->saved);
    return STRATA_OK;
}

static strata_status norm_backward(const sti_stage *s, const sti_io *io)
{
    const sti_norm *n = s->plan;
    void *dbias = n->bias && io->dparams ? (char *)io->dparams + bias_bytes(s) : NULL;
    sti_norm_backward(s->graph->ctx, s->graph->dtype, n, rows_of(s, io), io->in[0], io->params, io->saved, io->dout[0],
                      io->din[0], io->acc[0], io->dparams, dbias, io->work);
    return STRATA_OK;
}

static void norm_cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    c->bytes_fwd +=
        2.0 * (double)(batch * time * s->graph->buffer[s->in[0]].width) * (double)strata_dtype_size(s->graph->dtype);
}

static const sti_stage_class norm_class = {
    .kind = "norm", .forward = norm_forward, .backward = norm_backward, .cost = norm_cost, .destroy = sti_heap_free
};

int32_t sti_graph_norm(sti_graph *g, const char *name, const sti_norm *n, int32_t in)
{
    if (g->status || in < 0) return -1;
    const int64_t width = g->buffer[in].width;
    sti_params params = { 0 };
    sti_norm *plan = NULL;
    strata_status s = STRATA_OK;
    if (n->width < 1 || width % n->width != 0)
        s = sti_fail(STRATA_E_SHAPE, "%s: input width %lld is not a multiple of the norm's width %lld", name,
                     (long long)width, (long long)n->width);
    if (!s && !(plan = sti_heap(sizeof *plan))) s = sti_fail(STRATA_E_MEMORY, "%s: out of memory", name);
    if (!s) s = sti_params_add(&params, "weight", 1, &n->width, STI_INIT_CONST, 1.0, 0.5, 1.0);
    if (!s && n->bias) s = sti_params_add(&params, "bias", 1, &n->width, STI_INIT_CONST, 0.0, 0.5, 1.0);
    if (s) {
        sti_heap_free(plan);
        sti_params_free(&params);
        sti_graph_fail(g, s);
        return -1;
    }
    *plan = *n;
    const int32_t out = sti_graph_buffer(g, width);
    const int64_t rows = g->batch * g->time * (width / n->width);
    const sti_stage_desc d = { .cls = &norm_class,
                               .plan = plan,
                               .name = name,
                               .params = &params,
                               .nin = 1,
                               .nout = 1,
                               .in = { in },
                               .out = { out },
                               .keep_in = 1,
                               .saved = (size_t)rows * 2 * strata_dtype_size(g->dtype),
                               .work = sti_norm_work(n->width) };
    const int32_t stage = sti_graph_add(g, &d);
    sti_params_free(&params);
    return stage < 0 ? -1 : out;
}
