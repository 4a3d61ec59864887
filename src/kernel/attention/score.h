#ifndef STI_ATTENTION_SCORE_H
#define STI_ATTENTION_SCORE_H
/* One scoring: its own keys and how they become a shape. Private to the component. */

#include "kernel/attention/attention.h"

typedef struct sti_score {
    const char *name;
    const char *keys;                            /* the optional keys that mean something to it, " window form " */
    strata_status (*check)(const sti_values *v); /* beyond that; may be NULL */
    /* Fill parts of a zeroed shape whose sizes are set; write resolved defaults to v. Keys are checked. */
    strata_status (*resolve)(sti_values *v, const sti_attention_sizes *n, sti_attention_shape *s);
} sti_score;

extern const sti_score sti_score_standard, sti_score_window, sti_score_gswa, sti_score_mlr, sti_score_bilinear_mlr,
    sti_score_bilinear_btt;

/* scale=: `sp` or `mup` as the scoring defines them, else the number times `unit`. */
double sti_score_scale(const sti_values *v, double sp, double mup, double unit);
/* A softmax of one level: all columns from `offset`, all of v. */
void sti_score_level(sti_attention_part *p, int64_t offset, int64_t rank, int64_t d_v, int64_t reach, double scale);
/* Set a list key. */
strata_status sti_score_set_ints(sti_values *v, const char *key, const int64_t *x, int64_t n);

#endif
