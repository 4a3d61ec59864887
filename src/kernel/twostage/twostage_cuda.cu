/* Permutations between the stages of the general path. */
#include "kernel/twostage/twostage_cuda.h"

#include "backend/cuda/cuda.cuh"

namespace
{
__device__ __forceinline__ int64_t first_index()
{
    return blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t index_step()
{
    return (int64_t)gridDim.x * blockDim.x;
}

template <typename T> __global__ void permute(int64_t total, int64_t a, int64_t b, int64_t run, const T *in, T *out)
{
    for (int64_t i = first_index(); i < total; i += index_step()) { /* i is (row, ib, ia, k) of out */
        const int64_t k = i % run, ia = i / run % a, ib = i / (run * a) % b, row = i / (run * a * b);
        out[i] = in[((row * a + ia) * b + ib) * run + k];
    }
}

template <typename T>
void permute_all(const strata_context *ctx, int64_t total, int64_t a, int64_t b, int64_t run, const void *in, void *out)
{
    permute<T>
        <<<sti_blocks(ctx, total, 1024, 16), 256, 0, sti_stream(ctx)>>>(total, a, b, run, (const T *)in, (T *)out);
    sti_launched(ctx, "twostage permutation");
}

template <typename T>
__global__ void read(int64_t total, int64_t rows, int64_t n2, int64_t s, const T *y, int64_t ldy, T *z)
{
    for (int64_t i = first_index(); i < total; i += index_step()) {
        const int64_t o = i % s, j = i / s % n2, row = i / (s * n2), at = o * n2 + j;
        z[i] = at < rows ? y[row * ldy + at] : sti_put<T>(sti_sum_t<T>(0));
    }
}

template <typename T>
void read_all(const strata_context *ctx, int64_t count, int64_t rows, int64_t n2, int64_t s, const void *y, int64_t ldy,
              void *z)
{
    const int64_t total = count * n2 * s;
    read<T>
        <<<sti_blocks(ctx, total, 1024, 16), 256, 0, sti_stream(ctx)>>>(total, rows, n2, s, (const T *)y, ldy, (T *)z);
    sti_launched(ctx, "twostage input");
}

template <typename T>
__global__ void write(int64_t total, int64_t rows, int64_t n2, int64_t s, sti_sum_t<T> alpha, const T *z,
                      sti_sum_t<T> beta, T *y, int64_t ldy)
{
    for (int64_t i = first_index(); i < total; i += index_step()) {
        const int64_t at = i % rows, row = i / rows;
        T *to = &y[row * ldy + at];
        sti_sum_t<T> v = alpha * sti_get(z[(row * n2 + at % n2) * s + at / n2]);
        if (beta != 0) v += beta * sti_get(*to);
        *to = sti_put<T>(v);
    }
}

template <typename T>
void write_all(const strata_context *ctx, int64_t count, int64_t rows, int64_t n2, int64_t s, double alpha,
               const void *z, double beta, void *y, int64_t ldy)
{
    const int64_t total = count * rows;
    write<T><<<sti_blocks(ctx, total, 1024, 16), 256, 0, sti_stream(ctx)>>>(
        total, rows, n2, s, (sti_sum_t<T>)alpha, (const T *)z, (sti_sum_t<T>)beta, (T *)y, ldy);
    sti_launched(ctx, "twostage output");
}
} // namespace

extern "C" void sti_twostage_permute_cuda(const strata_context *ctx, int32_t type, int64_t count, int64_t a, int64_t b,
                                          int64_t run, const void *in, void *out)
{
    STI_CUDA_TYPES(type, permute_all, ctx, count * a * b * run, a, b, run, in, out);
}

extern "C" void sti_twostage_read_cuda(const strata_context *ctx, int32_t type, int64_t count, int64_t rows, int64_t n2,
                                       int64_t s, const void *y, int64_t ldy, void *z)
{
    STI_CUDA_TYPES(type, read_all, ctx, count, rows, n2, s, y, ldy, z);
}

extern "C" void sti_twostage_write_cuda(const strata_context *ctx, int32_t type, int64_t count, int64_t rows,
                                        int64_t n2, int64_t s, double alpha, const void *z, double beta, void *y,
                                        int64_t ldy)
{
    STI_CUDA_TYPES(type, write_all, ctx, count, rows, n2, s, alpha, z, beta, y, ldy);
}
