/* Run state in checkpoints. */

#include "train/state.h"

#include <math.h>
#include <string.h>

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

/* ---- writing ------------------------------------------------------------------------------------------------ */
static void put_config(sti_text *t, const strata_config *c)
{
    sti_text_add(t, "\"config\":{");
    for (int32_t i = 0; i < strata_config_count(c); i++) {
        strata_config_item x;
        if (strata_config_at(c, i, &x) != STRATA_OK) continue;
        sti_text_add(t, "%s", i ? "," : "");
        sti_json_put_string(t, x.key, strlen(x.key));
        sti_text_add(t, ":");
        sti_json_put_string(t, x.value, strlen(x.value));
    }
    sti_text_add(t, "}");
}

static void put_files(sti_text *t, const sti_task *task)
{
    sti_text_add(t, ",\"files\":[");
    for (int32_t i = 0; i < task->nfile; i++) {
        const sti_task_file *f = &task->file[i];
        sti_text_add(t, "%s{\"path\":", i ? "," : "");
        sti_json_put_string(t, f->path, strlen(f->path));
        sti_text_add(t, ",\"bytes\":%llu,\"hash\":\"%s\",\"validation\":%d}", (unsigned long long)f->bytes, f->hash,
                     (int)f->validation);
    }
    sti_text_add(t, "]");
}

/* What the task wants to keep. */
static void put_task(sti_text *t, const sti_task *task)
{
    sti_text saved = { 0 };
    if (*task->vocab_hash) sti_text_add(t, ",\"vocab_hash\":\"%s\"", task->vocab_hash);
    if (task->cls->save) task->cls->save(task, &saved);
    if (saved.len > 0) sti_text_add(t, ",\"saved\":%s", saved.s);
    t->failed = t->failed || saved.failed;
    sti_text_free(&saved);
}

static void put_state(sti_text *t, const sti_run_state *s)
{
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        { "flops", s->flops }, { "seconds", s->seconds }, { "loss_sum", s->loss_sum }, { "best_loss", s->best_loss }
    }; /* infinite becomes null */
    sti_text_add(t, ",\"state\":{");
    for (size_t i = 0; i < STI_COUNT(numbers); i++) {
        sti_text_add(t, "\"%s\":", numbers[i].name);
        sti_json_put_number(t, numbers[i].value);
        sti_text_add(t, ",");
    }
    sti_text_add(t, "\"loss_count\":%lld,\"best_step\":%lld,\"pending\":%d}", (long long)s->loss_count,
                 (long long)s->best_step, (int)s->pending);
}

strata_status sti_state_write(const strata_context *ctx, const char *path, const sti_model_plan *p,
                              const sti_trainer_copy *copy, const strata_config *c, const sti_task *task,
                              const sti_run_state *s)
{
    sti_text more = { 0 };
    put_config(&more, c);
    put_files(&more, task);
    put_task(&more, task);
    put_state(&more, s);
    strata_status st = more.failed ? no_memory() : STRATA_OK;
    if (st == STRATA_OK) {
        const sti_checkpoint_head head = { .spec = p->spec,
                                           .task = sti_config_task(c),
                                           .vocab = p->vocab,
                                           .base_width = p->graph->base_width,
                                           .step = s->step,
                                           .tokens = s->tokens,
                                           .more = more.s };
        st = sti_checkpoint_write(ctx, path, &p->graph->params, &head, copy->params, copy->m, copy->v);
    }
    sti_text_free(&more);
    return st;
}

