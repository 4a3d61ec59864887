/* Windows, splits and measures of the forecasting task against the series themselves; the naive forecasts on public
 * data against their known errors. */

#include <math.h>

#include <strata/forecast.h>

#include "core/philox.h"
#include "task/forecast/forecast.h"
#include "training/training.h"

/* A table of `rows` hours and `series` columns a, b, …; value(row, column), NaN: missing. */
static const char *table(const char *name, int64_t rows, int series, double value(int64_t row, int series))
{
    const char *path = test_path(name);
    FILE *f = fopen(path, "w");
    if (!f) FAIL("cannot write %s", path);
    fprintf(f, "date");
    for (int k = 0; k < series; k++) fprintf(f, ",%c", 'a' + k);
    for (int64_t i = 0; i < rows; i++) {
        const sti_date_form form = { .order = STI_DATE_YMD, .between = '-', .clock = ' ' };
        char date[STI_DATE_TEXT];
        fprintf(f, "\n%s", sti_date_write(i * 3600, &form, date));
        for (int k = 0; k < series; k++) {
            const double v = value(i, k);
            if (isnan(v))
                fprintf(f, ",");
            else
                fprintf(f, ",%.9g", v);
        }
    }
    fclose(f);
    return path;
}

static double noise(int64_t row, int series)
{
    return 3 * series + (1 + series) * sti_normal(5, (uint64_t)series, (uint64_t)row);
}

static double holes(int64_t row, int series)
{
    return sti_below(6, (uint64_t)series, (uint64_t)row, 4) == 0 ? (double)NAN : noise(row, series);
}

static double ramp(int64_t row, int series)
{
    return (double)row * (series + 1);
}

static double days(int64_t row, int series)
{
    return (double)((row * (3 + series)) % 24);
}

static strata_config *config(const strata_context *ctx, const char *model, const char *const *pair)
{
    strata_config *c = NULL;
    CHECK_OK(strata_config_create(ctx, "forecast", &c));
    CHECK_OK(strata_config_set(c, "model.spec", model, "test"));
    CHECK_OK(strata_config_set(c, "train.batch", "8", "test"));
    for (; pair && *pair; pair += 2) CHECK_OK(strata_config_set(c, pair[0], pair[1], "test"));
    return c;
}

static strata_status load(const strata_context *ctx, const char *model, const char *const *pair, const char *path,
                          sti_task_use use, sti_task *t)
{
    strata_config *c = config(ctx, model, pair);
    strata_status st = sti_task_create(ctx, c, t);
    strata_config_destroy(c);
    if (st == STRATA_OK) st = t->cls->load(t, use, &path, 1, t->length);
    if (st != STRATA_OK) sti_task_destroy(t);
    return st;
}

/* Trains into "run" (where that is possible) and evaluates on the test part, or on `other`. */
static strata_eval_result run(const char *model, const char *const *pair, const char *path, const char *other)
{
    strata_context *ctx = test_context();
    strata_config *c = config(ctx, model, pair);
    strata_eval_result r = { .size = STRATA_INIT(strata_eval_result) };
    if (test_exists(test_path("run"))) test_remove(test_path("run"));
    CHECK_OK(strata_train(ctx, c, &path, 1, test_path("run"), NULL, NULL));
    CHECK_OK(strata_evaluate(ctx, test_path("run"), 0, other ? &other : NULL, other ? 1 : 0, &r));
    strata_config_destroy(c);
    strata_context_destroy(ctx);
    return r;
}

static double measure(const strata_eval_result *r, const char *name)
{
    for (int32_t i = 0; i < strata_measures_count(r->measures); i++) {
        strata_measure m;
        CHECK_OK(strata_measures_at(r->measures, i, &m));
        if (strcmp(m.name, name) == 0) return m.value[0];
    }
    FAIL("no measure %s", name);
}

static void near(const char *what, double x, double want, double tolerance)
{
    if (!(fabs(x - want) <= tolerance * (fabs(want) + 1e-3))) FAIL("%s is %.9g, not %.9g", what, x, want);
}

