/* Language modelling on text files. See README.md. */

#include <string.h>
#include <unistd.h>

#include "core/philox.h"
#include "io/text.h"
#include "io/tokenizer/tokenizer.h"
#include "train/task.h"

static const sti_key keys[] = {
    { "tokenizer", STI_KEY_TEXT, "char96", "char96 (newline and printable ASCII), or byte", 0, 0, NULL },
    { "strict", STI_KEY_BOOL, "0", "1: characters that the tokenizer lacks are an error", 0, 0, NULL },
    { "val_fraction", STI_KEY_NUM, "0.05", "last part of the text, kept for validation", 1e-6, 0.9, NULL },
    { "val", STI_KEY_TEXT, "", "PATH[,PATH]: validation files; then val_fraction is not used", 0, 0, NULL },
};

enum { STREAM = 0x74657874 }; /* of the random windows */

typedef struct text {
    const sti_tokenizer_class *tok;
    bool strict;
    double val_fraction;
    char *val_paths;    /* owned; "" when there are none */
    sti_corpus part[2]; /* training files (encoded in place), validation files */
    const uint8_t *train, *val;
    int64_t ntrain, nval;
} text;

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

static strata_status create(sti_task *t, const strata_config *c)
{
    text *x = sti_heap(sizeof *x);
    if (!x) return no_memory();
    t->data = x;
    strata_status st = sti_tokenizer_find(strata_config_get(c, "text.tokenizer"), &x->tok);
    if (st != STRATA_OK) return sti_fail_prefix(st, "text.tokenizer");
    x->strict = sti_config_int(c, "text.strict") != 0;
    x->val_fraction = sti_config_num(c, "text.val_fraction");
    x->val_paths = sti_strdup(strata_config_get(c, "text.val"));
    t->vocab = x->tok->vocab;
    return x->val_paths ? STRATA_OK : no_memory();
}

