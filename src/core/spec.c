/* Spec strings: recursive-descent parser, binding to key tables, canonical print. */
#include "core/spec.h"

#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"

/* ---- numbers, nearest name, growing text ---------------------------------------------------------------------- */

bool sti_parse_i64(const char *s, int64_t *out)
{
    if (!*s || isspace((unsigned char)*s)) return false;
    char *end;
    errno = 0;
    long long x = strtoll(s, &end, 10);
    if (errno || *end) return false;
    *out = x;
    return true;
}

/* strtod and printf follow the locale that the host program may have set; our texts have a '.' in every one. */
bool sti_parse_f64(const char *s, double *out)
{
    char local[512];
    const char *point = localeconv()->decimal_point, *dot = strchr(s, '.');
    if (!*s || isspace((unsigned char)*s)) return false;
    if (strcmp(point, ".") != 0) {
        if (strstr(s, point) || strlen(s) + strlen(point) >= sizeof local) return false;
        if (dot) {
            snprintf(local, sizeof local, "%.*s%s%s", (int)(dot - s), s, point, dot + 1);
            s = local;
        }
    }
    char *end;
    double x = strtod(s, &end);
    if (*end || !isfinite(x)) return false;
    *out = x;
    return true;
}

static int edit_distance(const char *a, const char *b)
{
    enum { MAX = 64 };
    size_t n = strlen(a), m = strlen(b);
    if (n >= MAX || m >= MAX) return MAX;
    int row[MAX + 1];
    for (size_t j = 0; j <= m; j++) row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int up = row[j], best = STI_MIN(row[j - 1], up) + 1;
            row[j] = STI_MIN(best, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = up;
        }
    }
    return row[m];
}

const char *sti_nearest(const char *word, const char *const *names, int32_t n)
{
    const char *best = NULL;
    int distance = 0;
    for (int32_t i = 0; i < n; i++) {
        int d = edit_distance(word, names[i]);
        if (!best || d < distance) {
            best = names[i];
            distance = d;
        }
    }
    return best;
}

void sti_text_add(sti_text *t, const char *fmt, ...)
{
    if (t->failed) return;
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && t->len + (size_t)n + 1 > t->cap) {
        size_t cap = STI_MAX(2 * t->cap, t->len + (size_t)n + 64);
        char *s = sti_heap_grow(t->s, t->len, cap);
        if (s) {
            t->s = s;
            t->cap = cap;
        } else {
            n = -1;
        }
    }
    if (n < 0) {
        t->failed = true;
    } else {
        vsnprintf(t->s + t->len, t->cap - t->len, fmt, again);
        t->len += (size_t)n;
    }
    va_end(again);
}

void sti_text_add_number(sti_text *t, double x)
{
    char s[48];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, x);
        if (strtod(s, NULL) == x) break;
    }
    /* whatever the locale writes for the point, in however many bytes, becomes one '.' */
    size_t n = 0;
    for (const char *c = s; *c; c++) {
        if (isalnum((unsigned char)*c) || *c == '+' || *c == '-')
            s[n++] = *c;
        else if (n == 0 || s[n - 1] != '.')
            s[n++] = '.';
    }
    s[n] = '\0';
    sti_text_add(t, "%s", s);
}

void sti_text_free(sti_text *t)
{
    sti_heap_free(t->s);
    memset(t, 0, sizeof *t);
}

/* The finished string, owned by the caller; NULL if an addition failed. */
static char *text_take(sti_text *t)
{
    sti_text_add(t, "%s", "");
    if (t->failed) sti_text_free(t);
    return t->s;
}

/* ---- parser ------------------------------------------------------------------------------------------------------ */

typedef struct parser {
    const char *text, *at;
    int32_t depth, items;
} parser;

static strata_status syntax(const parser *p, const char *what)
{
    char near[24];
    snprintf(near, sizeof near, "%s", p->at);
    return sti_fail(STRATA_E_SPEC, "spec: %s at column %td%s%s%s", what, p->at - p->text + 1,
                    *near ? ", before \"" : " (the end)", near, *near ? "\"" : "");
}