/* ---- splits and windows ------------------------------------------------------------------------------------- */
static void ett_borders(void)
{
    strata_context *ctx = test_context();
    const char *path = table("hours.csv", 14500, 2, noise);
    sti_task t;
    CHECK_OK(load(ctx, "linear", PAIRS("forecast.split", "ett-h", "forecast.normalise", "series"), path, STI_TASK_TRAIN,
                  &t));
    const sti_forecast *f = t.data;
    for (int32_t k = 0; k < 2; k++) {
        const sti_forecast_series *s = &f->series[k];
        CHECK_INT(s->from[0], 336);
        CHECK_INT(s->origins[0], 8640 - 336 - 96 + 1);
        CHECK_INT(s->from[1], 8640);
        CHECK_INT(s->origins[1], 2880 - 96 + 1);
        CHECK_INT(s->from[2], 8640 + 2880);
        CHECK_INT(s->origins[2], 2880 - 96 + 1);
        double sum = 0, square = 0; /* of the training part alone */
        for (int64_t i = 0; i < 8640; i++) sum += noise(i, k);
        for (int64_t i = 0; i < 8640; i++) square += pow(noise(i, k) - sum / 8640, 2);
        near("mean", s->mean, sum / 8640, 1e-7);
        near("deviation", s->std, sqrt(square / 8640), 1e-7);
    }
    /* the first and the last sequence of each part */
    float x[336], y[96];
    for (int p = 0; p < 3; p++) {
        const int64_t n = sti_forecast_sequences(f, (sti_forecast_part)p);
        CHECK_INT(n, 2 * f->series[0].origins[p]);
        for (int end = 0; end < 2; end++) {
            const sti_forecast_series *s = &f->series[end];
            const int64_t t0 = end ? s->from[p] + s->origins[p] - 1 : s->from[p];
            sti_forecast_sequence(f, (sti_forecast_part)p, end ? n - 1 : 0, x, y);
            for (int64_t i = 0; i < 336; i++)
                near("x", (double)x[i], (noise(t0 - 336 + i, end) - s->mean) / s->std, 1e-5);
            for (int64_t h = 0; h < 96; h++) near("y", (double)y[h], (noise(t0 + h, end) - s->mean) / s->std, 1e-5);
        }
    }
    sti_task_destroy(&t);
    strata_context_destroy(ctx);
    test_clean();
}

/* Patches: every position is trained on what follows it; evaluation scores the last one. */
static void patches(void)
{
    strata_context *ctx = test_context();
    const char *path = table("t.csv", 400, 1, noise);
    sti_task t;
    CHECK_OK(load(
        ctx, "decoder layers=1 width=8",
        PAIRS("forecast.lookback", "12", "forecast.patch", "4", "forecast.horizon", "5", "forecast.normalise", "none"),
        path, STI_TASK_TRAIN, &t));
    CHECK_INT(t.length, 3);
    CHECK_INT(t.inputs, 4);
    CHECK_INT(t.outputs, 5);
    const sti_forecast *f = t.data;
    float x[12], y[15];
    sti_forecast_sequence(f, STI_FORECAST_TRAIN, 7, x, y); /* origin 12 + 7 */
    for (int i = 0; i < 12; i++) near("x", (double)x[i], noise(7 + i, 0), 1e-6);
    for (int p = 0; p < 3; p++)
        for (int h = 0; h < 5; h++) near("y", (double)y[p * 5 + h], noise(7 + 4 * (p + 1) + h, 0), 1e-6);
    sti_forecast_sequence(f, STI_FORECAST_VALIDATION, 7, x, y); /* origin 280 + 7 */
    for (int i = 0; i < 10; i++) CHECK(isnan(y[i]));
    for (int h = 0; h < 5; h++) near("y", (double)y[10 + h], noise(287 + h, 0), 1e-6);

    /* batches are functions of seed and index, and lie inside the training part */
    float bx[8 * 12], by[8 * 15], cx[8 * 12], cy[8 * 15];
    t.cls->values(&t, 3, 5, 8, 3, bx, by);
    t.cls->values(&t, 3, 5, 8, 3, cx, cy);
    CHECK(memcmp(bx, cx, sizeof bx) == 0 && memcmp(by, cy, sizeof by) == 0);
    t.cls->values(&t, 3, 6, 8, 3, cx, cy);
    CHECK(memcmp(bx, cx, sizeof bx) != 0);
    sti_task_destroy(&t);
    strata_context_destroy(ctx);
    test_clean();
}

