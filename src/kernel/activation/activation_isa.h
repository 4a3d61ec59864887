#ifndef STI_ACTIVATION_ISA_H
#define STI_ACTIVATION_ISA_H
/* The inner loops, one table per element type and instruction set. */

#include "kernel/activation/activation.h"

typedef struct sti_act_loops {
    void (*forward[STI_ACT_COUNT])(int64_t n, const void *x, void *y);
    void (*backward[STI_ACT_COUNT])(int64_t n, const void *x, const void *dy, void *dx, int acc);
    void (*gate_forward)(int64_t n, const void *a, const void *b, void *y);
    void (*gate_backward)(int64_t n, const void *a, const void *b, const void *dy, void *da, int acca, void *db,
                          int accb);
} sti_act_loops;

extern const sti_act_loops sti_act_loops_f32_ref, sti_act_loops_f64_ref, sti_act_loops_f32_c;
extern const sti_act_loops sti_act_loops_f32_avx2, sti_act_loops_f32_avx512; /* x86-64 builds only */

#endif
