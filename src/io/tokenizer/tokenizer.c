/* The kinds that are registered, open tokenizers, and the public calls. */

#include "io/tokenizer/tokenizer.h"

#include <string.h>
#include <time.h>

#include "core/context.h"
#include "io/atomic.h"

#define X(name) extern const sti_tokenizer_class sti_tokenizer_class_##name;
#include "registry/io/tokenizer.def"
#undef X

static const sti_tokenizer_class *const kinds[] = {
#define X(name) &sti_tokenizer_class_##name,
#include "registry/io/tokenizer.def"
#undef X
};

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

int32_t sti_tokenizer_count(void)
{
    return (int32_t)STI_COUNT(kinds);
}

const sti_tokenizer_class *sti_tokenizer_at(int32_t i)
{
    return i >= 0 && i < sti_tokenizer_count() ? kinds[i] : NULL;
}

strata_status sti_tokenizer_find(const char *name, const sti_tokenizer_class **out)
{
    const char *names[STI_COUNT(kinds)];
    *out = NULL;
    for (size_t i = 0; i < STI_COUNT(kinds); i++) {
        names[i] = kinds[i]->name;
        if (strcmp(names[i], name) == 0) *out = kinds[i];
    }
    if (*out) return STRATA_OK;
    const char *near = sti_nearest(name, names, sti_tokenizer_count());
    return sti_fail(STRATA_E_SPEC, "unknown tokenizer \"%s\"%s%s%s", name, near ? "; did you mean " : "",
                    near ? near : "", near ? "?" : "");
}

/* ---- token numbers ------------------------------------------------------------------------------------------ */
strata_status sti_ids_reserve(sti_ids *ids, int64_t n)
{
    int64_t want = 0, bytes = 0;
    if (n <= ids->cap - ids->count) return STRATA_OK;
    if (!sti_add_i64(ids->count, n, &want) || !sti_add_i64(want, ids->cap / 2, &want) ||
        !sti_mul_i64(want, ids->width, &bytes))
        return no_memory();
    void *id = sti_heap_grow(ids->id, (size_t)(ids->count * ids->width), (size_t)bytes);
    if (!id) return no_memory();
    ids->id = id;
    ids->cap = want;
    return STRATA_OK;
}

void sti_ids_copy(const sti_ids *ids, int64_t from, int64_t n, int32_t *out)
{
    if (n <= 0) return;
    if (ids->width == 1) {
        const uint8_t *p = (const uint8_t *)ids->id + from;
        for (int64_t i = 0; i < n; i++) out[i] = p[i];
    } else if (ids->width == 2) {
        const uint16_t *p = (const uint16_t *)ids->id + from;
        for (int64_t i = 0; i < n; i++) out[i] = p[i];
    } else {
        memcpy(out, (const int32_t *)ids->id + from, (size_t)n * sizeof *out);
    }
}

void sti_ids_free(sti_ids *ids)
{
    sti_heap_free(ids->id);
    *ids = (sti_ids){ .width = ids->width };
}

/* ---- opening ------------------------------------------------------------------------------------------------ */
/* The class, and what follows from its vocabulary. */
static strata_status start(sti_tokenizer *t)
{
    sti_hash h = sti_hash_start();
    t->vocab = t->cls->vocab;
    if (t->cls->files) {
        for (int32_t i = 0; i < t->sources; i++) h = sti_hash_add(h, t->source[i].text, t->source[i].bytes);
        sti_hash_text(h, t->hash);
        STI_TRY(t->cls->open(t));
    }
    t->width = t->cls->vocab && t->vocab <= 256 ? 1 : t->vocab <= 65536 ? 2 : 4;
    return STRATA_OK;
}

static strata_status finish(strata_status st, sti_tokenizer *t, sti_tokenizer **out)
{
    if (st == STRATA_OK)
        *out = t;
    else
        sti_tokenizer_close(t);
    return st;
}

/* NULL: *st says why. */
static sti_tokenizer *create(const char *name, strata_status *st)
{
    const sti_tokenizer_class *cls = NULL;
    *st = sti_tokenizer_find(name, &cls);
    sti_tokenizer *t = *st == STRATA_OK ? sti_heap(sizeof *t) : NULL;
    if (*st == STRATA_OK && !t) *st = no_memory();
    if (t) t->cls = cls;
    return t;
}

