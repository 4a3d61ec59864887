#ifndef STI_TWOSTAGE_FEW_H
#define STI_TWOSTAGE_FEW_H
/* A handful of rows, f32: rows stay rows, and every weight is read once. */
#include "kernel/twostage/twostage.h"

enum { STI_TWOSTAGE_FEW = 8 };

/* Workspace numbers for `count` rows. */
int64_t sti_twostage_few_numbers(const sti_twostage *t, int64_t count);
void sti_twostage_few_apply(const sti_twostage *t, const void *w1, const void *w2, bool transposed, double alpha,
                            const strata_tensor *x, double beta, const strata_tensor *y, float *work);
void sti_twostage_few_grad(const sti_twostage *t, const void *w1, const void *w2, const strata_tensor *x,
                           const strata_tensor *dy, void *dw1, void *dw2, double alpha, double beta,
                           const strata_tensor *dx, float *work);

#endif
