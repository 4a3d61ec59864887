#ifndef STI_TRAINER_H
#define STI_TRAINER_H
/* A model with its gradients and optimiser state: one training step, and the loss without one. Knows neither files nor
 * tasks. Nothing after creation allocates. */

#include "model/model.h"
#include "train/optim.h"

typedef struct sti_trainer {
    strata_context *ctx; /* shared */
    sti_model_plan *plan;
    sti_model_run run;
    sti_optim *optim;             /* NULL: evaluation only */
    void *params, *grads, *m, *v; /* of the plan's dtype; m, v, grads NULL for evaluation only */
    int32_t *tokens, *targets;    /* (batch, time): the caller fills them. NULL for a model of numbers, which has */
    void *x, *y;                  /* (batch, time, inputs), (batch, time, outputs): numbers of the plan's dtype */
    sti_adamw rule;
    double clip;        /* 0: off */
    double flops_token; /* training FLOPs of one token at full length */
} sti_trainer;

/* size->train is taken as 1. learn 0: evaluation only. Parameters are zero: fill them, or sti_trainer_init. */
strata_status sti_trainer_create(const strata_context *ctx, const char *spec, int64_t vocab, const sti_model_size *size,
                                 bool learn, sti_trainer **out);
void sti_trainer_destroy(sti_trainer *t); /* accepts NULL */
void sti_trainer_init(sti_trainer *t, uint64_t seed);
/* Sum of the losses (nats, or squared errors) and number of scored targets of the first `batch` sequences. */
strata_status sti_trainer_loss(sti_trainer *t, int64_t batch, double *loss, int64_t *scored);
/* What the model gave in the last call of sti_trainer_loss: (batch, time, vocab or outputs), of the plan's dtype. */
const void *sti_trainer_outputs(const sti_trainer *t);
/* The same for the full batch, and grads += d(mean loss)/d(params). */
strata_status sti_trainer_grad(sti_trainer *t, double *loss, int64_t *scored);
/* Step number `step` (1, 2, …) from the sum of `accum` gradients, which is cleared. *norm: of their mean, before
 * clipping. E_NUMERIC when it is not finite; then nothing changed. */
strata_status sti_trainer_update(sti_trainer *t, int64_t step, int64_t accum, double lr, double *norm);

#endif
