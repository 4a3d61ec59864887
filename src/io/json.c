#include "io/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "io/utf8.h"

struct sti_json {
    sti_json_node *node; /* node[0] is the root */
    int32_t count, cap;
    char *strings;
};

typedef struct parser {
    const char *s, *end, *at;
    sti_json *doc;
    char *out; /* free part of doc->strings */
} parser;

/* ---- errors ------------------------------------------------------------------------------------------------- */

static strata_status bad(const parser *p, const char *what)
{
    size_t line = 1, column = 1;
    for (const char *c = p->s; c < p->at; c++) {
        column = *c == '\n' ? 1 : column + 1;
        line += *c == '\n';
    }
    return sti_fail(STRATA_E_FORMAT, "line %zu, column %zu: %s", line, column, what);
}

/* ---- nodes -------------------------------------------------------------------------------------------------- */

static strata_status add_node(parser *p, int32_t *index)
{
    sti_json *d = p->doc;
    if (d->count == STI_JSON_MAX_NODES) return bad(p, "more than 8388608 values");
    if (d->count == d->cap) {
        int32_t cap = d->cap ? d->cap * 2 : 16;
        sti_json_node *node = sti_heap_grow(d->node, (size_t)d->cap * sizeof *node, (size_t)cap * sizeof *node);
        if (!node) return sti_fail(STRATA_E_MEMORY, "out of memory for %d JSON values", (int)cap);
        d->node = node;
        d->cap = cap;
    }
    *index = d->count++;
    return STRATA_OK;
}

typedef struct name {
    const char *key;
    uint32_t len;
} name;

static int compare_names(const void *pa, const void *pb)
{
    const name *a = pa, *b = pb;
    int c = memcmp(a->key, b->key, STI_MIN(a->len, b->len));
    return c ? c : (a->len > b->len) - (a->len < b->len);
}

/* Sorting keeps an object of n hostile names at n log n. */
static strata_status check_unique(const parser *p, const sti_json_node *object)
{
    if (object->count < 2) return STRATA_OK;
    name *names = sti_heap((size_t)object->count * sizeof *names);
    if (!names) return sti_fail(STRATA_E_MEMORY, "out of memory for %d JSON names", (int)object->count);
    size_t n = 0;
    for (const sti_json_node *c = sti_json_first(p->doc, object); c; c = sti_json_next(p->doc, c))
        names[n++] = (name){ c->key, c->key_len };
    qsort(names, n, sizeof *names, compare_names);
    strata_status s = STRATA_OK;
    for (size_t i = 1; i < n && s == STRATA_OK; i++) {
        if (compare_names(&names[i - 1], &names[i]) != 0) continue;
        char text[160];
        snprintf(text, sizeof text, "the object has two members \"%.100s\"", names[i].key);
        s = bad(p, text);
    }
    sti_heap_free(names);
    return s;
}

/* ---- tokens ------------------------------------------------------------------------------------------------- */

static void skip_blanks(parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r')) p->at++;
}

static bool take(parser *p, char c)
{
    if (p->at == p->end || *p->at != c) return false;
    p->at++;
    return true;
}

static bool take_word(parser *p, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, word, n) != 0) return false;
    p->at += n;
    return true;
}

static bool digit(const parser *p)
{
    return p->at < p->end && *p->at >= '0' && *p->at <= '9';
}

/* Four hexadecimal digits at p->at; -1 if there are not four. */
static int32_t hex4(parser *p)
{
    int32_t v = 0;
    if (p->end - p->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = p->at[i];
        int32_t d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    p->at += 4;
    return v;
}

static void put_utf8(char **out, uint32_t u)
{
    char *o = *out;
    if (u < 0x80) {
        *o++ = (char)u;
    } else if (u < 0x800) {
        *o++ = (char)(0xc0 | u >> 6);
        *o++ = (char)(0x80 | (u & 63));
    } else if (u < 0x10000) {
        *o++ = (char)(0xe0 | u >> 12);
        *o++ = (char)(0x80 | (u >> 6 & 63));
        *o++ = (char)(0x80 | (u & 63));
    } else {
        *o++ = (char)(0xf0 | u >> 18);
        *o++ = (char)(0x80 | (u >> 12 & 63));
        *o++ = (char)(0x80 | (u >> 6 & 63));
        *o++ = (char)(0x80 | (u & 63));
    }
    *out = o;
}

static strata_status escape(parser *p)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = p->at < p->end ? *p->at : '\0';
    const char *f = c ? strchr(from, c) : NULL;
    if (f) {
        *p->out++ = to[f - from];
        p->at++;
        return STRATA_OK;
    }
    if (!take(p, 'u')) return bad(p, "unknown escape");
    int32_t u = hex4(p);
    if (u < 0) return bad(p, "\\u needs four hexadecimal digits");
    if (u >= 0xdc00 && u <= 0xdfff) return bad(p, "second half of a surrogate pair without the first");
    if (u >= 0xd800 && u <= 0xdbff) {
        int32_t low = take_word(p, "\\u") ? hex4(p) : -1;
        if (low < 0xdc00 || low > 0xdfff) return bad(p, "first half of a surrogate pair without the second");
        u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
    }
    put_utf8(&p->out, (uint32_t)u);
    return STRATA_OK;
}

