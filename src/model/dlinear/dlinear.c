/* Trend and rest, each with its own linear map. See README.md. */

#include "core/context.h"
#include "layer/layer.h"
#include "model/model.h"
#include "operator/operator.h"

static const sti_key keys[] = {
    { "context", STI_KEY_INT, "1", "series read side by side", 1, 1 << 24, NULL },
    { "inputs", STI_KEY_INT, "", "the lookback; the task knows", 1, 1 << 20, NULL },
    { "outputs", STI_KEY_INT, "", "the horizon; the task knows", 1, 1 << 20, NULL },
    { "kernel", STI_KEY_INT, "25", "length of the moving average, odd", 1, 1 << 20, NULL },
    { "linear", STI_KEY_SPEC, "dense", "operator of the two maps", 0, 0, "operator" },
    { "bias", STI_KEY_BOOL, "1", "1: a constant for every step ahead", 0, 0, NULL },
};

static const char *const examples[] = { "dlinear inputs=12 outputs=4 kernel=5",
                                        "dlinear inputs=8 outputs=3 kernel=25 linear=lowrank(rank=2)", NULL };

static strata_status build(sti_model_plan *p, sti_values *v)
{
    sti_graph *g = p->graph;
    const bool bias = sti_value_int(v, "bias") != 0;
    const sti_spec *linear = sti_value_spec(v, "linear", 0);
    int32_t trend, rest;
    STI_TRY(sti_model_numbers(p));
    sti_graph_decompose(g, "decompose", sti_value_int(v, "kernel"), p->tokens, &trend, &rest);
    trend = sti_graph_linear(g, "trend", linear, p->outputs, trend, bias, true);
    rest = sti_graph_linear(g, "rest", linear, p->outputs, rest, bias, true);
    p->logits = sti_graph_sum(g, "sum", trend, rest);
    sti_model_window_rates(p);
    return sti_model_squared_error(p);
}

const sti_model_class sti_model_class_dlinear = {
    .kind = "dlinear",
    .summary = "forecasts by linear maps of a moving average and of the rest",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .reads = STI_MODEL_WINDOW,
    .build = build,
};
