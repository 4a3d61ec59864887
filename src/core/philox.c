#include "core/philox.h"

#include <math.h>

void sti_philox(uint64_t key, uint64_t stream, uint64_t index, uint32_t out[4])
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static double unit(uint32_t hi, uint32_t lo) /* [0, 1) with 53 bits */
{
    return (double)((((uint64_t)hi << 32) | lo) >> 11) * 0x1p-53;
}

double sti_uniform(uint64_t key, uint64_t stream, uint64_t index)
{
    uint32_t r[4];
    sti_philox(key, stream, index, r);
    return unit(r[0], r[1]);
}

double sti_normal(uint64_t key, uint64_t stream, uint64_t index)
{
    uint32_t r[4];
    sti_philox(key, stream, index, r);
    double u = 1.0 - unit(r[0], r[1]); /* (0, 1]: the logarithm is finite */
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * unit(r[2], r[3]));
}

uint64_t sti_below(uint64_t key, uint64_t stream, uint64_t index, uint64_t n)
{
    uint32_t r[4];
    sti_philox(key, stream, index, r);
    uint64_t x = ((uint64_t)r[0] << 32) | r[1];
    /* high 64 bits of x * n, in 32-bit halves (ISO C has no 128-bit integer) */
    uint64_t xl = (uint32_t)x, xh = x >> 32, nl = (uint32_t)n, nh = n >> 32;
    uint64_t mid = xh * nl + (xl * nl >> 32), mid2 = xl * nh + (uint32_t)mid;
    return xh * nh + (mid >> 32) + (mid2 >> 32);
}
