/* The device's embedding against the CPU in f64: few ids and many, one id everywhere, ids that cross slices. */
#include "layer/layer.h"
#include "support/device.h"

static int64_t vocab, width;

static int32_t build(sti_graph *g, int32_t in)
{
    return sti_graph_embedding(g, "embed", vocab, width, in);
}

static void check(const device *d, int64_t v, int64_t w, int64_t batch, int64_t time, const int32_t *token)
{
    vocab = v;
    width = w;
    device_check(d, &(device_graph){ .name = "embedding",
                                     .build = build,
                                     .batch = batch,
                                     .time = time,
                                     .width = 1,
                                     .vocab = v,
                                     .token = token,
                                     .terms = batch * time });
}

static void shapes(void)
{
    device d = device_open();
    check(&d, 1, 1, 1, 1, NULL);
    check(&d, 7, 3, 1, 3, NULL);
    check(&d, 7, 37, 5, 37, NULL);
    check(&d, 96, 64, 3, 129, NULL);
    check(&d, 96, 768, 2, 1500, NULL);
    check(&d, 50257, 16, 3, 2049, NULL); /* merges of stretches */
    check(&d, 5, 40, 9, 1024, NULL);     /* runs over many slices */
    check(&d, 96, 2080, 1, 130, NULL);   /* more columns than one block has */
    device_close(&d);
}

static void runs(void)
{
    enum { N = 4 * 2048 + 65 };
    static int32_t token[N];
    device d = device_open();
    for (int i = 0; i < N; i++) token[i] = 3;
    check(&d, 7, 24, 1, N, token);
    check(&d, 7, 24, 1, 64, token);
    check(&d, 7, 24, 1, 65, token);
    for (int i = 0; i < N; i++) token[i] = i / 64; /* every slice one id */
    check(&d, 400, 24, 1, N, token);
    for (int i = 0; i < N; i++) token[i] = (i + 32) / 128;
    check(&d, 400, 24, 1, N, token);
    for (int i = 0; i < N; i++) token[i] = N - 1 - i;
    check(&d, N, 24, 1, N, token);
    device_close(&d);
}

TESTS(T(shapes), T(runs))
