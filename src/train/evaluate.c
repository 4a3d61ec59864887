/* Mean loss and the task's own measures over validation data. */

#include <math.h>

#include "core/philox.h"
#include "train/run.h"

enum { STREAM = 0x6576616c }; /* of the windows that an evaluation takes */

static int64_t share(int64_t i, int64_t windows, int64_t n) /* floor(i windows / n), without overflow */
{
    return i * (windows / n) + i * (windows % n) / n;
}

int64_t sti_run_spread(int64_t i, int64_t windows, int64_t n)
{
    const int64_t from = share(i, windows, n), to = share(i + 1, windows, n);
    return from + (int64_t)sti_below(0, STREAM, (uint64_t)i, (uint64_t)(to - from));
}

void sti_run_take(sti_trainer *t, const sti_task *task, int64_t w, int64_t b)
{
    const int64_t time = t->plan->graph->time;
    if (task->inputs)
        task->cls->eval_values(task, w, time, (float *)t->x + b * time * task->inputs,
                               (float *)t->y + b * time * task->outputs);
    else
        task->cls->eval_window(task, w, time, t->tokens + b * time, t->targets + b * time);
}

static void answer(const sti_trainer *t, const sti_task *task, void *score, const void *out, int64_t w, int64_t b)
{
    const int64_t time = t->plan->graph->time, width = t->plan->graph->buffer[t->plan->logits].width;
    sti_task_answer a = { .window = w, .time = time, .out = out };
    a.out += b * time * width;
    if (task->inputs) {
        a.x = (const float *)t->x + b * time * task->inputs;
        a.y = (const float *)t->y + b * time * task->outputs;
    } else {
        a.tokens = t->tokens + b * time;
        a.targets = t->targets + b * time;
    }
    task->cls->score_answer(task, score, &a);
}

typedef struct sample { /* n of all windows */
    const sti_task *task;
    int64_t windows, n, budget;
} sample;

static sample sample_of(const sti_task *task, int64_t time, int64_t budget)
{
    const int64_t windows = task->cls->eval_windows(task, time);
    sample s = { task, windows, windows, 0 };
    if (budget <= 0 || windows == 0) return s;
    const int64_t n = task->cls->eval_sample ? task->cls->eval_sample(task, budget, -1) : sti_ceil_div(budget, time);
    if (n >= windows) return s;
    s.n = n;
    s.budget = budget;
    return s;
}

static int64_t window_of(const sample *s, int64_t i)
{
    if (s->budget && s->task->cls->eval_sample) return s->task->cls->eval_sample(s->task, s->budget, i);
    return sti_run_spread(i, s->windows, s->n);
}

/* Sums over a sample. */
static strata_status run_windows(sti_trainer *t, const sti_task *task, const sample *s, void *score, sti_tick_fn tick,
                                 void *user, double *sum, int64_t *scored)
{
    const int64_t n = s->n;
    for (int64_t done = 0; done < n;) {
        const int64_t k = STI_MIN(t->plan->graph->batch, n - done);
        double part = 0;
        int64_t count = 0;
        for (int64_t b = 0; b < k; b++) sti_run_take(t, task, window_of(s, done + b), b);
        STI_TRY(sti_trainer_loss(t, k, &part, &count));
        const void *given = NULL;
        if (score) STI_TRY(sti_trainer_outputs(t, &given));
        for (int64_t b = 0; b < k && score; b++) answer(t, task, score, given, window_of(s, done + b), b);
        *sum += part;
        *scored += count;
        done += k;
        if (tick && done < n && tick(user)) return sti_fail(STRATA_E_INTERRUPTED, "interrupted during an evaluation");
    }
    if (*scored == 0) return sti_fail(STRATA_E_SHAPE, "there is no validation target to score");
    if (!isfinite(*sum)) return sti_fail(STRATA_E_NUMERIC, "the validation loss is %g", *sum / (double)*scored);
    return STRATA_OK;
}

strata_status sti_run_evaluate(sti_trainer *t, const sti_task *task, int64_t max_tokens, bool whole, sti_tick_fn tick,
                               void *user, sti_evaluation *out)
{
    const int64_t time = t->plan->graph->time;
    const sample s = sample_of(task, time, max_tokens);
    strata_measures *m = NULL;
    void *score = NULL;
    double sum = 0;
    int64_t scored = 0;
    strata_status st = task->cls->score_create ? task->cls->score_create(task, time, &score) : STRATA_OK;
    if (st == STRATA_OK) st = run_windows(t, task, &s, score, tick, user, &sum, &scored);
    if (st == STRATA_OK && score) st = sti_measures_create(&m);
    if (st == STRATA_OK && score) st = task->cls->score_measure(task, score, whole, m);
    if (score) task->cls->score_destroy(score);
    if (st != STRATA_OK) {
        strata_measures_destroy(m);
        return st;
    }
    *out = (sti_evaluation){ .loss = sum / (double)scored, .scored = scored, .measures = m };
    return STRATA_OK;
}