static void destroy(sti_task *t)
{
    text *x = t->data;
    if (!x) return;
    sti_heap_free(x->val_paths);
    for (size_t i = 0; i < STI_COUNT(x->part); i++) sti_corpus_free(&x->part[i]);
    sti_heap_free(x);
    t->data = NULL;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */
static void report(const sti_task *t, const char *path, const sti_token_counts *n)
{
    if (n->foreign > 0)
        sti_log(t->ctx, STRATA_LOG_WARN,
                "%s: %lld characters outside the vocabulary became '?', the first at line %lld", path,
                (long long)n->foreign, (long long)n->line);
    if (n->tabs > 0) sti_log(t->ctx, STRATA_LOG_INFO, "%s: %lld tabs became blanks", path, (long long)n->tabs);
    if (n->crlf > 0) sti_log(t->ctx, STRATA_LOG_INFO, "%s: %lld CR LF became newlines", path, (long long)n->crlf);
}

/* `path` as it can be found from another working directory: heap string. */
static char *absolute_path(const char *path)
{
    char here[4096];
    if (path[0] == '/' || !getcwd(here, sizeof here)) return sti_strdup(path);
    sti_text t = { 0 };
    sti_text_add(&t, "%s/%s", here, path);
    if (!t.failed) return t.s;
    sti_text_free(&t);
    return NULL;
}

static strata_status remember(sti_task *t, const sti_corpus_file *f, int32_t validation)
{
    size_t have = (size_t)t->nfile * sizeof *t->file;
    sti_task_file *p = sti_heap_grow(t->file, have, have + sizeof *p);
    if (!p) return no_memory();
    t->file = p;
    p[t->nfile] = (sti_task_file){ .path = absolute_path(f->path), .bytes = f->bytes, .validation = validation };
    if (!p[t->nfile].path) return no_memory();
    sti_hash_text(f->hash, p[t->nfile].hash);
    t->nfile++;
    return STRATA_OK;
}

/* Load files and turn their text into ids, in place: one byte per token. */
static strata_status read_part(sti_task *t, sti_corpus *c, const char *const *path, int32_t npath, int32_t validation)
{
    const text *x = t->data;
    size_t used = 0;
    STI_TRY(sti_corpus_load(path, npath, STI_CORPUS_LIMIT, c));
    for (int32_t i = 0; i < c->count; i++) {
        const sti_corpus_file *f = &c->file[i];
        sti_token_counts n = { 0 };
        if (f->bytes == 0) return sti_fail(STRATA_E_FORMAT, "%s: the text is empty", f->path);
        STI_TRY(remember(t, f, validation));
        strata_status st = x->tok->encode(c->text + f->offset, f->bytes, x->strict, c->text + f->offset, &n);
        if (st != STRATA_OK) return sti_fail_prefix(st, "%s", f->path);
        report(t, f->path, &n);
        memmove(c->text + used, c->text + f->offset, (size_t)n.tokens);
        used += (size_t)n.tokens;
    }
    c->bytes = used;
    return STRATA_OK;
}

/* text.val: paths separated by commas */
static strata_status read_validation(sti_task *t, text *x)
{
    char *list = sti_strdup(x->val_paths);
    size_t cap = list ? strlen(list) + 1 : 0;
    const char **path = sti_heap(STI_MAX(cap, (size_t)1) * sizeof *path);
    int32_t n = 0;
    strata_status st = list && path ? STRATA_OK : no_memory();
    if (st == STRATA_OK) {
        for (char *p = list, *comma; p; p = comma) {
            comma = strchr(p, ',');
            if (comma) *comma++ = '\0';
            path[n++] = p;
        }
        st = read_part(t, &x->part[1], path, n, 1);
    }
    sti_heap_free(path);
    sti_heap_free(list);
    return st;
}

/* Where training and validation lie. */
static strata_status split(text *x, sti_task_use use)
{
    const int64_t n = (int64_t)x->part[0].bytes;
    x->train = x->part[0].text;
    if (use == STI_TASK_EVAL) {
        x->val = x->train;
        x->nval = n;
        x->ntrain = 0;
    } else if (*x->val_paths) {
        x->ntrain = n;
        x->val = x->part[1].text;
        x->nval = (int64_t)x->part[1].bytes;
    } else {
        x->nval = (int64_t)(x->val_fraction * (double)n);
        x->ntrain = n - x->nval;
        x->val = x->train + x->ntrain;
    }
    if (x->nval >= 2) return STRATA_OK;
    return sti_fail(STRATA_E_SHAPE, "the validation text has %lld tokens; at least 2 are needed", (long long)x->nval);
}

static strata_status load(sti_task *t, sti_task_use use, const char *const *path, int32_t npath, int64_t time)
{
    text *x = t->data;
    if (npath < 1) return sti_fail(STRATA_E_INVALID, "no text file was given");
    STI_TRY(read_part(t, &x->part[0], path, npath, use == STI_TASK_EVAL));
    if (use == STI_TASK_TRAIN && *x->val_paths) STI_TRY(read_validation(t, x));
    STI_TRY(split(x, use));
    if (use == STI_TASK_TRAIN && x->ntrain <= time)
        return sti_fail(STRATA_E_SHAPE, "the training text has %lld tokens, but context=%lld needs at least %lld",
                        (long long)x->ntrain, (long long)time, (long long)(time + 1));
    return STRATA_OK;
}

/* ---- batches ------------------------------------------------------------------------------------------------ */
static void batch(const sti_task *t, uint64_t seed, int64_t index, int64_t nbatch, int64_t time, int32_t *tokens,
                  int32_t *targets)
{
    const text *x = t->data;
    for (int64_t b = 0; b < nbatch; b++) {
        const uint64_t draw = (uint64_t)index * (uint64_t)nbatch + (uint64_t)b;
        const uint8_t *p = x->train + sti_below(seed, STREAM, draw, (uint64_t)(x->ntrain - time));
        for (int64_t i = 0; i < time; i++) {
            tokens[b * time + i] = p[i];
            targets[b * time + i] = p[i + 1];
        }
    }
}

static int64_t eval_windows(const sti_task *t, int64_t time)
{
    const text *x = t->data;
    return x->nval < 2 ? 0 : sti_ceil_div(x->nval - 1, time);
}

static void eval_window(const sti_task *t, int64_t window, int64_t time, int32_t *tokens, int32_t *targets)
{
    const text *x = t->data;
    const uint8_t *p = x->val + window * time;
    const int64_t n = STI_MIN(time, x->nval - 1 - window * time);
    for (int64_t i = 0; i < time; i++) { /* the last window is filled up with tokens that nothing scored can see */
        tokens[i] = i < n ? p[i] : 0;
        targets[i] = i < n ? p[i + 1] : -1;
    }
}

/* ---- generation --------------------------------------------------------------------------------------------- */
static strata_status encode(const sti_task *t, const char *s, size_t bytes, int32_t *token, int64_t *n)
{
    const text *x = t->data;
    sti_token_counts count = { 0 };
    strata_status st = sti_tokenizer_encode_i32(x->tok, (const uint8_t *)s, bytes, x->strict, token, &count);
    if (st == STRATA_E_FORMAT) st = sti_fail_prefix(STRATA_E_INVALID, "prompt");
    if (st != STRATA_OK) return st;
    report(t, "prompt", &count);
    *n = count.tokens;
    return STRATA_OK;
}

static size_t decode(const sti_task *t, int32_t token, char bytes[STI_TASK_PIECE])
{
    const text *x = t->data;
    return x->tok->decode(token, (uint8_t *)bytes);
}

_Static_assert((int)STI_TASK_PIECE >= (int)STI_TOKEN_BYTES, "a token's bytes fit into a piece");

const sti_task_class sti_task_class_text = {
    .kind = "text",
    .summary = "language modelling on text files, plain or compressed",
    .unit = "character",
    .keys = STI_KEYS(keys),
    .create = create,
    .destroy = destroy,
    .load = load,
    .batch = batch,
    .eval_windows = eval_windows,
    .eval_window = eval_window,
    .encode = encode,
    .decode = decode,
};