/* The string whose opening quote is at p->at. Unescaped and terminated it is never longer than in the source, so
 * doc->strings (as long as the source, plus one) always has room. */
static strata_status string(parser *p, const char **text, uint32_t *len)
{
    if (!take(p, '"')) return bad(p, "expected a string");
    char *start = p->out;
    while (!take(p, '"')) {
        if (p->at == p->end) return bad(p, "the string does not end");
        if ((uint8_t)*p->at < 0x20) return bad(p, "control character in a string");
        if (take(p, '\\')) {
            STI_TRY(escape(p));
            continue;
        }
        size_t k = sti_utf8_length((const uint8_t *)p->at, (size_t)(p->end - p->at));
        if (k == 0) return bad(p, "invalid UTF-8");
        memcpy(p->out, p->at, k);
        p->out += k;
        p->at += k;
    }
    *text = start;
    *len = (uint32_t)(p->out - start);
    *p->out++ = '\0';
    return STRATA_OK;
}

static bool to_int(const char *text, int64_t *out)
{
    bool negative = *text == '-';
    int64_t v = 0;
    for (const char *c = text + negative; *c; c++) {
        if (*c < '0' || *c > '9') return false;
        if (__builtin_mul_overflow(v, (int64_t)10, &v)) return false;
        int64_t d = negative ? -(*c - '0') : *c - '0';
        if (__builtin_add_overflow(v, d, &v)) return false;
    }
    *out = v;
    return true;
}

static strata_status number(parser *p, sti_json_node *n)
{
    const char *start = p->at;
    take(p, '-');
    if (!digit(p)) return bad(p, "expected a value");
    if (!take(p, '0'))
        while (digit(p)) p->at++;
    if (take(p, '.')) {
        if (!digit(p)) return bad(p, "expected a digit after the point");
        while (digit(p)) p->at++;
    }
    if (take(p, 'e') || take(p, 'E')) {
        if (!take(p, '+')) take(p, '-');
        if (!digit(p)) return bad(p, "expected a digit in the exponent");
        while (digit(p)) p->at++;
    }
    size_t len = (size_t)(p->at - start);
    if (len > STI_JSON_MAX_NUMBER) return bad(p, "number longer than 400 bytes");
    memcpy(p->out, start, len);
    p->out[len] = '\0';
    n->text = p->out;
    n->len = (uint32_t)len;
    p->out += len + 1;
    if (!sti_parse_f64(n->text, &n->num)) n->num = *start == '-' ? -(double)INFINITY : (double)INFINITY; /* 1e999 */
    n->is_int = to_int(n->text, &n->i);
    return STRATA_OK;
}

/* ---- values ------------------------------------------------------------------------------------------------- */

static strata_status value(parser *p, int depth, int32_t *index);

static strata_status members(parser *p, int depth, int32_t self, bool object)
{
    char close = object ? '}' : ']';
    int32_t last = 0, count = 0;
    p->at++;
    if (depth == STI_JSON_MAX_DEPTH) return bad(p, "nested deeper than 64 levels");
    skip_blanks(p);
    if (take(p, close)) return STRATA_OK;
    do {
        const char *key = NULL;
        uint32_t key_len = 0;
        int32_t child;
        skip_blanks(p);
        if (object) {
            STI_TRY(string(p, &key, &key_len));
            skip_blanks(p);
            if (!take(p, ':')) return bad(p, "expected ':'");
        }
        STI_TRY(value(p, depth + 1, &child));
        sti_json_node *node = p->doc->node; /* value() may have moved it */
        node[child].key = key;
        node[child].key_len = key_len;
        if (last)
            node[last].next = child;
        else
            node[self].child = child;
        node[self].count = ++count;
        last = child;
        skip_blanks(p);
    } while (take(p, ','));
    if (!take(p, close)) return bad(p, object ? "expected ',' or '}'" : "expected ',' or ']'");
    return object ? check_unique(p, &p->doc->node[self]) : STRATA_OK;
}

