#ifndef STI_ACTIVATION_H
#define STI_ACTIVATION_H
/* Elementwise nonlinearities: y = f(x), and the gated y = silu(a) * b. README.md has the formulas. */

#include "core/graph.h"

typedef enum sti_act { STI_ACT_GELU, STI_ACT_GELU_TANH, STI_ACT_RELU, STI_ACT_SILU, STI_ACT_COUNT } sti_act;

/* "gelu|gelu_tanh|relu|silu": words of a key, in the order of the enum. */
#define STI_ACT_WORDS "gelu|gelu_tanh|relu|silu"

/* y[i] = f(x[i]), i < n; y may be x. Threads: the context's. Every element is computed alone, so the bits depend
 * neither on n nor on the thread count. */
void sti_act_forward(const strata_context *ctx, int32_t dtype, sti_act act, int64_t n, const void *x, void *y);
/* dx[i] = f'(x[i]) dy[i], or += when acc. */
void sti_act_backward(const strata_context *ctx, int32_t dtype, sti_act act, int64_t n, const void *x, const void *dy,
                      void *dx, int acc);
/* y = silu(a) * b. */
void sti_gate_forward(const strata_context *ctx, int32_t dtype, int64_t n, const void *a, const void *b, void *y);
/* da and db (NULL: not wanted) are set, or += when acca, accb. */
void sti_gate_backward(const strata_context *ctx, int32_t dtype, int64_t n, const void *a, const void *b,
                       const void *dy, void *da, int acca, void *db, int accb);

/* Leaf stages; they return the output buffer. */
int32_t sti_graph_activation(sti_graph *g, const char *name, sti_act act, int32_t in);
int32_t sti_graph_gate(sti_graph *g, const char *name, int32_t a, int32_t b);

#endif
