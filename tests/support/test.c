#include "support/test.h"

#include <stdarg.h>

static jmp_buf back;
static char message[2048];

_Noreturn void test_failed(const char *file, int line, const char *fmt, ...)
{
    int n = snprintf(message, sizeof message, "%s:%d: ", file, line);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message + n, sizeof message - (size_t)n, fmt, ap);
    va_end(ap);
    longjmp(back, 1);
}

_Noreturn void test_skipped(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    const char *require = getenv("STRATA_REQUIRE");
    longjmp(back, require && *require && strstr(message, require) ? 1 : 2);
}

int test_fast(void)
{
    const char *fast = getenv("STRATA_FAST");
    return fast && *fast && *fast != '0';
}

/* `program -v [name …]`: print every test; names select by substring. */
int test_main(int argc, char **argv, const test_case *cases, int n)
{
    volatile int passed = 0, failed = 0, skipped = 0;
    int verbose = argc > 1 && strcmp(argv[1], "-v") == 0, first = 1 + verbose;
    for (volatile int i = 0; i < n; i++) {
        int wanted = argc <= first;
        for (int a = first; a < argc; a++) wanted |= strstr(cases[i].name, argv[a]) != NULL;
        if (!wanted) continue;
        int how = setjmp(back);
        if (how == 0) {
            cases[i].fn();
            passed++;
            if (verbose) printf("ok    %s\n", cases[i].name);
        } else if (how == 1) {
            failed++;
            printf("FAIL  %s: %s\n", cases[i].name, message);
        } else {
            skipped++;
            printf("skip  %s: %s\n", cases[i].name, message);
        }
        fflush(stdout);
    }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed ? 1 : 0;
}
