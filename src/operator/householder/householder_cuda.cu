#include "operator/householder/householder_cuda.h"

#include "backend/cuda/cuda.cuh"

namespace
{
__device__ __forceinline__ int64_t thread_index()
{
    return blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
}

template <typename T> __global__ void prepare(int64_t k, const T *given, const sti_sum_t<T> *gram, sti_sum_t<T> *beta)
{
    typedef sti_sum_t<T> S;
    const int64_t i = thread_index();
    if (i >= k) return;
    const S vv = gram[i * k + i];
    beta[i] = given ? (S)sti_get(given[i]) : vv > 0 ? 2 / vv : S(0);
}

/* A warp for each row: the lanes share the sum of each step, which the one after it needs. */
template <typename S>
__global__ void coefficients(int64_t k, const S *gram, const S *beta, int transposed, int64_t rows, S *c)
{
    const int lane = threadIdx.x % 32;
    const int64_t warps = (int64_t)gridDim.x * (blockDim.x / 32);
    for (int64_t r = thread_index() / 32; r < rows; r += warps) {
        S *row = c + r * k;
        for (int64_t m = 0; m < k; m++) {
            const int64_t i = transposed ? m : k - 1 - m, from = transposed ? 0 : i + 1, to = transposed ? i : k;
            S sum = 0;
            for (int64_t j = from + lane; j < to; j += 32) sum += beta[j] * gram[i * k + j] * row[j];
            sum = sti_warp_sum(sum);
            if (lane == 0) row[i] -= sum;
            __syncwarp();
        }
    }
}

template <typename T>
__global__ void round_rows(int64_t n, int64_t k, const sti_sum_t<T> *beta, const sti_sum_t<T> *c, T *out)
{
    for (int64_t i = thread_index(); i < n; i += (int64_t)gridDim.x * blockDim.x)
        out[i] = sti_put<T>(beta ? beta[i % k] * c[i] : c[i]);
}

template <typename S>
__global__ void small_grad(int64_t k, const S *m, const S *gram, const S *beta, int orthogonal, S *q, S *dbeta)
{
    for (int64_t at = thread_index(); at < k * k; at += (int64_t)gridDim.x * blockDim.x) {
        const int64_t i = at / k, j = at % k;
        const S vv = gram[i * k + i];
        S x = 0;
        if (i != j)
            x = beta[i] * beta[j] * m[j < i ? i * k + j : j * k + i];
        else if (!orthogonal)
            dbeta[i] -= m[at];
        else if (vv > 0)
            x = 4 * m[at] / (vv * vv); /* d(2/|v|^2)/dv */
        q[at] = x;
    }
}

template <typename S> __global__ void add_grad(int64_t k, int64_t n, const S *beta, const S *g, S *dv)
{
    for (int64_t i = thread_index(); i < k * n; i += (int64_t)gridDim.x * blockDim.x) dv[i] -= beta[i / n] * g[i];
}

template <typename T> struct call {
    typedef sti_sum_t<T> S;
    static void prepare_all(const strata_context *ctx, int64_t k, const void *given, const void *gram, void *beta)
    {
        prepare<T>
            <<<(unsigned)((k + 127) / 128), 128, 0, sti_stream(ctx)>>>(k, (const T *)given, (const S *)gram, (S *)beta);
    }
    static void solve(const strata_context *ctx, int64_t k, const void *gram, const void *beta, int transposed,
                      int64_t rows, void *c)
    {
        coefficients<S><<<sti_blocks(ctx, rows, 8, 16), 256, 0, sti_stream(ctx)>>>(k, (const S *)gram, (const S *)beta,
                                                                                   transposed, rows, (S *)c);
    }
    static void round_all(const strata_context *ctx, int64_t n, int64_t k, const void *beta, const void *c, void *out)
    {
        round_rows<T>
            <<<sti_blocks(ctx, n, 1024, 16), 256, 0, sti_stream(ctx)>>>(n, k, (const S *)beta, (const S *)c, (T *)out);
    }
    static void small(const strata_context *ctx, int64_t k, const void *m, const void *gram, const void *beta,
                      int orthogonal, void *q, void *dbeta)
    {
        small_grad<S><<<sti_blocks(ctx, k * k, 256, 16), 256, 0, sti_stream(ctx)>>>(
            k, (const S *)m, (const S *)gram, (const S *)beta, orthogonal, (S *)q, (S *)dbeta);
    }
    static void add(const strata_context *ctx, int64_t k, int64_t n, const void *beta, const void *g, void *dv)
    {
        add_grad<S><<<sti_blocks(ctx, k * n, 1024, 16), 256, 0, sti_stream(ctx)>>>(k, n, (const S *)beta, (const S *)g,
                                                                                   (S *)dv);
    }
};
} // namespace

#define CALL(type, f, ...)                                                                                             \
    do {                                                                                                               \
        if ((type) == STRATA_F32)                                                                                      \
            call<float>::f(__VA_ARGS__);                                                                               \
        else if ((type) == STRATA_F64)                                                                                 \
            call<double>::f(__VA_ARGS__);                                                                              \
        else                                                                                                           \
            call<sti_bf16>::f(__VA_ARGS__);                                                                            \
        sti_launched(ctx, "householder " #f);                                                                          \
    } while (0)

extern "C" void sti_householder_prepare_cuda(const strata_context *ctx, int32_t type, int64_t k, const void *given,
                                             const void *gram, void *beta)
{
    CALL(type, prepare_all, ctx, k, given, gram, beta);
}

extern "C" void sti_householder_coefficients_cuda(const strata_context *ctx, int32_t type, int64_t k, const void *gram,
                                                  const void *beta, int transposed, int64_t rows, void *c)
{
    CALL(type, solve, ctx, k, gram, beta, transposed, rows, c);
}

extern "C" void sti_householder_round_cuda(const strata_context *ctx, int32_t type, int64_t rows, int64_t k,
                                           const void *beta, const void *c, void *rounded)
{
    CALL(type, round_all, ctx, rows * k, k, beta, c, rounded);
}

extern "C" void sti_householder_small_cuda(const strata_context *ctx, int32_t type, int64_t k, const void *m,
                                           const void *gram, const void *beta, int orthogonal, void *q, void *dbeta)
{
    CALL(type, small, ctx, k, m, gram, beta, orthogonal, q, dbeta);
}

extern "C" void sti_householder_add_cuda(const strata_context *ctx, int32_t type, int64_t k, int64_t n,
                                         const void *beta, const void *g, void *dv)
{
    CALL(type, add, ctx, k, n, beta, g, dv);
}
