/* Bias of a linear stage on a device: one pass over the rows each way. The gradient's blocks (tile of columns, chunk of
 * rows) leave partial sums in `work`; a second pass adds them in order. */
#include "backend/cuda/stream.cuh"
#include "operator/linear_cuda.h"

namespace
{
constexpr int THREADS = 256, WARPS = THREADS / 32, AHEAD = 4;
constexpr int64_t PARTS = 256, BLOCKS = 1024; /* most chunks of rows; most blocks (where one chunk is not enough) */

/* A thread owns V columns of AHEAD rows. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS) add(int64_t count, int64_t width, const sti_sum_t<T> *bias, T *out)
{
    const int64_t j = ((int64_t)blockIdx.y * 32 + (threadIdx.x & 31)) * V;
    const int64_t first = ((int64_t)blockIdx.x * WARPS + threadIdx.x / 32) * AHEAD;
    if (j >= width) return;
    sti_vec<T, V> x[AHEAD];
#pragma unroll
    for (int u = 0; u < AHEAD; u++)
        if (first + u < count) x[u] = *(const sti_vec<T, V> *)(out + (first + u) * width + j);
    sti_sum_t<T> b[V];
#pragma unroll
    for (int e = 0; e < V; e++) b[e] = bias[j + e];
#pragma unroll
    for (int u = 0; u < AHEAD; u++) {
        if (first + u >= count) break;
#pragma unroll
        for (int e = 0; e < V; e++) x[u].x[e] = sti_put<T>(sti_get(x[u].x[e]) + b[e]);
        *(sti_vec<T, V> *)(out + (first + u) * width + j) = x[u];
    }
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS) sum(int64_t count, int64_t width, const T *dout, sti_sum_t<T> *part)
{
    typedef sti_sum_t<T> S;
    __shared__ S shared[WARPS][32 * V + 1];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int64_t j0 = (int64_t)blockIdx.x * 32 * V, j = j0 + lane * V, span = (count + gridDim.y - 1) / gridDim.y;
    const int64_t first = blockIdx.y * span, last = first + span < count ? first + span : count;
    S s[V] = { 0 };
    if (j < width)
        for (int64_t i = first + warp; i < last; i += AHEAD * WARPS) {
            sti_vec<T, V> x[AHEAD];
#pragma unroll
            for (int u = 0; u < AHEAD; u++)
                if (i + u * WARPS < last) x[u] = *(const sti_vec<T, V> *)(dout + (i + u * WARPS) * width + j);
#pragma unroll
            for (int u = 0; u < AHEAD; u++)
#pragma unroll
                for (int e = 0; e < V; e++) s[e] += i + u * WARPS < last ? sti_get(x[u].x[e]) : S(0);
        }
#pragma unroll
    for (int e = 0; e < V; e++) shared[warp][lane * V + e] = s[e];
    __syncthreads();
    for (int k = threadIdx.x; k < 32 * V && j0 + k < width; k += THREADS) {
        S t = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) t += shared[w][k];
        part[blockIdx.y * width + j0 + k] = t;
    }
}

template <typename T, int V>
void add_as(const strata_context *ctx, int64_t count, int64_t width, const sti_sum_t<T> *bias, T *out)
{
    const dim3 grid((unsigned)((count + WARPS * AHEAD - 1) / (WARPS * AHEAD)),
                    (unsigned)((width + 32 * V - 1) / (32 * V)));
    add<T, V><<<grid, THREADS, 0, sti_stream(ctx)>>>(count, width, bias, out);
    sti_launched(ctx, "bias");
}

template <typename T> void add_to(const strata_context *ctx, int64_t count, int64_t width, const void *bias, void *out)
{
    constexpr int V = sti_wide<T>::n;
    const sti_sum_t<T> *b = (const sti_sum_t<T> *)bias;
    if (width % V == 0 && sti_aligned(out))
        add_as<T, V>(ctx, count, width, b, (T *)out);
    else
        add_as<T, 1>(ctx, count, width, b, (T *)out);
}

template <typename T, int V>
void sum_as(const strata_context *ctx, int64_t count, int64_t width, const T *dout, sti_sum_t<T> *dbias,
            sti_sum_t<T> *part)
{
    const int64_t tiles = (width + 32 * V - 1) / (32 * V), most = (count + 8 * WARPS - 1) / (8 * WARPS);
    int64_t parts = BLOCKS / tiles < PARTS ? BLOCKS / tiles : PARTS;
    if (parts > most) parts = most;
    if (parts < 1) parts = 1;
    sum<T, V><<<dim3((unsigned)tiles, (unsigned)parts), THREADS, 0, sti_stream(ctx)>>>(count, width, dout, part);
    sti_launched(ctx, "bias gradient");
    sti_fold(ctx, "bias gradient", parts, width, part, dbias);
}

template <typename T>
void sum_to(const strata_context *ctx, int64_t count, int64_t width, const void *dout, void *dbias, void *work)
{
    typedef sti_sum_t<T> S;
    constexpr int V = sti_wide<T>::n;
    if (width % V == 0 && sti_aligned(dout))
        sum_as<T, V>(ctx, count, width, (const T *)dout, (S *)dbias, (S *)work);
    else
        sum_as<T, 1>(ctx, count, width, (const T *)dout, (S *)dbias, (S *)work);
}
} // namespace

extern "C" void sti_bias_add_cuda(const strata_context *ctx, int32_t dtype, int64_t count, int64_t width,
                                  const void *bias, void *out)
{
    if (count < 1) return;
    STI_CUDA_TYPES(dtype, add_to, ctx, count, width, bias, out);
}

extern "C" void sti_bias_grad_cuda(const strata_context *ctx, int32_t dtype, int64_t count, int64_t width,
                                   const void *dout, void *dbias, void *work)
{
    if (count < 1) return;
    STI_CUDA_TYPES(dtype, sum_to, ctx, count, width, dout, dbias, work);
}

extern "C" size_t sti_bias_work_cuda(int32_t dtype, int64_t width)
{
    /* parts * width: parts is at most BLOCKS / tiles and PARTS, a tile at most 32 * 8 columns; or 1 */
    const int64_t parts = BLOCKS * 32 * 8, all = PARTS * width, most = parts < all ? parts : all;
    return (size_t)(most > width ? most : width) * (dtype == STRATA_F64 ? sizeof(double) : sizeof(float));
}
