/* Layout of the decoding cache and the checked calls on it. */
#include <string.h>

#include "core/device.h"
#include "kernel/attention/engine.h"

static const uint64_t magic = 0x6e65747461697473u;

static size_t element(const sti_attention_plan *p)
{
    return strata_dtype_size(p->dtype);
}

/* Append one slab of rank x min(reach, capacity) elements per key head. */
static bool add_slab(const sti_attention_plan *p, sti_cache_layout *l, sti_cache_slab *s, int64_t rank, int64_t reach,
                     int64_t capacity)
{
    int64_t count = 0;
    size_t bytes = 0;
    s->offset = l->bytes;
    s->slots = STI_MIN(reach, capacity);
    if (!sti_mul_i64(rank, s->slots, &count) || !sti_mul_i64(count, p->shape.kv_heads, &count) ||
        __builtin_mul_overflow((size_t)count, element(p), &bytes) || bytes > SIZE_MAX / 8 - l->payload)
        return false;
    l->payload += bytes;
    if (sti_on_device(p->ctx)) s->slots = (s->slots + STI_CACHE_BLOCK - 1) / STI_CACHE_BLOCK * STI_CACHE_BLOCK;
    if (reach > capacity) l->limit = capacity;
    if (!sti_mul_i64(rank, s->slots, &count) || !sti_mul_i64(count, p->shape.kv_heads, &count) ||
        __builtin_mul_overflow((size_t)count, element(p), &bytes) || bytes > SIZE_MAX / 4 - l->bytes)
        return false;
    l->bytes = sti_round_up(l->bytes + bytes, STI_ALIGN);
    return true;
}

bool sti_attention_cache_layout(const sti_attention_plan *p, int64_t capacity, sti_cache_layout *l)
{
    const sti_attention_shape *s = &p->shape;
    *l = (sti_cache_layout){ .bytes = sizeof(sti_cache_head), .limit = STI_NEVER };
    int64_t longest = 0;
    if (sti_on_device(p->ctx)) {
        l->arrived = l->bytes;
        l->bytes = sti_round_up(l->bytes + (size_t)s->heads * sizeof(uint32_t), 2 * STI_ALIGN);
    }
    for (int part = 0; part < s->parts; part++) {
        longest = STI_MAX(longest, s->part[part].level[0].reach);
        for (int i = 0; i < s->part[part].levels; i++) {
            const sti_attention_level *level = &s->part[part].level[i];
            if (!add_slab(p, l, &l->k[part][i], level->rank, level->reach, capacity)) return false;
        }
    }
    for (int i = 0; i < p->vlevels[0]; i++) {
        const sti_attention_level *level = &s->part[0].level[i];
        if (!add_slab(p, l, &l->v[i], level->vrank, i ? level->reach : longest, capacity)) return false;
    }
    return true;
}

strata_status sti_attention_cache_size(const sti_attention_plan *p, int64_t capacity, size_t *bytes, size_t *payload)
{
    sti_cache_layout l;
    if (!p->shape.causal) return sti_fail(STRATA_E_UNSUPPORTED, "attention: decoding needs causal=1");
    if (sti_on_device(p->ctx) && capacity != p->capacity)
        return sti_fail(STRATA_E_UNSUPPORTED,
                        "attention: on a device a cache has the plan's key time of %lld tokens, not %lld",
                        (long long)p->capacity, (long long)capacity);
    if (capacity < 1)
        return sti_fail(STRATA_E_INVALID, "attention: cache capacity %lld is below 1", (long long)capacity);
    if (!sti_attention_cache_layout(p, capacity, &l))
        return sti_fail(STRATA_E_MEMORY, "attention: a cache of %lld tokens does not fit in memory",
                        (long long)capacity);
    *bytes = l.bytes;
    if (payload) *payload = l.payload;
    return STRATA_OK;
}

strata_status sti_attention_cache_init(const sti_attention_plan *p, int64_t capacity, void *cache)
{
    size_t bytes = 0;
    STI_TRY(sti_attention_cache_size(p, capacity, &bytes, NULL));
    if (sti_on_device(p->ctx)) {
        sti_array_zero(p->ctx, cache, bytes);
        return STRATA_OK;
    }
    sti_cache_head head = { .magic = magic, .capacity = capacity };
    memcpy(cache, &head, sizeof head);
    return STRATA_OK;
}

/* `n` tokens from position `pos` may be added to the cache. */
static strata_status check_room(const sti_attention_plan *p, const void *cache, int64_t pos, int64_t n)
{
    sti_cache_layout l;
    sti_cache_head head = { .magic = magic, .capacity = p->capacity };
    if (!sti_on_device(p->ctx)) memcpy(&head, cache, sizeof head);
    if (head.magic != magic || head.capacity < 1 || !sti_attention_cache_layout(p, head.capacity, &l))
        return sti_fail(STRATA_E_INVALID, "attention: the cache was not made by cache_init");
    if (pos < 0 || n < 0 || pos >= STI_NEVER - n)
        return sti_fail(STRATA_E_INVALID, "attention: position %lld and %lld new tokens", (long long)pos, (long long)n);
    if (pos + n > l.limit)
        return sti_fail(STRATA_E_SPACE, "attention: position %lld passes the cache's capacity of %lld tokens",
                        (long long)(pos + n - 1), (long long)head.capacity);
    return STRATA_OK;
}

strata_status sti_attention_cache_append(const sti_attention_plan *p, void *cache, int64_t pos, int64_t n,
                                         const sti_attention_array *k, const sti_attention_array *v)
{
    STI_TRY(check_room(p, cache, pos, n));
    p->kernel->append(p, cache, pos, n, k, v);
    return STRATA_OK;
}

strata_status sti_attention_step(const sti_attention_plan *p, void *cache, size_t stride, const int64_t *pos,
                                 int64_t batch, const sti_attention_array *q, const sti_attention_array *k,
                                 const sti_attention_array *v, const sti_attention_array *o, void *work)
{
    if (!p->shape.causal) return sti_fail(STRATA_E_UNSUPPORTED, "attention: decoding needs causal=1");
    for (int64_t b = 0; b < batch; b++) STI_TRY(check_room(p, (unsigned char *)cache + (size_t)b * stride, pos[b], 1));
    sti_attention_steps s = { cache, stride, pos, batch, *q, *k, *v, *o, work };
    p->kernel->step(p, &s);
    return STRATA_OK;
}
