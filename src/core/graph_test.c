/* The walker on toy stages: y = w * x (one parameter), z = x + y, z = x * y. Checked against closed forms. */
#include "core/context.h"
#include "core/graph.h"
#include "support/test.h"

static int64_t size_of(const sti_stage *s, const sti_io *io)
{
    return io->batch * io->time * s->graph->buffer[s->out[0]].width;
}

static void put(double *d, int64_t i, int acc, double x)
{
    d[i] = acc ? d[i] + x : x;
}

static strata_status scale_forward(const sti_stage *s, const sti_io *io)
{
    const double *x = io->in[0], *w = io->params;
    double *y = io->out[0];
    for (int64_t i = 0; i < size_of(s, io); i++) y[i] = *w * x[i];
    return STRATA_OK;
}

static strata_status scale_backward(const sti_stage *s, const sti_io *io)
{
    const double *x = io->in[0], *w = io->params, *dy = io->dout[0];
    for (int64_t i = 0; i < size_of(s, io); i++) {
        *(double *)io->dparams += dy[i] * x[i];
        if (io->din[0]) put(io->din[0], i, io->acc[0], *w * dy[i]);
    }
    return STRATA_OK;
}

static strata_status mul_forward(const sti_stage *s, const sti_io *io)
{
    const double *a = io->in[0], *b = io->in[1];
    double *y = io->out[0];
    for (int64_t i = 0; i < size_of(s, io); i++) y[i] = a[i] * b[i];
    return STRATA_OK;
}

static strata_status mul_backward(const sti_stage *s, const sti_io *io)
{
    const double *a = io->in[0], *b = io->in[1], *dy = io->dout[0];
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < size_of(s, io); i++) put(io->din[k], i, io->acc[k], dy[i] * (k ? a[i] : b[i]));
    return STRATA_OK;
}

static strata_status add_forward(const sti_stage *s, const sti_io *io)
{
    const double *a = io->in[0], *b = io->in[1];
    double *y = io->out[0];
    for (int64_t i = 0; i < size_of(s, io); i++) y[i] = a[i] + b[i];
    return STRATA_OK;
}

static strata_status add_backward(const sti_stage *s, const sti_io *io)
{
    const double *dy = io->dout[0];
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < size_of(s, io); i++) put(io->din[k], i, io->acc[k], dy[i]);
    return STRATA_OK;
}

static int freed;
static void count_free(void *p)
{
    (void)p;
    freed++;
}

static const sti_stage_class scale_class = {
    .kind = "scale", .forward = scale_forward, .backward = scale_backward, .destroy = count_free
};
static const sti_stage_class mul_class = { .kind = "mul", .forward = mul_forward, .backward = mul_backward };
static const sti_stage_class add_class = { .kind = "add", .forward = add_forward, .backward = add_backward };

static int32_t scale(sti_graph *g, const char *name, int32_t x)
{
    sti_params p = { 0 };
    sti_graph_fail(g, sti_params_add(&p, "w", 1, (int64_t[]){ 1 }, STI_INIT_CONST, 1, 1, 1));
    int32_t y = sti_graph_buffer(g, 3);
    sti_graph_add(g, &(sti_stage_desc){ .cls = &scale_class,
                                        .plan = &freed,
                                        .name = name,
                                        .params = &p,
                                        .nin = 1,
                                        .nout = 1,
                                        .in = { x },
                                        .out = { y },
                                        .keep_in = 1 });
    sti_params_free(&p);
    return y;
}

/* y = x^2, whose gradient may be written over x */
static strata_status square_forward(const sti_stage *s, const sti_io *io)
{
    const double *x = io->in[0];
    double *y = io->out[0];
    for (int64_t i = 0; i < size_of(s, io); i++) y[i] = x[i] * x[i];
    return STRATA_OK;
}
static strata_status square_backward(const sti_stage *s, const sti_io *io)
{
    const double *x = io->in[0], *dy = io->dout[0];
    for (int64_t i = 0; i < size_of(s, io); i++) put(io->din[0], i, io->acc[0], 2 * x[i] * dy[i]);
    return STRATA_OK;
}
static const sti_stage_class square_class = { .kind = "square",
                                              .forward = square_forward,
                                              .backward = square_backward };