static void blanks(parser *p)
{
    while (*p->at && isspace((unsigned char)*p->at)) p->at++;
}

static bool word_char(char c)
{
    return c && !isspace((unsigned char)c) && !strchr("(),|=", c) && (unsigned char)c >= 0x20;
}

static strata_status parse_word(parser *p, const char *what, char **out)
{
    const char *start = p->at;
    while (word_char(*p->at)) p->at++;
    if (p->at == start) return syntax(p, what);
    size_t n = (size_t)(p->at - start);
    char *w = sti_heap(n + 1);
    if (!w) return sti_fail(STRATA_E_MEMORY, "spec: no memory");
    memcpy(w, start, n);
    *out = w;
    return STRATA_OK;
}

static strata_status parse_pairs(parser *p, sti_spec *s, bool nested);

/* word, or kind(...) */
static strata_status parse_item(parser *p, sti_item *it)
{
    if (++p->items > STI_SPEC_MAX_ITEMS) return syntax(p, "too many values");
    char *word = NULL;
    STI_TRY(parse_word(p, "expected a value", &word));
    if (*p->at != '(') {
        it->word = word;
        return STRATA_OK;
    }
    it->spec = sti_heap(sizeof *it->spec);
    if (!it->spec) {
        sti_heap_free(word);
        return sti_fail(STRATA_E_MEMORY, "spec: no memory");
    }
    it->spec->kind = word;
    if (++p->depth > STI_SPEC_MAX_DEPTH) return syntax(p, "nested too deeply");
    p->at++;
    STI_TRY(parse_pairs(p, it->spec, true));
    p->depth--;
    return STRATA_OK;
}

static strata_status parse_pair(parser *p, sti_spec *s)
{
    sti_pair *pairs = sti_heap_grow(s->pair, (size_t)s->npair * sizeof *pairs, (size_t)(s->npair + 1) * sizeof *pairs);
    if (!pairs) return sti_fail(STRATA_E_MEMORY, "spec: no memory");
    s->pair = pairs;
    sti_pair *pair = &s->pair[s->npair++]; /* zeroed; counted at once so that sti_spec_free sees it */
    STI_TRY(parse_word(p, "expected key=value", &pair->key));
    if (*p->at != '=') return syntax(p, "expected '=' after a key");
    p->at++;
    char sep = 0;
    int32_t cap = 0;
    do {
        if (pair->nitem == cap) {
            int32_t want = cap ? 2 * cap : 4;
            sti_item *items = sti_heap_grow(pair->item, (size_t)cap * sizeof *items, (size_t)want * sizeof *items);
            if (!items) return sti_fail(STRATA_E_MEMORY, "spec: no memory");
            pair->item = items;
            cap = want;
        }
        sti_item *it = &pair->item[pair->nitem++];
        it->sep = sep;
        STI_TRY(parse_item(p, it));
        sep = *p->at;
    } while ((sep == ',' || sep == '|') && p->at++);
    for (int32_t i = 0; i + 1 < s->npair; i++)
        if (strcmp(s->pair[i].key, pair->key) == 0)
            return sti_fail(STRATA_E_SPEC, "%s: key %s is given twice", s->kind, pair->key);
    return STRATA_OK;
}

static strata_status parse_pairs(parser *p, sti_spec *s, bool nested)
{
    for (;;) {
        blanks(p);
        if (nested && *p->at == ')') {
            p->at++;
            return STRATA_OK;
        }
        if (!*p->at) return nested ? syntax(p, "missing ')'") : STRATA_OK;
        STI_TRY(parse_pair(p, s));
        if (*p->at && !isspace((unsigned char)*p->at) && !(nested && *p->at == ')'))
            return syntax(p, "expected a blank");
    }
}

