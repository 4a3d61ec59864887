/* The last value, repeated. See README.md. */

#include "layer/layer.h"
#include "model/model.h"

static const sti_key keys[] = {
    { "context", STI_KEY_INT, "1", "series read side by side", 1, 1 << 24, NULL },
    { "inputs", STI_KEY_INT, "", "the lookback; the task knows", 1, 1 << 20, NULL },
    { "outputs", STI_KEY_INT, "", "the horizon; the task knows", 1, 1 << 20, NULL },
};

static const char *const examples[] = { "repeat-last inputs=12 outputs=4", NULL };

static strata_status build(sti_model_plan *p, sti_values *v)
{
    (void)v;
    STI_TRY(sti_model_numbers(p));
    p->logits = sti_graph_lag(p->graph, "lag", 1, p->outputs, p->tokens);
    return sti_model_squared_error(p);
}

const sti_model_class sti_model_class_repeat_last = {
    .kind = "repeat-last",
    .summary = "forecasts the last value",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .reads = STI_MODEL_WINDOW,
    .build = build,
};
