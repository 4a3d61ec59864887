/* The projection of bilinear BTT scoring on a device. Small cores of the key side go to btt_stage_cuda.cu; here is any
 * shape and type: batches of products over all rows, and one kernel for each permutation. z stands as (row, c, (h, b,
 * s)) at the core R and as (row, (h, b), (c, s)) at the core L; k->z and k->dz are the two arrays of that size, k->side
 * and k->line are (rows, width). */
#include "mixer/softmax/btt_stage.h"

#include "kernel/gemm/gemm.h"
#include "kernel/twostage/twostage_cuda.h"
#include "mixer/softmax/btt_stage_cuda.h"
#include "mixer/softmax/gather.h"

#if STRATA_HAVE_CUDA

static sti_btt_shape shape_of(const sti_btt *p, int64_t rows)
{
    return (sti_btt_shape){ rows, p->width, p->heads, p->rank, p->a, p->b, p->c, p->d };
}

void sti_btt_device_plan(const strata_context *ctx, sti_btt *p, int64_t rows, int32_t dtype)
{
    const sti_btt_shape s = shape_of(p, rows);
    const size_t e = strata_dtype_size(dtype), line = sti_round_up((size_t)(rows * p->width) * e, STI_ALIGN);
    const size_t fused = p->transposed ? 0 : sti_btt_fused_work(ctx, &s, dtype);
    p->fused = fused > 0;
    p->dz = p->fused ? 0 : sti_round_up((size_t)(rows * p->heads * p->width * p->rank) * e, STI_ALIGN);
    p->side = 2 * p->dz;
    p->line = p->side + (p->transposed ? line : 0);
    p->bytes = p->fused ? fused : p->line + (p->transposed ? line : 0);
}

static const char *at(const sti_btt_call *k, const void *p, int64_t i)
{
    return (const char *)p + (size_t)i * k->e;
}

static char *at_out(const sti_btt_call *k, void *p, int64_t i)
{
    return (char *)p + (size_t)i * k->e;
}

/* ---- the two forms of z ------------------------------------------------------------------------------------------ */

static void to_l(const sti_btt_call *k, const char *from, char *to)
{
    sti_twostage_permute_cuda(k->ctx, k->dtype, k->rows, k->p->c, k->p->heads * k->p->b, k->p->rank, from, to);
}

static void to_r(const sti_btt_call *k, const char *from, char *to)
{
    sti_twostage_permute_cuda(k->ctx, k->dtype, k->rows, k->p->heads * k->p->b, k->p->c, k->p->rank, from, to);
}

/* A vector (…, a, b) of each of n rows as (…, b, a), and back */
static void lines(const sti_btt_call *k, int64_t n, const char *from, char *to)
{
    sti_twostage_permute_cuda(k->ctx, k->dtype, n, k->p->a, k->p->b, 1, from, to);
}

static void lines_back(const sti_btt_call *k, int64_t n, const char *from, char *to)
{
    sti_twostage_permute_cuda(k->ctx, k->dtype, n, k->p->b, k->p->a, 1, from, to);
}

/* ---- side=key: y_h = L_h R x ------------------------------------------------------------------------------------- */

/* k->dz = z of x, at L */
static void key_z(const sti_btt_call *k, const char *x)
{
    const sti_btt *p = k->p;
    sti_gemm_batch(k->ctx, k->dtype, false, false, k->rows, k->inner, p->d, 1, x, p->width, p->d, k->R, k->inner,
                   p->d * k->inner, 0, k->z, p->c * k->inner, k->inner, p->c);
    to_l(k, k->z, k->dz);
}

static void key_forward(const sti_btt_call *k, const char *x, char *y)
{
    const sti_btt *p = k->p;
    const int64_t hb = p->heads * p->b;
    key_z(k, x);
    sti_gemm_batch(k->ctx, k->dtype, false, true, k->rows, p->a, k->cs, 1, k->dz, hb * k->cs, k->cs, k->L, k->cs,
                   p->a * k->cs, 0, k->z, hb * p->a, p->a, hb);
    lines_back(k, k->rows * p->heads, k->z, y);
}

static void key_backward(const sti_btt_call *k, const char *x, const char *dy, char *dx, int acc, char *dR, char *dL)
{
    const sti_btt *p = k->p;
    const int64_t hb = p->heads * p->b;
    key_z(k, x);
    lines(k, k->rows * p->heads, dy, k->z);
    if (dL)
        sti_gemm_sum_batch(k->ctx, k->dtype, true, false, p->a, k->cs, k->rows, 1, k->z, hb * p->a, p->a, k->dz,
                           hb * k->cs, k->cs, 1, dL, k->cs, p->a * k->cs, hb);
    sti_gemm_batch(k->ctx, k->dtype, false, false, k->rows, k->cs, p->a, 1, k->z, hb * p->a, p->a, k->L, k->cs,
                   p->a * k->cs, 0, k->dz, hb * k->cs, k->cs, hb);
    to_r(k, k->dz, k->z);
    if (dR)
        sti_gemm_sum_batch(k->ctx, k->dtype, true, false, p->d, k->inner, k->rows, 1, x, p->width, p->d, k->z,
                           p->c * k->inner, k->inner, 1, dR, k->inner, p->d * k->inner, p->c);
    if (dx)
        sti_gemm_batch(k->ctx, k->dtype, false, true, k->rows, p->d, k->inner, 1, k->z, p->c * k->inner, k->inner, k->R,
                       k->inner, p->d * k->inner, acc ? 1 : 0, dx, p->width, p->d, p->c);
}

