/* Language modelling on text files. See README.md. */

#include <string.h>

#include "core/philox.h"
#include "io/json.h"
#include "io/tokenizer/tokenizer.h"
#include "task/registry.h"

static const sti_key keys[] = {
    { "tokenizer", STI_KEY_TEXT, "char96", "char96 (newline and printable ASCII), byte, or bpe", 0, 0, NULL },
    { "vocab", STI_KEY_TEXT, "", "MERGES[,IDS.json]: the vocabulary of bpe, from strata tokenizer train or GPT-2's", 0,
      0, NULL },
    { "strict", STI_KEY_BOOL, "0", "1: characters that the tokenizer lacks are an error", 0, 0, NULL },
    { "val_fraction", STI_KEY_NUM, "0.05", "last part of the text, kept for validation", 1e-6, 0.9, NULL },
    { "val", STI_KEY_TEXT, "", "PATH[,PATH]: validation files; then val_fraction is not used", 0, 0, NULL },
};

enum { STREAM = 0x74657874 }; /* of the random windows */

typedef struct text {
    sti_tokenizer *tok;
    bool strict;
    double val_fraction;
    char *val_paths; /* owned; "" when there are none */
    sti_ids part[2]; /* training files, validation files */
    const sti_ids *val;
    int64_t ntrain, val_from, nval;
} text;

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

/* The tokenizer that a checkpoint was trained with: from the texts in it. */
static strata_status restore_tokenizer(const sti_task *t, const char *kind, sti_tokenizer **out)
{
    const sti_json *j = t->saved_in;
    const sti_json_node *list = sti_json_get(j, t->saved, "vocab");
    sti_tokenizer_text source[STI_TOKEN_FILES];
    int32_t n = 0;
    for (const sti_json_node *x = list ? sti_json_first(j, list) : NULL; x; x = sti_json_next(j, x), n++) {
        const sti_json_node *name = sti_json_get(j, x, "name"), *body = sti_json_get(j, x, "text");
        const char *known = name ? sti_json_string(name) : NULL;
        if (n == STI_TOKEN_FILES || !known || !body || body->type != STI_JSON_STRING)
            return sti_fail(STRATA_E_FORMAT, "the metadata's \"vocab\" is not a list of names and texts");
        source[n] = (sti_tokenizer_text){ .name = known, .text = body->text, .bytes = body->len };
    }
    return sti_tokenizer_restore(kind, source, n, out);
}

static strata_status open_tokenizer(const sti_task *t, const strata_config *c, sti_tokenizer **out)
{
    const char *kind = strata_config_get(c, "text.tokenizer"), *files = strata_config_get(c, "text.vocab");
    const sti_tokenizer_class *known = NULL;
    strata_status st = sti_tokenizer_find(kind, &known);
    if (st != STRATA_OK) return sti_fail_prefix(st, "text.tokenizer");
    st = t->saved ? restore_tokenizer(t, kind, out) : sti_tokenizer_open(kind, files, out);
    return st == STRATA_OK ? st : sti_fail_prefix(st, "text.vocab");
}

static strata_status create(sti_task *t, const strata_config *c)
{
    text *x = sti_heap(sizeof *x);
    if (!x) return no_memory();
    t->data = x;
    STI_TRY(open_tokenizer(t, c, &x->tok));
    for (size_t i = 0; i < STI_COUNT(x->part); i++) x->part[i].width = x->tok->width;
    x->strict = sti_config_int(c, "text.strict") != 0;
    x->val_fraction = sti_config_num(c, "text.val_fraction");
    x->val_paths = sti_strdup(strata_config_get(c, "text.val"));
    t->vocab = x->tok->vocab;
    if (x->tok->width > 1) t->unit = "token";
    memcpy(t->vocab_hash, x->tok->hash, sizeof t->vocab_hash);
    return x->val_paths ? STRATA_OK : no_memory();
}

