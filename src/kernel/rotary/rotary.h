#ifndef STI_ROTARY_H
#define STI_ROTARY_H
/* Rotary positions: in each slice of each head, element k and element k + r/2 (r: the slice's width) turn by the angle
 * position * base^(-2k/r). README.md has the formulas. */

#include "core/graph.h"

typedef struct sti_rotary sti_rotary;

/* Plan with tables for positions 0 .. time-1, where the context's arrays live; the plan holds the context. rank[levels]
 * even, together the width of a head. @return OK | E_SHAPE | E_MEMORY */
strata_status sti_rotary_create(const strata_context *ctx, int32_t dtype, int32_t levels, const int64_t *rank,
                                double base, int64_t time, sti_rotary **out);
void sti_rotary_destroy(void *r);              /* accepts NULL */
int64_t sti_rotary_width(const sti_rotary *r); /* of a head: the sum of ranks */

/* y = rotated x, both (batch, time, heads, width) contiguous; token t of sequence b stands at position pos[b] + t (pos,
 * host memory, NULL: t). back: rotate by the opposite angle, which is the transposed map; add: y += . y may be x unless
 * add. Threads: the context's; tokens are computed alone. @return OK | E_SPACE (a position lies beyond the tables) */
strata_status sti_rotary_apply(const strata_context *ctx, const sti_rotary *r, int64_t batch, int64_t time,
                               int64_t heads, const int64_t *pos, bool back, bool add, const void *x, void *y);

/* Leaf stage; the width of `in` is a multiple of the sum of ranks. Returns the output buffer. */
int32_t sti_graph_rotary(sti_graph *g, const char *name, int32_t levels, const int64_t *rank, double base, int32_t in);

#endif
