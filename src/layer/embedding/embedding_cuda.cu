/* Embedding on a device. Backward adds many rows into few, or few into many, without atomics: positions are sorted by
 * (id, position), a block sums each slice of the sorted list, and runs of one id that cross slices are completed by a
 * last kernel in the order of the slices. Every row of dout is read once, whatever the vocabulary. */
#include "backend/cuda/stream.cuh"
#include "layer/embedding/embedding_cuda.h"

namespace
{
constexpr int SORT = 2048;   /* keys that one block sorts */
constexpr int SLICE = 64;    /* sorted rows of one block */
constexpr int THREADS = 256; /* of the other kernels, at most */
constexpr int AHEAD = 8;     /* loads in flight */

/* ---- forward: a warp for each row -------------------------------------------------------------------------------- */

template <typename E>
__global__ void __launch_bounds__(THREADS)
    gather(int64_t rows, int64_t pieces, const int32_t *token, const E *table, E *out)
{
    const int lane = threadIdx.x & 31;
    const int64_t row = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    if (row >= rows) return;
    const E *from = table + token[row] * pieces;
    E *to = out + row * pieces;
#pragma unroll 4
    for (int64_t j = lane; j < pieces; j += 32) to[j] = from[j];
}

/* ---- sorting ----------------------------------------------------------------------------------------------------- */

/* Sort each stretch of SORT keys (id, position); keys are unique, so the result is too. */
__global__ void __launch_bounds__(SORT / 2) sort_stretches(int64_t rows, const int32_t *token, uint64_t *key)
{
    __shared__ uint64_t k[SORT];
    const int64_t first = (int64_t)blockIdx.x * SORT;
    for (int i = threadIdx.x; i < SORT; i += SORT / 2)
        k[i] = first + i < rows ? (uint64_t)(uint32_t)token[first + i] << 32 | (uint64_t)(first + i) : ~(uint64_t)0;
    for (int size = 2; size <= SORT; size *= 2)
        for (int d = size / 2; d; d /= 2) { /* bitonic */
            __syncthreads();
            const int i = 2 * threadIdx.x - (threadIdx.x & (d - 1)), j = i + d;
            const uint64_t a = k[i], b = k[j];
            if ((a > b) == !(i & size)) k[i] = b, k[j] = a;
        }
    __syncthreads();
    for (int i = threadIdx.x; i < SORT; i += SORT / 2)
        if (first + i < rows) key[first + i] = k[i];
}

/* Merge neighbouring sorted stretches of `span` keys: a key's place is its own rank plus that in the other stretch. */
__global__ void __launch_bounds__(THREADS) merge(int64_t rows, int64_t span, const uint64_t *from, uint64_t *to)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= rows) return;
    const int64_t mine = i / span * span, pair = i / (2 * span) * (2 * span);
    int64_t low = mine == pair ? pair + span : pair, high = low + span;
    if (low > rows) low = rows;
    if (high > rows) high = rows;
    const int64_t other = low;
    const uint64_t key = from[i];
    while (low < high) {
        const int64_t mid = (low + high) / 2;
        if (from[mid] < key)
            low = mid + 1;
        else
            high = mid;
    }
    to[pair + (i - mine) + (low - other)] = key;
}

/* ---- summing ----------------------------------------------------------------------------------------------------- */

template <typename T, int V> __device__ __forceinline__ void add_to(sti_sum_t<T> *to, const sti_sum_t<T> (&x)[V])
{
#pragma unroll
    for (int e = 0; e < V; e++) to[e] += x[e];
}

