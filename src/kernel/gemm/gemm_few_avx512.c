#include <immintrin.h>

#define VB 64
#define VARIANT sti_gemm_few_avx512
#include "kernel/gemm/gemm_few.inc"
