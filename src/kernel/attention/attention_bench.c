/* attention_bench [T [heads [threads [repeats [dims [bf16]]]]]]: useful GF/s of forward and backward beside the FMA
 * roof of the same run, and the time of MLR attention beside that of full attention. The cases take turns, so that all
 * meet the same neighbours; best of the repeats. dims 0: both 64 and 128; bf16 1: arrays of bf16. */
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

typedef struct bench {
    const char *spec;
    int d;
    strata_attention *a;
    float *x;
    strata_tensor t[8], lse;
    double fwd, bwd, flops_fwd, flops_bwd;
} bench;

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strata_last_error());
    exit(1);
}

static void setup(const strata_context *ctx, bench *m, int64_t time, int64_t heads, int32_t dtype)
{
    int64_t n = heads * time * m->d;
    strata_attention_problem p = { STRATA_INIT(strata_attention_problem),
                                   .batch = 1,
                                   .heads = heads,
                                   .q_time = time,
                                   .d_qk = m->d,
                                   .dtype = dtype,
                                   .train = 1 };
    strata_attention_info info = { .size = STRATA_INIT(strata_attention_info) };
    m->x = strata_alloc(ctx, (size_t)(9 * n) * sizeof *m->x);
    if (!m->x || strata_attention_create(ctx, m->spec, &p, &m->a) != STRATA_OK ||
        strata_attention_query(m->a, &info) != STRATA_OK)
        die(m->spec);
    for (int64_t i = 0; i < 9 * n; i++) m->x[i] = (float)(rand() % 2001 - 1000) * 1e-3f;
    for (int64_t i = 0; dtype == STRATA_BF16 && i < 8 * n; i++) { /* in place: a number of bf16 has half the bytes */
        uint32_t bits;
        memcpy(&bits, m->x + i, sizeof bits);
        ((uint16_t *)(void *)m->x)[i] = (uint16_t)(bits >> 16);
    }
    for (int64_t i = 0; i < 8; i++) {
        char *at = (char *)(void *)m->x + (size_t)(i * n) * strata_dtype_size(dtype);
        m->t[i] = strata_view4(at, dtype, 1, heads, time, m->d);
    }
    m->lse = strata_view3(m->x + 8 * n, STRATA_F32, 1, heads, time);
    m->flops_fwd = info.flops_fwd;
    m->flops_bwd = info.flops_bwd;
    m->fwd = m->bwd = 1e9;
}

static void measure(bench *m)
{
    strata_tensor *t = m->t;
    double t0 = now();
    if (strata_attention_forward(m->a, t, t + 1, t + 2, t + 3, &m->lse, NULL) != STRATA_OK) die(m->spec);
    double t1 = now();
    if (strata_attention_backward(m->a, t, t + 1, t + 2, t + 3, &m->lse, t + 4, t + 5, t + 6, t + 7, NULL) != STRATA_OK)
        die(m->spec);
    double t2 = now();
    if (t1 - t0 < m->fwd) m->fwd = t1 - t0;
    if (t2 - t1 < m->bwd) m->bwd = t2 - t1;
}

/* A read of the same memory: the roof of a step in GB/s. */
#if defined(__x86_64__)
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"),
               optimize("O3", "associative-math", "no-signed-zeros", "no-trapping-math")))
#endif
static float
read_all(const float *x, size_t n)
{
    float a = 0, b = 0, c = 0, d = 0;
    for (size_t i = 0; i < n / 4; i++) {
        a += x[i];
        b += x[n / 4 + i];
        c += x[n / 2 + i];
        d += x[3 * (n / 4) + i];
    }
    return a + b + c + d;
}

/* One step of two sequences of 32k tokens, 8 heads over kv_heads, d = 64: bytes of the cache formula per second. */
static void decode(const strata_context *ctx, const char *spec, int64_t kv_heads)
{
    enum { CONTEXT = 32768, D = 64, HEADS = 8, BATCH = 2 };
    strata_attention_problem p = { STRATA_INIT(strata_attention_problem),
                                   .batch = BATCH,
                                   .heads = HEADS,
                                   .kv_heads = kv_heads,
                                   .q_time = CONTEXT,
                                   .d_qk = D };
    strata_attention *a = NULL;
    size_t bytes = 0, payload = 0;
    int64_t n = kv_heads * CONTEXT * D, pos[BATCH] = { CONTEXT - 1, CONTEXT - 1 };
    if (strata_attention_create(ctx, spec, &p, &a) != STRATA_OK ||
        strata_attention_cache_size(a, CONTEXT, &bytes, &payload) != STRATA_OK)
        die(spec);
    float *x = strata_alloc(ctx, (size_t)n * sizeof *x), o[BATCH * HEADS * D];
    char *cache = strata_alloc(ctx, BATCH * bytes);
    if (!x || !cache) die(spec);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(rand() % 2001 - 1000) * 1e-3f;
    strata_tensor all = strata_view3(x, STRATA_F32, kv_heads, CONTEXT, D);
    for (int b = 0; b < BATCH; b++)
        if (strata_attention_cache_init(a, CONTEXT, cache + (size_t)b * bytes) != STRATA_OK ||
            strata_attention_cache_append(a, cache + (size_t)b * bytes, 0, &all, &all) != STRATA_OK)
            die(spec);
    strata_tensor q = strata_view3(x, STRATA_F32, BATCH, HEADS, D), out = strata_view3(o, STRATA_F32, BATCH, HEADS, D);
    strata_tensor k = strata_view3(x, STRATA_F32, BATCH, kv_heads, D);
    double best = 1e9, read = 1e9;
    float sink = 0;
    for (int i = 0; i < 9; i++) {
        double t0 = now();
        sink += read_all((const float *)(const void *)cache, BATCH * bytes / sizeof(float));
        double t1 = now();
        if (strata_attention_step(a, cache, bytes, pos, &q, &k, &k, &out, NULL) != STRATA_OK) die(spec);
        double t2 = now();
        if (t1 - t0 < read) read = t1 - t0;
        if (t2 - t1 < best) best = t2 - t1;
    }
    double rate = BATCH * (double)payload / best * 1e-9, roof = BATCH * (double)bytes / read * 1e-9;
    printf("%-40s 8 heads over %lld: %7.2f ms, %6.2f GB/s of cache, %5.1f%% of reading it (%.2f) (%g)\n", spec,
           (long long)kv_heads, best * 1e3, rate, 100 * rate / roof, roof, (double)sink);
    strata_attention_destroy(a);
    strata_free(ctx, x);
    strata_free(ctx, cache);
}

