/* Mean loss over validation data. */

#include <math.h>

#include "train/run.h"

/* floor(i n / m) for i < m <= n without overflow. */
static int64_t spread(int64_t i, int64_t n, int64_t m)
{
    return i * (n / m) + i * (n % m) / m;
}

/* Window w into place b of the batch. */
static void take(sti_trainer *t, const sti_task *task, int64_t w, int64_t b)
{
    const int64_t time = t->plan->graph->time;
    if (task->inputs)
        task->cls->eval_values(task, w, time, (float *)t->x + b * time * task->inputs,
                               (float *)t->y + b * time * task->outputs);
    else
        task->cls->eval_window(task, w, time, t->tokens + b * time, t->targets + b * time);
}

strata_status sti_run_evaluate(sti_trainer *t, const sti_task *task, int64_t max_tokens, sti_tick_fn tick, void *user,
                               double *loss, int64_t *targets)
{
    const int64_t batch = t->plan->graph->batch, time = t->plan->graph->time;
    const int64_t windows = task->cls->eval_windows(task, time);
    int64_t n = windows, scored = 0;
    double sum = 0;
    if (max_tokens > 0) n = STI_MIN(windows, sti_ceil_div(max_tokens, time));
    for (int64_t done = 0; done < n;) {
        const int64_t k = STI_MIN(batch, n - done);
        for (int64_t b = 0; b < k; b++) take(t, task, spread(done + b, windows, n), b);
        double part = 0;
        int64_t count = 0;
        STI_TRY(sti_trainer_loss(t, k, &part, &count));
        sum += part;
        scored += count;
        done += k;
        if (tick && done < n && tick(user)) return sti_fail(STRATA_E_INTERRUPTED, "interrupted during an evaluation");
    }
    if (scored == 0) return sti_fail(STRATA_E_SHAPE, "there is no validation target to score");
    if (!isfinite(sum)) return sti_fail(STRATA_E_NUMERIC, "the validation loss is %g", sum / (double)scored);
    *loss = sum / (double)scored;
    *targets = scored;
    return STRATA_OK;
}
