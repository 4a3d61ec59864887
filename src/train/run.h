#ifndef STI_RUN_H
#define STI_RUN_H
/* Training runs and evaluation, for any task. */

#include "train/state.h"

/* Plan the configured model for a task that is created; nothing is allocated for it. Shows what is wrong with the spec,
 * and what the model costs (NULL: not wanted). */
strata_status sti_run_check(const strata_context *ctx, const strata_config *c, const sti_task *task, strata_cost *cost);

/* strata_train, for a task that the caller has created and not loaded. */
strata_status sti_run_train(const strata_context *ctx, const strata_config *c, sti_task *task, const char *const *data,
                            int32_t ndata, const char *out_dir, strata_progress_fn fn, void *user);

/* Return non-zero to stop. */
typedef int (*sti_tick_fn)(void *user);

/* Window w of the task's validation data into place b of the trainer's batch. */
void sti_run_take(sti_trainer *t, const sti_task *task, int64_t w, int64_t b);
/* Number i of n <= windows windows that are spread over all of them: a random one, the same in every run, of each of n
 * equal parts. Equal steps would meet a daily cycle always at the same hour. */
int64_t sti_run_spread(int64_t i, int64_t windows, int64_t n);

typedef struct sti_evaluation {
    double loss;               /* mean */
    int64_t scored;            /* targets */
    strata_measures *measures; /* of the task; NULL when it has none. Owned by the caller */
} sti_evaluation;

/* Mean loss over the task's validation data, every scorable target once, or over about max_tokens positions (0: all) in
 * windows spread evenly; and the task's own measures, `whole` with those that need no model. tick (may be NULL) is
 * asked between batches; E_INTERRUPTED when it wants to stop. E_SHAPE when there is nothing to score, E_NUMERIC when
 * the loss is not finite. */
strata_status sti_run_evaluate(sti_trainer *t, const sti_task *task, int64_t max_tokens, bool whole, sti_tick_fn tick,
                               void *user, sti_evaluation *out);

#endif
