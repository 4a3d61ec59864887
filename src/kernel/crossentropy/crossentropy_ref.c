/* The oracle: libm's exponential in f32 and f64. f64 always runs it, f32 under isa=ref. */
#include <math.h>

#include "core/base.h"
#include "core/real.h"
#include "kernel/crossentropy/crossentropy_isa.h"

#define REAL float
#define SFX _f32_ref
#define EXP(x) expf(x)
#include "kernel/crossentropy/crossentropy.inc"
#undef REAL
#undef SFX
#undef EXP
#define REAL double
#define SFX _f64_ref
#define EXP(x) exp(x)
#include "kernel/crossentropy/crossentropy.inc"
