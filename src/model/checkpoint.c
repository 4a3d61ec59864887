/* Checkpoint files, and the models loaded from them. */

#include "model/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io/sys.h"

static const char *const prefixes[] = { "", "adam.m.", "adam.v." };

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

static char *join(const char *a, const char *b)
{
    sti_text t = { 0 };
    sti_text_add(&t, "%s%s", a, b);
    if (!t.failed) return t.s;
    sti_text_free(&t);
    return NULL;
}

/* ---- names -------------------------------------------------------------------------------------------------- */
int64_t sti_checkpoint_step_of(const char *name)
{
    static const char head[] = "step-", tail[] = ".safetensors";
    size_t n = strlen(name), h = sizeof head - 1, t = sizeof tail - 1;
    char digits[20];
    int64_t step = -1;
    if (n <= h + t || n - h - t >= sizeof digits || strncmp(name, head, h) != 0 || strcmp(name + n - t, tail) != 0)
        return -1;
    memcpy(digits, name + h, n - h - t);
    digits[n - h - t] = '\0';
    for (const char *d = digits; *d; d++)
        if (*d < '0' || *d > '9') return -1;
    return sti_parse_i64(digits, &step) ? step : -1;
}

char *sti_checkpoint_path(const char *dir, int64_t step)
{
    sti_text t = { 0 };
    if (step < 0)
        sti_text_add(&t, "%s/best.safetensors", dir);
    else
        sti_text_add(&t, "%s/step-%lld.safetensors", dir, (long long)step);
    if (!t.failed) return t.s;
    sti_text_free(&t);
    return NULL;
}

strata_status sti_checkpoint_newest(const char *dir, int64_t *step)
{
    *step = -1;
    DIR *d = opendir(dir);
    if (!d) return sti_fail_errno(errno, "read", dir);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) *step = STI_MAX(*step, sti_checkpoint_step_of(e->d_name));
    (void)closedir(d);
    return STRATA_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------------ */
static strata_status head_text(const sti_checkpoint_head *h, bool moments, sti_text *t)
{
    sti_text_add(t, "{\"format\":%d,\"model\":", (int)STI_CHECKPOINT_FORMAT);
    sti_json_put_string(t, h->spec, strlen(h->spec));
    sti_text_add(t, ",\"vocab\":%lld,\"base_width\":", (long long)h->vocab);
    sti_json_put_number(t, h->base_width);
    sti_text_add(t, ",\"task\":");
    sti_json_put_string(t, h->task, strlen(h->task));
    sti_text_add(t, ",\"step\":%lld,\"tokens\":%lld,\"moments\":%s%s%s}", (long long)h->step, (long long)h->tokens,
                 moments ? "true" : "false", h->more ? "," : "", h->more ? h->more : "");
    return t->failed ? no_memory() : STRATA_OK;
}

/* sti_param_view wants a mutable block; the views are only read. */
static void *readable(const float *p)
{
    union {
        const float *in;
        void *out;
    } u = { .in = p };
    return u.out;
}

