#include "core/real.h"
#include "kernel/activation/activation_f32.h"
#include "kernel/activation/activation_isa.h"
#define SFX _f32_avx2
#include "kernel/activation/activation.inc"