/* Short evaluations see the same origins whatever a model makes of a window, and not always the same hour. */
static void samples(void)
{
    enum { EACH = 40, HORIZON = 24, SERIES = 2 };
    strata_context *ctx = test_context();
    const char *path = table("hours.csv", 3000, SERIES, noise);
    int64_t origin[3][SERIES][EACH] = { { { 0 } } };
    int32_t k;
    static const char *const forms[] = { "time", "time", "variate" };
    static const char *const models[] = { "linear", "decoder layers=1 width=8", "decoder layers=1 width=8" };
    for (int form = 0; form < 3; form++) {
        sti_task t;
        CHECK_OK(load(ctx, models[form],
                      PAIRS("forecast.lookback", "48", "forecast.patch", "12", "forecast.horizon", "24",
                            "forecast.tokens", forms[form]),
                      path, STI_TASK_TRAIN, &t));
        const sti_forecast *f = t.data;
        const int64_t n = t.cls->eval_sample(&t, (int64_t)EACH * HORIZON * SERIES, -1);
        CHECK_INT(n, form == 2 ? EACH : EACH * SERIES);
        for (int64_t i = 0; i < n; i++) {
            int64_t at;
            sti_forecast_locate(f, f->part, t.cls->eval_sample(&t, (int64_t)EACH * HORIZON * SERIES, i), &k, &at);
            CHECK_INT(k, i / EACH);
            origin[form][k][i % EACH] = at;
        }
        const int64_t from = f->series[0].from[f->part], all = f->series[0].origins[f->part];
        for (int64_t i = 0; i < EACH; i++) { /* one of each equal part */
            const int64_t at = origin[form][0][i] - from;
            CHECK(at >= i * all / EACH && at < (i + 1) * all / EACH);
        }
        CHECK_INT(t.cls->eval_sample(&t, INT64_MAX / 8, -1), sti_forecast_sequences(f, f->part));
        CHECK_INT(t.cls->eval_sample(&t, 1, -1), form == 2 ? 1 : SERIES);
        sti_task_destroy(&t);
    }
    CHECK(memcmp(origin[0], origin[1], sizeof origin[0]) == 0);
    CHECK(memcmp(origin[0][0], origin[0][1], sizeof origin[0][0]) == 0);
    CHECK(memcmp(origin[0][0], origin[2][0], sizeof origin[0][0]) == 0);
    bool hour[24] = { false };
    int hours = 0;
    for (int i = 0; i < EACH; i++) hour[origin[0][0][i] % 24] = true;
    for (int h = 0; h < 24; h++) hours += hour[h];
    CHECK(hours >= 12); /* 40 even draws miss more than half with a chance below 1e-6 */
    strata_context_destroy(ctx);
    test_clean();
}

/* Each window by its own statistics, missing values continued. */
static void normalised(void)
{
    strata_context *ctx = test_context();
    const char *path = table("t.csv", 300, 2, holes);
    static const char *const how[] = { "mean", "last", "instance" };
    for (int n = 0; n < 3; n++) {
        sti_task t;
        CHECK_OK(load(ctx, "linear",
                      PAIRS("forecast.lookback", "20", "forecast.horizon", "6", "forecast.normalise", how[n]), path,
                      STI_TASK_TRAIN, &t));
        const sti_forecast *f = t.data;
        float x[20], y[6];
        int missing = 0;
        for (int64_t i = 0; i < sti_forecast_sequences(f, STI_FORECAST_TEST); i += 3) {
            int32_t k;
            int64_t origin;
            double sum = 0, square = 0, last = 0;
            int count = 0;
            sti_forecast_locate(f, STI_FORECAST_TEST, i, &k, &origin);
            sti_forecast_sequence(f, STI_FORECAST_TEST, i, x, y);
            const sti_forecast_series *s = &f->series[k];
            for (int64_t j = origin - 20; j < origin; j++) {
                const double z = (holes(j, k) - s->mean) / s->std;
                if (isnan(z)) continue;
                sum += z;
                square += z * z;
                last = z;
                count++;
            }
            const double mean = sum / count, shift = n == 1 ? last : mean;
            const double scale = n == 2 ? sqrt(square / count - mean * mean + 0.01) : 1;
            double before = 0;
            for (int j = 0; j < 20; j++) {
                const double z = (holes(origin - 20 + j, k) - s->mean) / s->std;
                if (!isnan(z)) before = (z - shift) / scale;
                near("x", (double)x[j], before, 1e-4);
            }
            for (int h = 0; h < 6; h++) {
                const double z = (holes(origin + h, k) - s->mean) / s->std;
                CHECK(isnan(z) == isnan(y[h]));
                missing += isnan(z);
                if (!isnan(z)) near("y", (double)y[h], (z - shift) / scale, 1e-4);
            }
        }
        CHECK(missing > 0);
        sti_task_destroy(&t);
    }
    strata_context_destroy(ctx);
    test_clean();
}

