#include "support/device.h"

#include "core/context.h"
#include "core/philox.h"
#include "layer/layer.h"

device device_open(void)
{
    device d = { NULL, NULL };
    const strata_status s = strata_context_create("device=cuda", NULL, &d.gpu);
    if (s == STRATA_E_DEVICE) SKIP("%s", strata_last_error());
    CHECK_OK(s);
    CHECK_OK(strata_context_create("threads=1 isa=ref", NULL, &d.cpu));
    return d;
}

void device_close(device *d)
{
    strata_context_destroy(d->gpu);
    strata_context_destroy(d->cpu);
}

static double *numbers(int64_t n)
{
    double *p = malloc((size_t)(n > 0 ? n : 1) * sizeof *p);
    if (!p) FAIL("no memory for %lld numbers", (long long)n);
    return p;
}

void device_round(int32_t dtype, double *x, int64_t n)
{
    if (dtype == STRATA_F64) return;
    for (int64_t i = 0; i < n; i++) {
        const float f = (float)x[i];
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        if (dtype == STRATA_BF16) bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
        float r;
        memcpy(&r, &bits, sizeof r);
        x[i] = (double)r;
    }
}

double *device_normal(int32_t dtype, int64_t n, double scale, uint64_t stream)
{
    double *x = numbers(n);
    for (int64_t i = 0; i < n; i++) x[i] = scale * sti_normal(71, stream, (uint64_t)i);
    device_round(dtype, x, n);
    return x;
}

void *device_put(const device *d, int32_t dtype, const double *x, int64_t n, int64_t pad)
{
    const size_t e = strata_dtype_size(dtype), bytes = (size_t)(n + pad) * e;
    void *p;
    char *host = malloc(bytes ? bytes : 1);
    CHECK(host);
    memset(host, 0xff, bytes);
    for (int64_t i = 0; x && i < n; i++) {
        char *to = host + (size_t)(pad + i) * e;
        const float f = (float)x[i];
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        if (dtype == STRATA_F64)
            memcpy(to, &x[i], e);
        else if (dtype == STRATA_F32)
            memcpy(to, &f, e);
        else
            memcpy(to, &(uint16_t){ (uint16_t)(bits >> 16) }, e);
    }
    CHECK_OK(sti_array_calloc(d->gpu, n + pad, e, &p));
    CHECK_OK(sti_to_device(d->gpu, p, host, bytes));
    CHECK_OK(sti_device_wait(d->gpu));
    free(host);
    return (char *)p + (size_t)pad * e;
}

int32_t *device_put_i32(const device *d, const int32_t *x, int64_t n)
{
    void *p;
    CHECK_OK(sti_array_calloc(d->gpu, n, sizeof *x, &p));
    CHECK_OK(sti_to_device(d->gpu, p, x, (size_t)n * sizeof *x));
    return p;
}

void device_drop(const device *d, void *p, int32_t dtype, int64_t pad)
{
    if (p) sti_array_free(d->gpu, (char *)p - (size_t)pad * strata_dtype_size(dtype));
}

double *device_get(const device *d, int32_t dtype, const void *p, int64_t n)
{
    const size_t e = strata_dtype_size(dtype);
    double *x = numbers(n);
    char *host = malloc((size_t)n * e + 1);
    CHECK(host);
    CHECK_OK(sti_to_host(d->gpu, host, p, (size_t)n * e));
    sti_array_convert(d->cpu, x, STRATA_F64, host, dtype, n);
    free(host);
    return x;
}

static double epsilon(int32_t dtype)
{
    return dtype == STRATA_F64 ? DBL_EPSILON : dtype == STRATA_BF16 ? 1.0 / 128 : (double)FLT_EPSILON;
}

void device_near(const char *what, int32_t dtype, double *x, const double *ref, const double *scale, int64_t n,
                 double c, double k)
{
    near_all(what, x, STRATA_F64, ref, scale, n, c * epsilon(dtype) / DBL_EPSILON, k);
}

static double distance(const double *x, const double *ref, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += (x[i] - ref[i]) * (x[i] - ref[i]);
    return sqrt(s);
}