static strata_status read_source(const char *path, sti_tokenizer_source *s)
{
    sti_corpus c = { 0 };
    STI_TRY(sti_corpus_load(&path, 1, STI_TOKEN_FILE_BYTES, &c));
    s->name = sti_strdup(path);
    s->bytes = c.bytes;
    s->text = (char *)c.text; /* moved */
    c.text = NULL;
    sti_corpus_free(&c);
    return s->name ? STRATA_OK : no_memory();
}

static strata_status read_sources(sti_tokenizer *t, const char *files)
{
    if (!t->cls->files)
        return *files ? sti_fail(STRATA_E_SPEC, "the tokenizer %s has no vocabulary file", t->cls->name) : STRATA_OK;
    if (!*files)
        return sti_fail(STRATA_E_SPEC, "the tokenizer %s needs its vocabulary file, %s", t->cls->name, t->cls->files);
    char *list = sti_strdup(files);
    if (!list) return no_memory();
    strata_status st = STRATA_OK;
    for (char *p = list, *comma; p && st == STRATA_OK; p = comma) {
        comma = strchr(p, ',');
        if (comma) *comma++ = '\0';
        st = t->sources == STI_TOKEN_FILES ? sti_fail(STRATA_E_SPEC, "\"%s\": a vocabulary is %s", files, t->cls->files)
                                           : read_source(p, &t->source[t->sources++]);
    }
    sti_heap_free(list);
    return st;
}

strata_status sti_tokenizer_open(const char *name, const char *files, sti_tokenizer **out)
{
    strata_status st = STRATA_OK;
    sti_tokenizer *t = create(name, &st);
    *out = NULL;
    if (!t) return st;
    st = read_sources(t, files);
    if (st == STRATA_OK) st = start(t);
    return finish(st, t, out);
}

strata_status sti_tokenizer_restore(const char *name, const sti_tokenizer_text *source, int32_t n, sti_tokenizer **out)
{
    strata_status st = STRATA_OK;
    sti_tokenizer *t = create(name, &st);
    *out = NULL;
    if (!t) return st;
    if (t->cls->files ? n < 1 || n > STI_TOKEN_FILES : n != 0)
        st = sti_fail(STRATA_E_FORMAT, "%d vocabulary texts of the tokenizer %s", (int)n, name);
    for (int32_t i = 0; i < n && st == STRATA_OK; i++) {
        sti_tokenizer_source *s = &t->source[t->sources++];
        s->name = sti_strdup(source[i].name);
        s->text = sti_heap(source[i].bytes + 1);
        s->bytes = source[i].bytes;
        if (!s->name || !s->text)
            st = no_memory();
        else if (s->bytes > 0)
            memcpy(s->text, source[i].text, s->bytes);
    }
    if (st == STRATA_OK) st = start(t);
    return finish(st, t, out);
}

void sti_tokenizer_close(sti_tokenizer *t)
{
    if (!t) return;
    if (t->cls->close) t->cls->close(t);
    for (int32_t i = 0; i < t->sources; i++) {
        sti_heap_free(t->source[i].name);
        sti_heap_free(t->source[i].text);
    }
    sti_heap_free(t);
}

/* ---- decoding ----------------------------------------------------------------------------------------------- */
strata_status sti_tokenizer_decode(const sti_tokenizer *t, const int32_t *ids, int64_t n, uint8_t *out, size_t cap,
                                   size_t *bytes)
{
    size_t at = 0;
    *bytes = 0;
    for (int64_t i = 0; i < n; i++) {
        uint8_t piece[STI_TOKEN_BYTES];
        if (ids[i] < 0 || ids[i] >= t->vocab)
            return sti_fail(STRATA_E_INVALID, "token %d is not in the vocabulary of %s, which has %d", (int)ids[i],
                            t->cls->name, (int)t->vocab);
        size_t k = t->cls->decode(t, ids[i], piece);
        if (k > cap - at) return sti_fail(STRATA_E_SPACE, "%lld tokens need more than %zu bytes", (long long)n, cap);
        memcpy(out + at, piece, k);
        at += k;
    }
    *bytes = at;
    return STRATA_OK;
}

/* ---- public calls ------------------------------------------------------------------------------------------- */
struct strata_tokenizer {
    strata_context *ctx;
    sti_tokenizer *core;
};

