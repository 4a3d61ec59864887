/* Learned positions on a device. Forward: a block for each stretch of a row. Backward: a thread owns 16 bytes of a row
 * of the table and walks the sequences in order, several loads ahead. */
#include "backend/cuda/stream.cuh"
#include "layer/positions/positions_cuda.h"

namespace
{
constexpr int THREADS = 256, AHEAD = 8;

/* V elements at once: 16 bytes, or one where widths or addresses do not allow that. */
template <typename T, int V> struct piece {
    typedef sti_sum_t<T> S;
    static __device__ __forceinline__ void read(const T *p, S (&x)[V])
    {
        const sti_vec<T, V> v = *(const sti_vec<T, V> *)p;
#pragma unroll
        for (int e = 0; e < V; e++) x[e] = sti_get(v.x[e]);
    }
    static __device__ __forceinline__ void write(T *p, const S (&x)[V])
    {
        sti_vec<T, V> v;
#pragma unroll
        for (int e = 0; e < V; e++) v.x[e] = sti_put<T>(x[e]);
        *(sti_vec<T, V> *)p = v;
    }
};

template <typename T, int V>
__global__ void __launch_bounds__(THREADS) forward(const sti_places places, bool placed, int64_t tokens, int64_t time,
                                                   int64_t width, const sti_sum_t<T> *table, const T *in, T *out)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, chunks = width / V, row = i / chunks;
    if (row >= tokens) return;
    const int64_t at = (placed ? places.at[row / time] : 0) + row % time;
    sti_sum_t<T> x[V];
    piece<T, V>::read(in + i * V, x);
    sti_sum_t<T> p[V];
    piece<sti_sum_t<T>, V>::read(table + at * width + i % chunks * V, p);
#pragma unroll
    for (int e = 0; e < V; e++) x[e] += p[e];
    piece<T, V>::write(out + i * V, x);
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS)
    backward(int64_t batch, int64_t time, int64_t width, const T *dout, sti_sum_t<T> *dtable, T *din, bool acc)
{
    typedef sti_sum_t<T> S;
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V, step = time * width;
    if (i >= step) return;
    S sum[V] = { 0 };
    for (int64_t first = 0; first < batch; first += AHEAD) {
        S x[AHEAD][V];
#pragma unroll
        for (int u = 0; u < AHEAD; u++)
            if (first + u < batch) piece<T, V>::read(dout + (first + u) * step + i, x[u]);
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            if (first + u >= batch) break;
            T *to = din + (first + u) * step + i;
#pragma unroll
            for (int e = 0; e < V; e++) sum[e] += x[u][e];
            if (!din) continue;
            S old[V] = { 0 };
            if (acc) piece<T, V>::read(to, old);
#pragma unroll
            for (int e = 0; e < V; e++) old[e] += x[u][e];
            piece<T, V>::write(to, old);
        }
    }
    if (!dtable) return;
#pragma unroll
    for (int e = 0; e < V; e++) dtable[i + e] += sum[e];
}

template <typename T, int V>
void launch_forward(const strata_context *ctx, int64_t batch, int64_t time, int64_t width, const int64_t *pos,
                    const sti_sum_t<T> *table, const T *in, T *out)
{
    const int64_t most = pos ? (int64_t)sti_places::most : batch;
    for (int64_t first = 0; first < batch; first += most) {
        const int64_t n = batch - first < most ? batch - first : most, work = n * time * (width / V);
        forward<T, V><<<(unsigned)((work + THREADS - 1) / THREADS), THREADS, 0, sti_stream(ctx)>>>(
            sti_places_of(pos, first, n), pos != nullptr, n * time, time, width, table, in + first * time * width,
            out + first * time * width);
        sti_launched(ctx, "positions");
    }
}

template <typename T>
void run_forward(const strata_context *ctx, int64_t batch, int64_t time, int64_t width, const int64_t *pos,
                 const void *table, const void *in, void *out)
{
    constexpr int V = sti_wide<T>::n;
    const sti_sum_t<T> *p = (const sti_sum_t<T> *)table;
    if (width % V == 0 && sti_aligned(table) && sti_aligned(in) && sti_aligned(out))
        launch_forward<T, V>(ctx, batch, time, width, pos, p, (const T *)in, (T *)out);
    else
        launch_forward<T, 1>(ctx, batch, time, width, pos, p, (const T *)in, (T *)out);
}

template <typename T>
void run_backward(const strata_context *ctx, int64_t batch, int64_t time, int64_t width, const void *dout, void *dtable,
                  void *din, int acc)
{
    constexpr int V = sti_wide<T>::n;
    sti_sum_t<T> *d = (sti_sum_t<T> *)dtable;
    const int64_t n = time * width;
    if (n % V == 0 && sti_aligned(dout) && sti_aligned(din))
        backward<T, V><<<(unsigned)((n / V + THREADS - 1) / THREADS), THREADS, 0, sti_stream(ctx)>>>(
            batch, time, width, (const T *)dout, d, (T *)din, acc);
    else
        backward<T, 1><<<(unsigned)((n + THREADS - 1) / THREADS), THREADS, 0, sti_stream(ctx)>>>(
            batch, time, width, (const T *)dout, d, (T *)din, acc);
    sti_launched(ctx, "positions backward");
}
} // namespace

extern "C" void sti_positions_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t batch, int64_t time,
                                           int64_t width, const int64_t *pos, const void *table, const void *in,
                                           void *out)
{
    STI_CUDA_TYPES(dtype, run_forward, ctx, batch, time, width, pos, table, in, out);
}

extern "C" void sti_positions_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t batch, int64_t time,
                                            int64_t width, const void *dout, void *dtable, void *din, int acc)
{
    STI_CUDA_TYPES(dtype, run_backward, ctx, batch, time, width, dout, dtable, din, acc);
}
