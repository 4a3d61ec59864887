/* Status texts and the calling thread's error detail. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base.h"

static _Thread_local char detail[1024];

const char *strata_version(void)
{
    return STRATA_VERSION_STRING;
}

const char *strata_status_name(strata_status s)
{
    switch (s) {
#define X(name, number, text)                                                                                          \
    case number:                                                                                                       \
        return #name;
#include <strata/status.def>
#undef X
    default: return "E_UNKNOWN";
    }
}

const char *strata_status_text(strata_status s)
{
    switch (s) {
#define X(name, number, text)                                                                                          \
    case number:                                                                                                       \
        return text;
#include <strata/status.def>
#undef X
    default: return "unknown status";
    }
}

const char *strata_last_error(void)
{
    return detail;
}

void sti_clear_error(void)
{
    detail[0] = 0;
}

strata_status sti_fail(strata_status s, const char *fmt, ...)
{
    char text[sizeof detail]; /* arguments may point into detail */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    memcpy(detail, text, sizeof detail);
    return s;
}

strata_status sti_fail_prefix(strata_status s, const char *fmt, ...)
{
    char text[sizeof detail];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0) return s;
    size_t len = STI_MIN((size_t)n, sizeof text - 1);
    snprintf(text + len, sizeof text - len, ": %s", detail);
    memcpy(detail, text, sizeof detail);
    return s;
}
