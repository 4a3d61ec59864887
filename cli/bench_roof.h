#ifndef CLI_BENCH_ROOF_H
#define CLI_BENCH_ROOF_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All take about a millisecond and are measured on all threads at once. */

/* f32 FLOP per CPU second of one thread; 0: not known on this processor. */
double roof_fma(int threads);
/* The same of bf16 products: in tile registers, or without `tiles` by dot products of pairs (vdpbf16ps). Only where a
 * context's instruction set says that they may run. */
double roof_bf16(int threads, bool tiles);
/* Bytes per CPU second of one thread: all words are read once. */
double roof_read(const uint64_t *p, size_t words, int threads);

#endif
