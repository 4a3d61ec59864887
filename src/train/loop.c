/* The training loop: steps, evaluations, rows of metrics, checkpoints; and how it continues after any end. */

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "core/device.h"
#include "io/atomic.h"
#include "io/metrics.h"
#include "train/run.h"
#include "train/rundir.h"

typedef struct run {
    const strata_config *config;
    sti_task *task;
    sti_trainer *trainer;
    sti_rundir dir;
    sti_metrics_writer *metrics;
    strata_progress_fn fn;
    void *user;
    sti_schedule schedule;
    int64_t batch, accum, time, limit; /* limit: last step; INT64_MAX: until the time is over */
    int64_t log_every, eval_every, save_every;
    double max_seconds;
    uint64_t seed;
    sti_run_state state;
    int64_t saved;              /* step of the newest checkpoint that holds this very state, else -1 */
    double loss, lr, grad_norm; /* of the last step */
    double read_at;             /* when the trainer's numbers were read last */
    double row_seconds;         /* training time and tokens when the last row was written */
    int64_t row_tokens;
    bool stop; /* the callback asked for it */
} run;

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool due(int64_t step, int64_t every)
{
    return every > 0 && step % every == 0;
}

static bool finished(const run *r)
{
    return r->state.step >= r->limit || (r->max_seconds > 0 && r->state.seconds >= r->max_seconds);
}

/* ---- telling the caller ------------------------------------------------------------------------------------- */
static strata_progress progress(const run *r, int32_t event)
{
    const sti_run_state *s = &r->state;
    double seconds = s->seconds - r->row_seconds;
    return (strata_progress){
        .step = s->step,
        .steps = r->limit == INT64_MAX ? 0 : r->limit,
        .tokens = s->tokens,
        .flops = s->flops,
        .seconds = s->seconds,
        .loss = r->loss,
        .val_loss = NAN,
        .lr = r->lr,
        .grad_norm = r->grad_norm,
        .tokens_per_s = seconds > 0 ? (double)(s->tokens - r->row_tokens) / seconds : (double)NAN,
        .event = event,
    };
}

static void tell(run *r, const strata_progress *p)
{
    if (r->fn && r->fn(r->user, p) != 0) r->stop = true;
}

static int tick(void *user)
{
    run *r = user;
    strata_progress p = progress(r, STRATA_EVENT_TICK);
    tell(r, &p);
    return r->stop;
}

static void note(run *r, int32_t event, const char *what, const char *path)
{
    sti_text t = { 0 };
    sti_text_add(&t, "%s %s", what, path);
    strata_progress p = progress(r, event);
    p.text = t.failed ? what : t.s;
    tell(r, &p);
    sti_text_free(&t);
}

/* ---- checkpoints -------------------------------------------------------------------------------------------- */
static strata_status save(run *r)
{
    STI_TRY(sti_state_save(r->dir.path, r->state.step, r->trainer, r->config, r->task, &r->state));
    r->saved = r->state.step;
    STI_TRY(sti_rundir_prune(&r->dir, sti_config_int(r->config, "train.keep")));
    char *path = sti_checkpoint_path(r->dir.path, r->state.step);
    if (!path) return no_memory();
    note(r, STRATA_EVENT_CHECKPOINT, "checkpoint", path);
    sti_heap_free(path);
    return STRATA_OK;
}

static strata_status save_best(run *r, double loss)
{
    if (!(loss < r->state.best_loss)) return STRATA_OK;
    r->state.best_loss = loss;
    r->state.best_step = r->state.step;
    return sti_state_save(r->dir.path, -1, r->trainer, r->config, r->task, &r->state);
}

/* Micro-batch `index` into the trainer's buffers. */
static void draw(const run *r, int64_t index)
{
    sti_trainer *t = r->trainer;
    if (r->task->inputs)
        r->task->cls->values(r->task, r->seed, index, r->batch, r->time, t->x, t->y);
    else
        r->task->cls->batch(r->task, r->seed, index, r->batch, r->time, t->tokens, t->targets);
}

/* ---- one step ----------------------------------------------------------------------------------------------- */

/* A device runs ahead of the host: its numbers are waited for when a row, an evaluation or a checkpoint needs them, and
 * twice a second for those who watch. */
