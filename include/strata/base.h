#ifndef STRATA_BASE_H
#define STRATA_BASE_H
/* What every public header needs: version, export and C/C++ glue. */

#include <stddef.h>
#include <stdint.h>

#define STRATA_VERSION_MAJOR 0
#define STRATA_VERSION_MINOR 1
#define STRATA_VERSION_PATCH 0
#define STRATA_VERSION_STRING "0.1.0"

#if defined(__GNUC__)
#define STRATA_API __attribute__((visibility("default")))
#define STRATA_NODISCARD __attribute__((warn_unused_result))
#define STRATA_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define STRATA_API
#define STRATA_NODISCARD
#define STRATA_PRINTF(fmt, args)
#endif

#ifdef __cplusplus
#define STRATA_BEGIN extern "C" {
#define STRATA_END }
#else
#define STRATA_BEGIN
#define STRATA_END
#endif

STRATA_BEGIN

/** Version of the library that is running, "0.1.0". Compare with STRATA_VERSION_STRING. */
STRATA_API const char *strata_version(void);

STRATA_END
#endif
