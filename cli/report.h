#ifndef REPORT_H
#define REPORT_H
/* strata report: runs, the models that they are runs of, and the parts of a page about them. */

#include "cli.h"
#include "plot.h"
#include "runs.h"

enum { REPORT_RUNS = 512, REPORT_MODELS = 64, REPORT_KEYS = 256 };

typedef struct report_run {
    const char *path;
    int64_t rows;
    strata_progress *row; /* metrics */
    strata_progress last; /* the last row, with the last values of what it lacks */
    double best;          /* least validation loss; NaN: never measured */
    loss_curve curve;     /* of validation. owned */
    char *file;           /* the first data file, NULL when the run does not say. owned */
    char *data;           /* hashes of its files, in order; "" when the run does not say. owned */
    char *scored;         /* the same of the files that validation losses are of. owned */
    char *key[REPORT_KEYS], *value[REPORT_KEYS];
    int nkeys;
    char task[64];
    bool numbers; /* the loss is a squared error, not nats */
} report_run;

/* Runs whose configurations agree but for the seed: one row of a table. */
typedef struct report_model {
    char name[64];
    const report_run *run[REPORT_RUNS];
    int n;
    int family, colour;
    bool ring;      /* all colours are taken: this one is somebody else's too */
    bool minor;     /* another learning rate of the same family and size ends with less loss */
    bool has_model; /* a checkpoint was readable; what follows is of the first such run */
    char *spec;
    bool has_cost; /* of the checkpoint, or of the configuration */
    strata_cost cost;
    char *sample;
    int64_t context;
    strata_attention_layer *layer; /* owned */
    int layers;                    /* of attention */
    strata_analysis *analysis;     /* owned; NULL: none, not wanted, or not possible */
} report_model;

/* Models that differ in width, layers and learning rate only, or that --family names. */
typedef struct report_family {
    char name[64];
    int model[REPORT_MODELS], n; /* one for each size, by parameters ascending */
    int colour;
} report_family;

typedef struct report {
    FILE *f;
    const cli *c;
    const strata_context *ctx;
    report_run *run; /* owned: [REPORT_RUNS] */
    int runs;
    report_model *model; /* owned: [REPORT_MODELS] */
    int models;
    report_family *family; /* owned: [REPORT_MODELS] */
    int families;
    bool numbers;      /* all losses are squared errors */
    bool one_task;     /* losses of different models can be compared: one task, and the same data to validate on */
    const char *apart; /* why not: what is different */
    bool seeds;        /* some model has several runs */
} report;

/* Of the losses: "nats", "squared error", "unit of the task" when tasks differ. */
const char *report_unit(const report *p);

/* Read the runs named on the command line, group them, draw samples. @return exit code; report_free either way */
int report_read(report *p);
void report_free(report *p);
/* The run's configuration (strata_config_destroy), NULL where it cannot be read. */
strata_config *report_load_config(const report_run *r, const strata_context *ctx);
int report_group(report *p);          /* runs to models and families */
void report_name_families(report *p); /* once the costs of the models are known */
/* Mean over the seeds of the validation losses at the end. */
double report_end_loss(const report_model *g);
/* NULL: not in the run's config.conf */
const char *report_config(const report_run *r, const char *key);

/* Rows of a run with a value y: x[n], y[n], each with room for r->rows. @return n */
typedef enum report_curve { VALIDATION, TRAINING, THROUGHPUT } report_curve;
int report_points(const report_run *r, report_curve c, amount a, double *x, double *y);

/* ---- HTML ------------------------------------------------------------------------------------------------------- */
void report_style(FILE *f);
/* Text for a page: markup escaped; what is no character (byte models may write anything) becomes U+FFFD. */
void report_text(FILE *f, const char *s);
/* A dot in a colour; ring: an open one. */
void report_dot(FILE *f, int colour, bool ring);
/* The dot and the name of model k. */
void report_name(const report *p, int k);
/* Dots and names of the models shown (NULL: of all, with their seeds). */
void report_legend(const report *p, const bool *shown);

/* ---- the parts of the page -------------------------------------------------------------------------------------- */
void report_lead(const report *p);
void report_table(const report *p);
void report_equal(const report *p); /* losses at equal tokens, compute and time */
void report_curves(const report *p);
void report_scaling(const report *p);
void report_measures(const report *p);       /* of the tasks */
void report_context_errors(const report *p); /* of the task regression */
void report_forecasts(const report *p);      /* of the task forecast */
void report_attention(const report *p);
void report_samples(const report *p);
void report_models(const report *p);
void report_configuration(const report *p);

#endif
