/* The device's moving average and rest against the CPU in f64: averages longer than a row, each output alone and both
 * together, one and two readers of the input. */
#include "layer/layer.h"
#include "support/device.h"

typedef struct shape {
    int64_t batch, time, width, length;
} shape;

static const shape shapes[] = { { 1, 1, 1, 1 },  { 3, 2, 1, 25 }, { 3, 5, 7, 1 },
                                { 2, 3, 7, 25 }, { 5, 1, 37, 5 }, { 9, 1, 336, 25 } };

enum { TREND = 1, REST = 2 };

static const shape *now;
static int outputs;

/* 2 trend + rest, or one of the two: the other output has no reader then */
static int32_t build(sti_graph *g, int32_t in)
{
    int32_t trend, rest;
    sti_graph_decompose(g, "split", now->length, in, &trend, &rest);
    if (outputs == TREND) return trend;
    if (outputs == REST) return rest;
    return sti_graph_sum(g, "sum", sti_graph_sum(g, "twice", trend, trend), rest);
}

static void all(void)
{
    device d = device_open();
    for (size_t i = 0; i < STI_COUNT(shapes); i++)
        for (outputs = TREND; outputs <= (TREND | REST); outputs++)
            for (int residual = 0; residual < 2; residual++) {
                now = &shapes[i];
                if (outputs == REST && now->width == 1 && now->length > 1) continue; /* nothing but rounding is left */
                device_check(&d, &(device_graph){ .name = "decompose",
                                                  .build = build,
                                                  .batch = now->batch,
                                                  .time = now->time,
                                                  .width = now->width,
                                                  .residual = residual,
                                                  .terms = now->length,
                                                  .chain = 1 });
            }
    device_close(&d);
}

TESTS(T(all))
