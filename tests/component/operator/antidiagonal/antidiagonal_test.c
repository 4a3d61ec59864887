/* What conformance cannot know: the formula itself, on numbers a reader can check. */
#include <strata/operator.h>

#include "support/test.h"

static void formula(void)
{
    strata_context *ctx;
    strata_op *op;
    double d[3] = { 2, 3, 5 }, x[3] = { 1, 10, 100 }, y[3], z[3];
    CHECK_OK(strata_context_create("threads=1", NULL, &ctx));
    CHECK_OK(strata_op_create(ctx, "antidiagonal", 3, 3, 1, STRATA_F64, &op));
    CHECK_INT(strata_op_param_count(op), 1);
    const strata_tensor tx = strata_view2(x, STRATA_F64, 1, 3), ty = strata_view2(y, STRATA_F64, 1, 3);
    const strata_tensor tz = strata_view2(z, STRATA_F64, 1, 3);
    CHECK_OK(strata_op_apply(op, d, STRATA_OP_N, 1, &tx, 0, &ty, NULL));
    CHECK(y[0] == 200 && y[1] == 30 && y[2] == 5);
    CHECK_OK(strata_op_apply(op, d, STRATA_OP_T, 1, &tx, 0, &tz, NULL));
    CHECK(z[0] == 500 && z[1] == 30 && z[2] == 2);
    strata_op_destroy(op);
    strata_context_destroy(ctx);
}

static void refuses_rectangles(void)
{
    strata_context *ctx;
    strata_op *op;
    CHECK_OK(strata_context_create(NULL, NULL, &ctx));
    CHECK_STATUS(strata_op_create(ctx, "antidiagonal", 3, 4, 1, STRATA_F64, &op), STRATA_E_SHAPE);
    CHECK(!op);
    CHECK_ERROR_TEXT("3");
    strata_context_destroy(ctx);
}

TESTS(T(formula), T(refuses_rectangles))