static strata_status value(parser *p, int depth, int32_t *index)
{
    sti_json_node n = { .type = STI_JSON_NULL };
    skip_blanks(p);
    STI_TRY(add_node(p, index));
    char c = p->at < p->end ? *p->at : '\0';
    if (c == '{' || c == '[') {
        p->doc->node[*index].type = c == '{' ? STI_JSON_OBJECT : STI_JSON_ARRAY;
        return members(p, depth, *index, c == '{');
    }
    if (c == '"') {
        n.type = STI_JSON_STRING;
        STI_TRY(string(p, &n.text, &n.len));
    } else if (take_word(p, "true") || take_word(p, "false")) {
        n.type = STI_JSON_BOOL;
        n.i = c == 't';
    } else if (!take_word(p, "null")) {
        n.type = STI_JSON_NUMBER;
        STI_TRY(number(p, &n));
    }
    p->doc->node[*index] = n;
    return STRATA_OK;
}

strata_status sti_json_parse(const char *text, size_t bytes, sti_json **out)
{
    *out = NULL;
    if (bytes > STI_JSON_MAX_BYTES)
        return sti_fail(STRATA_E_FORMAT, "%zu bytes of JSON, the limit is %d", bytes, STI_JSON_MAX_BYTES);
    sti_json *d = sti_heap(sizeof *d);
    if (d) d->strings = sti_heap(bytes + 1);
    if (!d || !d->strings) {
        sti_json_free(d);
        return sti_fail(STRATA_E_MEMORY, "out of memory for %zu bytes of JSON", bytes);
    }
    parser p = { .s = text, .end = text + bytes, .at = text, .doc = d, .out = d->strings };
    int32_t root;
    strata_status s = value(&p, 0, &root);
    skip_blanks(&p);
    if (s == STRATA_OK && p.at < p.end) s = bad(&p, "more text after the value");
    if (s != STRATA_OK) {
        sti_json_free(d);
        return s;
    }
    *out = d;
    return STRATA_OK;
}

void sti_json_free(sti_json *j)
{
    if (!j) return;
    sti_heap_free(j->node);
    sti_heap_free(j->strings);
    sti_heap_free(j);
}

const sti_json_node *sti_json_root(const sti_json *j)
{
    return &j->node[0];
}

/* Index 0 is the root, which is nobody's child: it stands for "none". */
const sti_json_node *sti_json_first(const sti_json *j, const sti_json_node *parent)
{
    return parent->child ? &j->node[parent->child] : NULL;
}

const sti_json_node *sti_json_next(const sti_json *j, const sti_json_node *node)
{
    return node->next ? &j->node[node->next] : NULL;
}

const sti_json_node *sti_json_get(const sti_json *j, const sti_json_node *object, const char *key)
{
    size_t n = strlen(key);
    if (!object || object->type != STI_JSON_OBJECT) return NULL;
    for (const sti_json_node *c = sti_json_first(j, object); c; c = sti_json_next(j, c))
        if (c->key_len == n && memcmp(c->key, key, n) == 0) return c;
    return NULL;
}

const char *sti_json_string(const sti_json_node *n)
{
    return n->type == STI_JSON_STRING && strlen(n->text) == n->len ? n->text : NULL;
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

void sti_json_put_string(sti_text *t, const char *s, size_t n)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    sti_text_add(t, "\"");
    size_t plain = 0; /* start of what has not been written yet */
    for (size_t i = 0; i < n;) {
        uint8_t c = (uint8_t)s[i];
        const char *f = c ? strchr(from, c) : NULL;
        size_t k = sti_utf8_length((const uint8_t *)s + i, n - i);
        if (k > 0 && c >= 0x20 && !f && i - plain < INT32_MAX / 2) {
            i += k;
            continue;
        }
        sti_text_add(t, "%.*s", (int)(i - plain), s + plain);
        if (f)
            sti_text_add(t, "\\%c", to[f - from]);
        else if (k == 0)
            sti_text_add(t, "\xef\xbf\xbd");
        else if (c < 0x20)
            sti_text_add(t, "\\u%04x", c);
        if (f || k == 0 || c < 0x20) i++;
        plain = i;
    }
    sti_text_add(t, "%.*s\"", (int)(n - plain), s + plain);
}

void sti_json_put_number(sti_text *t, double x)
{
    if (isfinite(x))
        sti_text_add_number(t, x);
    else
        sti_text_add(t, "null");
}
