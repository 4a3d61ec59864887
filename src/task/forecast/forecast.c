/* Forecasting: keys, reading, splitting, batches. See README.md. */

#include "task/forecast/forecast.h"

#include <math.h>
#include <string.h>

#include "core/philox.h"

static const sti_key keys[] = {
    { "horizon", STI_KEY_INT, "96", "rows that are forecast at once", 1, 1 << 20, NULL },
    { "lookback", STI_KEY_INT, "336", "rows that a forecast is made from", 1, 1 << 20, NULL },
    { "tokens", STI_KEY_WORD, "time",
      "what a position of the model is: a patch of one series, or a whole series among the others (inverted)", 0, 0,
      "time|variate" },
    { "patch", STI_KEY_INT, "16", "rows per position, when positions are patches", 1, 1 << 20, NULL },
    { "normalise", STI_KEY_WORD, "instance",
      "none; series: by mean and deviation of the training part; and windows less their mean, less their last value, "
      "or "
      "by their mean and deviation (instance)",
      0, 0, "none|series|mean|last|instance" },
    { "split", STI_KEY_TEXT, "0.7,0.1,0.2",
      "parts for training, validation and test: three shares; ett-h or ett-m (12, 4 and 4 months of 30 days of hours "
      "or "
      "quarters); last (the last two horizons)",
      0, 0, NULL },
    { "loss", STI_KEY_WORD, "all", "positions that are trained: all (each on the rows after it), or the last", 0, 0,
      "all|last" },
    { "season", STI_KEY_INT, "0", "rows after which things repeat, for MASE; 0: a day, week or year, as the dates say",
      0, 1 << 20, NULL },
    { "columns", STI_KEY_TEXT, "", "NAME[,NAME]: the series; empty: all", 0, 0, NULL },
    { "time", STI_KEY_TEXT, "", "the column with the dates; empty: it is found", 0, 0, NULL },
    { "header", STI_KEY_BOOL, "0", "1: the first line holds names although they are numbers", 0, 0, NULL },
    { "fill", STI_KEY_BOOL, "0", "1: rows of missing values where dates are left out", 0, 0, NULL },
};

enum { STREAM = 0x66637374 }; /* of the random windows */

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

/* ---- keys --------------------------------------------------------------------------------------------------- */
/* "0.7,0.1,0.2" */
static strata_status read_shares(sti_forecast *f, const char *text)
{
    double share[3] = { 0 };
    char buf[64];
    int n = 0;
    bool good = strlen(text) < sizeof buf;
    for (const char *a = text; good && a; n++) {
        const char *comma = strchr(a, ',');
        const size_t len = comma ? (size_t)(comma - a) : strlen(a);
        memcpy(buf, a, len);
        buf[len] = '\0';
        good = n < 3 && sti_parse_f64(buf, &share[n]) && share[n] > 0 && share[n] < 1;
        a = comma ? comma + 1 : NULL;
    }
    if (!good || n != 3 || fabs(share[0] + share[1] + share[2] - 1) > 1e-6)
        return sti_fail(STRATA_E_SPEC,
                        "forecast.split: \"%.60s\" is none of ett-h, ett-m, last and three shares that sum to 1", text);
    f->split = STI_SPLIT_PARTS;
    f->train = share[0];
    f->test = share[2];
    return STRATA_OK;
}

static strata_status read_split(sti_forecast *f, const char *text)
{
    static const char *const words[] = {
        [STI_SPLIT_ETT_H] = "ett-h", [STI_SPLIT_ETT_M] = "ett-m", [STI_SPLIT_LAST] = "last"
    };
    for (size_t i = 1; i < STI_COUNT(words); i++)
        if (strcmp(text, words[i]) == 0) {
            f->split = (sti_forecast_split)i;
            return STRATA_OK;
        }
    return read_shares(f, text);
}

static strata_status model_reads(const strata_config *c, sti_model_reads *reads)
{
    sti_spec *s = NULL;
    STI_TRY(sti_spec_parse(strata_config_get(c, "model.spec"), &s));
    const sti_model_class *cls = sti_model_class_find(s->kind);
    *reads = cls ? cls->reads : STI_MODEL_SEQUENCE;
    sti_spec_free(s);
    return STRATA_OK;
}

