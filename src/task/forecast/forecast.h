#ifndef STI_FORECAST_H
#define STI_FORECAST_H
/* The forecasting task: series, where they are split, and windows of them as models see them. See README.md. */

#include <strata/train.h>

#include "io/series.h"
#include "task/registry.h"
#include "train/trainer.h"

typedef enum sti_forecast_tokens {
    STI_FORECAST_TIME,    /* a position is a patch of time; a sequence is one window of one series */
    STI_FORECAST_VARIATE, /* a position is one series, whole; a sequence is one window of all series */
} sti_forecast_tokens;

typedef enum sti_forecast_part { STI_FORECAST_TRAIN, STI_FORECAST_VALIDATION, STI_FORECAST_TEST } sti_forecast_part;
enum { STI_FORECAST_PARTS = 3 };

typedef enum sti_forecast_normalise { /* in the order of the key's words */
                                      STI_NORMALISE_NONE,
                                      STI_NORMALISE_SERIES,
                                      STI_NORMALISE_MEAN,
                                      STI_NORMALISE_LAST,
                                      STI_NORMALISE_INSTANCE
} sti_forecast_normalise;

typedef struct sti_forecast_series {
    float *z; /* (value - mean) / std, NaN: missing. owned */
    int64_t n;
    double mean, std; /* of the training part, or as the checkpoint says */
    double naive;     /* mean |z_t - z_{t-season}| of the training part; 0: not known */
    int64_t from[STI_FORECAST_PARTS], origins[STI_FORECAST_PARTS]; /* first row that is forecast from, how many */
} sti_forecast_series;

typedef struct sti_forecast_scale { /* of a trained series, as its checkpoint remembers it */
    char *name;                     /* owned */
    double mean, std;
} sti_forecast_scale;

typedef enum sti_forecast_split {
    STI_SPLIT_PARTS,
    STI_SPLIT_ETT_H,
    STI_SPLIT_ETT_M,
    STI_SPLIT_LAST
} sti_forecast_split;

typedef struct sti_forecast {
    int64_t horizon, lookback;
    int64_t patch; /* rows per position: the lookback when a position is a whole window */
    int64_t season;
    sti_forecast_tokens tokens;
    sti_forecast_normalise normalise;
    bool every; /* all positions are trained, not the last alone */
    sti_forecast_split split;
    sti_forecast_part part; /* that evaluations are of */
    double train, test;     /* shares of the rows, STI_SPLIT_PARTS */
    char *time, *columns;   /* owned; "" when not given */
    sti_series_how how;
    sti_panel panel;                    /* names and dates; the values are in series */
    sti_forecast_series *series;        /* panel.count. owned */
    int64_t *first[STI_FORECAST_PARTS]; /* (count + 1): windows of the series before. owned */
    sti_forecast_scale *scale;          /* owned */
    int32_t nscale;
} sti_forecast;

/* Read a file into f->panel and f->series; its values are still in the panel. */
strata_status sti_forecast_read(sti_task *t, const char *path);
/* Give series k its scale (the checkpoint's for its name, else that of its first `rows` rows) and turn values to z. */
strata_status sti_forecast_standardise(sti_forecast *f, int32_t k, int64_t rows);

/* ---- windows -------------------------------------------------------------------------------------------------- */
extern const sti_task_class sti_task_class_forecast;

typedef struct sti_window { /* a model's number is (z - shift) / scale */
    double shift, scale;
} sti_window;

/* The `lookback` rows of z before row t (NaN: missing; rows before 0 likewise) as a model reads them: normalised by
 * themselves, the last value in the place of missing ones. */
sti_window sti_forecast_scale_at(const sti_forecast *f, const float *z, int64_t t);
sti_window sti_forecast_inputs(const sti_forecast *f, const float *z, int64_t t, float *x);
/* The `horizon` rows of series k from `row` on; NaN where missing or outside. */
void sti_forecast_targets(const sti_forecast *f, int32_t k, int64_t row, sti_window w, float *y);

/* A part has so many sequences; sequence i is that of the series (variates: of all, and *series is 0) at its origin,
 * the first row that it forecasts. x (positions, inputs), y (positions, horizon). */
int64_t sti_forecast_sequences(const sti_forecast *f, sti_forecast_part part);
void sti_forecast_locate(const sti_forecast *f, sti_forecast_part part, int64_t i, int32_t *series, int64_t *origin);
void sti_forecast_sequence(const sti_forecast *f, sti_forecast_part part, int64_t i, float *x, float *y);
/* The sequences of an evaluation of about so many predicted numbers: how many (i < 0), else which is number i. The same
 * origins of every series, whatever the model makes of a window: models are compared on the same data. */
int64_t sti_forecast_sample(const sti_forecast *f, sti_forecast_part part, int64_t numbers, int64_t i);

/* ---- results -------------------------------------------------------------------------------------------------- */
/* As in sti_task_class. */
strata_status sti_forecast_score_create(const sti_task *t, int64_t time, void **out);
void sti_forecast_score_answer(const sti_task *t, void *score, const sti_task_answer *a);
strata_status sti_forecast_score_measure(const sti_task *t, const void *score, bool whole, strata_measures *m);
void sti_forecast_score_destroy(void *score);

#endif