/* ---- side=query: y_h = R_h^T L_h^T x, a head at a time -------------------------------------------------------------
 */

/* k->side = x as (rows, b, a), k->z = z of x, at R */
static void query_z(const sti_btt_call *k, const char *x)
{
    const sti_btt *p = k->p;
    const int64_t hb = p->heads * p->b, each = p->b * k->cs;
    lines(k, k->rows, x, k->side);
    for (int64_t h = 0; h < p->heads; h++)
        sti_gemm_batch(k->ctx, k->dtype, false, false, k->rows, k->cs, p->a, 1, k->side, p->width, p->a,
                       at(k, k->L, h * each * p->a), k->cs, p->a * k->cs, 0, at_out(k, k->dz, h * each), hb * k->cs,
                       k->cs, p->b);
    to_r(k, k->dz, k->z);
}

static void query_forward(const sti_btt_call *k, const char *x, char *y)
{
    const sti_btt *p = k->p;
    query_z(k, x);
    for (int64_t h = 0; h < p->heads; h++)
        sti_gemm_batch(k->ctx, k->dtype, false, true, k->rows, p->d, k->bs, 1, at(k, k->z, h * k->bs), p->c * k->inner,
                       k->inner, at(k, k->R, h * k->bs), k->inner, p->d * k->inner, 0, at_out(k, y, h * p->width),
                       p->heads * p->width, p->d, p->c);
}

static void query_backward(const sti_btt_call *k, const char *x, const char *dy, char *dx, int acc, char *dR, char *dL)
{
    const sti_btt *p = k->p;
    const int64_t hb = p->heads * p->b, each = p->b * k->cs, row = p->heads * p->width;
    query_z(k, x);
    for (int64_t h = 0; h < p->heads; h++) {
        const char *g = at(k, dy, h * p->width);
        if (dR)
            sti_gemm_sum_batch(k->ctx, k->dtype, true, false, p->d, k->bs, k->rows, 1, g, row, p->d,
                               at(k, k->z, h * k->bs), p->c * k->inner, k->inner, 1, dR + (size_t)(h * k->bs) * k->sum,
                               k->inner, p->d * k->inner, p->c);
        sti_gemm_batch(k->ctx, k->dtype, false, false, k->rows, k->bs, p->d, 1, g, row, p->d, at(k, k->R, h * k->bs),
                       k->inner, p->d * k->inner, 0, at_out(k, k->dz, h * k->bs), p->c * k->inner, k->inner, p->c);
    }
    to_l(k, k->dz, k->z);
    for (int64_t h = 0; h < p->heads; h++) {
        const char *z = at(k, k->z, h * each);
        if (dL)
            sti_gemm_sum_batch(k->ctx, k->dtype, true, false, p->a, k->cs, k->rows, 1, k->side, p->width, p->a, z,
                               hb * k->cs, k->cs, 1, dL + (size_t)(h * each * p->a) * k->sum, k->cs, p->a * k->cs,
                               p->b);
        if (dx)
            sti_gemm_batch(k->ctx, k->dtype, false, true, k->rows, p->a, k->cs, 1, z, hb * k->cs, k->cs,
                           at(k, k->L, h * each * p->a), k->cs, p->a * k->cs, h ? 1 : 0, k->line, p->width, p->a, p->b);
    }
    if (dx) scatter(k->ctx, k->dtype, k->rows, p->b, p->a, k->line, dx, p->width, 1, p->b, acc != 0);
}

void sti_btt_device_forward(const sti_btt_call *k, const char *x, char *y)
{
    const sti_btt_shape s = shape_of(k->p, k->rows);
    if (k->p->fused)
        sti_btt_fused_forward(k->ctx, &s, k->dtype, k->R, k->L, x, y);
    else
        (k->p->transposed ? query_forward : key_forward)(k, x, y);
}

void sti_btt_device_backward(const sti_btt_call *k, const char *x, const char *dy, char *dx, int acc, char *dR,
                             char *dL)
{
    const sti_btt_shape s = shape_of(k->p, k->rows);
    if (k->p->fused)
        sti_btt_fused_backward(k->ctx, &s, k->dtype, k->R, k->L, x, dy, dx, acc, dR, dL, k->z);
    else
        (k->p->transposed ? query_backward : key_backward)(k, x, dy, dx, acc, dR, dL);
}

#endif
