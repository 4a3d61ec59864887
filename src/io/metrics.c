#include "io/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/context.h"
#include "io/atomic.h"
#include "io/json.h"
#include "io/map.h"
#include "io/sys.h"

/* What a row holds, in the order it is written. */
static const struct field {
    const char *name;
    size_t offset;
    bool integer; /* int64_t, always written; else double, left out when NaN */
} fields[] = {
    { "step", offsetof(strata_progress, step), true },
    { "tokens", offsetof(strata_progress, tokens), true },
    { "flops", offsetof(strata_progress, flops), false },
    { "seconds", offsetof(strata_progress, seconds), false },
    { "loss", offsetof(strata_progress, loss), false },
    { "val_loss", offsetof(strata_progress, val_loss), false },
    { "lr", offsetof(strata_progress, lr), false },
    { "grad_norm", offsetof(strata_progress, grad_norm), false },
    { "tokens_per_s", offsetof(strata_progress, tokens_per_s), false },
};

bool sti_metrics_is_field(const char *name)
{
    for (size_t i = 0; i < STI_COUNT(fields); i++)
        if (strcmp(fields[i].name, name) == 0) return true;
    return false;
}

static double *real_of(strata_progress *row, const struct field *f)
{
    return (double *)(void *)((char *)row + f->offset);
}

