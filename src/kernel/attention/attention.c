/* Variant `c`: portable; 16-byte vectors, which every x86-64 and most others have. */
#define VB 16
#define NV 2
#define NR 6
#define VARIANT sti_attention_c
#define NAME "c"
#define ISA STI_ISA_C
#include "kernel/attention/attention_types.inc"
