#include <immintrin.h>

#define VB 32
#define VARIANT sti_gemm_few_avx2
#include "kernel/gemm/gemm_few.inc"