static int32_t square(sti_graph *g, int32_t x)
{
    int32_t y = sti_graph_buffer(g, 3);
    sti_graph_add(g, &(sti_stage_desc){ .cls = &square_class,
                                        .name = "square",
                                        .nin = 1,
                                        .nout = 1,
                                        .in = { x },
                                        .out = { y },
                                        .keep_in = 1,
                                        .grad_over = 1 });
    return y;
}

static int32_t two(sti_graph *g, const sti_stage_class *cls, int32_t a, int32_t b)
{
    int32_t y = sti_graph_buffer(g, 3);
    sti_graph_add(g, &(sti_stage_desc){ .cls = cls,
                                        .name = "two",
                                        .nin = 2,
                                        .nout = 1,
                                        .in = { a, b },
                                        .out = { y },
                                        .keep_in = cls == &mul_class ? 3 : 0,
                                        .pass_grad = cls == &add_class ? 3 : 0 });
    return y;
}

static void walks(void)
{
    strata_context *ctx;
    sti_graph *g;
    CHECK_OK(strata_context_create(NULL, NULL, &ctx));
    CHECK_OK(sti_graph_create(ctx, STRATA_F64, 2, 4, 4, 1, 768, &g));
    freed = 0;
    /* y = (a x + x) * (b (a x + x)) + a x * a x = b (a+1)^2 x^2 + a^2 x^2, then 40 scalings by 1 to exercise reuse */
    int32_t x = sti_graph_input(g, 3, STRATA_F64, 1);
    int32_t ax = scale(g, "a", x), sum = two(g, &add_class, ax, x), bs = scale(g, "b", sum);
    int32_t y = two(g, &add_class, two(g, &mul_class, sum, bs), two(g, &mul_class, ax, ax));
    for (int i = 0; i < 40; i++) y = scale(g, "one", y);
    sti_graph_output(g, y);
    CHECK_OK(sti_graph_finish(g));
    CHECK_INT(g->params.count, 42);
    enum { N = 18 };
    double xs[N], dx[N], params[42 * 16], dparams[42 * 16] = { 0 };
    for (int i = 0; i < 42 * 16; i++) params[i] = 1;
    double a = params[0] = 0.7, b = params[16] = -1.3;
    for (int i = 0; i < N; i++) xs[i] = 0.1 * (i - 5);
    sti_exec e = { .params = params, .dparams = dparams, .batch = 2, .time = 3, .ext = { xs }, .dext = { dx } };
    double *act = strata_alloc(ctx, g->act_bytes), *grad = strata_alloc(ctx, g->grad_bytes);
    for (int repeat = 0; repeat < 2; repeat++) { /* parameter gradients add up, dx is set */
        memset(act, 0xff, g->act_bytes);
        memset(grad, 0xff, g->grad_bytes);
        memset(dx, 0xff, sizeof dx);
        e.act = act;
        e.grad = grad;
        CHECK_OK(sti_graph_forward(g, &e));
        const double *out = sti_graph_data(g, &e, y);
        double *dy = sti_graph_grad(g, &e, y);
        for (int i = 0; i < N; i++) {
            double want = (b * (a + 1) * (a + 1) + a * a) * xs[i] * xs[i];
            CHECK(fabs(out[i] - want) <= 1e-14 * (1 + fabs(want)));
            dy[i] = 1;
        }
        CHECK_OK(sti_graph_backward(g, &e));
        double da = 0, db = 0;
        for (int i = 0; i < N; i++) {
            double want = 2 * (b * (a + 1) * (a + 1) + a * a) * xs[i];
            CHECK(fabs(dx[i] - want) <= 1e-13);
            da += (2 * b * (a + 1) + 2 * a) * xs[i] * xs[i];
            db += (a + 1) * (a + 1) * xs[i] * xs[i];
        }
        CHECK(fabs(dparams[0] - (repeat + 1) * da) <= 1e-12);
        CHECK(fabs(dparams[16] - (repeat + 1) * db) <= 1e-12);
    }
    /* the scalings keep their inputs, so activations are not reused, but gradients are: at most a handful live at once
     */
    CHECK(g->grad_bytes <= 5 * sti_round_up(24 * sizeof(double), STI_ALIGN));
    CHECK_STATUS(sti_graph_forward(g, &(sti_exec){ .batch = 3, .time = 1 }), STRATA_E_SHAPE);
    strata_free(ctx, act);
    strata_free(ctx, grad);
    sti_graph_destroy(g);
    CHECK_INT(freed, 42);
    /* inference: activations are reused at once */
    CHECK_OK(sti_graph_create(ctx, STRATA_F64, 2, 4, 1, 0, 768, &g));
    y = sti_graph_input(g, 3, STRATA_F64, 0);
    for (int i = 0; i < 40; i++) y = scale(g, "one", y);
    sti_graph_output(g, y);
    CHECK_OK(sti_graph_finish(g));
    CHECK(g->act_bytes <= 3 * sti_round_up(6 * sizeof(double), STI_ALIGN));
    sti_graph_destroy(g);
    strata_context_destroy(ctx);
}

