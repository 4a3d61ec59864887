#ifndef CLI_BENCH_ROOF_H
#define CLI_BENCH_ROOF_H
#include <stddef.h>
#include <stdint.h>

/* Both take about a millisecond and are measured on all threads at once. */

/* f32 FLOP per CPU second of one thread; 0: not known on this processor. */
double roof_fma(int threads);
/* Bytes per CPU second of one thread: all words are read once. */
double roof_read(const uint64_t *p, size_t words, int threads);

#endif
