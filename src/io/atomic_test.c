#include "io/atomic.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

#include "io/io_test.h"
#include "io/map.h"

static void check_content(const char *path, const char *want)
{
    char *got = test_get(path, NULL);
    CHECK_STR(got, want);
    free(got);
}

static void replaces(void)
{
    const char *path = test_path("a");
    CHECK_OK(sti_atomic_save(path, "one", 3));
    check_content(path, "one");
    struct stat st;
    mode_t mask = umask(0);
    umask(mask);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == (0666 & ~mask));
    CHECK(chmod(path, 0640) == 0);

    sti_atomic *f = NULL;
    CHECK_OK(sti_atomic_begin(path, &f));
    for (int i = 0; i < 100000; i++) CHECK_OK(sti_atomic_write(f, "0123456789", 10));
    CHECK_INT(sti_atomic_size(f), 1000000);
    check_content(path, "one"); /* until commit the old file stands */
    CHECK_INT(test_files(0), 2);
    CHECK_OK(sti_atomic_commit(f));
    size_t n;
    char *got = test_get(path, &n);
    CHECK_INT(n, 1000000);
    for (size_t i = 0; i < n; i++) CHECK(got[i] == (char)('0' + i % 10));
    free(got);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0640);
    CHECK_INT(test_files(0), 1);
    test_rmdir();
}

static void aborts(void)
{
    const char *path = test_path("a");
    sti_atomic *f = NULL;
    CHECK_OK(sti_atomic_save(path, "one", 3));
    CHECK_OK(sti_atomic_begin(path, &f));
    CHECK_OK(sti_atomic_write(f, "two", 3));
    sti_atomic_abort(f);
    sti_atomic_abort(NULL);
    check_content(path, "one");
    CHECK_INT(test_files(0), 1);
    test_rmdir();
}

static void follows_links(void)
{
    const char *path = test_path("a"), *link = test_path("b");
    struct stat st;
    CHECK_OK(sti_atomic_save(path, "one", 3));
    CHECK(symlink("a", link) == 0);
    CHECK_OK(sti_atomic_save(link, "two", 3));
    check_content(path, "two");
    CHECK(lstat(link, &st) == 0 && S_ISLNK(st.st_mode));
    test_rmdir();
}

static void relative_path(void)
{
    char old[512];
    test_path("a");
    CHECK(getcwd(old, sizeof old) && chdir(test_dir) == 0);
    strata_status s = sti_atomic_save("plain", "x", 1);
    CHECK(chdir(old) == 0);
    CHECK_OK(s);
    check_content(test_path("plain"), "x");
    test_rmdir();
}

static void refuses(void)
{
    sti_atomic *f = NULL;
    CHECK_STATUS(sti_atomic_begin(test_path("none/a"), &f), STRATA_E_IO);
    CHECK_ERROR_TEXT("none/a: No such file or directory");
    CHECK(!f);
    CHECK_STATUS(sti_atomic_begin(test_path("."), &f), STRATA_E_IO);
    CHECK_ERROR_TEXT("directory");
    CHECK_STATUS(sti_atomic_begin("", &f), STRATA_E_INVALID);
    CHECK_STATUS(sti_atomic_begin(NULL, &f), STRATA_E_INVALID);
    CHECK_INT(test_files(0), 0);
    test_rmdir();
}

static void no_permission(void)
{
    if (geteuid() == 0) SKIP("root may write anywhere");
    sti_atomic *f = NULL;
    CHECK(test_path("a") && chmod(test_dir, 0500) == 0);
    strata_status s = sti_atomic_begin(test_path("a"), &f);
    CHECK(chmod(test_dir, 0700) == 0);
    CHECK_STATUS(s, STRATA_E_IO);
    CHECK_ERROR_TEXT("Permission denied");
    test_rmdir();
}

/* A limit on file size fails write(2) in the middle, as a full disk does. */
static void cut_short(void)
{
    const char *path = test_path("a");
    static char big[1 << 20];
    struct rlimit old, small;
    CHECK_OK(sti_atomic_save(path, "one", 3));
    CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
    small = old;
    small.rlim_cur = 300000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    strata_status s = sti_atomic_save(path, big, sizeof big);
    strata_status t = STRATA_OK; /* the same in small pieces: the error sticks */
    sti_atomic *f = NULL;
    if (sti_atomic_begin(path, &f) == STRATA_OK) {
        for (int i = 0; i < 1000; i++) t = sti_atomic_write(f, big, 1000);
        if (t == sti_atomic_write(f, big, 0)) t = sti_atomic_commit(f);
    }
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    CHECK_STATUS(s, STRATA_E_IO);
    CHECK_STATUS(t, STRATA_E_IO);
    CHECK_ERROR_TEXT("a: File too large");
    check_content(path, "one");
    CHECK_INT(test_files(0), 1);
    test_rmdir();
}

static void devices(void)
{
    struct stat st;
    if (stat("/dev/full", &st) != 0 || !S_ISCHR(st.st_mode)) SKIP("no /dev/full");
    CHECK_STATUS(sti_atomic_save("/dev/full", "x", 1), STRATA_E_IO);
    CHECK_ERROR_TEXT("/dev/full: No space left on device");
    CHECK_OK(sti_atomic_save("/dev/null", "x", 1));
    CHECK(stat("/dev/full", &st) == 0 && S_ISCHR(st.st_mode));
    CHECK(stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode));
}

static void maps(void)
{
    const char *path = test_path("a");
    sti_map m;
    CHECK_OK(sti_atomic_save(path, "one", 3));
    CHECK_OK(sti_map_open(path, &m));
    CHECK(m.bytes == 3 && memcmp(m.data, "one", 3) == 0);
    CHECK_OK(sti_atomic_save(path, "two!", 4)); /* the mapping keeps the old file */
    CHECK(memcmp(m.data, "one", 3) == 0);
    sti_map_close(&m);
    sti_map_close(&m);
    CHECK_OK(sti_atomic_save(path, NULL, 0));
    CHECK_OK(sti_map_open(path, &m));
    CHECK(m.bytes == 0 && m.data);
    sti_map_close(&m);
    CHECK_STATUS(sti_map_open(test_path("none"), &m), STRATA_E_IO);
    CHECK_ERROR_TEXT("none: No such file or directory");
    CHECK_STATUS(sti_map_open(test_path("."), &m), STRATA_E_IO);
    CHECK_ERROR_TEXT("a directory");
    CHECK_STATUS(sti_map_open("/dev/null", &m), STRATA_E_IO);
    test_rmdir();
}

TESTS(T(replaces), T(aborts), T(follows_links), T(relative_path), T(refuses), T(no_permission), T(cut_short),
      T(devices), T(maps))
