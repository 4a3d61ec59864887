/* Variant `avx512`: 64-byte vectors; 6 x 4 accumulators of 32 registers. */
#define VB 64
#define NV 4
#define NR 6
#define VARIANT sti_attention_avx512
#define NAME "avx512"
#define ISA STI_ISA_AVX512
#include "kernel/attention/attention_types.inc"