/* ---- measures ----------------------------------------------------------------------------------------------- */
/* The forecasts of a ramp and of equal days are known. */
static void closed_forms(void)
{
    const char *const *how = PAIRS("forecast.lookback", "48", "forecast.horizon", "10");
    strata_eval_result r = run("repeat-last", how, table("ramp.csv", 1000, 2, ramp), NULL);
    /* slope 1 over the deviation of 0 … 699; the mean of h^2, h = 1 … 10, is 38.5, that of h 5.5 */
    const double std = sqrt((700.0 * 700 - 1) / 12);
    near("mse", measure(&r, "mse"), 38.5 / (std * std), 1e-4);
    near("mae", measure(&r, "mae"), 5.5 / std, 1e-4);
    near("mase", measure(&r, "mase"), 5.5 / 24, 1e-4); /* a season ago is 24 lower */
    near("mse_repeat_last", measure(&r, "mse_repeat_last"), 38.5 / (std * std), 1e-4);
    CHECK_INT(r.tokens, 2 * 191 * 10);
    strata_measures_destroy(r.measures);

    r = run("seasonal-naive period=24", how, table("days.csv", 1000, 3, days), NULL);
    CHECK(measure(&r, "mse") < 1e-12 && measure(&r, "mse_seasonal_naive") < 1e-12);
    CHECK(measure(&r, "mse_repeat_last") > 0.1);
    strata_measures_destroy(r.measures);
    test_clean();
}

/* The seasonal naive forecast of series with holes, written out. */
static void written_out(void)
{
    enum { N = 500, TRAIN = 350, TEST = 400, H = 7, P = 5 };
    const char *path = table("holes.csv", N, 2, holes);
    strata_eval_result r = run("seasonal-naive period=5",
                               PAIRS("forecast.lookback", "40", "forecast.horizon", "7", "forecast.season", "5",
                                     "forecast.split", "0.7,0.1,0.2"),
                               path, NULL);
    double square = 0, absolute = 0, mase = 0;
    int64_t count = 0;
    for (int k = 0; k < 2; k++) {
        double sum = 0, dev = 0, naive = 0, mine = 0;
        int64_t n = 0, pairs = 0, scored = 0;
        for (int i = 0; i < TRAIN; i++)
            if (!isnan(holes(i, k))) sum += holes(i, k), n++;
        const double mean = sum / (double)n;
        for (int i = 0; i < TRAIN; i++)
            if (!isnan(holes(i, k))) dev += pow(holes(i, k) - mean, 2);
        const double std = sqrt(dev / (double)n);
        for (int i = P; i < TRAIN; i++)
            if (!isnan(holes(i, k)) && !isnan(holes(i - P, k))) naive += fabs(holes(i, k) - holes(i - P, k)), pairs++;
        for (int t = TEST; t <= N - H; t++)
            for (int h = 0; h < H; h++) {
                const double truth = holes(t + h, k);
                double guess = (double)NAN;
                /* the same time of the last season, or what was there before it; the mean of the window before all */
                for (int i = t - P + h % P; isnan(guess) && i >= t - 40; i--) guess = holes(i, k);
                if (isnan(truth)) continue;
                CHECK(!isnan(guess));
                square += pow((truth - guess) / std, 2);
                absolute += fabs(truth - guess) / std;
                mine += fabs(truth - guess);
                scored++;
            }
        count += scored;
        mase += mine / (double)scored / (naive / (double)pairs) / 2;
    }
    CHECK_INT(r.tokens, count);
    near("mse", measure(&r, "mse"), square / (double)count, 1e-5);
    near("mae", measure(&r, "mae"), absolute / (double)count, 1e-5);
    near("mase", measure(&r, "mase"), mase, 1e-5);
    strata_measures_destroy(r.measures);
    test_clean();
}

