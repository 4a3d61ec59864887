#ifndef STI_TWOSTAGE_ISA_H
#define STI_TWOSTAGE_ISA_H
/* The fused f32 loops: one table per instruction set, and what they share with the caller. */

#include "core/context.h"
#include "kernel/twostage/twostage.h"

/* Vectors (rows of x or y) of a panel, whose numbers stand side by side; a multiple of every variant's tile. */
enum { STI_TWOSTAGE_PANEL = 64, STI_TWOSTAGE_LANES = 16 };
/* Rows of a panel of many rows, tiles of 6; rows of a call for which packing its weights pays. */
enum { STI_TWOSTAGE_ROWS = 48, STI_TWOSTAGE_MANY = 512 };

/* Memory that a later step needs, asked for line by line between register tiles: a panel's rows lie too far apart for
 * the processor to foresee. */
typedef struct sti_twostage_ahead {
    const char *row;
    int64_t stride, rows;      /* bytes from row to row; rows left */
    int64_t step, lines, line; /* bytes from line to line; lines of a row; next line */
    int64_t rate;              /* lines after each register tile */
} sti_twostage_ahead;

/* One panel of up to t->panel vectors. */
typedef struct sti_twostage_panel {
    const sti_twostage *t;
    const float *w1, *w2;
    const float *x; /* input of stage 1 (gradients: to dw1), or of the transposed map; n vectors, stride ldx */
    float *y;       /* output of the call at hand */
    int64_t ldx, ldy, n;
    float alpha, beta;
    float *u;         /* between the stages: number m n2 + j of the permuted middle at (m (n2 + 1) + j) panel */
    float *dw1, *dw2; /* gradients */
    const float *dy;  /* gradient of the output, stride lddy */
    int64_t lddy;
    sti_twostage_ahead *ahead; /* what to ask for during the call at hand; its rate is set by the loop */
} sti_twostage_panel;

/* Blocks [first, last) of one stage, or groups of blocks of stage 2; `work` is the thread's own. Different blocks may
 * run at the same time. */
typedef void (*sti_twostage_loop)(const sti_twostage_panel *s, int64_t first, int64_t last, float *work);

struct sti_twostage_loops {
    const char *name;
    sti_isa isa;
    sti_twostage_loop in;       /* x -> u */
    sti_twostage_loop out;      /* u -> y = alpha ... + beta y */
    sti_twostage_loop in_back;  /* u -> y, stage 1 transposed */
    sti_twostage_loop out_back; /* x -> u, stage 2 transposed */
    sti_twostage_loop out_grad; /* dy, u -> dw2 +=, u becomes its own gradient */
    sti_twostage_loop in_grad;  /* x, u's gradient -> dw1 +=, y (unless NULL) = alpha ... + beta y */
    /* Many rows (twostage_rows.inc): numbers of packed weights and the parts to pack them in; numbers of workspace */
    int64_t lanes;
    int64_t (*packed_numbers)(const sti_twostage *t), (*packed_parts)(const sti_twostage *t);
    int64_t (*rows_numbers)(const sti_twostage *t);
    void (*pack)(const sti_twostage *t, bool transposed, const float *w1, const float *w2, float alpha, int64_t first,
                 int64_t last, float *packed);
    /* n <= STI_TWOSTAGE_ROWS rows of y = A x + beta y, alpha being in the weights; transposed: A^T */
    void (*rows)(const sti_twostage *t, bool transposed, int64_t n, const float *x, int64_t ldx, float beta, float *y,
                 int64_t ldy, float *packed, float *work);
};

static inline int64_t sti_twostage_whole(int64_t n)
{
    return (n + STI_TWOSTAGE_LANES - 1) / STI_TWOSTAGE_LANES * STI_TWOSTAGE_LANES;
}
/* Numbers from row to row of n numbers: an odd count of cache lines, so that a column meets all sets. */
static inline int64_t sti_twostage_pitch(int64_t n)
{
    return sti_twostage_whole(n) | STI_TWOSTAGE_LANES;
}

/* Blocks of stage 2 taken together, so that their outputs fill whole vectors. */
static inline int64_t sti_twostage_together(const sti_twostage *t)
{
    return STI_MIN(t->n2, STI_TWOSTAGE_LANES);
}

extern const sti_twostage_loops sti_twostage_loops_avx2, sti_twostage_loops_avx512; /* x86-64 builds only */

#endif
