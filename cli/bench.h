#ifndef CLI_BENCH_H
#define CLI_BENCH_H
/* strata bench: measuring, the roofs of the machine, and one row of output. */
#include "cli.h"

enum { MAX_REPEAT = 101 };

typedef struct bench {
    const cli *c;
    strata_context *ctx;
    int32_t dtype;
    int repeat;
    double sgemm;     /* FLOP per CPU second of the 2048^3 matrix product in this run */
    double fma, read; /* FLOP, and bytes read from memory, per CPU second of one thread; 0: not known */
    bool header;
} bench;

/* Seconds: of the clock, and of CPU time of the whole process. */
typedef struct timing {
    double median, best, worst, cpu, cpu_best;
} timing;

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

double cpu_now(void);
/* Time the repeats, after one call that warms up. @return the first failing status */
strata_status measure(const bench *b, bench_call call, void *user, timing *t);
/* Timing from n <= MAX_REPEAT samples, which are reordered. */
timing timing_of(double *wall, double *cpu, int n);
void *numbers(const bench *b, int64_t count); /* in [-1, 1); strata_free */
void print_row(bench *b, const row *r);

int bench_attention(bench *b, const char *spec);
int bench_decode(bench *b, const char *spec);
int bench_operator(bench *b, const char *spec);
int bench_mixer(bench *b, const char *spec);
int bench_model(bench *b, const char *spec);
/* The 2048^3 matrix product: what every rate is compared with. */
int measure_gemm(bench *b);

#endif
