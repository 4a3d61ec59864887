#include "io/metrics.h"

#include <signal.h>
#include <sys/resource.h>

#include "io/io_test.h"

static strata_status parse(const char *text, strata_metrics **m)
{
    return sti_metrics_parse(text, strlen(text), m);
}

static void check_steps(const char *text, const char *want)
{
    strata_metrics *m;
    char got[256] = "";
    CHECK_OK(parse(text, &m));
    for (int64_t i = 0; i < strata_metrics_count(m); i++) {
        strata_progress p;
        CHECK_OK(strata_metrics_at(m, i, &p));
        size_t n = strlen(got);
        snprintf(got + n, sizeof got - n, "%s%lld:%g", i ? " " : "", (long long)p.step, p.loss);
    }
    CHECK_STR(got, want);
    strata_metrics_close(m);
}

static void reads(void)
{
    strata_metrics *m;
    strata_progress p;
    CHECK_OK(parse("{\"step\":10,\"tokens\":20480,\"flops\":1.5e12,\"seconds\":2.25,\"loss\":3.5,\"lr\":0.001,"
                   "\"grad_norm\":null,\"tokens_per_s\":9102.2,\"more\":[1]}\n{\"val_loss\":3,\"step\":10}\n",
                   &m));
    CHECK_INT(strata_metrics_count(m), 2);
    CHECK_OK(strata_metrics_at(m, 0, &p));
    CHECK(p.step == 10 && p.tokens == 20480 && p.flops == 1.5e12 && p.seconds == 2.25 && p.loss == 3.5);
    CHECK(p.lr == 0.001 && p.tokens_per_s == 9102.2 && isnan(p.grad_norm) && isnan(p.val_loss));
    CHECK(p.event == STRATA_EVENT_STEP && p.steps == 0 && !p.text);
    CHECK_OK(strata_metrics_at(m, 1, &p));
    CHECK(p.step == 10 && p.tokens == 0 && p.val_loss == 3 && isnan(p.loss) && p.event == STRATA_EVENT_EVAL);
    CHECK_STATUS(strata_metrics_at(m, 2, &p), STRATA_E_INVALID);
    CHECK_STATUS(strata_metrics_at(m, -1, &p), STRATA_E_INVALID);
    CHECK_STATUS(strata_metrics_at(NULL, 0, &p), STRATA_E_INVALID);
    strata_metrics_close(m);
    strata_metrics_close(NULL);
    CHECK_INT(strata_metrics_count(NULL), 0);
}

static void cut_off_and_resumed(void)
{
    check_steps("", "");
    check_steps("{\"step\":1,\"loss\":5}\n{\"step\":2,\"lo", "1:5");
    check_steps("{\"step\":1,\"loss\":5}\n{\"step\":2,\"loss\":4}", "1:5 2:4"); /* only the newline is missing */
    check_steps("{\"st", "");
    check_steps("{\"step\":1,\"loss\":5}\n{\"step\":2,\"loss\":4}\n{\"step\":3,\"loss\":3}\n{\"step\":2,\"loss\":2}\n"
                "{\"step\":4,\"loss\":1}\n",
                "1:5 2:2 4:1");
    check_steps("{\"step\":7,\"loss\":5}\n{\"step\":0,\"loss\":4}\n", "0:4");
}

static void refuses(void)
{
    static const struct {
        const char *text, *error;
    } bad[] = {
        { "{\"step\":1}\n{\"step\":2,\n{\"step\":3}\n", "line 2" },
        { "{\"step\":1}\n\n", "line 2" },
        { "[1]\n", "line 1: not an object" },
        { "{}\n", "step is missing" },
        { "{\"step\":1.5}\n", "step is not" },
        { "{\"step\":-1}\n", "step is not" },
        { "{\"step\":\"1\"}\n", "step is not" },
        { "{\"step\":1,\"loss\":\"x\"}\n", "loss is not" },
        { "{\"step\":1,\"tokens\":null}\n", "tokens is not" },
        { "{\"step\":1,\"step\":2}\n", "two members" },
    };
    for (size_t i = 0; i < STI_COUNT(bad); i++) {
        strata_metrics *m;
        CHECK_STATUS(parse(bad[i].text, &m), STRATA_E_FORMAT);
        CHECK_ERROR_TEXT(bad[i].error);
        CHECK(!m);
    }
}

static void append(sti_metrics_writer *w, int64_t step, double loss)
{
    strata_progress p = {
        .step = step, .tokens = 2 * step, .flops = 1e10 * (double)step, .seconds = 0.5, .loss = loss
    };
    p.val_loss = p.grad_norm = p.tokens_per_s = (double)NAN;
    p.lr = 0.1;
    CHECK_OK(sti_metrics_append(w, &p, NULL));
}

