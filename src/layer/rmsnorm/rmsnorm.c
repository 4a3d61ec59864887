#include "kernel/norm/norm.h"
#include "layer/layer.h"

static const sti_key keys[] = {
    { "bias", STI_KEY_BOOL, "0", "1: a bias besides the gain", 0, 0, NULL },
    { "eps", STI_KEY_NUM, "1e-5", "added to the mean square, inside the root", 1e-30, 1, NULL },
};

static int32_t build(sti_graph *g, const char *name, sti_values *v, int64_t width, int32_t in)
{
    const sti_norm n = {
        .width = width, .eps = sti_value_num(v, "eps"), .center = false, .bias = sti_value_int(v, "bias") != 0
    };
    return sti_graph_norm(g, name, &n, in);
}

static const char *const examples[] = { "rmsnorm", "rmsnorm bias=1", "rmsnorm eps=0.01", NULL };

const sti_layer_class sti_layer_class_rmsnorm = { .kind = "rmsnorm",
                                                  .role = "norm",
                                                  .summary = "RMS norm: divided by the root of the mean square",
                                                  .keys = STI_KEYS(keys),
                                                  .examples = examples,
                                                  .build = build };
