/* What is registered, in words: the top of the library, which sees every family's class tables. */
#include <strata/schema.h>

#include <stdio.h>
#include <string.h>

#if STRATA_HAVE_ZSTD
#include <zstd.h>
#endif
#if STRATA_HAVE_ZLIB
#include <zlib.h>
#endif

#include "core/context.h"
#include "core/spec.h"
#include "kernel/attention/attention.h"
#include "kernel/gemm/gemm.h"
#include "layer/layer.h"
#include "mixer/mixer.h"
#include "model/model.h"
#include "operator/operator.h"
#include "task/registry.h"
#include "train/config.h"

/* ---- families --------------------------------------------------------------------------------------------------- */
/* The part that all class tables share. */
typedef struct kind {
    const char *name, *summary;
    sti_keys keys;
    const char *const *examples;                 /* NULL, or NULL-terminated */
    strata_status (*check)(const sti_values *v); /* NULL, or what the keys must agree on among themselves */
} kind;

typedef struct family {
    const char *name;
    int32_t (*count)(void);
    kind (*at)(int32_t i);
} family;

#define CLASS_FAMILY(prefix, type)                                                                                     \
    static kind prefix##_kind_at(int32_t i)                                                                            \
    {                                                                                                                  \
        const type *c = prefix##_class_at(i);                                                                          \
        return (kind){ c->kind, c->summary, c->keys, c->examples, NULL };                                              \
    }
CLASS_FAMILY(sti_op, sti_op_class)
CLASS_FAMILY(sti_layer, sti_layer_class)
CLASS_FAMILY(sti_model, sti_model_class)
#undef CLASS_FAMILY

static kind mixer_at(int32_t i)
{
    const sti_mixer_class *c = sti_mixer_class_at(i);
    return (kind){ c->kind, c->summary, c->keys, c->examples, c->check };
}

static kind task_at(int32_t i)
{
    const sti_task_class *c = sti_task_class_at(i);
    return (kind){ c->kind, c->summary, c->keys, NULL, NULL };
}

static const sti_key attention_keys[] = {
#include "kernel/attention/keys.def"
};

static int32_t one(void)
{
    return 1;
}

static kind attention_at(int32_t i)
{
    static const char *const examples[] = { "score=standard causal=0", "score=mlr ranks=32,16,16 gain=count",
                                            "score=window window=128", NULL };
    (void)i;
    return (kind){ "softmax", "softmax attention with structured scores", STI_KEYS(attention_keys), examples,
                   sti_attention_check };
}

static kind train_at(int32_t i)
{
    (void)i;
    return (kind){ "train", "the training loop: AdamW, schedule, evaluation, checkpoints", sti_train_keys, NULL, NULL };
}

static const family families[] = {
    { "operator", sti_op_class_count, sti_op_kind_at },
    { "mixer", sti_mixer_class_count, mixer_at },
    { "layer", sti_layer_class_count, sti_layer_kind_at },
    { "attention", one, attention_at },
    { "model", sti_model_class_count, sti_model_kind_at },
    { "task", sti_task_class_count, task_at },
    { "train", one, train_at },
};

static const family *find_family(const char *name)
{
    for (size_t f = 0; name && f < STI_COUNT(families); f++)
        if (!strcmp(families[f].name, name)) return &families[f];
    return NULL;
}

static bool find_kind(const family *f, const char *name, kind *out)
{
    for (int32_t i = 0; f && name && i < f->count(); i++) {
        *out = f->at(i);
        if (!strcmp(out->name, name)) return true;
    }
    return false;
}

/* Operators that stand alone state their size. */
static const sti_key size_keys[] = {
    { "rows", STI_KEY_INT, "", "outputs, when the operator stands alone", 1, 1e15, NULL },
    { "cols", STI_KEY_INT, "", "inputs, when the operator stands alone", 1, 1e15, NULL },
};

/* ---- listing ---------------------------------------------------------------------------------------------------- */
int32_t strata_family_count(void)
{
    return (int32_t)STI_COUNT(families);
}

const char *strata_family_name(int32_t f)
{
    return f >= 0 && f < strata_family_count() ? families[f].name : NULL;
}

int32_t strata_kind_count(const char *name)
{
    const family *f = find_family(name);
    return f ? f->count() : 0;
}

static kind kind_at(const char *name, int32_t i)
{
    const family *f = find_family(name);
    return f && i >= 0 && i < f->count() ? f->at(i) : (kind){ 0 };
}

const char *strata_kind_name(const char *name, int32_t i)
{
    return kind_at(name, i).name;
}

const char *strata_kind_summary(const char *name, int32_t i)
{
    return kind_at(name, i).summary;
}

