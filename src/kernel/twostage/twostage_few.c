/* A handful of rows: two batches of products over the blocks, and between them and behind them permutations of a few
 * thousand numbers. Blocks that share their weights are the rows of one product. */
#include "kernel/twostage/twostage_few.h"

#include "core/context.h"
#include "kernel/gemm.h"

int64_t sti_twostage_few_numbers(const sti_twostage *t, int64_t count)
{
    return count * (2 * t->n1 * t->q + t->n2 * t->s);
}

/* b (columns, rows, run) = a (rows, columns, run) */
static inline __attribute__((always_inline)) void turn_by(int64_t run, int64_t rows, int64_t columns,
                                                          const float *STI_RESTRICT a, float *STI_RESTRICT b)
{
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t k = 0; k < run; k++) b[(j * rows + i) * run + k] = a[(i * columns + j) * run + k];
}

static void turn(int64_t rows, int64_t columns, int64_t run, const float *a, float *b)
{
    if (run == 1)
        turn_by(1, rows, columns, a, b);
    else if (run == 2)
        turn_by(2, rows, columns, a, b);
    else
        turn_by(run, rows, columns, a, b);
}

/* The blocks of stage 1 whose inputs exist: whole ones, and one that is cut short. */
typedef struct run {
    int64_t first, count, p;
} run;

static int runs_of(const sti_twostage *t, run out[2])
{
    const int64_t whole = t->cols / t->p, rest = t->cols % t->p;
    int n = 0;
    if (whole) out[n++] = (run){ 0, whole, t->p };
    if (rest) out[n++] = (run){ whole, 1, rest };
    return n;
}

/* x (n, cols) -> u (n, n1 q), or back: out = alpha ... + beta out. */
static void stage1(const sti_twostage *t, const float *w1, int64_t n, const float *x, int64_t ldx, float *u)
{
    const int64_t middle = t->n1 * t->q, ld = t->out_major ? t->p : t->q, step = t->p * t->q;
    run b[2];
    const int runs = runs_of(t, b);
    const int64_t reached = b[runs - 1].first + b[runs - 1].count;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = reached * t->q; k < middle; k++) u[i * middle + k] = 0;
    for (int r = 0; r < runs; r++) {
        const float *xr = x + b[r].first * t->p;
        float *ur = u + b[r].first * t->q;
        if (t->tied)
            sti_gemm_batch(t->ctx, t->dtype, false, t->out_major, b[r].count, t->q, b[r].p, 1, xr, t->p, ldx, w1, ld, 0,
                           0, ur, t->q, middle, n);
        else
            sti_gemm_batch(t->ctx, t->dtype, false, t->out_major, n, t->q, b[r].p, 1, xr, ldx, t->p,
                           w1 + b[r].first * step, ld, step, 0, ur, middle, t->q, b[r].count);
    }
}

static void stage1_back(const sti_twostage *t, const float *w1, int64_t n, const float *u, double alpha, double beta,
                        float *out, int64_t ldo)
{
    const int64_t middle = t->n1 * t->q, ld = t->out_major ? t->p : t->q, step = t->p * t->q;
    run b[2];
    for (int r = 0, runs = runs_of(t, b); r < runs; r++) {
        const float *ur = u + b[r].first * t->q;
        float *to = out + b[r].first * t->p;
        if (t->tied)
            sti_gemm_batch(t->ctx, t->dtype, false, !t->out_major, b[r].count, b[r].p, t->q, alpha, ur, t->q, middle,
                           w1, ld, 0, beta, to, t->p, ldo, n);
        else
            sti_gemm_batch(t->ctx, t->dtype, false, !t->out_major, n, b[r].p, t->q, alpha, ur, middle, t->q,
                           w1 + b[r].first * step, ld, step, beta, to, ldo, t->p, b[r].count);
    }
}

/* v (n, n2, r) -> z (n, n2, s), or back. */
static void stage2(const sti_twostage *t, const float *w2, int64_t n, bool back, float *v, float *z)
{
    const int64_t in = back ? t->s : t->r, out = back ? t->r : t->s;
    float *from = back ? z : v, *to = back ? v : z;
    if (t->tied)
        sti_gemm(t->ctx, t->dtype, false, !back, n * t->n2, out, in, 1, from, in, w2, t->r, 0, to, out);
    else
        sti_gemm_batch(t->ctx, t->dtype, false, !back, n, out, in, 1, from, t->n2 * in, in, w2, t->r, t->s * t->r, 0,
                       to, t->n2 * out, out, t->n2);
}

/* a (rows): o n2 + j <-> z (n2, s), one row; outputs past the rows do not exist */
static void gather(const sti_twostage *t, const float *a, float *z)
{
    for (int64_t j = 0; j < t->n2; j++)
        for (int64_t o = 0; o < t->s; o++) z[j * t->s + o] = o * t->n2 + j < t->rows ? a[o * t->n2 + j] : 0;
}

