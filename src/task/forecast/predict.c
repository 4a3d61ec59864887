/* Forecasts of new data by a trained run. */

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <strata/forecast.h>

#include "task/forecast/forecast.h"
#include "train/trainer.h"

struct strata_forecast {
    sti_task task;
    int64_t horizon;
    int64_t *rows; /* of each series before the forecast */
    float **z;     /* of each series: those rows, then the forecast */
    double **data; /* of each series: history (rows), value (horizon), truth (horizon) */
};

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

static const sti_forecast *inner(const strata_forecast *f)
{
    return f->task.data;
}

static int32_t count(const strata_forecast *f)
{
    return inner(f)->panel.count;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */
static strata_status take_series(strata_forecast *f, int32_t k, int64_t back)
{
    sti_forecast *in = f->task.data;
    const int64_t n = in->series[k].n, rows = n - back;
    if (rows < 1)
        return sti_fail(STRATA_E_SHAPE, "series \"%s\" has %lld rows: none is left before the last %lld",
                        in->panel.series[k].name, (long long)n, (long long)back);
    STI_TRY(sti_forecast_standardise(in, k, rows));
    f->rows[k] = rows;
    f->z[k] = sti_heap((size_t)(rows + f->horizon) * sizeof *f->z[k]);
    f->data[k] = sti_heap((size_t)(rows + 2 * f->horizon) * sizeof *f->data[k]);
    if (!f->z[k] || !f->data[k]) return no_memory();
    memcpy(f->z[k], in->series[k].z, (size_t)rows * sizeof *f->z[k]);
    return STRATA_OK;
}

static strata_status read_data(strata_forecast *f, const char *data, int64_t back)
{
    STI_TRY(sti_forecast_read(&f->task, data));
    const size_t n = (size_t)count(f);
    f->rows = sti_heap(n * sizeof *f->rows);
    f->z = sti_heap(n * sizeof *f->z);
    f->data = sti_heap(n * sizeof *f->data);
    if (!f->rows || !f->z || !f->data) return no_memory();
    for (int32_t k = 0; k < (int32_t)n; k++) {
        strata_status st = take_series(f, k, back);
        if (st != STRATA_OK) return sti_fail_prefix(st, "%s", data);
    }
    return STRATA_OK;
}

/* ---- forecasting ---------------------------------------------------------------------------------------------- */
/* `each` series of one sequence, first the k-th, in place b of the batch: the rows before rows + done. */
static void put(const strata_forecast *f, sti_trainer *t, int64_t b, int32_t k, int32_t each, int64_t done,
                sti_window *w)
{
    const sti_forecast *in = inner(f);
    const int64_t sequence = t->plan->graph->time * t->plan->inputs;
    for (int32_t i = 0; i < each; i++)
        w[b * each + i] = sti_forecast_inputs(in, f->z[k + i], f->rows[k + i] + done,
                                              (float *)t->x + b * sequence + i * in->lookback);
}

static strata_status get(strata_forecast *f, sti_trainer *t, int64_t b, int32_t k, int32_t each, int64_t done,
                         const sti_window *w)
{
    const sti_forecast *in = inner(f);
    const int64_t time = t->plan->graph->time, n = STI_MIN(in->horizon, f->horizon - done);
    const void *out = NULL;
    STI_TRY(sti_trainer_outputs(t, &out));
    for (int32_t i = 0; i < each; i++) {
        const sti_window s = w[b * each + i];
        const float *y = (const float *)out + ((b + 1) * time - each + i) * in->horizon;
        float *z = f->z[k + i] + f->rows[k + i] + done;
        for (int64_t h = 0; h < n; h++) {
            z[h] = (float)((double)y[h] * s.scale + s.shift);
            if (!isfinite(z[h]))
                return sti_fail(STRATA_E_NUMERIC, "the forecast of \"%s\" is not finite", in->panel.series[k + i].name);
        }
    }
    return STRATA_OK;
}

/* The rows from `done` on, of all series. */
static strata_status forecast(strata_forecast *f, sti_trainer *t, int64_t done, sti_window *w)
{
    const int32_t each = inner(f)->tokens == STI_FORECAST_VARIATE ? count(f) : 1;
    const int64_t sequences = count(f) / each;
    for (int64_t first = 0; first < sequences; first += t->plan->graph->batch) {
        const int64_t n = STI_MIN(t->plan->graph->batch, sequences - first);
        double loss;
        int64_t scored;
        for (int64_t b = 0; b < n; b++) put(f, t, b, (int32_t)(first + b) * each, each, done, w);
        STI_TRY(sti_trainer_loss(t, n, &loss, &scored));
        for (int64_t b = 0; b < n; b++) STI_TRY(get(f, t, b, (int32_t)(first + b) * each, each, done, w));
    }
    return STRATA_OK;
}

static void to_units(strata_forecast *f, int32_t k)
{
    const sti_forecast_series *s = &inner(f)->series[k];
    const int64_t rows = f->rows[k], h = f->horizon;
    double *d = f->data[k];
    for (int64_t i = 0; i < rows + h; i++) d[i] = (double)f->z[k][i] * s->std + s->mean;
    for (int64_t i = 0; i < h; i++)
        d[rows + h + i] = rows + i < s->n ? (double)s->z[rows + i] * s->std + s->mean : (double)NAN;
}

static strata_status run(strata_forecast *f, const strata_model *m, const strata_config *config)
{
    sti_trainer *t = NULL;
    sti_window *w = NULL;
    const sti_model_size size = { .batch = sti_config_int(config, "train.batch"), .base_width = m->base_width };
    strata_status st = sti_trainer_create(m->ctx, m->plan->spec, m->plan->vocab, &size, false, &t);
    if (st == STRATA_OK && t->plan->graph->time != f->task.length)
        st = sti_fail(STRATA_E_FORMAT, "%s: the model has %lld positions, but its task makes %lld", m->path,
                      (long long)t->plan->graph->time, (long long)f->task.length);
    if (st == STRATA_OK) st = sti_trainer_put(t, &(sti_trainer_copy){ .params = m->params });
    if (st == STRATA_OK) {
        const int64_t y = size.batch * t->plan->graph->time * inner(f)->horizon;
        for (int64_t i = 0; i < y; i++) ((float *)t->y)[i] = NAN; /* nothing is scored */
        w = sti_heap((size_t)(size.batch * t->plan->graph->time) * sizeof *w);
        if (!w) st = no_memory();
    }
    for (int64_t done = 0; done < f->horizon && st == STRATA_OK; done += inner(f)->horizon)
        st = forecast(f, t, done, w);
    for (int32_t k = 0; k < count(f) && st == STRATA_OK; k++) to_units(f, k);
    sti_heap_free(w);
    sti_trainer_destroy(t);
    return st;
}

static strata_status build(strata_forecast *f, const strata_model *m, const char *data,
                           const strata_forecast_config *cfg)
{
    sti_json *json = NULL;
    strata_config *config = NULL;
    if (strcmp(m->task, sti_task_class_forecast.kind) != 0)
        return sti_fail(STRATA_E_INVALID, "%s: the model is of the task %s, not of forecast", m->path, m->task);
    STI_TRY(sti_task_of_model(m, &json, &config, &f->task));
    f->horizon = cfg->horizon ? cfg->horizon : inner(f)->horizon;
    strata_status st = read_data(f, data, cfg->back);
    if (st == STRATA_OK) st = run(f, m, config);
    strata_config_destroy(config);
    sti_json_free(json);
    return st;
}

strata_status strata_forecast_create(const strata_context *ctx, const char *path, const char *data,
                                     const strata_forecast_config *cfg, strata_forecast **out)
{
    strata_forecast_config how = { .size = sizeof how };
    if (!out) return sti_fail(STRATA_E_INVALID, "strata_forecast_create: out is NULL");
    *out = NULL;
    if (!ctx || !path || !data) return sti_fail(STRATA_E_INVALID, "strata_forecast_create: a NULL argument");
    if (cfg && cfg->size < sizeof cfg->size)
        return sti_fail(STRATA_E_INVALID, "strata_forecast_create: cfg.size is not set; use STRATA_INIT");
    if (cfg) memcpy(&how, cfg, STI_MIN(cfg->size, sizeof how));
    if (how.horizon < 0 || how.horizon > 1 << 24 || how.back < 0)
        return sti_fail(STRATA_E_INVALID, "forecast: a horizon of %lld rows, %lld held back", (long long)how.horizon,
                        (long long)how.back);
    strata_model *m = NULL;
    STI_TRY(strata_model_load(ctx, path, how.best, &m));
    strata_forecast *f = sti_heap(sizeof *f);
    strata_status st = f ? build(f, m, data, &how) : no_memory();
    strata_model_destroy(m);
    if (st != STRATA_OK) {
        strata_forecast_destroy(f);
        return st;
    }
    *out = f;
    return STRATA_OK;
}

void strata_forecast_destroy(strata_forecast *f)
{
    if (!f) return;
    for (int32_t k = 0; f->task.data && k < count(f); k++) {
        if (f->z) sti_heap_free(f->z[k]);
        if (f->data) sti_heap_free(f->data[k]);
    }
    sti_heap_free(f->rows);
    sti_heap_free(f->z);
    sti_heap_free(f->data);
    sti_task_destroy(&f->task);
    sti_heap_free(f);
}

/* ---- what came out ---------------------------------------------------------------------------------------------- */
int32_t strata_forecast_count(const strata_forecast *f)
{
    return f ? count(f) : 0;
}

int64_t strata_forecast_horizon(const strata_forecast *f)
{
    return f ? f->horizon : 0;
}

int32_t strata_forecast_aligned(const strata_forecast *f)
{
    return f && inner(f)->panel.aligned;
}

strata_status strata_forecast_at(const strata_forecast *f, int32_t series, strata_forecast_series *out)
{
    if (!f || !out || series < 0 || series >= count(f))
        return sti_fail(STRATA_E_INVALID, "strata_forecast_at: series %d", (int)series);
    const int64_t rows = f->rows[series];
    const double *d = f->data[series];
    *out = (strata_forecast_series){ .name = inner(f)->panel.series[series].name,
                                     .rows = rows,
                                     .history = d,
                                     .value = d + rows,
                                     .truth = d + rows + f->horizon };
    return STRATA_OK;
}

const char *strata_forecast_date(const strata_forecast *f, int32_t series, int64_t i, char *buf, size_t cap)
{
    if (!buf || cap == 0) return "";
    buf[0] = '\0';
    if (!f || series < 0 || series >= count(f) || i < 0) return buf;
    const sti_panel *p = &inner(f)->panel;
    char text[STI_DATE_TEXT];
    if (p->form.order == STI_DATE_NONE || p->step.unit == STI_STEP_NONE)
        (void)snprintf(buf, cap, "%lld", (long long)i + 1);
    else
        (void)snprintf(buf, cap, "%s", sti_date_write(sti_panel_time(p, series, i), &p->form, text));
    return buf;
}

const char *strata_forecast_date_name(const strata_forecast *f)
{
    if (!f) return "";
    const sti_panel *p = &inner(f)->panel;
    if (p->form.order == STI_DATE_NONE || p->step.unit == STI_STEP_NONE) return "row";
    return p->time_name && *p->time_name ? p->time_name : "date";
}
