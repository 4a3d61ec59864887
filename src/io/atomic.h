#ifndef STI_ATOMIC_H
#define STI_ATOMIC_H
/* Whole files, or nothing: bytes go to a temporary file in the target's directory, which commit flushes to disk and
 * renames over the target. Until then the old file stands; on failure or abort the temporary is removed.
 *
 *   sti_atomic *f = NULL;
 *   STI_TRY(sti_atomic_begin(path, &f));
 *   sti_atomic_write(f, data, n);            // errors stick: commit reports the first
 *   return sti_atomic_commit(f);
 *
 * Symbolic links are followed, the mode of an existing file is kept, and a target that is a device or FIFO
 * (/dev/stdout, /dev/null) is written directly: renaming over it would destroy it. */

#include "core/base.h"

typedef struct sti_atomic sti_atomic;

/* E_IO when the directory does not accept a file or the target is a directory; E_MEMORY. */
strata_status sti_atomic_begin(const char *path, sti_atomic **out);
/* Append. After a failure every later call returns the same status. */
strata_status sti_atomic_write(sti_atomic *f, const void *data, size_t n);
/* Bytes written so far. */
uint64_t sti_atomic_size(const sti_atomic *f);
/* Make the file appear; frees f whatever happens. */
strata_status sti_atomic_commit(sti_atomic *f);
/* Leave everything as it was; frees f, accepts NULL. Keeps the error text. */
void sti_atomic_abort(sti_atomic *f);

/* Is this the name (without directory) of a temporary file? A killed process leaves its own behind. */
bool sti_atomic_is_temp(const char *name);

/* begin, write, commit in one. */
strata_status sti_atomic_save(const char *path, const void *data, size_t n);

#endif