static strata_status settle(sti_task *t, const strata_config *c, sti_forecast *f)
{
    sti_model_reads reads;
    STI_TRY(model_reads(c, &reads));
    t->outputs = f->horizon;
    if (reads == STI_MODEL_WINDOW || f->tokens == STI_FORECAST_VARIATE) {
        if (reads == STI_MODEL_WINDOW) f->tokens = STI_FORECAST_TIME; /* one series a sequence, of one position */
        f->patch = f->lookback;
    }
    t->inputs = f->patch;
    t->length = f->lookback / f->patch; /* of variates 1 for now: the file tells their number */
    if (f->lookback % f->patch == 0) return STRATA_OK;
    return sti_fail(STRATA_E_SPEC, "forecast.lookback=%lld is no multiple of forecast.patch=%lld",
                    (long long)f->lookback, (long long)f->patch);
}

/* ---- what a checkpoint remembers ------------------------------------------------------------------------------ */
static void save(const sti_task *t, sti_text *text)
{
    const sti_forecast *f = t->data;
    sti_text_add(text, "{\"series\":[");
    for (int32_t k = 0; k < f->panel.count; k++) {
        const char *name = f->panel.series[k].name;
        sti_text_add(text, "%s{\"name\":", k ? "," : "");
        sti_json_put_string(text, name, strlen(name));
        sti_text_add(text, ",\"mean\":");
        sti_json_put_number(text, f->series[k].mean);
        sti_text_add(text, ",\"std\":");
        sti_json_put_number(text, f->series[k].std);
        sti_text_add(text, "}");
    }
    sti_text_add(text, "]}");
}

/* Of a task that is made for a checkpoint. */
static strata_status restore(sti_task *t)
{
    sti_forecast *f = t->data;
    const sti_json *j = t->saved_in;
    const sti_json_node *o = t->saved;
    if (!j) return STRATA_OK;
    const sti_json_node *a = sti_json_get(j, o, "series");
    if (!a || a->type != STI_JSON_ARRAY || a->count < 1)
        return sti_fail(STRATA_E_FORMAT, "the metadata lacks the series of the forecast");
    f->scale = sti_heap((size_t)a->count * sizeof *f->scale);
    if (!f->scale) return no_memory();
    for (const sti_json_node *x = sti_json_first(j, a); x; x = sti_json_next(j, x)) {
        const sti_json_node *name = sti_json_get(j, x, "name"), *mean = sti_json_get(j, x, "mean"),
                            *std = sti_json_get(j, x, "std");
        const char *s = name ? sti_json_string(name) : NULL;
        if (!s || !mean || mean->type != STI_JSON_NUMBER || !std || std->type != STI_JSON_NUMBER || !(std->num > 0) ||
            !isfinite(mean->num) || !isfinite(std->num))
            return sti_fail(STRATA_E_FORMAT, "the metadata has a series without name, mean and deviation");
        f->scale[f->nscale] = (sti_forecast_scale){ sti_strdup(s), mean->num, std->num };
        if (!f->scale[f->nscale++].name) return no_memory();
    }
    if (f->tokens == STI_FORECAST_VARIATE) t->length = f->nscale;
    return STRATA_OK;
}

/* ---- the task ----------------------------------------------------------------------------------------------- */
static int32_t word(const strata_config *c, const char *key, const char *const *words, int32_t n)
{
    int32_t i = 0;
    while (i + 1 < n && !sti_config_is(c, key, words[i])) i++;
    return i;
}

static strata_status create(sti_task *t, const strata_config *c)
{
    static const char *const normalise[] = { "none", "series", "mean", "last", "instance" };
    sti_forecast *f = sti_heap(sizeof *f);
    if (!f) return no_memory();
    t->data = f;
    f->horizon = sti_config_int(c, "forecast.horizon");
    f->lookback = sti_config_int(c, "forecast.lookback");
    f->patch = sti_config_int(c, "forecast.patch");
    f->season = sti_config_int(c, "forecast.season");
    f->tokens = sti_config_is(c, "forecast.tokens", "variate") ? STI_FORECAST_VARIATE : STI_FORECAST_TIME;
    f->normalise = (sti_forecast_normalise)word(c, "forecast.normalise", normalise, (int32_t)STI_COUNT(normalise));
    f->every = sti_config_is(c, "forecast.loss", "all");
    STI_TRY(read_split(f, strata_config_get(c, "forecast.split")));
    f->time = sti_strdup(strata_config_get(c, "forecast.time"));
    f->columns = sti_strdup(strata_config_get(c, "forecast.columns"));
    if (!f->time || !f->columns) return no_memory();
    f->how = (sti_series_how){ .time = f->time,
                               .columns = f->columns,
                               .fill = sti_config_int(c, "forecast.fill") != 0,
                               .header = sti_config_int(c, "forecast.header") != 0 };
    STI_TRY(settle(t, c, f));
    if (f->tokens == STI_FORECAST_VARIATE && !strstr(strata_config_get(c, "model.spec"), "causal=0"))
        sti_log(t->ctx, STRATA_LOG_WARN,
                "forecast.tokens=variate, but no mixer has causal=0: a series sees only those before it");
    return restore(t);
}

