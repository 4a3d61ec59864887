/* The device's learned positions against the CPU in f64. */
#include "layer/layer.h"
#include "support/device.h"

static int64_t width;

static int32_t build(sti_graph *g, int32_t in)
{
    return sti_graph_positions(g, "pos", g->time + 3, width, in);
}

static void all(void)
{
    static const int64_t size[][3] = { { 1, 1, 1 }, { 3, 37, 3 }, { 37, 3, 129 }, { 300, 2, 16 }, { 9, 129, 64 } };
    device d = device_open();
    for (size_t i = 0; i < STI_COUNT(size); i++)
        for (int residual = 0; residual < 2; residual++) {
            width = size[i][2];
            device_check(&d, &(device_graph){ .name = "positions",
                                              .build = build,
                                              .batch = size[i][0],
                                              .time = size[i][1],
                                              .width = width,
                                              .residual = residual });
        }
    device_close(&d);
}

TESTS(T(all))
