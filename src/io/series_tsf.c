/* .tsf: a header of "@name value" lines, "@data", then one series a line, "name:start:v1,v2,…". */

#include <math.h>
#include <string.h>

#include "core/context.h"
#include "io/series_parse.h"

enum { MAX_ATTRIBUTES = 32 };

typedef enum field { FIELD_TEXT, FIELD_NAME, FIELD_DATE, FIELD_NUMBER } field;

typedef struct tsf {
    sti_lines lines;
    field field[MAX_ATTRIBUTES];
    int fields;
} tsf;

static strata_status fail_line(const tsf *t, const char *what, const char *a, const char *b)
{
    const ptrdiff_t n = STI_MIN(b - a, (ptrdiff_t)60);
    return sti_fail(STRATA_E_FORMAT, "line %lld: %s \"%.*s\"", (long long)t->lines.number, what, (int)n, a);
}

/* The next word of [*a, b). */
static bool word(const char **a, const char *b, const char **w, size_t *n)
{
    while (*a < b && (**a == ' ' || **a == '\t')) ++*a;
    *w = *a;
    while (*a < b && **a != ' ' && **a != '\t') ++*a;
    *n = (size_t)(*a - *w);
    return *n > 0;
}

static bool is(const char *w, size_t n, const char *text)
{
    return strlen(text) == n && memcmp(w, text, n) == 0;
}

/* "hourly", "10_minutes" */
static bool frequency(const char *w, size_t n, sti_step *step)
{
    static const struct {
        const char *name;
        sti_step step;
    } names[] = {
        { "secondly", { STI_STEP_SECONDS, 1 } },       { "minutely", { STI_STEP_SECONDS, 60 } },
        { "half_hourly", { STI_STEP_SECONDS, 1800 } }, { "hourly", { STI_STEP_SECONDS, 3600 } },
        { "daily", { STI_STEP_SECONDS, 86400 } },      { "weekly", { STI_STEP_SECONDS, 7 * 86400 } },
        { "monthly", { STI_STEP_MONTHS, 1 } },         { "quarterly", { STI_STEP_MONTHS, 3 } },
        { "yearly", { STI_STEP_MONTHS, 12 } },
    };
    static const struct {
        const char *name;
        int64_t seconds;
    } units[] = { { "_seconds", 1 }, { "_minutes", 60 }, { "_hours", 3600 }, { "_days", 86400 } };
    for (size_t i = 0; i < STI_COUNT(names); i++)
        if (is(w, n, names[i].name)) {
            *step = names[i].step;
            return true;
        }
    int64_t k = 0;
    size_t d = 0;
    for (; d < n && d < 6 && w[d] >= '0' && w[d] <= '9'; d++) k = 10 * k + (w[d] - '0');
    for (size_t i = 0; i < STI_COUNT(units) && k > 0; i++)
        if (is(w + d, n - d, units[i].name)) {
            *step = (sti_step){ STI_STEP_SECONDS, k * units[i].seconds };
            return true;
        }
    return false;
}

static strata_status attribute(tsf *t, const char *a, const char *b)
{
    const char *w;
    size_t n;
    if (t->fields == MAX_ATTRIBUTES) return fail_line(t, "too many attributes at", t->lines.a, b);
    field *f = &t->field[t->fields];
    if (!word(&a, b, &w, &n)) return fail_line(t, "an attribute without a name:", t->lines.a, b);
    const bool name = is(w, n, "series_name");
    if (!word(&a, b, &w, &n)) return fail_line(t, "an attribute without a type:", t->lines.a, b);
    if (is(w, n, "date"))
        *f = FIELD_DATE;
    else if (is(w, n, "numeric"))
        *f = FIELD_NUMBER;
    else if (is(w, n, "string"))
        *f = name ? FIELD_NAME : FIELD_TEXT;
    else
        return fail_line(t, "no type is called", w, w + n);
    t->fields++;
    return STRATA_OK;
}

/* Stands on "@data" afterwards. */
static strata_status read_head(tsf *t, sti_panel *p)
{
    while (sti_lines_next(&t->lines)) {
        const char *a = t->lines.a, *b = t->lines.b, *w;
        size_t n;
        if (*a == '#') continue;
        if (*a != '@') return fail_line(t, "series before @data:", a, b);
        (void)word(&a, b, &w, &n);
        if (is(w, n, "@data")) return STRATA_OK;
        if (is(w, n, "@attribute")) {
            STI_TRY(attribute(t, a, b));
        } else if (is(w, n, "@frequency")) {
            if (!word(&a, b, &w, &n) || !frequency(w, n, &p->step)) return fail_line(t, "unknown frequency", w, w + n);
        } /* @relation, @horizon, @missing, @equallength: nothing that the data do not say */
    }
    return sti_fail(STRATA_E_FORMAT, "line %lld: the file ends before @data", (long long)t->lines.number);
}

