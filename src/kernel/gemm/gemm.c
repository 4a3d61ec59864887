#include "kernel/gemm/gemm.h"

#include <stdio.h>
#include <string.h>

#include "backend/cpu/threads.h"
#include "core/device.h"
#include "core/real.h"
#include "kernel/gemm/gemm_bf16.h"
#include "kernel/gemm/gemm_builtin.h"
#include "kernel/gemm/gemm_cuda.h"
#include "kernel/gemm/gemm_few.h"

#if STRATA_HAVE_OPENBLAS
#include <cblas.h>
#include <openblas_config.h>
#endif

/* Multiply-adds below which threads cost more than they save, and the lines below which OpenBLAS itself thinks so. */
#define SERIAL_WORK (96.0 * 96.0 * 64.0)
#define SERIAL_WORK_BF16 (128.0 * 128.0 * 128.0)
#define SERIAL_NUMBERS (256.0 * 1024.0) /* of B, where few rows of A only read it */
#define LIBRARY_SMALL_WORK 1e6          /* up to which OpenBLAS does not pack */
#define LIBRARY_GEMM_WORK (64.0 * 64.0 * 64.0)
#define LIBRARY_GEMV_WORK (64.0 * 64.0)

typedef struct problem {
    bool ta, tb;
    int64_t m, n, k;
    double alpha, beta;
    const void *a, *b;
    void *c;
    int64_t lda, ldb, ldc, sa, sb, sc;
    int64_t tm, tn, nm, nn; /* tiles of C: size, and how many down and across */
    const strata_context *ctx;
    const sti_gemm_bf16 *rounded; /* NULL: products of f32 or f64 */
    const sti_gemm_few *few;      /* NULL: A has many rows */
} problem;

enum { MC = 64, KC = 128, NC = 128, MR = 4 };

#define REAL float
#define SFX _f32
#define NR 8
#define GEMM cblas_sgemm
#define GEMV cblas_sgemv
#include "kernel/gemm/gemm_builtin.inc"
#undef REAL
#undef SFX
#undef NR
#undef GEMM
#undef GEMV
#define REAL double
#define SFX _f64
#define NR 4
#define GEMM cblas_dgemm
#define GEMV cblas_dgemv
#include "kernel/gemm/gemm_builtin.inc"

/* ---- operands rounded to bf16 ------------------------------------------------------------------------------------ */

static const sti_gemm_bf16 *const rounded[] = {
#if STRATA_HAVE_AMX
    &sti_gemm_bf16_amx,
#endif
#if STRATA_HAVE_AVX512BF16
    &sti_gemm_bf16_avx512bf16,
#endif
    NULL
};

static const sti_gemm_bf16 *rounded_product(const strata_context *ctx, int32_t dtype)
{
    if (dtype != STRATA_F32 || !sti_rounds(ctx)) return NULL;
    int i = 0;
    while (rounded[i] && rounded[i]->isa > ctx->isa) i++;
    return rounded[i];
}

/* The fewer rows, the less is gained by packing B, which these read as it is. Also where operands would be rounded:
 * there is nothing to gain when memory is waited for. */
static const sti_gemm_few *few_rows(const strata_context *ctx, int32_t dtype, int64_t m, int64_t n, int64_t k)
{
#if STRATA_X86
    if (dtype != STRATA_F32 || m > STI_GEMM_FEW || ctx->isa < STI_ISA_AVX2) return NULL;
    const sti_gemm_few *f = ctx->isa >= STI_ISA_AVX512 ? &sti_gemm_few_avx512 : &sti_gemm_few_avx2;
    const bool packs = !STRATA_HAVE_OPENBLAS || (double)m * (double)n * (double)k > LIBRARY_SMALL_WORK;
    return m == 1 || packs || sti_rounds(ctx) ? f : NULL;
#else
    (void)ctx, (void)dtype, (void)m, (void)n, (void)k;
    return NULL;
#endif
}

static const float *from(const void *p, int64_t elements)
{
    return (const float *)p + elements;
}

static void with_room(const problem *q, int64_t m, int64_t n, const float *a, const float *b, float *c, void *room,
                      int64_t bytes)
{
    q->rounded->product(q->ta, q->tb, m, n, q->k, (float)q->alpha, a, q->lda, b, q->ldb, (float)q->beta, c, q->ldc,
                        room, bytes);
}

/* All of the context's rooms are taken: somebody else computes with it, too. */
static __attribute__((noinline)) void with_stack(const problem *q, int64_t m, int64_t n, const float *a, const float *b,
                                                 float *c)
{
    alignas(STI_ALIGN) char room[STI_GEMM_BF16_LEAST];
    with_room(q, m, n, a, b, c, room, sizeof room);
}

