#ifndef CLI_BENCH_H
#define CLI_BENCH_H
/* strata bench: measuring, the roofs of the machine, and one row of output. */
#include "cli.h"

enum { MAX_REPEAT = 101 };

typedef struct bench {
    const cli *c;
    strata_context *ctx;
    strata_context *plain; /* --bf16 on the CPU: the f32 context that ctx is compared with; else NULL */
    int32_t dtype;
    int repeat;
    double sgemm;     /* share of the roof that the matrix product reached in this run */
    bool bytes;       /* decode: the roof is reading memory, else multiply-adds */
    uint64_t *memory; /* what that roof reads, a slice at a time */
    size_t slice;
    bool device; /* a GPU: times are of the clock, and the roof is the matrix product itself, or copying memory */
    double roof; /* of a device, measured first: FLOPs or bytes per second */
    bool rounds; /* ctx rounds operands of f32 arrays to bf16: multiply-adds of f32 are no roof */
    bool header;
} bench;

/* Seconds: of the clock, and of CPU time of the whole process; medians but for the range. `possible` is what the roof
 * would have done in the CPU time: FLOPs, or bytes. It is sampled before and after every call, because the speed of a
 * shared machine changes within seconds. */
typedef struct timing {
    double median, best, worst, cpu, possible;
    double narrow; /* the same of the roof of bf16 products; 0 where none are made */
} timing;

/* Samples of one measurement. */
typedef struct samples {
    double wall[MAX_REPEAT], cpu[MAX_REPEAT], possible[MAX_REPEAT], narrow[MAX_REPEAT];
    int n;
} samples;

/* What a measurement is compared with: dense, or full attention. */
typedef struct equivalent {
    timing t;
    double work; /* FLOPs, or bytes; 0: nothing was measured yet */
} equivalent;

typedef struct row {
    const char *what, *variant;
    timing t;
    double flops, bytes;    /* 0: not counted */
    const equivalent *base; /* NULL or empty: none */
} row;

typedef strata_status (*bench_call)(void *user);

double cpu_now(void); /* CPU time of the process; of a device the clock */
/* Time the repeats, after one call that warms up. @return the first failing status */
strata_status measure(bench *b, bench_call call, void *user, timing *t);
double sample_roof(bench *b);                            /* per CPU second, now */
timing timing_of(samples *s);                            /* reorders them */
void *numbers(const bench *b, int64_t count);            /* in [-1, 1), where ctx computes; strata_device_free */
strata_tensor on_place(const bench *b, strata_tensor t); /* t, said to be where ctx computes */
void print_row(bench *b, const row *r);
const char *variant_of(const bench *b); /* what kernels of the context run on */

int bench_attention(bench *b, const char *spec);
int bench_decode(bench *b, const char *spec);
int bench_operator(bench *b, const char *spec);
int bench_mixer(bench *b, const char *spec);
int bench_model(bench *b, const char *spec);
/* The matrix product of gemm_size^3: what every rate is compared with. Timed at once, or step by step. */
int measure_gemm(bench *b);
typedef struct gemm gemm;
strata_status gemm_open(const bench *b, gemm **out);
strata_status gemm_call(void *g);
void gemm_close(const bench *b, gemm *g);
int64_t gemm_size(const bench *b); /* 2048; of a device 8192 */

#endif
