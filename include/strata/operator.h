#ifndef STRATA_OPERATOR_H
#define STRATA_OPERATOR_H
/* Structured operators: y = A x, with A never dense.
 *
 *   strata_op *op = NULL;
 *   strata_op_create(ctx, "btt rank=2", 1024, 1024, 4096, STRATA_F32, &op);
 *   float *w = strata_alloc(ctx, strata_op_param_bytes(op));
 *   strata_op_init(op, 42, w);
 *   strata_op_apply(op, w, STRATA_OP_N, 1.0, &x, 0.0, &y, NULL);       // x (count, 1024), y (count, 1024)
 *
 * Vectors are rows: x is (count, cols), y = A applied to each row is (count, rows); the last dimension is contiguous.
 */

#include <strata/context.h>
#include <strata/tensor.h>

STRATA_BEGIN

typedef struct strata_op strata_op;

enum { STRATA_OP_N = 0, STRATA_OP_T = 1, STRATA_OP_H = 2 }; /* A, transpose, conjugate transpose */

/** A named slice of a parameter block. */
typedef struct strata_param_info {
    const char *name; /* borrowed: lives as long as the object it came from */
    int32_t ndim;
    int64_t shape[STRATA_MAX_DIMS];
    int64_t offset; /* elements from the start of the block */
    int64_t count;  /* elements */
    double lr_mult; /* Adam learning-rate multiplier */
} strata_param_info;

/** Plan an operator. Parameter memory is the caller's and is passed to each call.
 *  @param spec kind and keys, "mlr ranks=8,4 parts=1,2"; rows= and cols= may stand in it
 *  @param rows,cols output and input width; 0: from the spec  @param max_count most rows of x in one call
 *  @param dtype STRATA_F32 | STRATA_F64, on a device also STRATA_BF16 (sums and dparams are then f32)  @param out
 * [owned by the caller] NULL on failure
 *  @return OK | E_SPEC | E_SHAPE | E_DTYPE | E_MEMORY | E_UNSUPPORTED */
STRATA_API strata_status strata_op_create(const strata_context *ctx, const char *spec, int64_t rows, int64_t cols,
                                          int64_t max_count, int32_t dtype, strata_op **out);
/** Accepts NULL. */
STRATA_API void strata_op_destroy(strata_op *op);

STRATA_API int64_t strata_op_rows(const strata_op *op);
STRATA_API int64_t strata_op_cols(const strata_op *op);
STRATA_API int32_t strata_op_param_count(const strata_op *op);
/** @return OK | E_INVALID for an index out of range. */
STRATA_API strata_status strata_op_param(const strata_op *op, int32_t i, strata_param_info *info);
/** Bytes of the parameter block (slices and padding). */
STRATA_API size_t strata_op_param_bytes(const strata_op *op);
/** Workspace bytes of one call with max_count rows. */
STRATA_API size_t strata_op_work_bytes(const strata_op *op);
/** FLOPs of one row, forward: 2 per multiply-add. Backward costs twice that. */
STRATA_API double strata_op_flops(const strata_op *op);
/** Canonical spec text (borrowed), all keys resolved. */
STRATA_API const char *strata_op_spec(const strata_op *op);

/** Fill a parameter block with the class's initialisation; the seed fixes every bit. */
STRATA_API strata_status strata_op_init(const strata_op *op, uint64_t seed, void *params);

/** y = alpha * A x + beta * y, or with A^T (mode T, H). beta = 0 never reads y.
 *  @param x [in] (count, cols), or (count, rows) for T  @param y [in,out], must not overlap x
 *  @param work strata_op_work_bytes bytes aligned to 64, or NULL for the operator's own (then one thread at a time)
 *  @return OK | E_SHAPE | E_DTYPE | E_DEVICE | E_INVALID.  Allocates: never. */
STRATA_API strata_status strata_op_apply(const strata_op *op, const void *params, int32_t mode, double alpha,
                                         const strata_tensor *x, double beta, const strata_tensor *y, void *work);
/** Gradients of <dy, A x>: dparams += , dx = A^T dy (or += when accumulate). dparams or dx may be NULL.
 *  @param dx (count, cols) or NULL. Otherwise as strata_op_apply. */
STRATA_API strata_status strata_op_grad(const strata_op *op, const void *params, const strata_tensor *x,
                                        const strata_tensor *dy, void *dparams, const strata_tensor *dx,
                                        int32_t accumulate, void *work);
/** Write A as a dense (rows, cols) matrix. */
STRATA_API strata_status strata_op_to_dense(const strata_op *op, const void *params, const strata_tensor *a,
                                            void *work);

STRATA_END
#endif
