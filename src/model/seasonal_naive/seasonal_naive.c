/* The last period, repeated. See README.md. */

#include "layer/layer.h"
#include "model/model.h"

static const sti_key keys[] = {
    { "context", STI_KEY_INT, "1", "series read side by side", 1, 1 << 24, NULL },
    { "inputs", STI_KEY_INT, "", "the lookback; the task knows", 1, 1 << 20, NULL },
    { "outputs", STI_KEY_INT, "", "the horizon; the task knows", 1, 1 << 20, NULL },
    { "period", STI_KEY_INT, NULL,
      "rows after which the series repeats: 24 for days of hours, 96 for days of quarters "
      "of an hour",
      1, 1 << 20, NULL },
};

static const char *const examples[] = { "seasonal-naive inputs=12 outputs=4 period=3",
                                        "seasonal-naive inputs=5 outputs=7 period=5", NULL };

static strata_status build(sti_model_plan *p, sti_values *v)
{
    STI_TRY(sti_model_numbers(p));
    p->logits = sti_graph_lag(p->graph, "lag", sti_value_int(v, "period"), p->outputs, p->tokens);
    return sti_model_squared_error(p);
}

const sti_model_class sti_model_class_seasonal_naive = {
    .kind = "seasonal-naive",
    .summary = "forecasts the last period again",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .reads = STI_MODEL_WINDOW,
    .build = build,
};
