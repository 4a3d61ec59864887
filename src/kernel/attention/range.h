#ifndef STI_ATTENTION_RANGE_H
#define STI_ATTENTION_RANGE_H
/* Which positions meet, and where a cache keeps them: plain structs and inline functions, also for CUDA sources. */

#include <stddef.h>

#include "kernel/attention/shape.h"

#ifdef __CUDACC__
#define STI_RANGE static inline __host__ __device__
#else
#define STI_RANGE static inline
#endif

/* ---- intervals -------------------------------------------------------------------------------------------------- */

enum { STI_FAR = 62 };
#define STI_NEVER ((int64_t)1 << STI_FAR) /* beyond every position */

typedef struct sti_interval {
    int64_t lo, hi; /* [lo, hi) */
} sti_interval;

STI_RANGE sti_interval sti_meet(sti_interval a, sti_interval b)
{
    sti_interval r;
    r.lo = a.lo > b.lo ? a.lo : b.lo;
    r.hi = a.hi < b.hi ? a.hi : b.hi;
    return r;
}

/* Positions on the other side that level `l` (from 0) joins with position p: keys of query p, or queries of key p.
 * Both ends grow with p. */
STI_RANGE sti_interval sti_attention_range(const sti_attention_part *part, int causal, int l, int64_t p, int of_key)
{
    int64_t reach = part->level[0].reach;
    sti_interval r, near;
    r.lo = reach < STI_NEVER ? p - reach + 1 : -STI_NEVER;
    r.hi = reach < STI_NEVER ? p + reach : STI_NEVER;
    if (causal && of_key) r.lo = p;
    if (causal && !of_key) r.hi = p + 1;
    if (l == 0) return r;
    reach = part->level[l].reach;
    if (reach >= STI_NEVER) return r;
    near.lo = part->blocks ? p / reach * reach : p - reach + 1;
    near.hi = part->blocks ? near.lo + reach : p + reach;
    return sti_meet(r, near);
}

/* ---- cache layout ----------------------------------------------------------------------------------------------- */

typedef struct sti_cache_slab {
    size_t offset; /* bytes from the start of the cache */
    int64_t slots;
} sti_cache_slab;

/* On a device a slab holds blocks of 64 positions, each (column, position): element of `column` (counted from the first
 * column of the softmax, of which `at` starts the level) and `slot`, from the start of key head 0's share. Neighbouring
 * vectors of 8 positions are swizzled, so that a block in shared memory reads without bank conflicts. */
enum { STI_CACHE_BLOCK = 64 };
STI_RANGE int64_t sti_cache_element(int64_t slots, int64_t rank, int64_t head, int64_t at, int64_t column, int64_t slot)
{
    const int64_t block = head * (slots / STI_CACHE_BLOCK) + slot / STI_CACHE_BLOCK, n = slot % STI_CACHE_BLOCK;
    return (block * rank + column - at) * STI_CACHE_BLOCK + (((n / 8) ^ (column & 7)) * 8) + n % 8;
}

typedef struct sti_cache_layout {
    sti_cache_slab k[STI_ATTENTION_PARTS][STI_ATTENTION_LEVELS], v[STI_ATTENTION_LEVELS];
    size_t bytes, payload;
    size_t arrived; /* on a device: offset of counters, one for each head, that a step leaves at 0 */
    int64_t limit;  /* positions from here on do not fit; STI_NEVER when everything is a ring */
} sti_cache_layout;

#endif
