/* The device's projection of bilinear BTT scoring against the CPU in f64: both sides, ranks, widths that split into
 * equal, unequal and no factors, rows that fill no tile, one and two readers of the input. */
#include "mixer/softmax/softmax.h"
#include "support/device.h"

typedef struct shape {
    int64_t batch, time, width, heads, rank;
} shape;

static const shape shapes[] = { { 1, 1, 1, 1, 1 },   { 1, 5, 7, 2, 1 },   { 3, 7, 12, 2, 1 },  { 5, 9, 32, 3, 2 },
                                { 3, 43, 64, 8, 1 }, { 2, 33, 64, 1, 4 }, { 4, 50, 32, 8, 1 }, { 2, 64, 256, 4, 1 } };

static const shape *now;
static bool transposed;

static int32_t build(sti_graph *g, int32_t in)
{
    return sti_softmax_btt(g, "btt", now->heads, now->rank, transposed, in);
}

static void all(void)
{
    device d = device_open();
    for (size_t i = 0; i < STI_COUNT(shapes); i++)
        for (int mode = 0; mode < 4; mode++) {
            now = &shapes[i];
            transposed = mode & 1;
            if ((mode & 2) && now->heads > 1) continue;
            device_check(&d, &(device_graph){ .name = transposed ? "btt, query side" : "btt, key side",
                                              .build = build,
                                              .batch = now->batch,
                                              .time = now->time,
                                              .width = now->width,
                                              .residual = mode >> 1,
                                              .terms = STI_MAX(now->batch * now->time, now->heads * now->width),
                                              .chain = 1 });
        }
    device_close(&d);
}

TESTS(T(all))
