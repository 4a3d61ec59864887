#ifndef STI_PANELS_H
#define STI_PANELS_H
/* Rows in panels: work whose rows are independent runs panel by panel, so that what lies between its stages stays in
 * cache, and the panels are shared among threads. Each thread brings its own scratch: `thread` numbers it. On a device
 * all rows are one panel. */

#include "backend/cpu/threads.h"
#include "core/device.h"

typedef void (*sti_panel_fn)(void *arg, int64_t first, int64_t rows, int thread);

/* Rows of a panel: at most `most`, fewer when that keeps all threads busy; by `most` alone when deterministic. */
static inline int64_t sti_panel_rows(const strata_context *ctx, int64_t count, int64_t most)
{
    if (sti_on_device(ctx)) return STI_MAX(count, 1);
    const int64_t each = (sti_ceil_div(count, sti_threads(ctx)) + 15) / 16 * 16;
    if (ctx->deterministic || each > most) return most;
    return each > 32 ? each : STI_MIN(32, most);
}

/* The same where panels follow one another, each with all threads. */
static inline int64_t sti_serial_rows(const strata_context *ctx, int64_t count, int64_t most)
{
    return sti_on_device(ctx) ? STI_MAX(count, 1) : most;
}

/* Rows of scratch that all threads of a call need together: thread t's begins at row t * panel. */
static inline int64_t sti_panel_scratch(const strata_context *ctx, int64_t max_count, int64_t most)
{
    const int64_t threads = ctx->threads;
    if (sti_on_device(ctx)) return max_count;
    if (threads == 1) return STI_MIN(most, max_count);
    return STI_MIN(threads * most, max_count + STI_MAX(most, 32 * threads));
}

/* One panel alone is not given to a thread: it may use threads itself. */
static inline void sti_panels(const strata_context *ctx, int64_t count, int64_t panel, sti_panel_fn fn, void *arg)
{
    const int64_t n = sti_ceil_div(count, panel);
    const int team = (int)STI_MIN((int64_t)sti_threads(ctx), n);
    if (team <= 1) {
        for (int64_t i = 0; i < n; i++) fn(arg, i * panel, STI_MIN(panel, count - i * panel), 0);
        return;
    }
#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t i = 0; i < n; i++) fn(arg, i * panel, STI_MIN(panel, count - i * panel), omp_get_thread_num());
#endif
}

#endif
