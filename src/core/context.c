/* Context, memory and log. */
#include "core/context.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <strata/tensor.h>

#include "core/device.h"
#include "core/spec.h"

#if STRATA_HAVE_OPENMP
#include <omp.h>
#endif

static const char *const isa_names[] = { "ref", "c", "avx2", "avx512", "avx512bf16", "amx" };

const char *sti_isa_name(sti_isa isa)
{
    return isa_names[isa];
}

static bool parse_isa(const char *word, sti_isa *isa)
{
    if (strcmp(word, "native") == 0) {
        *isa = STI_ISA_AMX;
        return true;
    }
    for (size_t i = 0; i < STI_COUNT(isa_names); i++)
        if (strcmp(word, isa_names[i]) == 0) {
            *isa = (sti_isa)i;
            return true;
        }
    return false;
}

static void *system_alloc(void *user, size_t bytes)
{
    (void)user;
    void *p = NULL;
    return posix_memalign(&p, STI_ALIGN, bytes ? bytes : 1) == 0 ? p : NULL;
}

static void system_free(void *user, void *p)
{
    (void)user;
    free(p);
}

static int32_t default_threads(void)
{
#if STRATA_HAVE_OPENMP
    return (int32_t)omp_get_max_threads(); /* honours OMP_NUM_THREADS */
#else
    return 1;
#endif
}

static const sti_key context_keys[] = {
    { "device", STI_KEY_WORD, "cpu", "where kernels run", 0, 0, "cpu|cuda" },
    { "threads", STI_KEY_INT, "0", "threads; 0: OMP_NUM_THREADS, else all cores", 0, 4096, NULL },
    { "deterministic", STI_KEY_BOOL, "0", "same bits for every thread count", 0, 0, NULL },
    { "isa", STI_KEY_WORD, "native", "highest instruction set; may lower only", 0, 0,
      "native|amx|avx512bf16|avx512|avx2|c|ref" },
    { "math", STI_KEY_WORD, "f32",
      "operands of products of f32 arrays: as they are, or rounded to bf16 (sums stay f32)", 0, 0, "f32|bf16" },
};

/* The rooms of a context that rounds. */
static strata_status make_rooms(strata_context *ctx)
{
    if (!sti_rounds(ctx)) return STRATA_OK;
    const size_t n = (size_t)ctx->threads;
    ctx->rooms = strata_alloc(ctx, n * (STI_ROOM + sizeof(atomic_int)));
    if (!ctx->rooms) return sti_fail(STRATA_E_MEMORY, "context: no memory for %zu rooms of %d bytes", n, STI_ROOM);
    atomic_int *taken = (void *)((char *)ctx->rooms + n * STI_ROOM);
    for (size_t i = 0; i < n; i++) atomic_init(&taken[i], 0);
    return STRATA_OK;
}

void *sti_room_take(const strata_context *ctx)
{
    if (!ctx->rooms) return NULL;
    const size_t n = (size_t)ctx->threads;
    atomic_int *taken = (void *)((char *)ctx->rooms + n * STI_ROOM);
    for (size_t i = 0; i < n; i++)
        if (!atomic_load_explicit(&taken[i], memory_order_relaxed) && !atomic_exchange(&taken[i], 1))
            return (char *)ctx->rooms + i * STI_ROOM;
    return NULL;
}

void sti_room_give(const strata_context *ctx, void *room)
{
    if (!room) return;
    atomic_int *taken = (void *)((char *)ctx->rooms + (size_t)ctx->threads * STI_ROOM);
    atomic_store(&taken[(size_t)((char *)room - (char *)ctx->rooms) / STI_ROOM], 0);
}

strata_status strata_context_create(const char *spec, const strata_context_config *config, strata_context **out)
{
    strata_status s = STRATA_OK;
    sti_spec *tree = NULL;
    sti_values *v = NULL;
    if (!out) return sti_fail(STRATA_E_INVALID, "context: out is NULL");
    *out = NULL;
    if (config && config->size < offsetof(strata_context_config, log_user) + sizeof(void *))
        return sti_fail(STRATA_E_INVALID, "context: config.size is %zu; use STRATA_INIT", config->size);
    if ((s = sti_spec_parse_keys(spec ? spec : "", "context", &tree)) != STRATA_OK) goto done;
    if ((s = sti_values_bind(tree, "context", (sti_keys)STI_KEYS(context_keys), &v)) != STRATA_OK) goto done;
    if (sti_value_is(v, "device", "cuda") && sti_value_is(v, "math", "bf16")) {
        s = sti_fail(STRATA_E_UNSUPPORTED, "device=cuda has no math=bf16: give it arrays of bf16");
        goto done;
    }
#if !STRATA_HAVE_CUDA
    if (sti_value_is(v, "device", "cuda")) {
        s = sti_fail(STRATA_E_DEVICE, "device=cuda: this build has no CUDA");
        goto done;
    }
#endif
    sti_isa isa = sti_isa_detect(), limit = STI_ISA_AMX;
    const char *env = getenv("STRATA_ISA");
    if (env && *env && !parse_isa(env, &limit)) {
        s = sti_fail(STRATA_E_SPEC, "STRATA_ISA=%s: not one of native, amx, avx512bf16, avx512, avx2, c, ref", env);
        goto done;
    }
    isa = STI_MIN(isa, limit);
    parse_isa(sti_value_text(v, "isa"), &limit);
    isa = STI_MIN(isa, limit);

    strata_allocator a = { system_alloc, system_free, NULL };
    if (config && config->allocator) a = *config->allocator;
    strata_context *ctx = a.alloc(a.user, sizeof *ctx);
    if (!ctx) {
        s = sti_fail(STRATA_E_MEMORY, "context: no memory for %zu bytes", sizeof *ctx);
        goto done;
    }
    memset(ctx, 0, sizeof *ctx);
    atomic_init(&ctx->refs, 1);
    ctx->alloc = a;
    ctx->isa = isa;
    ctx->math = sti_value_is(v, "math", "bf16") ? STI_MATH_BF16 : STI_MATH_F32;
    ctx->deterministic = (int32_t)sti_value_int(v, "deterministic");
    ctx->threads = (int32_t)sti_value_int(v, "threads");
    if (ctx->threads == 0) ctx->threads = default_threads();
    if (config) {
        ctx->log = config->log;
        ctx->log_user = config->log_user;
    }
#if STRATA_HAVE_CUDA
    if (sti_value_is(v, "device", "cuda")) {
        ctx->device = STRATA_CUDA;
        if ((s = sti_cuda_open(&ctx->cuda)) != STRATA_OK) {
            strata_context_destroy(ctx);
            goto done;
        }
    }
#endif
    if ((s = make_rooms(ctx)) != STRATA_OK) {
        strata_context_destroy(ctx);
        goto done;
    }
    *out = ctx;
done:
    sti_values_free(v);
    sti_spec_free(tree);
    return s;
}

