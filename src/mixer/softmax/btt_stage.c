/* The projection of bilinear BTT scoring, to the key side (W_h x) and to the query side (W_h^T x) (softmax.h).
 * In both, z is the array between the two cores, laid out (c, row, (h, b, s)). */
#include <math.h>

#include "core/context.h"
#include "kernel/gemm/gemm.h"
#include "mixer/softmax/btt_stage.h"
#include "mixer/softmax/gather.h"
#include "mixer/softmax/softmax.h"

typedef sti_btt stage_plan;
typedef sti_btt_call call;

static call call_of(const sti_stage *s, const sti_io *io)
{
    const stage_plan *p = s->plan;
    char *work = io->work;
    const size_t e = strata_dtype_size(s->graph->dtype);
    return (call){ .p = p,
                   .ctx = s->graph->ctx,
                   .dtype = s->graph->dtype,
                   .e = e,
                   .sum = strata_dtype_size(sti_sum_type(s->graph->dtype)),
                   .rows = io->batch * io->time,
                   .inner = p->heads * p->b * p->rank,
                   .cs = p->c * p->rank,
                   .bs = p->b * p->rank,
                   .z = work + p->z,
                   .dz = work + p->dz,
                   .side = work + p->side,
                   .line = work + p->line,
                   .R = io->params,
                   .L = (const char *)io->params + (size_t)p->param_l * e };
}

/* Block (h, b) of z as (rows, c, s), and of a vector (…, a, b) as (rows, a). */
static void z_out(const call *k, const char *z, int64_t hb)
{
    gather(k->ctx, k->dtype, k->rows, k->p->c, k->p->rank, z + (size_t)(hb * k->p->rank) * k->e, k->inner,
           k->rows * k->inner, 1, k->side);
}
static void z_in(const call *k, char *z, int64_t hb)
{
    scatter(k->ctx, k->dtype, k->rows, k->p->c, k->p->rank, k->side, z + (size_t)(hb * k->p->rank) * k->e, k->inner,
            k->rows * k->inner, 1, false);
}
static void line_out(const call *k, const void *x, int64_t row, int64_t offset)
{
    gather(k->ctx, k->dtype, k->rows, k->p->a, 1, (const char *)x + (size_t)offset * k->e, row, k->p->b, 0, k->line);
}
static void line_in(const call *k, void *x, int64_t row, int64_t offset, bool add)
{
    scatter(k->ctx, k->dtype, k->rows, k->p->a, 1, k->line, (char *)x + (size_t)offset * k->e, row, k->p->b, 0, add);
}

static size_t l_block(const call *k, int64_t hb) /* elements */
{
    return (size_t)(hb * k->p->a * k->cs);
}
static size_t r_block(const call *k, int64_t c)
{
    return (size_t)(c * k->p->d * k->inner);
}
static size_t z_block(const call *k, int64_t c)
{
    return (size_t)(c * k->rows * k->inner) * k->e;
}

/* z = R^T x (key side) */
static void z_from_x(const call *k, const char *x)
{
    for (int64_t c = 0; c < k->p->c; c++)
        sti_gemm(k->ctx, k->dtype, false, false, k->rows, k->inner, k->p->d, 1, x + (size_t)(c * k->p->d) * k->e,
                 k->p->width, k->R + r_block(k, c) * k->e, k->inner, 0, k->z + z_block(k, c), k->inner);
}

/* z = L^T x (query side) */
static void z_from_lines(const call *k, const void *x)
{
    for (int64_t b = 0; b < k->p->b; b++) {
        line_out(k, x, k->p->width, b);
        for (int64_t h = 0; h < k->p->heads; h++) {
            const int64_t hb = h * k->p->b + b;
            sti_gemm(k->ctx, k->dtype, false, false, k->rows, k->cs, k->p->a, 1, k->line, k->p->a,
                     k->L + l_block(k, hb) * k->e, k->cs, 0, k->side, k->cs);
            z_in(k, k->z, hb);
        }
    }
}

