/* attention_cuda_bench [forward|decode]: attention on a GPU. Forward and backward in useful TFLOP/s; one step of
 * decoding in GB/s of the cache formula, beside a copy of the same bytes. Calls are recorded and replayed, so the
 * host's launches do not count. Lines of decode are what bench/peers/gpu_decode.py reads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <strata/attention.h>

#include "core/device.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(strata_status s, const char *what)
{
    if (s == STRATA_OK) return;
    fprintf(stderr, "%s: %s\n", what, strata_last_error());
    exit(s == STRATA_E_DEVICE ? 77 : 1);
}

/* n numbers around zero */
static void *numbers(const strata_context *ctx, int32_t dtype, int64_t n)
{
    void *p = NULL, *f = NULL;
    float *host = malloc((size_t)n * sizeof *host);
    if (!host) exit(1);
    uint32_t x = 12345;
    for (int64_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        host[i] = (float)(x >> 8) / 8388608.0f - 1;
    }
    must(sti_array_calloc(ctx, n, sizeof *host, &f), "memory");
    must(sti_array_calloc(ctx, n, strata_dtype_size(dtype), &p), "memory");
    must(sti_to_device(ctx, f, host, (size_t)n * sizeof *host), "copy");
    sti_array_convert(ctx, p, dtype, f, STRATA_F32, n);
    sti_array_free(ctx, f);
    free(host);
    return p;
}

/* Best seconds of one call of fn in recordings of `calls` calls. */
typedef struct repeated {
    strata_status (*fn)(void *);
    void *arg;
    int calls;
} repeated;

static strata_status run_calls(void *arg)
{
    const repeated *r = arg;
    strata_status s = STRATA_OK;
    for (int i = 0; i < r->calls && s == STRATA_OK; i++) s = r->fn(r->arg);
    return s;
}

/* The same without a recording: the host launches. */
static double plain_seconds(const strata_context *ctx, strata_status (*fn)(void *), void *arg, int calls)
{
    repeated r = { fn, arg, calls };
    double best = 1e9;
    for (int i = 0; i < 6; i++) {
        const double t0 = now();
        must(run_calls(&r), "call");
        must(sti_device_wait(ctx), "wait");
        const double t = (now() - t0) / calls;
        if (t < best) best = t;
    }
    return best;
}

static double seconds(const strata_context *ctx, strata_status (*fn)(void *), void *arg, int calls)
{
    repeated r = { fn, arg, calls };
    sti_recording *rec = NULL;
    double best = 1e9;
    must(fn(arg), "call");
    must(sti_device_wait(ctx), "call");
    must(sti_record(ctx, run_calls, &r, &rec), "record");
    for (int i = 0; i < 6; i++) {
        const double t0 = now();
        must(sti_replay(ctx, rec), "replay");
        must(sti_device_wait(ctx), "wait");
        const double t = (now() - t0) / calls;
        if (t < best) best = t;
    }
    sti_recording_free(ctx, rec);
    return best;
}

typedef struct work { /* of one case */
    strata_attention *a;
    strata_tensor t[8], lse;
    char *cache;
    size_t stride;
    int64_t pos[256];
    const strata_context *ctx;
    void *from, *to;
    size_t bytes;
} work;

static strata_status forward(void *arg)
{
    work *w = arg;
    return strata_attention_forward(w->a, &w->t[0], &w->t[1], &w->t[2], &w->t[3], &w->lse, NULL);
}

static strata_status backward(void *arg)
{
    work *w = arg;
    return strata_attention_backward(w->a, &w->t[0], &w->t[1], &w->t[2], &w->t[3], &w->lse, &w->t[4], &w->t[5],
                                     &w->t[6], &w->t[7], NULL);
}

static void train(const strata_context *ctx, const char *spec, int32_t dtype, int64_t heads, int64_t time, int64_t d)
{
    strata_attention_problem p = { STRATA_INIT(strata_attention_problem),
                                   .batch = 1,
                                   .heads = heads,
                                   .q_time = time,
                                   .d_qk = d,
                                   .dtype = dtype,
                                   .train = 1 };
    strata_attention_info info = { .size = STRATA_INIT(strata_attention_info) };
    work w = { .ctx = ctx };
    must(strata_attention_create(ctx, spec, &p, &w.a), spec);
    must(strata_attention_query(w.a, &info), spec);
    for (int i = 0; i < 8; i++) {
        w.t[i] = strata_view4(numbers(ctx, dtype, heads * time * d), dtype, 1, heads, time, d);
        w.t[i].device = STRATA_CUDA;
    }
    const int32_t sums = dtype == STRATA_F64 ? STRATA_F64 : STRATA_F32;
    w.lse = strata_view3(numbers(ctx, sums, heads * time), sums, 1, heads, time);
    w.lse.device = STRATA_CUDA;
    const double f = seconds(ctx, forward, &w, 2), b = seconds(ctx, backward, &w, 1);
    printf("%-5s %-44s d %3lld T %5lld heads %2lld %-5s: forward %8.3f ms %6.1f TFLOP/s, backward %8.3f ms %6.1f\n",
           strata_attention_variant(w.a), spec, (long long)d, (long long)time, (long long)heads,
           strata_dtype_name(dtype), f * 1e3, info.flops_fwd / f * 1e-12, b * 1e3, info.flops_bwd / b * 1e-12);
    for (int i = 0; i < 8; i++) sti_array_free(ctx, w.t[i].data);
    sti_array_free(ctx, w.lse.data);
    strata_attention_destroy(w.a);
}

static strata_status step(void *arg)
{
    work *w = arg;
    return strata_attention_step(w->a, w->cache, w->stride, w->pos, &w->t[0], &w->t[1], &w->t[2], &w->t[3], NULL);
}

