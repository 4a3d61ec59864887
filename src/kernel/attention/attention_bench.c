/* attention_bench [T [heads [threads]]]: useful GF/s of forward and backward beside the FMA roof of the same run, and
 * the time of MLR attention beside that of full attention. Best of several runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <strata/attention.h>

static int
    shared; /* 1: several threads, so wall time; else this thread's own time, which other programs do not disturb */

static double now(void)
{
    struct timespec t;
    clock_gettime(shared ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Fused multiply-adds in registers, as wide as the machine: the roof of one thread in GF/s. */
typedef float vector __attribute__((vector_size(64)));
#if defined(__x86_64__)
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), optimize("O3", "fp-contract=fast")))
#endif
static double
roof_run(long n, float *sink)
{
    vector a[24], x = { 0 }, y = { 0 };
    for (int i = 0; i < 16; i++) {
        x[i] = 0.999f;
        y[i] = 1e-3f;
    }
    for (int i = 0; i < 24; i++) a[i] = x;
    double start = now();
    for (long k = 0; k < n; k++)
#pragma GCC unroll 24
        for (int i = 0; i < 24; i++) a[i] = a[i] * x + y;
    double seconds = now() - start;
    for (int i = 1; i < 24; i++) a[0] += a[i];
    *sink = a[0][3];
    return 2.0 * 16 * 24 * (double)n / seconds * 1e-9;
}

typedef struct timing {
    double fwd, bwd, flops_fwd, flops_bwd;
} timing;

static timing measure(const strata_context *ctx, const char *spec, int64_t time, int64_t heads, int64_t d)
{
    timing best = { 1e9, 1e9, 0, 0 };
    int64_t n = heads * time * d;
    strata_attention_problem p = {
        STRATA_INIT(strata_attention_problem), .batch = 1, .heads = heads, .q_time = time, .d_qk = d, .train = 1
    };
    strata_attention *a = NULL;
    strata_attention_info info = { STRATA_INIT(strata_attention_info) };
    float *x = strata_alloc(ctx, (size_t)(9 * n) * sizeof *x), *at = x;
    if (!x || strata_attention_create(ctx, spec, &p, &a) != STRATA_OK ||
        strata_attention_query(a, &info) != STRATA_OK) {
        fprintf(stderr, "%s: %s\n", spec, strata_last_error());
        exit(1);
    }
    for (int64_t i = 0; i < 9 * n; i++) x[i] = (float)(rand() % 2001 - 1000) * 1e-3f;
    strata_tensor t[9], lse;
    for (int i = 0; i < 8; i++, at += n) t[i] = strata_view4(at, STRATA_F32, 1, heads, time, d);
    lse = strata_view3(at, STRATA_F32, 1, heads, time);
    for (int i = 0; i < 5; i++) {
        double t0 = now();
        if (strata_attention_forward(a, &t[0], &t[1], &t[2], &t[3], &lse, NULL) != STRATA_OK) exit(1);
        double t1 = now();
        if (strata_attention_backward(a, &t[0], &t[1], &t[2], &t[3], &lse, &t[4], &t[5], &t[6], &t[7], NULL) !=
            STRATA_OK)
            exit(1);
        double t2 = now();
        if (t1 - t0 < best.fwd) best.fwd = t1 - t0;
        if (t2 - t1 < best.bwd) best.bwd = t2 - t1;
    }
    best.flops_fwd = info.flops_fwd;
    best.flops_bwd = info.flops_bwd;
    strata_attention_destroy(a);
    strata_free(ctx, x);
    return best;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *spec;
        int d;
    } cases[] = {
        { "score=standard", 64 },
        { "score=mlr ranks=32,8,6,4,4,4,4,2", 64 },
        { "score=mlr ranks=32,8,6,4,4,4,4,2 gain=count", 64 },
        { "score=mlr ranks=8,8,8,8,8,8,8,8", 64 },
        { "score=mlr ranks=16,16,16,16 vranks=16,16,16,16", 64 },
        { "score=window window=512", 64 },
        { "score=standard", 128 },
        { "score=mlr ranks=64,16,16,16,16", 128 },
    };
    int64_t time = argc > 1 ? atoi(argv[1]) : 4096, heads = argc > 2 ? atoi(argv[2]) : 2;
    int threads = argc > 3 ? atoi(argv[3]) : 1;
    char text[64];
    strata_context *ctx = NULL;
    snprintf(text, sizeof text, "threads=%d", threads);
    if (strata_context_create(text, NULL, &ctx) != STRATA_OK) return 1;
    float sink = 0;
    double roof = 0;
    for (int i = 0; i < 5; i++) {
        double r = roof_run(4000000, &sink);
        if (r > roof) roof = r;
    }
    roof *= threads;
    shared = threads > 1;
    printf("isa %s, T %lld, heads %lld, threads %d, roof %.0f GF/s (%g)\n", strata_context_isa(ctx), (long long)time,
           (long long)heads, threads, roof, (double)sink);
    printf("%-52s %4s %8s %6s %8s %6s %11s %11s\n", "spec", "d", "fwd GF/s", "share", "bwd GF/s", "share", "fwd t/flop",
           "bwd t/flop");
    timing full = { 0 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        timing t = measure(ctx, cases[i].spec, time, heads, cases[i].d);
        if (strcmp(cases[i].spec, "score=standard") == 0) full = t;
        double f = t.flops_fwd / t.fwd * 1e-9, b = t.flops_bwd / t.bwd * 1e-9;
        printf("%-52s %4d %8.1f %5.1f%% %8.1f %5.1f%% %5.3f/%5.3f %5.3f/%5.3f\n", cases[i].spec, cases[i].d, f,
               100 * f / roof, b, 100 * b / roof, t.fwd / full.fwd, t.flops_fwd / full.flops_fwd, t.bwd / full.bwd,
               t.flops_bwd / full.flops_bwd);
    }
    strata_context_destroy(ctx);
    return 0;
}
