#ifndef STI_POSITIONS_CUDA_H
#define STI_POSITIONS_CUDA_H
/* Learned positions on a device. table and dtable are of the type of sums; pos is host memory, or NULL. */

#include <strata/context.h>

STRATA_BEGIN
/* out[b, t] = in[b, t] + table[pos[b] + t] */
void sti_positions_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t batch, int64_t time, int64_t width,
                                const int64_t *pos, const void *table, const void *in, void *out);
/* dtable[t] += the sum over the sequences, in order; din = dout, or += . Either may be NULL. */
void sti_positions_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t batch, int64_t time, int64_t width,
                                 const void *dout, void *dtable, void *din, int acc);
STRATA_END

#endif
