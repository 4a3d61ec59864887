/* Rotary positions on a device: a thread turns V neighbouring pairs of every head of a token, so that the table is read
 * once for all heads. */
#include "backend/cuda/stream.cuh"
#include "kernel/rotary/rotary_cuda.h"

namespace
{
constexpr int THREADS = 256, AHEAD = 4; /* AHEAD: heads whose loads are in flight together */

template <typename T, int V> __device__ __forceinline__ void read(const T *p, sti_sum_t<T> (&x)[V])
{
    const sti_vec<T, V> v = *(const sti_vec<T, V> *)p;
#pragma unroll
    for (int e = 0; e < V; e++) x[e] = sti_get(v.x[e]);
}
template <typename T, int V> __device__ __forceinline__ void write(T *p, const sti_sum_t<T> (&x)[V])
{
    sti_vec<T, V> v;
#pragma unroll
    for (int e = 0; e < V; e++) v.x[e] = sti_put<T>(x[e]);
    *(sti_vec<T, V> *)p = v;
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS)
    turn(const sti_rotary_tables t, const sti_places places, bool placed, int64_t tokens, int64_t time, int heads,
         int split, bool back, bool add, const T *x, T *y)
{
    typedef sti_sum_t<T> S;
    const int64_t chunks = t.width / 2 / V, i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int64_t token = i / chunks / split;
    if (token >= tokens) return;
    const int64_t pair = i % chunks * V, at = (placed ? places.at[token / time] : 0) + token % time;
    const int share = (heads + split - 1) / split, h0 = (int)(i / chunks % split) * share;
    const int h1 = h0 + share < heads ? h0 + share : heads;
    const int a = t.member[2 * pair], b = t.member[2 * pair + 1];
    const S *table = (const S *)t.turn + (at * (t.width / 2) + pair) * 2;
    S c[V], s[V];
#pragma unroll
    for (int e = 0; e < V; e++) c[e] = table[2 * e], s[e] = back ? -table[2 * e + 1] : table[2 * e + 1];
    x += token * heads * t.width;
    y += token * heads * t.width;
    for (int first = h0; first < h1; first += AHEAD) {
        S xa[AHEAD][V], xb[AHEAD][V];
#pragma unroll
        for (int u = 0; u < AHEAD; u++)
            if (first + u < h1) {
                read<T, V>(x + (first + u) * t.width + a, xa[u]);
                read<T, V>(x + (first + u) * t.width + b, xb[u]);
            }
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            if (first + u >= h1) break;
            T *ya = y + (first + u) * t.width + a, *yb = y + (first + u) * t.width + b;
            S za[V] = { 0 }, zb[V] = { 0 };
            if (add) read<T, V>(ya, za), read<T, V>(yb, zb);
#pragma unroll
            for (int e = 0; e < V; e++) {
                za[e] += xa[u][e] * c[e] - xb[u][e] * s[e];
                zb[e] += xa[u][e] * s[e] + xb[u][e] * c[e];
            }
            write<T, V>(ya, za);
            write<T, V>(yb, zb);
        }
    }
}

template <typename T, int V>
void launch(const strata_context *ctx, const sti_rotary_tables *t, int64_t batch, int64_t time, int64_t heads,
            const int64_t *pos, int back, int add, const T *x, T *y)
{
    const int64_t most = pos ? (int64_t)sti_places::most : batch, row = time * heads * t->width;
    /* share the heads of a token out only where tokens alone do not fill the device */
    const int64_t threads = batch * time * (t->width / 2 / V);
    const int split = threads >= (int64_t)1 << 17 ? 1 : (int)((heads + AHEAD - 1) / AHEAD);
    for (int64_t first = 0; first < batch; first += most) {
        const int64_t n = batch - first < most ? batch - first : most;
        const int64_t work = n * time * split * (t->width / 2 / V);
        turn<T, V><<<(unsigned)((work + THREADS - 1) / THREADS), THREADS, 0, sti_stream(ctx)>>>(
            *t, sti_places_of(pos, first, n), pos != nullptr, n * time, time, (int)heads, split, back, add,
            x + first * row, y + first * row);
        sti_launched(ctx, "rotary");
    }
}

template <typename T>
void apply(const strata_context *ctx, const sti_rotary_tables *t, int64_t batch, int64_t time, int64_t heads,
           const int64_t *pos, int back, int add, const void *x, void *y)
{
    constexpr int V = sti_wide<T>::n;
    const bool aligned = sti_aligned(x) && sti_aligned(y);
    if (aligned && t->run % V == 0)
        launch<T, V>(ctx, t, batch, time, heads, pos, back, add, (const T *)x, (T *)y);
    else if (aligned && t->run % (V / 2) == 0)
        launch<T, V / 2>(ctx, t, batch, time, heads, pos, back, add, (const T *)x, (T *)y);
    else
        launch<T, 1>(ctx, t, batch, time, heads, pos, back, add, (const T *)x, (T *)y);
}
} // namespace

extern "C" void sti_rotary_apply_cuda(const strata_context *ctx, int32_t dtype, const sti_rotary_tables *t,
                                      int64_t batch, int64_t time, int64_t heads, const int64_t *pos, int back, int add,
                                      const void *x, void *y)
{
    if (batch < 1 || time < 1 || heads < 1) return;
    STI_CUDA_TYPES(dtype, apply, ctx, t, batch, time, heads, pos, back, add, x, y);
}
