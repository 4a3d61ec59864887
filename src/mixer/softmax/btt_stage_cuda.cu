/* Both cores of a bilinear BTT projection in one pass over the rows: weights and their gradients stay in registers,
 * what lies between the cores in shared memory.
 *
 * A block takes a group of heads and walks over tiles of rows. Every product is of one thread, whose weights are its
 * own. A thread has up to three places:
 *
 *     A   (c, j), j = (h, b, s)   z[c][j] = sum over d of x[c][d] R[c][d][j]
 *                                 dz[c][j] = sum over a of dy[h][a][b] L[h, b][a][c, s]
 *                                 dR[c][d][j] += x[c][d] dz[c][j]
 *     B   (h, a, b)               y[h][a][b] = sum over (c, s) of z[h, b][c, s] L[h, b][a][c, s]
 *                                 dL[h, b][a][c, s] += dy[h][a][b] z[h, b][c, s]
 *     C   (c, d), a share of j    dx[c][d] = sum over j of dz[c][j] R[c][d][j]; shuffles add the shares
 *
 * M is the most weights of a product (the rest are zeros), P = M + 4 the distance of vectors of M in shared memory:
 * eight neighbours then lie in different banks. Gradients of the weights leave as one part for each block, added in
 * order. */
#include "mixer/softmax/btt_stage_cuda.h"

#include "backend/cuda/stream.cuh"

