/* Uses an installed library as a stranger would: y = A x with a dense 2 x 3 operator. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <strata/strata.h>

int main(void)
{
    strata_context *ctx = NULL;
    strata_op *op = NULL;
    int rc = 1;
    float weight[6] = { 1, 2, 3, 4, 5, 6 }, x[3] = { 1, 10, 100 }, y[2] = { 0, 0 };
    if (strcmp(strata_version(), STRATA_VERSION_STRING) != 0) return 1;
    if (strata_context_create("threads=1", NULL, &ctx) != STRATA_OK) goto out;
    if (strata_op_create(ctx, "dense", 2, 3, 1, STRATA_F32, &op) != STRATA_OK) goto out;
    strata_tensor tx = strata_view2(x, STRATA_F32, 1, 3), ty = strata_view2(y, STRATA_F32, 1, 2);
    if (strata_op_param_bytes(op) < sizeof weight) goto out;
    float *params = strata_alloc(ctx, strata_op_param_bytes(op));
    if (!params) goto out;
    memcpy(params, weight, sizeof weight);
    if (strata_op_apply(op, params, STRATA_OP_N, 1.0, &tx, 0.0, &ty, NULL) == STRATA_OK)
        rc = fabsf(y[0] - 321) + fabsf(y[1] - 654) > 1e-3f;
    strata_free(ctx, params);
out:
    printf("strata %s: %s\n", strata_version(), rc ? strata_last_error() : "ok");
    strata_op_destroy(op);
    strata_context_destroy(ctx);
    return rc;
}
