#include <string.h>

#include "backend/cpu/threads.h"
#include "core/device.h"
#include "core/real.h"
#include "layer/layer.h"
#include "layer/positions/positions_cuda.h"

/* out = in + P[pos + t]; dP[t] sums over the sequences in order. */
#define REAL float
#define SFX _f32
#include "layer/positions/positions.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64
#include "layer/positions/positions.inc"

typedef struct table {
    int64_t context, width;
} table;

static strata_status forward(const sti_stage *s, const sti_io *io)
{
    const table *t = s->plan;
    for (int64_t b = 0; b < io->batch; b++) {
        const int64_t first = io->pos ? io->pos[b] : 0;
        if (first < 0 || first > t->context - io->time)
            return sti_fail(STRATA_E_SPACE, "%s: position %lld, but learned positions end at context=%lld", s->name,
                            (long long)(first + io->time - 1), (long long)t->context);
    }
#if STRATA_HAVE_CUDA
    if (sti_on_device(s->graph->ctx)) {
        sti_positions_forward_cuda(s->graph->ctx, s->graph->dtype, io->batch, io->time, t->width, io->pos, io->master,
                                   io->in[0], io->out[0]);
        return STRATA_OK;
    }
#endif
#pragma omp parallel for num_threads(sti_threads_for(s->graph->ctx, io->batch * io->time * t->width, 16384))
    for (int64_t i = 0; i < io->batch * io->time; i++) {
        const int64_t at = (io->pos ? io->pos[i / io->time] : 0) + i % io->time;
        if (s->graph->dtype == STRATA_F64)
            add_row_f64(t->width, io->in[0], i, io->params, at, io->out[0]);
        else
            add_row_f32(t->width, io->in[0], i, io->params, at, io->out[0]);
    }
    return STRATA_OK;
}

static strata_status backward(const sti_stage *s, const sti_io *io)
{
    const table *t = s->plan;
    void *din = io->acc[0] || io->din[0] != io->dout[0] ? io->din[0] : NULL; /* the planner may give both one block */
#if STRATA_HAVE_CUDA
    if (sti_on_device(s->graph->ctx)) {
        sti_positions_backward_cuda(s->graph->ctx, s->graph->dtype, io->batch, io->time, t->width, io->dout[0],
                                    io->dparams, din, io->acc[0]);
        return STRATA_OK;
    }
#endif
#pragma omp parallel for num_threads(sti_threads_for(s->graph->ctx, io->batch * io->time * t->width, 16384))
    for (int64_t at = 0; at < io->time; at++) {
        if (s->graph->dtype == STRATA_F64)
            grad_rows_f64(t->width, io->batch, io->time, at, io->dout[0], io->dparams, din, io->acc[0]);
        else
            grad_rows_f32(t->width, io->batch, io->time, at, io->dout[0], io->dparams, din, io->acc[0]);
    }
    return STRATA_OK;
}

static void cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    const double e = (double)strata_dtype_size(s->graph->dtype), w = (double)((const table *)s->plan)->width;
    c->bytes_fwd += (double)(2 * batch * time + time) * w * e;
}

static const sti_stage_class positions_class = {
    .kind = "positions", .forward = forward, .backward = backward, .cost = cost, .destroy = sti_heap_free
};

int32_t sti_graph_positions(sti_graph *g, const char *name, int64_t context, int64_t width, int32_t in)
{
    if (g->status != STRATA_OK || in < 0) return -1;
    const int64_t shape[] = { context, width };
    sti_params params = { 0 };
    table *t = sti_heap(sizeof *t);
    strata_status s = t ? STRATA_OK : sti_fail(STRATA_E_MEMORY, "%s: no memory", name);
    if (!s && (context < 1 || g->buffer[in].width != width))
        s = sti_fail(STRATA_E_SHAPE, "%s: %lld positions of width %lld for an input of width %lld", name,
                     (long long)context, (long long)width, (long long)g->buffer[in].width);
    if (!s) s = sti_params_add(&params, "weight", 2, shape, STI_INIT_NORMAL, 0.02, 0.5, 1.0);
    int32_t out = -1;
    if (s) {
        sti_heap_free(t);
        sti_graph_fail(g, s);
    } else {
        *t = (table){ context, width };
        out = sti_graph_buffer(g, width);
        const sti_stage_desc d = { .cls = &positions_class,
                                   .plan = t,
                                   .name = name,
                                   .params = &params,
                                   .nin = 1,
                                   .nout = 1,
                                   .in = { in },
                                   .out = { out },
                                   .pass_grad = 1 };
        if (sti_graph_add(g, &d) < 0) out = -1;
    }
    sti_params_free(&params);
    return out;
}

const sti_layer_class sti_layer_class_positions = {
    .kind = "positions", .role = "stage", .summary = "learned absolute positions", .keys = STI_NO_KEYS
};