namespace
{
enum { MOST = 512 }; /* threads */

struct job {
    int rows, width, row; /* row: of y */
    int a, b, c, d, s, cs;
    int heads, inner; /* heads of a group; inner: all heads b s */
    int j, shares;    /* of A: heads b s of a group; of C */
};

template <int M> __device__ __forceinline__ float dot(const float *v, const float (&w)[M])
{
    float sum = 0;
#pragma unroll
    for (int k = 0; k < M; k += 4) {
        const float4 x = *(const float4 *)(v + k);
        sum += x.x * w[k] + x.y * w[k + 1] + x.z * w[k + 2] + x.w * w[k + 3];
    }
    return sum;
}

template <int M> __device__ __forceinline__ void add(float (&to)[M], float f, const float *v)
{
#pragma unroll
    for (int k = 0; k < M; k += 4) {
        const float4 x = *(const float4 *)(v + k);
        to[k] += f * x.x;
        to[k + 1] += f * x.y;
        to[k + 2] += f * x.z;
        to[k + 3] += f * x.w;
    }
}

/* w[k] = from[k step] for k < n, else 0 */
template <typename T, int M> __device__ __forceinline__ void take(float (&w)[M], const T *from, int64_t step, int n)
{
#pragma unroll
    for (int k = 0; k < M; k++) w[k] = k < n ? sti_get(from[k * step]) : 0.0f;
}

__device__ __forceinline__ void clear(float *p, int n)
{
    for (int i = threadIdx.x; i < n; i += blockDim.x) p[i] = 0;
}

/* What a thread owns; -1: nothing of the kind. */
struct place {
    int c, j, z;    /* A; z: where its number stands in a row of z */
    int out, hb, a; /* B */
    int cd, share;  /* C */
    int x, x_row;   /* loads of x: column in shared memory, first row; rows follow `shares` apart */
};

template <int P> __device__ __forceinline__ place place_of(const job &w)
{
    const int t = threadIdx.x;
    place p;
    p.c = t < w.c * w.j ? t % w.c : -1; /* c first: neighbours write z side by side */
    p.j = t / w.c;
    p.z = p.j / w.s * P + p.c * w.s + p.j % w.s;
    p.out = t < w.heads * w.width ? t : -1;
    p.hb = t / w.width * w.b + t % w.b;
    p.a = t % w.width / w.b;
    p.cd = t / w.shares < w.width ? t / w.shares : -1;
    p.share = t % w.shares;
    p.x = t % w.width / w.d * P + t % w.width % w.d;
    p.x_row = t / w.width;
    return p;
}

template <typename T> __device__ __forceinline__ float x_at(const job &w, const T *x, int64_t row)
{
    return row < w.rows ? sti_get(x[row * w.width + (int)threadIdx.x % w.width]) : 0.0f;
}

/* Rows [first, first + RT) of x as (row, c, P); those past the end are zero. `early`: the thread's first number. */
template <typename T, int P, int RT>
__device__ __forceinline__ void put_x(const job &w, const place &p, const T *x, int64_t first, float early, float *xs)
{
    const int xrow = w.c * P;
    if (p.x_row >= w.shares) return; /* threads that only fill the last warp */
    for (int r = p.x_row; r < RT; r += w.shares) xs[r * xrow + p.x] = r == p.x_row ? early : x_at(w, x, first + r);
}

template <typename T, int M, int RT>
__global__ void __launch_bounds__(MOST) forward(const job w, const T *R, const T *L, const T *x, T *y)
{
    enum { P = M + 4 };
    extern __shared__ __align__(16) float shared[];
    const int zrow = w.heads * w.b * P, xrow = w.c * P;
    float *const xs = shared, *const zs = xs + RT * xrow;
    const place p = place_of<P>(w);
    const int h0 = blockIdx.y * w.heads;
    float r_w[M], l_w[M];
    clear(shared, RT * (xrow + zrow));
    if (p.c >= 0) take(r_w, R + (int64_t)p.c * w.d * w.inner + h0 * w.b * w.s + p.j, w.inner, w.d);
    if (p.out >= 0) take(l_w, L + ((int64_t)(h0 * w.b + p.hb) * w.a + p.a) * w.cs, 1, w.cs);
    __syncthreads();
    const int64_t step = (int64_t)gridDim.x * RT;
    int64_t first = (int64_t)blockIdx.x * RT;
    float early = x_at(w, x, first + p.x_row);
    for (; first < w.rows; first += step) {
        float sum[RT];
        put_x<T, P, RT>(w, p, x, first, early, xs);
        early = x_at(w, x, first + step + p.x_row);
        __syncthreads();
        if (p.c >= 0) {
#pragma unroll
            for (int r = 0; r < RT; r++) sum[r] = dot(xs + r * xrow + p.c * P, r_w);
#pragma unroll
            for (int r = 0; r < RT; r++) zs[r * zrow + p.z] = sum[r];
        }
        __syncthreads();
        if (p.out < 0) continue;
#pragma unroll
        for (int r = 0; r < RT; r++) sum[r] = dot(zs + r * zrow + p.hb * P, l_w);
        T *to = y + first * w.row + h0 * w.width + p.out;
#pragma unroll
        for (int r = 0; r < RT; r++)
            if (first + r < w.rows) to[(int64_t)r * w.row] = sti_put<T>(sum[r]);
    }
}

/* v[r] of the lanes that share a column of dx: their sum over lanes is left in v[0] of the lane that writes row *row.
 */
template <int RT> __device__ __forceinline__ void add_shares(float (&v)[RT], int shares, int share, int *row)
{
    *row = 0;
#pragma unroll
    for (int n = RT / 2, d = 1; n; n /= 2, d *= 2) { /* halves of the rows change places: one shuffle for two sums */
        const bool up = share & d;
#pragma unroll
        for (int i = 0; i < n; i++) {
            const float send = up ? v[i] : v[i + n], keep = up ? v[i + n] : v[i];
            v[i] = keep + __shfl_xor_sync(0xffffffffu, send, d);
        }
        *row += up ? n : 0;
    }
    for (int d = RT; d < shares; d *= 2) v[0] += __shfl_xor_sync(0xffffffffu, v[0], d);
}

template <typename T>
__device__ __forceinline__ void put_dx(const job &w, int64_t row, int column, float sum, T *dx, int acc, float *part)
{
    if (part) {
        part[(row * gridDim.y + blockIdx.y) * w.width + column] = sum;
    } else {
        T *to = dx + row * w.width + column;
        *to = sti_put<T>(acc ? sti_get(*to) + sum : sum);
    }
}

/* dx_part: NULL, or (rows, groups, width) where dx is still to be summed over groups */
template <typename T, int M, int RT>
__global__ void __launch_bounds__(MOST) backward(const job w, const T *R, const T *L, const T *x, const T *dy, T *dx,
                                                 int acc, float *dx_part, float *dR, float *dL)
{
    enum { P = M + 4 };
    extern __shared__ __align__(16) float shared[];
    const int zrow = w.heads * w.b * P, xrow = w.c * P, each = (w.j + 4 * w.shares - 1) / (4 * w.shares);
    const int jrow = each * 4 * w.shares + 4, drow = w.c * jrow;
    float *const xs = shared, *const zs = xs + RT * xrow, *const ys = zs + RT * zrow, *const ds = ys + RT * zrow;
    const place p = place_of<P>(w);
    const int h0 = blockIdx.y * w.heads, j0 = h0 * w.b * w.s;
    const int cx = p.cd / w.d;
    float r_w[M], l_w[M], x_w[M], r_g[M], l_g[M];
    clear(shared, RT * (xrow + 2 * zrow + drow));
    if (p.c >= 0) {
        take(r_w, R + (int64_t)p.c * w.d * w.inner + j0 + p.j, w.inner, w.d);
        take(l_w, L + (int64_t)(h0 * w.b + p.j / w.s) * w.a * w.cs + p.c * w.s + p.j % w.s, w.cs, w.a);
    }
#pragma unroll
    for (int k = 0; k < M; k++) {
        const int j = (k / 4 * w.shares + p.share) * 4 + k % 4; /* fours of the shares take turns */
        x_w[k] = p.cd >= 0 && j < w.j ? sti_get(R[(int64_t)p.cd * w.inner + j0 + j]) : 0.0f;
        r_g[k] = l_g[k] = 0;
    }
    __syncthreads();
    const int64_t step = (int64_t)gridDim.x * RT;
    int64_t first = (int64_t)blockIdx.x * RT;
    float early = x_at(w, x, first + p.x_row), g[RT], next[RT];
    const T *from = dy + h0 * w.width + p.out;
#pragma unroll
    for (int r = 0; r < RT; r++) next[r] = p.out >= 0 && first + r < w.rows ? sti_get(from[(first + r) * w.row]) : 0.0f;
    for (; first < w.rows; first += step) {
        float sum[RT], dz[RT];
        put_x<T, P, RT>(w, p, x, first, early, xs);
#pragma unroll
        for (int r = 0; r < RT; r++) {
            g[r] = next[r];
            if (p.out >= 0) ys[r * zrow + p.hb * P + p.a] = g[r];
        }
        early = x_at(w, x, first + step + p.x_row); /* the next rows are on their way meanwhile */
#pragma unroll
        for (int r = 0; r < RT; r++)
            next[r] = p.out >= 0 && first + step + r < w.rows ? sti_get(from[(first + step + r) * w.row]) : 0.0f;
        __syncthreads();
        if (p.c >= 0) {
#pragma unroll
            for (int r = 0; r < RT; r++) {
                const float *v = xs + r * xrow + p.c * P;
                dz[r] = dot(ys + r * zrow + p.j / w.s * P, l_w);
                sum[r] = dot(v, r_w);
                add(r_g, dz[r], v);
            }
#pragma unroll
            for (int r = 0; r < RT; r++) {
                zs[r * zrow + p.z] = sum[r];
                ds[r * drow + p.c * jrow + p.j] = dz[r];
            }
        }
        __syncthreads();
        if (p.out >= 0)
#pragma unroll
            for (int r = 0; r < RT; r++) add(l_g, g[r], zs + r * zrow + p.hb * P);
        if (!dx && !dx_part) continue;
#pragma unroll
        for (int r = 0; r < RT; r++) {
            sum[r] = 0;
#pragma unroll
            for (int k = 0; k < M; k += 4) {
                if (p.cd < 0 || k / 4 >= each) continue;
                const float4 v = *(const float4 *)(ds + r * drow + cx * jrow + (k / 4 * w.shares + p.share) * 4);
                sum[r] += v.x * x_w[k] + v.y * x_w[k + 1] + v.z * x_w[k + 2] + v.w * x_w[k + 3];
            }
        }
        if (w.shares >= RT) {
            int row;
            add_shares(sum, w.shares, p.share, &row);
            if (p.cd >= 0 && p.share < RT && first + row < w.rows)
                put_dx(w, first + row, p.cd, sum[0], dx, acc, dx_part);
        } else {
#pragma unroll
            for (int r = 0; r < RT; r++) {
                for (int d = w.shares / 2; d; d /= 2) sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], d);
                if (p.cd >= 0 && p.share == (r & (w.shares - 1)) && first + r < w.rows)
                    put_dx(w, first + r, p.cd, sum[r], dx, acc, dx_part);
            }
        }
    }
    if (!dR) return;
    const int64_t rs = (int64_t)w.width * w.inner, ls = (int64_t)w.inner / w.s * w.a * w.cs;
    float *const pr = dR + blockIdx.x * rs, *const pl = dL + blockIdx.x * ls;