static strata_status parse(const char *text, const char *kind, sti_spec **out)
{
    *out = NULL;
    if (strlen(text) > STI_SPEC_MAX_TEXT)
        return sti_fail(STRATA_E_SPEC, "spec: %zu characters, more than %d", strlen(text), STI_SPEC_MAX_TEXT);
    parser p = { text, text, 0, 0 };
    sti_spec *s = sti_heap(sizeof *s);
    if (!s) return sti_fail(STRATA_E_MEMORY, "spec: no memory");
    strata_status status = STRATA_OK;
    bool nested = false;
    if (kind) {
        s->kind = sti_strdup(kind);
        if (!s->kind) status = sti_fail(STRATA_E_MEMORY, "spec: no memory");
    } else {
        blanks(&p);
        status = parse_word(&p, "expected a kind", &s->kind);
        if (status == STRATA_OK && *p.at == '=') status = syntax(&p, "expected a kind before the first key");
        nested = status == STRATA_OK && *p.at == '(';
        if (nested) p.at++;
    }
    if (status == STRATA_OK) status = parse_pairs(&p, s, nested);
    if (status == STRATA_OK && nested) {
        blanks(&p);
        if (*p.at) status = syntax(&p, "text after the closing ')'");
    }
    if (status != STRATA_OK) {
        sti_spec_free(s);
        return status;
    }
    *out = s;
    return STRATA_OK;
}

strata_status sti_spec_parse(const char *text, sti_spec **out)
{
    return parse(text, NULL, out);
}

strata_status sti_spec_parse_keys(const char *text, const char *kind, sti_spec **out)
{
    return parse(text, kind, out);
}

void sti_spec_free(sti_spec *s)
{
    if (!s) return;
    for (int32_t i = 0; i < s->npair; i++) {
        sti_pair *p = &s->pair[i];
        for (int32_t k = 0; k < p->nitem; k++) {
            sti_heap_free(p->item[k].word);
            sti_spec_free(p->item[k].spec);
        }
        sti_heap_free(p->item);
        sti_heap_free(p->key);
    }
    sti_heap_free(s->pair);
    sti_heap_free(s->kind);
    sti_heap_free(s);
}

static void add_spec(sti_text *t, const sti_spec *s, bool nested);

static void add_items(sti_text *t, const sti_item *item, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (item[i].sep) sti_text_add(t, "%c", item[i].sep);
        if (item[i].spec)
            add_spec(t, item[i].spec, true);
        else
            sti_text_add(t, "%s", item[i].word);
    }
}

static void add_spec(sti_text *t, const sti_spec *s, bool nested)
{
    sti_text_add(t, "%s", s->kind);
    if (nested && s->npair) sti_text_add(t, "(");
    for (int32_t i = 0; i < s->npair; i++) {
        sti_text_add(t, "%s%s=", i || !nested ? " " : "", s->pair[i].key);
        add_items(t, s->pair[i].item, s->pair[i].nitem);
    }
    if (nested && s->npair) sti_text_add(t, ")");
}

char *sti_spec_text(const sti_spec *s, bool nested)
{
    sti_text t = { 0 };
    add_spec(&t, s, nested);
    return text_take(&t);
}

strata_status sti_spec_clone(const sti_spec *s, sti_spec **out)
{
    char *text = sti_spec_text(s, true);
    *out = NULL;
    if (!text) return sti_fail(STRATA_E_MEMORY, "spec: no memory");
    strata_status status = sti_spec_parse(text, out);
    sti_heap_free(text);
    return status;
}

/* ---- binding
 * --------------------------------------------------------------------------------------------------------- */

static bool bounded(const sti_key *k)
{
    return k->min < k->max || k->min > 0 || k->max < 0;
}

static strata_status check_bounds(const char *kind, const sti_key *k, double x, const char *text)
{
    if (bounded(k) && (x < k->min || x > k->max))
        return sti_fail(STRATA_E_SPEC, "%s: %s=%s is outside [%.17g, %.17g]", kind, k->name, text, k->min, k->max);
    return STRATA_OK;
}

