/* strata bench: a component against the machine's matrix product and against its dense or full-attention equivalent,
 * all measured in the same run. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_REPEAT = 101, SGEMM = 2048 };

typedef struct bench {
    const cli *c;
    strata_context *ctx;
    int32_t dtype;
    int repeat;
    double sgemm; /* FLOP/s of the dense product in this run */
    bool header;
} bench;

typedef struct timing {
    double median, best, worst; /* seconds */
} timing;

/* ---- measuring -------------------------------------------------------------------------------------------------- */
static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median of the repeats, after one call that warms up. @return the first failing status */
static strata_status measure(const bench *b, strata_status (*call)(void *), void *user, timing *t)
{
    double s[MAX_REPEAT];
    strata_status st = call(user);
    for (int i = 0; i < b->repeat && st == STRATA_OK; i++) {
        double start = cli_now();
        st = call(user);
        s[i] = cli_now() - start;
    }
    if (st != STRATA_OK) return st;
    qsort(s, (size_t)b->repeat, sizeof *s, by_value);
    *t = (timing){ s[b->repeat / 2], s[0], s[b->repeat - 1] };
    return STRATA_OK;
}

/* Numbers in [-1, 1): a 64-bit congruential generator is random enough for timing. */
static void *numbers(const bench *b, int64_t count)
{
    size_t e = strata_dtype_size(b->dtype);
    void *p = strata_alloc(b->ctx, (size_t)count * e);
    uint64_t s = 1;
    for (int64_t i = 0; p && i < count; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        double v = (double)(int64_t)(s >> 11) / 4503599627370496.0 - 1;
        if (b->dtype == STRATA_F32)
            ((float *)p)[i] = (float)v;
        else
            ((double *)p)[i] = v;
    }
    return p;
}

/* One line. `base`: seconds of the equivalent that it is compared with; 0: none. */
static void print_row(bench *b, const char *what, const char *variant, timing t, double flops, double base)
{
    double rate = flops / t.median;
    if (cli_flag(b->c, "json")) {
        json j = json_begin(stdout);
        json_text(&j, "what", what);
        json_text(&j, "variant", variant);
        json_int(&j, "threads", strata_context_threads(b->ctx));
        json_int(&j, "repeats", b->repeat);
        json_num(&j, "seconds", t.median);
        json_num(&j, "seconds_min", t.best);
        json_num(&j, "seconds_max", t.worst);
        json_num(&j, "flops", flops);
        json_num(&j, "gflops_per_s", rate * 1e-9);
        json_num(&j, "of_sgemm", b->sgemm > 0 ? rate / b->sgemm : (double)NAN);
        json_num(&j, "speedup", base > 0 ? base / t.median : (double)NAN);
        json_end(&j);
    } else {
        if (!b->header)
            (void)printf("%-52s %-8s %10s %17s %9s %9s %9s\n", "", "variant", "median ms", "min … max", "GFLOP/s",
                         "of gemm", "speed-up");
        b->header = true;
        char spread[40], of[16] = "", up[16] = "";
        (void)snprintf(spread, sizeof spread, "%.3f … %.3f", t.best * 1e3, t.worst * 1e3);
        if (b->sgemm > 0) (void)snprintf(of, sizeof of, "%.3f", rate / b->sgemm);
        if (base > 0) (void)snprintf(up, sizeof up, "%.2f", base / t.median);
        (void)printf("%-52.52s %-8s %10.3f %17s %9.2f %9s %9s\n", what, variant, t.median * 1e3, spread, rate * 1e-9,
                     of, up);
    }
    (void)fflush(stdout);
}

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
    strata_free(b->ctx, j->params);
    strata_free(b->ctx, j->dparams);
    for (int i = 0; i < 4; i++) strata_free(b->ctx, j->mem[i]);
}