static bool wants_numbers(const run *r)
{
    const int64_t step = r->state.step;
    return !sti_on_device(r->trainer->ctx) || finished(r) || due(step, r->log_every) || due(step, r->eval_every) ||
           due(step, r->save_every) || now() - r->read_at > 0.5;
}

static strata_status read_numbers(run *r)
{
    sti_run_state *s = &r->state;
    sti_step_sums x;
    const double start = now();
    STI_TRY(sti_trainer_read(r->trainer, &x));
    r->read_at = now();
    s->seconds += r->read_at - start;
    if (x.failed > 0 && !isfinite(x.loss))
        return sti_fail(STRATA_E_NUMERIC, "step %.0f: the loss is %g", x.failed, x.loss);
    if (x.failed > 0) return sti_fail(STRATA_E_NUMERIC, "step %.0f: the gradient norm is %g", x.failed, x.norm);
    r->loss = x.loss;
    r->grad_norm = x.norm;
    s->loss_sum += x.loss_sum;
    s->loss_count += (int64_t)x.steps;
    return STRATA_OK;
}

static strata_status take_step(run *r)
{
    sti_trainer *t = r->trainer;
    sti_run_state *s = &r->state;
    const int64_t step = s->step + 1;
    const double start = now();
    for (int64_t a = 0; a < r->accum; a++) {
        draw(r, s->step * r->accum + a);
        STI_TRY(sti_trainer_grad(t));
        if (a + 1 < r->accum && tick(r)) return sti_fail(STRATA_E_INTERRUPTED, "interrupted");
    }
    r->lr = sti_schedule_rate(&r->schedule, step);
    STI_TRY(sti_trainer_update(t, step, r->lr));

    const int64_t tokens = r->batch * r->accum * r->time;
    s->step = step;
    s->tokens += tokens;
    s->flops += (double)tokens * t->flops_token;
    s->seconds += now() - start;
    s->pending = 1;
    if (!wants_numbers(r)) {
        (void)tick(r);
        return STRATA_OK;
    }
    STI_TRY(read_numbers(r));
    strata_progress p = progress(r, STRATA_EVENT_STEP);
    tell(r, &p);
    return STRATA_OK;
}

/* ---- what follows a step ------------------------------------------------------------------------------------ */
static strata_status write_row(run *r, double val_loss, const strata_measures *m)
{
    sti_run_state *s = &r->state;
    strata_progress row = progress(r, STRATA_EVENT_STEP);
    row.loss = s->loss_count > 0 ? s->loss_sum / (double)s->loss_count : (double)NAN;
    row.val_loss = val_loss;
    sti_text more = { 0 };
    if (m) sti_measures_put(m, &more);
    strata_status st = more.failed ? no_memory() : sti_metrics_append(r->metrics, &row, more.s);
    sti_text_free(&more);
    STI_TRY(st);
    s->loss_sum = 0;
    s->loss_count = 0;
    r->row_seconds = s->seconds;
    r->row_tokens = s->tokens;
    return STRATA_OK;
}

/* Evaluation, row and checkpoint of the step just taken, as far as they are due. */
static strata_status finish_step(run *r)
{
    sti_run_state *s = &r->state;
    const bool last = finished(r), evaluate = last || due(s->step, r->eval_every);
    sti_evaluation e = { .loss = NAN };
    if (evaluate) {
        strata_status st =
            sti_run_evaluate(r->trainer, r->task, sti_config_int(r->config, "train.eval_tokens"), false, tick, r, &e);
        if (st != STRATA_OK) return sti_fail_prefix(st, "step %lld", (long long)s->step);
        strata_progress p = progress(r, STRATA_EVENT_EVAL);
        p.val_loss = e.loss;
        tell(r, &p);
    }
    if (evaluate || due(s->step, r->log_every)) {
        strata_status st = write_row(r, e.loss, e.measures);
        strata_measures_destroy(e.measures);
        STI_TRY(st);
    }
    s->pending = 0;
    if (evaluate) STI_TRY(save_best(r, e.loss));
    if (last || due(s->step, r->save_every)) STI_TRY(save(r));
    return STRATA_OK;
}