static strata_status copy(void *arg)
{
    work *w = arg;
    sti_array_copy(w->ctx, w->to, w->from, w->bytes);
    return STRATA_OK;
}

static double copy_rate; /* GB/s, read and written bytes together */

static void decode(const strata_context *ctx, const char *spec, int32_t dtype, int64_t batch, int64_t heads,
                   int64_t kv_heads, int64_t time, int64_t d)
{
    strata_attention_problem p = { STRATA_INIT(strata_attention_problem),
                                   .batch = batch,
                                   .heads = heads,
                                   .kv_heads = kv_heads,
                                   .q_time = 1,
                                   .k_time = time,
                                   .d_qk = d,
                                   .context = time,
                                   .dtype = dtype };
    work w = { .ctx = ctx };
    size_t payload = 0;
    void *memory = NULL;
    must(strata_attention_create(ctx, spec, &p, &w.a), spec);
    must(strata_attention_cache_size(w.a, time, &w.stride, &payload), spec);
    must(sti_array_calloc(ctx, batch, w.stride, &memory), "cache");
    w.cache = memory;
    void *tokens = numbers(ctx, dtype, kv_heads * time * d);
    strata_tensor all = strata_view3(tokens, dtype, kv_heads, time, d);
    all.device = STRATA_CUDA;
    for (int64_t b = 0; b < batch; b++) {
        must(strata_attention_cache_append(w.a, w.cache + (size_t)b * w.stride, 0, &all, &all), spec);
        w.pos[b] = time - 1;
    }
    for (int i = 0; i < 4; i++) {
        const int64_t h = i == 0 || i == 3 ? heads : kv_heads;
        w.t[i] = strata_view3(numbers(ctx, dtype, batch * h * d), dtype, batch, h, d);
        w.t[i].device = STRATA_CUDA;
    }
    const double s = seconds(ctx, step, &w, 20), bytes = (double)batch * (double)payload;
    const double plain = plain_seconds(ctx, step, &w, 20);
    printf("decode %s spec '%s' batch %lld heads %lld kv_heads %lld d %lld context %lld us %.2f GB/s %.0f of_copy %.3f "
           "plain %.2f\n",
           strata_dtype_name(dtype), spec, (long long)batch, (long long)heads, (long long)kv_heads, (long long)d,
           (long long)time, s * 1e6, bytes / s * 1e-9, bytes / s * 1e-9 / copy_rate, plain * 1e6);
    for (int i = 0; i < 4; i++) sti_array_free(ctx, w.t[i].data);
    sti_array_free(ctx, tokens);
    sti_array_free(ctx, w.cache);
    strata_attention_destroy(w.a);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    strata_context *ctx = NULL;
    must(strata_context_create("device=cuda", NULL, &ctx), "context");
    if (strcmp(what, "decode") != 0) {
        static const int32_t types[] = { STRATA_F32, STRATA_BF16 };
        for (int i = 0; i < 2; i++)
            for (int64_t d = 64; d <= 128; d *= 2) {
                train(ctx, "score=standard", types[i], 16, 4096, d);
                train(ctx, d == 64 ? "score=mlr ranks=32,16,16" : "score=mlr ranks=64,16,16,16,16", types[i], 16, 4096,
                      d);
            }
        train(ctx, "score=mlr ranks=32,16,16 vranks=32,16,16", STRATA_BF16, 16, 4096, 64);
        train(ctx, "score=standard", STRATA_BF16, 16, 4096, 96);
        train(ctx, "score=mlr ranks=48,48", STRATA_BF16, 16, 4096, 96);
        train(ctx, "score=standard", STRATA_F64, 4, 2048, 64);
    }
    if (strcmp(what, "forward") != 0) {
        work w = { .ctx = ctx, .bytes = (size_t)1 << 30 };
        must(sti_array_calloc(ctx, 1, w.bytes, &w.from), "memory");
        must(sti_array_calloc(ctx, 1, w.bytes, &w.to), "memory");
        copy_rate = 2 * (double)w.bytes / seconds(ctx, copy, &w, 4) * 1e-9;
        printf("copy %.0f GB/s\n", copy_rate);
        sti_array_free(ctx, w.from);
        sti_array_free(ctx, w.to);
        static const char *const specs[] = { "score=standard", "score=mlr ranks=64,16,16,16,16",
                                             "score=mlr ranks=64,16,16,16,16 vranks=64,16,16,16,16",
                                             "score=mlr ranks=32,32,32,32 vranks=32,32,32,32" };
        for (int64_t time = 4096; time <= 32768; time *= 8)
            for (int64_t batch = 1; batch <= 64; batch *= 8)
                for (int i = 0; i < 4; i++) {
                    const int64_t b = time > 4096 && batch > 8 ? 32 : batch;
                    decode(ctx, specs[i], STRATA_BF16, b, 8, 8, time, 128);
                    if (i == 0) decode(ctx, specs[i], STRATA_BF16, b, 32, 8, time, 128);
                }
        decode(ctx, "score=standard", STRATA_BF16, 16, 64, 8, 32768, 128);
        decode(ctx, "score=standard", STRATA_BF16, 8, 12, 12, 32768, 64);
        decode(ctx, "score=mlr ranks=32,8,6,4,4,4,4,2", STRATA_BF16, 8, 12, 12, 32768, 64);
        decode(ctx, "score=mlr ranks=32,8,6,4,4,4,4,2 vranks=32,8,6,4,4,4,4,2", STRATA_BF16, 8, 12, 12, 32768, 64);
        decode(ctx, "score=standard", STRATA_F32, 8, 8, 8, 32768, 64);
    }
    strata_context_destroy(ctx);
    return 0;
}
