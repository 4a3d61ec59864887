/* Device state of a context: stream, memory, copies, errors, recorded graphs (core/device.h). */
#include "backend/cuda/cuda.cuh"

#include <new>
#include <stdio.h>
#include <string.h>

struct sti_recording {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
};
typedef struct sti_recording sti_recording;
typedef struct sti_cuda sti_cuda;

/* Uploads of up to SLOT bytes are copied into pinned memory and go on from there while the host runs ahead. */
enum { SLOTS = 8, SLOT = 1 << 20 };
struct sti_cuda_slot {
    void *pinned;
    cudaEvent_t copied;
};

extern "C" void sti_cuda_note(sti_cuda *c, cudaError_t e, const char *what)
{
    if (e == cudaSuccess || c->failed != cudaSuccess) return;
    c->failed = e;
    c->where = what;
}

static strata_status failure(cudaError_t e, const char *what)
{
    return sti_fail(e == cudaErrorMemoryAllocation ? STRATA_E_MEMORY : STRATA_E_DEVICE, "cuda: %s: %s", what,
                    cudaGetErrorString(e));
}

#define TRY_CUDA(e, what)                                                                                              \
    do {                                                                                                               \
        const cudaError_t error_ = (e);                                                                                \
        if (error_ != cudaSuccess) return failure(error_, what);                                                       \
    } while (0)

extern "C" void sti_cuda_close(sti_cuda *c)
{
    if (!c) return;
    if (c->stream) (void)cudaStreamSynchronize(c->stream);
    if (c->gemm) c->gemm_free(c->gemm);
    for (int i = 0; c->slot && i < SLOTS; i++) {
        if (c->slot[i].pinned) (void)cudaFreeHost(c->slot[i].pinned);
        if (c->slot[i].copied) (void)cudaEventDestroy(c->slot[i].copied);
    }
    delete[] c->slot;
    if (c->stream) (void)cudaStreamDestroy(c->stream);
    delete c;
}

static strata_status open_device(sti_cuda *c)
{
    cudaDeviceProp p;
    int count = 0;
    const cudaError_t e = cudaGetDeviceCount(&count);
    if (e != cudaSuccess || count < 1)
        return sti_fail(STRATA_E_DEVICE, "device=cuda: %s", e == cudaSuccess ? "no GPU" : cudaGetErrorString(e));
    TRY_CUDA(cudaGetDevice(&c->device), "device");
    TRY_CUDA(cudaGetDeviceProperties(&p, c->device), "device properties");
    c->major = p.major;
    c->sms = p.multiProcessorCount;
    c->smem_optin = p.sharedMemPerBlockOptin;
    snprintf(c->name, sizeof c->name, "%.48s (sm_%d%d, %d SMs, %.0f GiB)", p.name, p.major, p.minor, c->sms,
             (double)p.totalGlobalMem / (1024.0 * 1024 * 1024));
    if (p.major < 9) return sti_fail(STRATA_E_DEVICE, "device=cuda: %s, but this build is for sm_90a", c->name);
    TRY_CUDA(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), "stream");
    c->slot = new (std::nothrow) sti_cuda_slot[SLOTS]();
    if (!c->slot) return sti_fail(STRATA_E_MEMORY, "out of memory");
    for (int i = 0; i < SLOTS; i++) {
        TRY_CUDA(cudaMallocHost(&c->slot[i].pinned, SLOT), "pinned memory");
        TRY_CUDA(cudaEventCreateWithFlags(&c->slot[i].copied, cudaEventDisableTiming), "event");
    }
    return STRATA_OK;
}

extern "C" strata_status sti_cuda_open(sti_cuda **out)
{
    *out = nullptr;
    sti_cuda *c = new (std::nothrow) sti_cuda();
    if (!c) return sti_fail(STRATA_E_MEMORY, "out of memory");
    const strata_status s = open_device(c);
    if (s != STRATA_OK) {
        sti_cuda_close(c);
        return s;
    }
    *out = c;
    return STRATA_OK;
}

extern "C" const char *sti_cuda_name(const sti_cuda *c)
{
    return c->name;
}

extern "C" strata_status sti_cuda_wait(sti_cuda *c)
{
    sti_cuda_note(c, cudaStreamSynchronize(c->stream), "stream");
    const cudaError_t e = c->failed;
    c->failed = cudaSuccess;
    return e == cudaSuccess ? STRATA_OK : failure(e, c->where);
}

extern "C" strata_status sti_cuda_calloc(sti_cuda *c, size_t bytes, void **out)
{
    void *p = nullptr;
    const cudaError_t e = cudaMalloc(&p, bytes);
    if (e != cudaSuccess) {
        (void)cudaGetLastError(); /* not sticky */
        return sti_fail(e == cudaErrorMemoryAllocation ? STRATA_E_MEMORY : STRATA_E_DEVICE,
                        "cuda: no memory for %zu bytes: %s", bytes, cudaGetErrorString(e));
    }
    sti_cuda_note(c, cudaMemsetAsync(p, 0, bytes, c->stream), "memset");
    *out = p;
    return STRATA_OK;
}