/* Index of `word` in "a|b|c", or -1. */
static int64_t word_index(const char *words, const char *word)
{
    size_t n = strlen(word);
    int64_t i = 0;
    for (const char *w = words; w; i++) {
        const char *bar = strchr(w, '|');
        size_t len = bar ? (size_t)(bar - w) : strlen(w);
        if (len == n && strncmp(w, word, n) == 0) return i;
        w = bar ? bar + 1 : NULL;
    }
    return -1;
}

static strata_status item_spec(const sti_item *it, sti_spec **out)
{
    if (it->spec) return sti_spec_clone(it->spec, out);
    return sti_spec_parse(it->word, out);
}

static void value_clear(sti_value *v)
{
    sti_heap_free(v->text);
    sti_heap_free(v->ints);
    if (v->spec)
        for (int64_t i = 0; i < v->i; i++) sti_spec_free(v->spec[i]);
    sti_heap_free(v->spec);
    v->text = NULL;
    v->ints = NULL;
    v->spec = NULL;
    v->i = 0;
    v->num = 0;
}

static strata_status bind_int(const char *kind, const sti_key *k, const char *word, int64_t *out)
{
    if (!sti_parse_i64(word, out)) return sti_fail(STRATA_E_SPEC, "%s: %s=%s is not an integer", kind, k->name, word);
    return check_bounds(kind, k, (double)*out, word);
}

static strata_status bind_list(const char *kind, const sti_pair *pair, sti_value *v)
{
    const sti_key *k = v->key;
    char want = k->type == STI_KEY_CYCLE ? '|' : ',';
    for (int32_t i = 1; i < pair->nitem; i++)
        if (pair->item[i].sep != want)
            return sti_fail(STRATA_E_SPEC, "%s: items of %s are separated by '%c', not '%c'", kind, k->name, want,
                            pair->item[i].sep);
    if (k->type == STI_KEY_SPEC && pair->nitem != 1)
        return sti_fail(STRATA_E_SPEC, "%s: %s takes one %s, not %d", kind, k->name, k->words ? k->words : "spec",
                        pair->nitem);
    if (k->type == STI_KEY_INTS) {
        v->ints = sti_heap((size_t)pair->nitem * sizeof *v->ints);
        if (!v->ints) return sti_fail(STRATA_E_MEMORY, "spec: no memory");
        for (v->i = 0; v->i < pair->nitem; v->i++) {
            const sti_item *it = &pair->item[v->i];
            if (it->spec)
                return sti_fail(STRATA_E_SPEC, "%s: %s takes integers, not %s(…)", kind, k->name, it->spec->kind);
            STI_TRY(bind_int(kind, k, it->word, &v->ints[v->i]));
        }
        return STRATA_OK;
    }
    v->spec = sti_heap((size_t)pair->nitem * sizeof *v->spec);
    if (!v->spec) return sti_fail(STRATA_E_MEMORY, "spec: no memory");
    while (v->i < pair->nitem) { /* counted one by one: value_clear frees what is there */
        sti_spec *s = NULL;
        STI_TRY(item_spec(&pair->item[v->i], &s));
        v->spec[v->i++] = s;
    }
    return STRATA_OK;
}

