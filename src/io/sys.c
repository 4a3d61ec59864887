#include "io/sys.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

strata_status sti_fail_errno(int err, const char *what, const char *path)
{
    char text[128] = "unknown error";
    if (strerror_r(err, text, sizeof text) != 0 && !text[0]) return sti_fail(STRATA_E_IO, "cannot %s %s", what, path);
    return sti_fail(STRATA_E_IO, "cannot %s %s: %s", what, path, text);
}

/* Linux moves at most 2 GiB a call and some systems refuse more than INT_MAX: stay below both. */
enum { MAX_CALL = 1 << 30 };

int sti_write_all(int fd, const void *data, size_t n)
{
    const char *p = data;
    while (n > 0) {
        ssize_t k = write(fd, p, STI_MIN(n, (size_t)MAX_CALL));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return errno;
        if (k == 0) return ENOSPC;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

int sti_read_full(int fd, void *data, size_t n, size_t *got)
{
    char *p = data;
    *got = 0;
    while (*got < n) {
        ssize_t k = read(fd, p + *got, STI_MIN(n - *got, (size_t)MAX_CALL));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return errno;
        if (k == 0) break;
        *got += (size_t)k;
    }
    return 0;
}
