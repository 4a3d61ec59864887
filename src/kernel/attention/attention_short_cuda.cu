/* Attention of sequences that fit one tile of 64 positions, where every level covers every pair of the mask: scores,
 * their softmax and all gradients in one block, which reads each array once.
 *
 * Rows lie in shared memory as f32, four numbers apart from the next one's banks. Warp w owns rows 8 w ... of
 * everything it computes, half a warp four of them:
 *
 *     rows_by_rows   S[i][j] = sum over k of a[i][k] b[j][k]   a lane has four rows, columns 16 apart
 *     x_by_rows      C[i][c] = sum over j of X[i][j] b[j][c]   four rows, four columns
 *     xt_by_rows     C[j][c] = sum over i of X[i][j] b[i][c]   the same
 *
 * Where C is narrow the 16 lanes of a half share the sum too, and shuffles add the shares. Under a causal mask each
 * loop ends, or begins, at the warp's own rows. Sums are f32, in one order. */
#include "backend/cuda/cuda.cuh"
#include "kernel/attention/attention_cuda.h"

#include <math.h>

namespace
{
enum { TILE = 64, THREADS = 256, XP = TILE + 4 };

struct job {
    sti_attention_call c;
    float scale[TILE]; /* of each column of q */
    int heads, kv_heads, causal;
    int qk, v;  /* columns */
    int qp, vp; /* distance of rows in shared memory: columns in fours, and four */
    int qt, vt; /* lanes that share columns of qk and v: 1, 2, 4, 8, 16 */
    int nq, nk;
};

struct lane {
    int tx, row; /* of 16; first of four rows */
};

template <typename T> __device__ __forceinline__ const T *row_of(const sti_attention_array &a, int64_t b, int64_t h)
{
    return (const T *)a.data + b * a.batch + h * a.head;
}

/* to[row] = rows of an array, zero past n and d, times the scale of each column; `wide` lanes share a row. */
template <typename T>
__device__ __forceinline__ void load(const T *from, int64_t stride, int n, int d, int pitch, int wide,
                                     const float4 &scale, float *to)
{
    const int c = threadIdx.x % wide * 4, step = THREADS / wide;
    const bool whole = stride % 4 == 0 && d % 4 == 0 && (uintptr_t)from % (4 * sizeof(T)) == 0;
    if (c >= pitch - 4) return;
    int row = threadIdx.x / wide;
    const T *x = from + row * stride + c;
#pragma unroll 4
    for (; row < TILE; row += step, x += step * stride) {
        float4 y = make_float4(0, 0, 0, 0);
        if (row < n && whole) {
            const sti_vec<T, 4> v = *(const sti_vec<T, 4> *)x;
            y = make_float4(sti_get(v.x[0]), sti_get(v.x[1]), sti_get(v.x[2]), sti_get(v.x[3]));
        } else if (row < n) {
            y.x = sti_get(x[0]);
            if (c + 1 < d) y.y = sti_get(x[1]);
            if (c + 2 < d) y.z = sti_get(x[2]);
            if (c + 3 < d) y.w = sti_get(x[3]);
        }
        *(float4 *)(to + row * pitch + c) = make_float4(y.x * scale.x, y.y * scale.y, y.z * scale.z, y.w * scale.w);
    }
}

__device__ __forceinline__ void clear(float (&c)[4][4])
{
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) c[i][j] = 0;
}

template <int G> __device__ __forceinline__ void group_rows(const float *a, const float *b, int pitch, float (&s)[4][4])
{
#pragma unroll 1
    for (int k = 0; k < pitch - 4; k += 4) {
        float4 x[4];
#pragma unroll
        for (int i = 0; i < 4; i++) x[i] = *(const float4 *)(a + i * pitch + k);
#pragma unroll
        for (int g = 0; g < G; g++) {
            const float4 y = *(const float4 *)(b + 16 * g * pitch + k);
#pragma unroll
            for (int i = 0; i < 4; i++) s[i][g] += x[i].x * y.x + x[i].y * y.y + x[i].z * y.z + x[i].w * y.w;
        }
    }
}

/* s[i][g] = a[row + i] . b[tx + 16 g] for g < groups, else 0 */
__device__ __forceinline__ void rows_by_rows(const float *a, const float *b, int pitch, const lane &l, int groups,
                                             float (&s)[4][4])
{
    clear(s);
    a += l.row * pitch;
    b += l.tx * pitch;
    if (groups == 4)
        group_rows<4>(a, b, pitch, s);
    else if (groups == 3)
        group_rows<3>(a, b, pitch, s);
    else if (groups == 2)
        group_rows<2>(a, b, pitch, s);
    else
        group_rows<1>(a, b, pitch, s);
}

