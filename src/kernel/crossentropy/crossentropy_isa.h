#ifndef STI_CROSSENTROPY_ISA_H
#define STI_CROSSENTROPY_ISA_H
/* The loops over one row, one table per element type and instruction set. */

#include <stdint.h>

typedef struct sti_ce_loops {
    double (*lse)(int64_t vocab, const void *logits);
    /* d = softmax * scale, or += ; the caller subtracts the target's share */
    void (*grad)(int64_t vocab, const void *logits, double lse, double scale, void *d, int acc);
} sti_ce_loops;

extern const sti_ce_loops sti_ce_loops_f32_ref, sti_ce_loops_f64_ref, sti_ce_loops_f32_c;
extern const sti_ce_loops sti_ce_loops_f32_avx2, sti_ce_loops_f32_avx512; /* x86-64 builds only */

#endif
