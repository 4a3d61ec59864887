#ifndef STRATA_TENSOR_H
#define STRATA_TENSOR_H
/* strata_tensor: a view of an array that somebody else owns. Strides count elements, not bytes. */

#include <strata/status.h>

STRATA_BEGIN

enum { STRATA_MAX_DIMS = 6 };

/* Numbers are stored in files and passed between processes: pinned. */
typedef enum strata_dtype {
    STRATA_F32 = 1,
    STRATA_F64 = 2,
    STRATA_BF16 = 3,
    STRATA_I32 = 4,
    STRATA_I64 = 5,
    STRATA_U8 = 6,
    STRATA_C64 = 7, /* reserved */
    STRATA_C128 = 8 /* reserved */
} strata_dtype;

typedef enum strata_device { STRATA_CPU = 0, STRATA_CUDA = 1 } strata_device;

typedef struct strata_tensor {
    void *data; /* borrowed */
    int64_t shape[STRATA_MAX_DIMS];
    int64_t stride[STRATA_MAX_DIMS]; /* in elements */
    int32_t ndim;
    int32_t dtype;  /* strata_dtype */
    int32_t device; /* strata_device */
    int32_t reserved;
} strata_tensor;

/** Bytes of one element; 0 for an unknown dtype. */
STRATA_API size_t strata_dtype_size(int32_t dtype);
/** "f32", "f64", "bf16", …; "?" for an unknown dtype. */
STRATA_API const char *strata_dtype_name(int32_t dtype);
/** Contiguous (row-major) views; data is borrowed. Threads: any. */
STRATA_API strata_tensor strata_view1(void *data, int32_t dtype, int64_t n);
STRATA_API strata_tensor strata_view2(void *data, int32_t dtype, int64_t rows, int64_t cols);
STRATA_API strata_tensor strata_view3(void *data, int32_t dtype, int64_t a, int64_t b, int64_t c);
STRATA_API strata_tensor strata_view4(void *data, int32_t dtype, int64_t a, int64_t b, int64_t c, int64_t d);
/** View of ndim dimensions (at most STRATA_MAX_DIMS; a larger ndim gives an empty view with ndim 0). */
STRATA_API strata_tensor strata_view(void *data, int32_t dtype, int32_t ndim, const int64_t *shape);
/** Number of elements (the product of the shape; 1 for ndim 0). */
STRATA_API int64_t strata_tensor_count(const strata_tensor *t);
/** 1 when the elements stand densely in row-major order. */
STRATA_API int strata_tensor_contiguous(const strata_tensor *t);

STRATA_END
#endif
