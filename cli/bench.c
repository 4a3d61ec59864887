/* strata bench: a component against the roofs of the machine and against its dense or full-attention equivalent, all
 * measured in the same run. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_roof.h"

/* ---- measuring -------------------------------------------------------------------------------------------------- */
double cpu_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

timing timing_of(double *wall, double *cpu, int n)
{
    qsort(wall, (size_t)n, sizeof *wall, by_value);
    qsort(cpu, (size_t)n, sizeof *cpu, by_value);
    return (timing){ wall[n / 2], wall[0], wall[n - 1], cpu[n / 2], cpu[0] };
}

strata_status measure(const bench *b, bench_call call, void *user, timing *t)
{
    double wall[MAX_REPEAT], cpu[MAX_REPEAT];
    strata_status st = call(user);
    for (int i = 0; i < b->repeat && st == STRATA_OK; i++) {
        const double start = cli_now(), start_cpu = cpu_now();
        st = call(user);
        cpu[i] = cpu_now() - start_cpu;
        wall[i] = cli_now() - start;
    }
    if (st == STRATA_OK) *t = timing_of(wall, cpu, b->repeat);
    return st;
}

/* A 64-bit congruential generator is random enough for timing. */
void *numbers(const bench *b, int64_t count)
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

/* ---- output ----------------------------------------------------------------------------------------------------- */
/* a / b, or NaN: null in JSON, blank in the table. */
static double ratio(double a, double b)
{
    return a > 0 && b > 0 ? a / b : (double)NAN;
}

/* The speed-up that the counts of FLOPs or bytes promise. */
static double promised(const row *r)
{
    return r->base ? ratio(r->base->work, r->flops > 0 ? r->flops : r->bytes) : (double)NAN;
}

static void print_json(const bench *b, const row *r)
{
    const timing *t = &r->t;
    json j = json_begin(stdout);
    json_text(&j, "what", r->what);
    json_text(&j, "variant", r->variant);
    json_int(&j, "threads", strata_context_threads(b->ctx));
    json_int(&j, "repeats", b->repeat);
    json_num(&j, "seconds", t->median);
    json_num(&j, "seconds_min", t->best);
    json_num(&j, "seconds_max", t->worst);
    json_num(&j, "cpu_seconds", t->cpu);
    json_num(&j, "cpu_seconds_min", t->cpu_best);
    json_num(&j, "flops", ratio(r->flops, 1));
    json_num(&j, "gflops_per_s", ratio(r->flops * 1e-9, t->median));
    json_num(&j, "of_sgemm", ratio(r->flops / t->cpu_best, b->sgemm));
    json_num(&j, "of_fma", b->dtype == STRATA_F32 ? ratio(r->flops / t->cpu_best, b->fma) : (double)NAN);
    json_num(&j, "bytes", ratio(r->bytes, 1));
    json_num(&j, "gbytes_per_s", ratio(r->bytes * 1e-9, t->median));
    json_num(&j, "of_read", ratio(r->bytes / t->cpu_best, b->read));
    json_num(&j, "speedup", r->base ? ratio(r->base->t.median, t->median) : (double)NAN);
    json_num(&j, "speedup_cpu", r->base ? ratio(r->base->t.cpu_best, t->cpu_best) : (double)NAN);
    json_num(&j, "promised", promised(r));
    json_end(&j);
}

/* One cell, blank when there is nothing to say. */
static void cell(int width, int digits, double x)
{
    if (isfinite(x))
        (void)printf(" %*.*f", width, digits, x);
    else
        (void)printf(" %*s", width, "");
}

void print_row(bench *b, const row *r)
{
    const timing *t = &r->t;
    if (cli_flag(b->c, "json")) {
        print_json(b, r);
    } else {
        if (!b->header)
            (void)printf("%-56s %-7s %9s %19s %9s %8s %7s %7s %7s %7s %8s %8s\n", "", "variant", "median ms",
                         "min … max", "cpu ms", "GFLOP/s", "of gemm", "of fma", "GB/s", "of read", "speed-up",
                         "promised");
        b->header = true;
        char spread[40];
        (void)snprintf(spread, sizeof spread, "%.3f … %.3f", t->best * 1e3, t->worst * 1e3);
        /* the column counts bytes: the dots of the range are three */
        (void)printf("%-56.56s %-7s %9.3f %21s %9.3f", r->what, r->variant, t->median * 1e3, spread, t->cpu_best * 1e3);
        cell(8, 2, ratio(r->flops * 1e-9, t->median));
        cell(7, 3, ratio(r->flops / t->cpu_best, b->sgemm));
        cell(7, 3, b->dtype == STRATA_F32 ? ratio(r->flops / t->cpu_best, b->fma) : (double)NAN);
        cell(7, 2, ratio(r->bytes * 1e-9, t->median));
        cell(7, 3, ratio(r->bytes / t->cpu_best, b->read));
        cell(8, 2, r->base ? ratio(r->base->t.cpu_best, t->cpu_best) : (double)NAN);
        cell(8, 2, promised(r));
        (void)printf("\n");
    }
    (void)fflush(stdout);
}

/* ---- roofs ------------------------------------------------------------------------------------------------------ */
enum { READ_BYTES = 512 << 20 }; /* beyond the caches */

