#ifndef STRATA_BENCH_H
#define STRATA_BENCH_H
/* Where the time of a training step goes. Operators, attention and mixers are timed by calling them. */

#include <strata/context.h>

STRATA_BEGIN

typedef struct strata_model_bench strata_model_bench;

/* One training step: batch * context random tokens, forward, backward, AdamW. Wall time, and CPU time of the whole
 * process, in seconds: on a machine that others use, the CPU time is the one that repeats. On a device a step is a
 * recording; forward and backward, and the kinds below, come from a second step that waits after every stage, and add
 * up to more than `seconds`. */
typedef struct strata_step_time {
    size_t size; /* STRATA_INIT(strata_step_time) */
    double seconds, cpu_seconds;
    double forward, backward, update; /* parts of `seconds` */
    double flops;                     /* counted: matrix products only, the causal half only */
    int64_t tokens;
    double loss;
} strata_step_time;

/* The same for all stages of one kind; the optimiser comes last, as "adamw" with its time in backward. */
typedef struct strata_kind_time {
    size_t size;
    const char *kind; /* "linear", "attention", "norm" …: lives as long as the bench */
    int64_t stages;
    double forward, backward, cpu_forward, cpu_backward;
    double flops_fwd, flops_bwd;
} strata_kind_time;

/** Plan and initialise a model as strata_train would.
 *  @param spec "decoder layers=6 …"  @param vocab 0: 96  @param batch sequences of a step, 0: 8
 *  @param dtype 0: STRATA_F32; STRATA_BF16, on the CPU f32 arrays and products of operands rounded to bf16
 *  @return OK | E_SPEC | E_SHAPE | E_MEMORY | E_UNSUPPORTED */
STRATA_API strata_status strata_model_bench_create(const strata_context *ctx, const char *spec, int64_t vocab,
                                                   int64_t batch, int32_t dtype, strata_model_bench **out);
STRATA_API void strata_model_bench_destroy(strata_model_bench *b); /* accepts NULL */
/** Take one step. Allocates: never. @return OK | E_NUMERIC */
STRATA_API strata_status strata_model_bench_step(strata_model_bench *b, strata_step_time *t);
/** Kinds of stages, and what kind i took in the last step. */
STRATA_API int32_t strata_model_bench_kinds(const strata_model_bench *b);
STRATA_API strata_status strata_model_bench_kind(const strata_model_bench *b, int32_t i, strata_kind_time *t);

STRATA_END
#endif
