/* The tasks that are registered, and the public calls that need to know them: configuration, training, evaluation. */

#include "task/registry.h"

#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "train/analysis.h"
#include "train/run.h"

#define X(name) extern const sti_task_class sti_task_class_##name;
#include "registry/task.def"
#undef X

static const sti_task_class *const classes[] = {
#define X(name) &sti_task_class_##name,
#include "registry/task.def"
#undef X
};

int32_t sti_task_class_count(void)
{
    return (int32_t)STI_COUNT(classes);
}

const sti_task_class *sti_task_class_at(int32_t i)
{
    return i >= 0 && i < sti_task_class_count() ? classes[i] : NULL;
}

/* NULL, and the detail text of E_SPEC, for a name that is none. */
static const sti_task_class *find(const char *kind)
{
    const char *names[STI_COUNT(classes)];
    for (size_t i = 0; i < STI_COUNT(classes); i++) {
        names[i] = classes[i]->kind;
        if (strcmp(names[i], kind) == 0) return classes[i];
    }
    const char *near = sti_nearest(kind, names, (int32_t)STI_COUNT(classes));
    sti_text all = { 0 };
    for (size_t i = 0; i < STI_COUNT(classes); i++) sti_text_add(&all, "%s%s", i ? ", " : "", names[i]);
    if (near)
        (void)sti_fail(STRATA_E_SPEC, "no task is called \"%s\"; did you mean \"%s\"?", kind, near);
    else
        (void)sti_fail(STRATA_E_SPEC, "no task is called \"%s\"; there are %s", kind, all.s ? all.s : names[0]);
    sti_text_free(&all);
    return NULL;
}

strata_status sti_task_class_find(const char *kind, const sti_task_class **out)
{
    *out = find(kind);
    return *out ? STRATA_OK : STRATA_E_SPEC;
}

/* `saved`: the metadata of the checkpoint that the task belongs to, or NULL */
static strata_status create(const strata_context *ctx, const strata_config *c, const sti_json *saved, sti_task *t)
{
    *t = (sti_task){ 0 };
    t->cls = find(sti_config_task(c));
    if (!t->cls) return STRATA_E_SPEC;
    t->unit = t->cls->unit;
    t->ctx = sti_context_ref(ctx);
    t->saved_in = saved;
    t->saved = saved ? sti_json_get(saved, sti_json_root(saved), "saved") : NULL;
    strata_status st = t->cls->create(t, c);
    t->saved_in = NULL;
    t->saved = NULL;
    if (st != STRATA_OK) sti_task_destroy(t);
    return st;
}

strata_status sti_task_create(const strata_context *ctx, const strata_config *c, sti_task *t)
{
    return create(ctx, c, NULL, t);
}

void sti_task_destroy(sti_task *t)
{
    if (!t->cls) return;
    t->cls->destroy(t);
    for (int32_t i = 0; i < t->nfile; i++) sti_heap_free(t->file[i].path);
    sti_heap_free(t->file);
    strata_context_destroy(t->ctx);
    *t = (sti_task){ 0 };
}

strata_status strata_config_create(const strata_context *ctx, const char *task, strata_config **out)
{
    (void)ctx;
    if (!out) return sti_fail(STRATA_E_INVALID, "strata_config_create: out is NULL");
    *out = NULL;
    const sti_task_class *cls = find(task ? task : "");
    if (!cls) return STRATA_E_SPEC;
    return sti_config_create(cls->kind, cls->keys, out);
}

strata_status strata_task_describe(const char *task, strata_task_info *info)
{
    if (!info || info->size < sizeof info->size)
        return sti_fail(STRATA_E_INVALID, "strata_task_describe: no info, or size is not set; use STRATA_INIT");
    const sti_task_class *cls = find(task ? task : "");
    if (!cls) return STRATA_E_SPEC;
    const strata_task_info i = { info->size, cls->unit, cls->values != NULL, !cls->no_files,
                                 cls->score_create != NULL };
    memcpy(info, &i, STI_MIN(info->size, sizeof i));
    return STRATA_OK;
}