strata_context *sti_context_ref(const strata_context *ctx)
{
    /* The count is the one mutable member of an otherwise immutable object. */
    strata_context *c = (strata_context *)(uintptr_t)ctx;
    atomic_fetch_add(&c->refs, 1);
    return c;
}

strata_status sti_context_with_math(const strata_context *ctx, sti_math math, strata_context **out)
{
    *out = NULL;
    if (ctx->math == math) {
        *out = sti_context_ref(ctx);
        return STRATA_OK;
    }
    if (ctx->device != STRATA_CPU)
        return sti_fail(STRATA_E_UNSUPPORTED, "device=cuda has no math=bf16: give it arrays of bf16");
    strata_context *c = ctx->alloc.alloc(ctx->alloc.user, sizeof *c);
    if (!c) return sti_fail(STRATA_E_MEMORY, "context: no memory for %zu bytes", sizeof *c);
    memset(c, 0, sizeof *c);
    atomic_init(&c->refs, 1);
    c->threads = ctx->threads;
    c->deterministic = ctx->deterministic;
    c->device = ctx->device;
    c->isa = ctx->isa;
    c->math = math;
    c->alloc = ctx->alloc;
    c->log = ctx->log;
    c->log_user = ctx->log_user;
    strata_status s = make_rooms(c);
    if (s == STRATA_OK)
        *out = c;
    else
        strata_context_destroy(c);
    return s;
}

void strata_context_destroy(strata_context *ctx)
{
    if (!ctx || atomic_fetch_sub(&ctx->refs, 1) != 1) return;
#if STRATA_HAVE_CUDA
    sti_cuda_close(ctx->cuda);
#endif
    strata_free(ctx, ctx->rooms);
    ctx->alloc.free(ctx->alloc.user, ctx);
}

struct sti_cuda *sti_cuda_of(const strata_context *ctx)
{
    return ctx->cuda;
}

int32_t strata_context_threads(const strata_context *ctx)
{
    return ctx->threads;
}

const char *strata_context_isa(const strata_context *ctx)
{
    return sti_isa_name(ctx->isa);
}

const char *strata_context_math(const strata_context *ctx)
{
    return sti_rounds(ctx) ? "bf16" : "f32";
}

void *strata_alloc(const strata_context *ctx, size_t bytes)
{
    return ctx ? ctx->alloc.alloc(ctx->alloc.user, bytes) : NULL;
}

void strata_free(const strata_context *ctx, void *p)
{
    if (p) ctx->alloc.free(ctx->alloc.user, p);
}

strata_status sti_calloc(const strata_context *ctx, int64_t count, size_t size, void **out)
{
    size_t bytes = 0;
    *out = NULL;
    if (count < 0 || __builtin_mul_overflow((size_t)count, size, &bytes))
        return sti_fail(STRATA_E_MEMORY, "%lld elements of %zu bytes do not fit in memory", (long long)count, size);
    void *p = strata_alloc(ctx, bytes ? bytes : 1);
    if (!p) return sti_fail(STRATA_E_MEMORY, "no memory for %zu bytes", bytes);
    memset(p, 0, bytes);
    *out = p;
    return STRATA_OK;
}

void sti_log(const strata_context *ctx, int32_t level, const char *fmt, ...)
{
    if (!ctx->log) return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ctx->log(ctx->log_user, level, text);
}

void *sti_heap(size_t bytes)
{
    void *p = system_alloc(NULL, bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

void *sti_heap_grow(void *p, size_t old_bytes, size_t new_bytes)
{
    void *q = sti_heap(new_bytes);
    if (!q) return NULL;
    if (p) memcpy(q, p, STI_MIN(old_bytes, new_bytes));
    free(p);
    return q;
}

void sti_heap_free(void *p)
{
    free(p);
}

char *sti_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *d = sti_heap(n);
    if (d) memcpy(d, s, n);
    return d;
}
