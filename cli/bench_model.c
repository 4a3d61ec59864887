/* strata bench model: training steps, and where their time goes. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench.h"

enum { MAX_KINDS = 32 };

typedef struct best_step { /* the step of least CPU time */
    strata_step_time step;
    strata_kind_time kind[MAX_KINDS];
    int kinds;
} best_step;

/* Peak resident memory of this process in bytes. */
static double peak_memory(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (double)u.ru_maxrss * 1024 : 0;
}

static strata_status run_steps(const bench *b, strata_model_bench *m, timing *t, best_step *best)
{
    double wall[MAX_REPEAT], cpu[MAX_REPEAT];
    strata_step_time s = { .size = STRATA_INIT(strata_step_time) };
    strata_status st = strata_model_bench_step(m, &s);
    for (int i = 0; i < b->repeat && st == STRATA_OK; i++) {
        st = strata_model_bench_step(m, &s);
        wall[i] = s.seconds;
        cpu[i] = s.cpu_seconds;
        if (st != STRATA_OK || (i && s.cpu_seconds >= best->step.cpu_seconds)) continue;
        best->step = s;
        best->kinds = strata_model_bench_kinds(m);
        if (best->kinds > MAX_KINDS) best->kinds = MAX_KINDS;
        for (int k = 0; k < best->kinds; k++) {
            best->kind[k].size = STRATA_INIT(strata_kind_time);
            (void)strata_model_bench_kind(m, k, &best->kind[k]);
        }
    }
    if (st == STRATA_OK) *t = timing_of(wall, cpu, b->repeat);
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

static void print_kinds_json(const best_step *s)
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

static void print_kinds(const bench *b, const best_step *s, const timing *t)
{
    char memory[CLI_NUMBER];
    double rest = s->step.cpu_seconds;
    (void)printf("\n%.0f tokens/s (best %.0f), forward %.1f ms, backward %.1f ms, optimiser %.1f ms, peak memory %s\n",
                 (double)s->step.tokens / t->median, (double)s->step.tokens / t->best, s->step.forward * 1e3,
                 s->step.backward * 1e3, s->step.update * 1e3, cli_bytes(memory, peak_memory()));
    (void)printf("\n%-16s %6s %11s %12s %10s %7s %14s %8s\n", "kind", "stages", "forward ms", "backward ms", "cpu ms",
                 "share", "GFLOP/cpu-s", "of gemm");
    for (int i = 0; i < s->kinds; i++) {
        const strata_kind_time *k = &s->kind[i];
        const double flops = k->flops_fwd + k->flops_bwd, cpu = total_cpu(k);
        (void)printf("%-16s %6d %11.2f %12.2f %10.2f %6.1f%%", k->kind, (int)k->stages, k->forward * 1e3,
                     k->backward * 1e3, cpu * 1e3, 100 * cpu / s->step.cpu_seconds);
        if (flops > 0) (void)printf(" %14.1f %8.3f", flops / cpu * 1e-9, flops / cpu / b->sgemm);
        (void)printf("\n");
        rest -= cpu;
    }
    (void)printf("%-16s %6s %11s %12s %10.2f %6.1f%%\n", "other", "", "", "", rest * 1e3,
                 100 * rest / s->step.cpu_seconds);
}

int bench_model(bench *b, const char *spec)
{
    strata_model_bench *m = NULL;
    best_step best = { 0 };
    timing t = { 0 };
    const int64_t batch = cli_given(b->c, "batch") ? cli_int(b->c, "batch") : 0;
    strata_status st = strata_model_bench_create(b->ctx, spec, cli_int(b->c, "vocab"), batch, &m);
    if (st != STRATA_OK) return cli_status(st, CLI_ON_INPUT, NULL);
    st = run_steps(b, m, &t, &best);
    if (st == STRATA_OK && measure_gemm(b) == CLI_OK) { /* again: the machine may have been slower before */
        print_row(b, &(row){ .what = spec, .variant = strata_context_isa(b->ctx), .t = t, .flops = best.step.flops });
        qsort(best.kind, (size_t)best.kinds, sizeof *best.kind, by_time);
        if (cli_flag(b->c, "json"))
            print_kinds_json(&best);
        else
            print_kinds(b, &best, &t);
    }
    strata_model_bench_destroy(m);
    return cli_status(st, CLI_ON_OUTPUT, NULL);
}
