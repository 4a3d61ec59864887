#ifndef STI_SESSION_H
#define STI_SESSION_H
/* Generation on token ids or numbers: prefill and step with the caches of one sequence, and sampling. */

#include "model/model.h"

typedef struct sti_session sti_session;

/* capacity: tokens the caches hold; 0: the model's context. The model must outlive the session. */
strata_status sti_session_create(const strata_model *m, int64_t capacity, sti_session **out);
void sti_session_destroy(sti_session *s); /* accepts NULL */
/* Consume n >= 1 tokens. Nothing is consumed on E_SPACE (capacity or learned positions used up) or E_INVALID (an id
 * outside the vocabulary). Never allocates. */
strata_status sti_session_feed(sti_session *s, const int32_t *token, int64_t n);
/* The same for a model of numbers: x is (n, inputs). */
strata_status sti_session_feed_numbers(sti_session *s, const float *x, int64_t n);
/* E_SPACE unless n more tokens fit. */
strata_status sti_session_room(const sti_session *s, int64_t n);
int64_t sti_session_position(const sti_session *s);    /* tokens consumed */
const float *sti_session_logits(const sti_session *s); /* (vocab or outputs) after the last token; NULL before it */

typedef struct sti_sampler {
    uint64_t seed;
    double temperature; /* > 0 */
    int64_t top_k;      /* 0: all. Equal logits: the smaller id first */
    double top_p;       /* in (0, 1] */
} sti_sampler;

/* Draw token number `index` of a generation from the logits, in double: temperature, then the top_k largest, then the
 * smallest set of those whose mass reaches top_p. work: 2 * n doubles. E_NUMERIC when no logit is finite or one is NaN
 * or +inf. */
strata_status sti_sample(const float *logits, int64_t n, const sti_sampler *how, uint64_t index, double *work,
                         int32_t *token);

#endif
