#ifndef STRATA_FILE_H
#define STRATA_FILE_H
/* Named tensors in safetensors files. Sizes from a file are checked before they are used. */

#include <strata/context.h>
#include <strata/tensor.h>

STRATA_BEGIN

typedef struct strata_file strata_file;

/** Open a file for reading (memory-mapped). @return OK | E_IO | E_FORMAT | E_MEMORY */
STRATA_API strata_status strata_file_open(const strata_context *ctx, const char *path, strata_file **out);
STRATA_API void strata_file_close(strata_file *f); /* accepts NULL */
STRATA_API int32_t strata_file_count(const strata_file *f);
/** Tensor i in file order: a read-only view of the mapping (borrowed: valid until close). */
STRATA_API strata_status strata_file_at(const strata_file *f, int32_t i, const char **name, strata_tensor *t);
/** Tensor by name. @return OK | E_NOTFOUND */
STRATA_API strata_status strata_file_get(const strata_file *f, const char *name, strata_tensor *t);
/** Metadata string, or NULL. */
STRATA_API const char *strata_file_meta(const strata_file *f, const char *key);

typedef struct strata_file_entry {
    const char *name;
    strata_tensor tensor;
} strata_file_entry;
typedef struct strata_file_pair {
    const char *key, *value;
} strata_file_pair;

/** Write a file: to a temporary name in the same directory, flushed to disk, renamed. Nothing is left behind on
 * failure.
 *  @return OK | E_IO (with the reason) | E_INVALID | E_MEMORY */
STRATA_API strata_status strata_file_write(const strata_context *ctx, const char *path, const strata_file_entry *entry,
                                           int32_t count, const strata_file_pair *meta, int32_t nmeta);

STRATA_END
#endif
