#include <string.h>

#include "backend/cpu/threads.h"
#include "core/device.h"
#include "core/real.h"
#include "layer/lag/lag_cuda.h"
#include "layer/layer.h"

#define REAL float
#define SFX _f32
#include "layer/lag/lag.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64
#include "layer/lag/lag.inc"

typedef struct lag {
    int64_t in, out, period;
} lag;

static strata_status forward(const sti_stage *s, const sti_io *io)
{
    const lag *l = s->plan;
    const int64_t rows = io->batch * io->time;
#if STRATA_HAVE_CUDA
    if (sti_on_device(s->graph->ctx)) {
        sti_lag_forward_cuda(s->graph->ctx, s->graph->dtype, rows, l->in, l->period, l->out, io->in[0], io->out[0]);
        return STRATA_OK;
    }
#endif
#pragma omp parallel for num_threads(sti_threads_for(s->graph->ctx, rows * l->out, 16384))
    for (int64_t i = 0; i < rows; i++)
        if (s->graph->dtype == STRATA_F64)
            repeat_f64(l->in, l->period, l->out, (const double *)io->in[0] + i * l->in,
                       (double *)io->out[0] + i * l->out);
        else
            repeat_f32(l->in, l->period, l->out, (const float *)io->in[0] + i * l->in,
                       (float *)io->out[0] + i * l->out);
    return STRATA_OK;
}

static strata_status backward(const sti_stage *s, const sti_io *io)
{
    const lag *l = s->plan;
    const int64_t rows = io->batch * io->time;
    if (!io->din[0]) return STRATA_OK;
#if STRATA_HAVE_CUDA
    if (sti_on_device(s->graph->ctx)) {
        sti_lag_backward_cuda(s->graph->ctx, s->graph->dtype, rows, l->in, l->period, l->out, io->dout[0], io->acc[0],
                              io->din[0]);
        return STRATA_OK;
    }
#endif
#pragma omp parallel for num_threads(sti_threads_for(s->graph->ctx, rows * l->in, 16384))
    for (int64_t i = 0; i < rows; i++)
        if (s->graph->dtype == STRATA_F64)
            gather_f64(l->in, l->period, l->out, (const double *)io->dout[0] + i * l->out, io->acc[0],
                       (double *)io->din[0] + i * l->in);
        else
            gather_f32(l->in, l->period, l->out, (const float *)io->dout[0] + i * l->out, io->acc[0],
                       (float *)io->din[0] + i * l->in);
    return STRATA_OK;
}

static void cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    const lag *l = s->plan;
    c->bytes_fwd += (double)(batch * time * (l->period + l->out)) * (double)strata_dtype_size(s->graph->dtype);
}

static const sti_stage_class lag_class = {
    .kind = "lag", .forward = forward, .backward = backward, .cost = cost, .destroy = sti_heap_free
};

int32_t sti_graph_lag(sti_graph *g, const char *name, int64_t period, int64_t width, int32_t in)
{
    if (g->status != STRATA_OK || in < 0) return -1;
    const int64_t n = g->buffer[in].width;
    if (period < 1 || period > n || width < 1) {
        sti_graph_fail(g, sti_fail(STRATA_E_SHAPE, "%s: a period of %lld, but there are %lld numbers to repeat", name,
                                   (long long)period, (long long)n));
        return -1;
    }
    lag *l = sti_heap(sizeof *l);
    if (!l) {
        sti_graph_fail(g, sti_fail(STRATA_E_MEMORY, "%s: no memory", name));
        return -1;
    }
    *l = (lag){ n, width, period };
    const int32_t out = sti_graph_buffer(g, width);
    const sti_stage_desc d = {
        .cls = &lag_class, .plan = l, .name = name, .nin = 1, .nout = 1, .in = { in }, .out = { out }
    };
    return sti_graph_add(g, &d) < 0 ? -1 : out;
}

const sti_layer_class sti_layer_class_lag = {
    .kind = "lag", .role = "stage", .summary = "the last numbers of a row, repeated", .keys = STI_NO_KEYS
};
