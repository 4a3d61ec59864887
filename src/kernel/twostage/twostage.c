#include "kernel/twostage/twostage.h"

#include <string.h>

#include "backend/cpu/panels.h"
#include "core/real.h"
#include "kernel/gemm.h"
#include "kernel/twostage/twostage_device.h"
#include "kernel/twostage/twostage_few.h"
#include "kernel/twostage/twostage_isa.h"

/* Weights of a block from which a product of kernel/gemm is as fast as a fused one: in f32, and of rounded operands. */
enum { LARGE = 160 * 160, LARGE_ROUNDED = 64 * 64 };
enum { TILE = 16, NARROW = 8 }; /* rows a power of two apart share a set of the first cache: few at a time */

#define REAL float
#define SFX _f32
#include "kernel/twostage/twostage.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64
#include "kernel/twostage/twostage.inc"

static void *at(const sti_twostage *t, const void *base, int64_t elements)
{
    return (char *)(uintptr_t)base + (size_t)elements * strata_dtype_size(t->dtype);
}

static int64_t clamp16(int64_t x, int64_t lo, int64_t hi)
{
    x = x / 16 * 16;
    return x < lo ? lo : x > hi ? hi : x;
}

/* Variants, best first; the products of kernel/gemm serve what none of them does. */
static const sti_twostage_loops *const variants[] = {
#if STRATA_X86
    &sti_twostage_loops_avx512, &sti_twostage_loops_avx2,
#endif
    NULL
};

/* Numbers between the stages of a fused panel, and beside them for one thread at work on a block. */
static int64_t fused_middle(const sti_twostage *t)
{
    return t->r * (t->n2 + 1) * t->panel;
}

static int64_t fused_work(const sti_twostage *t)
{
    const int64_t one = sti_twostage_pitch(t->p) + sti_twostage_pitch(t->q),
                  two = sti_twostage_pitch(t->r) +
                        t->s * (t->n2 > STI_TWOSTAGE_LANES ? STI_TWOSTAGE_LANES + 1 : t->n2 + 1);
    return STI_MAX(one, two) * t->panel;
}

/* A few rows of f32 are what kernel/gemm reads weights for as they lie. */
static bool few(const sti_twostage *t, int64_t count)
{
    return STRATA_X86 && count <= STI_TWOSTAGE_FEW && t->dtype == STRATA_F32 && t->ctx->isa >= STI_ISA_AVX2;
}

/* What many rows need. */
static void plan_rows(sti_twostage *t, int64_t max_count, int64_t *scratch)
{
    const int64_t most = sti_rounds(t->ctx) ? LARGE_ROUNDED : LARGE;
    const bool small = t->p * t->q <= most && t->r * t->s <= most, even = t->group == 1 || t->q == t->n2 * t->group;
    if (t->dtype == STRATA_F32 && small && even)
        for (size_t i = 0; !t->loops && variants[i]; i++)
            if (t->ctx->isa >= variants[i]->isa) t->loops = variants[i];
    if (t->loops) {
        t->panel = t->grad_panel = clamp16(max_count + 15, 16, STI_TWOSTAGE_PANEL);
        t->width = fused_middle(t) + fused_work(t);
        *scratch = t->ctx->threads;
        /* Blocks are the lanes of stage 2: not where most of the lanes would be idle. */
        t->many = !t->tied && t->group == 1 && max_count >= STI_TWOSTAGE_MANY && 4 * t->n2 >= 3 * t->loops->lanes;
        if (t->many) {
            t->width = STI_MAX(t->width, t->loops->rows_numbers(t));
            *scratch += sti_ceil_div(t->loops->packed_numbers(t), t->width);
        }
        return;
    }
    const int64_t middle = t->n1 * t->q;
    t->gather = t->group > 1 && t->n2 > 1;
    t->width = middle * (t->gather ? 2 : 1) + t->n2 * t->s;
    const int64_t row = t->width * (int64_t)strata_dtype_size(t->dtype);
    const int64_t least = STI_MAX(t->p * t->q, t->r * t->s) > 16 * LARGE ? 256 : 32; /* a weight must serve many rows */
    t->panel = clamp16((512 << 10) / row, least, 256); /* what lies between the stages stays in a core's cache */
    t->grad_panel = clamp16((1 << 20) / row, STI_MAX(least, 64), 1024);
    *scratch = STI_MAX(sti_panel_scratch(t->ctx, max_count, t->panel), STI_MIN(max_count, t->grad_panel));
}