static strata_status bind_pair(const char *kind, const sti_pair *pair, sti_value *v)
{
    const sti_key *k = v->key;
    value_clear(v);
    v->empty = false;
    if (k->type == STI_KEY_SPEC || k->type == STI_KEY_SPECS || k->type == STI_KEY_CYCLE || k->type == STI_KEY_INTS)
        return bind_list(kind, pair, v);
    if (k->type == STI_KEY_TEXT) {
        sti_text t = { 0 };
        add_items(&t, pair->item, pair->nitem);
        v->text = text_take(&t);
        return v->text ? STRATA_OK : sti_fail(STRATA_E_MEMORY, "spec: no memory");
    }
    if (pair->nitem != 1 || pair->item[0].spec) return sti_fail(STRATA_E_SPEC, "%s: %s takes one value", kind, k->name);
    const char *word = pair->item[0].word;
    switch (k->type) {
    case STI_KEY_INT:
        STI_TRY(bind_int(kind, k, word, &v->i));
        v->num = (double)v->i;
        break;
    case STI_KEY_NUM:
        if (!sti_parse_f64(word, &v->num))
            return sti_fail(STRATA_E_SPEC, "%s: %s=%s is not a finite number", kind, k->name, word);
        STI_TRY(check_bounds(kind, k, v->num, word));
        break;
    case STI_KEY_BOOL:
        if (strcmp(word, "0") != 0 && strcmp(word, "1") != 0)
            return sti_fail(STRATA_E_SPEC, "%s: %s=%s is neither 0 nor 1", kind, k->name, word);
        v->i = word[0] - '0';
        break;
    default: /* WORD */
        v->i = word_index(k->words, word);
        if (v->i < 0) return sti_fail(STRATA_E_SPEC, "%s: %s=%s is not one of %s", kind, k->name, word, k->words);
        v->text = sti_strdup(word);
        if (!v->text) return sti_fail(STRATA_E_MEMORY, "spec: no memory");
    }
    return STRATA_OK;
}

/* Bind "text" as if the user had written name=text. */
static strata_status bind_text(const char *kind, sti_value *v, const char *text)
{
    sti_text line = { 0 };
    sti_text_add(&line, "%s=%s", v->key->name, text);
    if (line.failed) return sti_fail(STRATA_E_MEMORY, "spec: no memory");
    sti_spec *s = NULL;
    strata_status status = sti_spec_parse_keys(line.s, kind, &s);
    if (status == STRATA_OK) {
        if (s->npair == 1)
            status = bind_pair(kind, &s->pair[0], v);
        else
            status = sti_fail(STRATA_E_SPEC, "%s: %s=%s is not one value", kind, v->key->name, text);
    }
    sti_spec_free(s);
    sti_text_free(&line);
    return status;
}

static strata_status unknown_key(const char *kind, sti_keys keys, const char *word)
{
    const char *best = NULL;
    int distance = 0;
    for (int32_t i = 0; i < keys.count; i++) {
        int d = edit_distance(word, keys.key[i].name);
        if (!best || d < distance) {
            best = keys.key[i].name;
            distance = d;
        }
    }
    if (!best) return sti_fail(STRATA_E_SPEC, "%s: takes no keys, but %s is given", kind, word);
    return sti_fail(STRATA_E_SPEC, "%s: unknown key %s; the nearest is %s", kind, word, best);
}

strata_status sti_values_bind(const sti_spec *s, const char *kind, sti_keys keys, sti_values **out)
{
    strata_status status = STRATA_OK;
    *out = NULL;
    sti_values *v = sti_heap(sizeof *v);
    if (!v) return sti_fail(STRATA_E_MEMORY, "spec: no memory");
    v->kind = kind;
    v->v = sti_heap((size_t)STI_MAX(keys.count, 1) * sizeof *v->v);
    if (!v->v) {
        status = sti_fail(STRATA_E_MEMORY, "spec: no memory");
        goto done;
    }
    v->count = keys.count;
    for (int32_t i = 0; i < keys.count; i++) v->v[i].key = &keys.key[i];
    for (int32_t i = 0; i < s->npair; i++) {
        int32_t k = 0;
        while (k < keys.count && strcmp(keys.key[k].name, s->pair[i].key) != 0) k++;
        if (k == keys.count) {
            status = unknown_key(kind, keys, s->pair[i].key);
            goto done;
        }
        v->v[k].given = true;
        if ((status = bind_pair(kind, &s->pair[i], &v->v[k])) != STRATA_OK) goto done;
    }
    for (int32_t i = 0; i < keys.count; i++) {
        sti_value *x = &v->v[i];
        if (x->given) continue;
        if (!x->key->def) {
            status = sti_fail(STRATA_E_SPEC, "%s: key %s is required", kind, x->key->name);
            goto done;
        }
        x->empty = !*x->key->def;
        if (!x->empty && (status = bind_text(kind, x, x->key->def)) != STRATA_OK) goto done;
    }
    *out = v;
    return STRATA_OK;
done:
    sti_values_free(v);
    return status;
}

