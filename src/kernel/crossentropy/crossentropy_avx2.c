#include "backend/cpu/vexp.h"
#include "core/real.h"
#include "kernel/crossentropy/crossentropy.h"
#include "kernel/crossentropy/crossentropy_isa.h"
#define REAL float
#define SFX _f32_avx2
#define EXP(x) sti_vexpf(x)
#include "kernel/crossentropy/crossentropy.inc"
