/* One linear map from the lookback to the horizon, for every series the same. See README.md. */

#include "core/context.h"
#include "model/model.h"
#include "operator/operator.h"

static const sti_key keys[] = {
    { "context", STI_KEY_INT, "1", "series read side by side", 1, 1 << 24, NULL },
    { "inputs", STI_KEY_INT, "", "the lookback; the task knows", 1, 1 << 20, NULL },
    { "outputs", STI_KEY_INT, "", "the horizon; the task knows", 1, 1 << 20, NULL },
    { "linear", STI_KEY_SPEC, "dense", "operator from the lookback to the horizon", 0, 0, "operator" },
    { "bias", STI_KEY_BOOL, "1", "1: a constant for every step ahead", 0, 0, NULL },
};

static const char *const examples[] = { "linear inputs=12 outputs=4",
                                        "linear inputs=16 outputs=9 linear=lowrank(rank=3)", NULL };

static strata_status build(sti_model_plan *p, sti_values *v)
{
    STI_TRY(sti_model_numbers(p));
    p->logits = sti_graph_linear(p->graph, "head", sti_value_spec(v, "linear", 0), p->outputs, p->tokens,
                                 sti_value_int(v, "bias") != 0, true);
    sti_model_window_rates(p);
    return sti_model_squared_error(p);
}

const sti_model_class sti_model_class_linear = {
    .kind = "linear",
    .summary = "forecasts by one linear map of the lookback",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .reads = STI_MODEL_WINDOW,
    .build = build,
};
