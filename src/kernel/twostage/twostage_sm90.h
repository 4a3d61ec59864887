#ifndef STI_TWOSTAGE_SM90_H
#define STI_TWOSTAGE_SM90_H
/* bf16 on tensor cores, without copies for the permutations (twostage_sm90.cu). */

#include "kernel/twostage/twostage.h"

STRATA_BEGIN
/* Bytes of workspace for up to max_count rows; 0: the shape is served by the general path. */
int64_t sti_twostage_sm90_work(const sti_twostage *t, int64_t max_count);
/* As in twostage.h. @return 0 when these arrays are not aligned (16 bytes) and nothing was done */
int sti_twostage_sm90_apply(const sti_twostage *t, const void *w1, const void *w2, int transposed, double alpha,
                            const strata_tensor *x, double beta, const strata_tensor *y, void *work);
int sti_twostage_sm90_grad(const sti_twostage *t, const void *w1, const void *w2, const strata_tensor *x,
                           const strata_tensor *dy, void *dw1, void *dw2, double alpha, double beta,
                           const strata_tensor *dx, void *work);
STRATA_END

#endif
