/* A trainable linear layer: any operator as a leaf stage, with an optional bias. */
#include <math.h>
#include <string.h>

#include "backend/cpu/panels.h"
#include "core/device.h"
#include "core/real.h"
#include "operator/linear_cuda.h"
#include "operator/operator.h"

enum { WIDE = 64, GROUP = 64 };

#define REAL float
#define SFX _f32
#include "operator/linear.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64
#include "operator/linear.inc"

typedef struct linear {
    sti_op_plan *op;
    int32_t bias; /* index of its parameter, or -1 */
} linear;

static void destroy(void *plan)
{
    linear *l = plan;
    if (!l) return;
    sti_op_plan_destroy(l->op);
    sti_heap_free(l);
}

static strata_tensor rows_of(const sti_op_plan *p, const void *data, int64_t count, int64_t width)
{
    return strata_view2((void *)(uintptr_t)data, p->dtype, count, width);
}

/* The bias, and its gradient, in the type of sums. */
static const void *bias_of(const linear *l, const sti_io *io)
{
    return (const char *)io->master +
           (size_t)l->op->params.p[l->bias].offset * strata_dtype_size(sti_sum_type(l->op->dtype));
}
static void *bias_grad_of(const linear *l, const sti_io *io)
{
    return (char *)io->dparams +
           (size_t)l->op->params.p[l->bias].offset * strata_dtype_size(sti_sum_type(l->op->dtype));
}

static void add_bias(const linear *l, const sti_io *io, int64_t count, void *out)
{
    const sti_op_plan *p = l->op;
#if STRATA_HAVE_CUDA
    if (sti_on_device(p->ctx)) {
        sti_bias_add_cuda(p->ctx, p->dtype, count, p->rows, bias_of(l, io), out);
        return;
    }
#endif
    (p->dtype == STRATA_F32 ? add_bias_f32 : add_bias_f64)(p->ctx, bias_of(l, io), count, p->rows, out);
}

static void bias_grad(const linear *l, const sti_io *io, int64_t count)
{
    const sti_op_plan *p = l->op;
#if STRATA_HAVE_CUDA
    if (sti_on_device(p->ctx)) {
        sti_bias_grad_cuda(p->ctx, p->dtype, count, p->rows, io->dout[0], bias_grad_of(l, io), io->work);
        return;
    }
#endif
    (p->dtype == STRATA_F32 ? bias_grad_f32 : bias_grad_f64)(p->ctx, io->dout[0], count, p->rows, bias_grad_of(l, io));
}

static strata_status forward(const sti_stage *s, const sti_io *io)
{
    const linear *l = s->plan;
    const sti_op_plan *p = l->op;
    const int64_t count = io->batch * io->time;
    const strata_tensor x = rows_of(p, io->in[0], count, p->cols), y = rows_of(p, io->out[0], count, p->rows);
    sti_op_apply(p, io->params, STI_N, 1.0, &x, 0.0, &y, io->work);
    if (l->bias >= 0) add_bias(l, io, count, io->out[0]);
    return STRATA_OK;
}

static strata_status backward(const sti_stage *s, const sti_io *io)
{
    const linear *l = s->plan;
    const sti_op_plan *p = l->op;
    const int64_t count = io->batch * io->time;
    const strata_tensor x = rows_of(p, io->in[0], count, p->cols), dy = rows_of(p, io->dout[0], count, p->rows);
    const strata_tensor dx = rows_of(p, io->din[0], count, p->cols);
    sti_op_grad(p, io->params, &x, &dy, io->dparams, io->din[0] ? &dx : NULL, io->acc[0], io->work);
    if (l->bias >= 0 && io->dparams) bias_grad(l, io, count);
    return STRATA_OK;
}

static void cost(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c)
{
    const sti_op_plan *p = ((const linear *)s->plan)->op;
    const double count = (double)batch * (double)time, e = (double)strata_dtype_size(p->dtype);
    c->flops_fwd = count * p->flops;
    c->flops_bwd = 2 * c->flops_fwd;
    c->bytes_fwd = e * (count * (double)(p->rows + p->cols) + (double)sti_params_numel(&p->params));
}

static const sti_stage_class linear_class = {
    .kind = "linear",
    .forward = forward,
    .backward = backward,
    .cost = cost,
    .destroy = destroy,
};

static strata_status plan(const sti_graph *g, const sti_spec *spec, int64_t rows, int64_t cols, bool bias,
                          bool zero_init, linear *l)
{
    int64_t count;
    if (!sti_mul_i64(g->batch, g->chunk, &count)) return sti_fail(STRATA_E_SHAPE, "linear: too many rows");
    STI_TRY(sti_op_plan_create_zero(g->ctx, spec, rows, cols, count, g->dtype, g->base_width, zero_init, &l->op));
    if (!bias) return STRATA_OK;
    l->bias = l->op->params.count;
    return sti_params_add(&l->op->params, "bias", 1, &rows, STI_INIT_CONST, 0.0, 1.0, 1.0);
}

/* Scale what maps unit inputs to unit outputs so that a dense weight is N(0, 0.02^2); k factors share the change. */
static void as_embedding(sti_op_plan *p)
{
    double factors = 0;
    for (int32_t i = 0; i < p->params.count; i++) factors += p->params.p[i].init == STI_INIT_NORMAL;
    const double unit = sqrt(fmin(1, (double)p->rows / (double)p->cols) / (double)p->cols);
    for (int32_t i = 0; i < p->params.count; i++) {
        sti_param *q = &p->params.p[i];
        q->lr_mult = 1;
        if (q->init == STI_INIT_NORMAL) q->init_value *= pow(0.02 / unit, 1 / factors);
    }
}

static int32_t add(sti_graph *g, const char *name, const sti_spec *spec, int64_t rows, int32_t in, bool bias,
                   bool zero_init, bool read_in)
{
    if (g->status != STRATA_OK || in < 0) return -1;
    linear *l = sti_heap(sizeof *l);
    if (!l) {
        sti_graph_fail(g, sti_fail(STRATA_E_MEMORY, "%s: no memory", name));
        return -1;
    }
    l->bias = -1;
    const strata_status s = plan(g, spec, rows, g->buffer[in].width, bias, zero_init, l);
    if (s != STRATA_OK) {
        destroy(l);
        sti_graph_fail(g, sti_fail_prefix(s, "%s", name));
        return -1;
    }
    if (read_in) as_embedding(l->op);
    const int32_t out = sti_graph_buffer(g, rows);
    size_t work = l->op->work; /* free again when the bias's gradient is summed */
#if STRATA_HAVE_CUDA
    if (l->bias >= 0 && sti_on_device(g->ctx)) work = STI_MAX(work, sti_bias_work_cuda(g->dtype, rows));
#endif
    const sti_stage_desc d = {
        .cls = &linear_class,
        .plan = l,
        .name = name,
        .params = &l->op->params,
        .nin = 1,
        .nout = 1,
        .in = { in },
        .out = { out },
        .keep_in = 1,
        .work = work,
    };
    return sti_graph_add(g, &d) < 0 ? -1 : out;
}

int32_t sti_graph_linear(sti_graph *g, const char *name, const sti_spec *spec, int64_t rows, int32_t in, bool bias,
                         bool zero_init)
{
    return add(g, name, spec, rows, in, bias, zero_init, false);
}

int32_t sti_graph_read_in(sti_graph *g, const char *name, const sti_spec *spec, int64_t rows, int32_t in, bool bias)
{
    return add(g, name, spec, rows, in, bias, false, true);
}
