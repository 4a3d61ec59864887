/* strata bench: a component against the roofs of the machine and against its dense or full-attention equivalent, all
 * measured in the same run. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_roof.h"

enum { READ_BYTES = 512 << 20 }; /* beyond the caches */
enum { FRESH = 1000003 };        /* numbers drawn for an array; a prime, so that no two rows are alike */

/* ---- measuring -------------------------------------------------------------------------------------------------- */
static bool clock_only; /* a device works while the process waits: CPU time says nothing */

double cpu_now(void)
{
    struct timespec t;
    if (clock_only) return cli_now();
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double middle(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

timing timing_of(samples *s)
{
    const double median = middle(s->wall, s->n);
    return (timing){
        median, s->wall[0], s->wall[s->n - 1], middle(s->cpu, s->n), middle(s->possible, s->n), middle(s->narrow, s->n)
    };
}

enum { SLICES = 16 };

double sample_roof(bench *b)
{
    const int threads = strata_context_threads(b->ctx);
    if (b->device) return b->roof;
    if (!b->memory) return roof_fma(threads);
    b->slice = (b->slice + 1) % SLICES;
    return roof_read(b->memory + b->slice * (READ_BYTES / SLICES / 8), READ_BYTES / SLICES / 8, threads);
}

/* Of bf16 products where the context makes them, on the CPU; else 0. */
static double sample_narrow(const bench *b)
{
    if (!b->rounds || b->bytes) return 0;
    return roof_bf16(strata_context_threads(b->ctx), !strcmp(strata_context_isa(b->ctx), "amx"));
}

/* n calls, and on a device the end of what they queued. */
static strata_status calls(const bench *b, bench_call call, void *user, int64_t n)
{
    strata_status st = STRATA_OK;
    for (int64_t i = 0; i < n && st == STRATA_OK; i++) st = call(user);
    return st == STRATA_OK ? strata_synchronize(b->ctx) : st;
}

/* Calls of one sample: 1, or enough that a device works for some milliseconds between two waits. */
static strata_status calls_of_sample(const bench *b, bench_call call, void *user, int64_t *n)
{
    *n = 1;
    strata_status st = calls(b, call, user, 1);
    while (b->device && st == STRATA_OK && *n < 4096) {
        const double start = cli_now();
        st = calls(b, call, user, *n);
        if (cli_now() - start > 5e-3) break;
        *n *= 2;
    }
    return st;
}

strata_status measure(bench *b, bench_call call, void *user, timing *t)
{
    samples s = { .n = b->repeat };
    int64_t n;
    strata_status st = calls_of_sample(b, call, user, &n);
    double before = sample_roof(b), narrow_before = sample_narrow(b);
    for (int i = 0; i < b->repeat && st == STRATA_OK; i++) {
        const double start = cli_now(), start_cpu = cpu_now();
        st = calls(b, call, user, n);
        s.cpu[i] = (cpu_now() - start_cpu) / (double)n;
        s.wall[i] = (cli_now() - start) / (double)n;
        const double after = sample_roof(b), narrow_after = sample_narrow(b);
        s.possible[i] = s.cpu[i] * (before + after) / 2;
        s.narrow[i] = s.cpu[i] * (narrow_before + narrow_after) / 2;
        before = after;
        narrow_before = narrow_after;
    }
    if (st == STRATA_OK) *t = timing_of(&s);
    return st;
}

/* A 64-bit congruential generator is random enough for timing. */
void *numbers(const bench *b, int64_t count)
{
    const size_t bytes = (size_t)count * strata_dtype_size(b->dtype);
    void *p = strata_alloc(b->ctx, bytes ? bytes : 1), *placed = NULL;
    uint64_t s = 1;
    const int64_t fresh = count < FRESH ? count : FRESH, e = (int64_t)strata_dtype_size(b->dtype);
    for (int64_t i = 0; p && i < fresh; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        const double v = (double)(int64_t)(s >> 11) / 4503599627370496.0 - 1;
        const float f = (float)v;
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        if (b->dtype == STRATA_F32)
            ((float *)p)[i] = f;
        else if (b->dtype == STRATA_F64)
            ((double *)p)[i] = v;
        else
            ((uint16_t *)p)[i] = (uint16_t)(bits >> 16); /* bf16, cut */
    }
    for (int64_t i = fresh; p && i < count; i += fresh) /* repeated: the generator would take longer than the kernels */
        memcpy((char *)p + i * e, p, (size_t)((count - i < fresh ? count - i : fresh) * e));
    if (!p || !b->device) return p;
    if (strata_device_alloc(b->ctx, bytes, &placed) == STRATA_OK &&
        strata_to_device(b->ctx, placed, p, bytes) != STRATA_OK) {
        strata_device_free(b->ctx, placed);
        placed = NULL;
    }
    strata_free(b->ctx, p);
    return placed;
}

strata_tensor on_place(const bench *b, strata_tensor t)
{
    t.device = strata_context_device(b->ctx);
    return t;
}

/* ---- output ----------------------------------------------------------------------------------------------------- */
/* a / b, or NaN: null in JSON, blank in the table. */
static double ratio(double a, double b)
{
    return a > 0 && b > 0 ? a / b : (double)NAN;
}

/* What a row says beside its times; NaN where it says nothing. */
typedef struct shares {
    double of_gemm, of_roof, speedup, promised;
} shares;

static shares shares_of(const bench *b, const row *r)
{
    const double work = b->bytes ? r->bytes : r->flops, of = ratio(work, r->t.possible);
    const bool fits = b->bytes || b->device || b->dtype == STRATA_F32; /* the CPU's roof is f32's */
    const double of_roof = b->rounds && !b->bytes ? ratio(work, r->t.narrow) : fits ? of : (double)NAN;
    const equivalent *e = r->base && r->base->work > 0 ? r->base : NULL;
    shares s = { ratio(of, b->bytes ? 0 : b->sgemm), of_roof, NAN, NAN };
    if (!e) return s;
    s.speedup = e->t.possible > 0 ? ratio(e->t.possible, r->t.possible) : ratio(e->t.cpu, r->t.cpu);
    s.promised = ratio(e->work, work);
    return s;
}

static void print_json(const bench *b, const row *r)
{
    const timing *t = &r->t;
    const shares s = shares_of(b, r);
    json j = json_begin(stdout);
    json_text(&j, "what", r->what);
    json_text(&j, "variant", r->variant);
    json_int(&j, "threads", strata_context_threads(b->ctx));
    json_int(&j, "repeats", b->repeat);
    json_num(&j, "seconds", t->median);
    json_num(&j, "seconds_min", t->best);
    json_num(&j, "seconds_max", t->worst);
    json_num(&j, "cpu_seconds", t->cpu);
    json_num(&j, "flops", ratio(r->flops, 1));
    json_num(&j, "gflops_per_s", ratio(r->flops * 1e-9, t->median));
    json_num(&j, "gflops_per_cpu_s", ratio(r->flops * 1e-9, t->cpu));
    json_num(&j, "of_sgemm", s.of_gemm);
    json_num(&j, b->bytes ? "of_read" : b->device ? "of_roof" : b->rounds ? "of_bf16" : "of_fma", s.of_roof);
    json_num(&j, "bytes", ratio(r->bytes, 1));
    json_num(&j, "gbytes_per_s", ratio(r->bytes * 1e-9, t->median));
    json_num(&j, "speedup", s.speedup);
    json_num(&j, "promised", s.promised);
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

const char *variant_of(const bench *b)
{
    const char *isa = strata_context_isa(b->ctx);
    return b->rounds && !strcmp(isa, "amx") ? "amx bf16" : isa;
}

void print_row(bench *b, const row *r)
{
    if (cli_flag(b->c, "json")) {
        print_json(b, r);
    } else {
        const timing *t = &r->t;
        const shares s = shares_of(b, r);
        if (!b->header)
            (void)printf("%-68s %-10s %9s %19s %9s %8s %8s %8s %8s %8s\n", "", "variant", "median ms", "min … max",
                         "cpu ms", b->bytes ? "GB/s" : "GFLOP/s", b->bytes ? "" : "of gemm",
                         b->bytes    ? "of read"
                         : b->device ? "of roof"
                         : b->rounds ? "of bf16"
                                     : "of fma",
                         "speed-up", "promised");
        b->header = true;
        char spread[40];
        (void)snprintf(spread, sizeof spread, "%.3f … %.3f", t->best * 1e3, t->worst * 1e3);
        /* the width counts bytes, and the dots of the range are three */
        (void)printf("%-68.68s %-10s %9.3f %21s %9.3f", r->what, r->variant, t->median * 1e3, spread, t->cpu * 1e3);
        cell(8, 2, ratio((b->bytes ? r->bytes : r->flops) * 1e-9, t->median));
        cell(8, 3, s.of_gemm);
        cell(8, 3, s.of_roof);
        cell(8, 2, s.speedup);
        cell(8, 2, s.promised);
        (void)printf("\n");
    }
    (void)fflush(stdout);
}

/* ---- command ---------------------------------------------------------------------------------------------------- */
/* decode is compared with reading memory, everything else with multiply-adds. */
static strata_status all_memory(void *user)
{
    const bench *b = user;
    (void)roof_read(b->memory, READ_BYTES / sizeof *b->memory, strata_context_threads(b->ctx));
    return STRATA_OK;
}

/* The roof of a device: half of the bytes are read and half are written. */
typedef struct copying {
    const bench *b;
    void *from, *to;
} copying;

static strata_status copy_memory(void *user)
{
    const copying *c = user;
    return strata_device_copy(c->b->ctx, c->to, c->from, READ_BYTES / 2);
}

static int measure_copy(bench *b)
{
    timing t;
    copying c = { .b = b };
    strata_status s = strata_device_alloc(b->ctx, READ_BYTES / 2, &c.from);
    if (s == STRATA_OK) s = strata_device_alloc(b->ctx, READ_BYTES / 2, &c.to);
    b->bytes = true;
    b->roof = 1;
    if (s == STRATA_OK) s = measure(b, copy_memory, &c, &t);
    strata_device_free(b->ctx, c.from);
    strata_device_free(b->ctx, c.to);
    if (s != STRATA_OK) return cli_status(s, CLI_ON_OUTPUT, "bench");
    b->roof = READ_BYTES / t.median;
    t.possible = READ_BYTES;
    print_row(b, &(row){ .what = "copy 256 MiB (read and written)", .variant = "", .t = t, .bytes = READ_BYTES });
    return CLI_OK;
}

static int measure_read(bench *b)
{
    timing t;
    if (b->device) return measure_copy(b);
    b->bytes = true;
    b->memory = strata_alloc(b->ctx, READ_BYTES);
    if (!b->memory) return cli_fail(CLI_FAILED, "bench: no memory for %d bytes", READ_BYTES);
    memset(b->memory, 1, READ_BYTES);
    (void)measure(b, all_memory, b, &t);
    print_row(b, &(row){ .what = "read 512 MiB", .variant = "", .t = t, .bytes = READ_BYTES });
    return CLI_OK;
}

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

/* --bf16 on the CPU: products of f32 arrays round their operands, and attention takes arrays of bf16. */
static int round_operands(bench *b)
{
    b->plain = b->ctx;
    b->ctx = NULL;
    b->rounds = true;
    const int rc = cli_context_with(b->c, NULL, "bf16", &b->ctx);
    if (rc || !strcmp(strata_context_math(b->ctx), "bf16")) return rc;
    return cli_fail(CLI_UNAVAILABLE, "bench: --bf16: no instructions for bf16 products here, and no --device cuda");
}

static int run_bench(cli *c)
{
    bench b = { .c = c, .dtype = cli_flag(c, "f64") ? STRATA_F64 : STRATA_F32, .repeat = (int)cli_int(c, "repeat") };
    const bool bf16 = cli_flag(c, "bf16");
    int k = 0;
    while (k < KINDS && strcmp(kinds[k].name, c->arg[0]) != 0) k++;
    if (k == KINDS)
        return cli_fail(CLI_USAGE, "bench: '%s' is none of attention, decode, operator, mixer, model", c->arg[0]);
    if (kinds[k].run == bench_model && b.dtype == STRATA_F64)
        return cli_fail(CLI_UNAVAILABLE, "bench: models are trained in f32 or bf16");
    int rc = CLI_OK;
    for (int i = 1; i < c->nargs && !rc; i++)
        rc = cli_status(strata_spec_check(kinds[k].family, c->arg[i]), CLI_ON_INPUT, NULL);
    if (!rc) rc = cli_context(c, NULL, &b.ctx);
    b.device = clock_only = !rc && strata_context_device(b.ctx) != STRATA_CPU;
    if (!rc && bf16 && b.device && kinds[k].run == bench_mixer)
        rc = cli_fail(CLI_UNAVAILABLE, "bench: mixers alone compute in f32 or f64 on a device; bench model has bf16");
    if (!rc && bf16 && b.device) b.dtype = STRATA_BF16;
    if (!rc && bf16 && !b.device) rc = round_operands(&b);
    if (!rc && kinds[k].run == bench_decode) rc = measure_read(&b);
    if (!rc && kinds[k].run != bench_decode) rc = measure_gemm(&b);
    if (b.rounds && (kinds[k].run == bench_attention || kinds[k].run == bench_decode)) b.dtype = STRATA_BF16;
    for (int i = 1; i < c->nargs && !rc; i++) rc = kinds[k].run(&b, c->arg[i]);
    strata_free(b.ctx, b.memory);
    strata_context_destroy(b.ctx);
    strata_context_destroy(b.plain);
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
    { "vocab", 0, CLI_INT, "N", "model: vocabulary; 0: 96", "0", 0, 1e8 },
    { "repeat", 'r', CLI_INT, "N", "timed calls, of a model training steps; the median is printed", "9", 1,
      MAX_REPEAT },
    { "f64", 0, CLI_FLAG, NULL, "compute in f64 instead of f32 (not model)", NULL, 0, 0 },
    { "bf16", 0, CLI_FLAG, NULL,
      "compute in bf16; on the CPU attention takes arrays of bf16, products round operands of f32", NULL, 0, 0 },
    { "json", 0, CLI_FLAG, NULL, "one JSON object per measurement", NULL, 0, 0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_bench = {
    "bench",
    "attention|decode|operator|mixer|model SPEC…",
    "Time a component against the roofs of the machine and its dense equivalent",
    "Each line gives the median time of the repeats with their range, the median CPU time of the process (all "
    "threads),\n"
    "the rate by exact FLOP counts (decode: by the bytes of the cache formula), and its share of what this machine\n"
    "reaches in the same run: a 2048^3 matrix product, and multiply-adds in registers (decode: reading memory), "
    "sampled\n"
    "before and after every call. Shares and speed-ups are by CPU time relative to that roof, so that neither other\n"
    "programs nor a changing clock count; threads that wait do. Speed-up: over the equivalent above it, which is full\n"
    "attention, a dense operator, or a standard softmax mixer; 'promised' is what the counts of FLOPs or bytes allow.\n"
    "On a GPU (--device cuda) all times are of the clock, over calls queued for some milliseconds; the roof is the\n"
    "8192^3 product of the same type, for decode a copy within the device's memory.\n"
    "model: training steps on random tokens, and a table of time by kind of stage; with --bf16 on the CPU of f32 "
    "first.",
    "strata bench attention \"score=mlr ranks=32,16,16\" --time 4096\n"
    "strata bench decode \"score=mlr ranks=16,16,16,16\" --heads 8 --kv-heads 2\n"
    "strata bench operator \"btt rank=2\" monarch --rows 4096 --cols 4096 --json\n"
    "strata bench model \"decoder layers=6 width=256 context=1024\"",
    2,
    -1,
    options,
    run_bench,
};
