#ifndef STRATA_STATUS_H
#define STRATA_STATUS_H
/* Status codes: 0 is success, every error is negative. The list is status.def. */

#include <strata/base.h>

STRATA_BEGIN

typedef enum strata_status_code {
#define X(name, number, text) STRATA_##name = (number),
#include <strata/status.def>
#undef X
    STRATA_STATUS_LAST_ /* keeps the list's trailing comma portable; never returned */ = 1
} strata_status_code;

typedef int32_t strata_status;

/** Name of a status, "E_SHAPE"; "E_UNKNOWN" for a number that is not on the list. Threads: any. */
STRATA_API const char *strata_status_name(strata_status s);

/** One-line text of a status, "shapes do not agree". Threads: any. */
STRATA_API const char *strata_status_text(strata_status s);

/** Detail of the calling thread's last error, such as "mlr: ranks sum to 40 but d_qk is 32"; "" if none.
 *  [borrowed] valid until the thread's next failing call. */
STRATA_API const char *strata_last_error(void);

STRATA_END
#endif