static strata_status op_open(const bench *b, const char *spec, int64_t rows, int64_t cols, int64_t count, op_job *j)
{
    memset(j, 0, sizeof *j);
    strata_status s = strata_op_create(b->ctx, spec, rows, cols, count, b->dtype, &j->op);
    if (s != STRATA_OK) return s;
    rows = strata_op_rows(j->op);
    cols = strata_op_cols(j->op);
    size_t bytes = strata_op_param_bytes(j->op);
    const int64_t n[] = { count * cols, count * rows, count * cols, count * rows };
    j->params = strata_alloc(b->ctx, bytes + 1);
    j->dparams = strata_alloc(b->ctx, bytes + 1);
    bool ok = j->params && j->dparams;
    for (int i = 0; i < 4; i++) ok &= (j->mem[i] = numbers(b, n[i])) != NULL;
    if (!ok) {
        op_close(b, j);
        return STRATA_E_MEMORY;
    }
    memset(j->dparams, 0, bytes);
    j->x = strata_view2(j->mem[0], b->dtype, count, cols);
    j->y = strata_view2(j->mem[1], b->dtype, count, rows);
    j->dx = strata_view2(j->mem[2], b->dtype, count, cols);
    j->dy = strata_view2(j->mem[3], b->dtype, count, rows);
    return strata_op_init(j->op, 1, j->params);
}

/* Time one operator, forward and backward; base[2] are the seconds to compare with, or 0. */
static int time_operator(bench *b, const char *spec, int64_t rows, int64_t cols, int64_t count, double base[2])
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
        print_row(b, what, strata_context_isa(b->ctx), t, strata_op_flops(j.op) * (double)count * (pass ? 2 : 1),
                  base[pass]);
        base[pass] = t.median;
    }
    op_close(b, &j);
    return cli_status(s, CLI_ON_OUTPUT, NULL);
}

static int bench_operator(bench *b, const char *spec)
{
    int64_t rows = cli_int(b->c, "rows"), cols = cli_int(b->c, "cols"), count = cli_int(b->c, "count");
    double base[2] = { 0, 0 };
    op_job probe; /* the spec may state the size itself */
    strata_status s = strata_op_create(b->ctx, spec, 0, 0, count, b->dtype, &probe.op);
    if (s == STRATA_OK) {
        rows = strata_op_rows(probe.op);
        cols = strata_op_cols(probe.op);
        strata_op_destroy(probe.op);
    }
    int rc = time_operator(b, "dense", rows, cols, count, base);
    return rc ? rc : time_operator(b, spec, rows, cols, count, base);
}

/* The machine's matrix product: what every rate is compared with. */
static int measure_gemm(bench *b)
{
    op_job j;
    timing t;
    int64_t n = SGEMM;
    strata_status s = op_open(b, "dense", n, n, n, &j);
    if (s != STRATA_OK) return cli_status(s, CLI_ON_OUTPUT, "bench");
    int repeat = b->repeat;
    if (b->repeat > 5) b->repeat = 5;
    s = measure(b, op_forward, &j, &t);
    b->repeat = repeat;
    op_close(b, &j);
    if (s != STRATA_OK) return cli_status(s, CLI_ON_OUTPUT, "bench");
    double flops = 2.0 * (double)n * (double)n * (double)n;
    b->sgemm = flops / t.median;
    print_row(b, b->dtype == STRATA_F32 ? "sgemm 2048^3" : "dgemm 2048^3", strata_context_isa(b->ctx), t, flops, 0);
    return CLI_OK;
}

/* ---- attention -------------------------------------------------------------------------------------------------- */
typedef struct att_job {
    strata_attention *att;
    void *mem[9];
    strata_tensor q, k, v, o, lse, dout, dq, dk, dv;
} att_job;

static strata_status att_forward(void *user)
{
    att_job *j = user;
    return strata_attention_forward(j->att, &j->q, &j->k, &j->v, &j->o, &j->lse, NULL);
}
static strata_status att_backward(void *user)
{
    att_job *j = user;
    return strata_attention_backward(j->att, &j->q, &j->k, &j->v, &j->o, &j->lse, &j->dout, &j->dq, &j->dk, &j->dv,
                                     NULL);
}

