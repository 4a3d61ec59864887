/* score=bilinear-mlr and bilinear-btt at kernel level, where the structured projections have been applied. bilinear-mlr
 * concatenates r_l features of each of the p_l = 2^(l-1) chunks of every level: all pairs have all levels, so one level
 * per scale suffices. bilinear-btt compares x_i with a full-width key: a standard score of width D. */
#include <math.h>
#include <string.h>

#include "kernel/attention/score.h"

static strata_status mlr_check(const sti_values *v)
{
    const sti_value *ranks = sti_value_of(v, "ranks");
    if (!ranks->given) return sti_fail(STRATA_E_SPEC, "score=bilinear-mlr needs ranks=r_1,r_2,…");
    if (ranks->i > STI_ATTENTION_LEVELS)
        return sti_fail(STRATA_E_SPEC, "bilinear-mlr: %lld levels are more than %d", (long long)ranks->i,
                        STI_ATTENTION_LEVELS);
    return STRATA_OK;
}

static strata_status mlr_resolve(sti_values *v, const sti_attention_sizes *n, sti_attention_shape *s)
{
    const sti_value *ranks = sti_value_of(v, "ranks");
    const char *gain = sti_value_text(v, "gain");
    bool none = !*gain || strcmp(gain, "none") == 0;
    sti_attention_part *part = &s->part[0];
    int64_t sum = 0;
    part->levels = (int32_t)ranks->i;
    for (int32_t l = 0; l < part->levels; l++) {
        int64_t width = 0;
        if (!sti_mul_i64(ranks->ints[l], (int64_t)1 << l, &width) || width > INT32_MAX - sum)
            return sti_fail(STRATA_E_SHAPE, "bilinear-mlr: ranks times chunks pass %d but d_qk is %lld", INT32_MAX,
                            (long long)n->d_qk);
        sum += width;
        double w = (double)width;
        part->level[l] = (sti_attention_level){ .rank = (int32_t)width,
                                                .vrank = l ? 0 : (int32_t)n->d_v,
                                                .reach = STI_ATTENTION_ALL,
                                                .scale = sti_score_scale(v, 1 / sqrt(w), 8 / w, 1) };
        part->gain[l + 1] = none ? 1 : 1 / (double)part->levels; /* every level covers: count equals levels */
    }
    if (sum != n->d_qk)
        return sti_fail(STRATA_E_SHAPE, "bilinear-mlr: ranks times chunks sum to %lld but d_qk is %lld", (long long)sum,
                        (long long)n->d_qk);
    return none ? sti_values_set(v, "gain", "none") : STRATA_OK;
}

static strata_status btt_resolve(sti_values *v, const sti_attention_sizes *n, sti_attention_shape *s)
{
    double d = (double)n->d_qk;
    sti_score_level(&s->part[0], 0, n->d_qk, n->d_v, STI_ATTENTION_ALL, sti_score_scale(v, 1 / sqrt(d), 1 / d, 1));
    return STRATA_OK;
}

const sti_score sti_score_bilinear_mlr = { "bilinear-mlr", " ranks gain ", mlr_check, mlr_resolve };
const sti_score sti_score_bilinear_btt = { "bilinear-btt", "", NULL, btt_resolve };
