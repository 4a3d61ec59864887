/* Variant `ref`: the T x T formula, f32 and f64 from one source; the oracle of the tests and of STRATA_ISA=ref. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/real.h"
#include "kernel/attention/engine.h"

#define REAL float
#define SFX _f32
#define EXP expf
#define LOG logf
#define MAXREAL FLT_MAX
#include "kernel/attention/attention_ref.inc"
#include "kernel/attention/decode.inc"
#undef REAL
#undef SFX
#undef EXP
#undef LOG
#undef MAXREAL

#define REAL double
#define SFX _f64
#define EXP exp
#define LOG log
#define MAXREAL DBL_MAX
#include "kernel/attention/attention_ref.inc"
#include "kernel/attention/decode.inc"

const sti_attention_kernel sti_attention_ref[STI_ATTENTION_TYPES] = {
    { "ref", STI_ISA_REF, work_f32, forward_f32, backward_f32, append_f32, step_f32 },
    { "ref", STI_ISA_REF, work_f64, forward_f64, backward_f64, append_f64, step_f64 },
};
