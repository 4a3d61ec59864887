#ifndef STI_TRAINER_H
#define STI_TRAINER_H
/* A model with its gradients and optimiser state: one training step, and the loss without one. Knows neither files nor
 * tasks. Nothing after creation allocates. On a device a step waits for nothing: its numbers are read when somebody
 * wants them. */

#include "model/model.h"
#include "train/optim.h"

typedef struct sti_trainer {
    strata_context *ctx; /* shared */
    sti_model_plan *plan;
    sti_model_run run;
    sti_optim *optim; /* NULL: evaluation only */
    /* Where the context computes, in the type of sums of the plan's; m, v, grads NULL for evaluation only. */
    void *params, *grads, *m, *v;
    void *compute; /* BF16 plans: the parameters that the stages read; else NULL */
    /* Of the host, where the caller fills a batch in: tokens and targets (batch, time); or, of a model of numbers, x
     * (batch, time, inputs) and y (batch, time, outputs) in the type of sums. */
    int32_t *tokens, *targets;
    void *x, *y;
    void *ext[2]; /* the two where the context computes; on the CPU they themselves */
    void *upload; /* BF16 plans of numbers: x on the device as it came, else NULL */
    sti_adamw rule;
    double clip;         /* 0: off */
    double flops_token;  /* training FLOPs of one token at full length */
    void *outputs;       /* a device's, on the host; NULL until they are wanted */
    void *given;         /* BF16 plans: the same on the device in the type of sums; likewise */
    sti_step_rule *how;  /* where the context computes */
    sti_step_sums *sums; /* likewise */
    double accum;        /* micro-batches since the last update */
    /* A device replays these two instead of queueing the launches one by one; made by the second call. */
    sti_recording *micro, *finish;
    int32_t micro_calls, finish_calls; /* -1: recording failed, launches it is */
} sti_trainer;

/* size->train is taken as 1. learn 0: evaluation only. Parameters are zero: fill them, or sti_trainer_init. */
strata_status sti_trainer_create(const strata_context *ctx, const char *spec, int64_t vocab, const sti_model_size *size,
                                 bool learn, sti_trainer **out);
void sti_trainer_destroy(sti_trainer *t); /* accepts NULL */
strata_status sti_trainer_init(sti_trainer *t, uint64_t seed);
/* Sum of the losses (nats, or squared errors) and number of scored targets of the first `batch` sequences. */
strata_status sti_trainer_loss(sti_trainer *t, int64_t batch, double *loss, int64_t *scored);
/* What the model gave in the last call of sti_trainer_loss, on the host: (batch, time, vocab or outputs), f32 or f64 as
 * sums are. A device's are fetched, into memory that the first such call allocates; waits. */
strata_status sti_trainer_outputs(sti_trainer *t, const void **out);
/* Forward and backward of the full batch: grads += d(mean loss)/d(params). The batch may be refilled after it returns.
 */
strata_status sti_trainer_grad(sti_trainer *t);
/* Step number `step` (1, 2, …) from the sum of the gradients since the last one, which is cleared. Where the loss or
 * the norm of their mean is not finite nothing changes, from then on: sums->failed. */
strata_status sti_trainer_update(sti_trainer *t, int64_t step, double lr);
/* What the updates since the last read left behind; waits for them. loss_sum and steps start anew. */
strata_status sti_trainer_read(sti_trainer *t, sti_step_sums *out);

/* The parameters (and moments, NULL for evaluation only) on the host: the trainer's own blocks on the CPU, f32. */
typedef struct sti_trainer_copy {
    float *params, *m, *v;
} sti_trainer_copy;
strata_status sti_trainer_fetch(const sti_trainer *t, sti_trainer_copy *c);
void sti_trainer_drop(const sti_trainer *t, sti_trainer_copy *c);
/* Take a copy's numbers over (those that are not NULL), and refresh what depends on them. */
strata_status sti_trainer_put(sti_trainer *t, const sti_trainer_copy *c);

#endif