strata_status sti_state_save(const char *dir, int64_t file_step, const sti_trainer *t, const strata_config *c,
                             const sti_task *task, const sti_run_state *s)
{
    sti_trainer_copy copy;
    char *path = sti_checkpoint_path(dir, file_step);
    if (!path) return no_memory();
    strata_status st = sti_trainer_fetch(t, &copy);
    if (st == STRATA_OK) {
        const bool whole = file_step >= 0;
        const sti_trainer_copy kept = { copy.params, whole ? copy.m : NULL, whole ? copy.v : NULL };
        st = sti_state_write(t->ctx, path, t->plan, &kept, c, task, s);
    }
    sti_trainer_drop(t, &copy);
    sti_heap_free(path);
    return st;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */
static strata_status lacks(const char *what)
{
    return sti_fail(STRATA_E_FORMAT, "the metadata lacks a valid \"%s\"", what);
}

static strata_status get_number(const sti_json *j, const sti_json_node *o, const char *key, double absent, double *out)
{
    const sti_json_node *x = sti_json_get(j, o, key);
    if (!x || (x->type != STI_JSON_NUMBER && x->type != STI_JSON_NULL)) return lacks(key);
    *out = x->type == STI_JSON_NULL ? absent : x->num;
    return STRATA_OK;
}

static strata_status get_count(const sti_json *j, const sti_json_node *o, const char *key, int64_t *out)
{
    const sti_json_node *x = sti_json_get(j, o, key);
    if (!x || !x->is_int || x->i < 0) return lacks(key);
    *out = x->i;
    return STRATA_OK;
}

static strata_status get_state(const sti_checkpoint *k, sti_run_state *s)
{
    const sti_json *j = k->json;
    const sti_json_node *o = sti_json_get(j, sti_json_root(j), "state");
    int64_t pending = 0;
    s->step = k->step;
    s->tokens = k->tokens;
    STI_TRY(get_number(j, o, "flops", 0, &s->flops));
    STI_TRY(get_number(j, o, "seconds", 0, &s->seconds));
    STI_TRY(get_number(j, o, "loss_sum", 0, &s->loss_sum));
    STI_TRY(get_number(j, o, "best_loss", HUGE_VAL, &s->best_loss));
    STI_TRY(get_count(j, o, "loss_count", &s->loss_count));
    STI_TRY(get_count(j, o, "best_step", &s->best_step));
    STI_TRY(get_count(j, o, "pending", &pending));
    s->pending = pending != 0;
    return STRATA_OK;
}

strata_status sti_state_config(const sti_json *j, strata_config *c)
{
    const sti_json_node *o = sti_json_get(j, sti_json_root(j), "config");
    if (!o || o->type != STI_JSON_OBJECT) return lacks("config");
    for (const sti_json_node *x = sti_json_first(j, o); x; x = sti_json_next(j, x)) {
        const char *value = sti_json_string(x);
        if (!value) return lacks("config");
        strata_status st = strata_config_set(c, x->key, value, "checkpoint");
        if (st != STRATA_OK) return sti_fail_prefix(st == STRATA_E_SPEC ? STRATA_E_FORMAT : st, "config");
    }
    return STRATA_OK;
}

static strata_status check_file(const sti_json *j, const sti_json_node *x, const sti_task_file *f)
{
    const sti_json_node *p = sti_json_get(j, x, "path"), *b = sti_json_get(j, x, "bytes"),
                        *h = sti_json_get(j, x, "hash");
    const char *path = p ? sti_json_string(p) : NULL, *hash = h ? sti_json_string(h) : NULL;
    if (!path || !hash || !b || !b->is_int) return lacks("files");
    if ((uint64_t)b->i != f->bytes)
        return sti_fail(STRATA_E_FORMAT, "%s has %llu bytes, but the run was trained on %lld (%s)", f->path,
                        (unsigned long long)f->bytes, (long long)b->i, path);
    if (strcmp(hash, f->hash) != 0)
        return sti_fail(STRATA_E_FORMAT, "%s has other contents (hash %s) than the run was trained on (%s)", f->path,
                        f->hash, hash);
    return STRATA_OK;
}

bool sti_state_is_validation(const sti_json *j, const sti_json_node *file)
{
    const sti_json_node *x = sti_json_get(j, file, "validation");
    return x && x->is_int && x->i == 1;
}

strata_status sti_state_files(const sti_json *j, const sti_json_node **out)
{
    const sti_json_node *a = sti_json_get(j, sti_json_root(j), "files");
    if (!a || a->type != STI_JSON_ARRAY) return lacks("files");
    *out = a;
    return STRATA_OK;
}

strata_status sti_state_check_files(const sti_json *j, const sti_task *task, bool only_validation)
{
    const sti_json_node *a = NULL;
    int32_t n = 0;
    STI_TRY(sti_state_files(j, &a));
    for (const sti_json_node *x = sti_json_first(j, a); x; x = sti_json_next(j, x)) {
        if (only_validation && !sti_state_is_validation(j, x)) continue;
        if (n < task->nfile) STI_TRY(check_file(j, x, &task->file[n]));
        n++;
    }
    if (n == task->nfile) return STRATA_OK;
    return sti_fail(STRATA_E_FORMAT, "%d data files, but the run was trained on %d", (int)task->nfile, (int)n);
}

/* Does the key decide what the data are? */
static bool data_key(const strata_config *c, const char *key)
{
    size_t n = strlen(sti_config_task(c));
    return (strncmp(key, sti_config_task(c), n) == 0 && key[n] == '.');
}

/* The keys that a resumed run may not change, and those whose change it should know about. */
static strata_status compare_config(const sti_trainer *t, const sti_checkpoint *k, const strata_config *c)
{
    static const char *const order[] = { "train.seed", "train.batch", "train.accum" };
    const sti_json_node *o = sti_json_get(k->json, sti_json_root(k->json), "config");
    for (int32_t i = 0; i < strata_config_count(c); i++) {
        strata_config_item x;
        STI_TRY(strata_config_at(c, i, &x));
        const sti_json_node *was = sti_json_get(k->json, o, x.key);
        const char *old = was ? sti_json_string(was) : NULL;
        if (!old || strcmp(old, x.value) == 0) continue;
        if (data_key(c, x.key) && !sti_config_int(c, "train.accept_data"))
            return sti_fail(STRATA_E_SPEC, "resume: %s is %s, but the run was started with %s (train.accept_data=1)",
                            x.key, x.value, old);
        for (size_t n = 0; n < STI_COUNT(order); n++)
            if (strcmp(x.key, order[n]) == 0)
                sti_log(t->ctx, STRATA_LOG_WARN, "%s changes from %s to %s: the data come in another order", x.key, old,
                        x.value);
    }
    return STRATA_OK;
}

/* No key: a vocabulary without a file. */
static strata_status check_vocab(const sti_json *j, const sti_task *task)
{
    const sti_json_node *x = sti_json_get(j, sti_json_root(j), "vocab_hash");
    const char *was = x ? sti_json_string(x) : "";
    if (!was) return lacks("vocab_hash");
    if (strcmp(was, task->vocab_hash) == 0) return STRATA_OK;
    return sti_fail(STRATA_E_SPEC, "the vocabulary (hash %s) is not the one that the checkpoint was trained with (%s)",
                    task->vocab_hash, was);
}

static strata_status load(const sti_checkpoint *k, sti_trainer *t, const strata_config *c, const sti_task *task,
                          sti_run_state *s)
{
    sti_run_state found = { 0 };
    if (strcmp(k->spec, t->plan->spec) != 0)
        return sti_fail(STRATA_E_SPEC, "resume: the configuration says \"%s\", but the run trains \"%s\"",
                        t->plan->spec, k->spec);
    if (strcmp(k->task, sti_config_task(c)) != 0)
        return sti_fail(STRATA_E_SPEC, "resume: the task is %s, but the run trains %s", sti_config_task(c), k->task);
    if (k->vocab != t->plan->vocab)
        return sti_fail(STRATA_E_SPEC, "resume: the vocabulary is %lld, but the run's is %lld",
                        (long long)t->plan->vocab, (long long)k->vocab);
    if (k->base_width < t->plan->graph->base_width || k->base_width > t->plan->graph->base_width)
        return sti_fail(STRATA_E_SPEC, "resume: train.base_width is %g, but the run's is %g",
                        t->plan->graph->base_width, k->base_width);
    if (!k->moments) return sti_fail(STRATA_E_FORMAT, "the checkpoint has no optimiser moments");
    strata_status st = check_vocab(k->json, task);
    if (st != STRATA_OK) return sti_fail_prefix(st, "resume");
    STI_TRY(compare_config(t, k, c));
    if (!sti_config_int(c, "train.accept_data")) STI_TRY(sti_state_check_files(k->json, task, false));
    STI_TRY(get_state(k, &found));
    sti_trainer_copy copy;
    STI_TRY(sti_trainer_fetch(t, &copy));
    st = sti_checkpoint_read(k, "", copy.params);
    if (st == STRATA_OK) st = sti_checkpoint_read(k, "adam.m.", copy.m);
    if (st == STRATA_OK) st = sti_checkpoint_read(k, "adam.v.", copy.v);
    if (st == STRATA_OK) st = sti_trainer_put(t, &copy);
    sti_trainer_drop(t, &copy);
    if (st == STRATA_OK) *s = found;
    return st;
}

static strata_status take_params(const strata_model *m, sti_trainer *t, const sti_task *task)
{
    sti_json *j = NULL;
    if (strcmp(m->plan->spec, t->plan->spec) != 0)
        return sti_fail(STRATA_E_SPEC, "it is \"%s\", but this run trains \"%s\"", m->plan->spec, t->plan->spec);
    if (m->plan->vocab != t->plan->vocab)
        return sti_fail(STRATA_E_SPEC, "its vocabulary has %lld tokens, but this run's %lld", (long long)m->plan->vocab,
                        (long long)t->plan->vocab);
    if (m->base_width < t->plan->graph->base_width || m->base_width > t->plan->graph->base_width)
        return sti_fail(STRATA_E_SPEC, "its train.base_width is %g, but this run's %g", m->base_width,
                        t->plan->graph->base_width);
    STI_TRY(sti_json_parse(m->meta, strlen(m->meta), &j));
    strata_status st = check_vocab(j, task);
    sti_json_free(j);
    return st == STRATA_OK ? sti_trainer_put(t, &(sti_trainer_copy){ .params = m->params }) : st;
}

strata_status sti_state_init(const char *path, sti_trainer *t, const sti_task *task)
{
    strata_model *m = NULL;
    strata_status st = strata_model_load(t->ctx, path, 0, &m);
    if (st == STRATA_OK && (st = take_params(m, t, task)) != STRATA_OK) st = sti_fail_prefix(st, "%s", m->path);
    strata_model_destroy(m);
    return st == STRATA_OK ? st : sti_fail_prefix(st, "train.init");
}

strata_status sti_state_load(const char *dir, int64_t file_step, sti_trainer *t, const strata_config *c,
                             const sti_task *task, sti_run_state *s)
{
    char *path = sti_checkpoint_path(dir, file_step);
    if (!path) return no_memory();
    sti_checkpoint *k = NULL;
    strata_status st = sti_checkpoint_open(t->ctx, path, &k);
    if (st == STRATA_OK && (st = load(k, t, c, task, s)) == STRATA_E_FORMAT) (void)sti_fail_prefix(st, "%s", path);
    sti_checkpoint_close(k);
    sti_heap_free(path);
    return st;
}
