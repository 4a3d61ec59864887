#ifndef STI_SOFTMAX_H
#define STI_SOFTMAX_H
/* Private to the component: its leaf stages. Each returns its output buffer, or -1. */

#include "core/graph.h"
#include "kernel/attention/attention.h"
#include "operator/operator.h"

/* o = attention(q, k, v), heads side by side in each buffer. Inference: the state is the kernel's cache.
 * A buffer of width d_qk where heads * d_qk are expected is shared by all heads. */
int32_t sti_softmax_attention(sti_graph *g, const char *name, const sti_attention_shape *shape, int32_t q, int32_t k,
                              int32_t v);

/* The shape of such a stage, whose in[0] and in[1] are q and k; NULL: the stage is another. */
const sti_attention_shape *sti_softmax_shape_of(const sti_stage *s);

/* The projection of bilinear MLR: level l cuts x into 2^l chunks (l from 0) of D / 2^l and maps chunk c to rank[l]
 * features per head with its own matrix. Out: for each head the levels one after the other, each (rank, chunk).
 * Parameters NAME.1 … of shape (2^l, D / 2^l, heads rank[l]). */
int32_t sti_softmax_chunks(sti_graph *g, const char *name, int32_t levels, const int64_t *rank, int64_t heads,
                           int32_t in);

/* The projection of bilinear BTT: for each head a D x D matrix W_h, W_h[(a,b),(c,d)] = sum_s L[(h,b)][a][(c,s)]
 * R[c][d][(h,b,s)]. Out: W_h x, or W_h^T x when transposed, heads side by side. Parameters NAME.R (c, d, heads b s) and
 * NAME.L (heads b, a, c s). */
int32_t sti_softmax_btt(sti_graph *g, const char *name, int64_t heads, int64_t rank, bool transposed, int32_t in);

#endif
