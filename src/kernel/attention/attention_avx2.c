/* Variant `avx2`: 32-byte vectors; 6 x 2 accumulators of 16 registers. */
#define VB 32
#define NV 2
#define NR 6
#define VARIANT sti_attention_avx2
#define NAME "avx2"
#define ISA STI_ISA_AVX2
#include "kernel/attention/attention_types.inc"
