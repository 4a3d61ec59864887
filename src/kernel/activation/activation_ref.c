/* The oracle: libm's functions in f32 and f64. f64 always runs it, f32 under isa=ref. */
#include <math.h>

#include "core/real.h"
#include "kernel/activation/activation_isa.h"

static inline float cdf_f32(float x, float *density)
{
    *density = 0.39894228040143268f * expf(-0.5f * x * x);
    return 0.5f * erfcf(-0.70710678118654752f * x);
}

static inline double cdf_f64(double x, double *density)
{
    *density = 0.39894228040143268 * exp(-0.5 * x * x);
    return 0.5 * erfc(-0.70710678118654752 * x);
}

#define REAL float
#define SFX _f32_ref
#define EXP(x) expf(x)
#define CDF(x, d) cdf_f32((x), (d))
#include "kernel/activation/activation.inc"
#undef REAL
#undef SFX
#undef EXP
#undef CDF
#define REAL double
#define SFX _f64_ref
#define EXP(x) exp(x)
#define CDF(x, d) cdf_f64((x), (d))
#include "kernel/activation/activation.inc"
