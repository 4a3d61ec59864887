/* Configuration. */

#include "train/config.h"

#include <string.h>

#include "core/context.h"
#include "io/map.h"

enum { MAX_LINE = 20000, MAX_BYTES = 1 << 20 };

static const sti_key train_keys[] = {
    { "steps", STI_KEY_INT, "1000", "optimiser steps; 0: until train.tokens, train.flops or train.seconds", 0, 1e15,
      NULL },
    { "batch", STI_KEY_INT, "8", "sequences per micro-batch", 1, 1 << 20, NULL },
    { "accum", STI_KEY_INT, "1", "micro-batches per step, whose gradients are averaged", 1, 1 << 20, NULL },
    { "lr", STI_KEY_NUM, "3e-3", "learning rate; every tensor multiplies it by its own factor", 0, 1e3, NULL },
    { "warmup", STI_KEY_INT, "100", "steps of linear warm-up", 0, 1e15, NULL },
    { "schedule", STI_KEY_WORD, "constant", "after the warm-up: constant, or cosine down to train.min_lr", 0, 0,
      "constant|cosine" },
    { "min_lr", STI_KEY_NUM, "0", "learning rate at the end of the cosine", 0, 1e3, NULL },
    { "clip", STI_KEY_NUM, "1", "largest norm of the gradient; 0: no clipping", 0, 1e30, NULL },
    { "beta1", STI_KEY_NUM, "0.9", "AdamW: decay of the first moment", 0, 0.999999, NULL },
    { "beta2", STI_KEY_NUM, "0.95", "AdamW: decay of the second moment", 0, 0.999999, NULL },
    { "eps", STI_KEY_NUM, "1e-20", "AdamW: added to the root of the second moment", 1e-30, 1, NULL },
    { "weight_decay", STI_KEY_NUM, "0", "decoupled decay of tensors with two or more dimensions", 0, 1e3, NULL },
    { "dtype", STI_KEY_WORD, "f32",
      "type of the computation, parameters stay f32; bf16 on the CPU: products of numbers rounded to it", 0, 0,
      "f32|bf16" },
    { "seed", STI_KEY_INT, "1", "fixes the initialisation and the order of the data", 0, 9e18, NULL },
    { "base_width", STI_KEY_NUM, "768", "width at which every learning-rate factor of a linear layer is 1", 1, 1e9,
      NULL },
    { "log_every", STI_KEY_INT, "10", "steps between rows of metrics.jsonl; 0: only with evaluations", 0, 1e15, NULL },
    { "eval_every", STI_KEY_INT, "200", "steps between evaluations; 0: only at the end", 0, 1e15, NULL },
    { "eval_tokens", STI_KEY_INT, "0",
      "validation tokens (forecast: numbers) of an evaluation, spread over all; 0: all", 0, 1e15, NULL },
    { "save_every", STI_KEY_INT, "200", "steps between checkpoints; 0: only at the end", 0, 1e15, NULL },
    { "keep", STI_KEY_INT, "2", "newest checkpoints that are kept, beside the best one", 1, 1000, NULL },
    { "init", STI_KEY_TEXT, "", "run or checkpoint of the same model whose parameters this run starts from", 0, 0,
      NULL },
    { "resume", STI_KEY_BOOL, "0", "1: continue from the newest checkpoint of the output directory", 0, 0, NULL },
    { "accept_data", STI_KEY_BOOL, "0", "1: resume although the data or the task's keys changed", 0, 0, NULL },
    { "seconds", STI_KEY_NUM, "0", "stop after this wall time, resumed parts included; 0: no limit", 0, 1e9, NULL },
    { "tokens", STI_KEY_INT, "0", "stop when this many positions were trained on; 0: no limit", 0, 9e18, NULL },
    { "flops", STI_KEY_NUM, "0", "stop when the training FLOPs reach this; 0: no limit", 0, 1e30, NULL },
};
const sti_keys sti_train_keys = STI_KEYS(train_keys);

static const sti_key model_keys[] = {
    { "spec", STI_KEY_SPEC, "decoder", "the model, \"decoder layers=6 width=256 …\"", 0, 0, "model" },
};

