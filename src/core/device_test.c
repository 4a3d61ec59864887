/* Arrays where a context computes: the same checks on the CPU and, when there is one, on the GPU. */
#include "core/device.h"

#include <strata/tensor.h>

#include "support/test.h"

static strata_context *context(const char *spec)
{
    strata_context *ctx = NULL;
    const strata_status s = strata_context_create(spec, NULL, &ctx);
    if (s == STRATA_E_DEVICE) SKIP("no GPU: %s", strata_last_error());
    CHECK_OK(s);
    return ctx;
}

enum { N = 3000001 }; /* 12 MB: more than the slot an upload may be staged in, and no round number */

static void copies(const strata_context *ctx)
{
    void *a = NULL, *b = NULL;
    int32_t *host = calloc(N, sizeof *host), *back = calloc(N, sizeof *back);
    CHECK(host && back);
    CHECK_OK(sti_array_calloc(ctx, N, sizeof *host, &a));
    CHECK_OK(sti_array_calloc(ctx, N, sizeof *host, &b));
    CHECK_INT((uintptr_t)a % 64, 0);
    back[N - 1] = 7;
    CHECK_OK(sti_to_host(ctx, back, a, N * sizeof *host));
    for (int i = 0; i < N; i++) CHECK(back[i] == 0);
    for (int i = 0; i < N; i++) host[i] = i * 31 + 5;
    CHECK_OK(sti_to_device(ctx, a, host, N * sizeof *host));
    for (int k = 0; k < 20; k++) { /* small uploads overtake nothing, and their source may change at once */
        int32_t x[2] = { -k, k };
        CHECK_OK(sti_to_device(ctx, (int32_t *)a + 10 * k, x, sizeof x));
        x[0] = x[1] = 99;
    }
    sti_array_copy(ctx, b, a, N * sizeof *host);
    sti_array_zero(ctx, a, 400);
    CHECK_OK(sti_to_host(ctx, back, b, N * sizeof *host));
    for (int k = 0; k < 20; k++) host[10 * k] = -k, host[10 * k + 1] = k;
    CHECK(memcmp(host, back, N * sizeof *host) == 0);
    CHECK_OK(sti_to_host(ctx, back, a, 404));
    for (int i = 0; i < 100; i++) CHECK_INT(back[i], 0);
    CHECK_INT(back[100], host[100]);
    CHECK_OK(sti_device_wait(ctx));
    sti_array_free(ctx, a);
    sti_array_free(ctx, b);
    sti_array_free(ctx, NULL);
    free(host);
    free(back);
}

/* Values whose bf16 is known: exact ones, ties to even, and what is not finite. */
static void conversions(const strata_context *ctx)
{
    const float in[] = { 1.0f,     -2.5f,     0x1.01p0f, 0x1.03p0f, 0x1.0101p0f, 0x1p-133f,
                         INFINITY, -INFINITY, NAN,       0.0f,      -0.0f,       3.4028235e38f };
    const uint16_t want[] = { 0x3f80, 0xc020, 0x3f80, 0x3f82, 0x3f81, 0x0001,
                              0x7f80, 0xff80, 0x7fff, 0x0000, 0x8000, 0x7f80 };
    enum { COUNT = sizeof in / sizeof *in };
    uint16_t out[COUNT];
    double wide[COUNT];
    void *f = NULL, *h = NULL, *d = NULL;
    CHECK_OK(sti_array_calloc(ctx, COUNT, sizeof *in, &f));
    CHECK_OK(sti_array_calloc(ctx, COUNT, sizeof *out, &h));
    CHECK_OK(sti_array_calloc(ctx, COUNT, sizeof *wide, &d));
    CHECK_OK(sti_to_device(ctx, f, in, sizeof in));
    sti_array_convert(ctx, h, STRATA_BF16, f, STRATA_F32, COUNT);
    sti_array_convert(ctx, d, STRATA_F64, h, STRATA_BF16, COUNT);
    CHECK_OK(sti_to_host(ctx, out, h, sizeof out));
    CHECK_OK(sti_to_host(ctx, wide, d, sizeof wide));
    for (int i = 0; i < COUNT; i++) {
        if (isnan(in[i])) {
            CHECK((out[i] & 0x7f80) == 0x7f80 && (out[i] & 0x7f) != 0 && isnan(wide[i]));
            continue;
        }
        if (out[i] != want[i]) FAIL("%a becomes %04x, not %04x", (double)in[i], out[i], want[i]);
        const uint32_t bits = (uint32_t)want[i] << 16;
        float x;
        memcpy(&x, &bits, sizeof x);
        if (wide[i] < (double)x || wide[i] > (double)x) FAIL("%04x becomes %a, not %a", want[i], wide[i], (double)x);
    }
    sti_array_free(ctx, f);
    sti_array_free(ctx, h);
    sti_array_free(ctx, d);
}

static void on_cpu(void)
{
    strata_context *ctx = context("device=cpu");
    copies(ctx);
    conversions(ctx);
    sti_recording *r = NULL;
    CHECK_STATUS(sti_record(ctx, NULL, NULL, &r), STRATA_E_UNSUPPORTED);
    strata_context_destroy(ctx);
}

static void on_gpu(void)
{
    strata_context *ctx = context("device=cuda");
    copies(ctx);
    conversions(ctx);
    strata_context_destroy(ctx);
}

typedef struct twice {
    const strata_context *ctx;
    void *a, *b;
} twice;

static strata_status convert_twice(void *arg)
{
    const twice *t = arg;
    sti_array_convert(t->ctx, t->b, STRATA_F64, t->a, STRATA_F32, 4);
    sti_array_convert(t->ctx, t->a, STRATA_F32, t->b, STRATA_F64, 4);
    return STRATA_OK;
}

static strata_status refuses(void *arg)
{
    (void)arg;
    return sti_fail(STRATA_E_SHAPE, "no");
}

/* A recording runs nothing; its replays read what lies in memory then. */
static void recordings(void)
{
    strata_context *ctx = context("device=cuda");
    twice t = { .ctx = ctx };
    sti_recording *r = NULL;
    double out[4];
    CHECK_OK(sti_array_calloc(ctx, 4, sizeof(float), &t.a));
    CHECK_OK(sti_array_calloc(ctx, 4, sizeof(double), &t.b));
    CHECK_STATUS(sti_record(ctx, refuses, NULL, &r), STRATA_E_SHAPE);
    CHECK(!r);
    CHECK_OK(sti_to_device(ctx, t.a, (float[]){ 1, 2, 3, 4 }, 16));
    CHECK_OK(sti_record(ctx, convert_twice, &t, &r));
    CHECK_OK(sti_to_host(ctx, out, t.b, sizeof out));
    CHECK(out[3] == 0);
    for (int k = 0; k < 3; k++) {
        CHECK_OK(sti_to_device(ctx, t.a, (float[]){ 5, 6, 7, (float)k }, 16));
        CHECK_OK(sti_replay(ctx, r));
        CHECK_OK(sti_to_host(ctx, out, t.b, sizeof out));
        CHECK(out[0] == 5 && out[3] == k);
    }
    sti_recording_free(ctx, r);
    sti_array_free(ctx, t.a);
    sti_array_free(ctx, t.b);
    strata_context_destroy(ctx);
}

TESTS(T(on_cpu), T(on_gpu), T(recordings))
