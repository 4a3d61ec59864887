/* The public interface used wrongly: NULL handles and arguments, structs without a size, structs of an older size. */
#include <strata/strata.h>

#include "support/test.h"

enum { N = 4 };

static strata_context *context(void)
{
    strata_context *ctx = NULL;
    CHECK_OK(strata_context_create("threads=1", NULL, &ctx));
    return ctx;
}

static void attention(void)
{
    char block[8];
    const int64_t pos = 0;
    size_t bytes;
    strata_tensor t = { 0 };
    strata_attention_info info = { .size = STRATA_INIT(strata_attention_info) };
    CHECK(!strata_attention_spec(NULL) && !strata_attention_variant(NULL));
    CHECK_STATUS(strata_attention_query(NULL, &info), STRATA_E_INVALID);
    CHECK_STATUS(strata_attention_forward(NULL, &t, &t, &t, &t, &t, NULL), STRATA_E_INVALID);
    CHECK_STATUS(strata_attention_backward(NULL, &t, &t, &t, &t, &t, &t, &t, &t, &t, NULL), STRATA_E_INVALID);
    CHECK_STATUS(strata_attention_cache_size(NULL, 1, &bytes, NULL), STRATA_E_INVALID);
    CHECK_STATUS(strata_attention_cache_init(NULL, 1, block), STRATA_E_INVALID);
    CHECK_STATUS(strata_attention_cache_append(NULL, block, 0, &t, &t), STRATA_E_INVALID);
    CHECK_STATUS(strata_attention_step(NULL, block, 0, &pos, &t, &t, &t, &t, NULL), STRATA_E_INVALID);
}

static void operators(void)
{
    float w[N] = { 0 };
    strata_tensor t = strata_view2(w, STRATA_F32, 1, N);
    strata_param_info info;
    CHECK_INT(strata_op_rows(NULL), 0);
    CHECK_INT(strata_op_cols(NULL), 0);
    CHECK_INT(strata_op_param_count(NULL), 0);
    CHECK(strata_op_param_bytes(NULL) == 0 && strata_op_work_bytes(NULL) == 0 && !strata_op_spec(NULL));
    CHECK(!(strata_op_flops(NULL) > 0));
    CHECK_STATUS(strata_op_param(NULL, 0, &info), STRATA_E_INVALID);
    CHECK_STATUS(strata_op_init(NULL, 1, w), STRATA_E_INVALID);
    CHECK_STATUS(strata_op_apply(NULL, w, STRATA_OP_N, 1, &t, 0, &t, NULL), STRATA_E_INVALID);
    CHECK_STATUS(strata_op_grad(NULL, w, &t, &t, w, &t, 0, NULL), STRATA_E_INVALID);
    CHECK_STATUS(strata_op_to_dense(NULL, w, &t, NULL), STRATA_E_INVALID);
}

static void mixers(void)
{
    strata_context *ctx = context();
    strata_mixer *m = NULL;
    strata_param_info info;
    const int64_t pos = 0;
    float x[N * N] = { 0 };
    strata_tensor t = strata_view3(x, STRATA_F32, 1, N, N);
    strata_mixer_problem p = { STRATA_INIT(strata_mixer_problem), .batch = 1, .time = N, .width = N, .train = 1 };
    CHECK_INT(strata_mixer_param_count(NULL), 0);
    CHECK(strata_mixer_param_bytes(NULL) == 0 && strata_mixer_state_bytes(NULL) == 0 && !strata_mixer_spec(NULL));
    CHECK(!(strata_mixer_flops(NULL, 1, 1, 0) > 0));
    CHECK_STATUS(strata_mixer_param(NULL, 0, &info), STRATA_E_INVALID);
    CHECK_STATUS(strata_mixer_init(NULL, 1, x), STRATA_E_INVALID);
    CHECK_STATUS(strata_mixer_forward(NULL, x, &t, &t), STRATA_E_INVALID);
    CHECK_STATUS(strata_mixer_backward(NULL, x, &t, &t, x, &t), STRATA_E_INVALID);
    CHECK_STATUS(strata_mixer_state_init(NULL, x), STRATA_E_INVALID);
    CHECK_STATUS(strata_mixer_step(NULL, x, x, &pos, &t, &t), STRATA_E_INVALID);

    CHECK_OK(strata_mixer_create(ctx, "softmax heads=1", &p, &m));
    CHECK_STATUS(strata_mixer_param(m, 0, NULL), STRATA_E_INVALID);
    CHECK_STATUS(strata_mixer_forward(m, NULL, &t, &t), STRATA_E_INVALID);
    CHECK_STATUS(strata_mixer_backward(m, NULL, &t, &t, NULL, NULL), STRATA_E_INVALID);
    strata_mixer_destroy(m);
    strata_context_destroy(ctx);
}

static void models(void)
{
    strata_context *ctx = context();
    strata_param_info info;
    strata_session *s = NULL;
    const strata_session_config no_size = { 0 };
    CHECK(!strata_model_spec(NULL) && !strata_model_task(NULL) && !strata_model_path(NULL));
    CHECK(!strata_model_meta(NULL) && !strata_model_params(NULL) && !strata_config_get(NULL, "train.lr"));
    CHECK_INT(strata_model_step(NULL) + strata_model_tokens(NULL) + strata_model_context(NULL), 0);
    CHECK_INT(strata_model_param_count(NULL), 0);
    CHECK_STATUS(strata_model_param(NULL, 0, &info), STRATA_E_INVALID);
    CHECK_STATUS(strata_session_create(NULL, &no_size, &s), STRATA_E_INVALID);
    CHECK(!strata_alloc(NULL, 8));

    strata_cost cost = { .size = 0 };
    CHECK_STATUS(strata_cost_of(ctx, "dense rows=3 cols=5", 0, 0, 0, 0, &cost, NULL), STRATA_E_INVALID);
    cost =
        (strata_cost){ .size = offsetof(strata_cost, flops_fwd), .exps = 7 }; /* of a caller that knows params only */
    CHECK_OK(strata_cost_of(ctx, "dense rows=3 cols=5", 0, 0, 0, 0, &cost, NULL));
    CHECK_INT(cost.params, 15);
    CHECK(cost.exps > 6);
    cost.size = STRATA_INIT(strata_cost);
    CHECK_STATUS(strata_model_cost(NULL, 1, &cost), STRATA_E_INVALID);
    strata_context_destroy(ctx);
}

TESTS(T(attention), T(operators), T(mixers), T(models))
