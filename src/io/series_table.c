/* Tables of series: CSV with ',', ';' or tab. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "io/series_parse.h"

typedef struct cell {
    const char *a, *b;
} cell;

typedef struct stamp { /* a date as it stands in the text */
    cell text;
    int64_t line;
} stamp;

typedef struct table {
    sti_lines lines;
    char comma;
    cell *name, *cell; /* ncol each; name[0].a NULL: no header */
    int64_t ncol;
    int64_t time;            /* column with the dates, -1: none */
    int64_t *column;         /* of each series */
    double *value;           /* (rows, series) */
    size_t rows, cap;        /* cap: of rows, in value and stamp */
    stamp *stamp;            /* of each row, when there is a column with dates */
    int64_t *index, *months; /* work of the steps, one per row */
} table;

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

static int width(cell c)
{
    const ptrdiff_t n = c.b - c.a;
    return (int)STI_MIN(n, (ptrdiff_t)40);
}

/* ---- cells -------------------------------------------------------------------------------------------------- */
/* Split the current line; at most `cap` cells are stored. */
static strata_status split(const table *t, cell *out, int64_t cap, int64_t *count)
{
    const char *p = t->lines.a, *end = t->lines.b;
    int64_t n = 0;
    for (bool more = true; more; n++) {
        cell c = { p, p };
        while (p < end && (*p == ' ' || (*p == '\t' && t->comma != '\t'))) p++;
        if (p < end && *p == '"') {
            c.a = ++p;
            while (p < end && (*p != '"' || (p + 1 < end && p[1] == '"'))) p += *p == '"' ? 2 : 1;
            if (p >= end)
                return sti_fail(STRATA_E_FORMAT, "line %lld: a quote is not closed on its line",
                                (long long)t->lines.number);
            c.b = p++;
            while (p < end && (*p == ' ' || (*p == '\t' && t->comma != '\t'))) p++;
            if (p < end && *p != t->comma)
                return sti_fail(STRATA_E_FORMAT, "line %lld: text after a closing quote", (long long)t->lines.number);
        } else {
            c.a = p;
            while (p < end && *p != t->comma) p++;
            c.b = p;
            sti_trim(&c.a, &c.b);
        }
        if (n < cap) out[n] = c;
        more = p < end;
        p++;
    }
    *count = n;
    return STRATA_OK;
}

/* The separator that the first line holds most often, outside quotes. */
static char separator(const sti_lines *l)
{
    static const char kinds[] = ";\t,";
    int64_t best = 0;
    char comma = 0;
    for (int k = 0; kinds[k]; k++) {
        int64_t n = 0;
        bool quoted = false;
        for (const char *p = l->a; p < l->b; p++) {
            quoted ^= *p == '"';
            n += !quoted && *p == kinds[k];
        }
        if (n > best) {
            best = n;
            comma = kinds[k];
        }
    }
    return comma;
}

/* ---- the header --------------------------------------------------------------------------------------------- */
static bool is_date(cell c, sti_date_form *f)
{
    static const sti_date_order orders[] = { STI_DATE_NONE, STI_DATE_DMY, STI_DATE_MDY };
    int64_t time;
    for (size_t i = 0; i < STI_COUNT(orders); i++)
        if (sti_date_read(c.a, (size_t)(c.b - c.a), orders[i], &time, f)) return true;
    return false;
}

/* Does this line hold values, not names? */
static bool is_row(const cell *c, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double x;
        sti_date_form f;
        if (!sti_is_missing(c[i].a, c[i].b) && !sti_read_number(c[i].a, c[i].b, &x) && !is_date(c[i], &f)) return false;
    }
    return true;
}

static bool same(cell c, const char *word, size_t n)
{
    if ((size_t)(c.b - c.a) != n) return false;
    for (size_t i = 0; i < n; i++)
        if (c.a[i] != word[i]) return false;
    return true;
}

static bool is_time_name(cell c)
{
    static const char *const words[] = { "date", "time",  "datetime", "date_time", "timestamp", "ds",    "day",
                                         "week", "month", "year",     "period",    "index",     "epoch", "Unnamed: 0" };
    char lower[16] = "";
    const size_t n = (size_t)(c.b - c.a);
    if (n >= sizeof lower) return false;
    for (size_t i = 0; i < n; i++) lower[i] = c.a[i] >= 'A' && c.a[i] <= 'Z' ? (char)(c.a[i] - 'A' + 'a') : c.a[i];
    for (size_t i = 0; i < STI_COUNT(words); i++)
        if (strcmp(lower, words[i]) == 0 || same(c, words[i], strlen(words[i]))) return true;
    return false;
}