/* Block (slice, stretch of columns): sum runs of equal ids. A run inside the slice goes to the table; one that began
 * before the slice goes to edge[slice][0], any other that goes on behind it to edge[slice][1]. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS) sum_slices(int64_t rows, int64_t width, const uint64_t *key, const T *dout,
                                                      sti_sum_t<T> *dtable, sti_sum_t<T> *edge)
{
    typedef sti_sum_t<T> S;
    __shared__ uint64_t k[SLICE + 2]; /* with the neighbours of the slice */
    const int64_t first = (int64_t)blockIdx.x * SLICE;
    const int count = (int)(rows - first < SLICE ? rows - first : SLICE);
    for (int i = threadIdx.x; i < count + 2; i += blockDim.x) {
        const int64_t at = first + i - 1;
        k[i] = at < 0 || at >= rows ? ~(uint64_t)0 : key[at];
    }
    __syncthreads();
    const int64_t j = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * V;
    if (j >= width) return;
    S sum[V] = { 0 };
    bool head = k[0] >> 32 == k[1] >> 32;
    for (int i0 = 0; i0 < count; i0 += AHEAD) {
        sti_vec<T, V> x[AHEAD];
#pragma unroll
        for (int u = 0; u < AHEAD; u++)
            if (i0 + u < count) x[u] = *(const sti_vec<T, V> *)(dout + (int64_t)(uint32_t)k[i0 + u + 1] * width + j);
#pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            const int i = i0 + u;
            if (i >= count) break;
#pragma unroll
            for (int e = 0; e < V; e++) sum[e] += sti_get(x[u].x[e]);
            const bool ends = k[i + 1] >> 32 != k[i + 2] >> 32;
            if (!ends && i + 1 < count) continue;
            if (head || !ends) {
                S *to = edge + (2 * blockIdx.x + (head ? 0 : 1)) * width + j;
#pragma unroll
                for (int e = 0; e < V; e++) to[e] = sum[e];
            } else {
                add_to<T, V>(dtable + (int64_t)(k[i + 1] >> 32) * width + j, sum);
            }
            head = false;
#pragma unroll
            for (int e = 0; e < V; e++) sum[e] = 0;
        }
    }
}

/* The block of the slice in which a run that crosses slices begins adds it up: its own end, then the heads of the
 * slices behind it. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS)
    sum_edges(int64_t rows, int64_t width, const uint64_t *key, const sti_sum_t<T> *edge, sti_sum_t<T> *dtable)
{
    typedef sti_sum_t<T> S;
    const int64_t slice = blockIdx.x, end = (slice + 1) * SLICE, slices = (rows + SLICE - 1) / SLICE;
    if (end >= rows) return;
    const uint64_t id = key[end] >> 32;
    if (key[end - 1] >> 32 != id) return;                    /* no run crosses the end of this slice */
    if (slice && key[slice * SLICE - 1] >> 32 == id) return; /* it began earlier */
    const int64_t j = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * V;
    if (j >= width) return;
    /* the last slice that the run reaches: those behind it start with another id */
    int64_t low = slice + 1, high = slices;
    while (low + 1 < high) {
        const int64_t mid = (low + high) / 2;
        if (key[mid * SLICE] >> 32 == id)
            low = mid;
        else
            high = mid;
    }
    S sum[V];
#pragma unroll
    for (int e = 0; e < V; e++) sum[e] = edge[(2 * slice + 1) * width + j + e];
    for (int64_t s = slice + 1; s <= low; s += AHEAD) {
        S x[AHEAD][V];
#pragma unroll
        for (int u = 0; u < AHEAD; u++)
#pragma unroll
            for (int e = 0; e < V; e++) x[u][e] = s + u <= low ? edge[2 * (s + u) * width + j + e] : S(0);
#pragma unroll
        for (int u = 0; u < AHEAD; u++)
#pragma unroll
            for (int e = 0; e < V; e++) sum[e] += x[u][e];
    }
    add_to<T, V>(dtable + (int64_t)id * width + j, sum);
}

/* ---- launches ---------------------------------------------------------------------------------------------------- */

int64_t slices_of(int64_t rows)
{
    return (rows + SLICE - 1) / SLICE;
}