static void destroy(sti_task *t)
{
    text *x = t->data;
    if (!x) return;
    sti_heap_free(x->val_paths);
    for (size_t i = 0; i < STI_COUNT(x->part); i++) sti_ids_free(&x->part[i]);
    sti_tokenizer_close(x->tok);
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

/* Load files and turn their text into ids. Where an id fits into a byte they take the place of the text. */
static strata_status read_part(sti_task *t, sti_ids *ids, const char *const *path, int32_t npath, int32_t validation)
{
    const text *x = t->data;
    sti_corpus c = { 0 };
    STI_TRY(sti_corpus_load(path, npath, STI_CORPUS_LIMIT, &c));
    const uint8_t *from = c.text;
    strata_status st = STRATA_OK;
    if (ids->width == 1) {
        ids->id = c.text;
        ids->cap = (int64_t)c.bytes;
        c.text = NULL; /* moved */
    }
    for (int32_t i = 0; i < c.count && st == STRATA_OK; i++) {
        const sti_corpus_file *f = &c.file[i];
        sti_token_counts n = { 0 };
        st = f->bytes > 0 ? sti_task_remember(t, f->path, f->bytes, f->hash, validation)
                          : sti_fail(STRATA_E_FORMAT, "%s: the text is empty", f->path);
        if (st != STRATA_OK) break;
        st = x->tok->cls->encode(x->tok, from + f->offset, f->bytes, x->strict, ids, &n);
        if (st != STRATA_OK) st = sti_fail_prefix(st, "%s", f->path);
        if (st == STRATA_OK) report(t, f->path, &n);
    }
    sti_corpus_free(&c);
    return st;
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
    const int64_t n = x->part[0].count;
    x->val = &x->part[0];
    if (use == STI_TASK_EVAL) {
        x->nval = n;
    } else if (*x->val_paths) {
        x->ntrain = n;
        x->val = &x->part[1];
        x->nval = x->val->count;
    } else {
        x->nval = (int64_t)(x->val_fraction * (double)n);
        x->val_from = x->ntrain = n - x->nval;
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
        const int64_t at = (int64_t)sti_below(seed, STREAM, draw, (uint64_t)(x->ntrain - time));
        sti_ids_copy(&x->part[0], at, time, tokens + b * time);
        sti_ids_copy(&x->part[0], at + 1, time, targets + b * time);
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
    const int64_t from = x->val_from + window * time, n = STI_MIN(time, x->nval - 1 - window * time);
    sti_ids_copy(x->val, from, n, tokens);
    sti_ids_copy(x->val, from + 1, n, targets);
    for (int64_t i = n; i < time; i++) { /* the last window is filled up with tokens that nothing scored can see */
        tokens[i] = 0;
        targets[i] = -1;
    }
}

static int64_t eval_bytes(const sti_task *t)
{
    const text *x = t->data;
    uint8_t piece[STI_TOKEN_BYTES];
    int64_t bytes = 0;
    if (x->tok->width == 1) return 0;
    for (int64_t i = 1; i < x->nval; i++) {
        int32_t id = 0;
        sti_ids_copy(x->val, x->val_from + i, 1, &id);
        bytes += (int64_t)x->tok->cls->decode(x->tok, id, piece);
    }
    return bytes;
}

/* ---- generation --------------------------------------------------------------------------------------------- */
static strata_status encode(const sti_task *t, const char *s, size_t bytes, int32_t *token, int64_t *n)
{
    const text *x = t->data;
    sti_ids ids = { .width = x->tok->width };
    sti_token_counts count = { 0 };
    strata_status st = x->tok->cls->encode(x->tok, (const uint8_t *)s, bytes, x->strict, &ids, &count);
    if (st == STRATA_E_FORMAT) st = sti_fail_prefix(STRATA_E_INVALID, "prompt");
    if (st == STRATA_OK) {
        report(t, "prompt", &count);
        sti_ids_copy(&ids, 0, ids.count, token);
        *n = ids.count;
    }
    sti_ids_free(&ids);
    return st;
}

static size_t decode(const sti_task *t, int32_t token, char bytes[STI_TASK_PIECE])
{
    const text *x = t->data;
    return x->tok->cls->decode(x->tok, token, (uint8_t *)bytes);
}

/* The vocabulary files go into the checkpoint. */
static void save(const sti_task *t, sti_text *json)
{
    const text *x = t->data;
    if (x->tok->sources == 0) return;
    sti_text_add(json, "{\"vocab\":[");
    for (int32_t i = 0; i < x->tok->sources; i++) {
        const sti_tokenizer_source *s = &x->tok->source[i];
        sti_text_add(json, "%s{\"name\":", i ? "," : "");
        sti_json_put_string(json, s->name, strlen(s->name));
        sti_text_add(json, ",\"text\":");
        sti_json_put_string(json, s->text, s->bytes);
        sti_text_add(json, "}");
    }
    sti_text_add(json, "]}");
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
    .eval_bytes = eval_bytes,
    .encode = encode,
    .decode = decode,
    .save = save,
};