void sti_twostage_plan(sti_twostage *t, int64_t max_count, int64_t *scratch)
{
    t->loops = NULL;
    t->fused = t->many = false;
#if STRATA_HAVE_CUDA
    if (sti_on_device(t->ctx)) {
        sti_twostage_device_plan(t, max_count, scratch);
        return;
    }
#endif
    plan_rows(t, max_count, scratch);
    if (few(t, 1)) {
        const int64_t least = sti_twostage_few_numbers(t, STI_MIN(max_count, STI_TWOSTAGE_FEW));
        *scratch = STI_MAX(*scratch, sti_ceil_div(least, t->width));
    }
}

const char *sti_twostage_variant(const sti_twostage *t)
{
    return t->fused ? "sm90" : t->loops ? t->loops->name : "portable";
}

/* One panel: n rows, everything transposed, so that a row of each array is one number of all n vectors. */
typedef struct panel {
    const sti_twostage *t;
    const void *w1, *w2;
    int64_t n;
    void *u; /* (n1*q, n): stage 1's output, by stage 1's blocks */
    void *v; /* the same by stage 2's blocks; NULL when strides do */
    void *y; /* (n2*s, n) */
} panel;

static panel open_panel(const sti_twostage *t, const void *w1, const void *w2, int64_t n, void *work)
{
    const int64_t middle = t->n1 * t->q * n;
    panel s = { t, w1, w2, n, work, NULL, NULL };
    s.y = at(t, work, middle);
    if (t->gather) s.v = at(t, s.y, t->n2 * t->s * n);
    return s;
}

/* Where stage 2 finds the input of block j: base + j * next, its r rows `ld` apart. */
typedef struct slot {
    void *base;
    int64_t next, ld;
} slot;

static slot stage2_input(const panel *s)
{
    const sti_twostage *t = s->t;
    if (t->gather) return (slot){ s->v, t->r * s->n, s->n };
    return (slot){ s->u, s->n, t->n2 * s->n }; /* group 1, or one block only */
}

