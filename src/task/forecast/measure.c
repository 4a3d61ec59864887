/* What forecasts are worth, in units of the training part's deviation. */

#include <math.h>

#include "task/forecast/forecast.h"

typedef struct sums {
    double square, absolute;
    double last, seasonal; /* squared errors of the two naive forecasts, of the values that both can tell */
    int64_t count, naive;
} sums;

typedef struct score {
    sums *series;   /* of each series */
    double *step;   /* squared error at each step ahead, */
    int64_t *steps; /* and how many */
} score;

void sti_forecast_score_destroy(void *p)
{
    score *s = p;
    if (!s) return;
    sti_heap_free(s->series);
    sti_heap_free(s->step);
    sti_heap_free(s->steps);
    sti_heap_free(s);
}

strata_status sti_forecast_score_create(const sti_task *t, int64_t time, void **out)
{
    const sti_forecast *f = t->data;
    if (time != t->length)
        return sti_fail(STRATA_E_SHAPE, "the model has %lld positions, but the data make %lld", (long long)time,
                        (long long)t->length);
    score *s = sti_heap(sizeof *s);
    if (s) {
        s->series = sti_heap((size_t)f->panel.count * sizeof *s->series);
        s->step = sti_heap((size_t)f->horizon * sizeof *s->step);
        s->steps = sti_heap((size_t)f->horizon * sizeof *s->steps);
    }
    if (!s || !s->series || !s->step || !s->steps) {
        sti_forecast_score_destroy(s);
        return sti_fail(STRATA_E_MEMORY, "out of memory");
    }
    *out = s;
    return STRATA_OK;
}

/* The last value before row t that is there; NaN: none. */
static double last_value(const sti_forecast_series *s, int64_t t)
{
    while (t > 0 && isnan(s->z[t - 1])) t--;
    return t > 0 ? (double)s->z[t - 1] : (double)NAN;
}

/* One forecast of series k, y, from row t. */
static void add(const sti_forecast *f, score *c, int32_t k, int64_t t, sti_window w, const float *y)
{
    const sti_forecast_series *s = &f->series[k];
    const double last = last_value(s, t);
    sums *sum = &c->series[k];
    for (int64_t h = 0; h < f->horizon && t + h < s->n; h++) {
        const double truth = (double)s->z[t + h], e = (double)y[h] * w.scale + w.shift - truth;
        const int64_t before = t - f->season + h % f->season;
        const double seasonal = before >= 0 ? (double)s->z[before] : (double)NAN;
        if (isnan(truth)) continue;
        sum->square += e * e;
        sum->absolute += fabs(e);
        sum->count++;
        c->step[h] += e * e;
        c->steps[h]++;
        if (isnan(last) || isnan(seasonal)) continue;
        sum->last += (last - truth) * (last - truth);
        sum->seasonal += (seasonal - truth) * (seasonal - truth);
        sum->naive++;
    }
}

void sti_forecast_score_answer(const sti_task *t, void *p, const sti_task_answer *a)
{
    const sti_forecast *f = t->data;
    const bool variates = f->tokens == STI_FORECAST_VARIATE;
    const int64_t each = variates ? a->time : 1; /* forecasts of this sequence: all positions, or the last */
    int32_t first;
    int64_t origin;
    sti_forecast_locate(f, f->part, a->window, &first, &origin);
    for (int64_t i = 0; i < each; i++) {
        const int32_t k = first + (int32_t)i;
        const sti_window w = sti_forecast_scale_at(f, f->series[k].z, origin);
        add(f, p, k, origin, w, a->out + (variates ? i : a->time - 1) * f->horizon);
    }
}

static double over(double sum, int64_t count)
{
    return count > 0 ? sum / (double)count : (double)NAN;
}

strata_status sti_forecast_score_measure(const sti_task *t, const void *p, bool whole, strata_measures *m)
{
    const sti_forecast *f = t->data;
    const score *c = p;
    sums all = { 0 };
    double mase = 0;
    int64_t scaled = 0;
    for (int32_t k = 0; k < f->panel.count; k++) {
        const sums *s = &c->series[k];
        all.square += s->square;
        all.absolute += s->absolute;
        all.last += s->last;
        all.seasonal += s->seasonal;
        all.count += s->count;
        all.naive += s->naive;
        if (s->count == 0 || !(f->series[k].naive > 0)) continue;
        mase += s->absolute / (double)s->count / f->series[k].naive;
        scaled++;
    }
    const double mse = over(all.square, all.count), mae = over(all.absolute, all.count);
    const double last = over(all.last, all.naive), seasonal = over(all.seasonal, all.naive);
    mase = over(mase, scaled);
    if (!isfinite(mse)) return sti_fail(STRATA_E_NUMERIC, "the mean squared error is %g", mse);
    STI_TRY(sti_measures_add(m, "mse", "squared error, of standardised series", 1, &mse));
    STI_TRY(sti_measures_add(m, "mae", "absolute error, of standardised series", 1, &mae));
    STI_TRY(sti_measures_add(m, "mase", "absolute error over that of the seasonal naive forecast in the training part",
                             1, &mase));
    if (!whole) return STRATA_OK;
    STI_TRY(sti_measures_add(m, "mse_repeat_last", "mse of repeating the last value", 1, &last));
    STI_TRY(sti_measures_add(m, "mse_seasonal_naive", "mse of repeating the last season", 1, &seasonal));
    double *step = sti_heap((size_t)f->horizon * sizeof *step);
    if (!step) return sti_fail(STRATA_E_MEMORY, "out of memory");
    for (int64_t h = 0; h < f->horizon; h++) step[h] = over(c->step[h], c->steps[h]);
    strata_status st = sti_measures_add(m, "mse_step", "mse at each step ahead", f->horizon, step);
    sti_heap_free(step);
    return st;
}