strata_status strata_task_references(const strata_context *ctx, const strata_config *c, strata_measures **out)
{
    if (!out) return sti_fail(STRATA_E_INVALID, "strata_task_references: out is NULL");
    *out = NULL;
    if (!ctx || !c) return sti_fail(STRATA_E_INVALID, "strata_task_references: a NULL argument");
    sti_task task;
    STI_TRY(sti_task_create(ctx, c, &task));
    strata_measures *m = NULL;
    strata_status st = task.cls->references ? sti_measures_create(&m) : STRATA_OK;
    if (m) st = task.cls->references(&task, m);
    sti_task_destroy(&task);
    if (st == STRATA_OK)
        *out = m;
    else
        strata_measures_destroy(m);
    return st;
}

static strata_status check_files(const sti_task *t, int32_t ndata)
{
    if (ndata == 0 || !t->cls->no_files) return STRATA_OK;
    return sti_fail(STRATA_E_INVALID, "the task %s makes its own data and reads no files", t->cls->kind);
}

strata_status strata_train_check(const strata_context *ctx, const strata_config *c)
{
    if (!ctx || !c) return sti_fail(STRATA_E_INVALID, "strata_train_check: a NULL argument");
    sti_task task;
    STI_TRY(sti_task_create(ctx, c, &task));
    strata_status st = sti_run_check(ctx, c, &task, NULL);
    sti_task_destroy(&task);
    return st;
}

strata_status strata_train_cost(const strata_context *ctx, const strata_config *c, strata_cost *cost)
{
    strata_cost k = { .size = sizeof k };
    sti_task task;
    if (!ctx || !c || !cost || cost->size < sizeof cost->size)
        return sti_fail(STRATA_E_INVALID, "strata_train_cost: a NULL argument, or size is not set; use STRATA_INIT");
    STI_TRY(sti_task_create(ctx, c, &task));
    strata_status st = sti_run_check(ctx, c, &task, &k);
    sti_task_destroy(&task);
    k.size = STI_MIN(cost->size, sizeof k);
    if (st == STRATA_OK) memcpy(cost, &k, k.size);
    return st;
}

strata_status strata_train(const strata_context *ctx, const strata_config *c, const char *const *data, int32_t ndata,
                           const char *out_dir, strata_progress_fn fn, void *user)
{
    if (!ctx || !c || !out_dir || ndata < 0 || (ndata > 0 && !data))
        return sti_fail(STRATA_E_INVALID, "strata_train: a NULL argument");
    sti_task task;
    STI_TRY(sti_task_create(ctx, c, &task));
    strata_status st = check_files(&task, ndata);
    if (st == STRATA_OK && ndata == 0 && !task.cls->no_files) st = sti_fail(STRATA_E_INVALID, "no data file was given");
    if (st == STRATA_OK) st = sti_run_train(ctx, c, &task, data, ndata, out_dir, fn, user);
    sti_task_destroy(&task);
    return st;
}

/* ---- data files ----------------------------------------------------------------------------------------------- */
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

strata_status sti_task_remember(sti_task *t, const char *path, uint64_t bytes, sti_hash hash, int32_t validation)
{
    const size_t have = (size_t)t->nfile * sizeof *t->file;
    sti_task_file *p = sti_heap_grow(t->file, have, have + sizeof *p);
    if (!p) return sti_fail(STRATA_E_MEMORY, "out of memory");
    t->file = p;
    p[t->nfile] = (sti_task_file){ .path = absolute_path(path), .bytes = bytes, .validation = validation };
    if (!p[t->nfile].path) return sti_fail(STRATA_E_MEMORY, "out of memory");
    sti_hash_text(hash, p[t->nfile].hash);
    t->nfile++;
    return STRATA_OK;
}

