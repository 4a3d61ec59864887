/* strata bench model: training steps, and where their time goes. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench.h"

enum { MAX_KINDS = 32 };

typedef struct steps {
    strata_step_time step; /* of least CPU time */
    strata_kind_time kind[MAX_KINDS];
    int kinds;
    double of_gemm; /* median of the rates of steps over those of the matrix products around them */
    double gemm;    /* FLOP per CPU second of the products, median */
    timing t;
} steps;

/* Peak resident memory of this process in bytes. */
static double peak_memory(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (double)u.ru_maxrss * 1024 : 0;
}

/* FLOP per CPU second of one matrix product, now; 0: it failed. */
static double gemm_rate(const bench *b, gemm *g)
{
    const double start = cpu_now(), n = (double)gemm_size(b);
    if (gemm_call(g) != STRATA_OK || strata_synchronize(b->ctx) != STRATA_OK) return 0;
    return 2 * n * n * n / (cpu_now() - start);
}

static void keep(const strata_model_bench *m, const strata_step_time *s, steps *out)
{
    out->step = *s;
    out->kinds = strata_model_bench_kinds(m) < MAX_KINDS ? strata_model_bench_kinds(m) : MAX_KINDS;
    for (int k = 0; k < out->kinds; k++) {
        out->kind[k].size = STRATA_INIT(strata_kind_time);
        (void)strata_model_bench_kind(m, k, &out->kind[k]);
    }
}

/* Steps and matrix products in turn. */
static strata_status run_steps(bench *b, strata_model_bench *m, gemm *g, steps *out)
{
    samples s = { .n = b->repeat }, product = { .n = b->repeat };
    strata_step_time now = { .size = STRATA_INIT(strata_step_time) };
    strata_status st = strata_model_bench_step(m, &now);
    (void)gemm_rate(b, g);
    double roof = sample_roof(b), rate = gemm_rate(b, g);
    for (int i = 0; i < b->repeat && st == STRATA_OK; i++) {
        st = strata_model_bench_step(m, &now);
        const double after = sample_roof(b), rate_after = gemm_rate(b, g);
        s.wall[i] = now.seconds;
        s.cpu[i] = now.cpu_seconds;
        s.possible[i] = now.cpu_seconds * (roof + after) / 2;
        product.wall[i] = product.cpu[i] = (rate + rate_after) / 2;
        product.possible[i] = now.flops / now.cpu_seconds / product.cpu[i];
        roof = after;
        rate = rate_after;
        if (st == STRATA_OK && (i == 0 || now.cpu_seconds < out->step.cpu_seconds)) keep(m, &now, out);
    }
    if (st != STRATA_OK) return st;
    out->t = timing_of(&s);
    const timing p = timing_of(&product);
    out->gemm = p.cpu;
    out->of_gemm = p.possible;
    return st;
}

static double total_cpu(const strata_kind_time *k)
{
    return k->cpu_forward + k->cpu_backward;
}

static int by_time(const void *a, const void *b)
{
    const double x = total_cpu(a), y = total_cpu(b);
    return (x < y) - (x > y);
}

static void print_kinds_json(const steps *s)
{
    for (int i = 0; i < s->kinds; i++) {
        const strata_kind_time *k = &s->kind[i];
        json j = json_begin(stdout);
        json_text(&j, "stage", k->kind);
        json_int(&j, "stages", k->stages);
        json_num(&j, "forward_seconds", k->forward);
        json_num(&j, "backward_seconds", k->backward);
        json_num(&j, "cpu_forward_seconds", k->cpu_forward);
        json_num(&j, "cpu_backward_seconds", k->cpu_backward);
        json_num(&j, "share", total_cpu(k) / s->step.cpu_seconds);
        json_num(&j, "flops", k->flops_fwd + k->flops_bwd);
        json_end(&j);
    }
    json j = json_begin(stdout);
    json_text(&j, "stage", "step");
    json_int(&j, "tokens", s->step.tokens);
    json_num(&j, "forward_seconds", s->step.forward);
    json_num(&j, "backward_seconds", s->step.backward);
    json_num(&j, "update_seconds", s->step.update);
    json_num(&j, "tokens_per_s", (double)s->step.tokens / s->step.seconds);
    json_num(&j, "peak_memory", peak_memory());
    json_end(&j);
}

