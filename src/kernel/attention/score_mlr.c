/* score=mlr: level l adds (q_l . k_l) / r_l for the pairs of its blocks (or within its distance); level 1 covers
 * everything whatever b_1 says. gain divides by the number of levels, all or covering. */
#include <string.h>

#include "kernel/attention/score.h"

static int64_t level_count(const sti_values *v)
{
    static const char *const lists[] = { "ranks", "blocks", "vranks" };
    for (size_t i = 0; i < STI_COUNT(lists); i++)
        if (!sti_value_of(v, lists[i])->empty) return sti_value_of(v, lists[i])->i;
    return sti_value_int(v, "levels"); /* 0 when empty */
}

static strata_status check(const sti_values *v)
{
    static const char *const lists[] = { "ranks", "blocks", "vranks" };
    const sti_value *blocks = sti_value_of(v, "blocks");
    int64_t n = level_count(v), levels = sti_value_int(v, "levels");
    if (!sti_value_given(v, "ranks") && !sti_value_given(v, "levels"))
        return sti_fail(STRATA_E_SPEC, "score=mlr needs ranks=r_1,r_2,… or levels=L");
    if (n > STI_ATTENTION_LEVELS)
        return sti_fail(STRATA_E_SPEC, "mlr: %lld levels are more than %d", (long long)n, STI_ATTENTION_LEVELS);
    if (sti_value_given(v, "levels") && levels != n)
        return sti_fail(STRATA_E_SPEC, "mlr: levels=%lld but the lists have %lld entries", (long long)levels,
                        (long long)n);
    for (size_t i = 0; i < STI_COUNT(lists); i++) {
        const sti_value *list = sti_value_of(v, lists[i]);
        if (list->given && list->i != n)
            return sti_fail(STRATA_E_SPEC, "mlr: %s has %lld entries for %lld levels", lists[i], (long long)list->i,
                            (long long)n);
    }
    bool distance = strcmp(sti_value_text(v, "depth"), "distance") == 0;
    for (int64_t l = 1; blocks->given && l < n; l++) {
        long long b = (long long)blocks->ints[l], before = (long long)blocks->ints[l - 1];
        if (b > before)
            return sti_fail(STRATA_E_SPEC, "mlr: block %lld is larger than the one before it, %lld", b, before);
        if (!distance && before % b != 0)
            return sti_fail(STRATA_E_SPEC, "mlr: block %lld does not divide the one before it, %lld", b, before);
    }
    return STRATA_OK;
}

/* Entries of a list key that must sum to `total`, or `total` in equal shares when it is absent. */
static strata_status slices(const sti_values *v, const char *key, const char *size, int64_t total, int64_t n,
                            int64_t *out)
{
    const sti_value *list = sti_value_of(v, key);
    int64_t sum = 0;
    if (list->empty && total % n != 0)
        return sti_fail(STRATA_E_SHAPE, "mlr: levels=%lld does not divide %s %lld", (long long)n, size,
                        (long long)total);
    for (int64_t l = 0; l < n; l++) {
        out[l] = list->empty ? total / n : list->ints[l];
        sum += out[l];
    }
    if (sum != total)
        return sti_fail(STRATA_E_SHAPE, "mlr: %s sum to %lld but %s is %lld", key, (long long)sum, size,
                        (long long)total);
    return STRATA_OK;
}

static strata_status resolve(sti_values *v, const sti_attention_sizes *n, sti_attention_shape *s)
{
    const sti_value *blocks = sti_value_of(v, "blocks");
    int64_t count = level_count(v), rank[STI_ATTENTION_LEVELS], block[STI_ATTENTION_LEVELS], p = 1;
    int64_t vrank[STI_ATTENTION_LEVELS] = { n->d_v };
    STI_TRY(slices(v, "ranks", "d_qk", n->d_qk, count, rank));
    if (!sti_value_of(v, "vranks")->empty) STI_TRY(slices(v, "vranks", "d_v", n->d_v, count, vrank));
    while (p < n->context) p *= 2;
    for (int64_t l = 0; l < count; l++) {
        block[l] = blocks->empty ? p : blocks->ints[l];
        p = STI_MAX(p / 2, 1); /* a block below one token covers what a block of one covers: i = j */
    }
    const char *gain = sti_value_text(v, "gain"), *depth = sti_value_text(v, "depth");
    bool distance = strcmp(depth, "distance") == 0, by_levels = strcmp(gain, "levels") == 0;
    bool by_count = strcmp(gain, "count") == 0;

    sti_attention_part *part = &s->part[0];
    part->levels = (int32_t)count;
    part->blocks = !distance;
    for (int64_t l = 0; l < count; l++) {
        double unit = 1 / (double)rank[l];
        part->level[l] = (sti_attention_level){ .rank = (int32_t)rank[l],
                                                .vrank = (int32_t)vrank[l],
                                                .reach = l ? block[l] : STI_ATTENTION_ALL,
                                                .scale = sti_score_scale(v, unit, unit, unit) };
        part->gain[l + 1] = by_levels ? 1 / (double)count : by_count ? 1 / (double)(l + 1) : 1;
    }
    STI_TRY(sti_values_set(v, "gain", by_levels ? "levels" : by_count ? "count" : "none"));
    STI_TRY(sti_values_set(v, "depth", distance ? "distance" : "block"));
    STI_TRY(sti_score_set_ints(v, "ranks", rank, count));
    return sti_score_set_ints(v, "blocks", block, count);
}

const sti_score sti_score_mlr = { "mlr", " ranks blocks levels gain depth vranks ", check, resolve };