/* x_t = 0.8 x_{t-1} + e: no forecast of the next value is better than the deviation of e, and a linear map reaches it.
 */
static double autoregressive(int64_t row, int series)
{
    static double x[2][4000];
    for (int64_t i = 1; row == 1 && i < 4000; i++)
        x[series][i] = 0.8 * x[series][i - 1] + sti_normal(8, (uint64_t)series, (uint64_t)i);
    return x[series][row];
}

static void learns(void)
{
    const char *path = table("ar.csv", 4000, 2, autoregressive);
    static const char *const models[] = { "linear", "dlinear kernel=3",
                                          "decoder layers=1 width=16 mixers=softmax(heads=2)" };
    static const char *const rates[] = { "6e-3", "6e-3", "3e-4" };
    for (int i = 0; i < 3; i++) {
        strata_eval_result r = run(models[i],
                                   PAIRS("forecast.lookback", "8", "forecast.patch", "2", "forecast.horizon", "1",
                                         "forecast.normalise", "series", "train.steps", "300", "train.lr", rates[i],
                                         "train.batch", "64", "train.warmup", "10", "train.eval_tokens", "400"),
                                   path, NULL);
        const double noise_floor = 1 - 0.8 * 0.8; /* in units of the deviation of x */
        if (!(measure(&r, "mse") < 1.15 * noise_floor && measure(&r, "mse") > 0.85 * noise_floor))
            FAIL("%s: mse %g, but the noise is %g", models[i], measure(&r, "mse"), noise_floor);
        CHECK(measure(&r, "mse_repeat_last") > 1.05 * noise_floor);
        strata_measures_destroy(r.measures);
    }
    test_clean();
}

/* Two series of which one tells the other's next values: only a model that reads both can know. */
static double leader(int64_t row, int series)
{
    return sti_normal(9, 0, (uint64_t)(series ? row - 4 : row) + 4); /* b is a, four rows later */
}

static void variates(void)
{
    const char *path = table("lead.csv", 1500, 2, leader);
    const char *const *how = PAIRS("forecast.tokens", "variate", "forecast.lookback", "8", "forecast.horizon", "4",
                                   "forecast.normalise", "series", "train.steps", "500", "train.lr", "3e-3",
                                   "train.batch", "32", "train.warmup", "10", "train.eval_every", "0");
    const char *model = "decoder layers=1 width=32 mixers=softmax(heads=2 causal=0)";
    strata_eval_result r = run(model, how, path, NULL);
    /* a is noise of variance 1, b is known: without a look at a, b would be noise as well */
    if (!(measure(&r, "mse") < 0.8)) FAIL("mse %g of 1 without the other series", measure(&r, "mse"));
    const double mse = measure(&r, "mse");
    strata_measures_destroy(r.measures);

    /* the same table with its columns the other way round, and with others between them */
    strata_context *ctx = test_context();
    const char *turned = test_path("turned.csv");
    FILE *f = fopen(turned, "w");
    if (!f) FAIL("cannot write %s", turned);
    fprintf(f, "b,a\n");
    for (int64_t i = 0; i < 400; i++) fprintf(f, "%.9g,%.9g\n", leader(i, 1), leader(i, 0));
    fclose(f);
    r = (strata_eval_result){ .size = STRATA_INIT(strata_eval_result) };
    CHECK_OK(strata_evaluate(ctx, test_path("run"), 0, &turned, 1, &r));
    CHECK(measure(&r, "mse") < 1.3 * mse);
    strata_measures_destroy(r.measures);
    f = fopen(turned, "w");
    if (!f) FAIL("cannot write %s", turned);
    fprintf(f, "date,a,c\n2020-01-01,1,2\n");
    fclose(f);
    CHECK_STATUS(strata_evaluate(ctx, test_path("run"), 0, &turned, 1, &r), STRATA_E_SHAPE);
    CHECK_ERROR_TEXT("the model forecasts 2 series together, but there is no \"b\"");
    strata_context_destroy(ctx);
    test_clean();
}