static strata_status forward(const sti_stage *s, const sti_io *io)
{
    const call k = call_of(s, io);
    const stage_plan *p = k.p;
    const int64_t row = p->heads * p->width;
#if STRATA_HAVE_CUDA
    if (sti_on_device(k.ctx)) {
        sti_btt_device_forward(&k, io->in[0], io->out[0]);
        return STRATA_OK;
    }
#endif
    if (!p->transposed) {
        z_from_x(&k, io->in[0]);
        for (int64_t h = 0; h < p->heads; h++)
            for (int64_t b = 0; b < p->b; b++) {
                const int64_t hb = h * p->b + b;
                z_out(&k, k.z, hb);
                sti_gemm(k.ctx, k.dtype, false, true, k.rows, p->a, k.cs, 1, k.side, k.cs, k.L + l_block(&k, hb) * k.e,
                         k.cs, 0, k.line, p->a);
                line_in(&k, io->out[0], row, h * p->width + b, false);
            }
        return STRATA_OK;
    }
    z_from_lines(&k, io->in[0]);
    for (int64_t h = 0; h < p->heads; h++)
        for (int64_t c = 0; c < p->c; c++)
            sti_gemm(k.ctx, k.dtype, false, true, k.rows, p->d, k.bs, 1,
                     k.z + z_block(&k, c) + (size_t)(h * k.bs) * k.e, k.inner,
                     k.R + r_block(&k, c) * k.e + (size_t)(h * k.bs) * k.e, k.inner, 0,
                     (char *)io->out[0] + (size_t)(h * p->width + c * p->d) * k.e, row);
    return STRATA_OK;
}

static strata_status backward(const sti_stage *s, const sti_io *io)
{
    const call k = call_of(s, io);
    const stage_plan *p = k.p;
    const int64_t row = p->heads * p->width;
    char *dR = io->dparams, *dL = dR ? dR + (size_t)p->param_l * k.sum : NULL;
    const char *x = io->in[0], *dy = io->dout[0];
    char *dx = io->din[0];
#if STRATA_HAVE_CUDA
    if (sti_on_device(k.ctx)) {
        sti_btt_device_backward(&k, x, dy, dx, io->acc[0], dR, dL);
        return STRATA_OK;
    }
#endif
    if (!p->transposed) {
        z_from_x(&k, x);
        for (int64_t h = 0; h < p->heads; h++)
            for (int64_t b = 0; b < p->b; b++) {
                const int64_t hb = h * p->b + b;
                line_out(&k, dy, row, h * p->width + b);
                z_out(&k, k.z, hb);
                if (dL)
                    sti_gemm_sum(k.ctx, k.dtype, true, false, p->a, k.cs, k.rows, 1, k.line, p->a, k.side, k.cs, 1,
                                 dL + l_block(&k, hb) * k.sum, k.cs);
                sti_gemm(k.ctx, k.dtype, false, false, k.rows, k.cs, p->a, 1, k.line, p->a, k.L + l_block(&k, hb) * k.e,
                         k.cs, 0, k.side, k.cs);
                z_in(&k, k.dz, hb);
            }
        for (int64_t c = 0; c < p->c; c++) {
            const size_t chunk = (size_t)(c * p->d) * k.e;
            if (dR)
                sti_gemm_sum(k.ctx, k.dtype, true, false, p->d, k.inner, k.rows, 1, x + chunk, p->width,
                             k.dz + z_block(&k, c), k.inner, 1, dR + r_block(&k, c) * k.sum, k.inner);
            if (dx)
                sti_gemm(k.ctx, k.dtype, false, true, k.rows, p->d, k.inner, 1, k.dz + z_block(&k, c), k.inner,
                         k.R + r_block(&k, c) * k.e, k.inner, io->acc[0] ? 1 : 0, dx + chunk, p->width);
        }
        return STRATA_OK;
    }
    z_from_lines(&k, x);
    for (int64_t h = 0; h < p->heads; h++)
        for (int64_t c = 0; c < p->c; c++) {
            const char *g = dy + (size_t)(h * p->width + c * p->d) * k.e;
            const size_t head = (size_t)(h * k.bs) * k.e;
            if (dR)
                sti_gemm_sum(k.ctx, k.dtype, true, false, p->d, k.bs, k.rows, 1, g, row, k.z + z_block(&k, c) + head,
                             k.inner, 1, dR + (r_block(&k, c) + (size_t)(h * k.bs)) * k.sum, k.inner);
            sti_gemm(k.ctx, k.dtype, false, false, k.rows, k.bs, p->d, 1, g, row, k.R + r_block(&k, c) * k.e + head,
                     k.inner, 0, k.dz + z_block(&k, c) + head, k.inner);
        }
    for (int64_t h = 0; h < p->heads; h++)
        for (int64_t b = 0; b < p->b; b++) {
            const int64_t hb = h * p->b + b;
            z_out(&k, k.dz, hb);
            if (dL) {
                line_out(&k, x, p->width, b);
                sti_gemm_sum(k.ctx, k.dtype, true, false, p->a, k.cs, k.rows, 1, k.line, p->a, k.side, k.cs, 1,
                             dL + l_block(&k, hb) * k.sum, k.cs);
            }
            if (dx) {
                sti_gemm(k.ctx, k.dtype, false, true, k.rows, p->a, k.cs, 1, k.side, k.cs, k.L + l_block(&k, hb) * k.e,
                         k.cs, 0, k.line, p->a);
                line_in(&k, dx, p->width, b, h || io->acc[0]);
            }
        }
    return STRATA_OK;
}

