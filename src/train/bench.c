/* A training step, timed stage by stage. */
#include <strata/bench.h>

#include <string.h>
#include <time.h>

#include "core/philox.h"
#include "train/trainer.h"

struct strata_model_bench {
    sti_trainer *trainer;
    strata_kind_time *kind; /* nkind; the last is the optimiser */
    int32_t *kind_of;       /* of each stage */
    double *seconds;        /* 4 per stage: sti_exec */
    int32_t nkind;
    int64_t step;
};

static double now(clockid_t clock)
{
    struct timespec t;
    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Number the kinds of the stages and add up what each is counted at. */
static void sort_kinds(strata_model_bench *b)
{
    const sti_graph *g = b->trainer->plan->graph;
    for (int32_t i = 0; i < g->nstage; i++) {
        const sti_stage *s = &g->stage[i];
        int32_t k = 0;
        while (k < b->nkind && strcmp(b->kind[k].kind, s->cls->kind) != 0) k++;
        if (k == b->nkind) b->kind[b->nkind++].kind = s->cls->kind;
        sti_cost c = { 0 };
        if (s->cls->cost) s->cls->cost(s, g->batch, g->time, &c);
        b->kind_of[i] = k;
        b->kind[k].stages++;
        b->kind[k].flops_fwd += c.flops_fwd;
        b->kind[k].flops_bwd += c.flops_bwd;
    }
    b->kind[b->nkind++] = (strata_kind_time){ .kind = "adamw", .stages = 1 };
}

strata_status strata_model_bench_create(const strata_context *ctx, const char *spec, int64_t vocab, int64_t batch,
                                        int32_t dtype, strata_model_bench **out)
{
    *out = NULL;
    const sti_model_size size = { .batch = batch ? batch : 8, .dtype = dtype };
    strata_model_bench *b = sti_heap(sizeof *b);
    if (!b) return sti_fail(STRATA_E_MEMORY, "out of memory");
    sti_spec *parsed = NULL;
    strata_status st = sti_spec_parse(spec, &parsed);
    if (st == STRATA_OK) {
        st = sti_trainer_create(ctx, spec, vocab ? vocab : sti_model_vocab(parsed), &size, true, &b->trainer);
        sti_spec_free(parsed);
    }
    if (st == STRATA_OK) {
        const size_t n = (size_t)b->trainer->plan->graph->nstage;
        b->kind = sti_heap((n + 1) * sizeof *b->kind);
        b->kind_of = sti_heap((n + 1) * sizeof *b->kind_of);
        b->seconds = sti_heap((4 * n + 1) * sizeof *b->seconds);
        if (!b->kind || !b->kind_of || !b->seconds) st = sti_fail(STRATA_E_MEMORY, "out of memory");
    }
    if (st != STRATA_OK) {
        strata_model_bench_destroy(b);
        return st;
    }
    b->trainer->clip = 1;
    if ((st = sti_trainer_init(b->trainer, 1)) != STRATA_OK) {
        strata_model_bench_destroy(b);
        return st;
    }
    sort_kinds(b);
    *out = b;
    return STRATA_OK;
}

void strata_model_bench_destroy(strata_model_bench *b)
{
    if (!b) return;
    sti_trainer_destroy(b->trainer);
    sti_heap_free(b->kind);
    sti_heap_free(b->kind_of);
    sti_heap_free(b->seconds);
    sti_heap_free(b);
}

static void random_batch(const strata_model_bench *b)
{
    const sti_trainer *t = b->trainer;
    const int64_t n = t->plan->graph->batch * t->plan->graph->time;
    for (int64_t i = 0; i < n * t->plan->inputs; i++)
        ((float *)t->x)[i] = (float)sti_normal(1, (uint64_t)b->step, (uint64_t)i);
    for (int64_t i = 0; i < n * t->plan->outputs; i++)
        ((float *)t->y)[i] = (float)sti_normal(2, (uint64_t)b->step, (uint64_t)i);
    if (t->plan->inputs) return;
    for (int64_t i = 0; i < n; i++) {
        t->tokens[i] = (int32_t)sti_below(1, (uint64_t)b->step, (uint64_t)i, (uint64_t)t->plan->vocab);
        if (i) t->targets[i - 1] = t->tokens[i];
    }
    t->targets[n - 1] = -1;
}

/* A step of a device as training runs it: its time is that of the clock. */
static strata_status recorded_step(strata_model_bench *b, strata_step_time *t)
{
    sti_trainer *r = b->trainer;
    const int steps = 4; /* queued one behind the other, as in training */
    do {                 /* until both halves are recorded, or cannot be */
        STI_TRY(sti_trainer_grad(r));
        STI_TRY(sti_trainer_update(r, ++b->step, 1e-4));
    } while (!r->finish && r->finish_calls > 0 && r->finish_calls < 3);
    STI_TRY(sti_device_wait(r->ctx));
    const double start = now(CLOCK_MONOTONIC);
    for (int i = 0; i < steps; i++) {
        STI_TRY(sti_trainer_grad(r));
        STI_TRY(sti_trainer_update(r, ++b->step, 1e-4));
    }
    STI_TRY(sti_device_wait(r->ctx));
    t->seconds = t->cpu_seconds = (now(CLOCK_MONOTONIC) - start) / steps;
    return STRATA_OK;
}

strata_status strata_model_bench_step(strata_model_bench *b, strata_step_time *out)
{
    if (!b || !out || out->size < sizeof out->size)
        return sti_fail(STRATA_E_INVALID, "bench: no handle, or size is not set; use STRATA_INIT");
    strata_step_time one = { .size = out->size }, *t = &one;
    sti_trainer *r = b->trainer;
    const sti_graph *g = r->plan->graph;
    sti_step_sums sums;
    memset(b->seconds, 0, 4 * (size_t)g->nstage * sizeof *b->seconds);
    random_batch(b);
    if (sti_on_device(r->ctx)) STI_TRY(recorded_step(b, t));
    r->run.exec.stage_seconds = b->seconds;
    const double start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    STI_TRY(sti_trainer_grad(r));
    STI_TRY(sti_device_wait(r->ctx));
    const double middle = now(CLOCK_MONOTONIC), cpu_middle = now(CLOCK_PROCESS_CPUTIME_ID);
    STI_TRY(sti_trainer_update(r, ++b->step, 1e-4));
    STI_TRY(sti_trainer_read(r, &sums));
    const double end = now(CLOCK_MONOTONIC), cpu_end = now(CLOCK_PROCESS_CPUTIME_ID);
    r->run.exec.stage_seconds = NULL;

    for (int32_t k = 0; k < b->nkind; k++) {
        strata_kind_time *x = &b->kind[k];
        x->forward = x->backward = x->cpu_forward = x->cpu_backward = 0;
    }
    t->forward = 0;
    for (int32_t i = 0, n = g->nstage; i < n; i++) {
        strata_kind_time *x = &b->kind[b->kind_of[i]];
        x->forward += b->seconds[i];
        x->backward += b->seconds[n + i];
        x->cpu_forward += b->seconds[2 * n + i];
        x->cpu_backward += b->seconds[3 * n + i];
        t->forward += b->seconds[i];
    }
    b->kind[b->nkind - 1].backward = t->update = end - middle;
    b->kind[b->nkind - 1].cpu_backward = cpu_end - cpu_middle;
    if (!sti_on_device(r->ctx)) {
        t->seconds = end - start;
        t->cpu_seconds = cpu_end - cpu;
    }
    t->backward = middle - start - t->forward;
    t->tokens = g->batch * g->time;
    t->flops = (double)t->tokens * r->flops_token;
    t->loss = sums.loss;
    memcpy(out, t, STI_MIN(out->size, sizeof *t));
    return STRATA_OK;
}

int32_t strata_model_bench_kinds(const strata_model_bench *b)
{
    return b ? b->nkind : 0;
}

strata_status strata_model_bench_kind(const strata_model_bench *b, int32_t i, strata_kind_time *t)
{
    if (!b || !t || t->size < sizeof t->size)
        return sti_fail(STRATA_E_INVALID, "bench: no handle, or size is not set; use STRATA_INIT");
    if (i < 0 || i >= b->nkind)
        return sti_fail(STRATA_E_INVALID, "kind %d of a model with %d kinds of stages", (int)i, (int)b->nkind);
    strata_kind_time full = b->kind[i];
    full.size = t->size;
    memcpy(t, &full, STI_MIN(t->size, sizeof full));
    return STRATA_OK;
}
