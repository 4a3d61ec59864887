/* One run of a comparison: trained where an earlier call left it, and not again when it is done. */
#include "compare.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *compare_run_name(const compare_run *r)
{
    const char *slash = strrchr(r->dir, '/');
    return slash ? slash + 1 : r->dir;
}

void compare_run_free(compare_run *r)
{
    loss_curve_free(&r->curve);
    free(r->dir);
}

/* ---- configuration ---------------------------------------------------------------------------------------------- */
static int configure(const comparison *p, int model, int rate, int seed)
{
    char lr[CLI_NUMBER], number[CLI_NUMBER];
    (void)snprintf(lr, sizeof lr, "%.10g", p->rate[rate]);
    (void)snprintf(number, sizeof number, "%lld", (long long)(p->first_seed + seed));
    strata_config *cfg = p->model[model].cfg;
    int rc = cli_status(strata_config_set(cfg, "train.lr", lr, "--lr"), CLI_ON_INPUT, NULL);
    if (!rc) rc = cli_status(strata_config_set(cfg, "train.seed", number, "--seeds"), CLI_ON_INPUT, NULL);
    return rc;
}

/* A run that is there must be one of this very configuration: nothing is mixed silently. */
static int check_same(const comparison *p, const strata_config *cfg, const compare_run *r)
{
    struct stat st;
    char *path = cli_join(r->dir, "config.conf");
    strata_config *was = NULL;
    int rc = path ? CLI_OK : cli_fail(CLI_FAILED, "out of memory");
    if (rc || stat(path, &st) != 0) {
        free(path);
        return rc;
    }
    rc = cli_status(strata_config_create(p->ctx, p->task, &was), CLI_ON_INPUT, NULL);
    if (!rc) rc = cli_status(strata_config_load(was, path), CLI_ON_INPUT, NULL);
    for (int32_t i = 0; !rc && i < strata_config_count(cfg); i++) {
        strata_config_item it;
        if ((rc = cli_status(strata_config_at(cfg, i, &it), CLI_ON_INPUT, NULL))) break;
        const char *old = strata_config_get(was, it.key);
        if (!old || !strcmp(old, it.value) || is_bookkeeping(it.key)) continue;
        rc = cli_fail(CLI_USAGE, "%s was started with %s = %s, now it is %s: choose another --out", r->dir, it.key, old,
                      it.value);
    }
    strata_config_destroy(was);
    free(path);
    return rc;
}

/* ---- what is remembered of a run that is done -------------------------------------------------------------------- */
static double data_bytes(const comparison *p)
{
    double sum = 0;
    struct stat st;
    for (int32_t i = 0; i < p->data.count; i++)
        if (stat(p->data.path[i], &st) == 0) sum += (double)st.st_size;
    return sum;
}

static int measure_index(comparison *p, const char *name)
{
    for (int i = 0; i < p->measures; i++)
        if (!strcmp(p->measure[i], name)) return i;
    if (p->measures == COMPARE_MEASURES || strlen(name) >= sizeof p->measure[0]) return -1;
    (void)snprintf(p->measure[p->measures], sizeof p->measure[0], "%s", name);
    return p->measures++;
}

static const char outcome_head[] = "# what strata compare noted when this run was done";

/* @return done: the file is there and is about this data and kind of reading */
static bool read_outcome(comparison *p, compare_run *r)
{
    char *path = cli_join(r->dir, "outcome");
    FILE *f = path ? fopen(path, "r") : NULL;
    char line[512], name[32];
    double value;
    bool done = false, same = true;
    free(path);
    if (!f) return false;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "best = %lf", &value) == 1)
            same = same && (value > 0) == p->best;
        else if (sscanf(line, "bytes = %lf", &value) == 1)
            same = same && fabs(value - data_bytes(p)) < 0.5;
        else if (sscanf(line, "failed = %lf", &value) == 1)
            r->failed = value > 0;
        else if (sscanf(line, "measure.%31s = %lf", name, &value) == 2) {
            int k = measure_index(p, name);
            if (k >= 0) r->measure[k] = value;
        } else if (!strcmp(line, "done\n"))
            done = true;
    }
    (void)fclose(f);
    return done && same;
}