static double weights(const stage_plan *p)
{
    return (double)p->heads * (double)p->rank * (double)p->width * (double)(p->b + p->c);
}

static void cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    const stage_plan *p = s->plan;
    const double rows = (double)(batch * time);
    c->flops_fwd += 2 * rows * weights(p);
    c->flops_bwd += 4 * rows * weights(p);
    c->bytes_fwd +=
        (rows * (double)(p->width * (1 + p->heads)) + weights(p)) * (double)strata_dtype_size(s->graph->dtype);
}

static const sti_stage_class btt_class = {
    .kind = "bilinear-btt", .forward = forward, .backward = backward, .cost = cost, .destroy = sti_heap_free
};

int32_t sti_softmax_btt(sti_graph *g, const char *name, int64_t heads, int64_t rank, bool transposed, int32_t in)
{
    if (g->status != STRATA_OK || in < 0) return -1;
    sti_params params = { 0 };
    int64_t a = 1, total = 0;
    const int64_t width = g->buffer[in].width;
    for (int64_t i = 1; i * i <= width; i++)
        if (width % i == 0) a = i; /* the divisor pair nearest the square root, the smaller first */
    const int64_t b = width / a, e = (int64_t)strata_dtype_size(g->dtype), rows = g->batch * g->chunk;
    const int64_t r[] = { a, b, heads * b * rank }, l[] = { heads * b, a, a * rank };
    const double std_r = 1 / sqrt((double)b), std_l = 1 / sqrt((double)(a * rank));
    stage_plan *p = sti_heap(sizeof *p);
    strata_status s = p ? STRATA_OK : sti_fail(STRATA_E_MEMORY, "%s: no memory", name);
    if (!sti_mul_i64(width, heads, &total) || !sti_mul_i64(total, rank, &total) || !sti_mul_i64(total, rows, &total) ||
        total > INT64_MAX / 64)
        s = sti_fail(STRATA_E_SHAPE, "%s: %lld heads of width %lld and rank %lld overflow", name, (long long)heads,
                     (long long)width, (long long)rank);
    /* contracts: the bilinear cores do not share the rate between them */
    if (!s) s = sti_params_add(&params, "R", 3, r, STI_INIT_NORMAL, std_r, std_r, g->base_width / (double)b);
    const int64_t after_r = params.elements;
    if (!s) s = sti_params_add(&params, "L", 3, l, STI_INIT_NORMAL, std_l, std_l, g->base_width / (double)(a * rank));
    int32_t out = -1;
    if (s != STRATA_OK) {
        sti_heap_free(p);
        sti_graph_fail(g, s);
    } else {
        *p = (stage_plan){ .width = width,
                           .heads = heads,
                           .rank = rank,
                           .a = a,
                           .b = b,
                           .c = a,
                           .d = b,
                           .transposed = transposed,
                           .param_l = after_r };
        const size_t z = sti_round_up((size_t)(total * e), STI_ALIGN);
        p->dz = z;
        p->side = g->train ? 2 * z : z;
        p->line = p->side + sti_round_up((size_t)(rows * a * rank * e), STI_ALIGN);
        p->bytes = p->line + sti_round_up((size_t)(rows * a * e), STI_ALIGN);
#if STRATA_HAVE_CUDA
        if (sti_on_device(g->ctx)) sti_btt_device_plan(g->ctx, p, rows, g->dtype);
#endif
        out = sti_graph_buffer(g, heads * width);
        const sti_stage_desc d = { .cls = &btt_class,
                                   .plan = p,
                                   .name = name,
                                   .params = &params,
                                   .nin = 1,
                                   .nout = 1,
                                   .in = { in },
                                   .out = { out },
                                   .keep_in = 1,
                                   .work = p->bytes };
        if (sti_graph_add(g, &d) < 0) out = -1;
    }
    sti_params_free(&params);
    return out;
}