int main(int argc, char **argv)
{
    static bench cases[] = {
        { .spec = "score=standard", .d = 64 },
        { .spec = "score=mlr ranks=16,16,16,16", .d = 64 },
        { .spec = "score=mlr ranks=32,8,6,4,4,4,4,2", .d = 64 },
        { .spec = "score=mlr ranks=32,16,16", .d = 64 },
        { .spec = "score=mlr ranks=8,8,8,8,8,8,8,8", .d = 64 },
        { .spec = "score=mlr ranks=16,16,16,16 vranks=16,16,16,16", .d = 64 },
        { .spec = "score=window window=512", .d = 64 },
        { .spec = "score=standard", .d = 128 },
        { .spec = "score=mlr ranks=32,32,32,32", .d = 128 },
        { .spec = "score=mlr ranks=64,16,12,8,8,8,8,4", .d = 128 },
        { .spec = "score=mlr ranks=64,32,32", .d = 128 },
        { .spec = "score=mlr ranks=32,32,32,32 vranks=32,32,32,32", .d = 128 },
    };
    enum { CASES = sizeof cases / sizeof *cases };
    int64_t time = argc > 1 ? atoi(argv[1]) : 4096, heads = argc > 2 ? atoi(argv[2]) : 2;
    int threads = argc > 3 ? atoi(argv[3]) : 1, repeats = argc > 4 ? atoi(argv[4]) : 5,
        d = argc > 5 ? atoi(argv[5]) : 0, bf16 = argc > 6 && atoi(argv[6]);
    char text[64];
    float sink = 0;
    double roof = 0;
    strata_context *ctx = NULL;
    snprintf(text, sizeof text, "threads=%d", threads);
    if (strata_context_create(text, NULL, &ctx) != STRATA_OK) return 1;
    for (int i = 0; i < CASES; i++)
        if (!d || cases[i].d == d) setup(ctx, &cases[i], time, heads, bf16 ? STRATA_BF16 : STRATA_F32);
    for (int n = 0; n < repeats; n++)
        for (int i = 0; i < CASES; i++) {
            if (!cases[i].a) continue;
            shared = 0;
            double r = roof_run(100000, &sink);
            shared = threads > 1;
            if (r > roof) roof = r;
            measure(&cases[i]);
        }
    roof *= threads;
    printf("isa %s, variant %s, T %lld, heads %lld, threads %d, best of %d, roof %.0f GF/s (%g)\n",
           strata_context_isa(ctx), strata_attention_variant(cases[0].a ? cases[0].a : cases[7].a), (long long)time,
           (long long)heads, threads, repeats, roof, (double)sink);
    printf("%-52s %4s %8s %6s %8s %6s %13s %13s\n", "spec", "d", "fwd GF/s", "share", "bwd GF/s", "share", "fwd t/flop",
           "bwd t/flop");
    const bench *full = NULL;
    for (int i = 0; i < CASES; i++) {
        bench *m = &cases[i];
        if (!m->a) continue;
        if (strcmp(m->spec, "score=standard") == 0) full = m;
        double f = m->flops_fwd / m->fwd * 1e-9, b = m->flops_bwd / m->bwd * 1e-9;
        printf("%-52s %4d %8.1f %5.1f%% %8.1f %5.1f%% %5.3f / %5.3f %5.3f / %5.3f\n", m->spec, m->d, f, 100 * f / roof,
               b, 100 * b / roof, m->fwd / full->fwd, m->flops_fwd / full->flops_fwd, m->bwd / full->bwd,
               m->flops_bwd / full->flops_bwd);
    }
    for (int i = 0; i < CASES; i++) {
        strata_attention_destroy(cases[i].a);
        strata_free(ctx, cases[i].x);
    }
    if (threads == 1 && !bf16) { /* the roof reads with one thread */
        printf("step at 32k tokens, batch 2, d 64\n");
        decode(ctx, "score=standard", 8);
        decode(ctx, "score=standard", 2);
        decode(ctx, "score=mlr ranks=32,8,6,4,4,4,4,2", 8);
    }
    strata_context_destroy(ctx);
    return 0;
}
