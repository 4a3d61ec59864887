/* score=window: the standard score for the w + 1 nearest keys. */
#include <math.h>

#include "kernel/attention/score.h"

static strata_status check(const sti_values *v)
{
    if (!sti_value_given(v, "window"))
        return sti_fail(STRATA_E_SPEC, "score=window needs window=w (keys at distance 0 to w)");
    return STRATA_OK;
}

static strata_status resolve(sti_values *v, const sti_attention_sizes *n, sti_attention_shape *s)
{
    double d = (double)n->d_qk;
    sti_score_level(&s->part[0], 0, n->d_qk, n->d_v, sti_value_int(v, "window") + 1,
                    sti_score_scale(v, 1 / sqrt(d), 8 / d, 1));
    return STRATA_OK;
}

const sti_score sti_score_window = { "window", " window ", check, resolve };