strata_status strata_tokenizer_open(const strata_context *ctx, const char *kind, const char *files,
                                    strata_tokenizer **out)
{
    if (!out) return sti_fail(STRATA_E_INVALID, "strata_tokenizer_open: out is NULL");
    *out = NULL;
    if (!ctx || !kind || !files) return sti_fail(STRATA_E_INVALID, "strata_tokenizer_open: a NULL argument");
    strata_tokenizer *t = sti_heap(sizeof *t);
    if (!t) return no_memory();
    strata_status st = sti_tokenizer_open(kind, files, &t->core);
    if (st != STRATA_OK) {
        sti_heap_free(t);
        return st;
    }
    t->ctx = sti_context_ref(ctx);
    *out = t;
    return STRATA_OK;
}

void strata_tokenizer_close(strata_tokenizer *t)
{
    if (!t) return;
    sti_tokenizer_close(t->core);
    strata_context_destroy(t->ctx);
    sti_heap_free(t);
}

int32_t strata_tokenizer_vocab(const strata_tokenizer *t)
{
    return t ? t->core->vocab : 0;
}

strata_status strata_tokenizer_encode(const strata_tokenizer *t, const void *text, size_t bytes, int32_t **ids,
                                      int64_t *count)
{
    if (!t || (!text && bytes > 0) || !ids || !count)
        return sti_fail(STRATA_E_INVALID, "strata_tokenizer_encode: a NULL argument");
    sti_ids found = { .width = t->core->width };
    sti_token_counts n = { 0 };
    void *wide = NULL;
    strata_status st = t->core->cls->encode(t->core, text, bytes, false, &found, &n);
    if (st == STRATA_OK) st = sti_calloc(t->ctx, STI_MAX(found.count, 1), sizeof **ids, &wide);
    if (st == STRATA_OK) {
        sti_ids_copy(&found, 0, found.count, wide);
        *ids = wide;
        *count = found.count;
    }
    sti_ids_free(&found);
    return st;
}

strata_status strata_tokenizer_decode(const strata_tokenizer *t, const int32_t *ids, int64_t count, void **text,
                                      size_t *bytes)
{
    if (!t || (!ids && count > 0) || count < 0 || !text || !bytes)
        return sti_fail(STRATA_E_INVALID, "strata_tokenizer_decode: a NULL argument");
    uint8_t piece[STI_TOKEN_BYTES];
    void *out = NULL;
    size_t cap = 0, n = 0;
    for (int64_t i = 0; i < count; i++)
        if (ids[i] >= 0 && ids[i] < t->core->vocab) cap += t->core->cls->decode(t->core, ids[i], piece);
    STI_TRY(sti_calloc(t->ctx, (int64_t)cap + 1, 1, &out));
    strata_status st = sti_tokenizer_decode(t->core, ids, count, out, cap, &n);
    if (st != STRATA_OK) {
        strata_free(t->ctx, out);
        return st;
    }
    *text = out;
    *bytes = n;
    return STRATA_OK;
}

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

strata_status strata_tokenizer_train(const strata_context *ctx, const char *const *paths, int32_t n,
                                     strata_tokenizer_training *how, const char *out_path)
{
    if (!ctx || !paths || n < 1 || !how || !out_path)
        return sti_fail(STRATA_E_INVALID, "strata_tokenizer_train: a NULL argument or no file");
    if (how->size < sizeof *how)
        return sti_fail(STRATA_E_INVALID, "strata_tokenizer_train: size is not set; use STRATA_INIT");
    if (how->vocab < 256) return sti_fail(STRATA_E_INVALID, "a vocabulary of %d tokens; at least 256", (int)how->vocab);
    const double began = now();
    const sti_tokenizer_class *cls = NULL;
    strata_tokenizer_training result = *how;
    sti_corpus c = { 0 };
    sti_text text = { 0 };
    STI_TRY(sti_tokenizer_find("bpe", &cls));
    strata_status st = sti_corpus_load(paths, n, STI_CORPUS_LIMIT, &c);
    if (st == STRATA_OK && c.bytes == 0) st = sti_fail(STRATA_E_FORMAT, "%s: the text is empty", paths[0]);
    if (st == STRATA_OK) st = cls->train(&c, &result, &text);
    if (st == STRATA_OK && text.failed) st = no_memory();
    if (st == STRATA_OK) st = sti_atomic_save(out_path, text.s, text.len);
    if (st == STRATA_OK) {
        result.bytes = (int64_t)c.bytes;
        result.seconds = now() - began;
        *how = result;
    }
    sti_text_free(&text);
    sti_corpus_free(&c);
    return st;
}
