/* operator_bench [WIDTH [COUNT]]: structured layers beside the dense layer (the library's sgemm or sgemv) of the same
 * run, f32, one thread: time, GF/s on useful FLOPs, and how many times faster than dense. Thread CPU time, best of
 * several. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <strata/operator.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(strata_status s)
{
    if (s == STRATA_OK) return;
    fprintf(stderr, "operator_bench: %s\n", strata_last_error());
    exit(1);
}

typedef struct job {
    strata_op *op;
    float *mem[4], *params, *dparams;
    strata_tensor x, y, dx, dy;
    double best[2]; /* seconds: forward, gradient */
} job;

static float *numbers(const strata_context *ctx, int64_t n)
{
    float *p = strata_alloc(ctx, (size_t)n * sizeof *p);
    if (!p) check(STRATA_E_MEMORY);
    for (int64_t i = 0; i < n; i++) p[i] = (float)((i * 7919 + 13) % 2001 - 1000) * 1e-3f;
    return p;
}

static void job_open(job *j, const strata_context *ctx, const char *spec, int64_t width, int64_t count)
{
    check(strata_op_create(ctx, spec, width, width, count, STRATA_F32, &j->op));
    const size_t bytes = strata_op_param_bytes(j->op);
    for (int i = 0; i < 4; i++) j->mem[i] = numbers(ctx, count * width);
    j->params = strata_alloc(ctx, bytes);
    j->dparams = strata_alloc(ctx, bytes);
    if (!j->params || !j->dparams) check(STRATA_E_MEMORY);
    memset(j->dparams, 0, bytes);
    check(strata_op_init(j->op, 1, j->params));
    j->x = strata_view2(j->mem[0], STRATA_F32, count, width);
    j->y = strata_view2(j->mem[1], STRATA_F32, count, width);
    j->dx = strata_view2(j->mem[2], STRATA_F32, count, width);
    j->dy = strata_view2(j->mem[3], STRATA_F32, count, width);
    j->best[0] = j->best[1] = 1e30;
}

static void job_close(job *j, const strata_context *ctx)
{
    for (int i = 0; i < 4; i++) strata_free(ctx, j->mem[i]);
    strata_free(ctx, j->params);
    strata_free(ctx, j->dparams);
    strata_op_destroy(j->op);
}

/* The best of `rounds` times for about `seconds` each. */
static void job_run(job *j, int gradient, double seconds, int rounds)
{
    for (int r = 0; r < rounds; r++) {
        int64_t calls = 0;
        const double start = now();
        double spent;
        do {
            check(gradient ? strata_op_grad(j->op, j->params, &j->x, &j->dy, j->dparams, &j->dx, 0, NULL)
                           : strata_op_apply(j->op, j->params, STRATA_OP_N, 1, &j->x, 0, &j->y, NULL));
            calls++;
            spent = now() - start;
        } while (spent < seconds);
        if (spent / (double)calls < j->best[gradient]) j->best[gradient] = spent / (double)calls;
    }
}

enum { SPECS = 8 };

static void specs_of(int64_t width, char spec[SPECS][64])
{
    int root = 1;
    while ((int64_t)root * root < width) root *= 2;
    snprintf(spec[0], 64, "dense");
    snprintf(spec[1], 64, "btt rank=1");
    snprintf(spec[2], 64, "btt rank=2");
    snprintf(spec[3], 64, "monarch blocks=%d", root);
    snprintf(spec[4], 64, "monarch blocks=4");
    snprintf(spec[5], 64, "kronecker");
    snprintf(spec[6], 64, "lowrank rank=%d", root);
    snprintf(spec[7], 64, "blockdiag blocks=%d", root);
}

static void compare(const strata_context *ctx, int64_t width, int64_t count)
{
    char spec[SPECS][64];
    specs_of(width, spec);
    job j[SPECS];
    for (int i = 0; i < SPECS; i++) {
        job_open(&j[i], ctx, spec[i], width, count);
        for (int g = 0; g < 2; g++) job_run(&j[i], g, 0.01, 1); /* every page touched, every clock up */
    }
    for (int round = 0; round < 3; round++) /* dense and the others take turns */
        for (int i = 0; i < SPECS; i++)
            for (int g = 0; g < 2; g++) job_run(&j[i], g, 0.01, 3);
    for (int i = 0; i < SPECS; i++) {
        const double flops = strata_op_flops(j[i].op) * (double)count, f = j[i].best[0], g = j[i].best[1];
        printf("%6lld %6lld %-20s %10.1f %7.1f %8.2f %10.2f   %10.1f %7.1f %8.2f\n", (long long)width, (long long)count,
               spec[i], f * 1e6, flops / f * 1e-9, j[0].best[0] / f,
               strata_op_flops(j[0].op) / strata_op_flops(j[i].op), g * 1e6, 2 * flops / g * 1e-9, j[0].best[1] / g);
    }
    for (int i = 0; i < SPECS; i++) job_close(&j[i], ctx);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const int64_t widths[] = { 256, 1024, 4096 }, counts[] = { 1, 16, 1024 };
    const int64_t width = argc > 1 ? strtoll(argv[1], NULL, 10) : 0, count = argc > 2 ? strtoll(argv[2], NULL, 10) : 0;
    strata_context *ctx = NULL;
    check(strata_context_create("threads=1", NULL, &ctx));
    printf("isa %s, one thread, f32. x: how many times faster than dense; flops: how many times fewer\n",
           strata_context_isa(ctx));
    printf("%6s %6s %-20s %10s %7s %8s %10s   %10s %7s %8s\n", "width", "rows", "operator", "forward us", "GF/s", "x",
           "flops", "grad us", "GF/s", "x");
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            if ((!width || width == widths[w]) && (!count || count == counts[c])) compare(ctx, widths[w], counts[c]);
    strata_context_destroy(ctx);
    return 0;
}
