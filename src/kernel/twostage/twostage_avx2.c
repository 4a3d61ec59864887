/* Variant `avx2`: 32-byte vectors; 6 x 2 or 12 x 1 accumulators of 16 registers. */
#define VB 32
#define NV 2
#define VARIANT sti_twostage_loops_avx2
#define NAME "avx2"
#define ISA STI_ISA_AVX2
#include "kernel/twostage/twostage_fused.inc"