__device__ __forceinline__ void fma4(float (&c)[4], float x, const float4 &y)
{
    c[0] += x * y.x;
    c[1] += x * y.y;
    c[2] += x * y.z;
    c[3] += x * y.w;
}

/* Add the shares of the lanes of a half that own the same columns; `wide` lanes own different ones. */
__device__ __forceinline__ void add_shares(float (&c)[4][4], int wide)
{
    for (int d = wide; d < 16; d *= 2)
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) c[i][j] += __shfl_xor_sync(0xffffffffu, c[i][j], d);
}

/* c[i] = columns 4 (tx mod wide) ... of sum over j < end of X[row + i][j] b[j] */
__device__ __forceinline__ void x_by_rows(const float *x, const float *b, int pitch, int wide, const lane &l, int end,
                                          float (&c)[4][4])
{
    const int at = l.tx % wide * 4, share = l.tx / wide, shares = 16 / wide;
    clear(c);
    if (at < pitch - 4 && shares == 1) {
        for (int j = 0; j < end; j += 4) {
            float4 p[4];
#pragma unroll
            for (int i = 0; i < 4; i++) p[i] = *(const float4 *)(x + (l.row + i) * XP + j);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float4 y = *(const float4 *)(b + (j + e) * pitch + at);
#pragma unroll
                for (int i = 0; i < 4; i++) fma4(c[i], e == 0 ? p[i].x : e == 1 ? p[i].y : e == 2 ? p[i].z : p[i].w, y);
            }
        }
    } else if (at < pitch - 4) {
#pragma unroll 2
        for (int j = share; j < end; j += shares) {
            const float4 y = *(const float4 *)(b + j * pitch + at);
#pragma unroll
            for (int i = 0; i < 4; i++) fma4(c[i], x[(l.row + i) * XP + j], y);
        }
    }
    add_shares(c, wide);
}

/* c[i] = columns 4 (tx mod wide) ... of sum over j >= begin of X[j][row + i] b[j] */
__device__ __forceinline__ void xt_by_rows(const float *x, const float *b, int pitch, int wide, const lane &l,
                                           int begin, int end, float (&c)[4][4])
{
    const int at = l.tx % wide * 4, share = l.tx / wide, shares = 16 / wide;
    clear(c);
    if (at < pitch - 4)
#pragma unroll 4
        for (int j = begin + share; j < end; j += shares) {
            const float4 p = *(const float4 *)(x + j * XP + l.row), y = *(const float4 *)(b + j * pitch + at);
            fma4(c[0], p.x, y);
            fma4(c[1], p.y, y);
            fma4(c[2], p.z, y);
            fma4(c[3], p.w, y);
        }
    add_shares(c, wide);
}

/* Rows of an output, columns below d */
template <typename T>
__device__ __forceinline__ void store(const sti_attention_array &a, int64_t b, int64_t h, int n, int d, int wide,
                                      const lane &l, const float4 &scale, const float (&c)[4][4])
{
    const int at = l.tx % wide * 4;
    T *const to = (T *)a.data + b * a.batch + h * a.head;
    if (l.tx / wide != 0 || at >= d) return;
    const bool whole = a.time % 4 == 0 && d % 4 == 0 && (uintptr_t)to % (4 * sizeof(T)) == 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (l.row + i >= n) continue;
        sti_vec<T, 4> y;
#pragma unroll
        for (int j = 0; j < 4; j++)
            y.x[j] = sti_put<T>(c[i][j] * (j == 0 ? scale.x : j == 1 ? scale.y : j == 2 ? scale.z : scale.w));
        T *p = to + (l.row + i) * a.time + at;
        if (whole) {
            *(sti_vec<T, 4> *)p = y;
        } else {
#pragma unroll
            for (int j = 0; j < 4; j++)
                if (at + j < d) p[j] = y.x[j];
        }
    }
}

/* X[row + i][tx + 16 g] */
__device__ __forceinline__ void put_x(float *x, const lane &l, int groups, const float (&s)[4][4])
{
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int g = 0; g < 4; g++)
            if (g < groups) x[(l.row + i) * XP + l.tx + 16 * g] = s[i][g];
}

__device__ __forceinline__ float half_sum(float x)
{
#pragma unroll
    for (int d = 8; d; d >>= 1) x += __shfl_xor_sync(0xffffffffu, x, d);
    return x;
}
__device__ __forceinline__ float half_max(float x)
{
#pragma unroll
    for (int d = 8; d; d >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, d));
    return x;
}

#define LOG2E 1.4426950408889634f
#define LN2 0.6931471805599453f

/* What both passes begin with: q (scaled), k and v in shared memory. */
struct place {
    int b, h, g;
    lane l;
    int groups, end; /* column groups and columns that the warp's rows see */
    float *x, *q, *k, *v, *o;
};

