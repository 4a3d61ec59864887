/* The directory of a run. */

#include "train/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/context.h"
#include "io/atomic.h"
#include "io/sys.h"
#include "model/checkpoint.h"

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

/* mkdir -p */
static strata_status make_directory(const char *path)
{
    char *p = sti_strdup(path);
    if (!p) return no_memory();
    strata_status st = STRATA_OK;
    for (char *s = p + 1; s[-1] != '\0' && st == STRATA_OK; s++) {
        if (*s != '/' && *s != '\0') continue;
        char c = *s;
        *s = '\0';
        if (mkdir(p, 0777) != 0 && errno != EEXIST) st = sti_fail_errno(errno, "make directory", p);
        *s = c;
        if (c == '\0') break;
    }
    sti_heap_free(p);
    return st;
}

char *sti_rundir_file(const sti_rundir *d, const char *name)
{
    sti_text t = { 0 };
    sti_text_add(&t, "%s/%s", d->path, name);
    if (!t.failed) return t.s;
    sti_text_free(&t);
    return NULL;
}

static strata_status take_lock(sti_rundir *d)
{
    char *name = sti_rundir_file(d, ".lock");
    if (!name) return no_memory();
    strata_status st = STRATA_OK;
    d->lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (d->lock < 0)
        st = sti_fail_errno(errno, "create", name);
    else if (flock(d->lock, LOCK_EX | LOCK_NB) != 0)
        st = errno == EWOULDBLOCK ? sti_fail(STRATA_E_IO, "another training run is writing to %s", d->path)
                                  : sti_fail_errno(errno, "lock", name);
    sti_heap_free(name);
    return st;
}

/* A run that was killed while it wrote leaves temporary files; under the lock nobody else can be writing one. */
static strata_status sweep(const sti_rundir *d)
{
    strata_status st = STRATA_OK;
    DIR *dir = opendir(d->path);
    if (!dir) return sti_fail_errno(errno, "read", d->path);
    for (struct dirent *e = readdir(dir); e && st == STRATA_OK; e = readdir(dir)) {
        if (!sti_atomic_is_temp(e->d_name)) continue;
        char *name = sti_rundir_file(d, e->d_name);
        if (!name)
            st = no_memory();
        else if (unlink(name) != 0 && errno != ENOENT)
            st = sti_fail_errno(errno, "remove", name);
        sti_heap_free(name);
    }
    (void)closedir(dir);
    return st;
}

strata_status sti_rundir_open(const char *path, sti_rundir *d)
{
    *d = (sti_rundir){ .lock = -1 };
    if (!*path) return sti_fail(STRATA_E_INVALID, "the output directory has no name");
    STI_TRY(make_directory(path));
    d->path = sti_strdup(path);
    strata_status st = d->path ? take_lock(d) : no_memory();
    if (st == STRATA_OK) st = sweep(d);
    if (st != STRATA_OK) sti_rundir_close(d);
    return st;
}

void sti_rundir_close(sti_rundir *d)
{
    if (d->lock >= 0) (void)close(d->lock); /* and with it the lock; the empty file stays */
    sti_heap_free(d->path);
    *d = (sti_rundir){ .lock = -1 };
}

/* The oldest checkpoint, when there are more than `keep`; else -1. */
static strata_status surplus(const sti_rundir *d, int64_t keep, int64_t *oldest)
{
    int64_t n = 0;
    DIR *dir = opendir(d->path);
    if (!dir) return sti_fail_errno(errno, "read", d->path);
    *oldest = -1;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        int64_t step = sti_checkpoint_step_of(e->d_name);
        if (step < 0) continue;
        if (*oldest < 0 || step < *oldest) *oldest = step;
        n++;
    }
    (void)closedir(dir);
    if (n <= keep) *oldest = -1;
    return STRATA_OK;
}

strata_status sti_rundir_prune(const sti_rundir *d, int64_t keep)
{
    for (;;) {
        int64_t step = -1;
        STI_TRY(surplus(d, keep, &step));
        if (step < 0) return STRATA_OK;
        char *name = sti_checkpoint_path(d->path, step);
        if (!name) return no_memory();
        strata_status st = unlink(name) == 0 || errno == ENOENT ? STRATA_OK : sti_fail_errno(errno, "remove", name);
        sti_heap_free(name);
        STI_TRY(st);
    }
}