/* Another file is measured in units of the training data. */
static double doubled(int64_t row, int series)
{
    return 2 * ramp(row, series);
}

static void other_data(void)
{
    const char *const *how = PAIRS("forecast.lookback", "48", "forecast.horizon", "10");
    strata_eval_result r = run("repeat-last", how, table("ramp.csv", 1000, 2, ramp), table("two.csv", 300, 2, doubled));
    const double std = sqrt((700.0 * 700 - 1) / 12);
    near("mse", measure(&r, "mse"), 4 * 38.5 / (std * std), 1e-4);
    CHECK_INT(r.tokens, 2 * (300 - 48 - 10 + 1) * 10);
    strata_measures_destroy(r.measures);
    test_clean();
}

/* ---- .tsf: short series of different lengths ------------------------------------------------------------------ */
static void short_series(void)
{
    const char *path = test_path("short.tsf");
    FILE *f = fopen(path, "w");
    if (!f) FAIL("cannot write %s", path);
    fprintf(f, "@attribute series_name string\n@attribute start_timestamp date\n@frequency monthly\n@data\n");
    for (int k = 0; k < 5; k++) {
        fprintf(f, "T%d:2000-01-01:", k);
        for (int i = 0; i < 20 + 10 * k; i++) fprintf(f, "%s%d", i ? "," : "", i);
        fprintf(f, "\n");
    }
    fclose(f);
    strata_eval_result r = run(
        "repeat-last", PAIRS("forecast.lookback", "24", "forecast.horizon", "6", "forecast.split", "last"), path, NULL);
    CHECK_INT(r.tokens, 5 * 6); /* the last six values of each */
    near("mase", measure(&r, "mase"), 3.5 / 12, 0.2);
    strata_measures_destroy(r.measures);
    test_clean();
}

/* ---- forecasts of new data -------------------------------------------------------------------------------------- */
static strata_forecast *predict(const char *data, int64_t horizon, int64_t back)
{
    strata_context *ctx = test_context();
    strata_forecast *p = NULL;
    const strata_forecast_config how = { .size = sizeof how, .horizon = horizon, .back = back };
    CHECK_OK(strata_forecast_create(ctx, test_path("run"), data, &how, &p));
    strata_context_destroy(ctx);
    return p;
}

static double later_days(int64_t row, int series)
{
    return isnan(holes(row, series)) && row < 60 ? (double)NAN : 100 + 7 * days(row, series);
}

/* Days that repeat are continued for ever, in the units and dates of the file. */
static void continues(void)
{
    strata_eval_result r = run("seasonal-naive period=24", PAIRS("forecast.lookback", "48", "forecast.horizon", "10"),
                               table("days.csv", 1000, 2, days), NULL);
    strata_measures_destroy(r.measures);
    const char *path = table("later.csv", 120, 2, later_days);
    for (int64_t back = 0; back <= 35; back += 35) {
        strata_forecast *p = predict(path, back ? 0 : 57, back);
        strata_forecast_series s;
        char date[40];
        CHECK_INT(strata_forecast_count(p), 2);
        CHECK_INT(strata_forecast_horizon(p), back ? 10 : 57); /* five forecasts of ten and one of seven */
        CHECK(strata_forecast_aligned(p));
        for (int k = 0; k < 2; k++) {
            CHECK_OK(strata_forecast_at(p, k, &s));
            CHECK(s.name[0] == 'a' + k && s.name[1] == 0);
            CHECK_INT(s.rows, 120 - back);
            for (int64_t i = 0; i < s.rows; i++)
                CHECK(isnan(later_days(i, k)) ? isnan(s.history[i]) : fabs(s.history[i] - later_days(i, k)) < 1e-4);
            for (int64_t h = 0; h < strata_forecast_horizon(p); h++) {
                near("forecast", s.value[h], 100 + 7 * days(120 - back + h, k), 1e-5);
                if (back)
                    near("truth", s.truth[h], later_days(120 - back + h, k), 1e-5);
                else
                    CHECK(isnan(s.truth[h]));
            }
        }
        CHECK_STR(strata_forecast_date(p, 1, 120, date, sizeof date), "1970-01-06 00:00");
        CHECK_STR(strata_forecast_date(p, 1, 120, date, 5), "1970");
        CHECK_STR(strata_forecast_date_name(p), "date");
        CHECK_STATUS(strata_forecast_at(p, 2, &s), STRATA_E_INVALID);
        strata_forecast_destroy(p);
    }

    strata_context *ctx = test_context();
    strata_forecast *p = NULL;
    CHECK_STATUS(
        strata_forecast_create(ctx, test_path("run"), path,
                               &(strata_forecast_config){ .size = sizeof(strata_forecast_config), .back = 120 }, &p),
        STRATA_E_SHAPE);
    CHECK_ERROR_TEXT("series \"a\" has 120 rows: none is left before the last 120");
    CHECK_STATUS(strata_forecast_create(ctx, test_path("run"), test_path("none.csv"), NULL, &p), STRATA_E_IO);
    CHECK_STATUS(strata_forecast_create(ctx, NULL, path, NULL, &p), STRATA_E_INVALID);
    CHECK(!p && strata_forecast_count(p) == 0 && strata_forecast_horizon(p) == 0);
    strata_context_destroy(ctx);
    test_clean();
}