static strata_status find_column(const table *t, const char *name, size_t n, int64_t *out)
{
    for (int64_t i = 0; i < t->ncol; i++)
        if (same(t->name[i], name, n)) {
            *out = i;
            return STRATA_OK;
        }
    return sti_fail(STRATA_E_FORMAT, "line 1: no column is called \"%.*s\"", (int)STI_MIN(n, (size_t)60), name);
}

/* The column with the dates: named by the caller, or the first whose cell is a date, or one with a telling name. */
static strata_status find_time(table *t, const sti_series_how *how, bool header)
{
    sti_date_form f;
    double x;
    t->time = -1;
    if (how->time && *how->time) return find_column(t, how->time, strlen(how->time), &t->time);
    for (int64_t i = 0; i < t->ncol && t->time < 0; i++)
        if (is_date(t->cell[i], &f) && f.order != STI_DATE_COMPACT) t->time = i;
    for (int64_t i = 0; i < t->ncol && t->time < 0 && header; i++)
        if ((is_time_name(t->name[i]) || (i == 0 && t->name[i].a == t->name[i].b)) &&
            sti_read_number(t->cell[i].a, t->cell[i].b, &x))
            t->time = i;
    return STRATA_OK;
}

/* Which columns become series, in the order wanted. */
static strata_status choose(table *t, const sti_series_how *how, sti_panel *p)
{
    int64_t n = 0;
    t->column = sti_heap((size_t)t->ncol * sizeof *t->column);
    if (!t->column) return no_memory();
    if (how->columns && *how->columns) {
        for (const char *a = how->columns, *b; a; a = *b ? b + 1 : NULL) {
            int64_t at = -1;
            b = a + strcspn(a, ",");
            STI_TRY(find_column(t, a, (size_t)(b - a), &at));
            if (at == t->time)
                return sti_fail(STRATA_E_FORMAT, "line 1: \"%.*s\" is the column with the dates", (int)(b - a), a);
            for (int64_t i = 0; i < n; i++)
                if (t->column[i] == at)
                    return sti_fail(STRATA_E_FORMAT, "column \"%.*s\" is asked for twice", (int)(b - a), a);
            t->column[n++] = at;
        }
    } else {
        for (int64_t i = 0; i < t->ncol; i++)
            if (i != t->time) t->column[n++] = i;
    }
    if (n == 0) return sti_fail(STRATA_E_FORMAT, "line 1: no column holds values");
    for (int64_t i = 0; i < n; i++) STI_TRY(sti_series_add(p, t->name[t->column[i]].a, t->name[t->column[i]].b));
    return STRATA_OK;
}

/* Names 1, 2, … where the file has none. */
static strata_status number_columns(table *t, char **names)
{
    enum { EACH = 12 };
    *names = sti_heap((size_t)t->ncol * EACH);
    if (!*names) return no_memory();
    for (int64_t i = 0; i < t->ncol; i++) {
        char digits[EACH + 1];
        int n = 0, k = 0;
        for (int64_t v = i + 1; v > 0 && n < EACH; v /= 10) digits[n++] = (char)('0' + v % 10);
        char *s = *names + i * EACH;
        t->name[i].a = s;
        while (n > 0) s[k++] = digits[--n];
        t->name[i].b = s + k;
    }
    return STRATA_OK;
}

/* Stands at the first row afterwards. */
static strata_status read_header(table *t, const sti_series_how *how, sti_panel *p, char **names)
{
    if (!sti_lines_next(&t->lines)) return sti_fail(STRATA_E_FORMAT, "line 1: the file is empty");
    const long long first = (long long)t->lines.number;
    t->comma = separator(&t->lines);
    if (!t->comma)
        return sti_fail(STRATA_E_FORMAT,
                        "line %lld: only one column; a table has dates (or a running number) and values, separated by "
                        "',', ';' or tab",
                        first);
    STI_TRY(split(t, NULL, 0, &t->ncol));
    t->name = sti_heap((size_t)t->ncol * sizeof *t->name);
    t->cell = sti_heap((size_t)t->ncol * sizeof *t->cell);
    if (!t->name || !t->cell) return no_memory();
    STI_TRY(split(t, t->cell, t->ncol, &t->ncol));
    const bool header = how->header || !is_row(t->cell, t->ncol);
    if (header) {
        int64_t n = t->ncol;
        memcpy(t->name, t->cell, (size_t)n * sizeof *t->name);
        if (!sti_lines_next(&t->lines)) return sti_fail(STRATA_E_FORMAT, "line %lld: names, but no rows follow", first);
        STI_TRY(split(t, t->cell, t->ncol, &n));
        if (n != t->ncol)
            return sti_fail(STRATA_E_FORMAT, "line %lld: %lld cells, but line %lld has %lld",
                            (long long)t->lines.number, (long long)n, first, (long long)t->ncol);
    } else {
        STI_TRY(number_columns(t, names));
    }
    STI_TRY(find_time(t, how, header));
    return choose(t, how, p);
}

