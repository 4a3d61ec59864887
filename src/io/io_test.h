#ifndef IO_TEST_H
#define IO_TEST_H
/* Files for tests: a private directory under TMPDIR, removed again by test_rmdir. */

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/test.h"

static char test_dir[256];

static inline const char *test_path(const char *name)
{
    static char path[4][512];
    static int turn;
    if (!test_dir[0]) {
        const char *tmp = getenv("TMPDIR");
        for (int i = 0; i < 1000 && !test_dir[0]; i++) {
            snprintf(test_dir, sizeof test_dir, "%s/strata-test-%ld-%d", tmp ? tmp : "/tmp", (long)getpid(), i);
            if (mkdir(test_dir, 0700) != 0) test_dir[0] = '\0';
        }
        if (!test_dir[0]) FAIL("cannot make a directory for test files");
    }
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", test_dir, name);
    return path[turn];
}

/* Files in the directory; with `clear` they are removed. */
static inline int test_files(int clear)
{
    int n = 0;
    DIR *d = opendir(test_path("."));
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        n++;
        if (clear) unlink(test_path(e->d_name));
    }
    if (d) closedir(d);
    return n;
}

static inline void test_rmdir(void)
{
    test_files(1);
    if (test_dir[0]) rmdir(test_dir);
    test_dir[0] = '\0';
}

static inline void test_put(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f) FAIL("cannot write %s", path);
    size_t k = n ? fwrite(data, 1, n, f) : 0;
    fclose(f);
    CHECK_INT(k, n);
}

/* The file's bytes and a NUL, from malloc. */
static inline char *test_get(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) FAIL("cannot read %s", path);
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    char *data = calloc(1, (size_t)size + 1);
    size_t k = data ? fread(data, 1, (size_t)size, f) : 0;
    fclose(f);
    CHECK_INT(k, size);
    if (n) *n = k;
    return data;
}

#endif
