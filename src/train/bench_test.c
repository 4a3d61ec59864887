/* The timed step: it is a real one, and its parts make up the whole. */
#include <strata/bench.h>
#include <strata/model.h>

#include "support/test.h"

#define SPEC "decoder layers=2 width=16 context=24 mixers=softmax(heads=2 score=mlr ranks=4,4)"

static void parts_make_the_whole(void)
{
    strata_context *ctx;
    strata_model_bench *b;
    CHECK_OK(strata_context_create("threads=1", NULL, &ctx));
    CHECK_OK(strata_model_bench_create(ctx, SPEC, 50, 3, 0, &b));
    strata_cost cost = { .size = STRATA_INIT(strata_cost) };
    CHECK_OK(strata_cost_of(ctx, SPEC, 50, 0, 1, 24, &cost, NULL));
    for (int step = 0; step < 3; step++) {
        strata_step_time t = { .size = STRATA_INIT(strata_step_time) };
        CHECK_OK(strata_model_bench_step(b, &t));
        CHECK_INT(t.tokens, 3 * 24);
        CHECK(t.seconds > 0 && t.cpu_seconds > 0);
        CHECK(fabs(t.forward + t.backward + t.update - t.seconds) <= 1e-9 * t.seconds + 1e-12);
        if (step == 0) CHECK(fabs(t.loss - log(50.0)) < 1e-5); /* the head starts at zero: every token is as likely */
        double flops = 0, forward = 0;
        for (int32_t i = 0; i < strata_model_bench_kinds(b); i++) {
            strata_kind_time k = { .size = STRATA_INIT(strata_kind_time) };
            CHECK_OK(strata_model_bench_kind(b, i, &k));
            CHECK(k.kind && k.stages > 0 && k.forward >= 0 && k.backward >= 0);
            if (strcmp(k.kind, "attention") == 0) CHECK_INT(k.stages, 2);
            if (strcmp(k.kind, "linear") == 0) CHECK_INT(k.stages, 2 * 6 + 1);
            flops += k.flops_fwd + k.flops_bwd;
            forward += k.forward;
        }
        CHECK(fabs(flops - t.flops) <= 1e-9 * flops);
        CHECK(fabs(flops - 72 * (cost.flops_fwd + cost.flops_bwd)) <= 1e-9 * flops);
        CHECK(fabs(forward - t.forward) <= 1e-9 * forward + 1e-12);
    }
    strata_model_bench_destroy(b);
    strata_context_destroy(ctx);
}

static void refusals(void)
{
    strata_context *ctx;
    strata_model_bench *b = (void *)&ctx;
    CHECK_OK(strata_context_create("threads=1", NULL, &ctx));
    CHECK_STATUS(strata_model_bench_create(ctx, "decoder layres=2", 0, 1, 0, &b), STRATA_E_SPEC);
    CHECK(b == NULL);
    CHECK_OK(strata_model_bench_create(ctx, SPEC, 50, 1, 0, &b));
    strata_step_time t = { 0 };
    strata_kind_time k = { 0 };
    CHECK_STATUS(strata_model_bench_step(b, &t), STRATA_E_INVALID);
    CHECK_STATUS(strata_model_bench_kind(b, 0, &k), STRATA_E_INVALID);
    k.size = STRATA_INIT(strata_kind_time);
    CHECK_STATUS(strata_model_bench_kind(b, strata_model_bench_kinds(b), &k), STRATA_E_INVALID);
    CHECK_STATUS(strata_model_bench_kind(b, -1, &k), STRATA_E_INVALID);
    strata_model_bench_destroy(b);
    strata_model_bench_destroy(NULL);
    CHECK_INT(strata_model_bench_kinds(NULL), 0);
    CHECK_STATUS(strata_model_bench_kind(NULL, 0, &k), STRATA_E_INVALID);
    strata_context_destroy(ctx);
}

TESTS(T(parts_make_the_whole), T(refusals))
