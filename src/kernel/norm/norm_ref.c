/* The oracle: the formulas of norm.inc under strict flags. f64 always runs it, f32 under isa=ref. */
#include "core/real.h"
#include "kernel/norm/norm_isa.h"

#define REAL float
#define SFX _f32_ref
#include "kernel/norm/norm.inc"
#undef REAL
#undef SFX
#define REAL double
#define SFX _f64_ref
#include "kernel/norm/norm.inc"
