#ifndef STI_TASK_H
#define STI_TASK_H
/* What a model is trained for: where its batches come from. The trainer knows only this table; tasks live in
 * src/task/NAME and export `sti_task_class_NAME`. */

#include "core/context.h"
#include "io/json.h"
#include "train/config.h"
#include "train/measures.h"

typedef struct sti_task sti_task;

enum { STI_TASK_PIECE = 1024 }; /* bytes of text that one token may stand for */

typedef enum sti_task_use {
    STI_TASK_TRAIN, /* the files hold training and validation data, as the task's keys say */
    STI_TASK_EVAL   /* everything in the files is validation data */
} sti_task_use;

typedef struct sti_task_file { /* what a checkpoint remembers of a data file */
    char *path;                /* absolute. owned */
    uint64_t bytes;            /* decompressed */
    char hash[33];
    int32_t validation; /* 1: all of it is validation data */
} sti_task_file;

/* What a model answered in one window of an evaluation; all borrowed, f32. */
typedef struct sti_task_answer {
    int64_t window, time;
    const int32_t *tokens, *targets; /* (time), of a task of tokens */
    const float *x, *y;              /* (time, inputs), (time, outputs), of a task of numbers */
    const float *out;                /* (time, vocab): logits; or (time, outputs) */
} sti_task_answer;

/* A task has sequences of tokens (batch, eval_window) or of numbers (values, eval_values). */
typedef struct sti_task_class {
    const char *kind, *summary;
    const char *unit; /* what is scored: "character", "token", "number" */
    sti_keys keys;    /* of the section KIND */
    bool no_files;    /* the task makes its own data: load gets no paths */
    /* Set t->vocab, or t->inputs and t->outputs; t->length where every sequence has it; t->data. No file is opened. */
    strata_status (*create)(sti_task *t, const strata_config *c);
    void (*destroy)(sti_task *t); /* frees t->data, also half-made */
    /* Read the files and fill t->file; t->length may become another than it was. `time`: length of the sequences asked
     * for later. E_IO | E_FORMAT (empty, foreign) | E_SHAPE (too short for `time`). */
    strata_status (*load)(sti_task *t, sti_task_use use, const char *const *path, int32_t npath, int64_t time);
    /* Micro-batch `index` of a training run, the same for the same (seed, index): (batch, time) ids and their targets,
     * -1 where nothing is scored. Never allocates. */
    void (*batch)(const sti_task *t, uint64_t seed, int64_t index, int64_t batch, int64_t time, int32_t *tokens,
                  int32_t *targets);
    /* The same for numbers: x (batch, time, inputs), y (batch, time, outputs), NaN where nothing is scored. */
    void (*values)(const sti_task *t, uint64_t seed, int64_t index, int64_t batch, int64_t time, float *x, float *y);
    /* Validation data in windows of `time` (0: none), which together score every scorable token exactly once. */
    int64_t (*eval_windows)(const sti_task *t, int64_t time);
    void (*eval_window)(const sti_task *t, int64_t window, int64_t time, int32_t *tokens, int32_t *targets);
    void (*eval_values)(const sti_task *t, int64_t window, int64_t time, float *x, float *y);
    /* The windows of an evaluation of about `budget` (> 0) tokens: how many (i < 0), else which is number i. For tasks
     * whose models may see the same data in windows of other lengths. NULL: budget / time windows, spread over all. */
    int64_t (*eval_sample)(const sti_task *t, int64_t budget, int64_t i);
    /* Bytes of text that the scored tokens of all windows stand for; 0, or NULL: a token is a byte, or there is none.
     */
    int64_t (*eval_bytes)(const sti_task *t);
    /* Measures of the task's own over an evaluation (NULL, all four: none). score_answer counts one window,
     * score_measure appends what came out; whole: also what needs no model, such as baselines. */
    strata_status (*score_create)(const sti_task *t, int64_t time, void **score);
    void (*score_answer)(const sti_task *t, void *score, const sti_task_answer *a);
    strata_status (*score_measure)(const sti_task *t, const void *score, bool whole, strata_measures *m);
    void (*score_destroy)(void *score); /* accepts NULL */
    /* Append what predictors without training are expected to reach; needs no data. NULL: nothing is known. */
    strata_status (*references)(const sti_task *t, strata_measures *m);
    /* Generation: text to ids (at most `bytes` of them; E_INVALID where the task refuses the text), and back. NULL:
     * the task has no text. */
    strata_status (*encode)(const sti_task *t, const char *text, size_t bytes, int32_t *token, int64_t *n);
    size_t (*decode)(const sti_task *t, int32_t token, char bytes[STI_TASK_PIECE]);
    /* Append a JSON value that checkpoints keep, or nothing; `create` finds it in t->saved when the task is made for
     * one of them. May be NULL */
    void (*save)(const sti_task *t, sti_text *json);
} sti_task_class;

struct sti_task {
    const sti_task_class *cls;
    const char *unit;        /* as in the class, unless create says otherwise. static */
    strata_context *ctx;     /* shared */
    int64_t vocab;           /* of tokens; 0: the task has numbers, so many of them at a position: */
    int64_t inputs, outputs; /* read and given; 0 of tokens */
    int64_t length;          /* positions of every sequence; 0: as many as the model's context */
    int64_t steps;           /* of the training run, set before load; 0: not known */
    bool test; /* set before load: evaluations are of the test data, where the task keeps some apart from validation */
    sti_task_file *file; /* owned */
    int32_t nfile;
    char vocab_hash[33];        /* of the file that says what the tokens mean; "": there is none */
    const sti_json *saved_in;   /* during create, for a checkpoint: its metadata … */
    const sti_json_node *saved; /* … and in it what `save` wrote; NULL: there is nothing. borrowed */
    void *data;                 /* the class's */
};

#endif