/* u (g, j, t) <-> v (j, g, t): rows of `group` x n numbers move as they are. */
static void permute(const panel *s, bool back)
{
    const sti_twostage *t = s->t;
    if (!t->gather) return;
    const int64_t run = t->group * s->n, groups = t->r / t->group;
    const size_t bytes = (size_t)run * strata_dtype_size(t->dtype);
    for (int64_t j = 0; j < t->n2; j++)
        for (int64_t g = 0; g < groups; g++) {
            void *u = at(t, s->u, (g * t->n2 + j) * run), *v = at(t, s->v, (j * groups + g) * run);
            if (back)
                memcpy(u, v, bytes);
            else
                memcpy(v, u, bytes);
        }
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

static void stage1(const panel *s, const strata_tensor *x)
{
    const sti_twostage *t = s->t;
    const int64_t step = t->tied ? 0 : t->p * t->q;
    run b[3];
    for (int i = 0, nb = runs_of(t, b); i < nb; i++)
        sti_gemm_batch(t->ctx, t->dtype, !t->out_major, true, t->q, s->n, b[i].p, 1.0, at(t, s->w1, b[i].first * step),
                       t->out_major ? t->p : t->q, step, at(t, x->data, b[i].first * t->p), x->stride[0], t->p, 0.0,
                       at(t, s->u, b[i].first * t->q * s->n), s->n, t->q * s->n, b[i].count);
}

static void stage1_transposed(const panel *s, double alpha, double beta, const strata_tensor *x)
{
    const sti_twostage *t = s->t;
    const int64_t step = t->tied ? 0 : t->p * t->q;
    run b[3];
    for (int i = 0, nb = runs_of(t, b); i < nb; i++)
        sti_gemm_batch(t->ctx, t->dtype, true, !t->out_major, s->n, b[i].p, t->q, alpha,
                       at(t, s->u, b[i].first * t->q * s->n), s->n, t->q * s->n, at(t, s->w1, b[i].first * step),
                       t->out_major ? t->p : t->q, step, beta, at(t, x->data, b[i].first * t->p), x->stride[0], t->p,
                       b[i].count);
}

static void stage1_grad(const panel *s, const strata_tensor *x, void *dw1)
{
    const sti_twostage *t = s->t;
    run b[3];
    for (int i = 0, nb = runs_of(t, b); i < nb; i++) {
        const int64_t count = t->tied ? 1 : b[i].count, repeat = t->tied ? b[i].count : 1;
        for (int64_t k = 0; k < repeat; k++) { /* tied blocks add up one after the other */
            const int64_t c = b[i].first + k;
            const void *du = at(t, s->u, c * t->q * s->n), *xc = at(t, x->data, c * t->p);
            void *dw = at(t, dw1, t->tied ? 0 : c * t->p * t->q);
            if (t->out_major)
                sti_gemm_batch(t->ctx, t->dtype, false, false, t->q, b[i].p, s->n, 1.0, du, s->n, t->q * s->n, xc,
                               x->stride[0], t->p, 1.0, dw, t->p, t->p * t->q, count);
            else
                sti_gemm_batch(t->ctx, t->dtype, true, true, b[i].p, t->q, s->n, 1.0, xc, x->stride[0], t->p, du, s->n,
                               t->q * s->n, 1.0, dw, t->q, t->p * t->q, count);
        }
    }
}

/* Tied blocks of stage 2 stand side by side, so they are one product over n2 * n columns. */
static void stage2(const panel *s)
{
    const sti_twostage *t = s->t;
    const slot in = stage2_input(s);
    const int64_t wide = t->tied ? t->n2 * s->n : s->n;
    sti_gemm_batch(t->ctx, t->dtype, false, false, t->s, wide, t->r, 1.0, s->w2, t->r, t->s * t->r, in.base, in.ld,
                   in.next, 0.0, s->y, t->n2 * s->n, s->n, t->tied ? 1 : t->n2);
}

static void stage2_transposed(const panel *s)
{
    const sti_twostage *t = s->t;
    const slot out = stage2_input(s);
    const int64_t wide = t->tied ? t->n2 * s->n : s->n;
    sti_gemm_batch(t->ctx, t->dtype, true, false, t->r, wide, t->s, 1.0, s->w2, t->r, t->s * t->r, s->y, t->n2 * s->n,
                   s->n, 0.0, out.base, out.ld, out.next, t->tied ? 1 : t->n2);
}

static void stage2_grad(const panel *s, void *dw2)
{
    const sti_twostage *t = s->t;
    const slot in = stage2_input(s);
    const int64_t wide = t->tied ? t->n2 * s->n : s->n;
    sti_gemm_batch(t->ctx, t->dtype, false, true, t->s, t->r, wide, 1.0, s->y, t->n2 * s->n, s->n, in.base, in.ld,
                   in.next, 1.0, dw2, t->r, t->s * t->r, t->tied ? 1 : t->n2);
}

/* ---- transposes between (count, rows) and the panel's y, shared among threads when a panel stands alone ---------- */

typedef struct turn {
    const panel *s;
    const strata_tensor *a;
    double alpha, beta;
} turn;

static void turn_in(void *arg, int64_t first, int64_t rows, int thread)
{
    const turn *j = arg;
    const sti_twostage *t = j->s->t;
    (void)thread;
    const void *a = at(t, j->a->data, first * j->a->stride[0]);
    void *y = at(t, j->s->y, first);
    if (t->dtype == STRATA_F32)
        transpose_in_f32(a, j->a->stride[0], rows, t->rows, y, j->s->n);
    else
        transpose_in_f64(a, j->a->stride[0], rows, t->rows, y, j->s->n);
}

static void turn_out(void *arg, int64_t first, int64_t rows, int thread)
{
    const turn *j = arg;
    const sti_twostage *t = j->s->t;
    (void)thread;
    void *a = at(t, j->a->data, first * j->a->stride[0]);
    const void *y = at(t, j->s->y, first);
    if (t->dtype == STRATA_F32)
        transpose_out_f32(y, j->s->n, rows, t->rows, (float)j->alpha, (float)j->beta, a, j->a->stride[0]);
    else
        transpose_out_f64(y, j->s->n, rows, t->rows, j->alpha, j->beta, a, j->a->stride[0]);
}

static void read_y(const panel *s, const strata_tensor *y)
{
    const sti_twostage *t = s->t;
    turn j = { s, y, 0, 0 };
    sti_panels(t->ctx, s->n, 2 * TILE, turn_in, &j);
    memset(at(t, s->y, t->rows * s->n), 0,
           (size_t)((t->n2 * t->s - t->rows) * s->n) * strata_dtype_size(t->dtype)); /* outputs cut off */
}

static void write_y(const panel *s, double alpha, double beta, const strata_tensor *y)
{
    turn j = { s, y, alpha, beta };
    sti_panels(s->t->ctx, s->n, 2 * TILE, turn_out, &j);
}

static strata_tensor rows_of(const sti_twostage *t, const strata_tensor *a, int64_t first, int64_t n)
{
    strata_tensor v = *a;
    v.data = at(t, a->data, first * a->stride[0]);
    v.shape[0] = n;
    return v;
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

typedef struct job {
    const sti_twostage *t;
    const void *w1, *w2;
    bool transposed;
    double alpha, beta;
    const strata_tensor *x, *y;
    void *work;
    int64_t panel;
    float *packed; /* weights, of calls of many rows */
} job;

static void apply_panel(void *arg, int64_t first, int64_t rows, int thread)
{
    const job *j = arg;
    const sti_twostage *t = j->t;
    const panel s = open_panel(t, j->w1, j->w2, rows, at(t, j->work, thread * j->panel * t->width));
    const strata_tensor x = rows_of(t, j->x, first, rows), y = rows_of(t, j->y, first, rows);
    if (j->transposed) {
        read_y(&s, &x);
        stage2_transposed(&s);
        permute(&s, true);
        stage1_transposed(&s, j->alpha, j->beta, &y);
    } else {
        stage1(&s, &x);
        permute(&s, false);
        stage2(&s);
        write_y(&s, j->alpha, j->beta, &y);
    }
}

/* ---- the fused variants ------------------------------------------------------------------------------------------ */

static int64_t groups_of(const sti_twostage *t)
{
    return sti_ceil_div(t->n2, sti_twostage_together(t));
}

/* The first `width` numbers of rows [first, first + n) of a, as far as they exist; 16 of every `step`. */
static sti_twostage_ahead ahead_of(const strata_tensor *a, int64_t first, int64_t n, int64_t width, int64_t step)
{
    sti_twostage_ahead f = { .stride = a->stride[0] * (int64_t)sizeof(float),
                             .rows = STI_MIN(n, a->shape[0] - first),
                             .step = step * (int64_t)sizeof(float),
                             .lines = sti_ceil_div(STI_MIN(width, a->shape[1]), step) };
    if (f.rows > 0) f.row = (const char *)a->data + first * f.stride;
    return f;
}

static void fused_panel(void *arg, int64_t first, int64_t rows, int thread)
{
    const job *j = arg;
    const sti_twostage *t = j->t;
    float *u = (float *)j->work + thread * t->width, *work = u + fused_middle(t);
    /* a whole transposed result; else the part of it and of the next panel that no block before asks for */
    const bool straight = !j->transposed;
    sti_twostage_ahead result = ahead_of(j->y, first, rows, INT64_MAX, straight ? STI_MAX(t->n2, 16) : 16),
                       next = ahead_of(j->x, first + rows, rows, straight ? t->p : INT64_MAX, 16);
    sti_twostage_panel s = { .t = t,
                             .w1 = j->w1,
                             .w2 = j->w2,
                             .x = (const float *)j->x->data + first * j->x->stride[0],
                             .y = (float *)j->y->data + first * j->y->stride[0],
                             .ldx = j->x->stride[0],
                             .ldy = j->y->stride[0],
                             .n = rows,
                             .alpha = (float)j->alpha,
                             .beta = (float)j->beta,
                             .u = u };
    s.ahead = &result;
    if (j->transposed) {
        t->loops->out_back(&s, 0, groups_of(t), work);
        s.ahead = &next;
        t->loops->in_back(&s, 0, t->n1, work);
    } else {
        t->loops->in(&s, 0, t->n1, work);
        s.ahead = &next;
        t->loops->out(&s, 0, groups_of(t), work);
    }
}

static void pack_parts(void *arg, int64_t first, int64_t parts, int thread)
{
    const job *j = arg;
    (void)thread;
    j->t->loops->pack(j->t, j->transposed, j->w1, j->w2, (float)j->alpha, first, first + parts, j->packed);
}

static void rows_panel(void *arg, int64_t first, int64_t rows, int thread)
{
    const job *j = arg;
    const sti_twostage *t = j->t;
    t->loops->rows(t, j->transposed, rows, (const float *)j->x->data + first * j->x->stride[0], j->x->stride[0],
                   (float)j->beta, (float *)j->y->data + first * j->y->stride[0], j->y->stride[0], j->packed,
                   (float *)j->work + thread * t->width);
}

static void apply_many(job *j)
{
    const sti_twostage *t = j->t;
    const int64_t parts = t->loops->packed_parts(t), count = j->x->shape[0];
    j->packed = (float *)j->work + t->ctx->threads * t->width;
    sti_panels(t->ctx, parts, sti_ceil_div(parts, sti_threads(t->ctx)), pack_parts, j);
    sti_panels(t->ctx, count, sti_panel_rows(t->ctx, count, STI_TWOSTAGE_ROWS), rows_panel, j);
}

/* Threads share the blocks of each step; every weight's gradient belongs to one block, so its sum has one order. Tied
 * blocks share theirs, so one thread takes them all. */
static void fused_grad(const sti_twostage *t, const void *w1, const void *w2, const strata_tensor *x,
                       const strata_tensor *dy, void *dw1, void *dw2, double alpha, double beta,
                       const strata_tensor *dx, void *work)
{
    const int64_t count = x->shape[0], groups = groups_of(t), n1 = t->n1;
    const int team = t->tied ? 1
                             : (int)STI_MIN((int64_t)sti_threads_for(t->ctx, count * (t->cols + t->rows), 1 << 14),
                                            STI_MAX(groups, n1));
#pragma omp parallel num_threads(team) if (team > 1)
    {
#ifdef _OPENMP
        const int64_t n = team > 1 ? omp_get_num_threads() : 1, k = team > 1 ? omp_get_thread_num() : 0;
#else
        const int64_t n = 1, k = 0;
#endif
        float *mine = (float *)work + k * t->width + fused_middle(t);
        for (int64_t first = 0; first < count; first += t->panel) {
            /* one thread's cache holds all; several threads' caches do not know who needs a row */
            sti_twostage_ahead ahead[3] = { ahead_of(dy, first, t->panel, INT64_MAX, 16),
                                            { 0 },
                                            ahead_of(x, first + t->panel, t->panel, t->p, 16) };
            if (dx) ahead[1] = ahead_of(dx, first, t->panel, INT64_MAX, 16);
            sti_twostage_panel s = { .t = t,
                                     .w1 = w1,
                                     .w2 = w2,
                                     .x = (const float *)x->data + first * x->stride[0],
                                     .y = dx ? (float *)dx->data + first * dx->stride[0] : NULL,
                                     .ldx = x->stride[0],
                                     .ldy = dx ? dx->stride[0] : 0,
                                     .n = STI_MIN(t->panel, count - first),
                                     .alpha = (float)alpha,
                                     .beta = (float)beta,
                                     .u = work,
                                     .dw1 = dw1,
                                     .dw2 = dw2,
                                     .dy = (const float *)dy->data + first * dy->stride[0],
                                     .lddy = dy->stride[0] };
            s.ahead = n == 1 ? &ahead[0] : NULL;
            t->loops->in(&s, n1 * k / n, n1 * (k + 1) / n, mine);
#pragma omp barrier
            s.ahead = n == 1 ? &ahead[1] : NULL;
            t->loops->out_grad(&s, groups * k / n, groups * (k + 1) / n, mine);
#pragma omp barrier
            s.ahead = n == 1 ? &ahead[2] : NULL;
            t->loops->in_grad(&s, n1 * k / n, n1 * (k + 1) / n, mine);
#pragma omp barrier
        }
    }
}

/* ---- the two calls ----------------------------------------------------------------------------------------------- */

void sti_twostage_apply(const sti_twostage *t, const void *w1, const void *w2, bool transposed, double alpha,
                        const strata_tensor *x, double beta, const strata_tensor *y, void *work)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(t->ctx)) {
        sti_twostage_device_apply(t, w1, w2, transposed, alpha, x, beta, y, work);
        return;
    }
#endif
    if (few(t, x->shape[0])) {
        sti_twostage_few_apply(t, w1, w2, transposed, alpha, x, beta, y, work);
        return;
    }
    if (t->loops) {
        job j = { t, w1, w2, transposed, alpha, beta, x, y, work, 0, NULL };
        if (t->many && x->shape[0] >= STI_TWOSTAGE_MANY) {
            apply_many(&j);
            return;
        }
        sti_panels(t->ctx, x->shape[0], sti_panel_rows(t->ctx, x->shape[0], t->panel), fused_panel, &j);
        return;
    }
    const int64_t panel_rows = sti_panel_rows(t->ctx, x->shape[0], t->panel);
    job j = { t, w1, w2, transposed, alpha, beta, x, y, work, panel_rows, NULL };
    sti_panels(t->ctx, x->shape[0], panel_rows, apply_panel, &j);
}