void sti_values_free(sti_values *v)
{
    if (!v) return;
    for (int32_t i = 0; i < v->count; i++) value_clear(&v->v[i]);
    sti_heap_free(v->v);
    sti_heap_free(v);
}

static sti_value *find(const sti_values *v, const char *name)
{
    for (int32_t i = 0; i < v->count; i++)
        if (strcmp(v->v[i].key->name, name) == 0) return &v->v[i];
    return NULL;
}

const sti_value *sti_value_of(const sti_values *v, const char *name)
{
    static const sti_key no_key = { .name = "", .type = STI_KEY_TEXT, .def = "" };
    static const sti_value none = { .key = &no_key, .empty = true };
    const sti_value *x = find(v, name);
    STI_ASSERT(x); /* a name that is not in the table is a mistake of the caller's */
    return x ? x : &none;
}

int64_t sti_value_int(const sti_values *v, const char *name)
{
    return sti_value_of(v, name)->i;
}

double sti_value_num(const sti_values *v, const char *name)
{
    return sti_value_of(v, name)->num;
}

const char *sti_value_text(const sti_values *v, const char *name)
{
    const sti_value *x = sti_value_of(v, name);
    return x->text ? x->text : "";
}

bool sti_value_is(const sti_values *v, const char *name, const char *word)
{
    return strcmp(sti_value_text(v, name), word) == 0;
}

bool sti_value_given(const sti_values *v, const char *name)
{
    return sti_value_of(v, name)->given;
}

const sti_spec *sti_value_spec(const sti_values *v, const char *name, int32_t i)
{
    const sti_value *x = sti_value_of(v, name);
    return x->spec && i >= 0 && i < x->i ? x->spec[i] : NULL;
}

strata_status sti_values_set(sti_values *v, const char *name, const char *text)
{
    sti_value *x = find(v, name);
    if (!x) return sti_fail(STRATA_E_INVALID, "%s: has no key %s", v->kind, name);
    return bind_text(v->kind, x, text);
}

static void add_value(sti_text *t, const sti_value *x)
{
    switch (x->key->type) {
    case STI_KEY_INT:
    case STI_KEY_BOOL: sti_text_add(t, "%lld", (long long)x->i); break;
    case STI_KEY_NUM: sti_text_add_number(t, x->num); break;
    case STI_KEY_WORD:
    case STI_KEY_TEXT: sti_text_add(t, "%s", x->text); break;
    case STI_KEY_INTS:
        for (int64_t i = 0; i < x->i; i++) sti_text_add(t, "%s%lld", i ? "," : "", (long long)x->ints[i]);
        break;
    default:
        for (int64_t i = 0; i < x->i; i++) {
            if (i) sti_text_add(t, "%c", x->key->type == STI_KEY_CYCLE ? '|' : ',');
            add_spec(t, x->spec[i], true);
        }
    }
}

char *sti_values_text(const sti_values *v, bool nested)
{
    sti_text t = { 0 };
    bool any = false;
    sti_text_add(&t, "%s", v->kind);
    for (int32_t i = 0; i < v->count; i++) {
        const sti_value *x = &v->v[i];
        if (x->empty) continue;
        sti_text_add(&t, "%s%s=", nested && !any ? "(" : " ", x->key->name);
        add_value(&t, x);
        any = true;
    }
    if (nested && any) sti_text_add(&t, ")");
    return text_take(&t);
}
