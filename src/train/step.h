#ifndef STI_STEP_H
#define STI_STEP_H
/* The numbers of a training step: plain structs that live where the context computes. */

/* What the steps since the last read left behind. The trainer keeps one where its context computes. */
typedef struct sti_step_sums {
    double total, scored;   /* of the micro-batches that no update has used yet: summed losses, scored targets */
    double loss, norm;      /* of the last step: mean loss, and norm of the mean gradient before clipping */
    double loss_sum, steps; /* over the steps: sum of their losses, and how many */
    double failed;          /* first step whose loss or norm is not finite, 0: none. From it on nothing has changed */
    double scale;           /* what the update multiplies gradients by */
} sti_step_sums;

typedef struct sti_step_rule { /* numbers of one step, in device memory: a recorded step reads them anew */
    double step, lr, accum, clip;
    double beta1, beta2, eps, weight_decay;
    double m_hat, v_hat; /* bias corrections, 1 / (1 - beta^t) */
} sti_step_rule;

#endif