void device_near_norm(const char *what, int32_t dtype, double *x, const double *ref, int64_t n, double c, double k)
{
    double size = 0;
    for (int64_t i = 0; i < n; i++) size += ref[i] * ref[i];
    size = sqrt(size);
    const double bound = c * epsilon(dtype) * sqrt(k) * size, off = distance(x, ref, n);
    if (!(off <= bound)) FAIL("%s (%s) is off by %.3g, bound %.3g", what, strata_dtype_name(dtype), off, bound);
    if (n < 1 || !(bound > 0)) return;
    const double keep = x[n / 2];
    x[n / 2] = ref[n / 2] + 100 * bound;
    if (distance(x, ref, n) <= bound) FAIL("%s: a planted error is not seen", what);
    x[n / 2] = keep;
}

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

typedef struct run {
    sti_graph *g;
    int32_t in, out;
    double *y, *dx, *dp;
    int64_t ny, nx, np;
} run;

static void build(const strata_context *ctx, int32_t dtype, const device_graph *q, run *r)
{
    CHECK_OK(sti_graph_create(ctx, dtype, q->batch, q->time, q->time, 1, 768, &r->g));
    r->in = sti_graph_input(r->g, q->width, q->vocab ? STRATA_I32 : dtype, !q->vocab);
    r->out = q->build(r->g, r->in);
    if (q->residual) r->out = sti_graph_sum(r->g, "residual", r->out, r->in);
    if (!q->loss) sti_graph_output(r->g, r->out);
    CHECK_OK(sti_graph_finish(r->g));
    r->nx = q->batch * q->time * q->width;
    r->ny = q->batch * q->time * r->g->buffer[r->out].width;
    r->np = r->g->params.elements;
}

/* Zeroed, or filled with NaN, where the context computes. */
static void *array(const strata_context *ctx, size_t bytes, int poison)
{
    void *p;
    CHECK_OK(sti_array_calloc(ctx, 1, bytes + 64, &p));
    if (!poison) return p;
    char *nan = malloc(bytes + 64);
    CHECK(nan);
    memset(nan, 0xff, bytes + 64);
    CHECK_OK(sti_to_device(ctx, p, nan, bytes + 64));
    CHECK_OK(sti_device_wait(ctx));
    free(nan);
    return p;
}

/* n numbers in the context's memory as type dtype; x NULL: ones. */
static void *load(const device *d, const strata_context *ctx, int32_t dtype, const double *x, int64_t n)
{
    const size_t bytes = (size_t)n * strata_dtype_size(dtype);
    void *p = array(ctx, bytes, 1), *host = malloc(bytes + 1);
    CHECK(host);
    double *ones = numbers(n);
    for (int64_t i = 0; i < n; i++) ones[i] = 1;
    sti_array_convert(d->cpu, host, dtype, x ? x : ones, STRATA_F64, n);
    free(ones);
    CHECK_OK(sti_to_device(ctx, p, host, bytes));
    CHECK_OK(sti_device_wait(ctx));
    free(host);
    return p;
}

static double *fetch(const device *d, const strata_context *ctx, int32_t dtype, const void *p, int64_t n)
{
    const size_t bytes = (size_t)n * strata_dtype_size(dtype);
    double *x = numbers(n);
    void *host = malloc(bytes + 1);
    CHECK(host);
    CHECK_OK(sti_to_host(ctx, host, p, bytes));
    sti_array_convert(d->cpu, x, STRATA_F64, host, dtype, n);
    free(host);
    return x;
}

