/* operator_cuda_bench [COUNT...]: structured layers beside the dense layer (cuBLASLt) of the same process on the
 * device, bf16: milliseconds forward and forward + gradient, how many times faster than dense, and the share of the
 * time that moving x and y once would take at 4.2 TB/s. Calls are recorded once and replayed, so launches cost what
 * they do in a training step. */
#include <string.h>

#include <strata/operator.h>

#include "support/replay.h"

enum { CALLS = 10 };

typedef struct job {
    strata_op *op;
    void *mem[4], *params, *dparams;
    strata_tensor x, y, dx, dy;
    int gradient;
} job;

static strata_status calls(void *arg)
{
    const job *j = arg;
    for (int i = 0; i < CALLS; i++) {
        STI_TRY(strata_op_apply(j->op, j->params, STRATA_OP_N, 1, &j->x, 0, &j->y, NULL));
        if (j->gradient) STI_TRY(strata_op_grad(j->op, j->params, &j->x, &j->dy, j->dparams, &j->dx, 0, NULL));
    }
    return STRATA_OK;
}

static void measure(const strata_context *ctx, const char *spec, int64_t width, int64_t count, double dense[2])
{
    job j = { 0 };
    double ms[2];
    if (strata_op_create(ctx, spec, width, width, count, STRATA_BF16, &j.op) != STRATA_OK) {
        printf("%6lld %6lld  %-22s %s\n", (long long)width, (long long)count, spec, strata_last_error());
        return;
    }
    for (int i = 0; i < 4; i++) j.mem[i] = numbers(ctx, count * width);
    const size_t bytes = strata_op_param_bytes(j.op);
    check(strata_device_alloc(ctx, bytes, &j.params));
    check(strata_device_alloc(ctx, 2 * bytes, &j.dparams));
    check(strata_op_init(j.op, 1, j.params));
    strata_tensor *t[4] = { &j.x, &j.y, &j.dx, &j.dy };
    for (int i = 0; i < 4; i++) {
        *t[i] = strata_view2(j.mem[i], STRATA_BF16, count, width);
        t[i]->device = STRATA_CUDA;
    }
    for (j.gradient = 0; j.gradient < 2; j.gradient++) ms[j.gradient] = replayed(ctx, calls, &j) * 1e3 / CALLS;
    if (strcmp(spec, "dense") == 0) memcpy(dense, ms, sizeof ms);
    printf("%6lld %6lld  %-22s %8.4f %8.4f   %5.2fx %5.2fx   %3.0f %%\n", (long long)width, (long long)count, spec,
           ms[0], ms[1], dense[0] / ms[0], dense[1] / ms[1], 100 * (double)(4 * count * width) / 4.2e9 / ms[0]);
    fflush(stdout);
    for (int i = 0; i < 4; i++) strata_device_free(ctx, j.mem[i]);
    strata_device_free(ctx, j.params);
    strata_device_free(ctx, j.dparams);
    strata_op_destroy(j.op);
}

int main(int argc, char **argv)
{
    strata_context *ctx;
    check(strata_context_create("device=cuda", NULL, &ctx));
    printf("%s, bf16\n width  count  operator               forward  +grad ms  vs dense       roof\n",
           strata_context_device_name(ctx));
    const int64_t widths[] = { 1024, 2048, 4096, 8192 };
    const char *const specs[] = { "dense", "btt", "btt rank=2", "monarch", "kronecker", "lowrank rank=64" };
    for (int a = 1; a < argc || a == 1; a++) {
        const int64_t count = a < argc ? strtoll(argv[a], NULL, 10) : 16384;
        for (size_t w = 0; w < STI_COUNT(widths); w++)
            for (size_t s = 0; s < STI_COUNT(specs); s++) {
                static double dense[2];
                char spec[64];
                const int64_t blocks = 1LL << (w + 10) / 2; /* the square root, rounded down to a power of two */
                snprintf(spec, sizeof spec, "%s", specs[s]);
                if (strcmp(spec, "monarch") == 0) snprintf(spec, sizeof spec, "monarch blocks=%lld", (long long)blocks);
                measure(ctx, spec, widths[w], count, dense);
            }
    }
    strata_context_destroy(ctx);
    return 0;
}