/* One token of width 3: the gradients of the parameters w, where the output's gradient is 1. */
static void gradients(sti_graph *g, const double *w, int n, double x, double *dw)
{
    double xs[3] = { x, x, x }, dx[3], params[16 * 16] = { 0 }, dparams[16 * 16] = { 0 };
    for (int i = 0; i < n; i++) params[i * 16] = w[i];
    double *act = strata_alloc(g->ctx, g->act_bytes), *grad = strata_alloc(g->ctx, g->grad_bytes);
    memset(act, 0xff, g->act_bytes);
    memset(grad, 0xff, g->grad_bytes);
    sti_exec e = { .params = params,
                   .dparams = dparams,
                   .act = act,
                   .grad = grad,
                   .batch = 1,
                   .time = 1,
                   .ext = { xs },
                   .dext = { dx } };
    CHECK_OK(sti_graph_forward(g, &e));
    double *dy = sti_graph_grad(g, &e, g->nbuffer - 1);
    for (int i = 0; i < 3; i++) dy[i] = 1;
    CHECK_OK(sti_graph_backward(g, &e));
    for (int i = 0; i < n; i++) dw[i] = dparams[i * 16];
    strata_free(g->ctx, act);
    strata_free(g->ctx, grad);
}

/* Gradients that are only handed on share memory, unless one of them is added to while another is still to be read. */
static void shared_gradients(void)
{
    strata_context *ctx;
    sti_graph *g;
    CHECK_OK(strata_context_create(NULL, NULL, &ctx));
    /* a residual stream: x (1 + w1) (1 + w2) (1 + w3) w0 w4 */
    CHECK_OK(sti_graph_create(ctx, STRATA_F64, 1, 1, 1, 1, 768, &g));
    int32_t y = scale(g, "w0", sti_graph_input(g, 3, STRATA_F64, 0)), stream[4] = { y }, branch[4] = { 0 };
    for (int i = 1; i < 4; i++) {
        branch[i] = scale(g, (char[]){ 'w', (char)('0' + i), 0 }, y);
        stream[i] = y = two(g, &add_class, y, branch[i]);
    }
    sti_graph_output(g, scale(g, "w4", y));
    CHECK_OK(sti_graph_finish(g));
    for (int i = 1; i < 4; i++) {
        CHECK(g->buffer[stream[i]].grad_off == g->buffer[stream[0]].grad_off);
        CHECK(g->buffer[branch[i]].grad_off != g->buffer[stream[0]].grad_off); /* read while the stream is added to */
    }
    const double w[5] = { 0.5, -0.3, 0.7, 1.1, 2.0 };
    double dw[5], full = 3 * 0.9;
    gradients(g, w, 5, 0.9, dw);
    for (int i = 0; i < 5; i++) full *= i == 0 || i == 4 ? w[i] : 1 + w[i];
    for (int i = 0; i < 5; i++)
        CHECK(fabs(dw[i] - full / (i == 0 || i == 4 ? w[i] : 1 + w[i])) <= 1e-14 * fabs(full) * 16);
    sti_graph_destroy(g);
    /* u = a x, v = b x, (u + v) + (c u + d v): u and v are both added to after their sum has written them */
    CHECK_OK(sti_graph_create(ctx, STRATA_F64, 1, 1, 1, 1, 768, &g));
    const int32_t x = sti_graph_input(g, 3, STRATA_F64, 0), u = scale(g, "a", x), v = scale(g, "b", x);
    const int32_t p = scale(g, "c", u), q = scale(g, "d", v), s = two(g, &add_class, u, v);
    sti_graph_output(g, scale(g, "e", two(g, &add_class, s, two(g, &add_class, p, q))));
    CHECK_OK(sti_graph_finish(g));
    CHECK(g->buffer[u].grad_off != g->buffer[v].grad_off && g->buffer[p].grad_off == g->buffer[q].grad_off);
    const double k[5] = { 0.5, -0.3, 0.7, 1.1, 2.0 };
    gradients(g, k, 5, 0.9, dw);
    const double want[5] = { 2 * 1.7, 2 * 2.1, 2 * 0.5, 2 * -0.3, 0.5 * 1.7 - 0.3 * 2.1 };
    for (int i = 0; i < 5; i++) CHECK(fabs(dw[i] - 2.7 * want[i]) <= 1e-13);
    sti_graph_destroy(g);
    strata_context_destroy(ctx);
}