/* Stopped by the caller: keep all that was done. */
static strata_status interrupted(run *r)
{
    STI_TRY(read_numbers(r)); /* of steps that a device may still be running */
    if (r->saved != r->state.step) STI_TRY(save(r));
    return sti_fail(STRATA_E_INTERRUPTED, "interrupted after step %lld; train.resume=1 continues",
                    (long long)r->state.step);
}

static strata_status loop(run *r)
{
    for (;;) {
        strata_status st = STRATA_OK;
        if (r->state.pending)
            st = finish_step(r);
        else if (finished(r))
            return STRATA_OK;
        else
            st = take_step(r);
        if (r->stop && (st == STRATA_OK || st == STRATA_E_INTERRUPTED))
            return !r->state.pending && finished(r) ? STRATA_OK : interrupted(r);
        STI_TRY(st);
    }
}

/* ---- setting up --------------------------------------------------------------------------------------------- */
static sti_model_size model_size(const strata_config *c, const sti_task *task)
{
    return (sti_model_size){ .train = 1,
                             .dtype = sti_config_is(c, "train.dtype", "bf16") ? STRATA_BF16 : STRATA_F32,
                             .batch = sti_config_int(c, "train.batch"),
                             .base_width = sti_config_num(c, "train.base_width"),
                             .inputs = task->inputs,
                             .outputs = task->outputs,
                             .context = task->length };
}

strata_status sti_run_check(const strata_context *ctx, const strata_config *c, const sti_task *task, strata_cost *cost)
{
    const sti_model_size size = model_size(c, task);
    sti_model_plan *p = NULL;
    strata_status st = sti_model_plan_create(ctx, strata_config_get(c, "model.spec"), task->vocab, &size, &p);
    if (st == STRATA_OK && cost) sti_model_cost(p, size.batch, p->graph->time, cost);
    sti_model_plan_destroy(p);
    return st;
}

static strata_status plan_run(run *r, const strata_context *ctx)
{
    const strata_config *c = r->config;
    const sti_model_size size = model_size(c, r->task);
    STI_TRY(sti_trainer_create(ctx, strata_config_get(c, "model.spec"), r->task->vocab, &size, true, &r->trainer));
    sti_trainer *t = r->trainer;
    t->rule = (sti_adamw){ sti_config_num(c, "train.beta1"), sti_config_num(c, "train.beta2"),
                           sti_config_num(c, "train.eps"), sti_config_num(c, "train.weight_decay") };
    t->clip = sti_config_num(c, "train.clip");
    r->batch = size.batch;
    r->time = t->plan->graph->time;
    r->accum = sti_config_int(c, "train.accum");
    r->log_every = sti_config_int(c, "train.log_every");
    r->eval_every = sti_config_int(c, "train.eval_every");
    r->save_every = sti_config_int(c, "train.save_every");
    r->max_seconds = sti_config_num(c, "train.seconds");
    r->seed = (uint64_t)sti_config_int(c, "train.seed");

    const int64_t steps = sti_config_int(c, "train.steps");
    const int64_t step_tokens = r->batch * r->accum * r->time, tokens = sti_config_int(c, "train.tokens");
    const double flops = sti_config_num(c, "train.flops");
    r->limit = steps > 0 ? steps : INT64_MAX;
    if (tokens > 0) r->limit = STI_MIN(r->limit, sti_ceil_div(tokens, step_tokens));
    if (flops > 0) {
        double n = ceil(flops / ((double)step_tokens * t->flops_token));
        if (n < (double)r->limit) r->limit = STI_MAX((int64_t)n, 1);
    }
    if (t->plan->graph->params.elements == 0) r->limit = 1; /* there is nothing to train */
    if (r->limit == INT64_MAX && r->max_seconds <= 0)
        return sti_fail(STRATA_E_SPEC,
                        "train.steps=0 needs train.tokens, train.flops or train.seconds, or the run never ends");
    r->schedule = (sti_schedule){ .lr = sti_config_num(c, "train.lr"),
                                  .min_lr = sti_config_num(c, "train.min_lr"),
                                  .warmup = sti_config_int(c, "train.warmup"),
                                  .steps = r->limit,
                                  .cosine = sti_config_is(c, "train.schedule", "cosine") };
    if (r->schedule.cosine && r->limit == INT64_MAX)
        return sti_fail(STRATA_E_SPEC,
                        "train.schedule=cosine needs train.steps, train.tokens or train.flops to end at");
    return STRATA_OK;
}