static void writes(void)
{
    const char *path = test_path("metrics.jsonl");
    sti_metrics_writer *w;
    CHECK_OK(sti_metrics_writer_open(path, -1, &w));
    append(w, 1, 0.1 + 0.2);
    append(w, 2, (double)INFINITY);
    sti_metrics_writer_close(w);
    sti_metrics_writer_close(NULL);
    char *got = test_get(path, NULL);
    CHECK_STR(got, "{\"step\":1,\"tokens\":2,\"flops\":10000000000,\"seconds\":0.5,\"loss\":0.30000000000000004,"
                   "\"lr\":0.1}\n"
                   "{\"step\":2,\"tokens\":4,\"flops\":20000000000,\"seconds\":0.5,\"loss\":null,\"lr\":0.1}\n");
    free(got);
    strata_metrics *m;
    CHECK_OK(strata_metrics_open(test_dir, &m));
    strata_progress p;
    CHECK_OK(strata_metrics_at(m, 0, &p));
    CHECK(p.loss == 0.1 + 0.2 && p.flops == 1e10);
    strata_metrics_close(m);
    test_rmdir();
    CHECK_STATUS(strata_metrics_open(test_path("none"), &m), STRATA_E_IO);
    CHECK_ERROR_TEXT("none/metrics.jsonl: No such file");
    CHECK_STATUS(sti_metrics_writer_open(test_path("none/m"), -1, &w), STRATA_E_IO);
    CHECK_STATUS(sti_metrics_writer_open(test_path("none/m"), 3, &w), STRATA_E_IO);
    test_rmdir();
}

static void resumes(void)
{
    static const char text[] = "{\"step\":1,\"loss\":5}\n{\"step\": 2}\n{\"step\":3}\n{\"step\":2,\"loss\":4}\n{\"ste";
    static const struct {
        int64_t last;
        const char *want;
    } c[] = { { -1, "" },
              { 0, "" },
              { 1, "{\"step\":1,\"loss\":5}\n" },
              { 9, "{\"step\":1,\"loss\":5}\n{\"step\":2,\"loss\":4}\n" } };
    const char *path = test_path("metrics.jsonl");
    for (size_t i = 0; i < STI_COUNT(c); i++) {
        sti_metrics_writer *w;
        test_put(path, text, sizeof text - 1);
        CHECK_OK(sti_metrics_writer_open(path, c[i].last, &w));
        char *got = test_get(path, NULL);
        CHECK_STR(got, c[i].want);
        free(got);
        append(w, 10, 1);
        sti_metrics_writer_close(w);
        strata_metrics *m;
        CHECK_OK(strata_metrics_open(test_dir, &m));
        CHECK_INT(strata_metrics_count(m), 1 + (c[i].last >= 1) + (c[i].last >= 2));
        strata_metrics_close(m);
    }
    /* nothing to remove: not rewritten; a complete row without its newline gets one */
    static const char whole[] = "{\"step\":1}\n{\"step\":2}";
    for (size_t cut = 0; cut < 2; cut++) {
        struct stat before, after;
        sti_metrics_writer *w;
        test_put(path, whole, cut ? sizeof whole - 1 : 11);
        CHECK(stat(path, &before) == 0);
        CHECK_OK(sti_metrics_writer_open(path, 2, &w));
        sti_metrics_writer_close(w);
        CHECK(stat(path, &after) == 0);
        CHECK((before.st_ino == after.st_ino) == (cut == 0) && after.st_size == (cut ? 22 : 11));
    }
    sti_metrics_writer *w;
    test_put(path, "hello\nworld\n", 12);
    CHECK_STATUS(sti_metrics_writer_open(path, 2, &w), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("metrics.jsonl: line 1");
    char *got = test_get(path, NULL);
    CHECK_STR(got, "hello\nworld\n");
    free(got);
    test_rmdir();
}

static void full_disk(void)
{
    const char *path = test_path("metrics.jsonl");
    sti_metrics_writer *w;
    CHECK_OK(sti_metrics_writer_open(path, -1, &w));
    append(w, 1, 1);
    size_t n, m;
    free(test_get(path, &n));
    struct rlimit old, small;
    CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
    small = old;
    small.rlim_cur = n + 10; /* the second row fits in part */
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    strata_progress p = { .step = 2 };
    strata_status s = sti_metrics_append(w, &p, NULL);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    CHECK_STATUS(s, STRATA_E_IO);
    CHECK_ERROR_TEXT("File too large");
    free(test_get(path, &m));
    CHECK_INT(m, n);
    append(w, 2, 1);
    sti_metrics_writer_close(w);
    test_rmdir();
}

TESTS(T(reads), T(cut_off_and_resumed), T(refuses), T(writes), T(resumes), T(full_disk))
