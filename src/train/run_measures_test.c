/* What a run measured, read back from its metrics; what a task expects of predictors without training. */

#include "train/measures.h"

#include <stdio.h>
#include <unistd.h>

#include "support/test.h"

static void write_metrics(char *dir, const char *text)
{
    char path[128];
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    FILE *f = fopen(path, "w");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void remove_metrics(const char *dir)
{
    char path[128];
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    CHECK(unlink(path) == 0 && rmdir(dir) == 0);
}

static void last_evaluation(void)
{
    char dir[] = "/tmp/strata-measures-XXXXXX";
    strata_measures *m = NULL;
    strata_measure x;
    write_metrics(dir, "{\"step\":1,\"loss\":3,\"val_loss\":2,\"old\":7}\n"
                       "{\"step\":2,\"tokens\":9,\"val_loss\":1,\"error\":[1,null,0.25],\"last\":0.5,\"note\":\"x\"}\n"
                       "{\"step\":3,\"loss\":1}\n{\"step\":4,\"error\":[0.1"); /* cut off */
    CHECK_OK(strata_metrics_measures(dir, &m));
    CHECK_INT(strata_measures_count(m), 2);
    CHECK_OK(strata_measures_at(m, 0, &x));
    CHECK_STR(x.name, "error");
    CHECK(x.count == 3 && x.value[0] == 1 && isnan(x.value[1]) && x.value[2] == 0.25);
    CHECK_OK(strata_measures_at(m, 1, &x));
    CHECK_STR(x.name, "last");
    CHECK(x.count == 1 && x.value[0] == 0.5);
    CHECK_STATUS(strata_measures_at(m, 2, &x), STRATA_E_INVALID);
    strata_measures_destroy(m);
    remove_metrics(dir);
}

static void nothing_measured(void)
{
    char dir[] = "/tmp/strata-measures-XXXXXX", bad[] = "/tmp/strata-measures-XXXXXX";
    strata_measures *m = NULL;
    write_metrics(dir, "{\"step\":1,\"loss\":3,\"val_loss\":2}\n");
    CHECK_OK(strata_metrics_measures(dir, &m));
    CHECK(m == NULL);
    CHECK_INT(strata_measures_count(m), 0);
    remove_metrics(dir);
    CHECK_STATUS(strata_metrics_measures(dir, &m), STRATA_E_IO);
    write_metrics(bad, "no metrics\n{\"step\":2}\n");
    CHECK_STATUS(strata_metrics_measures(bad, &m), STRATA_E_FORMAT);
    CHECK(m == NULL);
    remove_metrics(bad);
    CHECK_STATUS(strata_metrics_measures(NULL, &m), STRATA_E_INVALID);
}

/* d = 4, noise 1/2: each curve at its first and last point by hand. */
static void references(void)
{
    strata_context *ctx = NULL;
    strata_config *c = NULL;
    strata_measures *m = NULL;
    strata_measure x;
    CHECK_OK(strata_context_create("threads=1", NULL, &ctx));
    CHECK_OK(strata_config_create(ctx, "regression", &c));
    CHECK_OK(strata_config_set(c, "regression.dims", "4", "test"));
    CHECK_OK(strata_task_references(ctx, c, &m));
    CHECK_INT(strata_measures_count(m), 3); /* without noise ridge is least squares */
    strata_measures_destroy(m);
    CHECK_OK(strata_config_set(c, "regression.noise", "0.5", "test"));
    CHECK_OK(strata_task_references(ctx, c, &m));
    CHECK_INT(strata_measures_count(m), 4);
    for (int32_t i = 0; i < 4; i++) {
        CHECK_OK(strata_measures_at(m, i, &x));
        CHECK_INT(x.count, 8);
        CHECK(fabs(x.value[0] - 1.25) < 1e-9); /* nobody knows anything before the first example */
        if (!strcmp(x.name, "zero_theory")) CHECK(x.value[7] == 1.25);
        if (!strcmp(x.name, "ols_theory")) CHECK(fabs(x.value[7] - (0.25 + 0.25 * 4 / 2)) < 1e-12);
        if (!strcmp(x.name, "step_theory")) CHECK(fabs(x.value[7] - (1.25 - 7.0 / (7 + 4 + 1 + 1))) < 1e-12);
    }
    strata_measures_destroy(m);
    strata_config_destroy(c);
    CHECK_OK(strata_config_create(ctx, "text", &c));
    CHECK_OK(strata_task_references(ctx, c, &m));
    CHECK(m == NULL);
    CHECK_STATUS(strata_task_references(ctx, NULL, &m), STRATA_E_INVALID);
    strata_config_destroy(c);
    strata_context_destroy(ctx);
}

TESTS(T(last_evaluation), T(nothing_measured), T(references))
