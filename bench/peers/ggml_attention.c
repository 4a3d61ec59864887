/* ggml_attention TIME HEADS D THREADS REPEATS f32|f16: causal ggml_flash_attn_ext on the CPU, keys and values in the
 * named type (queries are f32 in ggml). Prints the median wall and CPU seconds, and the largest error of the last
 * query's outputs. Built and run by ggml_attention.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ggml-cpu.h"
#include "ggml.h"

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* (d, time, heads) of numbers between -1 and 1; `copy` keeps them as stored */
static struct ggml_tensor *draw(struct ggml_context *ctx, enum ggml_type type, int64_t d, int64_t time, int64_t heads,
                                float *copy)
{
    struct ggml_tensor *t = ggml_new_tensor_4d(ctx, type, d, time, heads, 1);
    const int64_t n = d * time * heads;
    for (int64_t i = 0; i < n; i++) copy[i] = (float)(rand() % 2001 - 1000) * 1e-3f;
    if (type == GGML_TYPE_F16) {
        ggml_fp32_to_fp16_row(copy, t->data, n);
        ggml_fp16_to_fp32_row(t->data, copy, n);
    } else {
        memcpy(t->data, copy, (size_t)n * sizeof *copy);
    }
    return t;
}

int main(int argc, char **argv)
{
    if (argc != 7) return 2;
    const int64_t time = atoll(argv[1]), heads = atoll(argv[2]), d = atoll(argv[3]);
    const int threads = atoi(argv[4]), repeats = atoi(argv[5]);
    const enum ggml_type type = strcmp(argv[6], "f16") == 0 ? GGML_TYPE_F16 : GGML_TYPE_F32;
    if (time < 1 || time % 64 || heads < 1 || d < 1 || repeats < 1) return 2; /* masks are padded to 64 rows */
    const size_t n = (size_t)(time * heads * d);
    struct ggml_context *ctx = ggml_init(
        (struct ggml_init_params){ .mem_size = 6 * n * sizeof(float) + (size_t)(time * time) * 2 + (64u << 20) });
    float *q = malloc(n * sizeof *q), *k = malloc(n * sizeof *k), *v = malloc(n * sizeof *v);
    double *wall = malloc((size_t)repeats * sizeof *wall), *cpu = malloc((size_t)repeats * sizeof *cpu);
    double *p = malloc((size_t)time * sizeof *p);
    if (!ctx || !q || !k || !v || !wall || !cpu || !p) return 1;
    struct ggml_tensor *tq = draw(ctx, GGML_TYPE_F32, d, time, heads, q);
    struct ggml_tensor *tk = draw(ctx, type, d, time, heads, k), *tv = draw(ctx, type, d, time, heads, v);
    struct ggml_tensor *mask = ggml_new_tensor_4d(ctx, GGML_TYPE_F16, time, time, 1, 1);
    ggml_fp16_t *m = mask->data, zero = ggml_fp32_to_fp16(0), out = ggml_fp32_to_fp16(-INFINITY);
    for (int64_t i = 0; i < time; i++)
        for (int64_t j = 0; j < time; j++) m[i * time + j] = j <= i ? zero : out;
    const float scale = 1 / sqrtf((float)d);
    struct ggml_tensor *o = ggml_flash_attn_ext(ctx, tq, tk, tv, mask, scale, 0, 0); /* (d, heads, time) */
    struct ggml_cgraph *graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, o);
    for (int i = -1; i < repeats; i++) { /* the first one warms up */
        const double w = seconds(CLOCK_MONOTONIC), c = seconds(CLOCK_PROCESS_CPUTIME_ID);
        if (ggml_graph_compute_with_ctx(ctx, graph, threads) != GGML_STATUS_SUCCESS) return 1;
        if (i >= 0) {
            cpu[i] = seconds(CLOCK_PROCESS_CPUTIME_ID) - c;
            wall[i] = seconds(CLOCK_MONOTONIC) - w;
        }
    }
    double error = 0;
    for (int64_t h = 0; h < heads; h++) {
        const float *row = q + (h * time + time - 1) * d, *got = (const float *)o->data + ((time - 1) * heads + h) * d;
        double top = -INFINITY, sum = 0;
        for (int64_t j = 0; j < time; j++) {
            p[j] = 0;
            for (int64_t x = 0; x < d; x++) p[j] += (double)row[x] * k[(h * time + j) * d + x] * scale;
            top = fmax(top, p[j]);
        }
        for (int64_t j = 0; j < time; j++) sum += p[j] = exp(p[j] - top);
        for (int64_t x = 0; x < d; x++) {
            double want = 0;
            for (int64_t j = 0; j < time; j++) want += p[j] / sum * v[(h * time + j) * d + x];
            error = fmax(error, fabs(want - got[x]));
        }
    }
    qsort(wall, (size_t)repeats, sizeof *wall, ascending);
    qsort(cpu, (size_t)repeats, sizeof *cpu, ascending);
    printf("%.9g %.9g %.3g\n", wall[repeats / 2], cpu[repeats / 2], error);
    return 0;
}