/* ---- rows --------------------------------------------------------------------------------------------------- */
static strata_status grow(table *t, int32_t series)
{
    if (t->rows < t->cap) return STRATA_OK;
    const size_t cap = t->cap ? 2 * t->cap : 256, row = (size_t)series * sizeof *t->value;
    double *v = sti_heap_grow(t->value, t->rows * row, cap * row);
    if (!v) return no_memory();
    t->value = v;
    if (t->time >= 0) {
        stamp *s = sti_heap_grow(t->stamp, t->rows * sizeof *s, cap * sizeof *s);
        if (!s) return no_memory();
        t->stamp = s;
    }
    t->cap = cap;
    return STRATA_OK;
}

static strata_status read_row(table *t, const sti_panel *p)
{
    STI_TRY(grow(t, p->count));
    double *v = t->value + t->rows * (size_t)p->count;
    for (int32_t k = 0; k < p->count; k++) {
        const cell c = t->cell[t->column[k]];
        if (sti_is_missing(c.a, c.b))
            v[k] = (double)NAN;
        else if (!sti_read_number(c.a, c.b, &v[k]))
            return sti_fail(STRATA_E_FORMAT, "line %lld: \"%.*s\" in column \"%.40s\" is no number",
                            (long long)t->lines.number, width(c), c.a, p->series[k].name);
    }
    if (t->time >= 0) t->stamp[t->rows] = (stamp){ t->cell[t->time], t->lines.number };
    t->rows++;
    return STRATA_OK;
}

static strata_status read_rows(table *t, const sti_panel *p)
{
    const int64_t first = t->lines.number; /* its cells are there already */
    do {
        int64_t n = t->ncol;
        if (t->lines.number != first) STI_TRY(split(t, t->cell, t->ncol, &n));
        if (n != t->ncol)
            return sti_fail(STRATA_E_FORMAT, "line %lld: %lld cells, but the lines before have %lld",
                            (long long)t->lines.number, (long long)n, (long long)t->ncol);
        STI_TRY(read_row(t, p));
    } while (sti_lines_next(&t->lines));
    return STRATA_OK;
}

/* ---- dates -------------------------------------------------------------------------------------------------- */
static strata_status not_later(const stamp *s, size_t i)
{
    return sti_fail(STRATA_E_FORMAT,
                    "line %lld: \"%.*s\" comes after \"%.*s\" of line %lld: rows must go forward in time",
                    (long long)s[i].line, width(s[i].text), s[i].text.a, width(s[i - 1].text), s[i - 1].text.a,
                    (long long)s[i - 1].line);
}

/* All stamps as dates of one form. */
static strata_status read_dates(const table *t, sti_date_order want, int64_t *time, sti_date_form *form)
{
    for (size_t i = 0; i < t->rows; i++) {
        const cell c = t->stamp[i].text;
        sti_date_form f;
        if (!sti_date_read(c.a, (size_t)(c.b - c.a), want, &time[i], &f) || (i > 0 && f.order != form->order))
            return sti_fail(STRATA_E_FORMAT, "line %lld: \"%.*s\" is no date%s", (long long)t->stamp[i].line, width(c),
                            c.a, i > 0 ? " of the form of those before" : "");
        if (i == 0) *form = f;
        form->seconds |= f.seconds;
        if (!form->clock) form->clock = f.clock;
        if (i > 0 && time[i] < time[i - 1]) return not_later(t->stamp, i);
    }
    return STRATA_OK;
}

