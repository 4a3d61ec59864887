/* lowrank_cuda_bench [few|many]: y = (x V) U^T on the device in bf16 beside its two products and a dense product of
 * cuBLASLt, all of this process: microseconds forward (beta = 0, beta = 1) and of the whole gradient. Calls are
 * recorded once and replayed, so launches cost what they do in a training step. Roof: x and y moved once at 4.2 TB/s,
 * or the products at 700 TFLOP/s, whichever takes longer. */
#include <string.h>

#include <strata/operator.h>

#include "kernel/gemm/gemm.h"
#include "support/replay.h"

enum { CALLS = 20 };

typedef struct job {
    const strata_context *ctx;
    strata_op *op;
    void *x, *y, *dy, *dx, *z, *dz, *w, *params, *dparams; /* w: a dense weight */
    const void *u, *v;
    float *du, *dv;
    int64_t count, width, rank;
    double beta;
} job;

static strata_tensor view(const job *j, void *p)
{
    strata_tensor t = strata_view2(p, STRATA_BF16, j->count, j->width);
    t.device = STRATA_CUDA;
    return t;
}

/* ---- what is timed ----------------------------------------------------------------------------------------------- */

static strata_status dense(const job *j)
{
    sti_gemm(j->ctx, STRATA_BF16, false, true, j->count, j->width, j->width, 1, j->x, j->width, j->w, j->width, j->beta,
             j->y, j->width);
    return STRATA_OK;
}

/* (count, width) from (count, rank), and the other way */
static void in(const job *j, const void *x, const void *v, void *z)
{
    sti_gemm(j->ctx, STRATA_BF16, false, false, j->count, j->rank, j->width, 1, x, j->width, v, j->rank, 0, z, j->rank);
}
static void out(const job *j, const void *z, const void *u, void *y)
{
    sti_gemm(j->ctx, STRATA_BF16, false, true, j->count, j->width, j->rank, 1, z, j->rank, u, j->rank, j->beta, y,
             j->width);
}
static void weights(const job *j, const void *a, const void *z, float *d)
{
    sti_gemm_sum(j->ctx, STRATA_BF16, true, false, j->width, j->rank, j->count, 1, a, j->width, z, j->rank, 1, d,
                 j->rank);
}

static strata_status two(const job *j)
{
    in(j, j->x, j->v, j->z);
    out(j, j->z, j->u, j->y);
    return STRATA_OK;
}

static strata_status apply(const job *j)
{
    const strata_tensor x = view(j, j->x), y = view(j, j->y);
    return strata_op_apply(j->op, j->params, STRATA_OP_N, 1, &x, j->beta, &y, NULL);
}

static strata_status five(const job *j)
{
    in(j, j->x, j->v, j->z);
    in(j, j->dy, j->u, j->dz);
    weights(j, j->dy, j->z, j->du);
    weights(j, j->x, j->dz, j->dv);
    out(j, j->dz, j->v, j->dx);
    return STRATA_OK;
}

static strata_status grad(const job *j)
{
    const strata_tensor x = view(j, j->x), dy = view(j, j->dy), dx = view(j, j->dx);
    return strata_op_grad(j->op, j->params, &x, &dy, j->dparams, &dx, j->beta != 0, NULL);
}

typedef struct batch {
    const job *j;
    strata_status (*call)(const job *);
} batch;

static strata_status calls(void *arg)
{
    const batch *b = arg;
    for (int i = 0; i < CALLS; i++) STI_TRY(b->call(b->j));
    return STRATA_OK;
}

/* Microseconds of one call. */
static double timed(const job *j, strata_status (*call)(const job *))
{
    batch b = { j, call };
    return replayed(j->ctx, calls, &b) * 1e6 / CALLS;
}

static void measure(const strata_context *ctx, int64_t count, int64_t width, int64_t rank)
{
    job j = { .ctx = ctx, .count = count, .width = width, .rank = rank };
    char spec[64];
    snprintf(spec, sizeof spec, "lowrank rank=%lld", (long long)rank);
    check(strata_op_create(ctx, spec, width, width, count, STRATA_BF16, &j.op));
    strata_param_info u, v;
    check(strata_op_param(j.op, 0, &u));
    check(strata_op_param(j.op, 1, &v));
    const int64_t n = (int64_t)strata_op_param_bytes(j.op) / 2;
    void **rows[4] = { &j.x, &j.y, &j.dx, &j.dy };
    for (int i = 0; i < 4; i++) *rows[i] = numbers(ctx, count * width);
    j.z = numbers(ctx, count * rank), j.dz = numbers(ctx, count * rank), j.w = numbers(ctx, width * width);
    check(strata_device_alloc(ctx, (size_t)n * 2, &j.params));
    check(strata_device_alloc(ctx, (size_t)n * 4, &j.dparams));
    check(strata_op_init(j.op, 1, j.params));
    j.u = (const char *)j.params + 2 * u.offset, j.v = (const char *)j.params + 2 * v.offset;
    j.du = (float *)j.dparams + u.offset, j.dv = (float *)j.dparams + v.offset;
    const double moved = 4.0 * (double)(count * width) / 4.2e6, done = 4.0 * (double)(count * width * rank) / 700e6;
    const double d = timed(&j, dense), t = timed(&j, two), a = timed(&j, apply), g5 = timed(&j, five),
                 g = timed(&j, grad);
    j.beta = 1;
    const double tb = timed(&j, two), ab = timed(&j, apply);
    printf("%6lld %5lld %5lld %8.1f  %7.1f %7.1f %5.2fx %4.0f %%  %7.1f %7.1f %5.2fx  %8.1f %8.1f %5.2fx\n",
           (long long)count, (long long)width, (long long)rank, d, t, a, t / a, 100 * STI_MAX(moved, done) / a, tb, ab,
           tb / ab, g5, g, g5 / g);
    fflush(stdout);
    void *all[] = { j.x, j.y, j.dx, j.dy, j.z, j.dz, j.w, j.params, j.dparams };
    for (size_t i = 0; i < STI_COUNT(all); i++) strata_device_free(ctx, all[i]);
    strata_op_destroy(j.op);
}

int main(int argc, char **argv)
{
    const bool few = argc < 2 || strcmp(argv[1], "few") == 0, many = argc < 2 || strcmp(argv[1], "many") == 0;
    strata_context *ctx;
    check(strata_context_create("device=cuda", NULL, &ctx));
    printf("%s, bf16, microseconds\n"
           "  rows width  rank    dense      two   fused               beta=1: fused           gradient:  fused\n",
           strata_context_device_name(ctx));
    const int64_t ranks[] = { 64, 128, 256 }, widths[] = { 1024, 2048, 4096, 8192 };
    const int64_t counts[] = { 1, 16, 64, 256, 1024, 4096, 8192, 16384, 32768 };
    for (size_t c = 0; c < STI_COUNT(counts); c++)
        for (size_t w = 0; w < STI_COUNT(widths); w++) {
            if (counts[c] >= 1024 ? !many || (counts[c] != 16384 && widths[w] != 4096)
                                  : !few || (counts[c] != 1 && counts[c] != 256 && widths[w] != 4096))
                continue;
            for (size_t r = 0; r < STI_COUNT(ranks); r++) measure(ctx, counts[c], widths[w], ranks[r]);
        }
    strata_context_destroy(ctx);
    return 0;
}
