/* The stages of the forecasting baselines through the graph, and their values against the formulas. */
#include "layer/layer.h"

#include "core/context.h"
#include "core/spec.h"
#include "operator/operator.h"
#include "support/rig.h"

enum { WIDTH = 16, ROWS = 6 };

/* Something with parameters behind it: the checks want some. */
static int32_t dense(sti_graph *g, int64_t width, int32_t in)
{
    sti_spec *spec;
    CHECK_OK(sti_spec_parse("dense", &spec));
    const int32_t out = sti_graph_linear(g, "dense", spec, width, in, false, false);
    sti_spec_free(spec);
    return out;
}

static int32_t build_lag(sti_graph *g, const char *spec, int64_t width, int32_t in, char **text)
{
    if (text) *text = sti_strdup(spec);
    return sti_graph_lag(g, "lag", atoi(spec), width, in);
}

/* 2 trend + rest: both outputs have a reader, and one has two. */
static int32_t build_decompose(sti_graph *g, const char *spec, int64_t width, int32_t in, char **text)
{
    int32_t trend, rest;
    (void)width;
    if (text) *text = sti_strdup(spec);
    sti_graph_decompose(g, "split", atoi(spec), in, &trend, &rest);
    return sti_graph_sum(g, "sum", sti_graph_sum(g, "twice", trend, trend), rest);
}

static int32_t lag_dense(sti_graph *g, const char *spec, int64_t width, int32_t in, char **text)
{
    return dense(g, width, build_lag(g, spec, width, in, text));
}

static int32_t decompose_dense(sti_graph *g, const char *spec, int64_t width, int32_t in, char **text)
{
    return dense(g, width, build_decompose(g, spec, width, in, text));
}

static void whole(void)
{
    static const char *const periods[] = { "1", "3", "16" }, *const lengths[] = { "1", "5", "25", "51" };
    for (size_t i = 0; i < STI_COUNT(periods); i++) rig_check(lag_dense, periods[i], WIDTH, 1);
    for (size_t i = 0; i < STI_COUNT(lengths); i++) rig_check(decompose_dense, lengths[i], WIDTH, 1);
}

static void values_of(rig_build build, const char *spec, int32_t dtype, double want(const double *x, int i, int p))
{
    const rig_plan plan = {
        .build = build, .spec = spec, .batch = 2, .time = 3, .width = WIDTH, .dtype = dtype, .train = 1
    };
    double x[ROWS * WIDTH], ref[ROWS * WIDTH], scale[ROWS * WIDTH];
    rig r;
    rig_open(&r, &plan);
    for (int i = 0; i < ROWS * WIDTH; i++) {
        x[i] = near_get(r.x, dtype, i);
        scale[i] = 0;
    }
    for (int i = 0; i < ROWS * WIDTH; i++) {
        ref[i] = want(x + i / WIDTH * WIDTH, i % WIDTH, atoi(spec));
        for (int j = 0; j < WIDTH; j++) scale[i] += fabs(x[i / WIDTH * WIDTH + j]);
    }
    rig_forward(&r, 2, 3, NULL, r.x, 0);
    near_all(spec, r.y, dtype, ref, scale, ROWS * WIDTH, 4, 25);
    rig_close(&r);
}

static double lagged(const double *x, int i, int period)
{
    while (i >= 0) i -= period; /* one period, two, … back until a number that is there */
    return x[WIDTH + i];
}

static double twice_trend(const double *x, int i, int length)
{
    double sum = 0;
    for (int j = -(length / 2); j <= length / 2; j++) {
        const int at = i + j;
        sum += at < 0 ? x[0] : at >= WIDTH ? x[WIDTH - 1] : x[at];
    }
    return x[i] + sum / length;
}

static void formulas(void)
{
    static const int32_t types[] = { STRATA_F32, STRATA_F64 };
    for (size_t i = 0; i < STI_COUNT(types); i++) {
        values_of(build_lag, "1", types[i], lagged);
        values_of(build_lag, "5", types[i], lagged);
        values_of(build_decompose, "5", types[i], twice_trend);
        values_of(build_decompose, "25", types[i], twice_trend);
    }
}

static void refusals(void)
{
    rig_plan plan = { .build = build_lag, .spec = "17", .batch = 1, .time = 2, .width = WIDTH, .dtype = STRATA_F32 };
    CHECK_STATUS(rig_try(&plan), STRATA_E_SHAPE);
    CHECK_ERROR_TEXT("a period of 17, but there are 16 numbers");
    plan.build = build_decompose;
    plan.spec = "24";
    CHECK_STATUS(rig_try(&plan), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("must be odd");
}

TESTS(T(whole), T(formulas), T(refusals))