static int write_outcome(const comparison *p, const compare_run *r)
{
    cli_file o;
    char *path = cli_join(r->dir, "outcome");
    int rc = path ? cli_file_open(&o, path) : cli_fail(CLI_FAILED, "out of memory");
    if (!rc) {
        (void)fprintf(o.f, "%s\nbest = %d\nbytes = %.0f\nfailed = %d\n", outcome_head, p->best, data_bytes(p),
                      r->failed);
        for (int k = 0; k < p->measures; k++)
            if (isfinite(r->measure[k])) (void)fprintf(o.f, "measure.%s = %.17g\n", p->measure[k], r->measure[k]);
        (void)fputs("done\n", o.f);
        rc = cli_file_close(&o, true);
    }
    free(path);
    return rc;
}

/* ---- metrics ---------------------------------------------------------------------------------------------------- */
/* The validation curve, and where the run ended. */
static int read_metrics(const comparison *p, compare_run *r, bool still)
{
    strata_metrics *m = NULL;
    int rc = cli_status(strata_metrics_open(r->dir, &m), CLI_ON_INPUT, r->dir);
    if (rc) return rc;
    const int64_t rows = strata_metrics_count(m);
    strata_progress *row = calloc((size_t)rows + 1, sizeof *row);
    for (int64_t i = 0; row && !rc && i < rows; i++)
        rc = cli_status(strata_metrics_at(m, i, &row[i]), CLI_ON_INPUT, r->dir);
    for (int a = 0; row && rows && a < AMOUNTS; a++) r->x[a] = amount_of(&row[rows - 1], (amount)a);
    loss_curve *c = &r->curve;
    if (!rc && !(row && loss_curve_of(row, rows, p->best, c))) rc = cli_fail(CLI_FAILED, "out of memory");
    free(row);
    strata_metrics_close(m);
    if (!rc && !c->n && !r->failed) rc = cli_fail(CLI_INPUT, "%s: metrics.jsonl has no validation loss", r->dir);
    if (!rc && c->n) r->loss = c->loss[c->n - 1];
    c->still = still;
    if (r->failed) c->n = 0; /* no more is known of it */
    return rc;
}

/* ---- training --------------------------------------------------------------------------------------------------- */
/* What the task measures beside the loss. */
static int evaluate(comparison *p, compare_run *r)
{
    strata_eval_result e = { .size = STRATA_INIT(strata_eval_result) };
    int rc = cli_status(strata_evaluate(p->ctx, r->dir, p->best, NULL, 0, &e), CLI_ON_INPUT, r->dir);
    for (int32_t i = 0; !rc && i < strata_measures_count(e.measures); i++) {
        strata_measure m;
        if (strata_measures_at(e.measures, i, &m) != STRATA_OK || m.count != 1) continue; /* curves have no column */
        int k = measure_index(p, m.name);
        if (k >= 0) r->measure[k] = m.value[0];
    }
    strata_measures_destroy(e.measures);
    return rc;
}

static int train(const comparison *p, const strata_config *cfg, compare_run *r)
{
    char label[160];
    cli_progress progress;
    (void)snprintf(label, sizeof label, "%d/%d %s  ", (int)(r - p->run) + 1, p->models * p->rates * p->seeds,
                   compare_run_name(r));
    cli_progress_begin(&progress, label);
    strata_status s = strata_train(p->ctx, cfg, p->data.path, p->data.count, r->dir, cli_progress_on, &progress);
    cli_progress_end(&progress);
    if (s == STRATA_E_INTERRUPTED) return CLI_INTERRUPTED;
    r->failed = s == STRATA_E_NUMERIC;
    if (r->failed) {
        cli_note("%s: %s", compare_run_name(r), strata_last_error());
        return CLI_OK;
    }
    return cli_status(s, CLI_ON_OUTPUT, NULL);
}

int compare_train(comparison *p, int model, int rate, int seed)
{
    compare_run *r = compare_run_of(p, model, rate, seed);
    r->loss = (double)NAN;
    for (int k = 0; k < COMPARE_MEASURES; k++) r->measure[k] = (double)NAN;
    int rc = configure(p, model, rate, seed);
    if (!rc) rc = check_same(p, p->model[model].cfg, r);
    if (rc) return rc;
    if (!read_outcome(p, r)) {
        r->failed = false;
        rc = train(p, p->model[model].cfg, r);
        if (!rc && !r->failed && p->about.measures) rc = evaluate(p, r);
        if (!rc) rc = write_outcome(p, r);
    }
    return rc ? rc : read_metrics(p, r, p->model[model].params == 0);
}
