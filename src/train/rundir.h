#ifndef STI_RUNDIR_H
#define STI_RUNDIR_H
/* The directory of a run: made when missing, held by one trainer at a time. */

#include "core/base.h"

typedef struct sti_rundir {
    char *path; /* owned */
    int lock;   /* descriptor that holds the lock, -1: none */
} sti_rundir;

/* E_IO: cannot be made or written, or another trainer holds it. */
strata_status sti_rundir_open(const char *path, sti_rundir *d);
void sti_rundir_close(sti_rundir *d);
/* "DIR/name": heap string, NULL without memory. */
char *sti_rundir_file(const sti_rundir *d, const char *name);
/* Remove all but the newest `keep` of step-N.safetensors. */
strata_status sti_rundir_prune(const sti_rundir *d, int64_t keep);

#endif