static void task_bf16(const problem *q, int64_t product, int64_t tile)
{
    const int64_t i = tile / q->nn * q->tm, j = tile % q->nn * q->tn;
    const int64_t m = STI_MIN(q->tm, q->m - i), n = STI_MIN(q->tn, q->n - j);
    const float *a = from(q->a, product * q->sa + (q->ta ? i : i * q->lda)),
                *b = from(q->b, product * q->sb + (q->tb ? j * q->ldb : j));
    float *c = (float *)q->c + product * q->sc + i * q->ldc + j;
    if (q->k == 0 || (float)q->alpha == 0) {
        scale_f32(m, n, (float)q->beta, c, q->ldc);
        return;
    }
    void *room = sti_room_take(q->ctx);
    if (room)
        with_room(q, m, n, a, b, c, room, STI_ROOM);
    else
        with_stack(q, m, n, a, b, c);
    sti_room_give(q->ctx, room);
}

/* Products [first, last) of the batch, or one slab of a product; m rows in either case. */
static void call_few(const problem *q, int64_t first, int64_t last, int64_t j)
{
    const int64_t n = STI_MIN(q->tn, q->n - j);
    sti_gemm_few_call call = { .ta = q->ta, .tb = q->tb, .m = q->m, .n = n, .k = q->k, .count = last - first };
    call.alpha = (float)q->alpha, call.beta = (float)q->beta;
    call.a = from(q->a, first * q->sa);
    call.b = from(q->b, first * q->sb + (q->tb ? j * q->ldb : j));
    call.c = (float *)q->c + first * q->sc + j;
    call.lda = q->lda, call.ldb = q->ldb, call.ldc = q->ldc;
    call.sa = q->sa, call.sb = q->sb, call.sc = q->sc;
    if (q->k > 0 && call.alpha != 0)
        q->few->product(&call);
    else
        for (int64_t i = 0; i < call.count; i++) scale_f32(q->m, n, call.beta, call.c + i * q->sc, q->ldc);
}

/* ---- tasks ------------------------------------------------------------------------------------------------------- */

/* 0: the library runs on the calling thread when it is inside a parallel region; 1: it always uses its own threads. */
static bool library_has_threads(void)
{
#if STRATA_HAVE_OPENBLAS
    return openblas_get_parallel() == 1;
#else
    return false;
#endif
}

static void run_task(const problem *q, int32_t dtype, int64_t t)
{
    const int64_t tiles = q->nm * q->nn;
    if (q->few)
        call_few(q, t / tiles, t / tiles + 1, t % tiles * q->tn);
    else if (q->rounded)
        task_bf16(q, t / tiles, t % tiles);
    else if (dtype == STRATA_F32)
        task_f32(q, t / tiles, t % tiles);
    else
        task_f64(q, t / tiles, t % tiles);
}

static void run_tasks(const problem *q, int32_t dtype, int64_t first, int64_t last)
{
    if (q->few && q->nn == 1)
        call_few(q, first, last, 0);
    else
        for (int64_t t = first; t < last; t++) run_task(q, dtype, t);
}

/* All tasks on the calling thread. */
static void run_serial(const problem *q, int32_t dtype, int64_t tasks, double work)
{
#if STRATA_HAVE_OPENBLAS && STRATA_HAVE_OPENMP
    /* Outside a region an OpenMP OpenBLAS would take omp_get_max_threads() threads. The setting below belongs to the
     * task of this team of one and ends with it: no other code sees it. */
    if (!q->rounded && !q->few && work > (q->m == 1 || q->n == 1 ? LIBRARY_GEMV_WORK : LIBRARY_GEMM_WORK) &&
        !library_has_threads() && !omp_in_parallel() && omp_get_max_threads() > 1) {
#pragma omp parallel num_threads(1)
        {
            omp_set_num_threads(1); /* ban-ok: local to this region */
            run_tasks(q, dtype, 0, tasks);
        }
        return;
    }
#endif
    (void)work;
    run_tasks(q, dtype, 0, tasks);
}

