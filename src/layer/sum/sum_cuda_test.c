/* The device's residual sum against the CPU in f64, with one and two readers of its inputs. */
#include "layer/layer.h"
#include "support/device.h"

static int32_t build(sti_graph *g, int32_t in)
{
    return sti_graph_sum(g, "twice", sti_graph_sum(g, "sum", in, in), in);
}

static void all(void)
{
    static const int64_t size[][3] = { { 1, 1, 1 }, { 3, 37, 3 }, { 37, 3, 129 }, { 9, 129, 64 } };
    device d = device_open();
    for (size_t i = 0; i < STI_COUNT(size); i++)
        for (int residual = 0; residual < 2; residual++)
            device_check(&d, &(device_graph){ .name = "sum",
                                              .build = build,
                                              .batch = size[i][0],
                                              .time = size[i][1],
                                              .width = size[i][2],
                                              .residual = residual });
    device_close(&d);
}

TESTS(T(all))
