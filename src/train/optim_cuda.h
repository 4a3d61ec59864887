#ifndef STI_OPTIM_CUDA_H
#define STI_OPTIM_CUDA_H
/* The device side of the optimiser: nothing waits, so a step's numbers stay on the device until somebody reads them. */

#include <stdint.h>

#include <strata/context.h>

#include "train/step.h"

STRATA_BEGIN

typedef struct sti_optim_piece { /* one thread block's share of a tensor */
    int64_t first, count;
    double lr_mult;
    int64_t columns, width,
        column; /* factors at table[columns ..), or columns < 0; width and first column of the share */
    int32_t decay;
} sti_optim_piece;

typedef struct sti_optim_table { /* all in device memory */
    const sti_optim_piece *piece;
    int64_t pieces;
    const double *factors;
    double *partial; /* pieces */
} sti_optim_table;

/* sums->total and ->scored += the columns of loss (rows, 2), of type F32 or F64. */
void sti_step_loss_cuda(const strata_context *ctx, int32_t type, int64_t rows, const void *loss, sti_step_sums *sums);
/* Close a step: norm of the gradients, the step's loss, the factor of the update, and whether it happens at all. */
void sti_step_close_cuda(const strata_context *ctx, int32_t type, const sti_optim_table *t, const void *grads,
                         const sti_step_rule *rule, sti_step_sums *sums);
/* AdamW; grads become 0. compute: NULL, or the bf16 copy of the parameters, refreshed. */
void sti_step_update_cuda(const strata_context *ctx, int32_t type, const sti_optim_table *t, const sti_step_rule *rule,
                          const sti_step_sums *sums, void *grads, void *params, void *m, void *v, void *compute);

STRATA_END
#endif
