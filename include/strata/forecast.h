#ifndef STRATA_FORECAST_H
#define STRATA_FORECAST_H
/* Forecasts of series in a file, by a model that was trained on the task forecast.
 *
 *   strata_forecast *f = NULL;
 *   if (strata_forecast_create(ctx, "runs/a", "new.csv", NULL, &f) == STRATA_OK)
 *       for (int32_t k = 0; k < strata_forecast_count(f); k++) { strata_forecast_series s; strata_forecast_at(f, k,
 * &s); … } strata_forecast_destroy(f);
 */

#include <strata/context.h>

STRATA_BEGIN

typedef struct strata_forecast strata_forecast;

typedef struct strata_forecast_config {
    size_t size;     /* STRATA_INIT(strata_forecast_config); every 0 is a default */
    int32_t best;    /* 1: of a run, the checkpoint with the least validation loss, not the newest */
    int64_t horizon; /* rows to forecast; 0: as many as the model was trained for. More are made from the forecasts */
    int64_t back;    /* forecast the rows after all but the last `back`, which are then known */
} strata_forecast_config;

/** Read a table or .tsf file (as the run read its own: columns, dates) and forecast every series in it.
 *  @param path a run directory or a checkpoint  @param cfg NULL: defaults
 *  @return OK | E_INVALID (another task) | E_IO | E_FORMAT (names the line) | E_SHAPE (series missing, too short)
 *  | E_NUMERIC | E_MEMORY */
STRATA_API strata_status strata_forecast_create(const strata_context *ctx, const char *path, const char *data,
                                                const strata_forecast_config *cfg, strata_forecast **out);
STRATA_API void strata_forecast_destroy(strata_forecast *f); /* accepts NULL */

typedef struct strata_forecast_series { /* all borrowed, in the units of the file */
    const char *name;
    int64_t rows;          /* that the forecast was made from */
    const double *history; /* (rows); NaN: missing */
    const double *value;   /* (horizon): the forecast */
    const double *truth;   /* (horizon): what is known of the same rows; NaN: not known */
} strata_forecast_series;

STRATA_API int32_t strata_forecast_count(const strata_forecast *f);
STRATA_API int64_t strata_forecast_horizon(const strata_forecast *f);
/* 1: the rows of all series have the same dates. */
STRATA_API int32_t strata_forecast_aligned(const strata_forecast *f);
STRATA_API strata_status strata_forecast_at(const strata_forecast *f, int32_t series, strata_forecast_series *out);
/** Date of row i of a series (rows, rows + 1, … are those of the forecast), written as in the file; the number of the
 * row, from 1, where there are no dates. Cut off at cap. @return buf */
STRATA_API const char *strata_forecast_date(const strata_forecast *f, int32_t series, int64_t i, char *buf, size_t cap);
/* Name of the column with the dates; "row" where there is none. */
STRATA_API const char *strata_forecast_date_name(const strata_forecast *f);

STRATA_END
#endif
