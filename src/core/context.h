#ifndef STI_CONTEXT_H
#define STI_CONTEXT_H

#include <stdatomic.h>

#include <strata/context.h>

#include "core/base.h"

/* Instruction-set groups, ordered: x86-64-v3 is AVX2, x86-64-v4 is AVX512; AMX has tiles of bf16 besides all of
 * AVX512BF16. REF asks plans for the oracles. */
typedef enum sti_isa { STI_ISA_REF, STI_ISA_C, STI_ISA_AVX2, STI_ISA_AVX512, STI_ISA_AVX512BF16, STI_ISA_AMX } sti_isa;

/* What products of f32 arrays are made of: f32 operands, or operands rounded to bf16. Sums are f32 either way. */
typedef enum sti_math { STI_MATH_F32, STI_MATH_BF16 } sti_math;

struct strata_context {
    atomic_int refs;
    int32_t threads; /* at least 1 */
    int32_t deterministic;
    int32_t device; /* strata_device */
    sti_isa isa;
    sti_math math;
    struct sti_cuda *cuda; /* backend/cuda's; NULL on the CPU */
    strata_allocator alloc;
    strata_log_fn log;
    void *log_user;
    void *rooms; /* math=bf16: one of STI_ROOM bytes per thread, behind them who has taken which */
};

struct sti_cuda *sti_cuda_of(const strata_context *ctx); /* for CUDA sources, which cannot see this header */
strata_context *sti_context_ref(const strata_context *ctx);
/* The same context, a reference, or a copy that computes with `math`: for what is asked of one plan, not of a program.
 */
strata_status sti_context_with_math(const strata_context *ctx, sti_math math, strata_context **out);
/* Whether products of f32 arrays round their operands to bf16: asked for, and the processor has the instructions. */
static inline bool sti_rounds(const strata_context *ctx)
{
    return STRATA_HAVE_AVX512BF16 && ctx->math == STI_MATH_BF16 && ctx->isa >= STI_ISA_AVX512BF16;
}

/* Room to pack operands in, for the time of one product: nothing may be allocated then, and a stack is small. Taken by
 * any thread; NULL when all are taken, or in a context that does not round. */
enum { STI_ROOM = 5 << 18 };
void *sti_room_take(const strata_context *ctx);
void sti_room_give(const strata_context *ctx, void *room); /* accepts NULL */

/* Zeroed memory from the context's allocator; *out is NULL on failure, which E_MEMORY describes. */
strata_status sti_calloc(const strata_context *ctx, int64_t count, size_t size, void **out);
void sti_log(const strata_context *ctx, int32_t level, const char *fmt, ...) STRATA_PRINTF(3, 4);
const char *sti_isa_name(sti_isa isa);
sti_isa sti_isa_detect(void); /* the highest that this machine runs and lets this process use */

/* Plain heap memory for parsers and tables that live without a context (64-byte aligned, zeroed). */
void *sti_heap(size_t bytes);
void *sti_heap_grow(void *p, size_t old_bytes, size_t new_bytes); /* on failure NULL, p stays */
void sti_heap_free(void *p);
char *sti_strdup(const char *s);

#endif
