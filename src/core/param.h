#ifndef STI_PARAM_H
#define STI_PARAM_H
/* Parameter table: named slices of one allocation, with the initialisation and learning-rate multiplier that each class
 * states for itself. The same layout serves gradients and optimiser moments. */

#include <strata/tensor.h>

#include "core/base.h"

typedef enum sti_init_kind { STI_INIT_NORMAL, STI_INIT_CONST } sti_init_kind;

typedef struct sti_param {
    char *name; /* "blocks.0.mixer.q.weight". owned */
    int32_t ndim;
    int64_t shape[STRATA_MAX_DIMS];
    int64_t count;
    int64_t offset; /* elements from the start of the parameter block; a multiple of 16 */
    sti_init_kind init;
    double init_value; /* NORMAL: standard deviation (mean 0); CONST: the value */
    double scale;      /* natural scale for random tests (standard deviation); never 0 */
    double lr_mult;    /* Adam learning-rate multiplier; already contains base_width / fan_in */
    int32_t tied;      /* index of the parameter this one shares storage with, or -1 */
    double *columns;   /* owned; NULL, or for the n columns of the last dimension: n factors of the standard deviation
                        * (and natural scale), then n factors of lr_mult */
} sti_param;

typedef struct sti_params {
    sti_param *p;
    int32_t count, cap;
    int64_t elements; /* total, padding included */
} sti_params;

void sti_params_free(sti_params *t);
/* Append a parameter and assign its offset. `natural`: scale for tests. */
strata_status sti_params_add(sti_params *t, const char *name, int32_t ndim, const int64_t *shape, sti_init_kind init,
                             double init_value, double natural, double lr_mult);
/* Give the columns of the last added parameter (its last dimension holds n) their own factors: see sti_param.columns.
 */
strata_status sti_params_columns(sti_params *t, int64_t n, const double *init, const double *lr);
/* Append all of `src` under "prefix.": returns the index of the first and the element offset of the block, so that
 * src's own offsets stay valid relative to it. prefix may be "" (names unchanged). */
strata_status sti_params_append(sti_params *t, const char *prefix, const sti_params *src, int32_t *first,
                                int64_t *base);
const sti_param *sti_params_find(const sti_params *t, const char *name);
/* Fill `params` (f32 or f64) with the stated initialisation, or, when natural != 0, with normals of the natural scale.
 * Philox: key = seed, stream = index of the parameter. Padding is zeroed. */
void sti_params_init(const sti_params *t, void *params, int32_t dtype, uint64_t seed, int natural);
strata_tensor sti_param_view(const sti_param *p, void *base, int32_t dtype);
int64_t sti_params_numel(const sti_params *t); /* without padding; tied ones counted once */

#endif
