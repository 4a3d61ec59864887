#ifndef STRATA_TRAIN_H
#define STRATA_TRAIN_H
/* Configuration, training and evaluation of a task. */

#include <strata/model.h>

STRATA_BEGIN

/* ---- configuration: flat "section.key = value", every value with its source ---------------------------------------
 */
typedef struct strata_config strata_config;

typedef struct strata_config_item {
    const char *key; /* "train.lr" */
    const char *value;
    const char *source; /* "default", "run.conf:12", "--set" */
    const char *help;
    const char *type; /* "int", "num", "bool", "word", "text", "spec" */
    const char *def;
} strata_config_item;

/** Keys: `model.spec` (the model's spec string), `train.*`, and the task's own ("text.tokenizer", …).
 *  @param task "text"  @return OK | E_SPEC (nearest name) | E_MEMORY */
STRATA_API strata_status strata_config_create(const strata_context *ctx, const char *task, strata_config **out);
STRATA_API void strata_config_destroy(strata_config *c);
/** Set one key; `source` is shown by config --show. @return OK | E_SPEC (unknown key, nearest name; bad value, bounds)
 */
STRATA_API strata_status strata_config_set(strata_config *c, const char *key, const char *value, const char *source);
/** Read a file of "section.key = value" lines ('#' starts a comment). Errors name file and line. @return OK | E_IO |
 * E_SPEC */
STRATA_API strata_status strata_config_load(strata_config *c, const char *path);
STRATA_API int32_t strata_config_count(const strata_config *c);
STRATA_API strata_status strata_config_at(const strata_config *c, int32_t i, strata_config_item *item);
/** Value text of a key (borrowed), NULL if there is no such key. */
STRATA_API const char *strata_config_get(const strata_config *c, const char *key);

/* ---- training ------------------------------------------------------------------------------------------------------
 */
typedef struct strata_progress {
    int64_t step, steps, tokens;
    double flops, seconds; /* since the start of the run, resumed parts included */
    double loss, val_loss; /* nats per token, or squared error per number; NaN when not measured at this step */
    double lr, grad_norm, tokens_per_s;
    int32_t event;    /* STRATA_EVENT_* */
    const char *text; /* borrowed: a line for people ("checkpoint runs/a/step-2000.safetensors"), or NULL */
} strata_progress;
enum {
    STRATA_EVENT_STEP,       /* a step is done; loss is that of this step */
    STRATA_EVENT_EVAL,       /* val_loss is known */
    STRATA_EVENT_CHECKPOINT, /* text names the file */
    STRATA_EVENT_NOTE,       /* text */
    STRATA_EVENT_TICK        /* within a step or an evaluation: nothing new, but the run may be stopped here */
};
/** @return 0 to go on; non-zero: write a checkpoint and stop (strata_train then returns E_INTERRUPTED). */
typedef int (*strata_progress_fn)(void *user, const strata_progress *p);

typedef struct strata_task_info {
    size_t size;         /* STRATA_INIT(strata_task_info) */
    const char *unit;    /* what is scored: "character", "token", "number" */
    int32_t numbers;     /* 1: the loss is a squared error; 0: nats */
    int32_t reads_files; /* 0: the task makes its own data */
    int32_t measures;    /* 1: an evaluation measures more than the loss */
} strata_task_info;
/** @return OK | E_SPEC (no such task; the nearest name) */
STRATA_API strata_status strata_task_describe(const char *task, strata_task_info *info);

/** What strata_train would refuse before it opens the data: the configuration, and the model for its task.
 *  @return OK | E_SPEC | E_UNSUPPORTED | E_MEMORY */
STRATA_API strata_status strata_train_check(const strata_context *ctx, const strata_config *c);

/** What the configured model costs in training: parameters, and FLOPs per token at the length of the task's sequences
 *  (where only the data tell that length: at the length known without them). Opens no data.
 *  @return as strata_train_check */
STRATA_API strata_status strata_train_cost(const strata_context *ctx, const strata_config *c, strata_cost *cost);

/** Train. Continues from the newest checkpoint of out_dir when train.resume=1.
 *  @param data paths of files (NULL, 0: STRATA_DATA or ./data is not searched: E_INVALID where the task reads files)
 *  @param out_dir created; receives config.conf, metrics.jsonl, step-N.safetensors, best.safetensors
 *  @return OK | E_SPEC | E_IO | E_FORMAT (also empty text) | E_NUMERIC (loss not finite) | E_INTERRUPTED | E_MEMORY */
STRATA_API strata_status strata_train(const strata_context *ctx, const strata_config *c, const char *const *data,
                                      int32_t ndata, const char *out_dir, strata_progress_fn fn, void *user);

/* What a task measures beside the loss: numbers (count 1) and curves, such as the error at each position of a sequence.
 */
typedef struct strata_measures strata_measures;
typedef struct strata_measure {
    const char *name, *help;
    int64_t count;
    const double *value; /* NaN: not known. Lives as long as the list */
} strata_measure;
STRATA_API int32_t strata_measures_count(const strata_measures *m); /* NULL: 0 */
STRATA_API strata_status strata_measures_at(const strata_measures *m, int32_t i, strata_measure *out);
STRATA_API void strata_measures_destroy(strata_measures *m); /* accepts NULL */

typedef struct strata_eval_result {
    size_t size;       /* STRATA_INIT(strata_eval_result) */
    double nats, bits; /* per unit; of numbers: nats is the squared error, bits NaN */
    int64_t tokens;    /* scored */
    double seconds;
    const char *unit;          /* what is scored: "character", "token", "number". Static */
    strata_measures *measures; /* [owned by the caller: strata_measures_destroy] NULL: the task has none */
} strata_eval_result;

/** Evaluate a checkpoint or run on data (ndata 0: the run's own validation data): every token of it scored once, in
 * windows of the context. @param best 1: a run's best checkpoint */
STRATA_API strata_status strata_evaluate(const strata_context *ctx, const char *path, int32_t best,
                                         const char *const *data, int32_t ndata, strata_eval_result *out);

/** What predictors without training are expected to reach on the task of a configuration, in closed form, under the
 *  names of the curves that an evaluation measures them by ("ols_theory" of the task regression). Opens no data.
 *  @param out [owned by the caller: strata_measures_destroy] NULL: the task has none  @return OK | E_SPEC | E_MEMORY */
STRATA_API strata_status strata_task_references(const strata_context *ctx, const strata_config *c,
                                                strata_measures **out);

/* ---- metrics of a run ----------------------------------------------------------------------------------------------
 */
typedef struct strata_metrics strata_metrics;
/** Read DIR/metrics.jsonl. A truncated last line (a killed run) is skipped. @return OK | E_IO | E_FORMAT (names the
 * line) */
STRATA_API strata_status strata_metrics_open(const char *dir, strata_metrics **out);
STRATA_API void strata_metrics_close(strata_metrics *m);
STRATA_API int64_t strata_metrics_count(const strata_metrics *m);
/** Row i; fields that the row lacks are NaN (or 0 for integers). */
STRATA_API strata_status strata_metrics_at(const strata_metrics *m, int64_t i, strata_progress *row);
/** What the task measured beside the loss at the last evaluation noted in DIR/metrics.jsonl; help is "".
 *  @param out [owned by the caller: strata_measures_destroy] NULL: nothing was  @return OK | E_IO | E_FORMAT | E_MEMORY
 */
STRATA_API strata_status strata_metrics_measures(const char *dir, strata_measures **out);

STRATA_END
#endif