typedef struct item {
    const sti_key *key;
    char *name, *value, *source; /* owned */
} item;

struct strata_config {
    char *task;
    item *item;
    int32_t count;
};

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

static strata_status add_section(strata_config *c, const char *section, sti_keys keys)
{
    size_t have = (size_t)c->count * sizeof(item);
    item *p = sti_heap_grow(c->item, have, have + (size_t)keys.count * sizeof(item));
    if (!p) return no_memory();
    c->item = p;
    for (int32_t i = 0; i < keys.count; i++) {
        const sti_key *k = &keys.key[i];
        sti_text t = { 0 };
        sti_text_add(&t, "%s.%s", section, k->name);
        if (t.failed) {
            sti_text_free(&t);
            return no_memory();
        }
        c->item[c->count] = (item){ k, t.s, sti_strdup(k->def ? k->def : ""), sti_strdup("default") };
        item *x = &c->item[c->count++];
        if (!x->value || !x->source) return no_memory();
    }
    return STRATA_OK;
}

strata_status sti_config_create(const char *task, sti_keys task_keys, strata_config **out)
{
    *out = NULL;
    strata_config *c = sti_heap(sizeof *c);
    if (!c) return no_memory();
    c->task = sti_strdup(task);
    strata_status st = c->task ? add_section(c, "model", (sti_keys)STI_KEYS(model_keys)) : no_memory();
    if (st == STRATA_OK) st = add_section(c, "train", sti_train_keys);
    if (st == STRATA_OK) st = add_section(c, task, task_keys);
    if (st != STRATA_OK) {
        strata_config_destroy(c);
        return st;
    }
    *out = c;
    return STRATA_OK;
}

void strata_config_destroy(strata_config *c)
{
    if (!c) return;
    for (int32_t i = 0; i < c->count; i++) {
        sti_heap_free(c->item[i].name);
        sti_heap_free(c->item[i].value);
        sti_heap_free(c->item[i].source);
    }
    sti_heap_free(c->item);
    sti_heap_free(c->task);
    sti_heap_free(c);
}

const char *sti_config_task(const strata_config *c)
{
    return c->task;
}

static item *find(const strata_config *c, const char *name)
{
    for (int32_t i = 0; i < c->count; i++)
        if (strcmp(c->item[i].name, name) == 0) return &c->item[i];
    return NULL;
}

static strata_status unknown_key(const strata_config *c, const char *name)
{
    const char **names = sti_heap((size_t)c->count * sizeof *names);
    if (!names) return no_memory();
    for (int32_t i = 0; i < c->count; i++) names[i] = c->item[i].name;
    const char *near = sti_nearest(name, names, c->count);
    strata_status st = near ? sti_fail(STRATA_E_SPEC, "no key \"%.100s\"; did you mean \"%s\"?", name, near)
                            : sti_fail(STRATA_E_SPEC, "no key \"%.100s\"", name);
    sti_heap_free(names);
    return st;
}

/* Is `word` one of the alternatives "a|b|c"? */
static bool one_of(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (const char *w = words; n > 0 && (w = strstr(w, word)); w++)
        if ((w == words || w[-1] == '|') && (w[n] == '|' || w[n] == '\0')) return true;
    return false;
}

static strata_status check_number(const item *x, double v)
{
    const sti_key *k = x->key;
    if (k->min == 0 && k->max == 0) return STRATA_OK;
    if (v >= k->min && v <= k->max) return STRATA_OK;
    return sti_fail(STRATA_E_SPEC, "%s is %.15g, but must lie between %.15g and %.15g", x->name, v, k->min, k->max);
}

