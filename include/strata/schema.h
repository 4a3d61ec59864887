#ifndef STRATA_SCHEMA_H
#define STRATA_SCHEMA_H
/* What is registered: families ("operator", "mixer", "layer", "attention", "model", "task", "train"), their kinds and
 * their keys. The program's help and the docs are printed from these tables. */

#include <strata/context.h>

STRATA_BEGIN

typedef struct strata_key_info {
    const char *name, *type, *def, *help, *choices; /* def NULL: required; "": derived */
    double min, max;                                /* both 0: no bounds */
} strata_key_info;

STRATA_API int32_t strata_family_count(void);
STRATA_API const char *strata_family_name(int32_t f);
STRATA_API int32_t strata_kind_count(const char *family);
STRATA_API const char *strata_kind_name(const char *family, int32_t i);
STRATA_API const char *strata_kind_summary(const char *family, int32_t i);
STRATA_API int32_t strata_key_count(const char *family, const char *kind);
STRATA_API strata_status strata_key_at(const char *family, const char *kind, int32_t i, strata_key_info *info);
/** Example spec i of a kind, NULL past the end. */
STRATA_API const char *strata_kind_example(const char *family, const char *kind, int32_t i);

/** Check what is wrong with a spec whatever the sizes: syntax, kinds, keys, values, and the same of nested specs. A
 * spec that passes may still not fit a problem, which its create function says.
 *  @param family "operator", "mixer", "layer", "model"; of "attention", whose specs are keys alone
 *  @return OK | E_SPEC | E_MEMORY | E_INVALID (no such family) */
STRATA_API strata_status strata_spec_check(const char *family, const char *spec);

typedef void (*strata_selftest_fn)(void *user, const char *kernel, const char *variant, int32_t ok, const char *detail);
/** One short self-test per kernel and variant this machine can run. @return OK | E_NUMERIC if one failed */
STRATA_API strata_status strata_selftest(const strata_context *ctx, strata_selftest_fn fn, void *user);
/** Third-party parts this build has: "openblas 0.3.21", "zstd 1.5.4", "openmp"; NULL past the end. */
STRATA_API const char *strata_feature(int32_t i);

STRATA_END
#endif