/* Series of the .tsf file each go on from their own end; a run of another task does not forecast. */
static void continues_tsf(void)
{
    strata_eval_result r = run("repeat-last", PAIRS("forecast.lookback", "6", "forecast.horizon", "3"),
                               table("ramp.csv", 100, 1, ramp), NULL);
    strata_measures_destroy(r.measures);
    const char *path = test_path("two.tsf"),
               *text = "@attribute series_name string\n@attribute start_timestamp date\n@frequency monthly\n@data\n"
                       "x:2000-01-31:1,2,3,?\ny:2001-02-28:7\n";
    test_put(path, text, strlen(text));
    strata_forecast *p = predict(path, 0, 0);
    strata_forecast_series s;
    char date[40];
    CHECK(strata_forecast_count(p) == 2 && !strata_forecast_aligned(p));
    CHECK_OK(strata_forecast_at(p, 0, &s));
    near("x", s.value[2], 3, 1e-6);
    CHECK_STR(strata_forecast_date(p, 0, s.rows, date, sizeof date), "2000-05-31");
    CHECK_OK(strata_forecast_at(p, 1, &s));
    near("y", s.value[0], 7, 1e-6);
    strata_forecast_destroy(p);

    strata_context *ctx = test_context();
    strata_config *c = test_config(ctx, PAIRS("train.steps", "1"));
    const char *words = test_text("text", 2000);
    CHECK_OK(strata_train(ctx, c, &words, 1, test_path("words"), NULL, NULL));
    CHECK_STATUS(strata_forecast_create(ctx, test_path("words"), path, NULL, &p), STRATA_E_INVALID);
    CHECK_ERROR_TEXT("the model is of the task text, not of forecast");
    strata_config_destroy(c);
    strata_context_destroy(ctx);
    test_clean();
}

