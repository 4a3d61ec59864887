#ifndef STI_DATE_H
#define STI_DATE_H
/* Dates as text, and as seconds since 1970-01-01 00:00 of the Gregorian calendar (no time zone: a zone in the text is
 * taken off, so times are UTC then).
 *
 * Read: 2016-07-01, 2016/7/1, 1.7.2016 (day first), 7/1/2016 or 1/7/2016 (the caller says which comes first), 20160701,
 * 2016-07 (the first of the month); then, after a blank or 'T', 3:00, 03:00:00, 03-00-00, fractions of a second (which
 * are dropped), and Z or +02:00. */

#include "core/base.h"

typedef enum sti_date_order {
    STI_DATE_NONE,    /* not a date; in sti_date_read: take the text as it comes, 7/1/2016 with the month first */
    STI_DATE_YMD,     /* 2016-07-01 */
    STI_DATE_DMY,     /* 1.7.2016, 1/7/2016 */
    STI_DATE_MDY,     /* 7/1/2016 */
    STI_DATE_COMPACT, /* 20160701 */
    STI_DATE_MONTH,   /* 2016-07 */
    STI_DATE_NUMBER   /* no date but a running number (also a year); never from sti_date_read */
} sti_date_order;

typedef struct sti_date_form { /* how a date was written, to continue in the same way */
    sti_date_order order;
    char between; /* '-', '/' or '.' */
    char clock;   /* before the time of day: ' ' or 'T'; 0: there is none */
    bool seconds, zone;
} sti_date_form;

/* What lies between two rows. */
typedef enum sti_step_unit {
    STI_STEP_NONE,    /* unknown: there are no dates */
    STI_STEP_SECONDS, /* weeks, days, hours, … */
    STI_STEP_MONTHS,  /* also quarters and years */
    STI_STEP_COUNT    /* running numbers */
} sti_step_unit;

typedef struct sti_step {
    sti_step_unit unit;
    int64_t n; /* at least 1; 0 when unknown */
} sti_step;

/* All of s[0 … n) as a date of years 1 to 9999. `want` DMY or MDY: the order of dates with slashes. */
bool sti_date_read(const char *s, size_t n, sti_date_order want, int64_t *time, sti_date_form *form);
/* Write `time` in a form (two digits for months, days and hours). buf of STI_DATE_TEXT bytes, which is returned. */
enum { STI_DATE_TEXT = 48 };
const char *sti_date_write(int64_t time, const sti_date_form *form, char *buf);
/* `time` and k steps; a 31st falls on the last day of shorter months when month_end is set or the day does not exist.
 */
int64_t sti_date_add(int64_t time, sti_step step, int64_t k, bool month_end);

/* Days since 1970-01-01, and back. */
int64_t sti_date_days(int64_t year, int32_t month, int32_t day);
void sti_date_civil(int64_t days, int64_t *year, int32_t *month, int32_t *day);
int32_t sti_date_month_length(int64_t year, int32_t month);

#endif