static void destroy(sti_task *t)
{
    sti_forecast *f = t->data;
    if (!f) return;
    for (int32_t k = 0; f->series && k < f->panel.count; k++) sti_heap_free(f->series[k].z);
    for (int32_t i = 0; i < f->nscale; i++) sti_heap_free(f->scale[i].name);
    for (int i = 0; i < STI_FORECAST_PARTS; i++) sti_heap_free(f->first[i]);
    sti_heap_free(f->series);
    sti_heap_free(f->scale);
    sti_heap_free(f->time);
    sti_heap_free(f->columns);
    sti_panel_free(&f->panel);
    sti_heap_free(f);
    t->data = NULL;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */
static void report(const sti_task *t, const char *path, const sti_panel *p)
{
    if (p->missing > 0) sti_log(t->ctx, STRATA_LOG_INFO, "%s: %lld values are missing", path, (long long)p->missing);
    if (p->filled > 0)
        sti_log(t->ctx, STRATA_LOG_INFO, "%s: %lld rows of missing values were put in", path, (long long)p->filled);
    else if (p->gaps > 0)
        sti_log(t->ctx, STRATA_LOG_WARN,
                "%s: %lld steps between dates are not the usual one, the first before line %lld; rows are taken as "
                "equally spaced (forecast.fill=1 puts rows in)",
                path, (long long)p->gaps, (long long)p->gap_line);
    if (p->repeated > 0)
        sti_log(t->ctx, STRATA_LOG_WARN, "%s: %lld rows have the date of the row before, the first in line %lld", path,
                (long long)p->repeated, (long long)p->repeated_line);
}

/* The series that are forecast together stand in the order of the training. */
static strata_status arrange(const sti_forecast *f, sti_panel *p)
{
    if (f->tokens != STI_FORECAST_VARIATE) return STRATA_OK;
    if (!p->aligned)
        return sti_fail(STRATA_E_SHAPE, "forecast.tokens=variate needs series that begin and end together");
    if (f->nscale == 0) return STRATA_OK;
    for (int32_t i = 0; i < f->nscale; i++) {
        int32_t at = i;
        while (at < p->count && strcmp(p->series[at].name, f->scale[i].name) != 0) at++;
        if (at >= p->count)
            return sti_fail(STRATA_E_SHAPE, "the model forecasts %d series together, but there is no \"%s\"",
                            (int)f->nscale, f->scale[i].name);
        const sti_series s = p->series[at];
        p->series[at] = p->series[i];
        p->series[i] = s;
    }
    if (p->count == f->nscale) return STRATA_OK;
    return sti_fail(STRATA_E_SHAPE,
                    "the model forecasts %d series together, but there are %d; forecast.columns names them",
                    (int)f->nscale, (int)p->count);
}

strata_status sti_forecast_read(sti_task *t, const char *path)
{
    sti_forecast *f = t->data;
    sti_hash hash;
    uint64_t bytes;
    STI_TRY(sti_panel_load(path, &f->how, &f->panel, &hash, &bytes));
    report(t, path, &f->panel);
    STI_TRY(sti_task_remember(t, path, bytes, hash, 0));
    strata_status st = arrange(f, &f->panel);
    if (st != STRATA_OK) return sti_fail_prefix(st, "%s", path);
    if (f->season == 0) f->season = sti_panel_season(&f->panel);
    f->series = sti_heap((size_t)f->panel.count * sizeof *f->series);
    if (!f->series) return no_memory();
    for (int32_t k = 0; k < f->panel.count; k++) f->series[k].n = f->panel.series[k].n;
    return STRATA_OK;
}

static const sti_forecast_scale *remembered(const sti_forecast *f, const char *name)
{
    for (int32_t i = 0; i < f->nscale; i++)
        if (strcmp(f->scale[i].name, name) == 0) return &f->scale[i];
    return NULL;
}

/* Mean and deviation of the values that are there; a constant has deviation 1. */
static void moments(const double *v, int64_t n, double *mean, double *std)
{
    double sum = 0, square = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        if (!isnan(v[i])) {
            sum += v[i];
            count++;
        }
    *mean = count ? sum / (double)count : 0;
    for (int64_t i = 0; i < n; i++)
        if (!isnan(v[i])) square += (v[i] - *mean) * (v[i] - *mean);
    *std = count ? sqrt(square / (double)count) : 0;
    if (!(*std > 1e-12 * fabs(*mean)) || !isfinite(*std)) *std = 1;
}

strata_status sti_forecast_standardise(sti_forecast *f, int32_t k, int64_t rows)
{
    sti_forecast_series *s = &f->series[k];
    sti_series *from = &f->panel.series[k];
    const sti_forecast_scale *known = remembered(f, from->name);
    s->mean = known ? known->mean : 0;
    s->std = known ? known->std : 1;
    if (!known && f->normalise != STI_NORMALISE_NONE) moments(from->value, rows > 0 ? rows : s->n, &s->mean, &s->std);
    s->z = sti_heap((size_t)s->n * sizeof *s->z);
    if (!s->z) return no_memory();
    for (int64_t i = 0; i < s->n; i++) s->z[i] = (float)((from->value[i] - s->mean) / s->std);
    double sum = 0;
    int64_t count = 0;
    for (int64_t i = f->season; i < rows; i++) {
        const double d = fabs((double)s->z[i] - (double)s->z[i - f->season]);
        if (isnan(d)) continue;
        sum += d;
        count++;
    }
    s->naive = count ? sum / (double)count : 0;
    sti_heap_free(from->value);
    from->value = NULL;
    return STRATA_OK;
}

/* ---- splitting ---------------------------------------------------------------------------------------------- */
/* Rows [0, border[0]) are for training, up to border[1] for validation, up to border[2] for the test. */
static void borders(const sti_forecast *f, int64_t n, int64_t border[3])
{
    switch (f->split) {
    case STI_SPLIT_ETT_H:
    case STI_SPLIT_ETT_M: {
        const int64_t month = f->split == STI_SPLIT_ETT_H ? 30 * 24 : 30 * 96;
        for (int i = 0; i < 3; i++) border[i] = month * (12 + 4 * i);
        break;
    }
    case STI_SPLIT_LAST:
        for (int i = 0; i < 3; i++) border[i] = n - (2 - i) * f->horizon;
        break;
    default:
        border[0] = (int64_t)(f->train * (double)n);
        border[1] = n - (int64_t)(f->test * (double)n);
        border[2] = n;
    }
}

/* Rows to forecast from, all that have their whole horizon before `end`; without `overlap` the lookback too. */
static void origins(const sti_forecast *f, sti_forecast_series *s, sti_forecast_part part, int64_t begin, int64_t end)
{
    const int64_t last = end - f->horizon;
    int64_t first = begin;
    if (part == STI_FORECAST_TRAIN || begin < 1) /* short series: what is there, but not less than half of it */
        first = last >= f->lookback ? f->lookback : STI_MAX((last + 1) / 2, 1);
    s->from[part] = first;
    s->origins[part] = STI_MAX(last - first + 1, 0);
}

static strata_status count_windows(sti_forecast *f)
{
    const size_t n = (size_t)f->panel.count + 1;
    for (int p = 0; p < STI_FORECAST_PARTS; p++) {
        f->first[p] = sti_heap(n * sizeof *f->first[p]);
        if (!f->first[p]) return no_memory();
        for (int32_t k = 0; k < f->panel.count; k++) f->first[p][k + 1] = f->first[p][k] + f->series[k].origins[p];
    }
    return STRATA_OK;
}

static strata_status split(sti_task *t, sti_task_use use, const char *path)
{
    sti_forecast *f = t->data;
    int64_t longest = 0;
    for (int32_t k = 0; k < f->panel.count; k++) {
        sti_forecast_series *s = &f->series[k];
        int64_t b[3] = { 0, 0, s->n };
        longest = STI_MAX(longest, s->n);
        if (use == STI_TASK_TRAIN) {
            borders(f, s->n, b);
            if (b[2] > s->n)
                return sti_fail(STRATA_E_SHAPE, "%s: forecast.split wants %lld rows, but \"%s\" has %lld", path,
                                (long long)b[2], f->panel.series[k].name, (long long)s->n);
            origins(f, s, STI_FORECAST_TRAIN, 0, b[0]);
            origins(f, s, STI_FORECAST_VALIDATION, b[0], b[1]);
        }
        origins(f, s, STI_FORECAST_TEST, b[1], b[2]);
        STI_TRY(sti_forecast_standardise(f, k, use == STI_TASK_TRAIN ? STI_MAX(b[0], 0) : s->n));
    }
    STI_TRY(count_windows(f));
    for (int p = use == STI_TASK_TRAIN ? 0 : STI_FORECAST_TEST; p < STI_FORECAST_PARTS; p++) {
        static const char *const names[] = { "training", "validation", "test" };
        if (sti_forecast_sequences(f, (sti_forecast_part)p) == 0)
            return sti_fail(STRATA_E_SHAPE, "%s: no window of forecast.horizon=%lld fits into the %s part (%lld rows)",
                            path, (long long)f->horizon, names[p], (long long)longest);
    }
    return STRATA_OK;
}

static strata_status load(sti_task *t, sti_task_use use, const char *const *path, int32_t npath, int64_t time)
{
    sti_forecast *f = t->data;
    if (npath != 1) return sti_fail(STRATA_E_INVALID, "forecasting reads one file, but %d were given", (int)npath);
    if (f->tokens == STI_FORECAST_TIME && time != t->length)
        return sti_fail(STRATA_E_SPEC, "context=%lld, but forecast.lookback and forecast.patch make %lld positions",
                        (long long)time, (long long)t->length);
    f->part = use == STI_TASK_EVAL || t->test ? STI_FORECAST_TEST : STI_FORECAST_VALIDATION;
    STI_TRY(sti_forecast_read(t, path[0]));
    STI_TRY(split(t, use, path[0]));
    if (f->tokens == STI_FORECAST_VARIATE) t->length = f->panel.count;
    return STRATA_OK;
}

/* ---- batches ------------------------------------------------------------------------------------------------ */
static void values(const sti_task *t, uint64_t seed, int64_t index, int64_t nbatch, int64_t time, float *x, float *y)
{
    const sti_forecast *f = t->data;
    const uint64_t n = (uint64_t)sti_forecast_sequences(f, STI_FORECAST_TRAIN);
    for (int64_t b = 0; b < nbatch; b++) {
        const uint64_t draw = (uint64_t)index * (uint64_t)nbatch + (uint64_t)b;
        sti_forecast_sequence(f, STI_FORECAST_TRAIN, (int64_t)sti_below(seed, STREAM, draw, n),
                              x + b * time * t->inputs, y + b * time * t->outputs);
    }
}

static int64_t eval_windows(const sti_task *t, int64_t time)
{
    const sti_forecast *f = t->data;
    (void)time; /* as t->length says */
    return sti_forecast_sequences(f, f->part);
}

static void eval_values(const sti_task *t, int64_t window, int64_t time, float *x, float *y)
{
    (void)time;
    const sti_forecast *f = t->data;
    sti_forecast_sequence(f, f->part, window, x, y);
}

static int64_t eval_sample(const sti_task *t, int64_t budget, int64_t i)
{
    const sti_forecast *f = t->data;
    return sti_forecast_sample(f, f->part, budget, i);
}

const sti_task_class sti_task_class_forecast = {
    .kind = "forecast",
    .summary = "forecasting of time series in tables (CSV) and .tsf files",
    .unit = "number",
    .keys = STI_KEYS(keys),
    .create = create,
    .destroy = destroy,
    .load = load,
    .values = values,
    .eval_windows = eval_windows,
    .eval_values = eval_values,
    .eval_sample = eval_sample,
    .save = save,
    .score_create = sti_forecast_score_create,
    .score_answer = sti_forecast_score_answer,
    .score_measure = sti_forecast_score_measure,
    .score_destroy = sti_forecast_score_destroy,
};
