/* AdamW, gradient norm, schedules. */

#include "train/optim.h"

#include <math.h>
#include <string.h>

#include "core/real.h"
#include "train/optim_cuda.h"

enum { CHUNK = 1 << 14 };

typedef struct rule { /* AdamW for one tensor and one step */
    double scale, beta1, beta2, eps;
    double m_hat, v_hat; /* bias corrections, 1 / (1 - beta^t) */
    double rate, decay;  /* lr f, and lr f wd */
} rule;

#define REAL float
#define SFX _f32
#define SQRT sqrtf
#include "train/optim.inc"
#undef REAL
#undef SFX
#undef SQRT
#define REAL double
#define SFX _f64
#define SQRT sqrt
#include "train/optim.inc"

typedef struct chunk {
    int64_t first, count;
    double lr_mult;
    bool decay;
    const double *columns; /* borrowed from the table; NULL, or factors of lr_mult for the `width` columns */
    int64_t width, column; /* of the chunk's first element */
} chunk;

struct sti_optim {
    strata_context *ctx; /* shared */
    int32_t dtype;
    chunk *chunk;
    double *sum; /* one per chunk */
    int64_t nchunk, elements;
    sti_optim_table device; /* the chunks again, in device memory; its pointers are owned */
};

static strata_status upload_array(const strata_context *ctx, const void *src, size_t count, size_t size, void **out)
{
    STI_TRY(sti_array_calloc(ctx, (int64_t)count, size, out));
    return sti_to_device(ctx, *out, src, count * size);
}

/* The chunks and the factors of their columns to device memory. */
static strata_status upload(sti_optim *o, const sti_params *table)
{
    int64_t columns = 0;
    void *piece = NULL, *factors = NULL, *partial = NULL;
    for (int32_t i = 0; i < table->count; i++)
        if (table->p[i].columns) columns += table->p[i].shape[table->p[i].ndim - 1];
    sti_optim_piece *p = sti_heap((size_t)STI_MAX(o->nchunk, 1) * sizeof *p);
    double *f = sti_heap((size_t)STI_MAX(columns, 1) * sizeof *f);
    strata_status st = p && f ? STRATA_OK : sti_fail(STRATA_E_MEMORY, "out of memory");
    const double *last = NULL;
    int64_t at = 0, first = -1;
    for (int64_t k = 0; k < o->nchunk && st == STRATA_OK; k++) {
        const chunk *c = &o->chunk[k];
        if (c->columns && c->columns != last) { /* chunks of a tensor follow each other */
            memcpy(f + at, c->columns, (size_t)c->width * sizeof *f);
            first = at;
            at += c->width;
        }
        last = c->columns;
        p[k] =
            (sti_optim_piece){ c->first, c->count, c->lr_mult, c->columns ? first : -1, c->width, c->column, c->decay };
    }
    if (st == STRATA_OK) st = upload_array(o->ctx, p, (size_t)o->nchunk, sizeof *p, &piece);
    o->device.piece = piece;
    if (st == STRATA_OK) st = upload_array(o->ctx, f, (size_t)at, sizeof *f, &factors);
    o->device.factors = factors;
    if (st == STRATA_OK) st = sti_array_calloc(o->ctx, o->nchunk, sizeof(double), &partial);
    o->device.partial = partial;
    o->device.pieces = o->nchunk;
    sti_heap_free(p);
    sti_heap_free(f);
    return st;
}

strata_status sti_optim_create(const strata_context *ctx, const sti_params *table, int32_t dtype, sti_optim **out)
{
    *out = NULL;
    int64_t n = 0;
    for (int32_t i = 0; i < table->count; i++)
        if (table->p[i].tied < 0) n += sti_ceil_div(table->p[i].count, CHUNK);
    sti_optim *o = sti_heap(sizeof *o);
    if (o) {
        o->chunk = sti_heap((size_t)STI_MAX(n, 1) * sizeof *o->chunk);
        o->sum = sti_heap((size_t)STI_MAX(n, 1) * sizeof *o->sum);
    }
    if (!o || !o->chunk || !o->sum) {
        sti_optim_destroy(o);
        return sti_fail(STRATA_E_MEMORY, "out of memory");
    }
    o->ctx = sti_context_ref(ctx);
    o->dtype = dtype;
    for (int32_t i = 0; i < table->count; i++) {
        const sti_param *p = &table->p[i];
        if (p->tied >= 0) continue;
        const int64_t width = p->ndim > 0 ? p->shape[p->ndim - 1] : 1;
        for (int64_t at = 0; at < p->count; at += CHUNK)
            o->chunk[o->nchunk++] = (chunk){ .first = p->offset + at,
                                             .count = STI_MIN(p->count - at, (int64_t)CHUNK),
                                             .lr_mult = p->lr_mult,
                                             .decay = p->ndim >= 2,
                                             .columns = p->columns ? p->columns + width : NULL,
                                             .width = width,
                                             .column = at % width };
    }
    o->elements = table->elements;
    const strata_status st = sti_on_device(ctx) ? upload(o, table) : STRATA_OK;
    if (st != STRATA_OK) {
        sti_optim_destroy(o);
        return st;
    }
    *out = o;
    return STRATA_OK;
}

