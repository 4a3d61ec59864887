#ifndef STI_CHECKPOINT_H
#define STI_CHECKPOINT_H
/* Checkpoints: one safetensors file with every parameter under its name (unpadded), the optimiser's moments as
 * adam.m.NAME and adam.v.NAME, and one JSON text in the metadata under "strata":
 *
 *   {"format":1, "model":"decoder layers=…", "vocab":96, "base_width":768, "task":"text", "step":200, "tokens":…,
 *    "moments":true, …}
 *
 * (vocab 0: the model reads numbers, as many as the spec's inputs) followed by whatever the trainer adds (config, data
 * files, progress). A file is written whole or not at all. */

#include <strata/file.h>

#include "io/json.h"
#include "model/model.h"

enum { STI_CHECKPOINT_FORMAT = 1 };

typedef struct sti_checkpoint_head {
    const char *spec; /* canonical */
    const char *task;
    int64_t vocab; /* 0: numbers */
    double base_width;
    int64_t step, tokens;
    const char *more; /* further JSON members, "\"config\":{…},…", or NULL */
} sti_checkpoint_head;

/* m and v: both or neither (then "moments" is false). F32 blocks of the table's layout. @return OK | E_IO | E_MEMORY */
strata_status sti_checkpoint_write(const strata_context *ctx, const char *path, const sti_params *table,
                                   const sti_checkpoint_head *head, const float *params, const float *m,
                                   const float *v);

/* An open checkpoint whose tensors all agree with its spec. */
typedef struct sti_checkpoint {
    strata_file *file;
    sti_json *json;
    sti_model_plan *plan; /* inference plan of the spec */
    const char *meta;     /* the JSON text. borrowed from the file */
    const char *spec, *task;
    int64_t vocab, step, tokens;
    double base_width;
    bool moments;
} sti_checkpoint;

/* E_FORMAT names what disagrees: another format version, a missing, extra or misshapen tensor, a bad spec. */
strata_status sti_checkpoint_open(const strata_context *ctx, const char *path, sti_checkpoint **out);
void sti_checkpoint_close(sti_checkpoint *c);
/* Copy one kind of tensor ("" the parameters, "adam.m." or "adam.v.") into a padded block; padding becomes 0. */
strata_status sti_checkpoint_read(const sti_checkpoint *c, const char *prefix, float *block);

/* The newest step-N.safetensors of a directory: *step, or -1 when it holds none. @return OK | E_IO */
strata_status sti_checkpoint_newest(const char *dir, int64_t *step);
/* N of "step-N.safetensors"; -1 for every other name. */
int64_t sti_checkpoint_step_of(const char *name);
/* "DIR/step-N.safetensors", or "DIR/best.safetensors" for step < 0: heap string, NULL without memory. */
char *sti_checkpoint_path(const char *dir, int64_t step);

#endif