strata_status sti_checkpoint_write(const strata_context *ctx, const char *path, const sti_params *table,
                                   const sti_checkpoint_head *head, const float *params, const float *m, const float *v)
{
    const float *const block[] = { params, m, v };
    const int kinds = m && v ? 3 : 1;
    const size_t max = 3 * (size_t)table->count;
    strata_file_entry *entry = sti_heap(STI_MAX(max, (size_t)1) * sizeof *entry);
    char **name = sti_heap(STI_MAX(max, (size_t)1) * sizeof *name);
    sti_text meta = { 0 };
    int32_t n = 0;
    strata_status st = entry && name ? head_text(head, kinds == 3, &meta) : no_memory();
    for (int k = 0; k < kinds && st == STRATA_OK; k++) {
        for (int32_t i = 0; i < table->count && st == STRATA_OK; i++) {
            if (table->p[i].tied >= 0) continue;
            if (!(name[n] = join(prefixes[k], table->p[i].name))) st = no_memory();
            entry[n] = (strata_file_entry){ name[n], sti_param_view(&table->p[i], readable(block[k]), STRATA_F32) };
            n++;
        }
    }
    if (st == STRATA_OK) st = strata_file_write(ctx, path, entry, n, &(strata_file_pair){ "strata", meta.s }, 1);
    for (int32_t i = 0; i < n; i++) sti_heap_free(name[i]);
    sti_heap_free(name);
    sti_heap_free(entry);
    sti_text_free(&meta);
    return st;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */
static strata_status member_int(const sti_checkpoint *c, const char *key, int64_t min, int64_t *out)
{
    const sti_json_node *x = sti_json_get(c->json, sti_json_root(c->json), key);
    if (!x || !x->is_int || x->i < min) return sti_fail(STRATA_E_FORMAT, "the metadata lacks a valid \"%s\"", key);
    *out = x->i;
    return STRATA_OK;
}

static strata_status member_string(const sti_checkpoint *c, const char *key, const char **out)
{
    const sti_json_node *x = sti_json_get(c->json, sti_json_root(c->json), key);
    const char *s = x ? sti_json_string(x) : NULL;
    if (!s) return sti_fail(STRATA_E_FORMAT, "the metadata lacks a valid \"%s\"", key);
    *out = s;
    return STRATA_OK;
}

static strata_status read_head(sti_checkpoint *c)
{
    int64_t format = 0;
    c->meta = strata_file_meta(c->file, "strata");
    if (!c->meta) return sti_fail(STRATA_E_FORMAT, "not a checkpoint: the metadata has no \"strata\"");
    STI_TRY(sti_json_parse(c->meta, strlen(c->meta), &c->json));
    STI_TRY(member_int(c, "format", 1, &format));
    if (format != STI_CHECKPOINT_FORMAT)
        return sti_fail(STRATA_E_FORMAT, "format version %lld, but this program reads %d", (long long)format,
                        (int)STI_CHECKPOINT_FORMAT);
    STI_TRY(member_string(c, "model", &c->spec));
    STI_TRY(member_string(c, "task", &c->task));
    STI_TRY(member_int(c, "vocab", 0, &c->vocab));
    STI_TRY(member_int(c, "step", 0, &c->step));
    STI_TRY(member_int(c, "tokens", 0, &c->tokens));
    const sti_json_node *root = sti_json_root(c->json), *w = sti_json_get(c->json, root, "base_width");
    if (!w || w->type != STI_JSON_NUMBER || !(w->num > 0 && w->num < 1e12))
        return sti_fail(STRATA_E_FORMAT, "the metadata lacks a valid \"base_width\"");
    c->base_width = w->num;
    const sti_json_node *m = sti_json_get(c->json, root, "moments");
    if (!m || m->type != STI_JSON_BOOL) return sti_fail(STRATA_E_FORMAT, "the metadata lacks a valid \"moments\"");
    c->moments = m->i != 0;
    return STRATA_OK;
}

static void shape_text(char s[64], int32_t ndim, const int64_t *shape)
{
    size_t n = 0;
    s[0] = '\0';
    for (int32_t i = 0; i < ndim && n < 40; i++) {
        int k = snprintf(s + n, 64 - n, "%s%lld", i ? "," : "", (long long)shape[i]);
        n += k > 0 ? (size_t)k : 0;
    }
}

static strata_status check_tensor(const sti_checkpoint *c, const char *name, const sti_param *p)
{
    strata_tensor t;
    if (strata_file_get(c->file, name, &t) != STRATA_OK)
        return sti_fail(STRATA_E_FORMAT, "tensor \"%s\" of the model is missing", name);
    if (t.dtype != STRATA_F32)
        return sti_fail(STRATA_E_FORMAT, "tensor \"%s\" is %s, not f32", name, strata_dtype_name(t.dtype));
    bool same = t.ndim == p->ndim;
    for (int32_t d = 0; d < p->ndim && same; d++) same = t.shape[d] == p->shape[d];
    if (same) return STRATA_OK;
    char have[64], want[64];
    shape_text(have, t.ndim, t.shape);
    shape_text(want, p->ndim, p->shape);
    return sti_fail(STRATA_E_FORMAT, "tensor \"%s\" is (%s) but the model says (%s)", name, have, want);
}

/* Is `name` a tensor that a file of this plan holds? */
static bool known_tensor(const sti_checkpoint *c, const char *name)
{
    const sti_params *table = &c->plan->graph->params;
    for (size_t k = c->moments ? STI_COUNT(prefixes) : 1; k-- > 0;) {
        size_t n = strlen(prefixes[k]);
        const sti_param *p = strncmp(name, prefixes[k], n) == 0 ? sti_params_find(table, name + n) : NULL;
        if (p && p->tied < 0) return true;
    }
    return false;
}

static strata_status check_tensors(const sti_checkpoint *c)
{
    const sti_params *table = &c->plan->graph->params;
    for (size_t k = 0; k < (c->moments ? STI_COUNT(prefixes) : 1); k++) {
        for (int32_t i = 0; i < table->count; i++) {
            if (table->p[i].tied >= 0) continue;
            char *name = join(prefixes[k], table->p[i].name);
            strata_status st = name ? check_tensor(c, name, &table->p[i]) : no_memory();
            sti_heap_free(name);
            if (st != STRATA_OK) return st;
        }
    }
    for (int32_t i = 0; i < strata_file_count(c->file); i++) {
        const char *name = NULL;
        strata_tensor t;
        STI_TRY(strata_file_at(c->file, i, &name, &t));
        if (!known_tensor(c, name)) return sti_fail(STRATA_E_FORMAT, "tensor \"%s\" is not part of the model", name);
    }
    return STRATA_OK;
}

static strata_status open_checked(const strata_context *ctx, sti_checkpoint *c)
{
    STI_TRY(read_head(c));
    const sti_model_size size = { .base_width = c->base_width };
    strata_status st = sti_model_plan_create(ctx, c->spec, c->vocab, &size, &c->plan);
    if (st == STRATA_E_SPEC || st == STRATA_E_INVALID) /* the file's fault, not the caller's */
        return sti_fail_prefix(STRATA_E_FORMAT, "model spec of the metadata");
    STI_TRY(st);
    return check_tensors(c);
}

strata_status sti_checkpoint_open(const strata_context *ctx, const char *path, sti_checkpoint **out)
{
    *out = NULL;
    sti_checkpoint *c = sti_heap(sizeof *c);
    if (!c) return no_memory();
    strata_status st = strata_file_open(ctx, path, &c->file);
    if (st == STRATA_OK && (st = open_checked(ctx, c)) != STRATA_OK) (void)sti_fail_prefix(st, "%s", path);
    if (st != STRATA_OK) {
        sti_checkpoint_close(c);
        return st;
    }
    *out = c;
    return STRATA_OK;
}

void sti_checkpoint_close(sti_checkpoint *c)
{
    if (!c) return;
    sti_model_plan_destroy(c->plan);
    sti_json_free(c->json);
    strata_file_close(c->file);
    sti_heap_free(c);
}

strata_status sti_checkpoint_read(const sti_checkpoint *c, const char *prefix, float *block)
{
    const sti_params *table = &c->plan->graph->params;
    memset(block, 0, (size_t)table->elements * sizeof *block);
    for (int32_t i = 0; i < table->count; i++) {
        const sti_param *p = &table->p[i];
        strata_tensor t;
        if (p->tied >= 0) continue;
        char *name = join(prefix, p->name);
        strata_status st = name ? strata_file_get(c->file, name, &t) : no_memory();
        sti_heap_free(name);
        if (st != STRATA_OK) return st;
        memcpy(block + p->offset, t.data, (size_t)p->count * sizeof *block);
    }
    return STRATA_OK;
}

/* ---- models ------------------------------------------------------------------------------------------------- */
static strata_status find_file(const char *path, int32_t best, char **out)
{
    struct stat info;
    int64_t step = -1;
    if (stat(path, &info) != 0) return sti_fail_errno(errno, "open", path);
    if (!S_ISDIR(info.st_mode)) {
        *out = sti_strdup(path);
    } else {
        if (!best) {
            STI_TRY(sti_checkpoint_newest(path, &step));
            if (step < 0) return sti_fail(STRATA_E_IO, "%s holds no checkpoint (step-N.safetensors)", path);
        }
        *out = sti_checkpoint_path(path, step);
    }
    return *out ? STRATA_OK : no_memory();
}

static strata_status load(const strata_context *ctx, sti_checkpoint *c, strata_model *m)
{
    void *params = NULL;
    m->ctx = sti_context_ref(ctx);
    STI_TRY(sti_calloc(ctx, c->plan->graph->params.elements, sizeof *m->params, &params));
    m->params = params;
    STI_TRY(sti_checkpoint_read(c, "", m->params));
    m->task = sti_strdup(c->task);
    m->meta = sti_strdup(c->meta);
    if (!m->task || !m->meta) return no_memory();
    m->base_width = c->base_width;
    m->step = c->step;
    m->tokens = c->tokens;
    m->plan = c->plan;
    c->plan = NULL; /* moved */
    return STRATA_OK;
}

strata_status strata_model_load(const strata_context *ctx, const char *path, int32_t best, strata_model **out)
{
    if (!out) return sti_fail(STRATA_E_INVALID, "strata_model_load: out is NULL");
    *out = NULL;
    if (!ctx || !path) return sti_fail(STRATA_E_INVALID, "strata_model_load: a NULL argument");
    sti_checkpoint *c = NULL;
    strata_model *m = sti_heap(sizeof *m);
    if (!m) return no_memory();
    strata_status st = find_file(path, best, &m->path);
    if (st == STRATA_OK) st = sti_checkpoint_open(ctx, m->path, &c);
    if (st == STRATA_OK) st = load(ctx, c, m);
    sti_checkpoint_close(c);
    if (st != STRATA_OK) {
        strata_model_destroy(m);
        return st;
    }
    *out = m;
    return STRATA_OK;
}

void strata_model_destroy(strata_model *m)
{
    if (!m) return;
    if (m->ctx) strata_free(m->ctx, m->params);
    sti_model_plan_destroy(m->plan);
    sti_heap_free(m->path);
    sti_heap_free(m->task);
    sti_heap_free(m->meta);
    strata_context_destroy(m->ctx);
    sti_heap_free(m);
}

const char *strata_model_spec(const strata_model *m)
{
    return m ? m->plan->spec : NULL;
}

const char *strata_model_task(const strata_model *m)
{
    return m ? m->task : NULL;
}

const char *strata_model_path(const strata_model *m)
{
    return m ? m->path : NULL;
}

const char *strata_model_meta(const strata_model *m)
{
    return m ? m->meta : NULL;
}

int64_t strata_model_step(const strata_model *m)
{
    return m ? m->step : 0;
}

int64_t strata_model_tokens(const strata_model *m)
{
    return m ? m->tokens : 0;
}

int64_t strata_model_context(const strata_model *m)
{
    return m ? m->plan->context : 0;
}

int32_t strata_model_param_count(const strata_model *m)
{
    return m ? m->plan->graph->params.count : 0;
}

strata_status strata_model_param(const strata_model *m, int32_t i, strata_param_info *info)
{
    if (!m || !info) return sti_fail(STRATA_E_INVALID, "strata_model_param: a NULL argument");
    const sti_params *t = &m->plan->graph->params;
    if (i < 0 || i >= t->count)
        return sti_fail(STRATA_E_INVALID, "parameter %lld of %lld", (long long)i, (long long)t->count);
    const sti_param *p = &t->p[i];
    *info = (strata_param_info){
        .name = p->name, .ndim = p->ndim, .offset = p->offset, .count = p->count, .lr_mult = p->lr_mult
    };
    memcpy(info->shape, p->shape, sizeof info->shape);
    return STRATA_OK;
}

const void *strata_model_params(const strata_model *m)
{
    return m ? m->params : NULL;
}

strata_status strata_model_cost(const strata_model *m, int64_t length, strata_cost *cost)
{
    if (!m) return sti_fail(STRATA_E_INVALID, "strata_model_cost: the model is NULL");
    return strata_cost_of(m->ctx, m->plan->spec, m->plan->vocab, 0, 1, length, cost, NULL);
}
