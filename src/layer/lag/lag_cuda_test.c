/* The device's repeated numbers against the CPU in f64: periods that end within a row of outputs, outputs shorter than
 * a period, one and two readers of the input. */
#include "layer/layer.h"
#include "support/device.h"

typedef struct shape {
    int64_t batch, time, width, period, out;
} shape;

static const shape shapes[] = { { 1, 1, 1, 1, 1 },   { 3, 5, 7, 1, 129 },    { 2, 3, 37, 24, 96 },
                                { 4, 1, 64, 64, 5 }, { 9, 1, 336, 24, 336 }, { 1, 2, 1000, 7, 3 } };

static const shape *now;

static int32_t build(sti_graph *g, int32_t in)
{
    return sti_graph_lag(g, "lag", now->period, now->out, in);
}

static void all(void)
{
    device d = device_open();
    for (size_t i = 0; i < STI_COUNT(shapes); i++) {
        now = &shapes[i];
        device_check(&d, &(device_graph){ .name = "lag",
                                          .build = build,
                                          .batch = now->batch,
                                          .time = now->time,
                                          .width = now->width,
                                          .residual = now->out == now->width,
                                          .terms = now->out / now->period + 1 });
    }
    device_close(&d);
}

TESTS(T(all))
