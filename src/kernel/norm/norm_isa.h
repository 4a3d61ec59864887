#ifndef STI_NORM_ISA_H
#define STI_NORM_ISA_H
/* The loops over a span of rows, one table per element type and instruction set. */

#include "kernel/norm/norm.h"

typedef struct sti_norm_loops {
    void (*forward)(const sti_norm *n, int64_t rows, const void *x, const void *gain, const void *bias, void *y,
                    void *stat);
    /* sum (2, width): sums of dy * xhat and of dy over these rows, set. NULL: not wanted. */
    void (*backward)(const sti_norm *n, int64_t rows, const void *x, const void *gain, const void *stat, const void *dy,
                     void *dx, int acc, double *sum);
} sti_norm_loops;

extern const sti_norm_loops sti_norm_loops_f32_ref, sti_norm_loops_f64_ref, sti_norm_loops_f32_c;
extern const sti_norm_loops sti_norm_loops_f32_avx2, sti_norm_loops_f32_avx512; /* x86-64 builds only */

#endif
