/* score=standard: S_ij = scale q_i . k_j. */
#include <math.h>

#include "kernel/attention/score.h"

static strata_status resolve(sti_values *v, const sti_attention_sizes *n, sti_attention_shape *s)
{
    double d = (double)n->d_qk;
    sti_score_level(&s->part[0], 0, n->d_qk, n->d_v, STI_ATTENTION_ALL, sti_score_scale(v, 1 / sqrt(d), 8 / d, 1));
    return STRATA_OK;
}

const sti_score sti_score_standard = { "standard", "", NULL, resolve };