size_t key_bytes(int64_t rows)
{
    return sti_round_up((size_t)rows * sizeof(uint64_t), STI_ALIGN);
}

template <typename T, int V>
void sums(const strata_context *ctx, int64_t rows, int64_t width, const uint64_t *key, const T *dout,
          sti_sum_t<T> *dtable, sti_sum_t<T> *edge)
{
    const int64_t pieces = (width + V - 1) / V;
    const unsigned threads = (unsigned)(pieces < THREADS ? sti_round_up((size_t)pieces, 32) : THREADS);
    const dim3 grid((unsigned)slices_of(rows), (unsigned)((pieces + threads - 1) / threads));
    sum_slices<T, V><<<grid, threads, 0, sti_stream(ctx)>>>(rows, width, key, dout, dtable, edge);
    sti_launched(ctx, "embedding backward");
    const unsigned few = (unsigned)(width < THREADS ? sti_round_up((size_t)width, 32) : THREADS);
    sum_edges<T, 1><<<dim3((unsigned)slices_of(rows), (unsigned)((width + few - 1) / few)), few, 0, sti_stream(ctx)>>>(
        rows, width, key, edge, dtable);
    sti_launched(ctx, "embedding backward");
}

template <typename T>
void backward(const strata_context *ctx, int64_t rows, int64_t width, const int32_t *token, const void *dout,
              void *dtable, void *work)
{
    typedef sti_sum_t<T> S;
    constexpr int V = sti_wide<T>::n;
    uint64_t *key = (uint64_t *)work, *other = (uint64_t *)((char *)work + key_bytes(rows));
    S *edge = (S *)((char *)work + 2 * key_bytes(rows));
    sort_stretches<<<(unsigned)((rows + SORT - 1) / SORT), SORT / 2, 0, sti_stream(ctx)>>>(rows, token, key);
    sti_launched(ctx, "embedding backward");
    for (int64_t span = SORT; span < rows; span *= 2) {
        merge<<<(unsigned)((rows + THREADS - 1) / THREADS), THREADS, 0, sti_stream(ctx)>>>(rows, span, key, other);
        sti_launched(ctx, "embedding backward");
        uint64_t *t = key;
        key = other;
        other = t;
    }
    if (width % V == 0 && sti_aligned(dout))
        sums<T, V>(ctx, rows, width, key, (const T *)dout, (S *)dtable, edge);
    else
        sums<T, 1>(ctx, rows, width, key, (const T *)dout, (S *)dtable, edge);
}

template <typename E>
void gather_as(const strata_context *ctx, int64_t rows, size_t row, const int32_t *token, const void *table, void *out)
{
    gather<E><<<(unsigned)((rows + THREADS / 32 - 1) / (THREADS / 32)), THREADS, 0, sti_stream(ctx)>>>(
        rows, (int64_t)(row / sizeof(E)), token, (const E *)table, (E *)out);
    sti_launched(ctx, "embedding");
}
} // namespace

extern "C" void sti_embedding_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t width,
                                           const int32_t *token, const void *table, void *out)
{
    const size_t row = (size_t)width * strata_dtype_size(dtype);
    if (rows < 1) return;
    if (row % 16 == 0 && sti_aligned(table) && sti_aligned(out))
        gather_as<uint4>(ctx, rows, row, token, table, out);
    else
        gather_as<uint16_t>(ctx, rows, row, token, table, out);
}

extern "C" size_t sti_embedding_work_cuda(int32_t dtype, int64_t rows, int64_t width)
{
    return 2 * key_bytes(rows) +
           (size_t)(2 * slices_of(rows) * width) * (dtype == STRATA_F64 ? sizeof(double) : sizeof(float));
}

extern "C" void sti_embedding_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t width,
                                            const int32_t *token, const void *dout, void *dtable, void *work)
{
    if (rows < 1) return;
    STI_CUDA_TYPES(dtype, backward, ctx, rows, width, token, dout, dtable, work);
}
