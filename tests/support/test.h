#ifndef TEST_H
#define TEST_H
/* A test program is a table of functions; its exit status is its verdict. Last line: "N passed, N failed, N skipped".
 *
 *   static void adds(void) { CHECK(1 + 1 == 2); CHECK_STATUS(strata_op_create(...), STRATA_E_SPEC); }
 *   TESTS(T(adds), T(subtracts))
 *
 * A failed check ends the test. SKIP("why") counts as skipped, unless STRATA_REQUIRE names a word that `why` contains.
 */

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <strata/status.h>

typedef struct test_case {
    const char *name;
    void (*fn)(void);
} test_case;

_Noreturn void test_failed(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
_Noreturn void test_skipped(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int test_main(int argc, char **argv, const test_case *cases, int n);
/* 1 in `./run check fast`: the smallest examples are enough. */
int test_fast(void);

#define FAIL(...) test_failed(__FILE__, __LINE__, __VA_ARGS__)
#define SKIP(...) test_skipped(__VA_ARGS__)
#define CHECK(e) ((e) ? (void)0 : FAIL("%s", #e))
#define CHECK_OK(e) CHECK_STATUS(e, STRATA_OK)
#define CHECK_STATUS(e, want)                                                                                          \
    do {                                                                                                               \
        strata_status got_ = (e);                                                                                      \
        if (got_ != (want))                                                                                            \
            FAIL("%s gave %s, not %s (%s)", #e, strata_status_name(got_), strata_status_name(want),                    \
                 strata_last_error());                                                                                 \
    } while (0)
#define CHECK_INT(a, b)                                                                                                \
    do {                                                                                                               \
        long long a_ = (long long)(a), b_ = (long long)(b);                                                            \
        if (a_ != b_) FAIL("%s is %lld, not %s = %lld", #a, a_, #b, b_);                                               \
    } while (0)
#define CHECK_STR(a, b)                                                                                                \
    do {                                                                                                               \
        const char *a_ = (a), *b_ = (b);                                                                               \
        if (strcmp(a_, b_) != 0) FAIL("%s is \"%s\", not \"%s\"", #a, a_, b_);                                         \
    } while (0)
/* The detail text of the last error contains `part`. */
#define CHECK_ERROR_TEXT(part)                                                                                         \
    do {                                                                                                               \
        if (!strstr(strata_last_error(), (part))) FAIL("error text \"%s\" lacks \"%s\"", strata_last_error(), (part)); \
    } while (0)

#define T(f)                                                                                                           \
    {                                                                                                                  \
#f, f                                                                                                          \
    }
#define TESTS(...)                                                                                                     \
    int main(int argc, char **argv)                                                                                    \
    {                                                                                                                  \
        static const test_case cases[] = { __VA_ARGS__ };                                                              \
        return test_main(argc, argv, cases, (int)(sizeof cases / sizeof cases[0]));                                    \
    }

#endif
