#ifndef STI_ATTENTION_ENGINE_H
#define STI_ATTENTION_ENGINE_H
/* What plan, variants and cache share inside the component. */

#include "kernel/attention/attention.h"
#include "kernel/attention/range.h"

typedef struct sti_attention_steps { /* one new token for each of `batch` sequences */
    unsigned char *cache;
    size_t stride;
    const int64_t *pos;
    int64_t batch;
    sti_attention_array q, k, v, o;
    void *work;
} sti_attention_steps;

/* One instruction set and one type. */
typedef struct sti_attention_kernel {
    const char *name;
    sti_isa isa; /* least the context must allow */
    size_t (*work)(const sti_attention_plan *p);
    void (*forward)(const sti_attention_plan *p, const sti_attention_call *c);
    void (*backward)(const sti_attention_plan *p, const sti_attention_call *c);
    void (*append)(const sti_attention_plan *p, unsigned char *cache, int64_t pos, int64_t n,
                   const sti_attention_array *k, const sti_attention_array *v);
    void (*step)(const sti_attention_plan *p, const sti_attention_steps *s);
} sti_attention_kernel;

enum { STI_ATTENTION_TYPES = 3 }; /* f32, f64; bf16, which `ref` has not */
extern const sti_attention_kernel sti_attention_ref[STI_ATTENTION_TYPES], sti_attention_c[STI_ATTENTION_TYPES];
#if STRATA_X86
extern const sti_attention_kernel sti_attention_avx2[STI_ATTENTION_TYPES], sti_attention_avx512[STI_ATTENTION_TYPES];
#endif

/* Forward and backward with products of bf16, from arrays of bf16 or f32. */
#if STRATA_HAVE_AVX512BF16
extern const sti_attention_kernel sti_attention_avx512bf16;
#endif
#if STRATA_HAVE_AMX
extern const sti_attention_kernel sti_attention_amx;
#endif

struct sti_attention_plan {
    const strata_context *ctx; /* shared */
    const sti_attention_kernel *kernel;
    const sti_attention_kernel *narrow; /* forward and backward, where products are of bf16; else NULL: `kernel`'s */
    sti_attention_shape shape;          /* a gain that is the same at every depth is folded into the scales */
    int32_t dtype, train;
    int32_t half;                         /* 1: arrays are bf16 and lse f32; the f32 kernels widen and narrow */
    int32_t varies[STI_ATTENTION_PARTS];  /* 1: the gain depends on the depth */
    int32_t vlevels[STI_ATTENTION_PARTS]; /* levels up to the last that has value columns */
    int64_t batch, q_time, k_time;
    int64_t capacity; /* of the caches, on a device: nobody there reads their headers */
    size_t work;
};

#if STRATA_HAVE_CUDA
/* The variant that runs a plan on its device; all but plan->kernel and plan->work is set. @return OK | E_UNSUPPORTED */
strata_status sti_attention_device_kernel(const sti_attention_plan *p, const sti_attention_kernel **out);
#endif

/* ---- cache ------------------------------------------------------------------------------------------------------ */

typedef struct sti_cache_head { /* first 64 bytes of a cache */
    uint64_t magic;
    int64_t capacity;
    uint64_t reserved[6];
} sti_cache_head;

/* Layout for a capacity; false when the sizes overflow. */
bool sti_attention_cache_layout(const sti_attention_plan *p, int64_t capacity, sti_cache_layout *l);

/* A step splits each cache so that about 16 pieces of work are there, and no piece is short. */
enum { STI_STEP_UNITS = 16, STI_STEP_LENGTH = 1024 };
static inline int64_t sti_attention_splits(int64_t pairs)
{
    return pairs < STI_STEP_UNITS ? (STI_STEP_UNITS + pairs - 1) / pairs : 1;
}
static inline int64_t sti_attention_split_length(int64_t n, int64_t splits) /* whole STI_STEP_LENGTH */
{
    return ((n + splits - 1) / splits + STI_STEP_LENGTH - 1) / STI_STEP_LENGTH * STI_STEP_LENGTH;
}
static inline int64_t sti_attention_step_width(const sti_attention_plan *p)
{
    return (p->shape.d_v + 2 + 15) / 16 * 16;
}
static inline int64_t sti_attention_step_rows(const sti_attention_plan *p) /* elements */
{
    int64_t pairs = p->batch * p->shape.kv_heads, units = STI_MAX(pairs, 2 * STI_STEP_UNITS);
    return units * (p->shape.heads / p->shape.kv_heads) * p->shape.parts * sti_attention_step_width(p);
}

/* The same and, where the cache is bf16, a row of q or o for every head. */
static inline int64_t sti_attention_step_work(const sti_attention_plan *p)
{
    const int64_t wide = p->half ? p->batch * p->shape.heads * STI_MAX(p->shape.d_qk, p->shape.d_v) : 0;
    return sti_attention_step_rows(p) + wide;
}

/* Threads a call may use: the context's, 1 inside a parallel region. */
int sti_attention_threads(const sti_attention_plan *p);

#endif