static int64_t clamp(int64_t x, int64_t lo, int64_t hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

static int64_t round_up(int64_t x, int64_t to)
{
    return (x + to - 1) / to * to;
}

/* Cut C (m, n) into about `parts` tiles: the grid whose tiles need the least packing (m + n smallest). */
static void cut(problem *q, int64_t parts)
{
    const int64_t to = q->rounded ? 32 : 16;
    int64_t best = 1, cost = INT64_MAX;
    for (int64_t pm = 1; pm <= parts; pm++) {
        if (parts % pm) continue;
        const int64_t tm = round_up(sti_ceil_div(q->m, pm), to), tn = round_up(sti_ceil_div(q->n, parts / pm), to);
        /* the largest tile bounds the time; its border is the packing */
        const int64_t c = tm * tn * 8 + (tm + tn) * 64;
        if (c < cost) cost = c, best = pm;
    }
    q->tm = round_up(sti_ceil_div(q->m, best), to);
    q->tn = round_up(sti_ceil_div(q->n, parts / best), to);
}

void sti_gemm_batch(const strata_context *ctx, int32_t dtype, bool ta, bool tb, int64_t m, int64_t n, int64_t k,
                    double alpha, const void *a, int64_t lda, int64_t sa, const void *b, int64_t ldb, int64_t sb,
                    double beta, void *c, int64_t ldc, int64_t sc, int64_t count)
{
    if (m <= 0 || n <= 0 || count <= 0) return;
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        sti_gemm_cuda(ctx, dtype, dtype, ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, count);
        return;
    }
#endif
    problem q = { .ta = ta, .tb = tb, .m = m, .n = n, .k = STI_MAX(k, 0), .alpha = alpha, .beta = beta };
    q.a = a, q.b = b, q.c = c;
    q.lda = lda, q.ldb = ldb, q.ldc = ldc;
    q.sa = sa, q.sb = sb, q.sc = sc;
    q.tm = m, q.tn = n, q.nm = q.nn = 1;
    q.ctx = ctx;
    q.few = few_rows(ctx, dtype, m, n, k);
    if (!q.few && k > STI_GEMM_FEW) q.rounded = rounded_product(ctx, dtype);
    const double work = (double)m * (double)n * (double)STI_MAX(k, 1) * (double)count;
    const double serial = q.few ? SERIAL_NUMBERS * (double)m : q.rounded ? SERIAL_WORK_BF16 : SERIAL_WORK;
    const bool own = q.few || q.rounded || !library_has_threads(); /* the threads are ours */
    const int threads = own ? sti_threads(ctx) : 1;
    if (work >= serial && own) {
        if (q.few) { /* the order of a sum may depend on its place in 128 columns */
            if (threads > 1 && count < 4 * threads) q.tn = round_up(sti_ceil_div(n, threads), 128);
        } else if (ctx->deterministic && !q.rounded) { /* by the shape alone */
            q.tm = clamp(round_up(sti_ceil_div(m, 4), 16), 64, 256);
            q.tn = clamp(round_up(sti_ceil_div(n, 4), 16), 64, 512);
        } else if (threads > 1 && count < 4 * threads)
            cut(&q, threads);
        q.nm = sti_ceil_div(m, q.tm);
        q.nn = sti_ceil_div(n, q.tn);
    }
    const int64_t tasks = q.nm * q.nn * count;
    if (threads == 1 || tasks == 1 || work < serial) {
        run_serial(&q, dtype, tasks, work);
        return;
    }
    const int64_t team = STI_MIN((int64_t)threads, tasks);
#pragma omp parallel for schedule(static) num_threads((int)team)
    for (int64_t i = 0; i < team; i++) run_tasks(&q, dtype, tasks * i / team, tasks * (i + 1) / team);
}

void sti_gemm(const strata_context *ctx, int32_t dtype, bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha,
              const void *a, int64_t lda, const void *b, int64_t ldb, double beta, void *c, int64_t ldc)
{
    sti_gemm_batch(ctx, dtype, ta, tb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1);
}

void sti_gemm_sum_batch(const strata_context *ctx, int32_t dtype, bool ta, bool tb, int64_t m, int64_t n, int64_t k,
                        double alpha, const void *a, int64_t lda, int64_t sa, const void *b, int64_t ldb, int64_t sb,
                        double beta, void *c, int64_t ldc, int64_t sc, int64_t count)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) {
        if (m > 0 && n > 0 && count > 0)
            sti_gemm_cuda(ctx, dtype, sti_sum_type(dtype), ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc,
                          sc, count);
        return;
    }
#endif
    sti_gemm_batch(ctx, dtype, ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, count);
}

void sti_gemm_sum(const strata_context *ctx, int32_t dtype, bool ta, bool tb, int64_t m, int64_t n, int64_t k,
                  double alpha, const void *a, int64_t lda, const void *b, int64_t ldb, double beta, void *c,
                  int64_t ldc)
{
    sti_gemm_sum_batch(ctx, dtype, ta, tb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1);
}

const char *sti_gemm_backend(void)
{
#if STRATA_HAVE_OPENBLAS
    static _Thread_local char text[40];
    const char *version = strpbrk(OPENBLAS_VERSION, "0123456789"); /* " OpenBLAS 0.3.21 " */
    snprintf(text, sizeof text, "openblas %.*s", version ? (int)strcspn(version, " ") : 1, version ? version : "?");
    return text;
#else
    return "builtin";
#endif
}

const char *sti_gemm_backend_bf16(const strata_context *ctx)
{
    const sti_gemm_bf16 *r = rounded_product(ctx, STRATA_F32);
    return r ? r->name : NULL;
}
