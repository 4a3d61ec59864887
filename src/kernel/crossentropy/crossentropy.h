#ifndef STI_CROSSENTROPY_H
#define STI_CROSSENTROPY_H
/* Softmax cross-entropy over rows of logits, log-softmax and loss in one pass. README.md has the formulas. */

#include "core/context.h"

/* For row i of logits (rows, vocab): lse[i] = log sum exp, and out[i] = { lse[i] - logit[target[i]], 1 }, in nats, or
 * { 0, 0 } when target[i] is -1. lse and out are of the type of sums (f32 for bf16 logits). lse may be NULL; on a
 * device it has rows + 1 numbers, the last for backward's scale. Threads: the context's; rows are computed alone. A
 * device cannot refuse targets: they are checked before their upload.
 * @return OK | E_INVALID (a target outside [-1, vocab): nothing is written) */
strata_status sti_crossentropy_forward(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t vocab,
                                       const void *logits, const int32_t *target, void *lse, void *out);
/* dlogits = (softmax - onehot) / number of counted rows (0 in rows that do not count), or += when acc. lse is
 * forward's; dlogits may be logits. */
void sti_crossentropy_backward(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t vocab,
                               const void *logits, const int32_t *target, const void *lse, void *dlogits, int acc);

#endif
