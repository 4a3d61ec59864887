#include <math.h>

#include "core/name.h"
#include "kernel/activation/activation.h"
#include "layer/layer.h"
#include "operator/operator.h"

static const sti_key keys[] = {
    { "ratio", STI_KEY_NUM, "2.6666666666666665", "hidden width over the width, rounded up to a multiple of 8", 0.01,
      1000, NULL },
    { "linear", STI_KEY_SPEC, "dense", "structure of the three linear layers", 0, 0, "operator" },
    { "bias", STI_KEY_BOOL, "0", "1: biases in the linear layers", 0, 0, NULL },
};

static int32_t build(sti_graph *g, const char *name, sti_values *v, int64_t width, int32_t in)
{
    /* the ratio of 8/3 is not exact: do not round 8.000000001 up to 16 */
    const int64_t hidden = 8 * STI_MAX((int64_t)ceil(sti_value_num(v, "ratio") * (double)width / 8 - 1e-9), 1);
    const sti_spec *linear = sti_value_spec(v, "linear", 0);
    const bool bias = sti_value_int(v, "bias") != 0;
    const int32_t gate = sti_graph_linear(g, sti_name_join(name, "gate").s, linear, hidden, in, bias, false);
    const int32_t up = sti_graph_linear(g, sti_name_join(name, "up").s, linear, hidden, in, bias, false);
    const int32_t h = sti_graph_gate(g, sti_name_join(name, "act").s, gate, up);
    return sti_graph_linear(g, sti_name_join(name, "down").s, linear, width, h, bias, true);
}

static const char *const examples[] = { "swiglu", "swiglu ratio=1.5 bias=1", "swiglu linear=lowrank(rank=2)", NULL };

const sti_layer_class sti_layer_class_swiglu = { .kind = "swiglu",
                                                 .role = "mlp",
                                                 .summary = "gated linear layers: down(silu(gate x) * up x)",
                                                 .keys = STI_KEYS(keys),
                                                 .examples = examples,
                                                 .build = build };