/* Running numbers; times only when all are whole. */
static strata_status read_numbers(const table *t, int64_t *time, bool *whole)
{
    double last = 0;
    *whole = true;
    for (size_t i = 0; i < t->rows; i++) {
        const cell c = t->stamp[i].text;
        double x;
        if (!sti_read_number(c.a, c.b, &x))
            return sti_fail(STRATA_E_FORMAT, "line %lld: \"%.*s\" is neither a date nor a number",
                            (long long)t->stamp[i].line, width(c), c.a);
        if (i > 0 && x < last) return not_later(t->stamp, i);
        last = x;
        if (fabs(x) < 1e15 && fabs(x - floor(x)) <= 0)
            time[i] = (int64_t)x;
        else
            *whole = false;
    }
    return STRATA_OK;
}

static strata_status read_stamps(const table *t, sti_panel *p)
{
    bool whole = true;
    sti_date_form f;
    p->time = sti_heap(t->rows * sizeof *p->time);
    if (!p->time) return no_memory();
    strata_status st;
    if (is_date(t->stamp[0].text, &f)) {
        st = read_dates(t, STI_DATE_NONE, p->time, &p->form);
        if (st == STRATA_E_FORMAT && (f.order == STI_DATE_MDY || f.order == STI_DATE_DMY) && f.between != '.') {
            sti_text first = { 0 }; /* the other reading of 1/7/2016; if it fails too, the first error stands */
            sti_text_add(&first, "%s", strata_last_error());
            st = read_dates(t, f.between == '/' ? STI_DATE_DMY : STI_DATE_MDY, p->time, &p->form);
            if (st == STRATA_E_FORMAT && !first.failed) st = sti_fail(st, "%s", first.s);
            sti_text_free(&first);
        }
    } else {
        double x;
        const cell c = t->stamp[0].text;
        if (!sti_read_number(c.a, c.b, &x))
            return sti_fail(STRATA_E_FORMAT, "line %lld: \"%.*s\" in column \"%.*s\" is no date",
                            (long long)t->stamp[0].line, width(c), c.a, width(t->name[t->time]), t->name[t->time].a);
        p->form.order = STI_DATE_NUMBER;
        st = read_numbers(t, p->time, &whole);
    }
    if (st == STRATA_OK && !whole) { /* ordered, but nothing to continue */
        p->form = (sti_date_form){ 0 };
        sti_heap_free(p->time);
        p->time = NULL;
    }
    return st;
}

/* ---- steps -------------------------------------------------------------------------------------------------- */
static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Are all dates the same day of their month, or all the last one, and at least 28 days apart? Then months[i] counts
 * months. */
static bool by_month(const sti_panel *p, size_t n, int64_t *months, bool *month_end)
{
    enum { DAY = 86400 };
    bool same_day = true;
    int32_t first = 0;
    const int64_t clock = ((p->time[0] % DAY) + DAY) % DAY;
    *month_end = true;
    for (size_t i = 0; i < n; i++) {
        int64_t year;
        int32_t month, day;
        if (p->form.order == STI_DATE_NUMBER || ((p->time[i] % DAY) + DAY) % DAY != clock) return false;
        if (i > 0 && p->time[i] > p->time[i - 1] && p->time[i] - p->time[i - 1] < (int64_t)28 * DAY) return false;
        sti_date_civil((p->time[i] - clock) / DAY, &year, &month, &day);
        if (i == 0) first = day;
        same_day = same_day && day == first;
        *month_end = *month_end && day == sti_date_month_length(year, month);
        months[i] = year * 12 + month;
    }
    return same_day || *month_end;
}

/* The usual step (the median), and what differs from it. */
static void find_step(table *t, sti_panel *p)
{
    const size_t n = t->rows;
    bool month_end = false;
    const bool months = by_month(p, n, t->index, &month_end);
    if (!months) memcpy(t->index, p->time, n * sizeof *t->index);
    for (size_t i = 1; i < n; i++) t->months[i - 1] = t->index[i] - t->index[i - 1];
    qsort(t->months, n - 1, sizeof *t->months, compare);
    const int64_t step = t->months[(n - 2) / 2];
    if (step < 1) return;
    p->step = (sti_step){ months                             ? STI_STEP_MONTHS
                          : p->form.order == STI_DATE_NUMBER ? STI_STEP_COUNT
                                                             : STI_STEP_SECONDS,
                          step };
    p->month_end = months && month_end;
    for (size_t i = 1; i < n; i++) {
        const int64_t d = t->index[i] - t->index[i - 1];
        if (d == 0 && p->repeated++ == 0) p->repeated_line = t->stamp[i].line;
        if (d != 0 && d != step && p->gaps++ == 0) p->gap_line = t->stamp[i].line;
    }
}

