#include <strata/tensor.h>

static const struct {
    int32_t dtype;
    const char *name;
    size_t size;
} dtypes[] = { { STRATA_F32, "f32", 4 }, { STRATA_F64, "f64", 8 },   { STRATA_BF16, "bf16", 2 },
               { STRATA_I32, "i32", 4 }, { STRATA_I64, "i64", 8 },   { STRATA_U8, "u8", 1 },
               { STRATA_C64, "c64", 8 }, { STRATA_C128, "c128", 16 } };

size_t strata_dtype_size(int32_t dtype)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (dtypes[i].dtype == dtype) return dtypes[i].size;
    return 0;
}

const char *strata_dtype_name(int32_t dtype)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (dtypes[i].dtype == dtype) return dtypes[i].name;
    return "?";
}

strata_tensor strata_view(void *data, int32_t dtype, int32_t ndim, const int64_t *shape)
{
    strata_tensor t = { .data = data, .dtype = dtype, .device = STRATA_CPU };
    if (ndim < 0 || ndim > STRATA_MAX_DIMS) return t;
    t.ndim = ndim;
    int64_t stride = 1;
    for (int32_t i = ndim; i-- > 0;) {
        t.shape[i] = shape[i];
        t.stride[i] = stride;
        stride *= shape[i];
    }
    return t;
}

strata_tensor strata_view1(void *data, int32_t dtype, int64_t n)
{
    return strata_view(data, dtype, 1, &n);
}

strata_tensor strata_view2(void *data, int32_t dtype, int64_t rows, int64_t cols)
{
    return strata_view(data, dtype, 2, (int64_t[]){ rows, cols });
}

strata_tensor strata_view3(void *data, int32_t dtype, int64_t a, int64_t b, int64_t c)
{
    return strata_view(data, dtype, 3, (int64_t[]){ a, b, c });
}

strata_tensor strata_view4(void *data, int32_t dtype, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return strata_view(data, dtype, 4, (int64_t[]){ a, b, c, d });
}

int64_t strata_tensor_count(const strata_tensor *t)
{
    int64_t n = 1;
    for (int32_t i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}

int strata_tensor_contiguous(const strata_tensor *t)
{
    int64_t stride = 1;
    for (int32_t i = t->ndim; i-- > 0;) {
        if (t->shape[i] != 1 && t->stride[i] != stride) return 0;
        stride *= t->shape[i];
    }
    return 1;
}
