#ifndef STI_PHILOX_H
#define STI_PHILOX_H
/* Philox4x32-10 (Salmon et al., SC11): key = seed, counter = (stream, index). Stateless, so any element can be drawn
 * alone. */

#include <stdint.h>

void sti_philox(uint64_t key, uint64_t stream, uint64_t index, uint32_t out[4]);
/* Element `index` of a stream: uniform in [0, 1) with 53 bits, or standard normal (Box-Muller on the same block). */
double sti_uniform(uint64_t key, uint64_t stream, uint64_t index);
double sti_normal(uint64_t key, uint64_t stream, uint64_t index);
/* Uniform integer in [0, n), n >= 1 (multiply-shift on 64 bits; bias below n / 2^64). */
uint64_t sti_below(uint64_t key, uint64_t stream, uint64_t index, uint64_t n);

#endif