void sti_twostage_grad(const sti_twostage *t, const void *w1, const void *w2, const strata_tensor *x,
                       const strata_tensor *dy, void *dw1, void *dw2, double alpha, double beta,
                       const strata_tensor *dx, void *work)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(t->ctx)) {
        sti_twostage_device_grad(t, w1, w2, x, dy, dw1, dw2, alpha, beta, dx, work);
        return;
    }
#endif
    if (few(t, x->shape[0])) {
        sti_twostage_few_grad(t, w1, w2, x, dy, dw1, dw2, alpha, beta, dx, work);
        return;
    }
    if (t->loops) {
        fused_grad(t, w1, w2, x, dy, dw1, dw2, alpha, beta, dx, work);
        return;
    }
    const int64_t count = x->shape[0];
    for (int64_t first = 0; first < count; first += t->grad_panel) {
        const int64_t n = STI_MIN(t->grad_panel, count - first);
        const panel s = open_panel(t, w1, w2, n, work);
        const strata_tensor xp = rows_of(t, x, first, n), dyp = rows_of(t, dy, first, n);
        stage1(&s, &xp);
        permute(&s, false);
        read_y(&s, &dyp);
        stage2_grad(&s, dw2);
        stage2_transposed(&s); /* the stage's input is no longer needed: its gradient takes the place */
        permute(&s, true);
        stage1_grad(&s, &xp, dw1);
        if (dx) {
            const strata_tensor dxp = rows_of(t, dx, first, n);
            stage1_transposed(&s, alpha, beta, &dxp);
        }
    }
}
