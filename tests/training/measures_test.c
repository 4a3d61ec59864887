/* Lists of named numbers, and what of them stands in a row of metrics. */

#include "train/measures.h"

#include "io/metrics.h"
#include "training/training.h"

static void lists(void)
{
    strata_measures *m = NULL;
    strata_measure x;
    const double one = 0.5, curve[] = { 1, (double)NAN, -2 };
    CHECK_INT(strata_measures_count(NULL), 0);
    CHECK_OK(sti_measures_create(&m));
    CHECK_INT(strata_measures_count(m), 0);
    CHECK_OK(sti_measures_add(m, "accuracy", "a number", 1, &one));
    CHECK_OK(sti_measures_add(m, "error", "a curve", 3, curve));
    CHECK_INT(strata_measures_count(m), 2);
    CHECK_OK(strata_measures_at(m, 1, &x));
    CHECK_STR(x.name, "error");
    CHECK_INT(x.count, 3);
    CHECK(x.value != curve && isnan(x.value[1]) && x.value[2] < -1.5);
    CHECK_STATUS(strata_measures_at(m, 2, &x), STRATA_E_INVALID);
    sti_text t = { 0 };
    sti_measures_put(m, &t);
    CHECK_STR(t.s, "\"accuracy\":0.5,\"error\":[1,null,-2]");

    /* in a row of metrics they disturb no reader */
    sti_metrics_writer *w = NULL;
    strata_metrics *rows = NULL;
    strata_progress p = { .step = 3, .loss = 2 };
    mkdir(test_path("run"), 0700);
    CHECK_OK(sti_metrics_writer_open(test_path("run/metrics.jsonl"), -1, &w));
    CHECK_OK(sti_metrics_append(w, &p, t.s));
    sti_metrics_writer_close(w);
    char *line = test_get(test_path("run/metrics.jsonl"), NULL);
    CHECK(strstr(line, ",\"accuracy\":0.5,\"error\":[1,null,-2]}\n"));
    CHECK_OK(strata_metrics_open(test_path("run"), &rows));
    CHECK_INT(strata_metrics_count(rows), 1);
    strata_metrics_close(rows);
    free(line);
    sti_text_free(&t);
    strata_measures_destroy(m);
    strata_measures_destroy(NULL);
    test_clean();
}

TESTS(T(lists))