/* ---- of a checkpoint ---------------------------------------------------------------------------------------- */
strata_status sti_task_of_model(const strata_model *m, sti_json **json, strata_config **config, sti_task *t)
{
    *t = (sti_task){ 0 };
    *json = NULL;
    *config = NULL;
    strata_status st = sti_json_parse(m->meta, strlen(m->meta), json);
    if (st == STRATA_OK) st = strata_config_create(m->ctx, m->task, config);
    if (st == STRATA_OK) st = sti_state_config(*json, *config);
    if (st == STRATA_OK) st = create(m->ctx, *config, *json, t);
    if (st == STRATA_OK && (t->inputs != m->plan->inputs || t->outputs != m->plan->outputs))
        st = sti_fail(STRATA_E_FORMAT, "the model reads %lld and gives %lld numbers, but its task %lld and %lld",
                      (long long)m->plan->inputs, (long long)m->plan->outputs, (long long)t->inputs,
                      (long long)t->outputs);
    if (st == STRATA_OK && t->vocab != m->plan->vocab)
        st = sti_fail(STRATA_E_FORMAT, "the model has a vocabulary of %lld, but its task one of %lld",
                      (long long)m->plan->vocab, (long long)t->vocab);
    if (st == STRATA_E_SPEC) st = sti_fail_prefix(STRATA_E_FORMAT, "metadata");
    if (st != STRATA_OK) {
        sti_task_destroy(t);
        strata_config_destroy(*config);
        sti_json_free(*json);
        *config = NULL;
        *json = NULL;
        return sti_fail_prefix(st, "%s", m->path);
    }
    return STRATA_OK;
}

/* The run's own validation data: its validation files, or the held-out part of all of its files. */
static strata_status load_own(const sti_json *j, sti_task *t, int64_t time)
{
    const sti_json_node *files = NULL;
    int32_t n = 0;
    bool separate = false;
    if (t->cls->no_files) return t->cls->load(t, STI_TASK_EVAL, NULL, 0, time);
    STI_TRY(sti_state_files(j, &files));
    for (const sti_json_node *x = sti_json_first(j, files); x; x = sti_json_next(j, x))
        separate = separate || sti_state_is_validation(j, x);
    const char **path = sti_heap((size_t)STI_MAX(files->count, 1) * sizeof *path);
    if (!path) return sti_fail(STRATA_E_MEMORY, "out of memory");
    for (const sti_json_node *x = sti_json_first(j, files); x; x = sti_json_next(j, x)) {
        const sti_json_node *p = sti_json_get(j, x, "path");
        if (separate && !sti_state_is_validation(j, x)) continue;
        path[n] = p ? sti_json_string(p) : NULL;
        if (path[n]) n++;
    }
    strata_status st = t->cls->load(t, separate ? STI_TASK_EVAL : STI_TASK_TRAIN, path, n, time);
    if (st == STRATA_OK) st = sti_state_check_files(j, t, separate);
    sti_heap_free(path);
    return st;
}

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Losses per token do not compare over vocabularies; those per byte do. */
static strata_status measure_bytes(const sti_task *t, sti_evaluation *e)
{
    const int64_t bytes = t->cls->eval_bytes ? t->cls->eval_bytes(t) : 0;
    if (bytes == 0) return STRATA_OK;
    if (!e->measures) STI_TRY(sti_measures_create(&e->measures));
    const double bits = e->loss * (double)e->scored / log(2.0) / (double)bytes;
    return sti_measures_add(e->measures, "bits_per_byte", "of text, comparable between vocabularies", 1, &bits);
}

/* A model with the task it was trained for, its data, and a trainer that does not learn. */
typedef struct examined {
    sti_json *json;
    strata_config *config;
    sti_task task;
    sti_trainer *trainer;
} examined;

static void release(examined *x)
{
    sti_trainer_destroy(x->trainer);
    sti_task_destroy(&x->task);
    strata_config_destroy(x->config);
    sti_json_free(x->json);
}

