#ifndef STI_REGRESSION_SAMPLER_H
#define STI_REGRESSION_SAMPLER_H
/* Random linear problems. README.md has the distribution. */

#include "core/base.h"

enum { STI_REGRESSION_DIMS = 1024, STI_REGRESSION_POINTS = 8192 };

typedef struct sti_regression {
    int64_t dims, points; /* largest: later arguments of the same name are at most these */
    double noise;         /* standard deviation of what is added to y */
    double decay;         /* the variance of coordinate j = 1, 2, … falls as j^-decay; 0: isotropic */
    int64_t nonzero;      /* of the weights; 0: all */
} sti_regression;

typedef enum sti_regression_use { STI_REGRESSION_TRAIN = 0x72656772, STI_REGRESSION_EVAL } sti_regression_use;

/* Variance of each of the first `dims` coordinates; their sum is 1. */
void sti_regression_spectrum(const sti_regression *r, int64_t dims, double *variance);
/* Problem number `problem` of a seed: inputs x + i * x_stride (dims numbers each) and answers y[i * y_stride], i <
 * points. Every number is drawn by itself: fewer points are the same first points. */
void sti_regression_draw(const sti_regression *r, uint64_t seed, sti_regression_use use, uint64_t problem, int64_t dims,
                         int64_t points, float *x, int64_t x_stride, float *y, int64_t y_stride);

#endif
