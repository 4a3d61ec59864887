#ifndef STI_NORM_H
#define STI_NORM_H
/* Layer norm and RMS norm over rows of `width`: y = (x - mean) * rstd * gain + bias. README.md has the formulas. A row
 * of a buffer may hold several groups (heads) that share one gain vector: to the kernel each group is a row. */

#include "core/graph.h"

typedef struct sti_norm {
    int64_t width;
    int64_t stride; /* elements from one row to the next, in x, y, dy and dx; 0: width */
    double eps;
    bool center; /* layer norm; false: RMS norm, whose mean is 0 */
    bool bias;
} sti_norm;

/* y (rows, width) from x (rows, width); y may be x. stat (rows, 2): mean and 1/std of each row, what backward needs
 * besides x; NULL: not wanted. bias is not read unless n->bias. gain, bias and stat, and dgain and dbias below, are of
 * the type of sums (f32 for bf16). Threads: the context's; rows are computed alone. */
void sti_norm_forward(const strata_context *ctx, int32_t dtype, const sti_norm *n, int64_t rows, const void *x,
                      const void *gain, const void *bias, void *y, void *stat);
/* The same of x = a + b, which is written first; on a device in one pass. n->stride is n->width or 0. */
void sti_norm_sum_forward(const strata_context *ctx, int32_t dtype, const sti_norm *n, int64_t rows, const void *a,
                          const void *b, void *x, const void *gain, const void *bias, void *y, void *stat);
/* dx is set, or += when acc (NULL: not wanted); dgain and dbias are added to (NULL: not wanted). The sums over the rows
 * run in fixed chunks, then over the chunks in order: same bits for every number of threads (on a device: in chunks
 * that its number of processors fixes). work: sti_norm_work bytes. */
void sti_norm_backward(const strata_context *ctx, int32_t dtype, const sti_norm *n, int64_t rows, const void *x,
                       const void *gain, const void *stat, const void *dy, void *dx, int acc, void *dgain, void *dbias,
                       void *work);
size_t sti_norm_work(const strata_context *ctx, int64_t width);

/* Leaf stage over buffer `in`, whose width is heads * n->width. Parameters NAME.weight (init 1) and, with n->bias,
 * NAME.bias (init 0), shared by the heads. Returns the output buffer. */
int32_t sti_graph_norm(sti_graph *g, const char *name, const sti_norm *n, int32_t in);
/* Each head consists of slices that are normalised apart: width[slices], parameters NAME.1.weight, NAME.1.bias, … */
int32_t sti_graph_norm_slices(sti_graph *g, const char *name, const sti_norm *n, int32_t slices, const int64_t *width,
                              int32_t in);

#endif
