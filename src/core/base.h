#ifndef STI_BASE_H
#define STI_BASE_H
/* Helpers every source file may use. Sees libc only. */

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <strata/status.h>

#define STI_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define STI_MIN(a, b) ((a) < (b) ? (a) : (b))
#define STI_MAX(a, b) ((a) > (b) ? (a) : (b))
#define STI_ALIGN 64u
#define STI_RESTRICT __restrict__

/* Internal invariants: checked in debug builds only, by a trap (the library never aborts on bad input). */
#ifdef STI_DEBUG
#define STI_ASSERT(e) ((e) ? (void)0 : __builtin_trap())
#else
#define STI_ASSERT(e) ((void)0)
#endif

/* Return early with the status of a failing call. Only where nothing needs to be freed. */
#define STI_TRY(e)                                                                                                     \
    do {                                                                                                               \
        strata_status sti_try_s_ = (e);                                                                                \
        if (sti_try_s_ != STRATA_OK) return sti_try_s_;                                                                \
    } while (0)

STRATA_BEGIN
/* Record the detail text of this thread's error and return `s`. */
strata_status sti_fail(strata_status s, const char *fmt, ...) STRATA_PRINTF(2, 3);
/* Put "prefix: " before the detail text that is there; returns `s`. */
strata_status sti_fail_prefix(strata_status s, const char *fmt, ...) STRATA_PRINTF(2, 3);
void sti_clear_error(void);
STRATA_END

static inline size_t sti_round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}
static inline int64_t sti_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Checked arithmetic on sizes that come from outside: false on overflow or a negative factor. */
static inline bool sti_mul_i64(int64_t a, int64_t b, int64_t *out)
{
    return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, out);
}
static inline bool sti_add_i64(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

#endif
