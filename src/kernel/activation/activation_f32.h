#ifndef STI_ACTIVATION_F32_H
#define STI_ACTIVATION_F32_H
/* The two functions that the f32 loops are built on. */

#include <math.h>

#include "backend/cpu/vexp.h"

/* exp held within e^-60 … e^60: beyond, every result here is its limit to f32 rounding, and products stay normal
 * numbers (compilers multiply by the clamped value in all lanes before they select, and denormals would cost 100
 * cycles). */
static inline float sti_exp60_f32(float x)
{
    x = x < -60.0f ? -60.0f : x;
    return sti_vexpf_within(x > 60.0f ? 60.0f : x);
}

/* Distribution function of the standard normal in f32, branch-free: P(x) = 1 - q(|x|) or q(|x|), with
 * q(x) = exp(-x^2/2) t p(t), t = 1/(1 + x/4), p a polynomial fitted for the smallest absolute error (4e-9). */
static inline float sti_cdf_f32(float x, float *density)
{
    const float a = fabsf(x), e = sti_exp60_f32(-0.5f * x * x), t = 1.0f / (1.0f + 0.25f * a);
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

#define EXP(x) sti_exp60_f32(x)
#define CDF(x, d) sti_cdf_f32((x), (d))
#define REAL float

#endif