/* ---- what is refused -------------------------------------------------------------------------------------------- */
static void refusals(void)
{
    strata_context *ctx = test_context();
    const char *path = table("t.csv", 100, 2, noise), *both[] = { path, path };
    static const struct {
        const char *key, *value, *text;
        int status;
    } bad[] = {
        { "forecast.patch", "11", "forecast.lookback=336 is no multiple of forecast.patch=11", STRATA_E_SPEC },
        { "forecast.split", "0.5,0.5", "\"0.5,0.5\" is none of", STRATA_E_SPEC },
        { "forecast.split", "0.5,0.5,0.5", "three shares", STRATA_E_SPEC },
        { "forecast.split", "ett", "\"ett\" is none of", STRATA_E_SPEC },
        { "forecast.split", "ett-h", "forecast.split wants 14400 rows, but \"a\" has 100", STRATA_E_SHAPE },
        { "forecast.horizon", "50", "no window of forecast.horizon=50 fits into the validation part", STRATA_E_SHAPE },
        { "forecast.horizon", "96", "fits into the training part (100 rows)", STRATA_E_SHAPE },
        { "forecast.columns", "a,x", "no column is called \"x\"", STRATA_E_FORMAT },
    };
    sti_task t;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_STATUS(load(ctx, "decoder layers=1 width=8", PAIRS(bad[i].key, bad[i].value), path, STI_TASK_TRAIN, &t),
                     bad[i].status);
        CHECK_ERROR_TEXT(bad[i].text);
    }
    strata_config *c = config(ctx, "decoder layers=1 width=8 context=7", NULL);
    CHECK_STATUS(strata_train(ctx, c, &path, 1, test_path("x"), NULL, NULL), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("context=7, but forecast.lookback and forecast.patch make 21 positions");
    strata_config_destroy(c);
    c = config(ctx, "seasonal-naive period=400", NULL);
    CHECK_STATUS(strata_train_check(ctx, c), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("a period of 400, but there are 336 numbers to repeat");
    strata_config_destroy(c);
    c = config(ctx, "seasonal-naive", NULL);
    CHECK_STATUS(strata_train_check(ctx, c), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("period");
    strata_config_destroy(c);
    c = config(ctx, "linear", NULL);
    CHECK_OK(strata_train_check(ctx, c));
    CHECK_STATUS(strata_train(ctx, c, both, 2, test_path("x"), NULL, NULL), STRATA_E_INVALID);
    strata_config_destroy(c);
    strata_context_destroy(ctx);
    test_clean();
}

static char logged[512];

static void log_line(void *user, int32_t level, const char *text)
{
    (void)user;
    (void)level;
    snprintf(logged, sizeof logged, "%s", text);
}

/* What is odd but not wrong. */
static void warnings(void)
{
    strata_context *ctx = NULL;
    const strata_context_config cfg = { .size = STRATA_INIT(strata_context_config), .log = log_line };
    const char *path = test_path("gaps.csv"), *text = "date,x\n2020-01-01,1\n2020-01-02,2\n2020-01-05,3\n2020-01-05,4\n"
                                                      "2020-01-06,5\n2020-01-07,6\n2020-01-08,7\n2020-01-09,8\n";
    sti_task t;
    CHECK_OK(strata_context_create("threads=1", &cfg, &ctx));
    test_put(path, text, strlen(text));
    CHECK_OK(load(ctx, "linear", PAIRS("forecast.lookback", "2", "forecast.horizon", "1", "forecast.split", "last"),
                  path, STI_TASK_TRAIN, &t));
    CHECK(strstr(logged, "gaps.csv: 1 rows have the date of the row before, the first in line 5"));
    sti_task_destroy(&t);
    strata_config *c = config(ctx, "decoder layers=1 width=8", PAIRS("forecast.tokens", "variate"));
    CHECK_OK(sti_task_create(ctx, c, &t));
    CHECK(strstr(logged, "no mixer has causal=0"));
    sti_task_destroy(&t);
    strata_config_destroy(c);
    strata_context_destroy(ctx);
    test_clean();
}

/* ---- public data --------------------------------------------------------------------------------------------------
 */
static void public_data(void)
{
    static const struct {
        const char *file, *split, *period;
        double last, seasonal;
    } known[] = {
        { "ETTh1.csv.zst", "ett-h", "seasonal-naive period=24", 1.294, 0.512 },
        { "ETTm1.csv.zst", "ett-m", "seasonal-naive period=96", 1.214, 0.423 },
    };
    const char *root = getenv("STRATA_DATA");
    char path[2][1024];
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/timeseries/ett/%s", root && *root ? root : "data", known[i].file);
        if (!test_exists(path[i])) SKIP("no data: %s", known[i].file);
    }
    if (!STRATA_HAVE_ZSTD) SKIP("%s is zstd-compressed and this build has no zstd", path[0]);
    for (int i = 0; i < 2; i++) {
        strata_eval_result r = run(
            known[i].period, PAIRS("forecast.split", known[i].split, "train.batch", "256", "train.eval_tokens", "256"),
            path[i], NULL);
        near("repeat-last", measure(&r, "mse_repeat_last"), known[i].last, 0.001);
        near("seasonal naive", measure(&r, "mse"), known[i].seasonal, 0.001);
        strata_measures_destroy(r.measures);
    }
    test_clean();
}

TESTS(T(ett_borders), T(patches), T(samples), T(normalised), T(closed_forms), T(written_out), T(learns), T(variates),
      T(other_data), T(short_series), T(continues), T(continues_tsf), T(refusals), T(warnings), T(public_data))