static void array_free(const strata_context *ctx, const void *p)
{
    sti_array_free(ctx, (void *)(uintptr_t)p);
}

void sti_optim_destroy(sti_optim *o)
{
    if (!o) return;
    if (o->ctx) {
        array_free(o->ctx, o->device.piece);
        array_free(o->ctx, o->device.factors);
        array_free(o->ctx, o->device.partial);
    }
    sti_heap_free(o->chunk);
    sti_heap_free(o->sum);
    strata_context_destroy(o->ctx);
    sti_heap_free(o);
}

double sti_optim_norm(const sti_optim *o, const void *grads)
{
    double sum = 0;
#pragma omp parallel for schedule(static) num_threads(o->ctx->threads)
    for (int64_t k = 0; k < o->nchunk; k++) {
        const chunk *c = &o->chunk[k];
        o->sum[k] = o->dtype == STRATA_F64 ? square_sum_f64(grads, c->first, c->count)
                                           : square_sum_f32(grads, c->first, c->count);
    }
    for (int64_t k = 0; k < o->nchunk; k++) sum += o->sum[k];
    return sqrt(sum);
}

/* How many elements from `at` on share a multiplier: the rest of the chunk, or a slice of columns. */
static int64_t run_of(const chunk *c, int64_t at, double *mult)
{
    *mult = c->lr_mult;
    if (!c->columns) return c->count - at;
    const int64_t first = (c->column + at) % c->width, left = STI_MIN(c->width - first, c->count - at);
    const double factor = c->columns[first];
    int64_t n = 1;
    while (n < left && c->columns[first + n] <= factor && c->columns[first + n] >= factor) n++;
    *mult *= factor;
    return n;
}

void sti_optim_step(const sti_optim *o, const sti_adamw *a, double lr, int64_t t, double scale, const void *grads,
                    void *params, void *m, void *v)
{
    const double m_hat = 1 / (1 - pow(a->beta1, (double)t)), v_hat = 1 / (1 - pow(a->beta2, (double)t));
#pragma omp parallel for schedule(static) num_threads(o->ctx->threads)
    for (int64_t k = 0; k < o->nchunk; k++) {
        const chunk *c = &o->chunk[k];
        double mult;
        for (int64_t at = 0, n; at < c->count; at += n) {
            n = run_of(c, at, &mult);
            const double rate = lr * mult;
            const rule r = { .scale = scale,
                             .beta1 = a->beta1,
                             .beta2 = a->beta2,
                             .eps = a->eps,
                             .m_hat = m_hat,
                             .v_hat = v_hat,
                             .rate = rate,
                             .decay = c->decay ? rate * a->weight_decay : 0 };
            if (o->dtype == STRATA_F64)
                update_f64(&r, grads, params, m, v, c->first + at, n);
            else
                update_f32(&r, grads, params, m, v, c->first + at, n);
        }
    }
}

void sti_optim_close(const sti_optim *o, const sti_step_rule *r, const void *grads, sti_step_sums *sums)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(o->ctx)) {
        sti_step_close_cuda(o->ctx, o->dtype, &o->device, grads, r, sums);
        return;
    }
#endif
    const double mean = 1 / r->accum, loss = sums->scored > 0 ? sums->total / sums->scored : 0;
    const double norm = isfinite(loss) ? mean * sti_optim_norm(o, grads) : 0;
    sums->total = sums->scored = 0;
    if (sums->failed > 0) return;
    sums->loss = loss;
    sums->norm = norm;
    if (!isfinite(loss) || !isfinite(norm)) {
        sums->failed = r->step;
        return;
    }
    sums->loss_sum += loss;
    sums->steps += 1;
    sums->scale = mean * (r->clip > 0 && norm > r->clip ? r->clip / norm : 1);
}

void sti_optim_update(const sti_optim *o, const sti_step_rule *r, const sti_step_sums *sums, void *grads, void *params,
                      void *m, void *v, void *compute)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(o->ctx)) {
        sti_step_update_cuda(o->ctx, o->dtype, &o->device, r, sums, grads, params, m, v, compute);
        return;
    }
#endif
    if (sums->failed > 0) return;
    const sti_adamw a = { r->beta1, r->beta2, r->eps, r->weight_decay };
    sti_optim_step(o, &a, r->lr, (int64_t)r->step, sums->scale, grads, params, m, v);
    memset(grads, 0, (size_t)o->elements * strata_dtype_size(o->dtype));
    if (compute) sti_array_convert(o->ctx, compute, STRATA_BF16, params, o->dtype, o->elements);
}

double sti_schedule_rate(const sti_schedule *s, int64_t t)
{
    const double pi = 3.14159265358979323846;
    if (t <= s->warmup) return s->lr * (double)t / (double)s->warmup;
    if (!s->cosine) return s->lr;
    if (t >= s->steps) return s->min_lr;
    double done = (double)(t - s->warmup) / (double)(s->steps - s->warmup);
    return s->min_lr + (s->lr - s->min_lr) * 0.5 * (1 + cos(pi * done));
}
