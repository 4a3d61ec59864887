#ifndef TRAINING_H
#define TRAINING_H
/* Runs for tests: a private directory, small texts, small configurations. */

#include <dirent.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include <strata/model.h>
#include <strata/train.h>

#include "support/test.h"

#define TINY "decoder layers=1 width=16 context=16 mixers=softmax(heads=2 score=mlr levels=2) mlp=mlp(ratio=2)"

static char test_dir[256];

/* A path in the test's directory, which is made at the first call. Results live for 128 calls. */
static inline const char *test_path(const char *name)
{
    static char path[128][512];
    static int turn;
    if (!test_dir[0]) {
        const char *tmp = getenv("TMPDIR");
        for (int i = 0; i < 1000 && !test_dir[0]; i++) {
            snprintf(test_dir, sizeof test_dir, "%s/strata-run-%ld-%d", tmp ? tmp : "/tmp", (long)getpid(), i);
            if (mkdir(test_dir, 0700) != 0) test_dir[0] = '\0';
        }
        if (!test_dir[0]) FAIL("cannot make a directory for test files");
    }
    turn = (turn + 1) % 128;
    snprintf(path[turn], sizeof path[turn], "%s/%s", test_dir, name);
    return path[turn];
}

static inline void test_remove(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char inner[1024];
        snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
        test_remove(inner);
    }
    if (d) closedir(d);
    if (remove(path) != 0 && d) FAIL("cannot remove %s", path);
}

static inline void test_clean(void)
{
    if (test_dir[0]) test_remove(test_dir);
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

static inline bool test_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* Both files hold the same bytes. */
static inline bool test_same(const char *a, const char *b)
{
    size_t na = 0, nb = 0;
    char *x = test_get(a, &na), *y = test_get(b, &nb);
    bool same = na == nb && memcmp(x, y, na) == 0;
    free(x);
    free(y);
    return same;
}

/* A text of n characters in which each word decides the next: far more predictable than its letters' frequencies. */
static inline const char *test_text(const char *name, size_t n)
{
    static const char line[] = "the quick brown fox jumps over the lazy dog, and then it sleeps; ";
    const char *path = test_path(name);
    char *s = malloc(n);
    for (size_t i = 0; s && i < n; i++) s[i] = line[i % (sizeof line - 1)];
    test_put(path, s, n);
    free(s);
    return path;
}

static inline strata_context *test_context(void)
{
    strata_context *ctx = NULL;
    CHECK_OK(strata_context_create("threads=1", NULL, &ctx));
    return ctx;
}

/* A configuration from "key=value" lines over the tiny model. */
static inline strata_config *test_config(const strata_context *ctx, const char *const *pair)
{
    strata_config *c = NULL;
    CHECK_OK(strata_config_create(ctx, "text", &c));
    CHECK_OK(strata_config_set(c, "model.spec", TINY, "test"));
    CHECK_OK(strata_config_set(c, "train.batch", "4", "test"));
    CHECK_OK(strata_config_set(c, "train.warmup", "5", "test"));
    for (; pair && *pair; pair += 2) CHECK_OK(strata_config_set(c, pair[0], pair[1], "test"));
    return c;
}

#define PAIRS(...)                                                                                                     \
    (const char *const[])                                                                                              \
    {                                                                                                                  \
        __VA_ARGS__, NULL                                                                                              \
    }

#endif
