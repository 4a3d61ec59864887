/* The projection of bilinear MLR scoring (softmax.h has its shape). */
#include <math.h>
#include <stdio.h>

#include "core/context.h"
#include "kernel/gemm/gemm.h"
#include "mixer/softmax/gather.h"
#include "mixer/softmax/softmax.h"

typedef struct stage_plan {
    int64_t width, heads, features; /* of x; of one head */
    int32_t levels;
    int64_t rank[STI_ATTENTION_LEVELS], offset[STI_ATTENTION_LEVELS]; /* first feature of a level in a head */
    int64_t param[STI_ATTENTION_LEVELS];                              /* element offset of a level's weight */
} stage_plan;

/* One matrix product: level l, chunk c. */
typedef struct piece {
    int64_t in, out; /* D / p and heads * rank: the weight is (in, out) */
    int64_t x, w, y; /* element offsets of the chunk, the weight, and the first feature */
    int64_t feature; /* stride between ranks: chunks of a rank stand side by side */
} piece;

static piece piece_of(const stage_plan *p, int32_t l, int64_t c)
{
    const int64_t chunks = (int64_t)1 << l, in = p->width / chunks, out = p->heads * p->rank[l];
    return (piece){ in, out, c * in, p->param[l] + c * in * out, p->offset[l] + c, chunks };
}

static const void *at(const void *p, int64_t i, size_t e)
{
    return (const char *)p + (size_t)i * e;
}
static void *at_out(void *p, int64_t i, size_t e)
{
    return (char *)p + (size_t)i * e;
}

static strata_status forward(const sti_stage *s, const sti_io *io)
{
    const stage_plan *p = s->plan;
    const sti_graph *g = s->graph;
    const size_t e = strata_dtype_size(g->dtype);
    const int64_t rows = io->batch * io->time, row = p->heads * p->features;
    for (int32_t l = 0; l < p->levels; l++)
        for (int64_t c = 0; c < (int64_t)1 << l; c++) {
            const piece q = piece_of(p, l, c);
            sti_gemm(g->ctx, g->dtype, false, false, rows, q.out, q.in, 1, at(io->in[0], q.x, e), p->width,
                     at(io->params, q.w, e), q.out, 0, io->work, q.out);
            scatter(g->ctx, g->dtype, rows, p->heads, p->rank[l], io->work, at_out(io->out[0], q.y, e), row,
                    p->features, q.feature, false);
        }
    return STRATA_OK;
}

static strata_status backward(const sti_stage *s, const sti_io *io)
{
    const stage_plan *p = s->plan;
    const sti_graph *g = s->graph;
    const size_t e = strata_dtype_size(g->dtype), sum = strata_dtype_size(sti_sum_type(g->dtype));
    const int64_t rows = io->batch * io->time, row = p->heads * p->features;
    for (int32_t l = 0; l < p->levels; l++)
        for (int64_t c = 0; c < (int64_t)1 << l; c++) {
            const piece q = piece_of(p, l, c);
            gather(g->ctx, g->dtype, rows, p->heads, p->rank[l], at(io->dout[0], q.y, e), row, p->features, q.feature,
                   io->work);
            if (io->dparams)
                sti_gemm_sum(g->ctx, g->dtype, true, false, q.in, q.out, rows, 1, at(io->in[0], q.x, e), p->width,
                             io->work, q.out, 1, at_out(io->dparams, q.w, sum), q.out);
            if (io->din[0]) /* the chunks of a level cover x once: later levels add */
                sti_gemm(g->ctx, g->dtype, false, true, rows, q.in, q.out, 1, io->work, q.out, at(io->params, q.w, e),
                         q.out, l || io->acc[0] ? 1 : 0, at_out(io->din[0], q.x, e), p->width);
        }
    return STRATA_OK;
}

static void cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    const stage_plan *p = s->plan;
    double ranks = 0;
    for (int32_t l = 0; l < p->levels; l++) ranks += (double)p->rank[l];
    const double weights = (double)(p->width * p->heads) * ranks, rows = (double)(batch * time);
    c->flops_fwd += 2 * rows * weights;
    c->flops_bwd += 4 * rows * weights;
    c->bytes_fwd +=
        (rows * (double)(p->width + p->heads * p->features) + weights) * (double)strata_dtype_size(s->graph->dtype);
}

static const sti_stage_class chunks_class = {
    .kind = "bilinear-mlr", .forward = forward, .backward = backward, .cost = cost, .destroy = sti_heap_free
};

static strata_status prepare(const sti_graph *g, const char *name, stage_plan *p, sti_params *params)
{
    for (int32_t l = 0; l < p->levels; l++) {
        const int64_t chunks = (int64_t)1 << l;
        if (p->width % chunks != 0)
            return sti_fail(STRATA_E_SHAPE, "%s: level %d cuts the width into %lld chunks, which do not divide %lld",
                            name, l + 1, (long long)chunks, (long long)p->width);
        const int64_t shape[] = { chunks, p->width / chunks, p->heads * p->rank[l] };
        const double fan_in = (double)shape[1], std = 1 / sqrt(fan_in);
        char leaf[16];
        snprintf(leaf, sizeof leaf, "%d", l + 1);
        p->param[l] = params->elements;
        p->offset[l] = p->features;
        p->features += p->rank[l] * chunks;
        STI_TRY(sti_params_add(params, leaf, 3, shape, STI_INIT_NORMAL, std, std, g->base_width / fan_in));
    }
    return STRATA_OK;
}

int32_t sti_softmax_chunks(sti_graph *g, const char *name, int32_t levels, const int64_t *rank, int64_t heads,
                           int32_t in)
{
    if (g->status != STRATA_OK || in < 0) return -1;
    sti_params params = { 0 };
    stage_plan *p = sti_heap(sizeof *p);
    strata_status s = p ? STRATA_OK : sti_fail(STRATA_E_MEMORY, "%s: no memory", name);
    int32_t out = -1;
    int64_t widest = 0;
    if (p) {
        p->width = g->buffer[in].width;
        p->heads = heads;
        p->levels = levels;
        for (int32_t l = 0; l < levels; l++) {
            p->rank[l] = rank[l];
            widest = STI_MAX(widest, rank[l]);
        }
        s = prepare(g, name, p, &params);
    }
    if (s != STRATA_OK) {
        sti_heap_free(p);
        sti_graph_fail(g, s);
    } else {
        out = sti_graph_buffer(g, heads * p->features);
        const sti_stage_desc d = { .cls = &chunks_class,
                                   .plan = p,
                                   .name = name,
                                   .params = &params,
                                   .nin = 1,
                                   .nout = 1,
                                   .in = { in },
                                   .out = { out },
                                   .keep_in = 1,
                                   .work =
                                       (size_t)(g->batch * g->chunk * heads * widest) * strata_dtype_size(g->dtype) };
        if (sti_graph_add(g, &d) < 0) out = -1;
    }
    sti_params_free(&params);
    return out;
}
