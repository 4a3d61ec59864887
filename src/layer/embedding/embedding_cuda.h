#ifndef STI_EMBEDDING_CUDA_H
#define STI_EMBEDDING_CUDA_H
/* Rows of a table by token id, on a device. token: device memory, ids inside [0, vocab). */

#include <stddef.h>

#include <strata/context.h>

STRATA_BEGIN
void sti_embedding_forward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t width,
                                const int32_t *token, const void *table, void *out);
/* dtable (of the type of sums) [token[i]] += dout[i]; rows of equal ids are summed in an order that the number of rows
 * and the ids fix. work: sti_embedding_work_cuda bytes. */
void sti_embedding_backward_cuda(const strata_context *ctx, int32_t dtype, int64_t rows, int64_t width,
                                 const int32_t *token, const void *dout, void *dtable, void *work);
size_t sti_embedding_work_cuda(int32_t dtype, int64_t rows, int64_t width);
STRATA_END

#endif
