/* What this processor runs, and what its operating system lets the process use. */
#define _DEFAULT_SOURCE /* syscall */
#include "core/context.h"

#if STRATA_X86
#include <cpuid.h>
#endif
#if STRATA_X86 && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if STRATA_X86
/* Linux gives the tile registers to a process that asks: once, for all its threads, those that already run included. */
static bool may_use_tiles(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { REQUEST_COMPONENT = 0x1023, TILE_DATA = 18, UNKNOWN = 0, GRANTED = 1, REFUSED = 2 };
    static atomic_int answer = UNKNOWN;
    int known = atomic_load(&answer);
    if (known == UNKNOWN) { /* two threads that ask at once get the same answer */
        known = syscall(SYS_arch_prctl, REQUEST_COMPONENT, TILE_DATA) == 0 ? GRANTED : REFUSED;
        atomic_store(&answer, known);
    }
    return known == GRANTED;
#else
    return false;
#endif
}

static bool has_tiles(void)
{
    enum { LEAF = 7, AMX_BF16 = 22, AMX_TILE = 24 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(LEAF, 0, &a, &b, &c, &d)) return false;
    return (d >> AMX_BF16 & 1) && (d >> AMX_TILE & 1) && may_use_tiles();
}
#endif

/* The builtins also ask the operating system whether it saves the wide registers. */
sti_isa sti_isa_detect(void)
{
#if STRATA_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd")) {
        if (!__builtin_cpu_supports("avx512bf16")) return STI_ISA_AVX512;
        return has_tiles() ? STI_ISA_AMX : STI_ISA_AVX512BF16;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        return STI_ISA_AVX2;
#endif
    return STI_ISA_C;
}