/* Of columns 4 (tx mod wide) ... of q */
__device__ __forceinline__ float4 scale_of(const job &w, int wide)
{
    const int c = threadIdx.x % wide * 4;
    return make_float4(w.scale[c], w.scale[c + 1], w.scale[c + 2], w.scale[c + 3]);
}

template <typename T> __device__ __forceinline__ place begin(const job &w, float *shared)
{
    place p;
    const int warp = threadIdx.x / 32;
    p.b = (int)blockIdx.x / w.heads;
    p.h = (int)blockIdx.x % w.heads;
    p.g = p.h * w.kv_heads / w.heads;
    p.l.tx = threadIdx.x % 16;
    p.l.row = warp * 8 + threadIdx.x / 16 % 2 * 4;
    p.end = w.causal ? min(warp * 8 + 8, (w.nk + 3) / 4 * 4) : (w.nk + 3) / 4 * 4;
    p.groups = (p.end + 15) / 16;
    p.x = shared;
    p.q = p.x + TILE * XP;
    p.k = p.q + TILE * w.qp;
    p.v = p.k + TILE * w.qp;
    p.o = p.v + TILE * w.vp;
    const float4 one = make_float4(1, 1, 1, 1);
    load(row_of<T>(w.c.q, p.b, p.h), w.c.q.time, w.nq, w.qk, w.qp, w.qt, scale_of(w, w.qt), p.q);
    load(row_of<T>(w.c.k, p.b, p.g), w.c.k.time, w.nk, w.qk, w.qp, w.qt, one, p.k);
    load(row_of<T>(w.c.v, p.b, p.g), w.c.v.time, w.nk, w.v, w.vp, w.vt, one, p.v);
    return p;
}

/* Columns before this one meet a row. */
__device__ __forceinline__ int seen_by(const job &w, int row)
{
    return row >= w.nq ? 0 : w.causal ? min(w.nk, row + 1) : w.nk;
}

template <typename T> __global__ void __launch_bounds__(THREADS, 3) forward(const __grid_constant__ job w)
{
    extern __shared__ __align__(16) float shared[];
    const place p = begin<T>(w, shared);
    float s[4][4], sum[4], o[4][4];
    __syncthreads();
    rows_by_rows(p.q, p.k, w.qp, p.l, p.groups, s);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = p.l.row + i, seen = min(seen_by(w, row), 16 * p.groups);
        float top = -INFINITY;
#pragma unroll
        for (int g = 0; g < 4; g++) {
            s[i][g] = p.l.tx + 16 * g < seen ? s[i][g] * LOG2E : -INFINITY;
            top = fmaxf(top, s[i][g]);
        }
        top = half_max(top);
        const float from = top == -INFINITY ? 0.0f : top;
        sum[i] = 0;
#pragma unroll
        for (int g = 0; g < 4; g++) sum[i] += s[i][g] = exp2f(s[i][g] - from);
        sum[i] = half_sum(sum[i]);
        if (p.l.tx == 0 && row < w.nq && w.c.lse.data)
            ((float *)w.c.lse.data)[p.b * w.c.lse.batch + p.h * w.c.lse.head + row * w.c.lse.time] =
                sum[i] > 0 ? (top + log2f(sum[i])) * LN2 : -INFINITY;
    }
    put_x(p.x, p.l, p.groups, s);
    __syncwarp(); /* a warp reads its own rows */
    x_by_rows(p.x, p.v, w.vp, w.vt, p.l, p.end, o);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float scale = sum[i] > 0 ? 1 / sum[i] : 0.0f;
#pragma unroll
        for (int j = 0; j < 4; j++) o[i][j] *= scale;
    }
    store<T>(w.c.o, p.b, p.h, w.nq, w.v, w.vt, p.l, make_float4(1, 1, 1, 1), o);
}

template <typename T> __global__ void __launch_bounds__(THREADS, 3) backward(const __grid_constant__ job w)
{
    extern __shared__ __align__(16) float shared[];
    const place p = begin<T>(w, shared);
    const int warp = threadIdx.x / 32, first = w.causal ? warp * 8 : 0, last = w.nq;
    float s[4][4], ds[4][4], c[4][4], lse[4], delta[4];
    load(row_of<T>(w.c.dout, p.b, p.h), w.c.dout.time, w.nq, w.v, w.vp, w.vt, make_float4(1, 1, 1, 1), p.o);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = p.l.row + i;
        const T *out = row_of<T>(w.c.o, p.b, p.h) + row * w.c.o.time;
        const T *dout = row_of<T>(w.c.dout, p.b, p.h) + row * w.c.dout.time;
        lse[i] =
            row < w.nq
                ? ((const float *)w.c.lse.data)[p.b * w.c.lse.batch + p.h * w.c.lse.head + row * w.c.lse.time] * LOG2E
                : 0.0f;
        delta[i] = 0;
        for (int k = p.l.tx; k < w.v && row < w.nq; k += 16) delta[i] += sti_get(out[k]) * sti_get(dout[k]);
        delta[i] = half_sum(delta[i]);
    }
    __syncthreads();
    rows_by_rows(p.q, p.k, w.qp, p.l, p.groups, s);
    rows_by_rows(p.o, p.v, w.vp, p.l, p.groups, ds);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int seen = lse[i] > -INFINITY ? min(seen_by(w, p.l.row + i), 16 * p.groups) : 0;
