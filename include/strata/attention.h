#ifndef STRATA_ATTENTION_H
#define STRATA_ATTENTION_H
/* Fused softmax attention with structured scores: q, k, v in, o and log-sum-exp out; no model needed.
 *
 *   strata_attention_problem p = { STRATA_INIT(strata_attention_problem), .batch = 2, .heads = 8, .q_time = 1024,
 *                                  .d_qk = 64, .d_v = 64 };
 *   strata_attention *att = NULL;
 *   strata_attention_create(ctx, "score=mlr ranks=32,16,16 gain=count", &p, &att);
 *   strata_attention_forward(att, &q, &k, &v, &o, &lse, NULL);
 *
 * Tensors are (batch, heads, time, dim) views with any strides whose last dimension is contiguous, so that a
 * (batch, time, heads, dim) array needs no copy. Query head h reads key head floor(h * kv_heads / heads).
 * Memory beyond inputs and outputs is O(time). Scores and keys of the spec: docs/keys.
 *
 * On a context with device=cuda every tensor, cache and workspace is device memory (tensors say device=STRATA_CUDA,
 * else E_DEVICE), and calls return when their work is queued. */

#include <strata/context.h>
#include <strata/tensor.h>

STRATA_BEGIN

typedef struct strata_attention strata_attention;

typedef struct strata_attention_problem {
    size_t size;                   /* STRATA_INIT(strata_attention_problem); every 0 below is a default */
    int64_t batch;                 /* largest batch of a call */
    int64_t heads, kv_heads;       /* kv_heads 0: heads */
    int64_t q_time, k_time;        /* largest lengths of a call; k_time 0: q_time */
    int64_t d_qk, d_v;             /* d_v 0: d_qk */
    int64_t q_pos, k_pos;          /* absolute position of the first query and of the first key */
    int64_t context;               /* length that default block lists divide; 0: q_pos + q_time */
    int32_t dtype;                 /* 0: STRATA_F32; STRATA_F64; STRATA_BF16 (lse and sums f32; the cache bf16) */
    int32_t train;                 /* 1: backward will be called */
    const int64_t *cu_seqlens;     /* packed sequences: E_UNSUPPORTED unless NULL */
    const strata_tensor *key_bias; /* (batch, k_time) added to the scaled scores: E_UNSUPPORTED unless NULL */
} strata_attention_problem;

typedef struct strata_attention_info {
    size_t size;
    size_t work;                 /* workspace bytes of forward, backward and step, whichever is largest */
    double flops_fwd, flops_bwd; /* of the whole problem: contracts: the pairs in the mask exactly */
    double pairs;                /* visible (query, key) pairs of one head */
    int32_t lse_parts;           /* 1; 2 for gswa form=two, whose lse has a leading axis of 2 */
    int32_t levels;
} strata_attention_info;

/** What is wrong with a spec whatever the sizes. @return OK | E_SPEC. Threads: any. */
STRATA_API strata_status strata_attention_check(const char *spec);
/** Plan attention. @param spec keys only: "score=mlr ranks=16,8,8 causal=1"
 *  @return OK | E_SPEC | E_SHAPE (spec does not fit the sizes) | E_DTYPE | E_UNSUPPORTED | E_MEMORY */
STRATA_API strata_status strata_attention_create(const strata_context *ctx, const char *spec,
                                                 const strata_attention_problem *problem, strata_attention **out);
STRATA_API void strata_attention_destroy(strata_attention *a); /* accepts NULL */
STRATA_API strata_status strata_attention_query(const strata_attention *a, strata_attention_info *info);
/** Canonical keys (borrowed), all resolved: blocks, ranks, scale. */
STRATA_API const char *strata_attention_spec(const strata_attention *a);
/** Name of the kernel variant that runs: "c", "avx2", "avx512", "ref"; on a device "sm90" (tensor cores) or "cuda". */
STRATA_API const char *strata_attention_variant(const strata_attention *a);

/** o = softmax(S) v, lse = log sum exp S. A row with no visible key gives o = 0, lse = -inf.
 *  @param q (b, heads, tq, d_qk)  @param k (b, kv_heads, tk, d_qk)  @param v (b, kv_heads, tk, d_v)
 *  @param o [out] (b, heads, tq, d_v)  @param lse [out] (b, heads, tq), or (2, b, heads, tq); NULL: not wanted
 *  @param work info.work bytes aligned to 64, or NULL for the plan's own (then one thread at a time)
 *  Shapes may be smaller than the planned ones. @return OK | E_SHAPE | E_DTYPE | E_INVALID. Allocates: never. */
STRATA_API strata_status strata_attention_forward(const strata_attention *a, const strata_tensor *q,
                                                  const strata_tensor *k, const strata_tensor *v,
                                                  const strata_tensor *o, const strata_tensor *lse, void *work);
/** dq, dk, dv = gradients of <do, o>; all three are set. o and lse are those of forward. Deterministic. */
STRATA_API strata_status strata_attention_backward(const strata_attention *a, const strata_tensor *q,
                                                   const strata_tensor *k, const strata_tensor *v,
                                                   const strata_tensor *o, const strata_tensor *lse,
                                                   const strata_tensor *dout, const strata_tensor *dq,
                                                   const strata_tensor *dk, const strata_tensor *dv, void *work);

/** The cache of one sequence: a relocatable block without pointers; copying it forks a generation. Level 1 keys (and
 *  values) grow to `capacity` tokens, deeper levels are rings of min(b_l, capacity) tokens, windows rings of w + 1.
 *  On a device the capacity must be the problem's k_time, else E_UNSUPPORTED.
 *  @param bytes of the block  @param payload [NULL: not wanted] bytes of the formula, alignment padding apart */
STRATA_API strata_status strata_attention_cache_size(const strata_attention *a, int64_t capacity, size_t *bytes,
                                                     size_t *payload);
/** Make an empty cache. @param cache of cache_size bytes, aligned to 64 */
STRATA_API strata_status strata_attention_cache_init(const strata_attention *a, int64_t capacity, void *cache);
/** Append keys and values of new tokens of one sequence, at positions pos, pos + 1, … (pos = tokens already there).
 *  @param k (kv_heads, n, d_qk)  @param v (kv_heads, n, d_v) */
STRATA_API strata_status strata_attention_cache_append(const strata_attention *a, void *cache, int64_t pos,
                                                       const strata_tensor *k, const strata_tensor *v);
/** One new token per sequence: append its key and value, then attend. Equals the last row of forward.
 *  @param cache sequence 0's block; sequence b's lies b * stride bytes further  @param pos (batch) position of the new
 * token
 *  @param q (b, heads, d_qk)  @param k (b, kv_heads, d_qk)  @param v (b, kv_heads, d_v)  @param o [out] (b, heads, d_v)
 *  @return OK | E_SHAPE | E_DTYPE | E_SPACE (cache full). Needs causal=1. */
STRATA_API strata_status strata_attention_step(const strata_attention *a, void *cache, size_t stride,
                                               const int64_t *pos, const strata_tensor *q, const strata_tensor *k,
                                               const strata_tensor *v, const strata_tensor *o, void *work);

STRATA_END
#endif
