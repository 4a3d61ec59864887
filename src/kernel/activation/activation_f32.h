#ifndef STI_ACTIVATION_F32_H
#define STI_ACTIVATION_F32_H
/* Distribution function of the standard normal in f32, branch-free: P(x) = 1 - q(|x|) or q(|x|), with
 * q(x) = exp(-x^2/2) t p(t), t = 1/(1 + x/4), p a polynomial fitted for the smallest absolute error (4e-9). */

#include <math.h>

#include "backend/cpu/vexp.h"

static inline float sti_cdf_f32(float x, float *density)
{
    const float a = fabsf(x), e = sti_vexpf(-0.5f * x * x), t = 1.0f / (1.0f + 0.25f * a);
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

#define EXP(x) sti_vexpf(x)
#define CDF(x, d) sti_cdf_f32((x), (d))
#define REAL float

#endif