static int time_attention(bench *b, const char *spec, const char *name, double base[2])
{
    const cli *c = b->c;
    int64_t heads = cli_int(c, "heads"), kv = cli_int(c, "kv-heads"), time = cli_int(c, "time");
    int64_t d = cli_int(c, "d-qk"), dv = cli_int(c, "d-v"), batch = cli_int(c, "batch");
    if (!kv) kv = heads;
    if (!dv) dv = d;
    strata_attention_problem p = { STRATA_INIT(strata_attention_problem),
                                   .batch = batch,
                                   .heads = heads,
                                   .kv_heads = kv,
                                   .q_time = time,
                                   .d_qk = d,
                                   .d_v = dv,
                                   .dtype = b->dtype,
                                   .train = 1 };
    att_job j = { 0 };
    strata_attention_info info = { .size = STRATA_INIT(strata_attention_info) };
    strata_status s = strata_attention_create(b->ctx, spec, &p, &j.att);
    if (s == STRATA_OK) s = strata_attention_query(j.att, &info);
    if (s != STRATA_OK) return cli_status(s, CLI_ON_INPUT, NULL);
    const int64_t nq = batch * heads * time, nk = batch * kv * time, parts = info.lse_parts;
    const int64_t n[9] = { nq * d, nk * d, nk * dv, nq * dv, nq * parts, nq * dv, nq * d, nk * d, nk * dv };
    bool ok = true;
    for (int i = 0; i < 9; i++) ok &= (j.mem[i] = numbers(b, n[i])) != NULL;
    if (!ok) s = STRATA_E_MEMORY;
    int32_t t = b->dtype;
    j.q = strata_view4(j.mem[0], t, batch, heads, time, d);
    j.k = strata_view4(j.mem[1], t, batch, kv, time, d);
    j.v = strata_view4(j.mem[2], t, batch, kv, time, dv);
    j.o = strata_view4(j.mem[3], t, batch, heads, time, dv);
    j.lse = parts > 1 ? strata_view4(j.mem[4], t, parts, batch, heads, time)
                      : strata_view3(j.mem[4], t, batch, heads, time);
    j.dout = strata_view4(j.mem[5], t, batch, heads, time, dv);
    j.dq = strata_view4(j.mem[6], t, batch, heads, time, d);
    j.dk = strata_view4(j.mem[7], t, batch, kv, time, d);
    j.dv = strata_view4(j.mem[8], t, batch, kv, time, dv);
    for (int pass = 0; pass < 2 && s == STRATA_OK; pass++) {
        char what[256];
        timing tm;
        (void)snprintf(what, sizeof what, "%s T=%lld, %s", name, (long long)time, pass ? "backward" : "forward");
        s = measure(b, pass ? att_backward : att_forward, &j, &tm);
        if (s != STRATA_OK) break;
        print_row(b, what, strata_attention_variant(j.att), tm, pass ? info.flops_bwd : info.flops_fwd, base[pass]);
        base[pass] = tm.median;
    }
    strata_attention_destroy(j.att);
    for (int i = 0; i < 9; i++) strata_free(b->ctx, j.mem[i]);
    return cli_status(s, CLI_ON_OUTPUT, NULL);
}

