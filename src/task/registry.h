#ifndef STI_TASK_REGISTRY_H
#define STI_TASK_REGISTRY_H
/* The tasks that are registered. */

#include "io/json.h"
#include "io/text.h"
#include "model/model.h"
#include "train/task.h"

int32_t sti_task_class_count(void);
const sti_task_class *sti_task_class_at(int32_t i);
/* E_SPEC names the nearest one. */
strata_status sti_task_class_find(const char *kind, const sti_task_class **out);

/* The task of a configuration, without data. */
strata_status sti_task_create(const strata_context *ctx, const strata_config *c, sti_task *t);
void sti_task_destroy(sti_task *t); /* also of a zeroed one */

/* For load: append a data file that was read (of so many decompressed bytes) to t->file. */
strata_status sti_task_remember(sti_task *t, const char *path, uint64_t bytes, sti_hash hash, int32_t validation);

/* The task that a checkpoint was trained for, with the metadata and configuration it holds (all three the caller's). */
strata_status sti_task_of_model(const strata_model *m, sti_json **json, strata_config **config, sti_task *t);

#endif