#pragma unroll
    for (int k = 0; k < M; k++) {
        if (p.c >= 0 && k < w.d) pr[((int64_t)p.c * w.d + k) * w.inner + j0 + p.j] = r_g[k];
        if (p.out >= 0 && k < w.cs) pl[((int64_t)(h0 * w.b + p.hb) * w.a + p.a) * w.cs + k] = l_g[k];
    }
}

template <typename T>
__global__ void sum_groups(int64_t count, int groups, int width, const float *part, T *dx, int acc)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        float sum = acc ? sti_get(dx[i]) : 0.0f;
        for (int g = 0; g < groups; g++) sum += part[(i / width * groups + g) * width + i % width];
        dx[i] = sti_put<T>(sum);
    }
}

/* ---- launching ----------------------------------------------------------------------------------------------------
 */

struct launch {
    job w;
    int m, rows, rows_back, groups, threads; /* rows: of a tile */
    size_t forward, backward;                /* shared memory */
    unsigned grid, grid_back;                /* blocks of a group */
    int64_t r_size, l_size, dx_size;         /* floats of the parts of one block; of all of dx */
};

bool power_of_two(int64_t x)
{
    return x > 0 && (x & (x - 1)) == 0;
}

/* The most heads of one block: a power of two, so that shuffles can add shares. 0: not even one fits. */
int64_t heads_of(const sti_btt_shape *s)
{
    int64_t n = 1;
    if (s->width * s->rank > MOST || !power_of_two(s->rank) || s->rank > 32) return 0;
    while (s->heads % (2 * n) == 0 && 2 * n * s->width * s->rank <= MOST && 2 * n * s->rank <= 32) n *= 2;
    return n;
}