static void scatter(const sti_twostage *t, const float *z, float alpha, float beta, float *a)
{
    for (int64_t o = 0; o * t->n2 < t->rows; o++) {
        const int64_t there = STI_MIN(t->n2, t->rows - o * t->n2);
        float *to = a + o * t->n2;
        if (beta == 0)
            for (int64_t j = 0; j < there; j++) to[j] = alpha * z[j * t->s + o];
        else
            for (int64_t j = 0; j < there; j++) to[j] = beta * to[j] + alpha * z[j * t->s + o];
    }
}

void sti_twostage_few_apply(const sti_twostage *t, const void *w1, const void *w2, bool transposed, double alpha,
                            const strata_tensor *x, double beta, const strata_tensor *y, float *work)
{
    const int64_t n = x->shape[0], middle = t->n1 * t->q, out = t->n2 * t->s, groups = t->r / t->group;
    float *u = work, *v = u + n * middle, *z = v + n * middle;
    const float *from = x->data;
    float *to = y->data;
    if (transposed) {
        for (int64_t i = 0; i < n; i++) gather(t, from + i * x->stride[0], z + i * out);
        stage2(t, w2, n, true, v, z);
        for (int64_t i = 0; i < n; i++) turn(t->n2, groups, t->group, v + i * middle, u + i * middle);
        stage1_back(t, w1, n, u, alpha, beta, to, y->stride[0]);
    } else {
        stage1(t, w1, n, from, x->stride[0], u);
        for (int64_t i = 0; i < n; i++) turn(groups, t->n2, t->group, u + i * middle, v + i * middle);
        stage2(t, w2, n, false, v, z);
        for (int64_t i = 0; i < n; i++) scatter(t, z + i * out, (float)alpha, (float)beta, to + i * y->stride[0]);
    }
}

/* dw1 += gradients from u's (n, n1 q) and x; blocks that share theirs add up row by row. */
static void stage1_grad(const sti_twostage *t, int64_t n, const float *du, const float *x, int64_t ldx, float *dw1)
{
    const int64_t middle = t->n1 * t->q, step = t->p * t->q;
    run b[2];
    for (int r = 0, runs = runs_of(t, b); r < runs; r++) {
        const float *dur = du + b[r].first * t->q, *xr = x + b[r].first * t->p;
        float *dw = dw1 + (t->tied ? 0 : b[r].first * step);
        const int64_t calls = t->tied ? n : 1, count = t->tied ? 1 : b[r].count, k = t->tied ? b[r].count : n;
        const int64_t ldu = t->tied ? t->q : middle, ld = t->tied ? t->p : ldx;
        for (int64_t i = 0; i < calls; i++, dur += middle, xr += ldx)
            if (t->out_major)
                sti_gemm_batch(t->ctx, t->dtype, true, false, t->q, b[r].p, k, 1, dur, ldu, t->q, xr, ld, t->p, 1, dw,
                               t->p, step, count);
            else
                sti_gemm_batch(t->ctx, t->dtype, true, false, b[r].p, t->q, k, 1, xr, ld, t->p, dur, ldu, t->q, 1, dw,
                               t->q, step, count);
    }
}

void sti_twostage_few_grad(const sti_twostage *t, const void *w1, const void *w2, const strata_tensor *x,
                           const strata_tensor *dy, void *dw1, void *dw2, double alpha, double beta,
                           const strata_tensor *dx, float *work)
{
    const int64_t n = x->shape[0], middle = t->n1 * t->q, out = t->n2 * t->s, groups = t->r / t->group;
    float *u = work, *v = u + n * middle, *dz = v + n * middle;
    stage1(t, w1, n, x->data, x->stride[0], u);
    for (int64_t i = 0; i < n; i++) {
        turn(groups, t->n2, t->group, u + i * middle, v + i * middle);
        gather(t, (const float *)dy->data + i * dy->stride[0], dz + i * out);
    }
    if (t->tied)
        sti_gemm(t->ctx, t->dtype, true, false, t->s, t->r, n * t->n2, 1, dz, t->s, v, t->r, 1, dw2, t->r);
    else
        sti_gemm_batch(t->ctx, t->dtype, true, false, t->s, t->r, n, 1, dz, out, t->s, v, middle, t->r, 1, dw2, t->r,
                       t->s * t->r, t->n2);
    stage2(t, w2, n, true, v, dz); /* v becomes its own gradient */
    for (int64_t i = 0; i < n; i++) turn(t->n2, groups, t->group, v + i * middle, u + i * middle);
    stage1_grad(t, n, u, x->data, x->stride[0], dw1);
    if (dx) stage1_back(t, w1, n, u, alpha, beta, dx->data, dx->stride[0]);
}
