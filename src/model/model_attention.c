/* What the attention layers of a model are made of: closed forms from their shapes. */

#include <strata/analysis.h>

#include <string.h>

#include "mixer/softmax/softmax.h"
#include "model/model.h"

_Static_assert(STRATA_ATTENTION_LEVELS >= STI_ATTENTION_LEVELS * STI_ATTENTION_PARTS, "every level has a place");

static const sti_stage *find(const strata_model *m, int32_t layer)
{
    const sti_graph *g = m->plan->graph;
    for (int32_t i = 0; i < g->nstage; i++)
        if (sti_softmax_shape_of(&g->stage[i]) && layer-- == 0) return &g->stage[i];
    return NULL;
}

int32_t strata_model_attention_count(const strata_model *m)
{
    int32_t n = 0;
    while (m && find(m, n)) n++;
    return n;
}

/* Pairs (i, j) of n positions that are nearer than `reach`; causal: j <= i. */
static double near_pairs(double n, double reach, bool causal)
{
    const double r = STI_MIN(reach, n), below = r * (r + 1) / 2 + (n - r) * r; /* j <= i */
    return causal ? below : 2 * below - n;
}

/* Pairs in one of the blocks of `size` positions. */
static double block_pairs(int64_t n, int64_t size, bool causal)
{
    const double full = (double)(n / size), rest = (double)(n % size), b = (double)size;
    return causal ? full * b * (b + 1) / 2 + rest * (rest + 1) / 2 : full * b * b + rest * rest;
}

static double pairs(const sti_attention_shape *s, const sti_attention_part *p, int32_t l, int64_t n)
{
    const int64_t reach = p->level[l].reach;
    if (l > 0 && p->blocks && reach <= n) return block_pairs(n, reach, s->causal);
    return near_pairs((double)n, (double)reach, s->causal);
}

/* kv_heads e [sum over levels of rank min(reach, n)], keys of both softmaxes, values once. */
static double cache(const sti_attention_shape *s, int64_t n)
{
    double columns = 0, longest = 0;
    for (int32_t p = 0; p < s->parts; p++) {
        longest = STI_MAX(longest, (double)s->part[p].level[0].reach);
        for (int32_t l = 0; l < s->part[p].levels; l++)
            columns += s->part[p].level[l].rank * STI_MIN((double)s->part[p].level[l].reach, (double)n);
    }
    for (int32_t l = 0; l < s->part[0].levels; l++) {
        const double reach = l ? (double)s->part[0].level[l].reach : longest;
        columns += s->part[0].level[l].vrank * STI_MIN(reach, (double)n);
    }
    return s->causal ? (double)s->kv_heads * (double)sizeof(float) * columns : 0;
}

static void describe(const sti_stage *stage, int64_t n, strata_attention_layer *out)
{
    const sti_attention_shape *s = sti_softmax_shape_of(stage);
    double all = 0;
    *out = (strata_attention_layer){ .size = out->size,
                                     .name = stage->name,
                                     .heads = s->heads,
                                     .kv_heads = s->kv_heads,
                                     .d_qk = s->d_qk,
                                     .d_v = s->d_v,
                                     .causal = s->causal,
                                     .cache_bytes = cache(s, n) };
    for (int32_t p = 0; p < s->parts; p++) all = STI_MAX(all, pairs(s, &s->part[p], 0, n));
    for (int32_t p = 0; p < s->parts; p++)
        for (int32_t l = 0; l < s->part[p].levels; l++) {
            const sti_attention_level *from = &s->part[p].level[l];
            strata_attention_level *to = &out->level[out->levels++];
            *to =
                (strata_attention_level){ p, from->rank, from->vrank, from->reach, pairs(s, &s->part[p], l, n) / all };
            out->active_rank += to->rank * to->share;
        }
}

strata_status strata_model_attention(const strata_model *m, int32_t layer, int64_t length, strata_attention_layer *out)
{
    if (!m || !out || out->size < sizeof out->size)
        return sti_fail(STRATA_E_INVALID,
                        "strata_model_attention: a NULL argument, or size is not set; use STRATA_INIT");
    const sti_stage *s = layer < 0 || length < 0 ? NULL : find(m, layer);
    if (!s)
        return sti_fail(STRATA_E_INVALID, "strata_model_attention: layer %d of %d, %lld tokens", (int)layer,
                        (int)strata_model_attention_count(m), (long long)length);
    strata_attention_layer full = { .size = out->size };
    describe(s, length ? length : m->plan->context, &full);
    memcpy(out, &full, STI_MIN(out->size, sizeof full));
    return STRATA_OK;
}
