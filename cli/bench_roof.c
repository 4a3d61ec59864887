/* What one thread of this machine can do at most: multiply-adds in registers, and reading memory. */
#include "bench_roof.h"

#include <stddef.h>
#include <time.h>

static double thread_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#if defined(__x86_64__)
#include <immintrin.h>

enum { LANES = 16, CHAINS = 12, ROUNDS = 400000 }; /* chains: enough to hide the latency of two units */

/* Loops of independent multiply-adds. The sum goes to *sink so that nothing is left out. */
#define ROOF(name, isa, V, set1, fmadd, add, store)                                                                    \
    __attribute__((target(isa))) static double name(float *sink)                                                       \
    {                                                                                                                  \
        V a[CHAINS];                                                                                                   \
        const V x = set1(0.999f), y = set1(1e-3f);                                                                     \
        for (int i = 0; i < CHAINS; i++) a[i] = x;                                                                     \
        const double start = thread_now();                                                                             \
        for (int k = 0; k < ROUNDS; k++)                                                                               \
            for (int i = 0; i < CHAINS; i++) a[i] = fmadd(a[i], x, y);                                                 \
        const double seconds = thread_now() - start;                                                                   \
        for (int i = 1; i < CHAINS; i++) a[0] = add(a[0], a[i]);                                                       \
        store(sink, a[0]);                                                                                             \
        return 2.0 * sizeof(V) / sizeof(float) * CHAINS * ROUNDS / seconds;                                            \
    }
ROOF(fma_avx512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_add_ps, _mm512_storeu_ps)
ROOF(fma_avx2, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_add_ps, _mm256_storeu_ps)

static double fma_once(void)
{
    float sink[LANES];
    if (__builtin_cpu_supports("avx512f")) return fma_avx512(sink);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return fma_avx2(sink);
    return 0;
}
#else
static double fma_once(void)
{
    return 0;
}
#endif

double roof_fma(int threads)
{
    double sum = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : sum)
    for (int t = 0; t < threads; t++) sum += fma_once();
    return sum / threads;
}

#if STRATA_X86 && STRATA_HAVE_AVX512BF16
__attribute__((target("avx512f,avx512bf16"))) static double dots_once(float *sink)
{
    __m512 a[CHAINS];
    const __m512bh x = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    for (int i = 0; i < CHAINS; i++) a[i] = _mm512_setzero_ps();
    const double start = thread_now();
    for (int k = 0; k < ROUNDS; k++)
        for (int i = 0; i < CHAINS; i++) a[i] = _mm512_dpbf16_ps(a[i], x, x);
    const double seconds = thread_now() - start;
    for (int i = 1; i < CHAINS; i++) a[0] = _mm512_add_ps(a[0], a[i]);
    _mm512_storeu_ps(sink, a[0]);
    return 2.0 * 32 * CHAINS * ROUNDS / seconds;
}
#else
static double dots_once(float *sink)
{
    (void)sink;
    return 0;
}
#endif

#if STRATA_HAVE_AMX
__attribute__((target("amx-tile,amx-bf16"))) static double tiles_once(void)
{
    enum { TILES = 8, ROWS = 16, CALLS = 25000, FLOPS = 2 * 16 * 16 * 32 };
    _Alignas(64) struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = { .palette = 1 };
    _Alignas(64) uint16_t x[512];
    for (int i = 0; i < TILES; i++) {
        config.bytes[i] = 64;
        config.rows[i] = ROWS;
    }
    for (int i = 0; i < 512; i++) x[i] = (uint16_t)(0x3f00 + i % 96); /* numbers of half to two */
    _tile_loadconfig(&config);
    _tile_loadd(4, x, 64);
    _tile_loadd(5, x, 64);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const double start = thread_now();
    for (int k = 0; k < CALLS; k++) {
        _tile_dpbf16ps(0, 4, 5);
        _tile_dpbf16ps(1, 4, 5);
        _tile_dpbf16ps(2, 4, 5);
        _tile_dpbf16ps(3, 4, 5);
    }
    const double seconds = thread_now() - start;
    _tile_release();
    return 4.0 * FLOPS * CALLS / seconds;
}
#else
static double tiles_once(void)
{
    return 0;
}
#endif

double roof_bf16(int threads, bool tiles)
{
    double sum = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : sum)
    for (int t = 0; t < threads; t++) {
        float sink[16];
        sum += tiles ? tiles_once() : dots_once(sink);
    }
    return sum / threads;
}

/* Sum of the words of [p, p + n), in lanes. */
static uint64_t sum(const uint64_t *p, size_t n)
{
    uint64_t s[32] = { 0 };
    for (size_t i = 0; i + 32 <= n; i += 32)
        for (size_t k = 0; k < 32; k++) s[k] += p[i + k];
    for (size_t k = 1; k < 32; k++) s[0] += s[k];
    return s[0];
}

double roof_read(const uint64_t *p, size_t words, int threads)
{
    uint64_t total = 0;
    double cpu = 0;
    const size_t each = words / (size_t)threads;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : total, cpu)
    for (int t = 0; t < threads; t++) {
        const double start = thread_now();
        total += sum(p + (size_t)t * each, each);
        cpu += thread_now() - start;
    }
    volatile uint64_t sink = total; /* or nothing would be read */
    (void)sink;
    return (double)(each * (size_t)threads * sizeof *p) / cpu;
}