bool open_launch(const strata_context *ctx, const sti_btt_shape *s, int32_t dtype, launch *l)
{
    const int64_t heads = heads_of(s), cs = s->c * s->rank;
    int64_t most = s->a > s->b ? s->a : s->b;
    if (cs > most) most = cs;
    if (s->d > most) most = s->d;
    if (dtype == STRATA_F64 || !heads || most > 16 || s->rows > INT32_MAX / 2) return false;
    const sti_cuda *device = sti_cuda_of(ctx);
    l->m = most <= 8 ? 8 : 16;
    l->rows = most <= 8 ? 8 : 4;
    l->rows_back = 4;
    l->groups = (int)(s->heads / heads);
    if (l->groups > 65535) return false;
    job &w = l->w;
    w.rows = (int)s->rows, w.width = (int)s->width, w.row = (int)(s->heads * s->width);
    w.a = (int)s->a, w.b = (int)s->b, w.c = (int)s->c, w.d = (int)s->d, w.s = (int)s->rank, w.cs = (int)cs;
    w.heads = (int)heads, w.inner = (int)(s->heads * s->b * s->rank);
    w.j = (int)(heads * s->b * s->rank), w.shares = (int)(heads * s->rank);
    l->threads = (int)((heads * s->width * s->rank + 31) / 32 * 32);
    const int p = l->m + 4, z = w.heads * w.b * p, x = w.c * p, each = (w.j + 4 * w.shares - 1) / (4 * w.shares);
    l->forward = sizeof(float) * (size_t)(l->rows * (x + z));
    l->backward = sizeof(float) * (size_t)(l->rows_back * (x + 2 * z + w.c * (each * 4 * w.shares + 4)));
    if (l->backward > device->smem_optin) return false;
    const int64_t blocks = device->sms / l->groups > 0 ? device->sms / l->groups : 1;
    const int64_t tiles = (s->rows + l->rows - 1) / l->rows, back = (s->rows + l->rows_back - 1) / l->rows_back;
    l->grid = (unsigned)(tiles < 2 * blocks ? tiles : 2 * blocks);
    l->grid_back = (unsigned)(back < blocks ? back : blocks);
    l->r_size = (int64_t)s->width * w.inner;
    l->l_size = s->heads * s->b * s->a * cs;
    l->dx_size = l->groups > 1 ? s->rows * l->groups * s->width : 0;
    return true;
}

