#include <string.h>

#include "backend/cpu/threads.h"
#include "core/device.h"
#include "layer/layer.h"
#include "layer/sum/sum_cuda.h"

enum { BLOCK = 4096 };

#define SUM(T)                                                                                                         \
    static void add_##T(int64_t n, const void *av, const void *bv, void *yv)                                           \
    {                                                                                                                  \
        const T *a = av, *b = bv;                                                                                      \
        T *y = yv;                                                                                                     \
        for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];                                                            \
    }
SUM(float)
SUM(double)
#undef SUM

/* y = a + b, or y = a when b is NULL. y may be a. */
static void combine(const sti_stage *s, const sti_io *io, const void *a, const void *b, void *y)
{
    const sti_graph *g = s->graph;
    const int64_t n = io->batch * io->time * g->buffer[s->out[0]].width, blocks = sti_ceil_div(n, BLOCK);
    const size_t e = strata_dtype_size(g->dtype);
#if STRATA_HAVE_CUDA
    if (sti_on_device(g->ctx)) {
        if (b)
            sti_sum_cuda(g->ctx, g->dtype, n, a, b, y);
        else
            sti_array_copy(g->ctx, y, a, (size_t)n * e);
        return;
    }
#endif
#pragma omp parallel for num_threads(sti_threads_for(g->ctx, blocks, 2))
    for (int64_t k = 0; k < blocks; k++) {
        const int64_t count = STI_MIN(BLOCK, n - k * BLOCK);
        const size_t o = (size_t)k * BLOCK * e;
        const char *ak = (const char *)a + o, *bk = b ? (const char *)b + o : NULL;
        char *yk = (char *)y + o;
        if (!bk)
            memcpy(yk, ak, (size_t)count * e);
        else if (g->dtype == STRATA_F64)
            add_double(count, ak, bk, yk);
        else
            add_float(count, ak, bk, yk);
    }
}

static strata_status forward(const sti_stage *s, const sti_io *io)
{
    combine(s, io, io->in[0], io->in[1], io->out[0]);
    return STRATA_OK;
}

/* Mostly nothing: the planner lets the three gradients share memory where it can. */
static strata_status backward(const sti_stage *s, const sti_io *io)
{
    for (int k = 0; k < 2; k++)
        if (io->din[k] && (io->acc[k] || io->din[k] != io->dout[0]))
            combine(s, io, io->dout[0], io->acc[k] ? io->din[k] : NULL, io->din[k]);
    return STRATA_OK;
}

static void cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    c->bytes_fwd +=
        3.0 * (double)(batch * time * s->graph->buffer[s->out[0]].width) * (double)strata_dtype_size(s->graph->dtype);
}

static const sti_stage_class sum_class = { .kind = "sum", .forward = forward, .backward = backward, .cost = cost };

int32_t sti_graph_sum(sti_graph *g, const char *name, int32_t a, int32_t b)
{
    if (g->status != STRATA_OK || a < 0 || b < 0) return -1;
    if (g->buffer[a].width != g->buffer[b].width) {
        sti_graph_fail(g, sti_fail(STRATA_E_SHAPE, "%s: widths %lld and %lld do not add", name,
                                   (long long)g->buffer[a].width, (long long)g->buffer[b].width));
        return -1;
    }
    const int32_t out = sti_graph_buffer(g, g->buffer[a].width);
    const sti_stage_desc d = { .cls = &sum_class,
                               .name = name,
                               .nin = 2,
                               .nout = 1,
                               .in = { a, b },
                               .out = { out },
                               .pass_grad = 3,
                               .is_sum = 1 };
    return sti_graph_add(g, &d) < 0 ? -1 : out;
}

const sti_layer_class sti_layer_class_sum = {
    .kind = "sum", .role = "stage", .summary = "residual sum: out = a + b", .keys = STI_NO_KEYS
};
