#ifndef STI_OPTIM_H
#define STI_OPTIM_H
/* AdamW with decoupled decay (Loshchilov and Hutter, 2019), the norm of the gradient, and learning-rate schedules.
 * Work is split into chunks that do not depend on the number of threads, so results do not either. */

#include "core/device.h"
#include "core/param.h"
#include "train/step.h"

typedef struct sti_adamw {
    double beta1, beta2, eps, weight_decay;
} sti_adamw;

typedef struct sti_optim sti_optim;

/* For blocks of the table's layout and of type dtype (F32 or F64), where the context computes; nothing after creation
 * allocates. The table is borrowed until destroy. */
strata_status sti_optim_create(const strata_context *ctx, const sti_params *table, int32_t dtype, sti_optim **out);
void sti_optim_destroy(sti_optim *o); /* accepts NULL */

/* The end of a step, in two halves that wait for nothing: *r, *sums and the blocks lie where the context computes.
 * close: the step's loss, its norm and the factor of the update go to *sums. update: unless sums->failed, AdamW as
 * below; grads become 0. compute: NULL, or the bf16 copy of params, refreshed. */
void sti_optim_close(const sti_optim *o, const sti_step_rule *r, const void *grads, sti_step_sums *sums);
void sti_optim_update(const sti_optim *o, const sti_step_rule *r, const sti_step_sums *sums, void *grads, void *params,
                      void *m, void *v, void *compute);

/* ---- on the CPU ---- */

/* Euclidean norm of all gradients, in double, tied parameters once. NaN or inf when a gradient is not finite. */
double sti_optim_norm(const sti_optim *o, const void *grads);
/* Step number t = 1, 2, …, with g = scale * grads, f the multiplier of the tensor (and of the column) and decay on
 * tensors of two or more dimensions: m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2 w -= lr f (m / (1-b1^t)) / (sqrt(v /
 * (1-b2^t)) + eps) + lr f wd w */
void sti_optim_step(const sti_optim *o, const sti_adamw *a, double lr, int64_t t, double scale, const void *grads,
                    void *params, void *m, void *v);

typedef struct sti_schedule {
    double lr, min_lr;
    int64_t warmup, steps; /* steps: where the cosine reaches min_lr */
    bool cosine;
} sti_schedule;

/* Rate of step t = 1, 2, …: lr t / warmup up to t = warmup, then lr, or the cosine that ends in min_lr at t = steps. */
double sti_schedule_rate(const sti_schedule *s, int64_t t);

#endif