#pragma unroll
        for (int g = 0; g < 4; g++) {
            const bool in = p.l.tx + 16 * g < seen;
            s[i][g] = in ? exp2f(s[i][g] * LOG2E - lse[i]) : 0.0f;
            ds[i][g] = in ? s[i][g] * (ds[i][g] - delta[i]) : 0.0f;
        }
    }
    put_x(p.x, p.l, p.groups, s);
    __syncthreads();
    xt_by_rows(p.x, p.o, w.vp, w.vt, p.l, first, last, c);
    store<T>(w.c.dv, p.b, p.g, w.nk, w.v, w.vt, p.l, make_float4(1, 1, 1, 1), c);
    __syncthreads();
    put_x(p.x, p.l, p.groups, ds);
    __syncthreads();
    x_by_rows(p.x, p.k, w.qp, w.qt, p.l, p.end, c);
    store<T>(w.c.dq, p.b, p.h, w.nq, w.qk, w.qt, p.l, scale_of(w, w.qt), c);
    xt_by_rows(p.x, p.q, w.qp, w.qt, p.l, first, last, c);
    store<T>(w.c.dk, p.b, p.g, w.nk, w.qk, w.qt, p.l, make_float4(1, 1, 1, 1), c);
}

int lanes_of(int columns)
{
    int n = 1;
    while (4 * n < columns) n *= 2;
    return n;
}

/* Does one tile hold the call, and do all levels cover what the first does? */
bool fits(const sti_attention_shape *s, int32_t dtype, const sti_attention_call *c)
{
    const sti_attention_part *p = &s->part[0];
    bool all = s->parts == 1 && !s->alibi && dtype != STRATA_F64 && s->d_qk <= TILE && s->d_v <= TILE &&
               c->q_time <= TILE && c->k_time <= TILE && (!s->causal || c->q_pos == c->k_pos);
    for (int l = 0; l < p->levels && all; l++) all = p->level[l].reach >= STI_NEVER;
    return all && c->batch * s->heads <= INT32_MAX;
}

job job_of(const sti_attention_shape *s, const sti_attention_call *c)
{
    const sti_attention_part *p = &s->part[0];
    job w = {};
    w.c = *c;
    w.heads = (int)s->heads, w.kv_heads = (int)s->kv_heads, w.causal = s->causal;
    w.qk = (int)s->d_qk, w.v = (int)s->d_v;
    w.qp = (w.qk + 3) / 4 * 4 + 4, w.vp = (w.v + 3) / 4 * 4 + 4;
    w.qt = lanes_of(w.qk), w.vt = lanes_of(w.v);
    w.nq = (int)c->q_time, w.nk = (int)c->k_time;
    for (int l = 0, at = 0; l < p->levels; l++)
        for (int i = 0; i < p->level[l].rank && at < TILE; i++)
            w.scale[at++] = (float)(p->level[l].scale * p->gain[p->levels]);
    return w;
}

void launch(const strata_context *ctx, void (*kernel)(job), const char *name, const job &w, int values)
{
    const size_t bytes = sizeof(float) * (size_t)(TILE * (XP + 2 * w.qp + values * w.vp));
    sti_cuda_note(sti_cuda_of(ctx),
                  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes), name);
    kernel<<<(unsigned)(w.c.batch * w.heads), THREADS, bytes, sti_stream(ctx)>>>(w);
    sti_launched(ctx, name);
}
} // namespace

extern "C" int sti_attention_short_forward(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                                           const sti_attention_call *c)
{
    if (!fits(s, dtype, c)) return 0;
    launch(ctx, dtype == STRATA_F32 ? forward<float> : forward<sti_bf16>, "short attention", job_of(s, c), 1);
    return 1;
}

extern "C" int sti_attention_short_backward(const strata_context *ctx, const sti_attention_shape *s, int32_t dtype,
                                            const sti_attention_call *c)
{
    if (!fits(s, dtype, c) || s->kv_heads != s->heads) return 0;
    launch(ctx, dtype == STRATA_F32 ? backward<float> : backward<sti_bf16>, "short attention gradient", job_of(s, c),
           2);
    return 1;
}
