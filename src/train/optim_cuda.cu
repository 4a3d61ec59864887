/* AdamW on a device. All sums run in a fixed order: shares in turn, then over the shares by one block. */
#include "train/optim_cuda.h"

#include "backend/cuda/cuda.cuh"

namespace
{
enum { THREADS = 256 };

template <typename T> __global__ void loss_sums(const T *loss, int64_t rows, sti_step_sums *sums)
{
    __shared__ double shared[32];
    double total = 0, scored = 0;
    for (int64_t i = threadIdx.x; i < rows; i += blockDim.x) {
        if (loss[2 * i + 1] == T(0)) continue; /* what is not scored may hold anything */
        total += (double)loss[2 * i];
        scored += (double)loss[2 * i + 1];
    }
    total = sti_block_sum(total, shared);
    scored = sti_block_sum(scored, shared);
    if (threadIdx.x) return;
    sums->total += total;
    sums->scored += scored;
}

template <typename T> __global__ void squares(const sti_optim_piece *piece, const T *grads, double *partial)
{
    __shared__ double shared[32];
    const sti_optim_piece p = piece[blockIdx.x];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < p.count; i += blockDim.x) {
        const double g = (double)grads[p.first + i];
        sum += g * g;
    }
    sum = sti_block_sum(sum, shared);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void close_step(const double *partial, int64_t pieces, const sti_step_rule *rule, sti_step_sums *s)
{
    __shared__ double shared[32];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < pieces; i += blockDim.x) sum += partial[i];
    sum = sti_block_sum(sum, shared);
    if (threadIdx.x) return;
    const double mean = 1 / rule->accum, norm = mean * sqrt(sum), loss = s->scored > 0 ? s->total / s->scored : 0;
    if (s->failed == 0) {
        s->loss = loss;
        s->norm = norm;
        if (!isfinite(loss) || !isfinite(norm)) {
            s->failed = rule->step;
        } else {
            s->loss_sum += loss;
            s->steps += 1;
            s->scale = mean * (rule->clip > 0 && norm > rule->clip ? rule->clip / norm : 1);
        }
    }
    s->total = s->scored = 0;
}

template <typename T> struct numbers { /* of one share */
    T scale, b1, c1, b2, c2, m_hat, v_hat, eps;
};

template <typename T> __device__ __forceinline__ T adamw(const numbers<T> &n, T rate, T decay, T g, T w, T &m, T &v)
{
    const T x = n.scale * g;
    m = n.b1 * m + n.c1 * x;
    v = n.b2 * v + n.c2 * x * x;
    return w - (rate * (n.m_hat * m / (sqrt(n.v_hat * v) + n.eps)) + decay * w);
}

template <typename T>
__global__ void update(const sti_optim_piece *piece, const double *factors, const sti_step_rule *rule,
                       const sti_step_sums *sums, T *grads, T *params, T *m, T *v, sti_bf16 *compute)
{
    enum { V = 16 / sizeof(T) };
    if (sums->failed != 0) return;
    const sti_optim_piece p = piece[blockIdx.x];
    const double lr = rule->lr * p.lr_mult, decay = p.decay ? lr * rule->weight_decay : 0;
    const numbers<T> n = { (T)sums->scale,       (T)rule->beta1, (T)(1 - rule->beta1), (T)rule->beta2,
                           (T)(1 - rule->beta2), (T)rule->m_hat, (T)rule->v_hat,       (T)rule->eps };
    const int64_t whole = p.columns < 0 ? p.count / V * V : 0;
    for (int64_t i = (int64_t)threadIdx.x * V; i < whole; i += (int64_t)blockDim.x * V) { /* 16 bytes at a time */
        const int64_t at = p.first + i;
        typedef sti_vec<T, V> vec;
        const vec g = *(const vec *)(grads + at);
        vec w = *(const vec *)(params + at), a = *(const vec *)(m + at), b = *(const vec *)(v + at), zero;
#pragma unroll
        for (int k = 0; k < V; k++) {
            w.x[k] = adamw(n, (T)lr, (T)decay, g.x[k], w.x[k], a.x[k], b.x[k]);
            zero.x[k] = T(0);
        }
        *(vec *)(params + at) = w;
        *(vec *)(m + at) = a;
        *(vec *)(v + at) = b;
        *(vec *)(grads + at) = zero;
        if (compute) {
            sti_vec<sti_bf16, V> c;
#pragma unroll
            for (int k = 0; k < V; k++) c.x[k] = __float2bfloat16_rn((float)w.x[k]);
            *(sti_vec<sti_bf16, V> *)(compute + at) = c;
        }
    }
    for (int64_t i = whole + threadIdx.x; i < p.count; i += blockDim.x) {
        const int64_t at = p.first + i;
        const double f = p.columns < 0 ? 1 : factors[p.columns + (p.column + i) % p.width];
        const T w = adamw(n, (T)(lr * f), (T)(decay * f), grads[at], params[at], m[at], v[at]);
        params[at] = w;
        grads[at] = T(0);
        if (compute) compute[at] = __float2bfloat16_rn((float)w);
    }
}
} // namespace

extern "C" void sti_step_loss_cuda(const strata_context *ctx, int32_t type, int64_t rows, const void *loss,
                                   sti_step_sums *sums)
{
    if (type == STRATA_F64)
        loss_sums<<<1, 1024, 0, sti_stream(ctx)>>>((const double *)loss, rows, sums);
    else
        loss_sums<<<1, 1024, 0, sti_stream(ctx)>>>((const float *)loss, rows, sums);
    sti_launched(ctx, "loss sums");
}

extern "C" void sti_step_close_cuda(const strata_context *ctx, int32_t type, const sti_optim_table *t,
                                    const void *grads, const sti_step_rule *rule, sti_step_sums *sums)
{
    const unsigned blocks = (unsigned)t->pieces;
    if (blocks && type == STRATA_F64)
        squares<<<blocks, THREADS, 0, sti_stream(ctx)>>>(t->piece, (const double *)grads, t->partial);
    else if (blocks)
        squares<<<blocks, THREADS, 0, sti_stream(ctx)>>>(t->piece, (const float *)grads, t->partial);
    close_step<<<1, 1024, 0, sti_stream(ctx)>>>(t->partial, t->pieces, rule, sums);
    sti_launched(ctx, "gradient norm");
}

extern "C" void sti_step_update_cuda(const strata_context *ctx, int32_t type, const sti_optim_table *t,
                                     const sti_step_rule *rule, const sti_step_sums *sums, void *grads, void *params,
                                     void *m, void *v, void *compute)
{
    const unsigned blocks = (unsigned)t->pieces;
    if (!blocks) return;
    if (type == STRATA_F64)
        update<<<blocks, THREADS, 0, sti_stream(ctx)>>>(t->piece, t->factors, rule, sums, (double *)grads,
                                                        (double *)params, (double *)m, (double *)v,
                                                        (sti_bf16 *)compute);
    else
        update<<<blocks, THREADS, 0, sti_stream(ctx)>>>(t->piece, t->factors, rule, sums, (float *)grads,
                                                        (float *)params, (float *)m, (float *)v, (sti_bf16 *)compute);
    sti_launched(ctx, "adamw");
}
