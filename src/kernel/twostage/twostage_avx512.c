/* Variant `avx512`: 64-byte vectors; 6 x 4 or 12 x 2 accumulators of 32 registers. */
#define VB 64
#define NV 4
#define VARIANT sti_twostage_loops_avx512
#define NAME "avx512"
#define ISA STI_ISA_AVX512
#include "kernel/twostage/twostage_fused.inc"
