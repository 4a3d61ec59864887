/* Time series from text: what tables and .tsf files share. */

#include "io/series.h"

#include <math.h>
#include <string.h>

#include "core/context.h"
#include "io/series_parse.h"
#include "io/utf8.h"

void sti_panel_free(sti_panel *p)
{
    for (int32_t i = 0; i < p->count; i++) {
        sti_heap_free(p->series[i].name);
        sti_heap_free(p->series[i].value);
    }
    sti_heap_free(p->series);
    sti_heap_free(p->time);
    sti_heap_free(p->time_name);
    *p = (sti_panel){ 0 };
}

/* ---- lines and cells ---------------------------------------------------------------------------------------- */
bool sti_lines_next(sti_lines *l)
{
    while (l->at < l->end) {
        const char *stop = memchr(l->at, '\n', (size_t)(l->end - l->at));
        if (!stop) stop = l->end;
        l->a = l->at;
        l->b = stop;
        l->at = stop + (stop < l->end);
        l->number++;
        while (l->a < l->b && (l->b[-1] == '\r' || l->b[-1] == ' ')) l->b--; /* tabs may part empty cells */
        if (l->a < l->b) return true;
    }
    return false;
}

void sti_trim(const char **a, const char **b)
{
    while (*a < *b && (**a == ' ' || **a == '\t' || **a == '\r')) ++*a;
    while (*a < *b && ((*b)[-1] == ' ' || (*b)[-1] == '\t' || (*b)[-1] == '\r')) --*b;
}

static bool is_word(const char *a, size_t n, const char *word)
{
    for (size_t i = 0; i < n; i++) {
        const char c = a[i] >= 'A' && a[i] <= 'Z' ? (char)(a[i] - 'A' + 'a') : a[i];
        if (c != word[i]) return false;
    }
    return word[n] == '\0';
}

bool sti_is_missing(const char *a, const char *b)
{
    static const char *const words[] = { "", "?", "na", "n/a", "nan", "null", "none", "." };
    const size_t n = (size_t)(b - a);
    for (size_t i = 0; i < STI_COUNT(words); i++)
        if (strlen(words[i]) == n && is_word(a, n, words[i])) return true;
    return false;
}

bool sti_read_number(const char *a, const char *b, double *x)
{
    char buf[64];
    const size_t n = (size_t)(b - a);
    if (n == 0 || n >= sizeof buf) return false;
    for (size_t i = 0; i < n; i++) /* digits, sign, point, exponent: no hexadecimal, no "inf" */
        if (!((a[i] >= '0' && a[i] <= '9') || strchr("+-.eE", a[i])) || a[i] == '\0') return false;
    memcpy(buf, a, n);
    buf[n] = '\0';
    return sti_parse_f64(buf, x);
}

/* Names go into messages, JSON and pages: control characters become blanks, and bytes that are not UTF-8 are taken as
 * Latin-1. Doubled quotes become one. */
static char *clean_name(const char *a, const char *b)
{
    const bool latin1 = !sti_utf8_valid(a, (size_t)(b - a));
    char *name = sti_heap(2 * (size_t)(b - a) + 1), *out = name;
    for (; name && a < b; a++) {
        const unsigned char c = (unsigned char)*a;
        if (c == '"' && a + 1 < b && a[1] == '"') a++;
        if (c < 0x20 || c == 0x7f) {
            *out++ = ' ';
        } else if (latin1 && c >= 0x80) {
            *out++ = (char)(0xc0 | c >> 6);
            *out++ = (char)(0x80 | (c & 0x3f));
        } else {
            *out++ = (char)c;
        }
    }
    return name;
}

strata_status sti_series_add(sti_panel *p, const char *a, const char *b)
{
    const size_t have = (size_t)p->count * sizeof *p->series;
    if (p->count == INT32_MAX - 1) return sti_fail(STRATA_E_FORMAT, "too many series");
    if ((p->count & (p->count - 1)) == 0) { /* room for the next power of two */
        sti_series *s = sti_heap_grow(p->series, have, p->count ? 2 * have : sizeof *s);
        if (!s) return sti_fail(STRATA_E_MEMORY, "out of memory");
        p->series = s;
    }
    sti_series *s = &p->series[p->count];
    *s = (sti_series){ .name = clean_name(a, b) };
    if (!s->name) return sti_fail(STRATA_E_MEMORY, "out of memory");
    p->count++;
    return STRATA_OK;
}

/* ---- both kinds --------------------------------------------------------------------------------------------- */
/* .tsf: the first line that is neither empty nor a comment begins with '@'. */
static bool is_tsf(const char *text, size_t bytes)
{
    sti_lines l = { .at = text, .end = text + bytes };
    while (sti_lines_next(&l))
        if (*l.a != '#') return *l.a == '@';
    return false;
}

strata_status sti_panel_parse(const char *text, size_t bytes, const sti_series_how *how, sti_panel *out)
{
    static const sti_series_how plain = { 0 };
    *out = (sti_panel){ 0 };
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* byte order mark */
        text += 3;
        bytes -= 3;
    }
    if (!how) how = &plain;
    strata_status st =
        is_tsf(text, bytes) ? sti_tsf_parse(text, bytes, how, out) : sti_table_parse(text, bytes, how, out);
    if (st != STRATA_OK) {
        sti_panel_free(out);
        return st;
    }
    for (int32_t k = 0; k < out->count; k++)
        for (int64_t i = 0; i < out->series[k].n; i++) out->missing += isnan(out->series[k].value[i]) != 0;
    return STRATA_OK;
}

strata_status sti_panel_load(const char *path, const sti_series_how *how, sti_panel *out, sti_hash *hash,
                             uint64_t *bytes)
{
    sti_corpus c;
    *out = (sti_panel){ 0 };
    STI_TRY(sti_corpus_load(&path, 1, STI_SERIES_LIMIT, &c));
    if (hash) *hash = c.file[0].hash;
    if (bytes) *bytes = c.bytes;
    strata_status st = sti_panel_parse((const char *)c.text, c.bytes, how, out);
    sti_corpus_free(&c);
    return st == STRATA_OK ? st : sti_fail_prefix(st, "%s", path);
}

int64_t sti_panel_time(const sti_panel *p, int32_t series, int64_t i)
{
    const sti_series *s = &p->series[series];
    if (p->time && i < s->n) return p->time[i];
    if (p->time) return sti_date_add(p->time[s->n - 1], p->step, i - s->n + 1, p->month_end);
    return sti_date_add(s->start, p->step, i, p->month_end);
}

int64_t sti_panel_season(const sti_panel *p)
{
    enum { DAY = 86400 };
    const int64_t n = p->step.n;
    if (n < 1) return 1;
    if (p->step.unit == STI_STEP_MONTHS) return n < 12 && 12 % n == 0 ? 12 / n : 1;
    if (p->step.unit != STI_STEP_SECONDS) return 1;
    if (n < DAY) return DAY % n == 0 ? DAY / n : 1;
    return n == DAY ? 7 : n == 7 * DAY ? 52 : 1;
}