template <typename T, int M, int RT>
void run_forward(const strata_context *ctx, const launch &l, const void *R, const void *L, const void *x, void *y)
{
    const auto f = forward<T, M, RT>;
    (void)cudaFuncSetAttribute(f, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)l.forward);
    f<<<dim3(l.grid, (unsigned)l.groups), l.threads, l.forward, sti_stream(ctx)>>>(l.w, (const T *)R, (const T *)L,
                                                                                   (const T *)x, (T *)y);
    sti_launched(ctx, "bilinear btt");
}

template <typename T, int M, int RT>
void run_backward(const strata_context *ctx, const launch &l, const void *R, const void *L, const void *x,
                  const void *dy, void *dx, int acc, float *dR, float *dL, float *work)
{
    const auto f = backward<T, M, RT>;
    const bool parts = dx && l.groups > 1;
    float *const r = work + l.dx_size, *const m = r + l.grid_back * l.r_size;
    (void)cudaFuncSetAttribute(f, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)l.backward);
    f<<<dim3(l.grid_back, (unsigned)l.groups), l.threads, l.backward, sti_stream(ctx)>>>(
        l.w, (const T *)R, (const T *)L, (const T *)x, (const T *)dy, parts ? nullptr : (T *)dx, acc,
        parts ? work : nullptr, dR ? r : nullptr, dR ? m : nullptr);
    sti_launched(ctx, "bilinear btt gradient");
    if (parts) {
        const int64_t n = (int64_t)l.w.rows * l.w.width;
        sum_groups<T>
            <<<sti_blocks(ctx, n, 256, 16), 256, 0, sti_stream(ctx)>>>(n, l.groups, l.w.width, work, (T *)dx, acc);
        sti_launched(ctx, "bilinear btt sum");
    }
    if (!dR) return;
    sti_fold<float>(ctx, "bilinear btt sum", l.grid_back, l.r_size, r, dR);
    sti_fold<float>(ctx, "bilinear btt sum", l.grid_back, l.l_size, m, dL);
}

template <int M, int RT>
void backward_of(int32_t dtype, const strata_context *ctx, const launch &l, const void *R, const void *L, const void *x,
                 const void *dy, void *dx, int acc, float *dR, float *dL, float *work)
{
    if (dtype == STRATA_F32)
        run_backward<float, M, RT>(ctx, l, R, L, x, dy, dx, acc, dR, dL, work);
    else
        run_backward<sti_bf16, M, RT>(ctx, l, R, L, x, dy, dx, acc, dR, dL, work);
}

template <int M, int RT>
void forward_of(int32_t dtype, const strata_context *ctx, const launch &l, const void *R, const void *L, const void *x,
                void *y)
{
    if (dtype == STRATA_F32)
        run_forward<float, M, RT>(ctx, l, R, L, x, y);
    else
        run_forward<sti_bf16, M, RT>(ctx, l, R, L, x, y);
}
} // namespace

extern "C" size_t sti_btt_fused_work(const strata_context *ctx, const sti_btt_shape *s, int32_t dtype)
{
    launch l;
    if (!open_launch(ctx, s, dtype, &l)) return 0;
    return sizeof(float) * (size_t)(l.dx_size + l.grid_back * (l.r_size + l.l_size));
}

extern "C" void sti_btt_fused_forward(const strata_context *ctx, const sti_btt_shape *s, int32_t dtype, const void *R,
                                      const void *L, const void *x, void *y)
{
    launch l;
    if (!open_launch(ctx, s, dtype, &l)) return; /* the plan has asked */
    if (l.m == 8)
        forward_of<8, 8>(dtype, ctx, l, R, L, x, y);
    else
        forward_of<16, 4>(dtype, ctx, l, R, L, x, y);
}

extern "C" void sti_btt_fused_backward(const strata_context *ctx, const sti_btt_shape *s, int32_t dtype, const void *R,
                                       const void *L, const void *x, const void *dy, void *dx, int acc, void *dR,
                                       void *dL, void *work)
{
    launch l;
    if (!open_launch(ctx, s, dtype, &l)) return;
    if (l.m == 8)
        backward_of<8, 4>(dtype, ctx, l, R, L, x, dy, dx, acc, (float *)dR, (float *)dL, (float *)work);
    else
        backward_of<16, 4>(dtype, ctx, l, R, L, x, dy, dx, acc, (float *)dR, (float *)dL, (float *)work);
}
