/* Elementwise nonlinearities on a device. One read of every input, one write of every output; f32 and f64 with accurate
 * functions, bf16 with the processor's own exp2 and reciprocal (errors near 1e-6, far below bf16's rounding). */
#include "backend/cuda/stream.cuh"
#include "kernel/activation/activation_cuda.h"

namespace
{
enum { GELU, GELU_TANH, RELU, SILU }; /* sti_act */

/* exp(x) and 1/x, by the type of the elements */
template <typename T> struct maths {
    static __device__ __forceinline__ float exp_of(float x) { return expf(x); }
    static __device__ __forceinline__ float inverse(float x) { return 1.0f / x; }
};
template <> struct maths<sti_bf16> {
    static __device__ __forceinline__ float exp_of(float x) { return __expf(x); }
    static __device__ __forceinline__ float inverse(float x) { return __fdividef(1.0f, x); }
};
template <> struct maths<double> {
    static __device__ __forceinline__ double exp_of(double x) { return exp(x); }
    static __device__ __forceinline__ double inverse(double x) { return 1.0 / x; }
};

/* 1/(1 + exp(-x)), exp held within what its inverse and its square survive; NaN is handed on */
template <typename T> __device__ __forceinline__ sti_sum_t<T> sigmoid(sti_sum_t<T> x)
{
    typedef sti_sum_t<T> S;
    const S t = x < S(-60) ? S(-60) : x;
    return maths<T>::inverse(S(1) + maths<T>::exp_of(-t));
}

/* Distribution function of the standard normal: P(x) = 1 - q(|x|) or q(|x|), q(x) = exp(-x^2/2) t p(t), t = 1/(1 +
 * x/4); the polynomial is that of activation_f32.h (absolute error 4e-9). */
template <typename T> struct normal {
    static __device__ __forceinline__ float cdf(float x, float *density)
    {
        const float e = maths<T>::exp_of(-0.5f * x * x), t = maths<T>::inverse(1.0f + 0.25f * fabsf(x));
        float p = -0.09151935f;
        p = p * t + 0.34098193f;
        p = p * t - 0.26524911f;
        p = p * t + 0.27878302f;
        p = p * t + 0.02652871f;
        p = p * t + 0.11156446f;
        p = p * t + 0.09891034f;
        const float q = e * t * p;
        *density = 0.398942280f * e;
        return x < 0 ? q : 1.0f - q;
    }
};
template <> struct normal<double> {
    static __device__ __forceinline__ double cdf(double x, double *density)
    {
        *density = 0.39894228040143268 * exp(-0.5 * x * x);
        return 0.5 * erfc(-0.70710678118654752 * x);
    }
};

/* f(x), and f'(x) in *d; the formulas of activation.inc */
template <typename T, int act> __device__ __forceinline__ sti_sum_t<T> f_of(sti_sum_t<T> x, sti_sum_t<T> *d)
{
    typedef sti_sum_t<T> S;
    if (act == RELU) {
        *d = x > S(0) ? S(1) : S(0);
        return x > S(0) ? x : x * S(0);
    }
    if (act == GELU) {
        S density;
        const S p = normal<T>::cdf(x, &density);
        *d = p + x * density;
        return x * p;
    }
    if (act == SILU) {
        const S s = sigmoid<T>(x);
        *d = s + x * s * (S(1) - s);
        return x * s;
    }
    const S a = S(1.5957691216057308), b = S(0.071354816272600239);
    const S s = sigmoid<T>(x * (a + b * x * x));
    /* s(1-s) is 0 to rounding where x^3 could overflow */
    const S slope = s * (S(1) - s);
    *d = slope > S(0) ? s + x * slope * (a + S(3) * b * x * x) : s;
    return x * s;
}

template <typename T, int act> struct value {
    __device__ __forceinline__ void operator()(const sti_sum_t<T> (&in)[1], sti_sum_t<T> (&out)[1]) const
    {
        sti_sum_t<T> d;
        out[0] = f_of<T, act>(in[0], &d);
    }
};

/* in: x, dy, old dx */
template <typename T, int act> struct gradient {
    __device__ __forceinline__ void operator()(const sti_sum_t<T> (&in)[3], sti_sum_t<T> (&out)[1]) const
    {
        sti_sum_t<T> d;
        (void)f_of<T, act>(in[0], &d);
        out[0] = d * in[1] + in[2];
    }
};

template <typename T> struct gate {
    __device__ __forceinline__ void operator()(const sti_sum_t<T> (&in)[2], sti_sum_t<T> (&out)[1]) const
    {
        sti_sum_t<T> d;
        out[0] = f_of<T, SILU>(in[0], &d) * in[1];
    }
};

/* in: a, b, dy, old da, old db */
template <typename T> struct gate_gradient {
    __device__ __forceinline__ void operator()(const sti_sum_t<T> (&in)[5], sti_sum_t<T> (&out)[2]) const
    {
        sti_sum_t<T> d;
        const sti_sum_t<T> f = f_of<T, SILU>(in[0], &d);
        out[0] = d * in[1] * in[2] + in[3];
        out[1] = f * in[2] + in[4];
    }
};

template <typename T, int act> void forward_of(const strata_context *ctx, int64_t n, const void *x, void *y)
{
    sti_map<T, 1, 1>(ctx, "activation", { { (const T *)x }, { (T *)y }, n, false }, value<T, act>());
}

template <typename T> void forward(const strata_context *ctx, int act, int64_t n, const void *x, void *y)
{
    switch (act) {
    case GELU: forward_of<T, GELU>(ctx, n, x, y); break;
    case GELU_TANH: forward_of<T, GELU_TANH>(ctx, n, x, y); break;
    case RELU: forward_of<T, RELU>(ctx, n, x, y); break;
    default: forward_of<T, SILU>(ctx, n, x, y); break;
    }
}

template <typename T, int act>
void backward_of(const strata_context *ctx, int64_t n, const void *x, const void *dy, void *dx, int acc)
{
    sti_map<T, 3, 1>(ctx, "activation",
                     { { (const T *)x, (const T *)dy, acc ? (const T *)dx : nullptr }, { (T *)dx }, n, false },
                     gradient<T, act>());
}

template <typename T>
void backward(const strata_context *ctx, int act, int64_t n, const void *x, const void *dy, void *dx, int acc)
{
    switch (act) {
    case GELU: backward_of<T, GELU>(ctx, n, x, dy, dx, acc); break;
    case GELU_TANH: backward_of<T, GELU_TANH>(ctx, n, x, dy, dx, acc); break;
    case RELU: backward_of<T, RELU>(ctx, n, x, dy, dx, acc); break;
    default: backward_of<T, SILU>(ctx, n, x, dy, dx, acc); break;
    }
}

template <typename T> void gate_forward(const strata_context *ctx, int64_t n, const void *a, const void *b, void *y)
{
    sti_map<T, 2, 1>(ctx, "gate", { { (const T *)a, (const T *)b }, { (T *)y }, n, false }, gate<T>());
}

template <typename T>
void gate_backward(const strata_context *ctx, int64_t n, const void *a, const void *b, const void *dy, void *da,
                   int acca, void *db, int accb)
{
    const sti_map_args<T, 5, 2> args = { { (const T *)a, (const T *)b, (const T *)dy, acca ? (const T *)da : nullptr,
                                           accb ? (const T *)db : nullptr },
                                         { (T *)da, (T *)db },
                                         n,
                                         false };
    sti_map<T, 5, 2>(ctx, "gate", args, gate_gradient<T>());
}
} // namespace

extern "C" void sti_act_forward_cuda(const strata_context *ctx, int32_t dtype, int act, int64_t n, const void *x,
                                     void *y)
{
    STI_CUDA_TYPES(dtype, forward, ctx, act, n, x, y);
}

extern "C" void sti_act_backward_cuda(const strata_context *ctx, int32_t dtype, int act, int64_t n, const void *x,
                                      const void *dy, void *dx, int acc)
{
    STI_CUDA_TYPES(dtype, backward, ctx, act, n, x, dy, dx, acc);
}

extern "C" void sti_gate_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t n, const void *a, const void *b,
                                      void *y)
{
    STI_CUDA_TYPES(dtype, gate_forward, ctx, n, a, b, y);
}

extern "C" void sti_gate_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t n, const void *a,
                                       const void *b, const void *dy, void *da, int acca, void *db, int accb)
{
    STI_CUDA_TYPES(dtype, gate_backward, ctx, n, a, b, dy, da, acca, db, accb);
}