static void failures_latch(void)
{
    strata_context *ctx;
    sti_graph *g;
    CHECK_OK(strata_context_create(NULL, NULL, &ctx));
    CHECK_STATUS(sti_graph_create(ctx, STRATA_BF16, 1, 1, 1, 0, 768, &g), STRATA_E_UNSUPPORTED);
    CHECK_OK(sti_graph_create(ctx, STRATA_F32, 1, 1, 1, 1, 768, &g));
    freed = 0;
    CHECK_INT(sti_graph_buffer(g, 0), -1);
    CHECK_INT(scale(g, "a", 0), -1);
    CHECK_INT(freed, 1); /* the plan of a stage that was not added is freed */
    CHECK_STATUS(sti_graph_finish(g), STRATA_E_SHAPE);
    sti_graph_destroy(g);
    strata_context_destroy(ctx);
}

/* A gradient takes the place of data that its first writer is the last to read, and only then. */
static void gradients_over_data(void)
{
    strata_context *ctx;
    sti_graph *g;
    CHECK_OK(strata_context_create(NULL, NULL, &ctx));
    /* u = (a x)^2: nobody else reads a x. v = (b x)^2 + c (b x): c reads b x in a backward that comes earlier, but then
     * writes its gradient first. w = (d x)^2 whose input e reads afterwards: (e (d x)) comes before it in the graph. */
    CHECK_OK(sti_graph_create(ctx, STRATA_F64, 1, 1, 1, 1, 768, &g));
    const int32_t x = sti_graph_input(g, 3, STRATA_F64, 0), ax = scale(g, "a", x), u = square(g, ax);
    const int32_t bx = scale(g, "b", x), bb = square(g, bx), cb = scale(g, "c", bx);
    const int32_t dx = scale(g, "d", x), ed = scale(g, "e", dx), dd = square(g, dx);
    const int32_t v = two(g, &add_class, bb, cb), w = two(g, &add_class, ed, dd);
    sti_graph_output(g, scale(g, "f", two(g, &add_class, u, two(g, &add_class, v, w))));
    CHECK_OK(sti_graph_finish(g));
    CHECK(g->buffer[ax].grad_over && !g->buffer[bx].grad_over && !g->buffer[dx].grad_over);
    const double k[6] = { 0.5, -0.3, 0.7, 1.1, 2.0, 0.8 }, at = 0.9;
    double dw[6];
    gradients(g, k, 6, at, dw);
    const double f = 3 * 0.8, want[5] = { f * 2 * 0.5 * at * at, f * (2 * -0.3 * at * at + 0.7 * at), f * -0.3 * at,
                                          f * (2 * 1.1 * at * at + 2.0 * at), f * 1.1 * at };
    for (int i = 0; i < 5; i++) CHECK(fabs(dw[i] - want[i]) <= 1e-13);
    sti_graph_destroy(g);
    strata_context_destroy(ctx);
}

TESTS(T(walks), T(shared_gradients), T(gradients_over_data), T(failures_latch))