/* On files, or on what the run keeps apart. batch 0: that of the training. Release it either way. */
static strata_status examine(const strata_model *m, const char *const *data, int32_t ndata, bool test, int64_t batch,
                             examined *x)
{
    *x = (examined){ 0 };
    STI_TRY(sti_task_of_model(m, &x->json, &x->config, &x->task));
    x->task.test = test;
    STI_TRY(check_files(&x->task, ndata));
    STI_TRY(ndata > 0 ? x->task.cls->load(&x->task, STI_TASK_EVAL, data, ndata, m->plan->context)
                      : load_own(x->json, &x->task, m->plan->context));
    const sti_model_size size = { .batch = batch ? batch : sti_config_int(x->config, "train.batch"),
                                  .base_width = m->base_width };
    STI_TRY(sti_trainer_create(m->ctx, m->plan->spec, m->plan->vocab, &size, false, &x->trainer));
    return sti_trainer_put(x->trainer, &(sti_trainer_copy){ .params = m->params });
}

static strata_status evaluate(const strata_model *m, const char *const *data, int32_t ndata, strata_eval_result *out)
{
    const double start = now();
    sti_evaluation e = { 0 };
    examined x;
    strata_status st = examine(m, data, ndata, true, 0, &x);
    if (st == STRATA_OK) st = sti_run_evaluate(x.trainer, &x.task, 0, true, NULL, NULL, &e);
    if (st == STRATA_OK) st = measure_bytes(&x.task, &e);
    if (st != STRATA_OK) {
        strata_measures_destroy(e.measures);
    } else {
        const strata_eval_result r = { .size = out->size,
                                       .nats = e.loss,
                                       .bits = x.task.inputs ? (double)NAN : e.loss / log(2.0),
                                       .tokens = e.scored,
                                       .seconds = now() - start,
                                       .unit = x.task.unit,
                                       .measures = e.measures };
        memcpy(out, &r, STI_MIN(out->size, sizeof r));
        if (out->size < sizeof r) strata_measures_destroy(e.measures); /* the caller knows of none */
    }
    release(&x);
    return st;
}

strata_status strata_evaluate(const strata_context *ctx, const char *path, int32_t best, const char *const *data,
                              int32_t ndata, strata_eval_result *out)
{
    if (!ctx || !path || !out || ndata < 0 || (ndata > 0 && !data))
        return sti_fail(STRATA_E_INVALID, "strata_evaluate: a NULL argument");
    if (out->size < sizeof out->size)
        return sti_fail(STRATA_E_INVALID, "strata_evaluate: out.size is not set; use STRATA_INIT");
    strata_model *m = NULL;
    STI_TRY(strata_model_load(ctx, path, best, &m));
    strata_status st = evaluate(m, data, ndata, out);
    strata_model_destroy(m);
    return st;
}

strata_status strata_analysis_create(const strata_context *ctx, const char *path, const char *const *data,
                                     int32_t ndata, const strata_analysis_config *cfg, strata_analysis **out)
{
    strata_analysis_config how = { .size = sizeof how };
    if (!out) return sti_fail(STRATA_E_INVALID, "strata_analysis_create: out is NULL");
    *out = NULL;
    if (!ctx || !path || ndata < 0 || (ndata > 0 && !data))
        return sti_fail(STRATA_E_INVALID, "strata_analysis_create: a NULL argument");
    if (cfg && cfg->size < sizeof cfg->size)
        return sti_fail(STRATA_E_INVALID, "strata_analysis_create: cfg.size is not set; use STRATA_INIT");
    if (cfg) memcpy(&how, cfg, STI_MIN(cfg->size, sizeof how));
    if (how.sequences < 0 || how.queries < 0 || how.blocks < 0)
        return sti_fail(STRATA_E_INVALID, "strata_analysis_create: %lld windows, %lld queries, %lld blocks",
                        (long long)how.sequences, (long long)how.queries, (long long)how.blocks);
    if (!how.sequences) how.sequences = 4;
    if (!how.queries) how.queries = 256;
    if (!how.blocks) how.blocks = 2;
    strata_model *m = NULL;
    examined x;
    STI_TRY(strata_model_load(ctx, path, how.best, &m));
    strata_status st = examine(m, data, ndata, false, 1, &x);
    if (st == STRATA_OK) st = sti_analysis_run(x.trainer, &x.task, &how, out);
    release(&x);
    strata_model_destroy(m);
    return st;
}