static int measure_read(bench *b)
{
    uint64_t *p = strata_alloc(b->ctx, READ_BYTES);
    if (!p) return cli_fail(CLI_FAILED, "bench: no memory for %d bytes", READ_BYTES);
    memset(p, 1, READ_BYTES);
    roof_read_rate r = { 0, 0 };
    double wall[MAX_REPEAT], cpu[MAX_REPEAT];
    for (int i = 0; i < b->repeat; i++) {
        const double start = cli_now(), start_cpu = cpu_now();
        volatile uint64_t sink = roof_read(p, READ_BYTES / sizeof *p, strata_context_threads(b->ctx), &r);
        (void)sink;
        cpu[i] = cpu_now() - start_cpu;
        wall[i] = cli_now() - start;
    }
    strata_free(b->ctx, p);
    b->read = r.cpu;
    print_row(b, &(row){ .what = "memory read, 512 MiB",
                         .variant = "",
                         .t = timing_of(wall, cpu, b->repeat),
                         .bytes = READ_BYTES });
    return CLI_OK;
}

/* ---- command ---------------------------------------------------------------------------------------------------- */
typedef struct bench_kind {
    const char *name, *family; /* family of the spec */
    int (*run)(bench *b, const char *spec);
} bench_kind;

static const bench_kind kinds[] = {
    { "attention", "attention", bench_attention },
    { "decode", "attention", bench_decode },
    { "operator", "operator", bench_operator },
    { "mixer", "mixer", bench_mixer },
    { "model", "model", bench_model },
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static int run_bench(cli *c)
{
    bench b = { .c = c, .dtype = cli_flag(c, "f64") ? STRATA_F64 : STRATA_F32, .repeat = (int)cli_int(c, "repeat") };
    int k = 0;
    while (k < KINDS && strcmp(kinds[k].name, c->arg[0]) != 0) k++;
    if (k == KINDS)
        return cli_fail(CLI_USAGE, "bench: '%s' is none of attention, decode, operator, mixer, model", c->arg[0]);
    if (kinds[k].run == bench_model && b.dtype != STRATA_F32)
        return cli_fail(CLI_UNAVAILABLE, "bench: models are trained in f32 only");
    int rc = CLI_OK;
    for (int i = 1; i < c->nargs && !rc; i++)
        rc = cli_status(strata_spec_check(kinds[k].family, c->arg[i]), CLI_ON_INPUT, NULL);
    if (!rc) rc = cli_context(c, NULL, &b.ctx);
    if (!rc) b.fma = roof_fma();
    if (!rc && kinds[k].run == bench_decode) rc = measure_read(&b);
    if (!rc && kinds[k].run != bench_decode) rc = measure_gemm(&b);
    for (int i = 1; i < c->nargs && !rc; i++) rc = kinds[k].run(&b, c->arg[i]);
    strata_context_destroy(b.ctx);
    return rc;
}

static const cli_option options[] = {
    { "batch", 0, CLI_INT, "N", "attention, mixer: sequences (1); model: sequences of a step (8); decode: 1, 4, 16, 64",
      NULL, 1, 1e6 },
    { "time", 0, CLI_INT, "N", "attention, mixer: tokens per sequence", "1024", 1, 1e8 },
    { "context", 0, CLI_INT, "N", "decode: tokens in the cache", "32768", 1, 1e8 },
    { "heads", 0, CLI_INT, "N", "attention, decode: query heads; mixer: of the standard mixer it is compared with", "8",
      1, 1e5 },
    { "kv-heads", 0, CLI_INT, "N", "attention, decode: key heads; 0: as many as query heads", "0", 0, 1e5 },
    { "d-qk", 0, CLI_INT, "N", "attention, decode: columns of q and k per head", "64", 1, 1e5 },
    { "d-v", 0, CLI_INT, "N", "attention, decode: columns of v per head; 0: d-qk", "0", 0, 1e5 },
    { "width", 0, CLI_INT, "N", "mixer: width", "256", 1, 1e6 },
    { "rows", 0, CLI_INT, "N", "operator: outputs", "1024", 1, 1e8 },
    { "cols", 0, CLI_INT, "N", "operator: inputs", "1024", 1, 1e8 },
    { "count", 0, CLI_INT, "N", "operator: vectors; without it 1, 16 and 1024", NULL, 1, 1e8 },
    { "vocab", 0, CLI_INT, "N", "model: vocabulary", "96", 2, 1e8 },
    { "repeat", 'r', CLI_INT, "N", "timed calls, of a model training steps; the median is printed", "9", 1,
      MAX_REPEAT },
    { "f64", 0, CLI_FLAG, NULL, "compute in f64 instead of f32 (not model)", NULL, 0, 0 },
    { "json", 0, CLI_FLAG, NULL, "one JSON object per measurement", NULL, 0, 0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_bench = {
    "bench",
    "attention|decode|operator|mixer|model SPEC…",
    "Time a component against the roofs of the machine and its dense equivalent",
    "Each line gives the median of the repeats, their range and the least CPU time of the process (all threads), the\n"
    "rate by exact FLOP counts or by the bytes of the cache formula, and its share of what this machine reached in "
    "the\n"
    "same run: a 2048^3 matrix product, multiply-adds in registers, reading 512 MiB. Shares and speed-ups compare "
    "least\n"
    "CPU times, so that other programs on the machine do not count; waiting threads do. Speed-up: over the\n"
    "equivalent above it, which is full attention, a dense operator, or a standard softmax mixer; 'promised' is what "
    "the\n"
    "counts of FLOPs or bytes promise. model: training steps on random tokens, and a table of time by kind of stage.",
    "strata bench attention \"score=mlr ranks=32,16,16\" --time 4096\n"
    "strata bench decode \"score=mlr ranks=16,16,16,16\" --heads 8 --kv-heads 2\n"
    "strata bench operator \"btt rank=2\" monarch --rows 4096 --cols 4096 --json\n"
    "strata bench model \"decoder layers=6 width=256 context=1024\"",
    2,
    -1,
    options,
    run_bench,
};