static int64_t *integer_of(strata_progress *row, const struct field *f)
{
    return (int64_t *)(void *)((char *)row + f->offset);
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

typedef struct line {
    strata_progress row;
    size_t begin, end; /* in the text, the newline excluded */
} line;

struct strata_metrics {
    line *line;
    int64_t count, cap;
};

static strata_status read_row(const char *text, size_t bytes, strata_progress *row)
{
    sti_json *j = NULL;
    STI_TRY(sti_json_parse(text, bytes, &j));
    const sti_json_node *root = sti_json_root(j);
    strata_status s = root->type == STI_JSON_OBJECT ? STRATA_OK : sti_fail(STRATA_E_FORMAT, "not an object");
    *row = (strata_progress){ 0 };
    for (size_t i = 0; i < STI_COUNT(fields) && s == STRATA_OK; i++) {
        const struct field *f = &fields[i];
        const sti_json_node *n = sti_json_get(j, root, f->name);
        if (!f->integer && (!n || n->type == STI_JSON_NULL || n->type == STI_JSON_NUMBER))
            *real_of(row, f) = n && n->type == STI_JSON_NUMBER ? n->num : (double)NAN;
        else if (f->integer && n && n->is_int && n->i >= 0)
            *integer_of(row, f) = n->i;
        else if (n || i == 0) /* a row is nothing without its step */
            s = sti_fail(STRATA_E_FORMAT, n ? "%s is not a number of its kind" : "%s is missing", f->name);
    }
    row->event = isnan(row->val_loss) ? STRATA_EVENT_STEP : STRATA_EVENT_EVAL;
    sti_json_free(j);
    return s;
}

static strata_status add_line(strata_metrics *m, const line *l)
{
    /* A resumed run repeats steps: what it wrote replaces what was there. */
    if (m->count > 0 && l->row.step < m->line[m->count - 1].row.step)
        while (m->count > 0 && m->line[m->count - 1].row.step >= l->row.step) m->count--;
    if (m->count == m->cap) {
        int64_t cap = m->cap ? 2 * m->cap : 64;
        line *p = sti_heap_grow(m->line, (size_t)m->cap * sizeof *p, (size_t)cap * sizeof *p);
        if (!p) return sti_fail(STRATA_E_MEMORY, "out of memory for %lld rows of metrics", (long long)cap);
        m->line = p;
        m->cap = cap;
    }
    m->line[m->count++] = *l;
    return STRATA_OK;
}

strata_status sti_metrics_parse(const char *text, size_t bytes, strata_metrics **out)
{
    *out = NULL;
    strata_metrics *m = sti_heap(sizeof *m);
    if (!m) return sti_fail(STRATA_E_MEMORY, "out of memory for metrics");
    strata_status s = STRATA_OK;
    long long number = 1;
    for (size_t at = 0; at < bytes && s == STRATA_OK; number++) {
        const char *newline = memchr(text + at, '\n', bytes - at);
        line l = { .begin = at, .end = newline ? (size_t)(newline - text) : bytes };
        s = read_row(text + at, l.end - at, &l.row);
        at = l.end + 1;
        if (s == STRATA_OK)
            s = add_line(m, &l);
        else if (s == STRATA_E_FORMAT && !newline)
            s = STRATA_OK; /* cut off: the run was killed while writing it */
        else
            sti_fail_prefix(s, "line %lld", number);
    }
    if (s != STRATA_OK) {
        strata_metrics_close(m);
        return s;
    }
    *out = m;
    return STRATA_OK;
}

strata_status strata_metrics_open(const char *dir, strata_metrics **out)
{
    if (!dir || !out) return sti_fail(STRATA_E_INVALID, "strata_metrics_open: a pointer is NULL");
    *out = NULL;
    sti_text path = { 0 };
    sti_map map = { 0 };
    sti_text_add(&path, "%s/metrics.jsonl", dir);
    strata_status s = path.failed ? sti_fail(STRATA_E_MEMORY, "out of memory") : sti_map_open(path.s, &map);
    if (s == STRATA_OK) {
        s = sti_metrics_parse((const char *)map.data, map.bytes, out);
        if (s != STRATA_OK) sti_fail_prefix(s, "%s", path.s);
    }
    sti_map_close(&map);
    sti_text_free(&path);
    return s;
}

void strata_metrics_close(strata_metrics *m)
{
    if (m) sti_heap_free(m->line);
    sti_heap_free(m);
}

int64_t strata_metrics_count(const strata_metrics *m)
{
    return m ? m->count : 0;
}

strata_status strata_metrics_at(const strata_metrics *m, int64_t i, strata_progress *row)
{
    if (!m || !row) return sti_fail(STRATA_E_INVALID, "strata_metrics_at: a pointer is NULL");
    if (i < 0 || i >= m->count)
        return sti_fail(STRATA_E_INVALID, "row %lld of metrics that have %lld", (long long)i, (long long)m->count);
    *row = m->line[i].row;
    return STRATA_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

struct sti_metrics_writer {
    char *path;
    int fd;
};

/* Replace the file by its rows up to step `last`, unless it has no others. */
static strata_status keep_rows(const char *path, int64_t last)
{
    sti_map map;
    strata_metrics *m = NULL;
    sti_atomic *f = NULL;
    if (last < 0) return sti_atomic_save(path, NULL, 0);
    struct stat st;
    if (stat(path, &st) != 0 && errno == ENOENT) return STRATA_OK;
    STI_TRY(sti_map_open(path, &map));
    strata_status s = sti_metrics_parse((const char *)map.data, map.bytes, &m);
    if (s != STRATA_OK) {
        sti_map_close(&map);
        return sti_fail_prefix(s, "%s", path);
    }
    size_t bytes = 0;
    int64_t keep = 0;
    for (; keep < m->count && m->line[keep].row.step <= last; keep++)
        bytes += m->line[keep].end - m->line[keep].begin + 1;
    if (bytes != map.bytes) s = sti_atomic_begin(path, &f);
    for (int64_t i = 0; f && i < keep; i++) {
        sti_atomic_write(f, map.data + m->line[i].begin, m->line[i].end - m->line[i].begin);
        sti_atomic_write(f, "\n", 1);
    }
    if (f) s = sti_atomic_commit(f);
    strata_metrics_close(m);
    sti_map_close(&map);
    return s;
}

strata_status sti_metrics_writer_open(const char *path, int64_t last, sti_metrics_writer **out)
{
    *out = NULL;
    STI_TRY(keep_rows(path, last));
    sti_metrics_writer *w = sti_heap(sizeof *w);
    if (w) w->path = sti_strdup(path);
    if (!w || !w->path) {
        sti_heap_free(w);
        return sti_fail(STRATA_E_MEMORY, "out of memory writing %s", path);
    }
    w->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (w->fd < 0) {
        int err = errno;
        sti_metrics_writer_close(w);
        return sti_fail_errno(err, "open", path);
    }
    *out = w;
    return STRATA_OK;
}

strata_status sti_metrics_append(sti_metrics_writer *w, const strata_progress *row, const char *more)
{
    strata_progress copy = *row;
    sti_text t = { 0 };
    for (size_t i = 0; i < STI_COUNT(fields); i++) {
        const struct field *f = &fields[i];
        if (!f->integer && isnan(*real_of(&copy, f))) continue;
        sti_text_add(&t, "%s\"%s\":", i ? "," : "{", f->name);
        if (f->integer)
            sti_text_add(&t, "%lld", (long long)*integer_of(&copy, f));
        else
            sti_json_put_number(&t, *real_of(&copy, f));
    }
    sti_text_add(&t, "%s%s}\n", more ? "," : "", more ? more : "");
    strata_status s = STRATA_OK;
    struct stat st;
    if (t.failed) {
        s = sti_fail(STRATA_E_MEMORY, "out of memory writing %s", w->path);
    } else if (fstat(w->fd, &st) != 0) {
        s = sti_fail_errno(errno, "examine", w->path);
    } else {
        int err = sti_write_all(w->fd, t.s, t.len);
        if (err) s = sti_fail_errno(err, "write", w->path);
        /* a full disk may have taken half of the line; if this fails too, readers skip a cut-off last line */
        if (err && S_ISREG(st.st_mode) && ftruncate(w->fd, st.st_size) != 0) err = errno;
    }
    sti_text_free(&t);
    return s;
}

void sti_metrics_writer_close(sti_metrics_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    sti_heap_free(w->path);
    sti_heap_free(w);
}
