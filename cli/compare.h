#ifndef COMPARE_H
#define COMPARE_H
/* strata compare: a grid of runs (models x learning rates x seeds) below one directory, and what they say. */

#include "cli.h"
#include "runs.h"

enum { COMPARE_MODELS = 32, COMPARE_RATES = 16, COMPARE_MEASURES = 16, COMPARE_SEEDS = 1000 };

typedef struct compare_run {
    char *dir;                        /* owned, DIR/MODEL-lrX-seedY; the last part is its name */
    bool failed;                      /* the loss was not finite: no more is known of it */
    double loss;                      /* validation loss that counts: at the end, or with --best the least */
    double x[AMOUNTS];                /* of the whole run */
    loss_curve curve;                 /* owned; no points: failed */
    double measure[COMPARE_MEASURES]; /* NaN: not measured */
} compare_run;

typedef struct compare_model {
    const char *text;   /* borrowed: "SPEC" or "SPEC; key=value …" */
    strata_config *cfg; /* owned: of its runs, but for learning rate and seed */
    char name[64];      /* "1-decoder-…" */
    int64_t params;
    double flops_token; /* forward and backward; measured once a run is there */
} compare_model;

typedef struct comparison {
    const cli *c;
    const strata_context *ctx;
    const char *task, *dir;
    strata_task_info about;
    cli_data data;
    amount axis;
    double budget;
    bool best;
    int models, rates, seeds;
    int64_t first_seed;
    compare_model model[COMPARE_MODELS];
    double rate[COMPARE_RATES];
    compare_run *run; /* owned: [seed][model][rate], the order in which they are trained */
    int measures;
    char measure[COMPARE_MEASURES][32];
} comparison;

static inline compare_run *compare_run_of(const comparison *p, int model, int rate, int seed)
{
    return p->run + ((int64_t)seed * p->models + model) * p->rates + rate;
}
const char *compare_run_name(const compare_run *r);

/* Train and measure one run, unless that was done before. @return exit code */
int compare_train(comparison *p, int model, int rate, int seed);
void compare_run_free(compare_run *r);

/* The results: for people, and as JSON objects, one a line. */
typedef struct compare_table compare_table;
compare_table *compare_tabulate(const comparison *p); /* NULL: out of memory */
void compare_table_free(compare_table *t);
void compare_print(const comparison *p, const compare_table *t, FILE *f);
void compare_print_json(const comparison *p, const compare_table *t, FILE *f);

#endif
