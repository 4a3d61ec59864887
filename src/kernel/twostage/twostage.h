#ifndef STI_TWOSTAGE_H
#define STI_TWOSTAGE_H
/* y = A x where A is two block-diagonal matrices with a permutation between: the inner loop of Monarch, BTT and
 * Kronecker. See the README. */

#include <strata/context.h>
#include <strata/tensor.h>

#include "core/base.h"

typedef struct sti_twostage_loops sti_twostage_loops;

typedef struct sti_twostage {
    const strata_context *ctx; /* borrowed */
    int32_t dtype;
    int64_t rows, cols; /* of A: rows <= n2 * s, cols <= n1 * p; the last blocks may be cut short */
    int64_t n1, p, q;   /* stage 1: block c takes x[c*p .. c*p+p) to u[c*q .. c*q+q) */
    int64_t n2, r, s;   /* stage 2: block j takes r numbers of u to y[o*n2 + j], o = 0..s-1; n2 * r = n1 * q */
    int64_t group;      /* input g*group + t of block j is u[(g*n2 + j)*group + t] */
    bool out_major;     /* w1 is (n1, q, p), else (n1, p, q); w2 is (n2, s, r) */
    bool tied;          /* one (q, p) and one (s, r) serve all blocks; group is 1 */
    /* set by sti_twostage_plan */
    const sti_twostage_loops *loops; /* the fused variant, NULL: products of kernel/gemm */
    bool fused;                      /* bf16 on a device: tensor cores (twostage_sm90.cu) where arrays are aligned */
    bool gather;                     /* the permutation needs a copy: it moves groups of several numbers */
    int64_t panel, grad_panel;
    bool many;     /* calls of many rows pack their weights (twostage_rows.inc) */
    int64_t width; /* workspace numbers of one row; of one thread when fused */
} sti_twostage;

STRATA_BEGIN
/* Choose the variant and panels. @param scratch [out] workspace in rows of `width` numbers, for calls with up to
 * max_count rows. The workspace is aligned to STI_ALIGN bytes. */
void sti_twostage_plan(sti_twostage *t, int64_t max_count, int64_t *scratch);
/* "sm90", "avx512", "avx2" or "portable". */
const char *sti_twostage_variant(const sti_twostage *t);
/* y = alpha A x + beta y, x (count, cols), y (count, rows); transposed: y = alpha A^T x + beta y with the sizes
 * exchanged. beta = 0 never reads y. Never allocates. */
void sti_twostage_apply(const sti_twostage *t, const void *w1, const void *w2, bool transposed, double alpha,
                        const strata_tensor *x, double beta, const strata_tensor *y, void *work);
/* dw1, dw2 += gradients of <dy, A x>; dx (NULL: not wanted) = alpha A^T dy + beta dx. */
void sti_twostage_grad(const sti_twostage *t, const void *w1, const void *w2, const strata_tensor *x,
                       const strata_tensor *dy, void *dw1, void *dw2, double alpha, double beta,
                       const strata_tensor *dx, void *work);
STRATA_END

#endif
