#ifndef STI_METRICS_H
#define STI_METRICS_H
/* metrics.jsonl: one JSON object a line, in the order of steps. Reading is strata_metrics_* of strata/train.h. */

#include <strata/train.h>

#include "core/base.h"

typedef struct sti_metrics_writer sti_metrics_writer;

/* Open for appending; rows of steps after `last` (all rows: -1), and a line cut off by a killed run, are removed first
 * by replacing the file. E_IO, E_FORMAT when what is there is no metrics file, E_MEMORY. */
strata_status sti_metrics_writer_open(const char *path, int64_t last, sti_metrics_writer **out);
/* Append a row with one write(2), so that readers never see half of one. NaN fields are left out; `more`: further JSON
 * members, or NULL. On failure the file is as before. */
strata_status sti_metrics_append(sti_metrics_writer *w, const strata_progress *row, const char *more);
void sti_metrics_writer_close(sti_metrics_writer *w); /* accepts NULL */

/* Is it one of the members of strata_progress, and no measure of a task? */
bool sti_metrics_is_field(const char *name);

/* Rows of a text; errors name the line, not the file. */
strata_status sti_metrics_parse(const char *text, size_t bytes, strata_metrics **out);

#endif
