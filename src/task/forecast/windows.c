/* Windows of series as models see them. */

#include <math.h>

#include "task/forecast/forecast.h"
#include "train/run.h"

/* Below this deviation (of that of the training part) windows are not stretched to 1: nearly constant ones would rule
 * the loss. */
#define FLOOR 0.1

/* Shift and scale of a window, from the values that are there. */
sti_window sti_forecast_scale_at(const sti_forecast *f, const float *z, int64_t t)
{
    sti_window w = { 0, 1 };
    const int64_t n = STI_MIN(f->lookback, t);
    z += t - n;
    double sum = 0, square = 0, last = 0;
    int64_t count = 0;
    if (f->normalise <= STI_NORMALISE_SERIES) return w;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(z[i])) continue;
        last = (double)z[i];
        sum += last;
        count++;
    }
    if (count == 0) return w;
    w.shift = f->normalise == STI_NORMALISE_LAST ? last : sum / (double)count;
    if (f->normalise != STI_NORMALISE_INSTANCE) return w;
    for (int64_t i = 0; i < n; i++)
        if (!isnan(z[i])) square += ((double)z[i] - w.shift) * ((double)z[i] - w.shift);
    w.scale = sqrt(square / (double)count + FLOOR * FLOOR);
    return w;
}

void sti_forecast_targets(const sti_forecast *f, int32_t k, int64_t row, sti_window w, float *y)
{
    const sti_forecast_series *s = &f->series[k];
    for (int64_t h = 0; h < f->horizon; h++) {
        const int64_t i = row + h;
        y[h] = i >= 0 && i < s->n ? (float)(((double)s->z[i] - w.shift) / w.scale) : NAN;
    }
}

sti_window sti_forecast_inputs(const sti_forecast *f, const float *z, int64_t t, float *x)
{
    const int64_t n = f->lookback, start = t - n, skip = start < 0 ? -start : 0;
    const sti_window w = sti_forecast_scale_at(f, z, t);
    float last = 0; /* the mean stands for what was before the first value */
    for (int64_t i = 0; i < n; i++) {
        const float v = i < skip ? NAN : z[start + i];
        if (!isnan(v)) last = (float)(((double)v - w.shift) / w.scale);
        x[i] = last;
    }
    return w;
}

int64_t sti_forecast_sequences(const sti_forecast *f, sti_forecast_part part)
{
    if (f->tokens == STI_FORECAST_VARIATE) return f->series[0].origins[part];
    return f->first[part][f->panel.count];
}

void sti_forecast_locate(const sti_forecast *f, sti_forecast_part part, int64_t i, int32_t *series, int64_t *origin)
{
    const int64_t *first = f->first[part];
    int32_t lo = 0, hi = f->panel.count;
    while (hi - lo > 1) { /* first[lo] <= i < first[hi] */
        const int32_t mid = lo + (hi - lo) / 2;
        if (first[mid] <= i)
            lo = mid;
        else
            hi = mid;
    }
    if (f->tokens == STI_FORECAST_VARIATE) lo = 0;
    *series = lo;
    *origin = f->series[lo].from[part] + i - first[lo];
}

int64_t sti_forecast_sample(const sti_forecast *f, sti_forecast_part part, int64_t numbers, int64_t i)
{
    const bool joint = f->tokens == STI_FORECAST_VARIATE;
    const int64_t each = STI_MAX(1, numbers / (f->horizon * f->panel.count));
    int64_t before = 0;
    for (int32_t k = 0; k < (joint ? 1 : f->panel.count); k++) {
        const int64_t origins = f->series[k].origins[part], n = STI_MIN(origins, each);
        if (i >= 0 && i < before + n) return (joint ? 0 : f->first[part][k]) + sti_run_spread(i - before, origins, n);
        before += n;
    }
    return before;
}

void sti_forecast_sequence(const sti_forecast *f, sti_forecast_part part, int64_t i, float *x, float *y)
{
    int32_t k;
    int64_t t;
    sti_forecast_locate(f, part, i, &k, &t);
    if (f->tokens == STI_FORECAST_VARIATE) {
        for (k = 0; k < f->panel.count; k++) {
            const sti_window w = sti_forecast_inputs(f, f->series[k].z, t, x + k * f->lookback);
            sti_forecast_targets(f, k, t, w, y + k * f->horizon);
        }
        return;
    }
    const sti_window w = sti_forecast_inputs(f, f->series[k].z, t, x);
    const int64_t positions = f->lookback / f->patch, last = positions - 1;
    for (int64_t p = 0; p < positions; p++) {
        float *target = y + p * f->horizon;
        if (p == last || (f->every && part == STI_FORECAST_TRAIN))
            sti_forecast_targets(f, k, t - (last - p) * f->patch, w, target);
        else
            for (int64_t h = 0; h < f->horizon; h++) target[h] = NAN;
    }
}
