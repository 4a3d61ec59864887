#ifndef STI_ANALYSIS_H
#define STI_ANALYSIS_H
/* Attention seen on data (strata/analysis.h): the definitions, pair by pair, at the size of a sample. */

#include <strata/analysis.h>

#include "kernel/attention/shape.h"
#include "train/run.h"
#include "train/trainer.h"

/* Look at the attention layers of a trainer while it evaluates windows of the task, whose data are loaded. One sequence
 * of the trainer's batch is used. E_UNSUPPORTED when there are no such layers, E_NUMERIC, E_MEMORY, as the trainer. */
strata_status sti_analysis_run(sti_trainer *t, const sti_task *task, const strata_analysis_config *cfg,
                               strata_analysis **out);

/* ---- one layer ----------------------------------------------------------------------------------------------------
 */
/* q (time, heads, d_qk), k (time, kv_heads, d_qk) of one sequence; or (time, d_qk), shared by the heads. */
typedef struct sti_scores {
    const sti_attention_shape *shape;
    const float *q, *k;
    int64_t q_row, k_row, q_head, k_head; /* strides of a position and of a head, which is 0 when shared */
    int64_t time;
} sti_scores;

/* Score of query i and key j in softmax `part` of a head, -inf outside of its mask. level: room for what each level
 * adds to it, NaN where the level does not cover the pair; NULL: not wanted. */
double sti_score_of(const sti_scores *s, int32_t part, int64_t head, int64_t i, int64_t j, double *level);

#endif
