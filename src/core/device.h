#ifndef STI_DEVICE_H
#define STI_DEVICE_H
/* Where the arrays of a context live. On the CPU every call below is its libc counterpart. On a CUDA device, work is
 * queued on the context's one stream, in the order of the calls; only sti_to_host and sti_device_wait wait for it. A
 * failing launch is remembered and reported by the next of those two. */

#include "core/context.h"

static inline bool sti_on_device(const strata_context *ctx)
{
    return ctx->device != 0;
}

/* Zeroed array memory, aligned to at least 64 bytes; *out is NULL on failure, which E_MEMORY describes. */
strata_status sti_array_calloc(const strata_context *ctx, int64_t count, size_t size, void **out);
void sti_array_free(const strata_context *ctx, void *p);               /* accepts NULL; waits for the device */
void sti_array_zero(const strata_context *ctx, void *p, size_t bytes); /* queued */
/* src is host memory and may be reused after return. */
strata_status sti_to_device(const strata_context *ctx, void *dst, const void *src, size_t bytes);
/* dst is host memory. Waits for all queued work. @return OK | E_DEVICE */
strata_status sti_to_host(const strata_context *ctx, void *dst, const void *src, size_t bytes);
void sti_array_copy(const strata_context *ctx, void *dst, const void *src, size_t bytes); /* on the device; queued */
strata_status sti_device_wait(const strata_context *ctx);
/* n numbers from one type to another (f32, f64, bf16; rounded to nearest even). Queued. */
void sti_array_convert(const strata_context *ctx, void *dst, int32_t dst_type, const void *src, int32_t src_type,
                       int64_t n);

/* Record what fn queues instead of running it, and replay it later with one call. Pointers and sizes are those of the
 * recording; fn must not wait. On the CPU E_UNSUPPORTED. */
typedef struct sti_recording sti_recording;
strata_status sti_record(const strata_context *ctx, strata_status (*fn)(void *), void *arg, sti_recording **out);
strata_status sti_replay(const strata_context *ctx, sti_recording *r);
void sti_recording_free(const strata_context *ctx, sti_recording *r); /* accepts NULL */

#if STRATA_HAVE_CUDA
/* What backend/cuda provides (backend/cuda/device_cuda.cu). */
typedef struct sti_cuda sti_cuda;
strata_status sti_cuda_open(sti_cuda **out);
void sti_cuda_close(sti_cuda *c);
strata_status sti_cuda_calloc(sti_cuda *c, size_t bytes, void **out);
void sti_cuda_free(sti_cuda *c, void *p);
void sti_cuda_zero(sti_cuda *c, void *p, size_t bytes);
strata_status sti_cuda_upload(sti_cuda *c, void *dst, const void *src, size_t bytes);
strata_status sti_cuda_download(sti_cuda *c, void *dst, const void *src, size_t bytes);
void sti_cuda_copy(sti_cuda *c, void *dst, const void *src, size_t bytes);
strata_status sti_cuda_wait(sti_cuda *c);
void sti_cuda_convert(sti_cuda *c, void *dst, int32_t dst_type, const void *src, int32_t src_type, int64_t n);
strata_status sti_cuda_record(sti_cuda *c, strata_status (*fn)(void *), void *arg, sti_recording **out);
strata_status sti_cuda_replay(sti_cuda *c, sti_recording *r);
void sti_cuda_recording_free(sti_cuda *c, sti_recording *r);
const char *sti_cuda_name(const sti_cuda *c); /* "NVIDIA H100 80GB HBM3 (sm_90, 132 SMs, 79 GiB)" */
#endif

/* Type of sums and statistics over numbers of type dtype: f32 for bf16, else dtype itself. */
static inline int32_t sti_sum_type(int32_t dtype)
{
    return dtype == 3 ? 1 : dtype; /* STRATA_BF16, STRATA_F32 */
}

#endif
