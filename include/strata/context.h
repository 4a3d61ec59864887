#ifndef STRATA_CONTEXT_H
#define STRATA_CONTEXT_H
/* The context: device, threads, allocator, log callback, determinism. Immutable after creation, so any number
 * of threads may use one. After fork() the child must create a new context. */

#include <strata/status.h>

STRATA_BEGIN

typedef struct strata_context strata_context;

typedef enum strata_log_level { STRATA_LOG_ERROR, STRATA_LOG_WARN, STRATA_LOG_INFO, STRATA_LOG_DEBUG } strata_log_level;

/** Called only on the thread that made the call into Strata. @param text [borrowed] one line, no newline. */
typedef void (*strata_log_fn)(void *user, int32_t level, const char *text);

/** Memory hooks. alloc returns `bytes` bytes aligned to 64, or NULL; free accepts NULL. */
typedef struct strata_allocator {
    void *(*alloc)(void *user, size_t bytes);
    void (*free)(void *user, void *p);
    void *user;
} strata_allocator;

typedef struct strata_context_config {
    size_t size;                       /* sizeof(strata_context_config), set by STRATA_INIT */
    const strata_allocator *allocator; /* NULL: the system's */
    strata_log_fn log;                 /* NULL: silent */
    void *log_user;
} strata_context_config;

#define STRATA_INIT(type) (sizeof(type))

/** Create a context.
 *  @param spec NULL or keys separated by blanks: `device=cpu|cuda`, `threads=N` (0: OMP_NUM_THREADS or all cores),
 *         `deterministic=0|1` (same bits for every thread count), `isa=native|amx|avx512bf16|avx512|avx2|c|ref`
 *         (may lower only; default the environment's STRATA_ISA, else native), `math=f32|bf16` (bf16: products of f32
 *         arrays round their operands to bf16 and sum in f32, where the processor has instructions for that, which
 *         strata_context_math tells; elsewhere they stay f32)
 *  @param config NULL for defaults  @param out [owned by the caller] NULL on failure
 *  @return OK | E_SPEC | E_DEVICE | E_MEMORY */
STRATA_API strata_status strata_context_create(const char *spec, const strata_context_config *config,
                                               strata_context **out);
/** Drop a reference; objects made from the context hold their own. Accepts NULL. */
STRATA_API void strata_context_destroy(strata_context *ctx);

STRATA_API int32_t strata_context_threads(const strata_context *ctx);
/** The instruction set in use: "amx", "avx512bf16", "avx512", "avx2", "c" or "ref". */
STRATA_API const char *strata_context_isa(const strata_context *ctx);
/** "bf16" when products of f32 arrays round their operands to bf16, else "f32", also where math=bf16 had no effect. */
STRATA_API const char *strata_context_math(const strata_context *ctx);

/** Memory from the context's allocator, aligned to 64 bytes; NULL when exhausted. */
STRATA_API void *strata_alloc(const strata_context *ctx, size_t bytes);
STRATA_API void strata_free(const strata_context *ctx, void *p);

/* ---- the device --------------------------------------------------------------------------------------------------
 * Tensors passed to functions of a context live where it computes: host memory for device=cpu, device memory for
 * device=cuda (tensor.device says which). Calls on a CUDA context queue their work on its one stream and may return
 * before it is done; strata_to_host and strata_synchronize wait, and report what failed since. The functions below work
 * for both devices, so one program serves them. */

/** STRATA_CPU or STRATA_CUDA. */
STRATA_API int32_t strata_context_device(const strata_context *ctx);
/** "cpu", or the name of the GPU. Borrowed. */
STRATA_API const char *strata_context_device_name(const strata_context *ctx);
/** Zeroed memory where the context computes. @return OK | E_MEMORY */
STRATA_API strata_status strata_device_alloc(const strata_context *ctx, size_t bytes, void **out);
STRATA_API void strata_device_free(const strata_context *ctx, void *p); /* accepts NULL */
/** Copy from host memory (src may be reused after return). @return OK | E_DEVICE */
STRATA_API strata_status strata_to_device(const strata_context *ctx, void *dst, const void *src, size_t bytes);
/** Wait for queued work, then copy to host memory. @return OK | E_DEVICE */
STRATA_API strata_status strata_to_host(const strata_context *ctx, void *dst, const void *src, size_t bytes);
/** Copy within the memory where the context computes; queued. @return OK | E_INVALID */
STRATA_API strata_status strata_device_copy(const strata_context *ctx, void *dst, const void *src, size_t bytes);
/** Wait for queued work. @return OK | E_DEVICE (names the first failure since the last call) */
STRATA_API strata_status strata_synchronize(const strata_context *ctx);

STRATA_END
#endif
