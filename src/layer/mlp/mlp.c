#include <math.h>

#include "core/name.h"
#include "kernel/activation/activation.h"
#include "layer/layer.h"
#include "operator/operator.h"

static const sti_key keys[] = {
    { "ratio", STI_KEY_NUM, "4", "hidden width over the width", 0.01, 1000, NULL },
    { "act", STI_KEY_WORD, "gelu", "the nonlinearity", 0, 0, STI_ACT_WORDS },
    { "linear", STI_KEY_SPEC, "dense", "structure of the two linear layers", 0, 0, "operator" },
    { "bias", STI_KEY_BOOL, "0", "1: biases in the linear layers", 0, 0, NULL },
};

static int32_t build(sti_graph *g, const char *name, sti_values *v, int64_t width, int32_t in)
{
    const int64_t hidden = STI_MAX(llround(sti_value_num(v, "ratio") * (double)width), 1);
    const sti_spec *linear = sti_value_spec(v, "linear", 0);
    const bool bias = sti_value_int(v, "bias") != 0;
    int32_t h = sti_graph_linear(g, sti_name_join(name, "up").s, linear, hidden, in, bias, false);
    h = sti_graph_activation(g, sti_name_join(name, "act").s, (sti_act)sti_value_int(v, "act"), h);
    return sti_graph_linear(g, sti_name_join(name, "down").s, linear, width, h, bias, true);
}

static const char *const examples[] = { "mlp", "mlp ratio=2 act=relu bias=1",
                                        "mlp act=gelu_tanh linear=lowrank(rank=3)", "mlp act=silu linear=btt(rank=2)",
                                        NULL };

const sti_layer_class sti_layer_class_mlp = { .kind = "mlp",
                                              .role = "mlp",
                                              .summary = "two linear layers with a nonlinearity between them",
                                              .keys = STI_KEYS(keys),
                                              .examples = examples,
                                              .build = build };