/* Put rows of missing values in for the dates that are left out. */
static strata_status fill(table *t, sti_panel *p)
{
    const size_t n = t->rows, w = (size_t)p->count;
    const int64_t step = p->step.n;
    if (step < 1) return sti_fail(STRATA_E_FORMAT, "the dates have no step to fill by");
    for (size_t i = 1; i < n; i++) {
        const int64_t d = t->index[i] - t->index[i - 1];
        if (d <= 0 || d % step != 0)
            return sti_fail(STRATA_E_FORMAT, "line %lld: \"%.*s\" is no whole number of steps after line %lld",
                            (long long)t->stamp[i].line, width(t->stamp[i].text), t->stamp[i].text.a,
                            (long long)t->stamp[i - 1].line);
    }
    const int64_t all = (t->index[n - 1] - t->index[0]) / step + 1;
    if (all > (int64_t)n * 64 + 1024)
        return sti_fail(STRATA_E_FORMAT, "%zu rows lie %lld steps apart: too few to fill", n, (long long)all);
    double *v = sti_heap((size_t)all * w * sizeof *v);
    int64_t *time = sti_heap((size_t)all * sizeof *time);
    if (!v || !time) {
        sti_heap_free(v);
        sti_heap_free(time);
        return no_memory();
    }
    for (size_t i = 0; i < (size_t)all * w; i++) v[i] = (double)NAN;
    for (int64_t i = 0; i < all; i++) time[i] = sti_date_add(p->time[0], p->step, i, p->month_end);
    for (size_t i = 0; i < n; i++) {
        const size_t at = (size_t)((t->index[i] - t->index[0]) / step);
        memcpy(v + at * w, t->value + i * w, w * sizeof *v);
    }
    sti_heap_free(t->value);
    sti_heap_free(p->time);
    t->value = v;
    p->time = time;
    p->filled = all - (int64_t)n;
    t->rows = (size_t)all;
    return STRATA_OK;
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */
static strata_status keep_time_name(const table *t, sti_panel *p)
{
    const cell c = t->name[t->time];
    const size_t n = (size_t)(c.b - c.a);
    p->time_name = sti_heap(n + 1);
    if (!p->time_name) return no_memory();
    memcpy(p->time_name, c.a, n);
    return STRATA_OK;
}

static strata_status read_times(table *t, const sti_series_how *how, sti_panel *p)
{
    STI_TRY(keep_time_name(t, p));
    STI_TRY(read_stamps(t, p));
    if (!p->time || t->rows < 2) return STRATA_OK;
    t->index = sti_heap(t->rows * sizeof *t->index);
    t->months = sti_heap(t->rows * sizeof *t->months);
    if (!t->index || !t->months) return no_memory();
    find_step(t, p);
    return how->fill && p->gaps > 0 ? fill(t, p) : STRATA_OK;
}

/* One array per series. */
static strata_status hand_over(const table *t, sti_panel *p)
{
    p->aligned = true;
    for (int32_t k = 0; k < p->count; k++) {
        sti_series *s = &p->series[k];
        s->value = sti_heap(t->rows * sizeof *s->value);
        if (!s->value) return no_memory();
        s->n = (int64_t)t->rows;
        s->start = p->time ? p->time[0] : 0;
        for (size_t i = 0; i < t->rows; i++) s->value[i] = t->value[i * (size_t)p->count + (size_t)k];
    }
    return STRATA_OK;
}

strata_status sti_table_parse(const char *text, size_t bytes, const sti_series_how *how, sti_panel *out)
{
    table t = { .lines = { .at = text, .end = text + bytes }, .time = -1 };
    char *names = NULL;
    strata_status st = read_header(&t, how, out, &names);
    if (st == STRATA_OK) st = read_rows(&t, out);
    if (st == STRATA_OK && t.time >= 0) st = read_times(&t, how, out);
    if (st == STRATA_OK) st = hand_over(&t, out);
    sti_heap_free(names);
    sti_heap_free(t.name);
    sti_heap_free(t.cell);
    sti_heap_free(t.column);
    sti_heap_free(t.value);
    sti_heap_free(t.stamp);
    sti_heap_free(t.index);
    sti_heap_free(t.months);
    return st;
}
