#ifndef STI_TWOSTAGE_DEVICE_H
#define STI_TWOSTAGE_DEVICE_H
/* The calls of twostage.h on a device; defined in builds with CUDA. */

#include "kernel/twostage/twostage.h"

void sti_twostage_device_plan(sti_twostage *t, int64_t max_count, int64_t *scratch);
void sti_twostage_device_apply(const sti_twostage *t, const void *w1, const void *w2, bool transposed, double alpha,
                               const strata_tensor *x, double beta, const strata_tensor *y, void *work);
void sti_twostage_device_grad(const sti_twostage *t, const void *w1, const void *w2, const strata_tensor *x,
                              const strata_tensor *dy, void *dw1, void *dw2, double alpha, double beta,
                              const strata_tensor *dx, void *work);

#endif
