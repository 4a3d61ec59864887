#ifndef STI_SPECTRUM_H
#define STI_SPECTRUM_H
/* Of what rank a square matrix is, by its singular values. */

#include "core/base.h"

typedef struct sti_ranks {
    double energy;  /* the fewest singular values that hold 99 % of the sum of their squares */
    double entropy; /* exp(-sum p ln p), p = s^2 / sum s^2 */
} sti_ranks;

/* Doubles of work for n x n. */
size_t sti_ranks_work(int64_t n);
/* s (n, n), row-major; NaN for a matrix of zeros. Squares of singular values below 1e-12 of the largest are not told
 * apart from 0. */
sti_ranks sti_ranks_of(int64_t n, const double *s, double *work);

#endif
