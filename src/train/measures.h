#ifndef STI_MEASURES_H
#define STI_MEASURES_H
/* What an evaluation measures beside the loss: a list of named numbers and curves (strata_measures of
 * strata/train.h). */

#include <strata/train.h>

#include "core/spec.h"

strata_status sti_measures_create(strata_measures **out);
/* Append `count` values, copied. NaN: not known. name and help are borrowed for as long as the list lives. */
strata_status sti_measures_add(strata_measures *m, const char *name, const char *help, int64_t count,
                               const double *value);
/* "name":1.5,"curve":[1,2,null] without braces: members for a row of metrics. */
void sti_measures_put(const strata_measures *m, sti_text *t);

#endif
