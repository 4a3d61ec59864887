/* Arrays where a context computes: libc on the CPU, backend/cuda on a device. */
#include "core/device.h"

#include <string.h>

#include <strata/tensor.h>

#if !STRATA_HAVE_CUDA
/* No context of such a build is on a device: the branches below are never taken. */
#define sti_cuda_calloc(c, bytes, out) STRATA_E_DEVICE
#define sti_cuda_free(c, p) ((void)0)
#define sti_cuda_zero(c, p, bytes) ((void)0)
#define sti_cuda_upload(c, dst, src, bytes) STRATA_E_DEVICE
#define sti_cuda_download(c, dst, src, bytes) STRATA_E_DEVICE
#define sti_cuda_copy(c, dst, src, bytes) ((void)0)
#define sti_cuda_wait(c) STRATA_E_DEVICE
#define sti_cuda_convert(c, dst, dst_type, src, src_type, n) ((void)0)
#define sti_cuda_record(c, fn, arg, out) STRATA_E_DEVICE
#define sti_cuda_replay(c, r) STRATA_E_DEVICE
#define sti_cuda_recording_free(c, r) ((void)0)
#endif

strata_status sti_array_calloc(const strata_context *ctx, int64_t count, size_t size, void **out)
{
    size_t bytes = 0;
    if (!sti_on_device(ctx)) return sti_calloc(ctx, count, size, out);
    *out = NULL;
    if (count < 0 || __builtin_mul_overflow((size_t)count, size, &bytes))
        return sti_fail(STRATA_E_MEMORY, "%lld elements of %zu bytes do not fit in memory", (long long)count, size);
    return sti_cuda_calloc(ctx->cuda, STI_MAX(bytes, (size_t)1), out);
}

void sti_array_free(const strata_context *ctx, void *p)
{
    if (!p) return;
    if (sti_on_device(ctx))
        sti_cuda_free(ctx->cuda, p);
    else
        strata_free(ctx, p);
}

void sti_array_zero(const strata_context *ctx, void *p, size_t bytes)
{
    if (sti_on_device(ctx))
        sti_cuda_zero(ctx->cuda, p, bytes);
    else
        memset(p, 0, bytes);
}

void sti_array_copy(const strata_context *ctx, void *dst, const void *src, size_t bytes)
{
    if (sti_on_device(ctx))
        sti_cuda_copy(ctx->cuda, dst, src, bytes);
    else
        memmove(dst, src, bytes);
}

strata_status sti_to_device(const strata_context *ctx, void *dst, const void *src, size_t bytes)
{
    if (sti_on_device(ctx)) return sti_cuda_upload(ctx->cuda, dst, src, bytes);
    memmove(dst, src, bytes);
    return STRATA_OK;
}

strata_status sti_to_host(const strata_context *ctx, void *dst, const void *src, size_t bytes)
{
    if (sti_on_device(ctx)) return sti_cuda_download(ctx->cuda, dst, src, bytes);
    memmove(dst, src, bytes);
    return STRATA_OK;
}

strata_status sti_device_wait(const strata_context *ctx)
{
    return sti_on_device(ctx) ? sti_cuda_wait(ctx->cuda) : STRATA_OK;
}

static double number(const void *p, int32_t type, int64_t i)
{
    if (type == STRATA_F64) return ((const double *)p)[i];
    if (type == STRATA_F32) return (double)((const float *)p)[i];
    const uint32_t bits = (uint32_t)((const uint16_t *)p)[i] << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

static void set_number(void *p, int32_t type, int64_t i, double value)
{
    const float x = (float)value;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (type == STRATA_F64)
        ((double *)p)[i] = value;
    else if (type == STRATA_F32)
        ((float *)p)[i] = x;
    else /* round to nearest even; a NaN keeps a bit of its payload */
        ((uint16_t *)p)[i] =
            (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? bits >> 16 | 0x40u
                                                          : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

void sti_array_convert(const strata_context *ctx, void *dst, int32_t dst_type, const void *src, int32_t src_type,
                       int64_t n)
{
    if (sti_on_device(ctx)) {
        sti_cuda_convert(ctx->cuda, dst, dst_type, src, src_type, n);
        return;
    }
    for (int64_t i = 0; i < n; i++) set_number(dst, dst_type, i, number(src, src_type, i));
}

strata_status sti_record(const strata_context *ctx, strata_status (*fn)(void *), void *arg, sti_recording **out)
{
    *out = NULL;
    if (!sti_on_device(ctx)) return sti_fail(STRATA_E_UNSUPPORTED, "recording needs device=cuda");
    (void)fn, (void)arg;
    return sti_cuda_record(ctx->cuda, fn, arg, out);
}

strata_status sti_replay(const strata_context *ctx, sti_recording *r)
{
    (void)ctx, (void)r;
    return sti_cuda_replay(ctx->cuda, r);
}

void sti_recording_free(const strata_context *ctx, sti_recording *r)
{
    (void)ctx;
    if (r) sti_cuda_recording_free(ctx->cuda, r);
}

/* ---- public --------------------------------------------------------------------------------------------------- */

int32_t strata_context_device(const strata_context *ctx)
{
    return ctx->device;
}

const char *strata_context_device_name(const strata_context *ctx)
{
#if STRATA_HAVE_CUDA
    if (sti_on_device(ctx)) return sti_cuda_name(ctx->cuda);
#endif
    (void)ctx;
    return "cpu";
}

strata_status strata_device_alloc(const strata_context *ctx, size_t bytes, void **out)
{
    if (!out) return sti_fail(STRATA_E_INVALID, "device_alloc: out is NULL");
    *out = NULL;
    if (!ctx) return sti_fail(STRATA_E_INVALID, "device_alloc: the context is NULL");
    if (bytes > INT64_MAX) return sti_fail(STRATA_E_MEMORY, "%zu bytes do not fit in memory", bytes);
    return sti_array_calloc(ctx, (int64_t)bytes, 1, out);
}

void strata_device_free(const strata_context *ctx, void *p)
{
    if (ctx) sti_array_free(ctx, p);
}

strata_status strata_to_device(const strata_context *ctx, void *dst, const void *src, size_t bytes)
{
    if (!ctx || !dst || !src) return sti_fail(STRATA_E_INVALID, "to_device: a NULL argument");
    return sti_to_device(ctx, dst, src, bytes);
}

strata_status strata_to_host(const strata_context *ctx, void *dst, const void *src, size_t bytes)
{
    if (!ctx || !dst || !src) return sti_fail(STRATA_E_INVALID, "to_host: a NULL argument");
    return sti_to_host(ctx, dst, src, bytes);
}

strata_status strata_device_copy(const strata_context *ctx, void *dst, const void *src, size_t bytes)
{
    if (!ctx || !dst || !src) return sti_fail(STRATA_E_INVALID, "device_copy: a NULL argument");
    sti_array_copy(ctx, dst, src, bytes);
    return STRATA_OK;
}

strata_status strata_synchronize(const strata_context *ctx)
{
    if (!ctx) return sti_fail(STRATA_E_INVALID, "synchronize: the context is NULL");
    return sti_device_wait(ctx);
}