static int bench_attention(bench *b, const char *spec)
{
    double base[2] = { 0, 0 };
    int rc = time_attention(b, "score=standard", "score=standard", base);
    return rc || !strcmp(spec, "score=standard") ? rc : time_attention(b, spec, spec, base);
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

static int time_mixer(bench *b, const char *spec, double base[2])
{
    const cli *c = b->c;
    int64_t batch = cli_int(c, "batch"), time = cli_int(c, "time"), width = cli_int(c, "width");
    strata_mixer_problem p = {
        STRATA_INIT(strata_mixer_problem), .batch = batch, .time = time, .width = width, .dtype = b->dtype, .train = 1
    };
    mixer_job j = { 0 };
    strata_status s = strata_mixer_create(b->ctx, spec, &p, &j.m);
    if (s != STRATA_OK) return cli_status(s, CLI_ON_INPUT, NULL);
    size_t bytes = strata_mixer_param_bytes(j.m);
    j.params = strata_alloc(b->ctx, bytes + 1);
    j.dparams = strata_alloc(b->ctx, bytes + 1);
    bool ok = j.params && j.dparams;
    for (int i = 0; i < 4; i++) ok &= (j.mem[i] = numbers(b, batch * time * width)) != NULL;
    strata_tensor *t[] = { &j.x, &j.y, &j.dx, &j.dy };
    for (int i = 0; i < 4; i++) *t[i] = strata_view3(j.mem[i], b->dtype, batch, time, width);
    s = ok ? strata_mixer_init(j.m, 1, j.params) : STRATA_E_MEMORY;
    if (ok) memset(j.dparams, 0, bytes);
    for (int pass = 0; pass < 2 && s == STRATA_OK; pass++) {
        char what[256];
        timing tm;
        (void)snprintf(what, sizeof what, "%s T=%lld, %s", spec, (long long)time, pass ? "backward" : "forward");
        s = measure(b, pass ? mixer_backward : mixer_forward, &j, &tm);
        if (s != STRATA_OK) break;
        print_row(b, what, strata_context_isa(b->ctx), tm, strata_mixer_flops(j.m, batch, time, pass), base[pass]);
        base[pass] = tm.median;
    }
    strata_mixer_destroy(j.m);
    strata_free(b->ctx, j.params);
    strata_free(b->ctx, j.dparams);
    for (int i = 0; i < 4; i++) strata_free(b->ctx, j.mem[i]);
    return cli_status(s, CLI_ON_OUTPUT, NULL);
}

static int bench_mixer(bench *b, const char *spec)
{
    double base[2] = { 0, 0 };
    char dense[64];
    (void)snprintf(dense, sizeof dense, "softmax heads=%lld", (long long)cli_int(b->c, "heads"));
    int rc = time_mixer(b, dense, base);
    return rc || !strcmp(spec, dense) ? rc : time_mixer(b, spec, base);
}

/* ---- command ---------------------------------------------------------------------------------------------------- */
static int run_bench(cli *c)
{
    static const char *const names[] = { "attention", "operator", "mixer" };
    static int (*const kinds[])(bench *, const char *) = { bench_attention, bench_operator, bench_mixer };
    bench b = { .c = c, .dtype = cli_flag(c, "f64") ? STRATA_F64 : STRATA_F32, .repeat = (int)cli_int(c, "repeat") };
    int kind = 0;
    while (kind < 3 && strcmp(names[kind], c->arg[0]) != 0) kind++;
    if (kind == 3) return cli_fail(CLI_USAGE, "bench: '%s' is none of attention, operator, mixer", c->arg[0]);
    int rc = CLI_OK;
    for (int i = 1; i < c->nargs && !rc; i++)
        rc = cli_status(strata_spec_check(names[kind], c->arg[i]), CLI_ON_INPUT, NULL);
    if (!rc) rc = cli_context(c, NULL, &b.ctx);
    if (!rc) rc = measure_gemm(&b);
    for (int i = 1; i < c->nargs && !rc; i++) rc = kinds[kind](&b, c->arg[i]);
    strata_context_destroy(b.ctx);
    return rc;
}

static const cli_option options[] = {
    { "batch", 0, CLI_INT, "N", "attention, mixer: sequences", "1", 1, 1e6 },
    { "time", 0, CLI_INT, "N", "attention, mixer: tokens per sequence", "1024", 1, 1e8 },
    { "heads", 0, CLI_INT, "N", "attention: query heads; mixer: of the standard mixer that it is compared with", "8", 1,
      1e5 },
    { "kv-heads", 0, CLI_INT, "N", "attention: key heads; 0: as many as query heads", "0", 0, 1e5 },
    { "d-qk", 0, CLI_INT, "N", "attention: columns of q and k per head", "64", 1, 1e5 },
    { "d-v", 0, CLI_INT, "N", "attention: columns of v per head; 0: d-qk", "0", 0, 1e5 },
    { "width", 0, CLI_INT, "N", "mixer: width", "256", 1, 1e6 },
    { "rows", 0, CLI_INT, "N", "operator: outputs", "1024", 1, 1e8 },
    { "cols", 0, CLI_INT, "N", "operator: inputs", "1024", 1, 1e8 },
    { "count", 0, CLI_INT, "N", "operator: vectors", "1024", 1, 1e8 },
    { "repeat", 'r', CLI_INT, "N", "timed calls; the median is printed", "9", 1, MAX_REPEAT },
    { "f64", 0, CLI_FLAG, NULL, "compute in f64 instead of f32", NULL, 0, 0 },
    { "json", 0, CLI_FLAG, NULL, "one JSON object per measurement", NULL, 0, 0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_bench = {
    "bench",
    "attention|operator|mixer SPEC…",
    "Time a component against the matrix product and its dense equivalent",
    "Each line gives the median of the repeats and their range, the rate by exact FLOP counts, its part of the rate "
    "of\n"
    "a 2048^3 matrix product in the same run, and the speed-up over the equivalent above it: full attention\n"
    "(score=standard), a dense operator, or a standard softmax mixer. Throughput of whole models: strata train.",
    "strata bench attention \"score=mlr ranks=32,16,16\" --time 4096\n"
    "strata bench operator \"btt rank=2\" monarch --rows 4096 --cols 4096 --json",
    2,
    -1,
    options,
    run_bench,
};
