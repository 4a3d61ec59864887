/* strata bench operator and mixer: against a dense operator and a standard softmax mixer. */
#include <string.h>

#include "bench.h"

/* ---- operators -------------------------------------------------------------------------------------------------- */
typedef struct op_job {
    strata_op *op;
    void *params, *dparams, *mem[4];
    strata_tensor x, y, dx, dy;
} op_job;

static strata_status op_forward(void *user)
{
    op_job *j = user;
    return strata_op_apply(j->op, j->params, STRATA_OP_N, 1, &j->x, 0, &j->y, NULL);
}
static strata_status op_backward(void *user)
{
    op_job *j = user;
    return strata_op_grad(j->op, j->params, &j->x, &j->dy, j->dparams, &j->dx, 0, NULL);
}

static void op_close(const bench *b, op_job *j)
{
    strata_op_destroy(j->op);
    strata_device_free(b->ctx, j->params);
    strata_device_free(b->ctx, j->dparams);
    for (int i = 0; i < 4; i++) strata_device_free(b->ctx, j->mem[i]);
}

static strata_status op_open(const bench *b, const char *spec, int64_t rows, int64_t cols, int64_t count, op_job *j)
{
    memset(j, 0, sizeof *j);
    strata_status s = strata_op_create(b->ctx, spec, rows, cols, count, b->dtype, &j->op);
    if (s != STRATA_OK) return s;
    rows = strata_op_rows(j->op);
    cols = strata_op_cols(j->op);
    const int64_t n[] = { count * cols, count * rows, count * cols, count * rows };
    const size_t size = strata_dtype_size(b->dtype), e = size < sizeof(float) ? sizeof(float) : size;
    const int64_t params = (int64_t)(strata_op_param_bytes(j->op) / size);
    /* gradients of bf16 parameters are f32; small values keep sums far from overflow */
    j->params = numbers(b, params);
    bool ok = j->params && strata_device_alloc(b->ctx, (size_t)params * e, &j->dparams) == STRATA_OK;
    for (int i = 0; i < 4; i++) ok &= (j->mem[i] = numbers(b, n[i])) != NULL;
    if (!ok) {
        op_close(b, j);
        return STRATA_E_MEMORY;
    }
    j->x = on_place(b, strata_view2(j->mem[0], b->dtype, count, cols));
    j->y = on_place(b, strata_view2(j->mem[1], b->dtype, count, rows));
    j->dx = on_place(b, strata_view2(j->mem[2], b->dtype, count, cols));
    j->dy = on_place(b, strata_view2(j->mem[3], b->dtype, count, rows));
    return STRATA_OK;
}

/* Time one operator, forward and backward; base[2] is what it is compared with; empty, it is filled. */
static int time_operator(bench *b, const char *spec, int64_t rows, int64_t cols, int64_t count, equivalent base[2])
{
    op_job j;
    timing t;
    strata_status s = op_open(b, spec, rows, cols, count, &j);
    if (s != STRATA_OK) return cli_status(s, CLI_ON_INPUT, NULL);
    for (int pass = 0; pass < 2 && s == STRATA_OK; pass++) {
        char what[256];
        (void)snprintf(what, sizeof what, "%s %lldx%lld, %lld rows, %s", spec, (long long)strata_op_rows(j.op),
                       (long long)strata_op_cols(j.op), (long long)count, pass ? "backward" : "forward");
        s = measure(b, pass ? op_backward : op_forward, &j, &t);
        if (s != STRATA_OK) break;
        const double flops = strata_op_flops(j.op) * (double)count * (pass ? 2 : 1);
        print_row(b, &(row){ .what = what, .variant = variant_of(b), .t = t, .flops = flops, .base = &base[pass] });
        if (base[pass].work <= 0) base[pass] = (equivalent){ t, flops };
    }
    op_close(b, &j);
    return cli_status(s, CLI_ON_OUTPUT, NULL);
}

int bench_operator(bench *b, const char *spec)
{
    static const int64_t counts[] = { 1, 16, 1024 };
    int64_t rows = cli_int(b->c, "rows"), cols = cli_int(b->c, "cols");
    const bool given = cli_given(b->c, "count");
    strata_op *probe; /* the spec may state the size itself */
    if (strata_op_create(b->ctx, spec, 0, 0, 1, b->dtype, &probe) == STRATA_OK) {
        rows = strata_op_rows(probe);
        cols = strata_op_cols(probe);
        strata_op_destroy(probe);
    }
    int rc = CLI_OK;
    for (int i = 0; i < (given ? 1 : 3) && !rc; i++) {
        const int64_t count = given ? cli_int(b->c, "count") : counts[i];
        equivalent base[2] = { 0 };
        rc = time_operator(b, "dense", rows, cols, count, base);
        if (!rc && strcmp(spec, "dense") != 0) rc = time_operator(b, spec, rows, cols, count, base);
    }
    return rc;
}

struct gemm {
    op_job job;
};

int64_t gemm_size(const bench *b)
{
    return b->device ? 8192 : 2048;
}

