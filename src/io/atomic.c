#define _XOPEN_SOURCE 700 /* realpath */
#include "io/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/context.h"
#include "io/sys.h"

enum { BUFFER = 1 << 18, TRIES = 64 };

struct sti_atomic {
    char *path;   /* as given, for messages */
    char *target; /* links resolved */
    char *dir;
    char *temp; /* NULL: written in place */
    int fd;
    strata_status status;
    uint64_t bytes;
    size_t used;
    uint8_t buffer[BUFFER];
};

static void release(sti_atomic *f)
{
    if (!f) return;
    if (f->fd >= 0) close(f->fd);
    if (f->temp) unlink(f->temp);
    sti_heap_free(f->temp);
    sti_heap_free(f->dir);
    sti_heap_free(f->target);
    sti_heap_free(f->path);
    sti_heap_free(f);
}

/* Where the link at the end of `path` leads (the file itself need not exist); heap string, NULL without memory. */
static char *resolve(const char *path)
{
    char real[PATH_MAX];
    return sti_strdup(realpath(path, real) ? real : path);
}

static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return sti_strdup(".");
    if (slash == path) return sti_strdup("/");
    char *d = sti_strdup(path);
    if (d) d[slash - path] = '\0';
    return d;
}

/* A new file in f->dir. Exclusive creation makes the name safe, the counter and clock make it quick to find; the mode
 * is the one any new file gets (mkstemp's 0600 would hide results from the group). */
static strata_status create_temp(sti_atomic *f)
{
    static atomic_uint counter;
    size_t n = strlen(f->dir) + 64;
    f->temp = sti_heap(n);
    if (!f->temp) return sti_fail(STRATA_E_MEMORY, "out of memory writing %s", f->path);
    for (int i = 0; i < TRIES; i++) {
        struct timespec now = { 0 };
        clock_gettime(CLOCK_REALTIME, &now);
        snprintf(f->temp, n, "%s/.strata-%lx-%lx-%x.tmp", f->dir, (unsigned long)getpid(), (unsigned long)now.tv_nsec,
                 atomic_fetch_add(&counter, 1u));
        f->fd = open(f->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (f->fd >= 0) return STRATA_OK;
        if (errno != EEXIST) break;
    }
    int err = errno;
    sti_heap_free(f->temp);
    f->temp = NULL; /* not ours: nothing to unlink */
    return sti_fail_errno(err, "create", f->path);
}

strata_status sti_atomic_begin(const char *path, sti_atomic **out)
{
    *out = NULL;
    if (!path || !*path) return sti_fail(STRATA_E_INVALID, "no output path given");
    strata_status s = STRATA_OK;
    struct stat st;
    sti_atomic *f = sti_heap(sizeof *f);
    if (!f) goto memory;
    f->fd = -1;
    f->path = sti_strdup(path);
    f->target = resolve(path);
    f->dir = f->target ? directory_of(f->target) : NULL;
    if (!f->path || !f->dir) goto memory;
    bool exists = stat(f->target, &st) == 0;
    if (exists && S_ISDIR(st.st_mode)) {
        s = sti_fail_errno(EISDIR, "write", path);
    } else if (exists && !S_ISREG(st.st_mode)) {
        f->fd = open(f->target, O_WRONLY | O_CLOEXEC);
        if (f->fd < 0) s = sti_fail_errno(errno, "open", path);
    } else {
        s = create_temp(f);
        if (s == STRATA_OK && exists && fchmod(f->fd, st.st_mode & 0777) != 0)
            s = sti_fail_errno(errno, "set the mode of", path);
    }
    if (s != STRATA_OK) {
        release(f);
        return s;
    }
    *out = f;
    return STRATA_OK;
memory:
    release(f);
    return sti_fail(STRATA_E_MEMORY, "out of memory writing %s", path);
}

static void put(sti_atomic *f, const void *data, size_t n)
{
    int err = f->status == STRATA_OK ? sti_write_all(f->fd, data, n) : 0;
    if (err) f->status = sti_fail_errno(err, "write", f->path);
}

strata_status sti_atomic_write(sti_atomic *f, const void *data, size_t n)
{
    if (n > BUFFER - f->used) {
        put(f, f->buffer, f->used);
        f->used = 0;
    }
    if (n >= BUFFER) {
        put(f, data, n);
    } else if (n > 0) {
        memcpy(f->buffer + f->used, data, n);
        f->used += n;
    }
    f->bytes += n;
    return f->status;
}

uint64_t sti_atomic_size(const sti_atomic *f)
{
    return f->bytes;
}

/* Without this the rename itself may be lost in a power cut. Filesystems that cannot sync a directory say EINVAL. */
static int sync_directory(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno == EACCES ? 0 : errno; /* a directory may be writable but not readable */
    int err = fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
    close(fd);
    return err;
}

strata_status sti_atomic_commit(sti_atomic *f)
{
    put(f, f->buffer, f->used);
    strata_status s = f->status;
    if (s == STRATA_OK && f->temp && fsync(f->fd) != 0) s = sti_fail_errno(errno, "write", f->path);
    /* network filesystems report a full disk only here */
    int closed = close(f->fd);
    f->fd = -1;
    if (s == STRATA_OK && closed != 0 && errno != EINTR) s = sti_fail_errno(errno, "write", f->path);
    if (s == STRATA_OK && f->temp) {
        if (rename(f->temp, f->target) != 0) {
            s = sti_fail_errno(errno, "replace", f->path);
        } else {
            sti_heap_free(f->temp);
            f->temp = NULL;
            int err = sync_directory(f->dir);
            if (err) s = sti_fail_errno(err, "flush the directory of", f->path);
        }
    }
    release(f);
    return s;
}

void sti_atomic_abort(sti_atomic *f)
{
    release(f);
}

strata_status sti_atomic_save(const char *path, const void *data, size_t n)
{
    sti_atomic *f = NULL;
    STI_TRY(sti_atomic_begin(path, &f));
    sti_atomic_write(f, data, n);
    return sti_atomic_commit(f);
}

bool sti_atomic_is_temp(const char *name)
{
    static const char head[] = ".strata-", tail[] = ".tmp";
    size_t n = strlen(name), t = sizeof tail - 1;
    return n > sizeof head - 1 + t && strncmp(name, head, sizeof head - 1) == 0 && strcmp(name + n - t, tail) == 0;
}
