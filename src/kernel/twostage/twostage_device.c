/* Two stages on a device, any shape and type: batches of products of kernel/gemm over all rows, and one kernel for each
 * permutation. Rows stay rows: u is (count, n1, q), v the same numbers as (count, n2, r), z is (count, n2, s). */
#include "kernel/twostage/twostage_device.h"

#include "core/device.h"
#include "kernel/gemm.h"
#include "kernel/twostage/twostage_cuda.h"
#include "kernel/twostage/twostage_sm90.h"

#if STRATA_HAVE_CUDA

static void *at(const sti_twostage *t, const void *base, int64_t elements)
{
    return (char *)(uintptr_t)base + (size_t)elements * strata_dtype_size(t->dtype);
}

static void *sum_at(const sti_twostage *t, void *base, int64_t elements)
{
    return (char *)base + (size_t)elements * strata_dtype_size(sti_sum_type(t->dtype));
}

typedef struct call {
    const sti_twostage *t;
    const void *w1, *w2;
    int64_t n;
    void *u, *v, *z;
} call;

static call open_call(const sti_twostage *t, const void *w1, const void *w2, int64_t n, void *work)
{
    const int64_t middle = n * t->n1 * t->q;
    return (call){ t, w1, w2, n, work, at(t, work, middle), at(t, work, 2 * middle) };
}

/* Stage 1's blocks in up to three runs of equal input width: full ones, one cut short, and those past the input. */
typedef struct run {
    int64_t first, count, p;
} run;

static int runs_of(const sti_twostage *t, run out[3])
{
    const int64_t full = t->cols / t->p, rest = t->cols % t->p;
    int n = 0;
    if (full) out[n++] = (run){ 0, full, t->p };
    if (rest) out[n++] = (run){ full, 1, rest };
    if (full + (rest > 0) < t->n1) out[n++] = (run){ full + (rest > 0), t->n1 - full - (rest > 0), 0 };
    return n;
}

static void stage1(const call *s, const strata_tensor *x)
{
    const sti_twostage *t = s->t;
    const int64_t step = t->tied ? 0 : t->p * t->q;
    run b[3];
    for (int i = 0, nb = runs_of(t, b); i < nb; i++)
        sti_gemm_batch(t->ctx, t->dtype, false, t->out_major, s->n, t->q, b[i].p, 1.0,
                       at(t, x->data, b[i].first * t->p), x->stride[0], t->p, at(t, s->w1, b[i].first * step),
                       t->out_major ? t->p : t->q, step, 0.0, at(t, s->u, b[i].first * t->q), t->n1 * t->q, t->q,
                       b[i].count);
}

static void stage1_transposed(const call *s, double alpha, double beta, const strata_tensor *x)
{
    const sti_twostage *t = s->t;
    const int64_t step = t->tied ? 0 : t->p * t->q;
    run b[3];
    for (int i = 0, nb = runs_of(t, b); i < nb; i++)
        sti_gemm_batch(t->ctx, t->dtype, false, !t->out_major, s->n, b[i].p, t->q, alpha,
                       at(t, s->u, b[i].first * t->q), t->n1 * t->q, t->q, at(t, s->w1, b[i].first * step),
                       t->out_major ? t->p : t->q, step, beta, at(t, x->data, b[i].first * t->p), x->stride[0], t->p,
                       b[i].count);
}

/* dw (m, n) += a^T b over `rows` rows, `count` blocks */
static void block_grad(const sti_twostage *t, int64_t m, int64_t n, int64_t rows, const void *a, int64_t lda,
                       const void *b, int64_t ldb, void *dw, int64_t ldw, int64_t count)
{
    sti_gemm_sum_batch(t->ctx, t->dtype, true, false, m, n, rows, 1.0, a, lda, m, b, ldb, n, 1.0, dw, ldw, m * ldw,
                       count);
}

static void stage1_grad(const call *s, const strata_tensor *x, void *dw1)
{
    const sti_twostage *t = s->t;
    const int64_t ldu = t->n1 * t->q, ldw = t->out_major ? t->p : t->q;
    run b[3];
    for (int i = 0, nb = runs_of(t, b); i < nb; i++) {
        if (!b[i].p) continue;
        int64_t rows = s->n, count = b[i].count, repeat = 1, du_ld = ldu, x_ld = x->stride[0];
        if (t->tied && b[i].count == t->n1 && x_ld == t->n1 * t->p) /* dense: blocks of rows are rows of one product */
            rows = s->n * t->n1, count = 1, du_ld = t->q, x_ld = t->p;
        else if (t->tied) /* one after the other */
            repeat = count, count = 1;
        for (int64_t k = 0; k < repeat; k++) {
            const int64_t c = b[i].first + k;
            const void *du = at(t, s->u, c * t->q), *xc = at(t, x->data, c * t->p);
            void *dw = sum_at(t, dw1, t->tied ? 0 : c * t->p * t->q);
            if (t->out_major)
                block_grad(t, t->q, b[i].p, rows, du, du_ld, xc, x_ld, dw, ldw, count);
            else
                block_grad(t, b[i].p, t->q, rows, xc, x_ld, du, du_ld, dw, ldw, count);
        }
    }
}

