#include "core/real.h"
#include "kernel/norm/norm_isa.h"
#define REAL float
#define SFX _f32_avx2
#include "kernel/norm/norm.inc"
