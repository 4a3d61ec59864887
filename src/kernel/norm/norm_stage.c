/* The kernel as a leaf stage: rows are the heads of every token; a head has one slice, or several. */
#include <stdio.h>

#include "core/device.h"
#include "kernel/norm/norm.h"

typedef struct stage_plan {
    sti_norm n; /* stride: the width of a head */
    int32_t slices;
    int64_t width[]; /* slices */
} stage_plan;

static int64_t heads_of(const sti_stage *s)
{
    return s->graph->buffer[s->in[0]].width / ((const stage_plan *)s->plan)->n.stride;
}

/* One slice of a call: where its columns, parameters and statistics stand. */
typedef struct slice {
    sti_norm n;
    int64_t rows;
    size_t columns, gain, bias, stat; /* bytes; parameters and statistics are of the type of sums */
} slice;

static slice first_slice(const sti_stage *s, const sti_io *io)
{
    const stage_plan *p = s->plan;
    slice c = { .n = p->n, .rows = io->batch * io->time * heads_of(s) };
    return c;
}

static bool set_slice(const sti_stage *s, slice *c, int32_t k)
{
    const stage_plan *p = s->plan;
    const sti_params *t = &s->graph->params;
    const size_t e = strata_dtype_size(sti_sum_type(s->graph->dtype));
    if (k == p->slices) return false;
    if (k) {
        c->columns += (size_t)p->width[k - 1] * strata_dtype_size(s->graph->dtype);
        c->stat += (size_t)c->rows * 2 * e;
    }
    c->n.width = p->width[k];
    const int32_t i = s->param_first + k * (p->n.bias ? 2 : 1);
    c->gain = (size_t)(t->p[i].offset - s->param_base) * e;
    c->bias = p->n.bias ? (size_t)(t->p[i + 1].offset - s->param_base) * e : 0;
    return true;
}

static strata_status norm_forward(const sti_stage *s, const sti_io *io)
{
    slice c = first_slice(s, io);
    if (io->term[0]) { /* a sum left to this stage: rows are whole */
        (void)set_slice(s, &c, 0);
        sti_norm_sum_forward(s->graph->ctx, s->graph->dtype, &c.n, c.rows, io->term[0], io->term[1],
                             (void *)(uintptr_t)io->in[0], (const char *)io->master + c.gain,
                             (const char *)io->master + c.bias, io->out[0], s->saved ? io->saved : NULL);
        return STRATA_OK;
    }
    for (int32_t k = 0; set_slice(s, &c, k); k++)
        sti_norm_forward(s->graph->ctx, s->graph->dtype, &c.n, c.rows, (const char *)io->in[0] + c.columns,
                         (const char *)io->master + c.gain, (const char *)io->master + c.bias,
                         (char *)io->out[0] + c.columns, s->saved ? (char *)io->saved + c.stat : NULL);
    return STRATA_OK;
}

static strata_status norm_backward(const sti_stage *s, const sti_io *io)
{
    slice c = first_slice(s, io);
    for (int32_t k = 0; set_slice(s, &c, k); k++) {
        char *d = io->dparams;
        sti_norm_backward(s->graph->ctx, s->graph->dtype, &c.n, c.rows, (const char *)io->in[0] + c.columns,
                          (const char *)io->master + c.gain, (const char *)io->saved + c.stat,
                          (const char *)io->dout[0] + c.columns, io->din[0] ? (char *)io->din[0] + c.columns : NULL,
                          io->acc[0], d ? d + c.gain : NULL, d && c.n.bias ? d + c.bias : NULL, io->work);
    }
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

static strata_status prepare(const char *name, const sti_norm *n, int32_t slices, const int64_t *width,
                             int64_t in_width, bool numbered, sti_params *params, stage_plan **out)
{
    int64_t head = 0;
    for (int32_t k = 0; k < slices; k++) {
        char weight[32] = "weight", bias[32] = "bias";
        if (numbered) {
            snprintf(weight, sizeof weight, "%d.weight", k + 1);
            snprintf(bias, sizeof bias, "%d.bias", k + 1);
        }
        if (width[k] < 1) return sti_fail(STRATA_E_SHAPE, "%s: a norm of width %lld", name, (long long)width[k]);
        head += width[k];
        STI_TRY(sti_params_add(params, weight, 1, &width[k], STI_INIT_CONST, 1.0, 0.5, 1.0));
        if (n->bias) STI_TRY(sti_params_add(params, bias, 1, &width[k], STI_INIT_CONST, 0.0, 0.5, 1.0));
    }
    if (head < 1 || in_width % head != 0)
        return sti_fail(STRATA_E_SHAPE, "%s: input width %lld is not a multiple of the norm's width %lld", name,
                        (long long)in_width, (long long)head);
    stage_plan *p = sti_heap(sizeof *p + (size_t)slices * sizeof *width);
    if (!p) return sti_fail(STRATA_E_MEMORY, "%s: no memory", name);
    p->n = *n;
    p->n.stride = head;
    p->slices = slices;
    for (int32_t k = 0; k < slices; k++) p->width[k] = width[k];
    *out = p;
    return STRATA_OK;
}

static int32_t add(sti_graph *g, const char *name, const sti_norm *n, int32_t slices, const int64_t *width,
                   bool numbered, int32_t in)
{
    if (g->status != STRATA_OK || in < 0) return -1;
    sti_params params = { 0 };
    stage_plan *plan = NULL;
    int32_t out = -1;
    const strata_status s = prepare(name, n, slices, width, g->buffer[in].width, numbered, &params, &plan);
    if (!plan) {
        sti_graph_fail(g, s);
    } else {
        int64_t widest = 0;
        for (int32_t k = 0; k < slices; k++) widest = STI_MAX(widest, width[k]);
        const int64_t rows = g->batch * g->chunk * (g->buffer[in].width / plan->n.stride);
        out = sti_graph_buffer(g, g->buffer[in].width);
        const sti_stage_desc d = { .cls = &norm_class,
                                   .plan = plan,
                                   .name = name,
                                   .params = &params,
                                   .nin = 1,
                                   .nout = 1,
                                   .in = { in },
                                   .out = { out },
                                   .keep_in = 1,
                                   .takes_sum = slices == 1,
                                   .saved = (size_t)(rows * slices) * 2 * strata_dtype_size(sti_sum_type(g->dtype)),
                                   .work = sti_norm_work(g->ctx, widest) };
        if (sti_graph_add(g, &d) < 0) out = -1;
    }
    sti_params_free(&params);
    return out;
}

int32_t sti_graph_norm(sti_graph *g, const char *name, const sti_norm *n, int32_t in)
{
    return add(g, name, n, 1, &n->width, false, in);
}

int32_t sti_graph_norm_slices(sti_graph *g, const char *name, const sti_norm *n, int32_t slices, const int64_t *width,
                              int32_t in)
{
    return add(g, name, n, slices, width, true, in);
}