static strata_status read_values(tsf *t, const char *a, const char *b, sti_series *s)
{
    int64_t n = 1;
    for (const char *p = a; p < b; p++) n += *p == ',';
    s->value = sti_heap((size_t)n * sizeof *s->value);
    if (!s->value) return sti_fail(STRATA_E_MEMORY, "out of memory");
    for (const char *p = a; s->n < n; s->n++) {
        const char *stop = memchr(p, ',', (size_t)(b - p)), *x = p, *y = stop ? stop : b;
        sti_trim(&x, &y);
        if (x < y && sti_is_missing(x, y))
            s->value[s->n] = (double)NAN;
        else if (!sti_read_number(x, y, &s->value[s->n]))
            return sti_fail(STRATA_E_FORMAT, "line %lld: value %lld of series \"%.40s\", \"%.*s\", is no number",
                            (long long)t->lines.number, (long long)s->n + 1, s->name,
                            (int)STI_MIN(y - x, (ptrdiff_t)40), x);
        p = stop ? stop + 1 : b;
    }
    return STRATA_OK;
}

/* name:start:v1,v2,… */
static strata_status read_series(tsf *t, sti_panel *p)
{
    const char *a = t->lines.a, *b = t->lines.b;
    const char *name = a, *name_end = a;
    int64_t start = 0;
    for (int k = 0; k < t->fields; k++) {
        const char *stop = memchr(a, ':', (size_t)(b - a)), *x = a, *y = stop;
        if (!stop)
            return sti_fail(STRATA_E_FORMAT, "line %lld: %d fields, but %d attributes and the values were announced",
                            (long long)t->lines.number, k + 1, t->fields);
        sti_trim(&x, &y);
        if (t->field[k] == FIELD_NAME) {
            name = x;
            name_end = y;
        } else if (t->field[k] == FIELD_DATE) {
            if (!sti_date_read(x, (size_t)(y - x), STI_DATE_NONE, &start, &p->form))
                return fail_line(t, "no date:", x, y);
        }
        a = stop + 1;
    }
    STI_TRY(sti_series_add(p, name, name_end));
    sti_series *s = &p->series[p->count - 1];
    s->start = start;
    return read_values(t, a, b, s);
}

/* Keep the series that `columns` names, in its order. */
static strata_status choose(sti_panel *p, const char *columns)
{
    int32_t kept = 0;
    for (const char *a = columns, *b; a; a = *b ? b + 1 : NULL) {
        int32_t at = kept;
        b = a + strcspn(a, ",");
        while (at < p->count && !is(a, (size_t)(b - a), p->series[at].name)) at++;
        if (at == p->count) return sti_fail(STRATA_E_FORMAT, "no series is called \"%.*s\"", (int)(b - a), a);
        const sti_series s = p->series[at];
        p->series[at] = p->series[kept];
        p->series[kept++] = s;
    }
    for (int32_t i = kept; i < p->count; i++) {
        sti_heap_free(p->series[i].name);
        sti_heap_free(p->series[i].value);
    }
    p->count = kept;
    return STRATA_OK;
}

strata_status sti_tsf_parse(const char *text, size_t bytes, const sti_series_how *how, sti_panel *out)
{
    tsf t = { .lines = { .at = text, .end = text + bytes } };
    STI_TRY(read_head(&t, out));
    while (sti_lines_next(&t.lines))
        if (*t.lines.a != '#') STI_TRY(read_series(&t, out));
    if (out->count == 0)
        return sti_fail(STRATA_E_FORMAT, "line %lld: no series follow @data", (long long)t.lines.number);
    if (how->columns && *how->columns) STI_TRY(choose(out, how->columns));
    if (out->form.order == STI_DATE_NONE) out->step = (sti_step){ 0 };
    out->aligned = true;
    for (int32_t i = 1; i < out->count; i++)
        if (out->series[i].n != out->series[0].n || out->series[i].start != out->series[0].start) out->aligned = false;
    return STRATA_OK;
}