static void print_kinds(const steps *s)
{
    char memory[CLI_NUMBER];
    double rest = s->step.cpu_seconds;
    (void)printf("\n%.0f tokens/s (best %.0f), forward %.1f ms, backward %.1f ms, optimiser %.1f ms, peak memory %s\n",
                 (double)s->step.tokens / s->t.median, (double)s->step.tokens / s->t.best, s->step.forward * 1e3,
                 s->step.backward * 1e3, s->step.update * 1e3, cli_bytes(memory, peak_memory()));
    (void)printf("\n%-16s %6s %11s %12s %10s %7s %14s %8s\n", "kind", "stages", "forward ms", "backward ms", "cpu ms",
                 "share", "GFLOP/cpu-s", "of gemm");
    for (int i = 0; i < s->kinds; i++) {
        const strata_kind_time *k = &s->kind[i];
        const double flops = k->flops_fwd + k->flops_bwd, cpu = total_cpu(k);
        (void)printf("%-16s %6d %11.2f %12.2f %10.2f %6.1f%%", k->kind, (int)k->stages, k->forward * 1e3,
                     k->backward * 1e3, cpu * 1e3, 100 * cpu / s->step.cpu_seconds);
        if (flops > 0) (void)printf(" %14.1f %8.3f", flops / cpu * 1e-9, flops / cpu / s->gemm);
        (void)printf("\n");
        rest -= cpu;
    }
    (void)printf("%-16s %6s %11s %12s %10.2f %6.1f%%\n", "other", "", "", "", rest * 1e3,
                 100 * rest / s->step.cpu_seconds);
}

/* base: what it is compared with; empty, it is filled. */
static int time_model(bench *b, const char *spec, equivalent *base)
{
    strata_model_bench *m = NULL;
    gemm *g = NULL;
    steps s = { 0 };
    const int64_t batch = cli_given(b->c, "batch") ? cli_int(b->c, "batch") : 0;
    strata_status st = strata_model_bench_create(b->ctx, spec, cli_int(b->c, "vocab"), batch, b->dtype, &m);
    if (st != STRATA_OK) return cli_status(st, CLI_ON_INPUT, NULL);
    st = gemm_open(b, &g);
    if (st == STRATA_OK) st = run_steps(b, m, g, &s);
    gemm_close(b, g);
    strata_model_bench_destroy(m);
    if (st != STRATA_OK) return cli_status(st, CLI_ON_OUTPUT, NULL);
    b->sgemm = s.t.possible > 0 ? s.step.flops / s.t.possible / s.of_gemm : 0; /* so that the row says of_gemm */
    print_row(b, &(row){ .what = spec, .variant = variant_of(b), .t = s.t, .flops = s.step.flops, .base = base });
    if (base->work <= 0) *base = (equivalent){ s.t, s.step.flops };
    qsort(s.kind, (size_t)s.kinds, sizeof *s.kind, by_time);
    if (cli_flag(b->c, "json"))
        print_kinds_json(&s);
    else
        print_kinds(&s);
    return CLI_OK;
}

int bench_model(bench *b, const char *spec)
{
    equivalent base = { 0 };
    if (b->plain) { /* f32 first */
        bench f32 = *b;
        f32.ctx = b->plain;
        f32.rounds = false;
        const int rc = time_model(&f32, spec, &base);
        if (rc) return rc;
        (void)printf("%s", cli_flag(b->c, "json") ? "" : "\n");
    }
    return time_model(b, spec, &base);
}
