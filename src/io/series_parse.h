#ifndef STI_SERIES_PARSE_H
#define STI_SERIES_PARSE_H
/* What the readers of tables and of .tsf files share. */

#include "core/spec.h"
#include "io/series.h"

typedef struct sti_lines { /* start with at, end */
    const char *at, *end;
    const char *a, *b; /* the line, without blanks at its ends */
    int64_t number;    /* from 1 */
} sti_lines;
/* The next line that is not empty. */
bool sti_lines_next(sti_lines *l);

void sti_trim(const char **a, const char **b);                 /* blanks off both ends */
bool sti_is_missing(const char *a, const char *b);             /* nothing, ?, NA, NaN, null, … */
bool sti_read_number(const char *a, const char *b, double *x); /* decimal and finite */
/* Append a series without values. */
strata_status sti_series_add(sti_panel *p, const char *a, const char *b);

strata_status sti_table_parse(const char *text, size_t bytes, const sti_series_how *how, sti_panel *out);
strata_status sti_tsf_parse(const char *text, size_t bytes, const sti_series_how *how, sti_panel *out);

#endif
