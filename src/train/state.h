#ifndef STI_STATE_H
#define STI_STATE_H
/* What a run must remember beside parameters and moments so that it continues with the same bits. The random numbers
 * need no state: they are functions of the seed, the step and the position. */

#include "model/checkpoint.h"
#include "train/task.h"
#include "train/trainer.h"

typedef struct sti_run_state {
    int64_t step, tokens;
    double flops, seconds; /* of training; evaluations and checkpoints are not counted */
    double loss_sum;       /* of the steps since the last row of metrics */
    int64_t loss_count;
    double best_loss; /* smallest validation loss; infinite before the first evaluation */
    int64_t best_step;
    int32_t pending; /* 1: the step's evaluation and row of metrics are still to come */
} sti_run_state;

/* A checkpoint of any parameters. m and v of the copy: both or neither. */
strata_status sti_state_write(const strata_context *ctx, const char *path, const sti_model_plan *p,
                              const sti_trainer_copy *copy, const strata_config *c, const sti_task *task,
                              const sti_run_state *s);
/* step < 0 in `file_step` writes best.safetensors, which has no moments. */
strata_status sti_state_save(const char *dir, int64_t file_step, const sti_trainer *t, const strata_config *c,
                             const sti_task *task, const sti_run_state *s);
/* Fill trainer and state from DIR/step-N. E_SPEC: the model or the task's keys differ; E_FORMAT: corrupt, or the data
 * files changed and train.accept_data is 0. */
strata_status sti_state_load(const char *dir, int64_t file_step, sti_trainer *t, const strata_config *c,
                             const sti_task *task, sti_run_state *s);

/* Fill the trainer's parameters, and nothing else, from a checkpoint or run. E_SPEC: another model or vocabulary. */
strata_status sti_state_init(const char *path, sti_trainer *t, const sti_task *task);

/* The configuration in a checkpoint's metadata. Keys that this version does not know are E_FORMAT. */
strata_status sti_state_config(const sti_json *j, strata_config *c);
/* The data files named there, an array of {path, bytes, hash, validation}. */
strata_status sti_state_files(const sti_json *j, const sti_json_node **out);
bool sti_state_is_validation(const sti_json *j, const sti_json_node *file);
/* Compare them with task->file in order (only_validation: those whose flag is set): E_FORMAT naming the first that
 * differs. */
strata_status sti_state_check_files(const sti_json *j, const sti_task *task, bool only_validation);

#endif
