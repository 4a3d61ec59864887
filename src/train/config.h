#ifndef STI_CONFIG_H
#define STI_CONFIG_H
/* Configuration: one flat list of "section.key = value" for the model, the training and the task, every value with
 * where it came from. Values stay text; they are checked when they are set, so the getters cannot fail. */

#include <strata/train.h>

#include "core/spec.h"

extern const sti_keys sti_train_keys; /* section "train" */

strata_status sti_config_create(const char *task, sti_keys task_keys, strata_config **out);
const char *sti_config_task(const strata_config *c);
/* Read "section.key = value" lines; `name` stands in messages and as the source, "run.conf:12". Nothing changes on
 * failure. @return OK | E_SPEC | E_MEMORY */
strata_status sti_config_parse(strata_config *c, const char *text, size_t bytes, const char *name);
/* Typed values; the key must exist (STI_ASSERT). */
int64_t sti_config_int(const strata_config *c, const char *key); /* INT and BOOL */
double sti_config_num(const strata_config *c, const char *key);
bool sti_config_is(const strata_config *c, const char *key, const char *word);
/* The whole configuration as a file that sti_config_parse reads back; heap string, NULL without memory. */
char *sti_config_text(const strata_config *c);

#endif
