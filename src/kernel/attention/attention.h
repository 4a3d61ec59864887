#ifndef STI_ATTENTION_H
#define STI_ATTENTION_H
/* Softmax attention whose scores are sums of levels. Two halves meet in sti_attention_shape: the scorings (score_*.c)
 * turn keys into a shape, the tile engine (attention.inc) runs shapes and knows nothing of names. */

#include <strata/attention.h>
#include <strata/schema.h>

#include "core/context.h"
#include "core/spec.h"
#include "kernel/attention/shape.h"

/* ---- keys ----------------------------------------------------------------------------------------------------- */

/* The rows that a key table needs for a scoring are in keys.def. */

typedef struct sti_attention_sizes { /* what keys are resolved against */
    int64_t heads, kv_heads, d_qk, d_v;
    int64_t context; /* default block lists divide the power of two not below it */
} sti_attention_sizes;

/* What is wrong with the keys whatever the sizes: E_SPEC. `v` is bound to a table that includes keys.def. */
strata_status sti_attention_check(const sti_values *v);
/* Check, then describe the scoring in *shape and write the resolved defaults (ranks, blocks, gain, …) back into `v`.
 * E_SPEC, or E_SHAPE when the keys do not fit the sizes. bilinear-mlr expects d_qk = sum r_l 2^(l-1) (one feature per
 * rank and chunk); bilinear-btt expects d_qk = D. */
strata_status sti_attention_resolve(sti_values *v, const sti_attention_sizes *n, sti_attention_shape *shape);

/* ---- plan and calls --------------------------------------------------------------------------------------------- */

typedef struct sti_attention_plan sti_attention_plan;

/* Plan for the largest batch and lengths. The variant follows ctx->isa, or the device. f32, f64, or bf16 (arrays and
 * cache bf16, lse and sums f32); else E_DTYPE. On a device all arrays are device memory. */
strata_status sti_attention_plan_create(const strata_context *ctx, const sti_attention_shape *shape, int32_t dtype,
                                        int64_t batch, int64_t q_time, int64_t k_time, int32_t train,
                                        sti_attention_plan **out);
void sti_attention_plan_destroy(sti_attention_plan *p); /* accepts NULL */
const sti_attention_shape *sti_attention_plan_shape(const sti_attention_plan *p);
/* Tokens of the caches that append and step will meet, where it is not k_time. A device does not read their headers. */
void sti_attention_plan_capacity(sti_attention_plan *p, int64_t capacity);
size_t sti_attention_work(const sti_attention_plan *p); /* bytes, O(time) */
const char *sti_attention_variant_name(const sti_attention_plan *p);

/* Never allocate, never fail; distinct outputs and work: any number of threads at once. */
void sti_attention_forward(const sti_attention_plan *p, const sti_attention_call *c);
void sti_attention_backward(const sti_attention_plan *p, const sti_attention_call *c);

/* FLOPs of one forward and one backward, and visible pairs of one head (contracts: exact counts). */
typedef struct sti_attention_cost {
    double flops_fwd, flops_bwd, pairs, exps;
} sti_attention_cost;
sti_attention_cost sti_attention_count(const sti_attention_shape *s, int64_t batch, int64_t q_time, int64_t k_time,
                                       int64_t q_pos, int64_t k_pos);

/* Every variant that the context allows, beside `ref`; one call of fn for each. OK | E_NUMERIC. */
strata_status sti_attention_selftest(const strata_context *ctx, strata_selftest_fn fn, void *user);

/* ---- decoding ----------------------------------------------------------------------------------------------------
 * The cache of one sequence: a header of 64 bytes, then one slab per key level and value level, each aligned to 64:
 * keys (kv_heads, rank, slots), values (kv_heads, slots, vrank); position j lives in slot j mod slots and slots =
 * min(reach, capacity). Zeroed memory is not a cache: init writes the header. On a device the header stays zero, a
 * counter for each head follows that is zero between steps, the capacity is the plan's, and slabs are laid out in
 * blocks (range.h). */
strata_status sti_attention_cache_size(const sti_attention_plan *p, int64_t capacity, size_t *bytes, size_t *payload);
strata_status sti_attention_cache_init(const sti_attention_plan *p, int64_t capacity, void *cache);
/* k, v: (head, time) strides are used. E_SPACE when a level that never forgets would pass the capacity. */
strata_status sti_attention_cache_append(const sti_attention_plan *p, void *cache, int64_t pos, int64_t n,
                                         const sti_attention_array *k, const sti_attention_array *v);
/* One token for each of `batch` sequences (batch and head strides are used); E_UNSUPPORTED unless causal. */
strata_status sti_attention_step(const sti_attention_plan *p, void *cache, size_t stride, const int64_t *pos,
                                 int64_t batch, const sti_attention_array *q, const sti_attention_array *k,
                                 const sti_attention_array *v, const sti_attention_array *o, void *work);

#endif
