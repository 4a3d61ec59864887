#include "io/map.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/sys.h"

static const uint8_t nothing[1]; /* mmap refuses empty files */

strata_status sti_map_open(const char *path, sti_map *out)
{
    *out = (sti_map){ 0 };
    strata_status s = STRATA_OK;
    struct stat st;
    /* O_NONBLOCK: opening a FIFO must fail below, not wait for a writer */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return sti_fail_errno(errno, "open", path);
    if (fstat(fd, &st) != 0) {
        s = sti_fail_errno(errno, "examine", path);
    } else if (!S_ISREG(st.st_mode)) {
        s = sti_fail(STRATA_E_IO, "cannot open %s: it is %s", path,
                     S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    } else if (st.st_size == 0) {
        *out = (sti_map){ nothing, 0 };
    } else if ((uintmax_t)st.st_size > SIZE_MAX) {
        s = sti_fail_errno(EFBIG, "map", path);
    } else {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            s = sti_fail_errno(errno, "map", path);
        else
            *out = (sti_map){ p, (size_t)st.st_size };
    }
    close(fd);
    return s;
}

void sti_map_close(sti_map *m)
{
    if (m->bytes > 0) munmap((void *)(uintptr_t)m->data, m->bytes);
    *m = (sti_map){ 0 };
}
