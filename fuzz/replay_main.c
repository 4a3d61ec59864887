/* Runs every file named on the command line, or lying in a directory named there, through a fuzz target once: the
 * regression form of the fuzz tests, for builds without libFuzzer. A crash is the failure. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int passed, failed;

static void replay(const char *path)
{
    uint8_t *data = NULL;
    long size = -1;
    FILE *f = fopen(path, "rb");
    if (f && fseek(f, 0, SEEK_END) == 0 && (size = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0) {
        data = malloc((size_t)size + !size); /* exactly as long as the input: a read past the end is seen */
        if (data && fread(data, 1, (size_t)size, f) == (size_t)size) {
            printf("%s\n", path); /* before the run: the last name printed is the one that crashed */
            fflush(stdout);
            LLVMFuzzerTestOneInput(data, (size_t)size);
            passed++;
            goto out;
        }
    }
    printf("FAIL  cannot read %s\n", path);
    failed++;
out:
    free(data);
    if (f) fclose(f);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) != 0 || !S_ISDIR(st.st_mode)) {
            replay(argv[i]);
            continue;
        }
        DIR *dir = opendir(argv[i]);
        for (struct dirent *e; dir && (e = readdir(dir));) {
            char path[4096];
            if (e->d_name[0] != '.' && snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name) < (int)sizeof path)
                replay(path);
        }
        if (dir) closedir(dir);
    }
    if (passed + failed == 0) {
        printf("FAIL  no corpus\n");
        failed++;
    }
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed ? 1 : 0;
}