/* Begin at step 0, or where the newest checkpoint stands. */
static strata_status begin(run *r)
{
    int64_t newest = -1;
    STI_TRY(sti_checkpoint_newest(r->dir.path, &newest));
    if (newest >= 0 && !sti_config_int(r->config, "train.resume"))
        return sti_fail(STRATA_E_INVALID,
                        "%s holds a run at step %lld: continue it with train.resume=1, or choose "
                        "another directory",
                        r->dir.path, (long long)newest);
    if (newest < 0) {
        r->state = (sti_run_state){ .best_loss = HUGE_VAL };
        const char *from = strata_config_get(r->config, "train.init");
        return *from ? sti_state_init(from, r->trainer, r->task) : sti_trainer_init(r->trainer, r->seed);
    }
    STI_TRY(sti_state_load(r->dir.path, newest, r->trainer, r->config, r->task, &r->state));
    r->saved = newest;
    r->row_seconds = r->state.seconds;
    r->row_tokens = r->state.tokens;
    r->lr = sti_schedule_rate(&r->schedule, r->state.step);
    r->loss = r->grad_norm = NAN;
    note(r, STRATA_EVENT_NOTE, "resuming", r->dir.path);
    return STRATA_OK;
}

/* The configuration, and as comments the files that the run is of: what compares runs can tell them apart. */
static void describe(const run *r, sti_text *t)
{
    char *config = sti_config_text(r->config);
    sti_text_add(t, "%s", config ? config : "");
    t->failed = t->failed || !config;
    for (int32_t i = 0; i < r->task->nfile; i++) {
        const sti_task_file *f = &r->task->file[i];
        sti_text_add(t, "# %s %s %llu %s\n", f->validation ? "validation" : "data", f->hash,
                     (unsigned long long)f->bytes, f->path);
    }
    sti_heap_free(config);
}

/* config.conf and metrics.jsonl, the latter without the rows that come again. */
static strata_status open_files(run *r)
{
    char *conf = sti_rundir_file(&r->dir, "config.conf"), *rows = sti_rundir_file(&r->dir, "metrics.jsonl");
    sti_text text = { 0 };
    describe(r, &text);
    strata_status st = conf && rows && !text.failed ? sti_atomic_save(conf, text.s, text.len) : no_memory();
    if (st == STRATA_OK)
        st = sti_metrics_writer_open(rows, r->state.pending ? r->state.step - 1 : r->state.step, &r->metrics);
    sti_text_free(&text);
    sti_heap_free(conf);
    sti_heap_free(rows);
    return st;
}

strata_status sti_run_train(const strata_context *ctx, const strata_config *c, sti_task *task, const char *const *data,
                            int32_t ndata, const char *out_dir, strata_progress_fn fn, void *user)
{
    run r = { .config = c, .task = task, .fn = fn, .user = user, .saved = -1, .dir = { .lock = -1 } };
    strata_status st = plan_run(&r, ctx); /* a wrong spec is told before any file is opened */
    task->steps = r.limit == INT64_MAX ? 0 : r.limit;
    const int64_t length = task->length;
    if (st == STRATA_OK) st = task->cls->load(task, STI_TASK_TRAIN, data, ndata, r.time);
    if (st == STRATA_OK && task->length != length) { /* the data told how long sequences are */
        sti_trainer_destroy(r.trainer);
        r.trainer = NULL;
        st = plan_run(&r, ctx);
    }
    if (st == STRATA_OK) st = sti_rundir_open(out_dir, &r.dir);
    if (st == STRATA_OK) st = begin(&r);
    if (st == STRATA_OK) st = open_files(&r);
    if (st == STRATA_OK) st = loop(&r);
    sti_metrics_writer_close(r.metrics);
    sti_rundir_close(&r.dir);
    sti_trainer_destroy(r.trainer);
    return st;
}