extern "C" void sti_cuda_free(sti_cuda *c, void *p)
{
    sti_cuda_note(c, cudaStreamSynchronize(c->stream), "stream");
    sti_cuda_note(c, cudaFree(p), "free");
}

extern "C" void sti_cuda_zero(sti_cuda *c, void *p, size_t bytes)
{
    if (bytes) sti_cuda_note(c, cudaMemsetAsync(p, 0, bytes, c->stream), "memset");
}

extern "C" strata_status sti_cuda_upload(sti_cuda *c, void *dst, const void *src, size_t bytes)
{
    if (!bytes) return STRATA_OK;
    if (bytes > SLOT) { /* pageable memory: the driver stages it and waits */
        TRY_CUDA(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, c->stream), "copy to the device");
        return STRATA_OK;
    }
    std::lock_guard<std::mutex> hold(c->upload);
    sti_cuda_slot *s = &c->slot[c->next_slot];
    c->next_slot = (c->next_slot + 1) % SLOTS;
    TRY_CUDA(cudaEventSynchronize(s->copied), "event"); /* at once, unless SLOTS uploads are still under way */
    memcpy(s->pinned, src, bytes);
    TRY_CUDA(cudaMemcpyAsync(dst, s->pinned, bytes, cudaMemcpyHostToDevice, c->stream), "copy to the device");
    TRY_CUDA(cudaEventRecord(s->copied, c->stream), "event");
    return STRATA_OK;
}

extern "C" strata_status sti_cuda_download(sti_cuda *c, void *dst, const void *src, size_t bytes)
{
    if (bytes)
        sti_cuda_note(c, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, c->stream), "copy to the host");
    return sti_cuda_wait(c);
}

extern "C" void sti_cuda_copy(sti_cuda *c, void *dst, const void *src, size_t bytes)
{
    if (bytes) sti_cuda_note(c, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, c->stream), "copy");
}

extern "C" void sti_cuda_recording_free(sti_cuda *c, sti_recording *r)
{
    (void)cudaStreamSynchronize(c->stream);
    if (r->exec) (void)cudaGraphExecDestroy(r->exec);
    if (r->graph) (void)cudaGraphDestroy(r->graph);
    delete r;
}

extern "C" strata_status sti_cuda_record(sti_cuda *c, strata_status (*fn)(void *), void *arg, sti_recording **out)
{
    *out = nullptr;
    sti_recording *r = new (std::nothrow) sti_recording();
    if (!r) return sti_fail(STRATA_E_MEMORY, "out of memory");
    cudaError_t e = cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal);
    strata_status s = e == cudaSuccess ? fn(arg) : STRATA_OK;
    if (e == cudaSuccess) e = cudaStreamEndCapture(c->stream, &r->graph);
    if (s == STRATA_OK && e == cudaSuccess && c->failed != cudaSuccess) { /* a launch inside the capture was refused */
        e = c->failed;
        c->failed = cudaSuccess;
    }
    if (s == STRATA_OK && e == cudaSuccess) e = cudaGraphInstantiate(&r->exec, r->graph, 0);
    if (s == STRATA_OK && e != cudaSuccess) s = failure(e, "recording");
    if (s != STRATA_OK) {
        sti_cuda_recording_free(c, r);
        return s;
    }
    *out = r;
    return STRATA_OK;
}

extern "C" strata_status sti_cuda_replay(sti_cuda *c, sti_recording *r)
{
    TRY_CUDA(cudaGraphLaunch(r->exec, c->stream), "replay");
    return STRATA_OK;
}

namespace
{
template <typename D, typename S> __global__ void convert(D *d, const S *s, int64_t n)
{
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x)
        d[i] = sti_put<D>((sti_sum_t<D>)sti_get(s[i]));
}

template <typename D> void convert_to(sti_cuda *c, void *d, const void *s, int32_t type, int64_t n)
{
    const int64_t want = (n + 1023) / 1024, most = 32 * (int64_t)c->sms;
    const unsigned blocks = (unsigned)(want < most ? want : most);
    if (type == STRATA_F64)
        convert<<<blocks, 256, 0, c->stream>>>((D *)d, (const double *)s, n);
    else if (type == STRATA_F32)
        convert<<<blocks, 256, 0, c->stream>>>((D *)d, (const float *)s, n);
    else
        convert<<<blocks, 256, 0, c->stream>>>((D *)d, (const sti_bf16 *)s, n);
    sti_cuda_note(c, cudaPeekAtLastError(), "convert");
}
} // namespace

extern "C" void sti_cuda_convert(sti_cuda *c, void *dst, int32_t dst_type, const void *src, int32_t src_type, int64_t n)
{
    if (n < 1) return;
    if (dst_type == STRATA_F64)
        convert_to<double>(c, dst, src, src_type, n);
    else if (dst_type == STRATA_F32)
        convert_to<float>(c, dst, src, src_type, n);
    else
        convert_to<sti_bf16>(c, dst, src, src_type, n);
}
