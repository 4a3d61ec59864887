#ifndef STI_GEMM_COMPONENT_H
#define STI_GEMM_COMPONENT_H
#include "kernel/gemm.h"
#endif