static void execute(const device *d, const strata_context *ctx, int32_t dtype, const device_graph *q, const double *x,
                    const int32_t *token, const double *params, const double *dy, run *r)
{
    const sti_graph *g = r->g;
    const int32_t sum = sti_sum_type(dtype), out_type = g->buffer[r->out].dtype;
    void *const p = load(d, ctx, dtype, params, r->np), *const m = load(d, ctx, sum, params, r->np);
    void *const dp = load(d, ctx, sum, NULL, r->np), *dx = array(ctx, (size_t)r->nx * 8, 1);
    void *in;
    if (q->vocab) {
        in = array(ctx, (size_t)r->nx * sizeof *token, 0);
        CHECK_OK(sti_to_device(ctx, in, token, (size_t)r->nx * sizeof *token));
    } else {
        in = load(d, ctx, dtype, x, r->nx);
    }
    sti_exec e = { .params = p,
                   .master = dtype == STRATA_BF16 ? m : NULL,
                   .dparams = dp,
                   .act = array(ctx, g->act_bytes, 1),
                   .grad = array(ctx, g->grad_bytes, 1),
                   .saved = array(ctx, g->saved_bytes, 1),
                   .work = array(ctx, g->work_bytes, 1),
                   .batch = q->batch,
                   .time = q->time,
                   .ext = { in },
                   .dext = { q->vocab ? NULL : dx } };
    CHECK_OK(sti_graph_forward(g, &e));
    r->y = fetch(d, ctx, out_type, sti_graph_data(g, &e, r->out), r->ny);
    if (!q->loss) {
        void *seed = load(d, ctx, out_type, dy, r->ny);
        sti_array_copy(ctx, sti_graph_grad(g, &e, r->out), seed, (size_t)r->ny * strata_dtype_size(out_type));
        sti_array_free(ctx, seed);
    }
    CHECK_OK(sti_graph_backward(g, &e));
    r->dx = q->vocab ? NULL : fetch(d, ctx, dtype, dx, r->nx);
    r->dp = fetch(d, ctx, sum, dp, r->np);
    void *const all[] = { p, m, dp, dx, in, e.act, e.grad, e.saved, e.work };
    for (size_t i = 0; i < STI_COUNT(all); i++) sti_array_free(ctx, all[i]);
}

static void finish(run *r)
{
    free(r->y);
    free(r->dx);
    free(r->dp);
    sti_graph_destroy(r->g);
}

static void compare(const device_graph *q, const char *part, int32_t dtype, double *x, const double *ref, int64_t n)
{
    char what[96];
    snprintf(what, sizeof what, "%s %s", q->name, part);
    if (n > 0) device_near_norm(what, dtype, x, ref, n, q->chain ? 8 : 4, q->terms ? (double)q->terms : 1);
}

void device_check(const device *d, const device_graph *q)
{
    const int32_t types[] = DEVICE_TYPES;
    for (size_t k = 0; k < STI_COUNT(types); k++) {
        const int32_t t = types[k];
        run a = { 0 }, b = { 0 }, c = { 0 };
        build(d->cpu, STRATA_F64, q, &a);
        build(d->gpu, t, q, &b);
        build(d->gpu, t, q, &c);
        double *x = device_normal(t, a.nx, 1, 1), *dy = device_normal(t, a.ny, 1, 2), *p = numbers(a.np);
        int32_t *token = malloc((size_t)a.nx * sizeof *token);
        CHECK(token);
        for (int64_t i = 0; i < a.nx && q->vocab; i++)
            token[i] = q->token ? q->token[i] : (int32_t)sti_below(3, 9, (uint64_t)i, (uint64_t)q->vocab);
        sti_params_init(&a.g->params, p, STRATA_F64, 5, 1);
        device_round(t, p, a.np);
        execute(d, d->cpu, STRATA_F64, q, x, token, p, dy, &a);
        execute(d, d->gpu, t, q, x, token, p, dy, &b);
        execute(d, d->gpu, t, q, x, token, p, dy, &c);
        compare(q, "output", q->chain ? t : b.g->buffer[b.out].dtype, b.y, a.y, a.ny);
        if (a.dx) compare(q, "input gradient", t, b.dx, a.dx, a.nx);
        compare(q, "parameter gradient", q->chain ? t : sti_sum_type(t), b.dp, a.dp, a.np);
        CHECK(memcmp(b.y, c.y, (size_t)a.ny * sizeof *c.y) == 0);
        CHECK(!a.dx || memcmp(b.dx, c.dx, (size_t)a.nx * sizeof *c.dx) == 0);
        CHECK(memcmp(b.dp, c.dp, (size_t)a.np * sizeof *c.dp) == 0);
        finish(&a), finish(&b), finish(&c);
        free(x), free(dy), free(p), free(token);
    }
}
