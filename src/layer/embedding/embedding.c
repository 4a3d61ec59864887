#include <string.h>

#include "backend/cpu/threads.h"
#include "core/device.h"
#include "layer/embedding/embedding_cuda.h"
#include "layer/layer.h"

enum { SLICE = 16 }; /* columns of one backward task: a cache line of f32 */

/* The plan is only the size of the table. */
typedef struct table {
    int64_t vocab, width;
} table;

static strata_status forward(const sti_stage *s, const sti_io *io)
{
    const table *t = s->plan;
    const int32_t *token = io->in[0];
    const int64_t rows = io->batch * io->time;
    const size_t row = (size_t)t->width * strata_dtype_size(s->graph->dtype);
#if STRATA_HAVE_CUDA
    if (sti_on_device(s->graph->ctx)) { /* ids on a device were checked before their upload */
        sti_embedding_forward_cuda(s->graph->ctx, s->graph->dtype, rows, t->width, token, io->params, io->out[0]);
        return STRATA_OK;
    }
#endif
    for (int64_t i = 0; i < rows; i++)
        if (token[i] < 0 || token[i] >= t->vocab)
            return sti_fail(STRATA_E_INVALID, "%s: token %d at %lld is outside the vocabulary of %lld", s->name,
                            (int)token[i], (long long)i, (long long)t->vocab);
#pragma omp parallel for num_threads(sti_threads_for(s->graph->ctx, rows * t->width, 16384))
    for (int64_t i = 0; i < rows; i++)
        memcpy((char *)io->out[0] + (size_t)i * row, (const char *)io->params + (size_t)token[i] * row, row);
    return STRATA_OK;
}

/* Threads share out the columns, so every element is summed in the order of the tokens. */
static strata_status backward(const sti_stage *s, const sti_io *io)
{
    if (!io->dparams) return STRATA_OK;
    const table *t = s->plan;
    const int32_t *token = io->in[0];
    const int64_t rows = io->batch * io->time, slices = sti_ceil_div(t->width, SLICE), w = t->width;
#if STRATA_HAVE_CUDA
    if (sti_on_device(s->graph->ctx)) {
        sti_embedding_backward_cuda(s->graph->ctx, s->graph->dtype, rows, w, token, io->dout[0], io->dparams, io->work);
        return STRATA_OK;
    }
#endif
#pragma omp parallel for num_threads(sti_threads_for(s->graph->ctx, rows *w, 16384))
    for (int64_t k = 0; k < slices; k++) {
        const int64_t first = k * SLICE, last = STI_MIN(first + SLICE, w);
        for (int64_t i = 0; i < rows; i++)
            if (s->graph->dtype == STRATA_F64)
                for (int64_t j = first; j < last; j++)
                    ((double *)io->dparams)[token[i] * w + j] += ((const double *)io->dout[0])[i * w + j];
            else
                for (int64_t j = first; j < last; j++)
                    ((float *)io->dparams)[token[i] * w + j] += ((const float *)io->dout[0])[i * w + j];
    }
    return STRATA_OK;
}

static void cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    c->bytes_fwd +=
        2.0 * (double)(batch * time * ((const table *)s->plan)->width) * (double)strata_dtype_size(s->graph->dtype);
}

static const sti_stage_class embedding_class = {
    .kind = "embedding", .forward = forward, .backward = backward, .cost = cost, .destroy = sti_heap_free
};

int32_t sti_graph_embedding(sti_graph *g, const char *name, int64_t vocab, int64_t width, int32_t tokens)
{
    if (g->status != STRATA_OK || tokens < 0) return -1;
    const int64_t shape[] = { vocab, width };
    sti_params params = { 0 };
    table *t = sti_heap(sizeof *t);
    strata_status s = t ? STRATA_OK : sti_fail(STRATA_E_MEMORY, "%s: no memory", name);
    if (!s && (vocab < 1 || vocab > INT32_MAX || width < 1))
        s = sti_fail(STRATA_E_SHAPE, "%s: a vocabulary of %lld, width %lld", name, (long long)vocab, (long long)width);
    if (!s && (g->buffer[tokens].dtype != STRATA_I32 || g->buffer[tokens].width != 1))
        s = sti_fail(STRATA_E_DTYPE, "%s: tokens are i32 of width 1, not %s of width %lld", name,
                     strata_dtype_name(g->buffer[tokens].dtype), (long long)g->buffer[tokens].width);
    if (!s) s = sti_params_add(&params, "weight", 2, shape, STI_INIT_NORMAL, 0.02, 0.5, 1.0);
    int32_t out = -1;
    if (s) {
        sti_heap_free(t);
        sti_graph_fail(g, s);
    } else {
        *t = (table){ vocab, width };
        out = sti_graph_buffer(g, width);
        size_t work = 0;
#if STRATA_HAVE_CUDA
        if (g->train && sti_on_device(g->ctx)) work = sti_embedding_work_cuda(g->dtype, g->batch * g->chunk, width);
#endif
        const sti_stage_desc d = { .cls = &embedding_class,
                                   .plan = t,
                                   .name = name,
                                   .params = &params,
                                   .nin = 1,
                                   .nout = 1,
                                   .in = { tokens },
                                   .out = { out },
                                   .keep_in = 1,
                                   .no_grad = 1,
                                   .work = work };
        if (sti_graph_add(g, &d) < 0) out = -1;
    }
    sti_params_free(&params);
    return out;
}

const sti_layer_class sti_layer_class_embedding = {
    .kind = "embedding", .role = "stage", .summary = "token ids to rows of a table", .keys = STI_NO_KEYS
};
