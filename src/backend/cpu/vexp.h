#ifndef STI_VEXP_H
#define STI_VEXP_H
/* exp without branches or calls, so that a loop over it becomes vector code on every instruction set. */

#include <stdint.h>

/* e^x to a relative error of 1.5 eps for x in [-87.3, 88.3]; NaN stays NaN. x = n ln 2 + r with |r| <= ln 2 / 2, and
 * e^r = 1 + r + r^2 Q(r), Q fitted for the smallest relative error (3e-9). */
static inline float sti_vexpf_within(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, kept in the low bits */
    union {
        float f;
        int32_t i;
    } n = { x * 1.44269504f + magic }, two;
    const float k = n.f - magic;
    const float r = (x - k * 0.693145752f) - k * 1.42860677e-6f;
    float q = 1.38145674e-3f;
    q = q * r + 8.36873800e-3f;
    q = q * r + 4.16683890e-2f;
    q = q * r + 1.66665211e-1f;
    q = q * r + 4.99999940e-1f;
    two.i = (int32_t)(((uint32_t)n.i + 127u) << 23);
    return ((q * r) * r + r + 1.0f) * two.f;
}

/* The same for every x: clamped to that interval. */
static inline float sti_vexpf(float x)
{
    x = x < -87.3f ? -87.3f : x;
    x = x > 88.3f ? 88.3f : x;
    return sti_vexpf_within(x);
}

#endif