strata_status gemm_open(const bench *b, gemm **out)
{
    gemm *g = *out = strata_alloc(b->ctx, sizeof *g);
    if (!g) return STRATA_E_MEMORY;
    const strata_status s = op_open(b, "dense", gemm_size(b), gemm_size(b), gemm_size(b), &g->job);
    if (s == STRATA_OK) return s;
    strata_free(b->ctx, g);
    *out = NULL;
    return s;
}

strata_status gemm_call(void *g)
{
    return op_forward(&((gemm *)g)->job);
}

void gemm_close(const bench *b, gemm *g)
{
    if (!g) return;
    op_close(b, &g->job);
    strata_free(b->ctx, g);
}

int measure_gemm(bench *b)
{
    gemm *g = NULL;
    timing t;
    strata_status s = gemm_open(b, &g);
    if (s == STRATA_OK) s = measure(b, gemm_call, g, &t);
    gemm_close(b, g);
    if (s != STRATA_OK) return cli_status(s, CLI_ON_OUTPUT, "bench");
    const double n = (double)gemm_size(b), flops = 2 * n * n * n;
    if (b->device) { /* the product is the roof */
        b->roof = flops / t.median;
        t.possible = flops;
    }
    b->sgemm = t.possible > 0 ? flops / t.possible : 0;
    char what[64];
    (void)snprintf(what, sizeof what, "%s matrix product %.0f^3", b->rounds ? "bf16" : strata_dtype_name(b->dtype), n);
    print_row(b, &(row){ .what = what, .variant = variant_of(b), .t = t, .flops = flops });
    return CLI_OK;
}

/* ---- mixers ----------------------------------------------------------------------------------------------------- */
typedef struct mixer_job {
    strata_mixer *m;
    void *params, *dparams, *mem[4];
    strata_tensor x, y, dx, dy;
} mixer_job;

static strata_status mixer_forward(void *user)
{
    mixer_job *j = user;
    return strata_mixer_forward(j->m, j->params, &j->x, &j->y);
}
static strata_status mixer_backward(void *user)
{
    mixer_job *j = user;
    return strata_mixer_backward(j->m, j->params, &j->x, &j->dy, j->dparams, &j->dx);
}

static int time_mixer(bench *b, const char *spec, equivalent base[2])
{
    const cli *c = b->c;
    int64_t batch = cli_given(c, "batch") ? cli_int(c, "batch") : 1, time = cli_int(c, "time"),
            width = cli_int(c, "width");
    strata_mixer_problem p = {
        STRATA_INIT(strata_mixer_problem), .batch = batch, .time = time, .width = width, .dtype = b->dtype, .train = 1
    };
    mixer_job j = { 0 };
    strata_status s = strata_mixer_create(b->ctx, spec, &p, &j.m);
    if (s != STRATA_OK) return cli_status(s, CLI_ON_INPUT, NULL);
    const size_t bytes = strata_mixer_param_bytes(j.m);
    void *host = strata_alloc(b->ctx, bytes + 1);
    bool ok = host && strata_device_alloc(b->ctx, bytes + 1, &j.params) == STRATA_OK &&
              strata_device_alloc(b->ctx, bytes + 1, &j.dparams) == STRATA_OK;
    for (int i = 0; i < 4; i++) ok &= (j.mem[i] = numbers(b, batch * time * width)) != NULL;
    strata_tensor *t[] = { &j.x, &j.y, &j.dx, &j.dy };
    for (int i = 0; i < 4; i++) *t[i] = on_place(b, strata_view3(j.mem[i], b->dtype, batch, time, width));
    s = ok ? strata_mixer_init(j.m, 1, host) : STRATA_E_MEMORY;
    if (s == STRATA_OK) s = strata_to_device(b->ctx, j.params, host, bytes);
    strata_free(b->ctx, host);
    for (int pass = 0; pass < 2 && s == STRATA_OK; pass++) {
        char what[256];
        timing tm;
        (void)snprintf(what, sizeof what, "%s T=%lld, %s", spec, (long long)time, pass ? "backward" : "forward");
        s = measure(b, pass ? mixer_backward : mixer_forward, &j, &tm);
        if (s != STRATA_OK) break;
        const double flops = strata_mixer_flops(j.m, batch, time, pass);
        print_row(b, &(row){ .what = what, .variant = variant_of(b), .t = tm, .flops = flops, .base = &base[pass] });
        if (base[pass].work <= 0) base[pass] = (equivalent){ tm, flops };
    }
    strata_mixer_destroy(j.m);
    strata_device_free(b->ctx, j.params);
    strata_device_free(b->ctx, j.dparams);
    for (int i = 0; i < 4; i++) strata_device_free(b->ctx, j.mem[i]);
    return cli_status(s, CLI_ON_OUTPUT, NULL);
}

int bench_mixer(bench *b, const char *spec)
{
    equivalent base[2] = { 0 };
    char dense[64];
    (void)snprintf(dense, sizeof dense, "softmax heads=%lld", (long long)cli_int(b->c, "heads"));
    int rc = time_mixer(b, dense, base);
    return rc || !strcmp(spec, dense) ? rc : time_mixer(b, spec, base);
}
