#ifndef STI_SERIES_H
#define STI_SERIES_H
/* Time series from text: tables (CSV: one row per time, one column per series) and .tsf files (one line per series).
 * See docs/format/series.md. Which of the two a text is, its first line that is no comment decides. */

#include "io/date.h"
#include "io/text.h"

#define STI_SERIES_LIMIT ((size_t)4 << 30) /* bytes of one file */

typedef struct sti_series {
    char *name;
    int64_t start; /* time of the first value; 0 when there are no dates */
    int64_t n;
    double *value; /* n values, NaN: missing. owned */
} sti_series;

typedef struct sti_panel {
    sti_series *series;
    int32_t count;
    bool aligned;           /* all series begin and end together: row i of one belongs to row i of the others */
    sti_step step;          /* unit NONE: no dates, or a file that does not say */
    bool month_end;         /* dates are last days of months */
    sti_date_form form;     /* of the dates, order NONE: there are none */
    char *time_name;        /* the column with the dates; NULL: none */
    int64_t *time;          /* of the rows of a table with dates, after filling; else NULL. owned */
    int64_t missing;        /* values that the file leaves out */
    int64_t filled;         /* rows that were put in for missing dates */
    int64_t gaps, gap_line; /* steps that are longer than the usual one, and the line after the first */
    int64_t repeated, repeated_line; /* rows with the date of the row before */
} sti_panel;

typedef struct sti_series_how {
    const char *time;    /* column with the dates; NULL or "": found by its cells or its name */
    const char *columns; /* names, separated by commas; NULL or "": all but the dates */
    bool fill;           /* tables: put in rows of missing values where dates are left out */
    bool header;         /* tables: the first line holds names although all its cells are numbers */
} sti_series_how;

/* Parse a text. @return OK | E_FORMAT (names the line) | E_MEMORY. On failure *out is empty. */
strata_status sti_panel_parse(const char *text, size_t bytes, const sti_series_how *how, sti_panel *out);
/* A file, plain or compressed. The hash and size (of the decompressed bytes) may be NULL. Errors name the path. */
strata_status sti_panel_load(const char *path, const sti_series_how *how, sti_panel *out, sti_hash *hash,
                             uint64_t *bytes);
void sti_panel_free(sti_panel *p); /* also of a zeroed one */
/* Time of row `i` (also beyond the end) of a series: its start and i steps, or the row's own date. */
int64_t sti_panel_time(const sti_panel *p, int32_t series, int64_t i);
/* Rows after which a day (of daily rows a week, of weekly, monthly and quarterly rows a year) repeats; 1: unknown. */
int64_t sti_panel_season(const sti_panel *p);

#endif
