/* score=gswa: a global level of r_g columns and a window level of r_w columns. form=two adds two softmaxes (rows sum
 * to 2); form=one is one softmax of the summed scores, where the second level covers distances up to w. */
#include <math.h>
#include <string.h>

#include "kernel/attention/score.h"

static strata_status check(const sti_values *v)
{
    const sti_value *ranks = sti_value_of(v, "ranks");
    if (!sti_value_given(v, "window"))
        return sti_fail(STRATA_E_SPEC, "score=gswa needs window=w (keys at distance 0 to w)");
    if (ranks->given && ranks->i != 2)
        return sti_fail(STRATA_E_SPEC, "gswa: ranks=r_g,r_w takes 2 numbers, not %lld", (long long)ranks->i);
    return STRATA_OK;
}

static strata_status resolve(sti_values *v, const sti_attention_sizes *n, sti_attention_shape *s)
{
    const sti_value *ranks = sti_value_of(v, "ranks");
    int64_t r[2] = { n->d_qk / 2, n->d_qk - n->d_qk / 2 };
    if (ranks->empty && r[0] < 1)
        return sti_fail(STRATA_E_SHAPE, "gswa: d_qk %lld does not split into two levels", (long long)n->d_qk);
    if (!ranks->empty)
        for (int i = 0; i < 2; i++) r[i] = ranks->ints[i];
    if (r[0] + r[1] != n->d_qk)
        return sti_fail(STRATA_E_SHAPE, "gswa: ranks sum to %lld but d_qk is %lld", (long long)(r[0] + r[1]),
                        (long long)n->d_qk);
    const char *word = sti_value_text(v, "form");
    bool one = strcmp(word, "one") == 0;
    STI_TRY(sti_score_set_ints(v, "ranks", r, 2));
    STI_TRY(sti_values_set(v, "form", one ? "one" : "two"));
    int64_t reach = sti_value_int(v, "window") + 1;
    double scale[2];
    for (int i = 0; i < 2; i++) scale[i] = sti_score_scale(v, 1 / sqrt((double)r[i]), 8 / (double)r[i], 1);
    sti_score_level(&s->part[0], 0, r[0], n->d_v, STI_ATTENTION_ALL, scale[0]);
    if (one) {
        s->part[0].levels = 2;
        s->part[0].level[1] = (sti_attention_level){ .rank = (int32_t)r[1], .reach = reach, .scale = scale[1] };
        s->part[0].gain[2] = 1;
    } else {
        s->parts = 2;
        sti_score_level(&s->part[1], r[0], r[1], n->d_v, reach, scale[1]);
    }
    return STRATA_OK;
}

const sti_score sti_score_gswa = { "gswa", " ranks window form ", check, resolve };
