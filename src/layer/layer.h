#ifndef STI_LAYER_H
#define STI_LAYER_H
/* Layer classes: what a block is made of besides its mixer. A class lives in its own folder and exports
 * `sti_layer_class_NAME`. Roles: "norm" and "mlp" are chosen by model specs; "stage" is called by name, through the
 * sti_graph_ function of its folder, and has no build. */

#include "core/graph.h"
#include "core/spec.h"

typedef struct sti_layer_class {
    const char *kind, *role, *summary; /* role: "norm", "mlp", "stage" */
    sti_keys keys;
    const char *const *examples;
    /* As sti_mixer_class.build; `width` is that of the input and of the output. */
    int32_t (*build)(sti_graph *g, const char *name, sti_values *v, int64_t width, int32_t in); /* NULL: "stage" */
} sti_layer_class;

int32_t sti_layer_class_count(void);
const sti_layer_class *sti_layer_class_at(int32_t i);
const sti_layer_class *sti_layer_class_find(const char *kind);
int32_t sti_layer_build(sti_graph *g, const char *name, const sti_spec *spec, const char *role, int64_t width,
                        int32_t in, char **text);

/* Leaf stages that models call directly. tokens: an I32 buffer of width 1. */
int32_t sti_graph_embedding(sti_graph *g, const char *name, int64_t vocab, int64_t width, int32_t tokens);
int32_t sti_graph_positions(sti_graph *g, const char *name, int64_t context, int64_t width,
                            int32_t in);                                     /* out = in + P[t] */
int32_t sti_graph_sum(sti_graph *g, const char *name, int32_t a, int32_t b); /* residual */
/* logits = scale * (A in); tie: 0, or 1 + index of the embedding's parameter. */
int32_t sti_graph_head(sti_graph *g, const char *name, const sti_spec *op, int64_t vocab, int32_t in, int32_t tie,
                       double scale);
/* Mean softmax cross-entropy over targets >= 0 (I32, width 1; -1 is ignored): a loss stage. Its output buffer (width 2)
 * holds per token: nats, and 1 when counted. Backward needs no dout: it starts from d(mean)/d(logits) = 1. */
int32_t sti_graph_cross_entropy(sti_graph *g, const char *name, int32_t logits, int32_t targets);
/* Mean squared error of y over the targets (same width, of the type of sums) that are not NaN: a loss stage. Its output
 * buffer (width 2) holds per row: the sum over its scored elements, and their number. Backward as above. */
int32_t sti_graph_squared_error(sti_graph *g, const char *name, int32_t y, int32_t targets);
/* out[h] = in[n - period + h mod period] for h < width: the last numbers of a row, repeated. */
int32_t sti_graph_lag(sti_graph *g, const char *name, int64_t period, int64_t width, int32_t in);
/* A row as its moving average over `length` (odd) numbers and the rest. */
void sti_graph_decompose(sti_graph *g, const char *name, int64_t length, int32_t in, int32_t *trend, int32_t *rest);

#endif
