/* Bytes per second of the device's memory-bound kernels, beside a copy within the device in the same run: every array
 * that a kernel must read or write counts once. Usage: layer_cuda_bench [rows [width]]; CE: rows/4 x 50304. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/device.h"
#include "core/philox.h"
#include "kernel/activation/activation.h"
#include "kernel/crossentropy/crossentropy.h"
#include "kernel/norm/norm.h"
#include "kernel/rotary/rotary.h"
#include "layer/layer.h"

#if STRATA_HAVE_CUDA
#include "layer/embedding/embedding_cuda.h"
#include "layer/positions/positions_cuda.h"
#include "layer/sum/sum_cuda.h"
#include "operator/linear_cuda.h"

enum { EACH = 10, REPEATS = 5, VOCAB = 50304, HEADS = 12, TIME = 1024 };

typedef struct state {
    strata_context *ctx;
    int32_t dtype, act;
    int64_t rows, width, vocab;
    void *x, *y, *dy, *dx;           /* rows * width, and rows / 4 * VOCAB at least */
    void *gain, *stat, *sums, *work; /* of the type of sums */
    int32_t *token[2];               /* few ids, many ids */
    sti_rotary *rotary;
    int acc;
} state;

static int failed(strata_status s)
{
    if (s != STRATA_OK) fprintf(stderr, "%s: %s\n", strata_status_name(s), strata_last_error());
    return s != STRATA_OK;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- what is timed ----------------------------------------------------------------------------------------------- */

static void copy(state *s)
{
    sti_array_copy(s->ctx, s->y, s->x, (size_t)(s->rows * s->width) * strata_dtype_size(s->dtype));
}
static sti_norm norm_of(const state *s)
{
    return (sti_norm){ s->width, 0, 1e-5, true, true };
}
static void norm_forward(state *s)
{
    const sti_norm n = norm_of(s);
    sti_norm_forward(s->ctx, s->dtype, &n, s->rows, s->x, s->gain, s->gain, s->y, s->stat);
}
static void norm_backward(state *s)
{
    const sti_norm n = norm_of(s);
    sti_norm_backward(s->ctx, s->dtype, &n, s->rows, s->x, s->gain, s->stat, s->dy, s->dx, s->acc, s->sums,
                      (char *)s->sums + (size_t)s->width * 8, s->work);
}
static void act_forward(state *s)
{
    sti_act_forward(s->ctx, s->dtype, (sti_act)s->act, s->rows * s->width, s->x, s->y);
}
static void act_backward(state *s)
{
    sti_act_backward(s->ctx, s->dtype, (sti_act)s->act, s->rows * s->width, s->x, s->dy, s->dx, 0);
}
static void gate_forward(state *s)
{
    sti_gate_forward(s->ctx, s->dtype, s->rows * s->width, s->x, s->dy, s->y);
}
static void gate_backward(state *s)
{
    sti_gate_backward(s->ctx, s->dtype, s->rows * s->width, s->x, s->y, s->dy, s->dx, 0,
                      (char *)s->dx + (size_t)(s->rows * s->width) * strata_dtype_size(s->dtype), 0);
}
static void sum(state *s)
{
    sti_sum_cuda(s->ctx, s->dtype, s->rows * s->width, s->x, s->dy, s->y);
}
static void rotary(state *s)
{
    (void)sti_rotary_apply(s->ctx, s->rotary, s->rows / TIME, TIME, HEADS, NULL, false, false, s->x, s->y);
}
static void positions_forward(state *s)
{
    sti_positions_forward_cuda(s->ctx, s->dtype, s->rows / TIME, TIME, s->width, NULL, s->gain, s->x, s->y);
}
static void positions_backward(state *s)
{
    sti_positions_backward_cuda(s->ctx, s->dtype, s->rows / TIME, TIME, s->width, s->dy, s->sums, NULL, 0);
}
static void bias_add(state *s)
{
    sti_bias_add_cuda(s->ctx, s->dtype, s->rows, s->width, s->gain, s->y);
}
static void bias_grad(state *s)
{
    sti_bias_grad_cuda(s->ctx, s->dtype, s->rows, s->width, s->dy, s->sums, s->work);
}
static void embedding_forward(state *s)
{
    sti_embedding_forward_cuda(s->ctx, s->dtype, s->rows, s->width, s->token[s->vocab > 96], s->x, s->y);
}
static void embedding_backward(state *s)
{
    sti_embedding_backward_cuda(s->ctx, s->dtype, s->rows, s->width, s->token[s->vocab > 96], s->dy, s->sums, s->work);
}
static void loss_forward(state *s)
{
    (void)sti_crossentropy_forward(s->ctx, s->dtype, s->rows * s->width / s->vocab, s->vocab, s->x,
                                   s->token[s->vocab > 96], s->stat, s->work);
}
static void loss_backward(state *s)
{
    sti_crossentropy_backward(s->ctx, s->dtype, s->rows * s->width / s->vocab, s->vocab, s->x, s->token[s->vocab > 96],
                              s->stat, s->acc ? s->x : s->dx, 0);
}

/* ---- timing ------------------------------------------------------------------------------------------------------ */

typedef struct job {
    state *s;
    void (*fn)(state *);
} job;

static strata_status several(void *arg)
{
    const job *j = arg;
    for (int i = 0; i < EACH; i++) j->fn(j->s);
    return STRATA_OK;
}

static double roof;

/* `arrays`: of rows * width elements that move; `extra`: other bytes. */
static void measure(state *s, const char *name, void (*fn)(state *), double arrays, double extra)
{
    job j = { s, fn };
    sti_recording *r;
    fn(s);
    if (failed(sti_device_wait(s->ctx)) || failed(sti_record(s->ctx, several, &j, &r))) exit(1);
    double best = 1e30;
    for (int i = 0; i < REPEATS; i++) {
        const double t = now();
        if (failed(sti_replay(s->ctx, r)) || failed(sti_device_wait(s->ctx))) exit(1);
        best = fmin(best, (now() - t) / EACH);
    }
    const double bytes = arrays * (double)(s->rows * s->width) * (double)strata_dtype_size(s->dtype) + extra;
    const double rate = bytes / best * 1e-9;
    if (!(roof > 0)) roof = rate;
    printf("%-24s %5s %9.1f us %7.0f GB/s %4.0f %%\n", name, strata_dtype_name(s->dtype), best * 1e6, rate,
           100 * rate / roof);
    fflush(stdout);
    sti_recording_free(s->ctx, r);
}

static void *filled(const state *s, int32_t dtype, int64_t n)
{
    enum { BLOCK = 1 << 16 };
    static float x[BLOCK], b[BLOCK * 2];
    void *p;
    if (failed(sti_array_calloc(s->ctx, n, strata_dtype_size(dtype), &p))) exit(1);
    for (int i = 0; i < BLOCK; i++) x[i] = (float)sti_normal(1, (uint64_t)dtype, (uint64_t)i);
    void *q;
    if (failed(sti_array_calloc(s->ctx, BLOCK, sizeof *b, &q)) || failed(sti_to_device(s->ctx, q, x, sizeof x)))
        exit(1);
    for (int64_t i = 0; i < n; i += BLOCK)
        sti_array_convert(s->ctx, (char *)p + (size_t)i * strata_dtype_size(dtype), dtype, q, STRATA_F32,
                          STI_MIN(BLOCK, n - i));
    sti_array_free(s->ctx, q);
    return p;
}

static void all(state *s)
{
    static const char *const act[] = { "gelu", "gelu_tanh", "relu", "silu" };
    const int64_t n = STI_MAX(s->rows * s->width, s->rows / 4 * VOCAB);
    const int32_t sums = sti_sum_type(s->dtype);
    const double row = (double)s->rows;
    s->x = filled(s, s->dtype, n);
    s->dx = filled(s, s->dtype, n);
    s->y = filled(s, s->dtype, s->rows * s->width);
    s->dy = filled(s, s->dtype, s->rows * s->width);
    s->gain = filled(s, sums, TIME * s->width);
    s->stat = filled(s, sums, 2 * n / 96 + 2);
    s->sums = filled(s, sums, VOCAB * s->width);
    const size_t a = sti_embedding_work_cuda(s->dtype, s->rows, s->width), b = sti_norm_work(s->ctx, s->width);
    if (failed(sti_array_calloc(s->ctx, 1, STI_MAX(STI_MAX(a, b), (size_t)n / 96 * 16 + 64), &s->work))) exit(1);
    const int64_t rank = s->width / HEADS;
    if (failed(sti_rotary_create(s->ctx, s->dtype, 1, &rank, 10000, TIME, &s->rotary))) exit(1);
    roof = 0;
    measure(s, "copy", copy, 2, 0);
    measure(s, "norm forward", norm_forward, 2, 8 * row);
    for (s->acc = 0; s->acc < 2; s->acc++)
        measure(s, s->acc ? "norm backward +=" : "norm backward", norm_backward, 3 + s->acc, 8 * row);
    for (s->act = 0; s->act < STI_ACT_COUNT; s->act++) {
        char name[40];
        snprintf(name, sizeof name, "%s forward", act[s->act]);
        measure(s, name, act_forward, 2, 0);
        snprintf(name, sizeof name, "%s backward", act[s->act]);
        measure(s, name, act_backward, 3, 0);
    }
    measure(s, "gate forward", gate_forward, 3, 0);
    measure(s, "gate backward", gate_backward, 5, 0);
    measure(s, "sum", sum, 3, 0);
    measure(s, "rotary", rotary, 2, 0);
    measure(s, "positions forward", positions_forward, 2, 0);
    measure(s, "positions backward", positions_backward, 1, 0);
    measure(s, "bias", bias_add, 2, 0);
    measure(s, "bias gradient", bias_grad, 1, 0);
    for (int many = 0; many < 2; many++) {
        s->vocab = many ? 50257 : 96;
        measure(s, many ? "embedding 50257" : "embedding 96", embedding_forward, many ? 2 : 1, 0);
        measure(s, many ? "embedding backward 50257" : "embedding backward 96", embedding_backward, 1,
                many ? 2 * 0.53 * 50257 * (double)s->width * (double)strata_dtype_size(sums) : 0);
    }
    const int64_t rows = s->rows, width = s->width;
    for (int k = 0; k < 3; k++) { /* as rows of logits */
        s->vocab = k == 0 ? 96 : k == 1 ? 50257 : VOCAB;
        s->rows = k == 0 ? rows : rows / 4;
        s->width = s->vocab;
        char name[40];
        snprintf(name, sizeof name, "loss %lld", (long long)s->vocab);
        measure(s, name, loss_forward, 1, 0);
        for (s->acc = 0; s->acc < 2; s->acc++) {
            snprintf(name, sizeof name, "loss backward %lld%s", (long long)s->vocab, s->acc ? "=" : "");
            measure(s, name, loss_backward, 2, 0);
        }
    }
    s->rows = rows, s->width = width;
    void *const arrays[] = { s->x, s->dx, s->y, s->dy, s->gain, s->stat, s->sums, s->work };
    for (size_t i = 0; i < STI_COUNT(arrays); i++) sti_array_free(s->ctx, arrays[i]);
    sti_rotary_destroy(s->rotary);
}

int main(int argc, char **argv)
{
    static const int32_t types[] = { STRATA_BF16, STRATA_F32 };
    state s = { .rows = argc > 1 ? strtoll(argv[1], NULL, 10) : 65536,
                .width = argc > 2 ? strtoll(argv[2], NULL, 10) : 768 };
    if (failed(strata_context_create("device=cuda", NULL, &s.ctx))) return 1;
    int32_t *host = malloc((size_t)s.rows * sizeof *host);
    for (int k = 0; k < 2 && host; k++) {
        for (int64_t i = 0; i < s.rows; i++) /* skewed: 53 % of the large vocabulary appear */
            host[i] = (int32_t)(pow(sti_uniform(1, 2, (uint64_t)i), 3) * (k ? 50257 : 96));
        void *p;
        if (failed(sti_array_calloc(s.ctx, s.rows, sizeof *host, &p)) ||
            failed(sti_to_device(s.ctx, p, host, (size_t)s.rows * sizeof *host)) || failed(sti_device_wait(s.ctx)))
            return 1;
        s.token[k] = p;
    }
    free(host);
    printf("%lld rows of %lld\n", (long long)s.rows, (long long)s.width);
    for (size_t k = 0; k < STI_COUNT(types); k++) {
        s.dtype = types[k];
        all(&s);
    }
    for (int k = 0; k < 2; k++) sti_array_free(s.ctx, s.token[k]);
    strata_context_destroy(s.ctx);
    return 0;
}
#else
int main(void)
{
    fprintf(stderr, "this build has no CUDA\n");
    return 4;
}
#endif
