#ifndef STI_SYS_H
#define STI_SYS_H
/* System calls with their errors in words. */

#include "core/base.h"

/* E_IO "cannot DO PATH: reason", the reason from `err` (a value of errno). */
strata_status sti_fail_errno(int err, const char *what, const char *path);
/* Write all n bytes, however many calls it takes. 0, or errno; a device that accepts nothing gives ENOSPC. */
int sti_write_all(int fd, const void *data, size_t n);
/* Read up to n bytes, fewer only at the end of the file. 0, or errno. */
int sti_read_full(int fd, void *data, size_t n, size_t *got);

#endif