static strata_status check_value(const item *x, const char *value)
{
    int64_t i = 0;
    double num = 0;
    switch (x->key->type) {
    case STI_KEY_INT:
        if (!sti_parse_i64(value, &i)) return sti_fail(STRATA_E_SPEC, "%s: \"%.60s\" is no integer", x->name, value);
        return check_number(x, (double)i);
    case STI_KEY_NUM:
        if (!sti_parse_f64(value, &num)) return sti_fail(STRATA_E_SPEC, "%s: \"%.60s\" is no number", x->name, value);
        return check_number(x, num);
    case STI_KEY_BOOL:
        if (strcmp(value, "0") == 0 || strcmp(value, "1") == 0) return STRATA_OK;
        return sti_fail(STRATA_E_SPEC, "%s: \"%.60s\" is neither 0 nor 1", x->name, value);
    case STI_KEY_WORD:
        if (!strchr(value, '|') && one_of(x->key->words, value)) return STRATA_OK;
        return sti_fail(STRATA_E_SPEC, "%s: \"%.60s\" is none of %s", x->name, value, x->key->words);
    case STI_KEY_SPEC: {
        sti_spec *s = NULL;
        strata_status st = sti_spec_parse(value, &s);
        sti_spec_free(s);
        return st == STRATA_E_SPEC ? sti_fail_prefix(st, "%s", x->name) : st;
    }
    default: /* a line of text */
        for (const char *p = value; *p; p++)
            if ((unsigned char)*p < 0x20 ||
                (*p == '#' && (p == value || p[-1] == ' '))) /* no comment, when read back */
                return sti_fail(STRATA_E_SPEC, "%s: a control character, or '#' at the start of a word", x->name);
        return STRATA_OK;
    }
}

strata_status strata_config_set(strata_config *c, const char *key, const char *value, const char *source)
{
    if (!c || !key || !value || !source) return sti_fail(STRATA_E_INVALID, "config: a NULL argument");
    item *x = find(c, key);
    if (!x) return unknown_key(c, key);
    STI_TRY(check_value(x, value));
    char *v = sti_strdup(value), *s = sti_strdup(source);
    if (!v || !s) {
        sti_heap_free(v);
        sti_heap_free(s);
        return no_memory();
    }
    sti_heap_free(x->value);
    sti_heap_free(x->source);
    x->value = v;
    x->source = s;
    return STRATA_OK;
}

/* ---- files -------------------------------------------------------------------------------------------------- */
static bool blank(char ch)
{
    return ch == ' ' || ch == '\t' || ch == '\r';
}

/* [*a, *b) without blanks at its ends */
static void trim(const char **a, const char **b)
{
    while (*a < *b && blank(**a)) ++*a;
    while (*a < *b && blank((*b)[-1])) --*b;
}

/* One line: key and value into `buf` (two strings), or *key = NULL when it is empty. '#' starts a comment at the
 * beginning of a word, so that a value may hold one. */
static strata_status split_line(const char *a, const char *b, char *buf, const char **key, const char **value)
{
    *key = NULL;
    for (const char *p = a; p < b; p++)
        if (*p == '#' && (p == a || blank(p[-1]))) b = p;
    trim(&a, &b);
    if (a == b) return STRATA_OK;
    const char *eq = memchr(a, '=', (size_t)(b - a));
    if (!eq) return sti_fail(STRATA_E_SPEC, "no '='; a line is \"section.key = value\"");
    if (b - a >= MAX_LINE) return sti_fail(STRATA_E_SPEC, "more than %d bytes in one line", (int)MAX_LINE);
    if (memchr(a, '\0', (size_t)(b - a))) return sti_fail(STRATA_E_SPEC, "a NUL byte");
    const char *k = a, *kend = eq, *v = eq + 1;
    trim(&k, &kend);
    trim(&v, &b);
    memcpy(buf, k, (size_t)(kend - k));
    buf[kend - k] = '\0';
    char *second = buf + (kend - k) + 1;
    memcpy(second, v, (size_t)(b - v));
    second[b - v] = '\0';
    *key = buf;
    *value = second;
    return STRATA_OK;
}

static strata_status parse_into(strata_config *c, const char *text, size_t bytes, const char *name, char *buf)
{
    const char *end = text + bytes;
    int line = 1;
    for (const char *a = text; a < end; line++) {
        const char *b = memchr(a, '\n', (size_t)(end - a)), *key = NULL, *value = NULL;
        if (!b) b = end;
        strata_status st = split_line(a, b, buf, &key, &value);
        if (st == STRATA_OK && key) {
            sti_text source = { 0 };
            sti_text_add(&source, "%s:%d", name, line);
            st = source.failed ? no_memory() : strata_config_set(c, key, value, source.s);
            sti_text_free(&source);
        }
        if (st != STRATA_OK) return sti_fail_prefix(st, "%s:%d", name, line);
        a = b + (b < end);
    }
    return STRATA_OK;
}

