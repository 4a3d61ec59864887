#ifndef CLI_BENCH_ROOF_H
#define CLI_BENCH_ROOF_H
#include <stddef.h>
#include <stdint.h>

/* f32 FLOP per CPU second of one thread, best of several runs; 0: this processor has no known one. */
double roof_fma(void);

typedef struct roof_read_rate {
    double wall, cpu; /* bytes per second of all threads together, and per CPU second of one */
} roof_read_rate;
/* Read all words once, shared among the threads, and raise *r to what was reached. @return their sum */
uint64_t roof_read(const uint64_t *p, size_t words, int threads, roof_read_rate *r);

#endif