static void stage2(const call *s)
{
    const sti_twostage *t = s->t;
    sti_gemm_batch(t->ctx, t->dtype, false, true, s->n, t->s, t->r, 1.0, s->v, t->n2 * t->r, t->r, s->w2, t->r,
                   t->tied ? 0 : t->s * t->r, 0.0, s->z, t->n2 * t->s, t->s, t->n2);
}

static void stage2_transposed(const call *s)
{
    const sti_twostage *t = s->t;
    sti_gemm_batch(t->ctx, t->dtype, false, false, s->n, t->r, t->s, 1.0, s->z, t->n2 * t->s, t->s, s->w2, t->r,
                   t->tied ? 0 : t->s * t->r, 0.0, s->v, t->n2 * t->r, t->r, t->n2);
}

static void stage2_grad(const call *s, void *dw2)
{
    const sti_twostage *t = s->t;
    if (t->tied)
        block_grad(t, t->s, t->r, s->n * t->n2, s->z, t->s, s->v, t->r, dw2, t->r, 1);
    else
        block_grad(t, t->s, t->r, s->n, s->z, t->n2 * t->s, s->v, t->n2 * t->r, dw2, t->r, t->n2);
}

/* u (g, j, k) <-> v (j, g, k), k < group */
static void permute(const call *s, bool back)
{
    const sti_twostage *t = s->t;
    const int64_t groups = t->r / t->group;
    if (back)
        sti_twostage_permute_cuda(t->ctx, t->dtype, s->n, t->n2, groups, t->group, s->v, s->u);
    else
        sti_twostage_permute_cuda(t->ctx, t->dtype, s->n, groups, t->n2, t->group, s->u, s->v);
}

static void read_y(const call *s, const strata_tensor *y)
{
    const sti_twostage *t = s->t;
    sti_twostage_read_cuda(t->ctx, t->dtype, s->n, t->rows, t->n2, t->s, y->data, y->stride[0], s->z);
}

void sti_twostage_device_plan(sti_twostage *t, int64_t max_count, int64_t *scratch)
{
    t->panel = t->grad_panel = max_count;
    t->width = 2 * t->n1 * t->q + t->n2 * t->s;
    const int64_t fused = sti_twostage_sm90_work(t, max_count), row = t->width * (int64_t)strata_dtype_size(t->dtype);
    t->fused = fused > 0;
    *scratch = STI_MAX(max_count, sti_ceil_div(fused, row));
}

void sti_twostage_device_apply(const sti_twostage *t, const void *w1, const void *w2, bool transposed, double alpha,
                               const strata_tensor *x, double beta, const strata_tensor *y, void *work)
{
    if (t->fused && sti_twostage_sm90_apply(t, w1, w2, transposed, alpha, x, beta, y, work)) return;
    const call s = open_call(t, w1, w2, x->shape[0], work);
    if (transposed) {
        read_y(&s, x);
        stage2_transposed(&s);
        permute(&s, true);
        stage1_transposed(&s, alpha, beta, y);
    } else {
        stage1(&s, x);
        permute(&s, false);
        stage2(&s);
        sti_twostage_write_cuda(t->ctx, t->dtype, s.n, t->rows, t->n2, t->s, alpha, s.z, beta, y->data, y->stride[0]);
    }
}

void sti_twostage_device_grad(const sti_twostage *t, const void *w1, const void *w2, const strata_tensor *x,
                              const strata_tensor *dy, void *dw1, void *dw2, double alpha, double beta,
                              const strata_tensor *dx, void *work)
{
    if (t->fused && sti_twostage_sm90_grad(t, w1, w2, x, dy, dw1, dw2, alpha, beta, dx, work)) return;
    const call s = open_call(t, w1, w2, x->shape[0], work);
    stage1(&s, x);
    permute(&s, false);
    read_y(&s, dy);
    stage2_grad(&s, dw2);
    stage2_transposed(&s); /* the stage's input is no longer needed: its gradient takes the place */
    permute(&s, true);
    stage1_grad(&s, x, dw1);
    if (dx) stage1_transposed(&s, alpha, beta, dx);
}

#endif
