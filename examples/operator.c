/* A structured operator from C: y = A x with A never dense, its transpose and its gradients.
 *
 *   cc operator.c $(pkg-config --cflags --libs strata) -lm */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <strata/strata.h>

enum { N = 64, COUNT = 5 };

static void check(strata_status s)
{
    if (s == STRATA_OK) return;
    (void)fprintf(stderr, "%s: %s\n", strata_status_name(s), strata_last_error());
    exit(1);
}

static double dot(const double *a, const double *b)
{
    double s = 0;
    for (int i = 0; i < COUNT * N; i++) s += a[i] * b[i];
    return s;
}

int main(void)
{
    static double x[COUNT * N], y[COUNT * N], z[COUNT * N], aty[COUNT * N];
    for (int i = 0; i < COUNT * N; i++) {
        x[i] = sin(0.7 * i);
        z[i] = cos(0.3 * i);
    }
    strata_context *ctx = NULL;
    check(strata_context_create("threads=1", NULL, &ctx));
    strata_op *op = NULL;
    check(strata_op_create(ctx, "btt rank=2", N, N, COUNT, STRATA_F64, &op));

    double *w = strata_alloc(ctx, strata_op_param_bytes(op)), *dw = strata_alloc(ctx, strata_op_param_bytes(op));
    if (!w || !dw) return 1;
    check(strata_op_init(op, 42, w));
    for (int32_t i = 0; i < strata_op_param_count(op); i++) {
        strata_param_info p;
        check(strata_op_param(op, i, &p));
        (void)printf("parameter %s: %lld numbers\n", p.name, (long long)p.count);
        for (int64_t k = 0; k < p.count; k++) dw[p.offset + k] = 0;
    }
    (void)printf("FLOPs per vector: %.0f, dense %d\n", strata_op_flops(op), 2 * N * N);

    strata_tensor tx = strata_view2(x, STRATA_F64, COUNT, N), ty = strata_view2(y, STRATA_F64, COUNT, N);
    strata_tensor tz = strata_view2(z, STRATA_F64, COUNT, N), ta = strata_view2(aty, STRATA_F64, COUNT, N);
    check(strata_op_apply(op, w, STRATA_OP_N, 1, &tx, 0, &ty, NULL));
    check(strata_op_apply(op, w, STRATA_OP_T, 1, &tz, 0, &ta, NULL));
    (void)printf("<A x, z> = <x, A^T z>: %s\n", fabs(dot(y, z) - dot(x, aty)) < 1e-12 ? "yes" : "no");

    /* One element of the gradient of <z, A x> against a central difference */
    strata_param_info p;
    check(strata_op_param(op, 0, &p));
    check(strata_op_grad(op, w, &tx, &tz, dw, NULL, 0, NULL));
    const double h = 1e-4, keep = w[p.offset];
    double side[2];
    for (int k = 0; k < 2; k++) {
        w[p.offset] = keep + (k ? -h : h);
        check(strata_op_apply(op, w, STRATA_OP_N, 1, &tx, 0, &ty, NULL));
        side[k] = dot(y, z);
    }
    (void)printf("gradient agrees with a difference quotient: %s\n",
                 fabs((side[0] - side[1]) / (2 * h) - dw[p.offset]) < 1e-8 ? "yes" : "no");

    strata_free(ctx, w);
    strata_free(ctx, dw);
    strata_op_destroy(op);
    strata_context_destroy(ctx);
    return 0;
}
/* Output:
parameter R: 1024 numbers
parameter L: 1024 numbers
FLOPs per vector: 4096, dense 8192
<A x, z> = <x, A^T z>: yes
gradient agrees with a difference quotient: yes
*/
