#ifndef REPLAY_H
#define REPLAY_H
/* For benchmarks on a device, in bf16: arrays of numbers, and the time of a call that is recorded and replayed, so that
 * launches cost what they do in a training step. A failure ends the program with its message. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/device.h"

static inline void check(strata_status s)
{
    if (s == STRATA_OK) return;
    fprintf(stderr, "%s: %s\n", strata_status_name(s), strata_last_error());
    exit(1);
}

/* n numbers in device memory, the first of them again and again. */
static inline void *numbers(const strata_context *ctx, int64_t n)
{
    enum { FIRST = 1 << 20 };
    const int64_t first = STI_MIN(n, FIRST);
    void *p, *wide;
    float *v = malloc((size_t)first * sizeof *v);
    if (!v) check(STRATA_E_MEMORY);
    for (int64_t i = 0; i < first; i++) v[i] = (float)((i * 7919 + 13) % 2001 - 1000) * 1e-3f;
    check(strata_device_alloc(ctx, (size_t)n * 2, &p));
    check(strata_device_alloc(ctx, (size_t)first * 4, &wide));
    check(strata_to_device(ctx, wide, v, (size_t)first * 4));
    sti_array_convert(ctx, p, STRATA_BF16, wide, STRATA_F32, first);
    for (int64_t i = first; i < n; i += first)
        sti_array_copy(ctx, (char *)p + 2 * i, p, (size_t)STI_MIN(first, n - i) * 2);
    strata_device_free(ctx, wide);
    free(v);
    return p;
}

/* Seconds of one run of `call`, which queues work: best of five times three replays. */
static inline double replayed(const strata_context *ctx, strata_status (*call)(void *), void *arg)
{
    sti_recording *r;
    double best = 1e30;
    check(call(arg)); /* plans of products are made here */
    check(strata_synchronize(ctx));
    check(sti_record(ctx, call, arg, &r));
    for (int i = 0; i < 5; i++) {
        struct timespec start, end;
        check(sti_replay(ctx, r));
        check(strata_synchronize(ctx));
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (int k = 0; k < 3; k++) check(sti_replay(ctx, r));
        check(strata_synchronize(ctx));
        clock_gettime(CLOCK_MONOTONIC, &end);
        const double each = ((double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec)) / 3;
        if (each < best) best = each;
    }
    sti_recording_free(ctx, r);
    return best;
}

#endif