int32_t strata_key_count(const char *name, const char *kind_name)
{
    kind k;
    const family *f = find_family(name);
    if (!find_kind(f, kind_name, &k)) return 0;
    return k.keys.count + (f == families ? (int32_t)STI_COUNT(size_keys) : 0);
}

strata_status strata_key_at(const char *name, const char *kind_name, int32_t i, strata_key_info *info)
{
    static const char *const types[] = { "integer", "number",        "0 or 1",
                                         "word",    "text",          "list of integers",
                                         "spec",    "list of specs", "pattern of specs" };
    kind k;
    if (!info || i < 0 || i >= strata_key_count(name, kind_name))
        return sti_fail(STRATA_E_INVALID, "schema: no key %d of %s %s", (int)i, name ? name : "?",
                        kind_name ? kind_name : "?");
    (void)find_kind(find_family(name), kind_name, &k);
    const sti_key *key = i < k.keys.count ? &k.keys.key[i] : &size_keys[i - k.keys.count];
    *info = (strata_key_info){ key->name, types[key->type], key->def, key->help, key->words, key->min, key->max };
    return STRATA_OK;
}

const char *strata_kind_example(const char *name, const char *kind_name, int32_t i)
{
    kind k;
    if (!find_kind(find_family(name), kind_name, &k) || !k.examples) return NULL;
    for (int32_t e = 0; k.examples[e]; e++)
        if (e == i) return k.examples[e];
    return NULL;
}

/* ---- checking specs --------------------------------------------------------------------------------------------- */
static strata_status unknown_kind(const family *f, const char *name)
{
    enum { MAX = 64 };
    const char *names[MAX];
    int32_t n = 0;
    for (; n < MAX && n < f->count(); n++) names[n] = f->at(n).name;
    const char *near = sti_nearest(name, names, n);
    return sti_fail(STRATA_E_SPEC, "%s: no kind \"%.60s\"%s%s%s", f->name, name, near ? "; did you mean \"" : "",
                    near ? near : "", near ? "\"?" : "");
}

static strata_status check_tree(const family *f, const sti_spec *s, bool top);

static strata_status check_values(const kind *c, const sti_values *v)
{
    for (int32_t i = 0; i < v->count; i++) {
        const sti_value *x = &v->v[i];
        sti_key_type t = x->key->type;
        if (x->empty || (t != STI_KEY_SPEC && t != STI_KEY_SPECS && t != STI_KEY_CYCLE)) continue;
        const family *inner = find_family(x->key->words);
        for (int64_t k = 0; inner && k < (t == STI_KEY_SPEC ? 1 : x->i); k++)
            STI_TRY(check_tree(inner, x->spec[k], false));
    }
    return c->check ? c->check(v) : STRATA_OK;
}

static strata_status check_tree(const family *f, const sti_spec *s, bool top)
{
    kind k;
    sti_values *v = NULL;
    sti_key *keys = NULL;
    if (!find_kind(f, s->kind, &k)) return unknown_kind(f, s->kind);
    if (top && f == families) {
        size_t n = (size_t)k.keys.count;
        keys = sti_heap((n + STI_COUNT(size_keys)) * sizeof *keys);
        if (!keys) return sti_fail(STRATA_E_MEMORY, "spec: no memory");
        if (n) memcpy(keys, k.keys.key, n * sizeof *keys);
        memcpy(keys + n, size_keys, sizeof size_keys);
        k.keys = (sti_keys){ keys, (int32_t)(n + STI_COUNT(size_keys)) };
    }
    strata_status st = sti_values_bind(s, k.name, k.keys, &v);
    if (st == STRATA_OK) st = check_values(&k, v);
    sti_values_free(v);
    sti_heap_free(keys);
    return st;
}

strata_status strata_spec_check(const char *name, const char *spec)
{
    const family *f = find_family(name);
    sti_spec *s = NULL;
    if (!f || !spec) return sti_fail(STRATA_E_INVALID, "schema: no family \"%s\"", name ? name : "?");
    bool keys_only = f->count == one;
    STI_TRY(keys_only ? sti_spec_parse_keys(spec, f->at(0).name, &s) : sti_spec_parse(spec, &s));
    strata_status st = check_tree(f, s, true);
    sti_spec_free(s);
    return st;
}

/* ---- features --------------------------------------------------------------------------------------------------- */
const char *strata_feature(int32_t i)
{
    int32_t n = 0;
    if (strcmp(sti_gemm_backend(), "builtin") != 0 && n++ == i) return sti_gemm_backend();
#if STRATA_HAVE_OPENMP
    if (n++ == i) return "openmp";
#endif
#if STRATA_HAVE_ZSTD
    if (n++ == i) return "zstd " ZSTD_VERSION_STRING;
#endif
#if STRATA_HAVE_ZLIB
    if (n++ == i) return "zlib " ZLIB_VERSION;
#endif
    (void)n;
    return NULL;
}
