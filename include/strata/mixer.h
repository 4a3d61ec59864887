#ifndef STRATA_MIXER_H
#define STRATA_MIXER_H
/* A sequence mixer on its own: x (batch, time, width) -> y (batch, time, width), with its backward and its step. */

#include <strata/operator.h>

STRATA_BEGIN

typedef struct strata_mixer strata_mixer;

typedef struct strata_mixer_problem {
    size_t size;                /* STRATA_INIT(strata_mixer_problem) */
    int64_t batch, time, width; /* largest of a call */
    int64_t context;            /* length that default block lists divide; 0: time */
    int32_t dtype;              /* 0: STRATA_F32; STRATA_F64 */
    int32_t train;              /* 1: keeps what backward needs; 0: inference, `step` keeps a state of `time` tokens */
} strata_mixer_problem;

/** Plan a mixer. @param spec "softmax heads=8 score=mlr ranks=32,16,8,8"
 *  @return OK | E_SPEC | E_SHAPE | E_DTYPE | E_UNSUPPORTED | E_MEMORY */
STRATA_API strata_status strata_mixer_create(const strata_context *ctx, const char *spec,
                                             const strata_mixer_problem *problem, strata_mixer **out);
STRATA_API void strata_mixer_destroy(strata_mixer *m); /* accepts NULL */
STRATA_API int32_t strata_mixer_param_count(const strata_mixer *m);
STRATA_API strata_status strata_mixer_param(const strata_mixer *m, int32_t i, strata_param_info *info);
STRATA_API size_t strata_mixer_param_bytes(const strata_mixer *m);
STRATA_API const char *strata_mixer_spec(const strata_mixer *m); /* borrowed, canonical */
STRATA_API strata_status strata_mixer_init(const strata_mixer *m, uint64_t seed, void *params);
STRATA_API double strata_mixer_flops(const strata_mixer *m, int64_t batch, int64_t time, int32_t backward);

/** y = mixer(x). Tensors are (batch, time, width), contiguous, of the plan's type; batch and time may be smaller than
 *  planned. Keeps in the plan what backward needs: one thread at a time. @return OK | E_SHAPE | E_DTYPE | E_INVALID.
 * Allocates: never. */
STRATA_API strata_status strata_mixer_forward(strata_mixer *m, const void *params, const strata_tensor *x,
                                              const strata_tensor *y);
/** After forward with the same x: dparams += (NULL: not wanted), dx = (NULL: not wanted). Needs train = 1. */
STRATA_API strata_status strata_mixer_backward(strata_mixer *m, const void *params, const strata_tensor *x,
                                               const strata_tensor *dy, void *dparams, const strata_tensor *dx);
/** Bytes of one sequence's state; the block is relocatable and starts from strata_mixer_state_init. Needs train = 0. */
STRATA_API size_t strata_mixer_state_bytes(const strata_mixer *m);
STRATA_API strata_status strata_mixer_state_init(const strata_mixer *m, void *state);
/** Forward over new tokens with the state: x (batch, n, width), n >= 1; pos (batch): tokens already consumed; state:
 *  batch blocks of state_bytes. @return OK | E_SPACE (past the planned time) | E_UNSUPPORTED (causal=0) | … */
STRATA_API strata_status strata_mixer_step(strata_mixer *m, const void *params, void *state, const int64_t *pos,
                                           const strata_tensor *x, const strata_tensor *y);

STRATA_END
#endif
