#include "backend/cpu/threads.h"
#include "core/device.h"
#include "core/real.h"
#include "layer/decompose/decompose_cuda.h"
#include "layer/layer.h"

#define REAL float
#define SFX _f32
#include "layer/decompose/decompose.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64
#include "layer/decompose/decompose.inc"

typedef struct decompose {
    int64_t n, half;
} decompose;

/* Row i of a buffer, NULL when there is none. */
static void *row(const sti_stage *s, const void *base, int64_t i)
{
    const decompose *d = s->plan;
    if (!base) return NULL;
    return (char *)(uintptr_t)base + (size_t)(i * d->n) * strata_dtype_size(s->graph->dtype);
}

static strata_status forward(const sti_stage *s, const sti_io *io)
{
    const decompose *d = s->plan;
    const int64_t rows = io->batch * io->time;
#if STRATA_HAVE_CUDA
    if (sti_on_device(s->graph->ctx)) {
        sti_decompose_forward_cuda(s->graph->ctx, s->graph->dtype, rows, d->n, d->half, io->in[0], io->out[0],
                                   io->out[1]);
        return STRATA_OK;
    }
#endif
#pragma omp parallel for num_threads(sti_threads_for(s->graph->ctx, rows * d->n * d->half, 16384))
    for (int64_t i = 0; i < rows; i++) {
        const void *x = row(s, io->in[0], i);
        void *trend = row(s, io->out[0], i), *rest = row(s, io->out[1], i);
        if (s->graph->dtype == STRATA_F64)
            split_f64(d->n, d->half, x, trend, rest);
        else
            split_f32(d->n, d->half, x, trend, rest);
    }
    return STRATA_OK;
}

static strata_status backward(const sti_stage *s, const sti_io *io)
{
    const decompose *d = s->plan;
    const int64_t rows = io->batch * io->time;
    if (!io->din[0]) return STRATA_OK;
#if STRATA_HAVE_CUDA
    if (sti_on_device(s->graph->ctx)) {
        sti_decompose_backward_cuda(s->graph->ctx, s->graph->dtype, rows, d->n, d->half, io->dout[0], io->dout[1],
                                    io->acc[0], io->din[0]);
        return STRATA_OK;
    }
#endif
#pragma omp parallel for num_threads(sti_threads_for(s->graph->ctx, rows * d->n * d->half, 16384))
    for (int64_t i = 0; i < rows; i++) {
        const void *dtrend = row(s, io->dout[0], i), *drest = row(s, io->dout[1], i);
        void *dx = row(s, io->din[0], i);
        if (s->graph->dtype == STRATA_F64)
            join_f64(d->n, d->half, dtrend, drest, io->acc[0], dx);
        else
            join_f32(d->n, d->half, dtrend, drest, io->acc[0], dx);
    }
    return STRATA_OK;
}

static void cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    const decompose *d = s->plan;
    c->bytes_fwd += 3.0 * (double)(batch * time * d->n) * (double)strata_dtype_size(s->graph->dtype);
}

static const sti_stage_class decompose_class = {
    .kind = "decompose", .forward = forward, .backward = backward, .cost = cost, .destroy = sti_heap_free
};

void sti_graph_decompose(sti_graph *g, const char *name, int64_t length, int32_t in, int32_t *trend, int32_t *rest)
{
    *trend = *rest = -1;
    if (g->status != STRATA_OK || in < 0) return;
    if (length < 1 || length % 2 == 0) {
        sti_graph_fail(g, sti_fail(STRATA_E_SPEC, "%s: an average over %lld numbers; the length must be odd", name,
                                   (long long)length));
        return;
    }
    decompose *d = sti_heap(sizeof *d);
    if (!d) {
        sti_graph_fail(g, sti_fail(STRATA_E_MEMORY, "%s: no memory", name));
        return;
    }
    const int64_t n = g->buffer[in].width;
    *d = (decompose){ n, length / 2 };
    const int32_t a = sti_graph_buffer(g, n), b = sti_graph_buffer(g, n);
    const sti_stage_desc desc = {
        .cls = &decompose_class, .plan = d, .name = name, .nin = 1, .nout = 2, .in = { in }, .out = { a, b }
    };
    if (sti_graph_add(g, &desc) < 0) return;
    *trend = a;
    *rest = b;
}

const sti_layer_class sti_layer_class_decompose = {
    .kind = "decompose", .role = "stage", .summary = "a row as a moving average and the rest", .keys = STI_NO_KEYS
};