static strata_status clone_items(const strata_config *c, strata_config *copy)
{
    copy->item = sti_heap((size_t)c->count * sizeof(item));
    if (!copy->item) return no_memory();
    for (int32_t i = 0; i < c->count; i++) {
        const item *x = &c->item[i];
        copy->item[copy->count++] = (item){ x->key, sti_strdup(x->name), sti_strdup(x->value), sti_strdup(x->source) };
        const item *y = &copy->item[i];
        if (!y->name || !y->value || !y->source) return no_memory();
    }
    return STRATA_OK;
}

strata_status sti_config_parse(strata_config *c, const char *text, size_t bytes, const char *name)
{
    if (bytes > MAX_BYTES) return sti_fail(STRATA_E_SPEC, "%s: larger than %d bytes", name, (int)MAX_BYTES);
    strata_config *copy = sti_heap(sizeof *copy);
    char *buf = sti_heap(MAX_LINE + 2);
    strata_status st = copy && buf ? clone_items(c, copy) : no_memory();
    if (st == STRATA_OK) st = parse_into(copy, text, bytes, name, buf);
    if (st == STRATA_OK) { /* all lines are good: exchange the contents */
        item *old = c->item;
        c->item = copy->item;
        copy->item = old;
    }
    strata_config_destroy(copy);
    sti_heap_free(buf);
    return st;
}

strata_status strata_config_load(strata_config *c, const char *path)
{
    if (!c || !path) return sti_fail(STRATA_E_INVALID, "config: a NULL argument");
    sti_map m = { 0 };
    STI_TRY(sti_map_open(path, &m));
    const void *text = m.data;
    strata_status st = sti_config_parse(c, text, m.bytes, path);
    sti_map_close(&m);
    return st;
}

char *sti_config_text(const strata_config *c)
{
    sti_text t = { 0 };
    sti_text_add(&t, "# task %s\n", c->task);
    for (int32_t i = 0; i < c->count; i++) sti_text_add(&t, "%s = %s\n", c->item[i].name, c->item[i].value);
    if (!t.failed) return t.s;
    sti_text_free(&t);
    return NULL;
}

/* ---- values ------------------------------------------------------------------------------------------------- */
int32_t strata_config_count(const strata_config *c)
{
    return c->count;
}

strata_status strata_config_at(const strata_config *c, int32_t i, strata_config_item *out)
{
    static const char *const types[] = { [STI_KEY_INT] = "int",   [STI_KEY_NUM] = "num",   [STI_KEY_BOOL] = "bool",
                                         [STI_KEY_WORD] = "word", [STI_KEY_TEXT] = "text", [STI_KEY_SPEC] = "spec" };
    if (i < 0 || i >= c->count) return sti_fail(STRATA_E_INVALID, "config: key %d of %d", (int)i, (int)c->count);
    const item *x = &c->item[i];
    const size_t type = (size_t)x->key->type;
    *out = (strata_config_item){ .key = x->name,
                                 .value = x->value,
                                 .source = x->source,
                                 .help = x->key->help,
                                 .type = type < STI_COUNT(types) && types[type] ? types[type] : "text",
                                 .def = x->key->def };
    return STRATA_OK;
}

const char *strata_config_get(const strata_config *c, const char *key)
{
    const item *x = c && key ? find(c, key) : NULL;
    return x ? x->value : NULL;
}

int64_t sti_config_int(const strata_config *c, const char *key)
{
    int64_t i = 0;
    const char *s = strata_config_get(c, key);
    bool ok = s && sti_parse_i64(s, &i);
    STI_ASSERT(ok);
    return ok ? i : 0;
}

double sti_config_num(const strata_config *c, const char *key)
{
    double x = 0;
    const char *s = strata_config_get(c, key);
    bool ok = s && sti_parse_f64(s, &x);
    STI_ASSERT(ok);
    return ok ? x : 0;
}

bool sti_config_is(const strata_config *c, const char *key, const char *word)
{
    const char *s = strata_config_get(c, key);
    return s && strcmp(s, word) == 0;
}
