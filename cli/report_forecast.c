/* strata report: runs of the task forecast: the last rows of their data, forecast from those before them. */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PANELS = 8 };

typedef struct forecasts { /* of models with the same data and horizon */
    strata_forecast *of[REPORT_MODELS];
    bool shown[REPORT_MODELS];
    int first; /* the first model that has one */
} forecasts;

static bool is_forecast(const report_model *g)
{
    return !strcmp(g->run[0]->task, "forecast");
}

static bool alike(const report_run *a, const report_run *b)
{
    const char *x = report_config(a, "forecast.horizon"), *y = report_config(b, "forecast.horizon");
    return a->file && b->file && !strcmp(a->data, b->data) && x && y && !strcmp(x, y);
}

static strata_forecast *forecast(const report *p, const report_model *g)
{
    const report_run *r = g->run[0];
    const char *h = report_config(r, "forecast.horizon");
    const strata_forecast_config how = { STRATA_INIT(strata_forecast_config), .best = 1,
                                         .back = h ? strtoll(h, NULL, 10) : 0 };
    strata_forecast *out = NULL;
    if (strata_forecast_create(p->ctx, r->path, r->file, &how, &out) == STRATA_OK) return out;
    cli_note("strata: %s: no forecast: %s", r->path, strata_last_error());
    return NULL;
}

static strata_forecast_series series_of(const strata_forecast *f, int32_t k)
{
    strata_forecast_series s = { 0 };
    (void)strata_forecast_at(f, k, &s);
    return s;
}

/* ---- the page --------------------------------------------------------------------------------------------------- */
static void panel(const report *p, const forecasts *c, int32_t k)
{
    const strata_forecast_series s = series_of(c->of[c->first], k);
    const int64_t h = strata_forecast_horizon(c->of[c->first]), past = s.rows < 2 * h ? s.rows : 2 * h;
    const size_t n = (size_t)(past + h);
    double *x = calloc(2 * n, sizeof *x), *y = x ? x + n : NULL;
    plot g = { .title = "Forecasts and what came", .xlabel = "rows", .ylabel = "", .width = 540, .height = 260 };
    if (!x) return;
    for (int64_t i = 0; i < past + h; i++) {
        x[i] = (double)(i - past + 1);
        y[i] = i < past ? s.history[s.rows - past + i] : s.truth[i - past];
    }
    g.series[g.nseries++] = (plot_series){ .x = x, .y = y, .n = (int)n, .colour = PLOT_INK, .style = PLOT_THIN };
    for (int m = 0; m < p->models; m++) {
        if (!c->of[m] || p->model[m].minor) continue;
        const strata_forecast_series o = series_of(c->of[m], k);
        g.series[g.nseries++] = (plot_series){ .x = x + past,
                                               .y = o.value,
                                               .n = (int)h,
                                               .colour = p->model[m].colour,
                                               .style = PLOT_PLAIN,
                                               .dash = p->model[m].ring ? 2 : 0 };
    }
    char *svg = plot_svg(&g);
    if (svg) {
        (void)fputs("<figure><figcaption>", p->f);
        report_text(p->f, s.name);
        (void)fprintf(p->f, "</figcaption>\n%s</figure>\n", svg);
    }
    free(svg);
    free(x);
}

/* Mean absolute error over the rows that are known; NaN: none is. */
static double error_of(const strata_forecast *f, int32_t k)
{
    const strata_forecast_series s = series_of(f, k);
    double sum = 0, n = 0;
    for (int64_t h = 0; h < strata_forecast_horizon(f); h++) {
        if (isnan(s.truth[h])) continue;
        sum += fabs(s.truth[h] - s.value[h]);
        n++;
    }
    return sum / n;
}

static void table(const report *p, const forecasts *c, int32_t series)
{
    (void)fputs("<div class=\"scroll\"><table>\n<tr><th>mean absolute error</th>", p->f);
    for (int32_t k = 0; k < series; k++) {
        (void)fputs("<th>", p->f);
        report_text(p->f, series_of(c->of[c->first], k).name);
        (void)fputs("</th>", p->f);
    }
    (void)fputs("</tr>\n", p->f);
    for (int m = 0; m < p->models; m++) {
        if (!c->of[m]) continue;
        (void)fputs("<tr><td>", p->f);
        report_name(p, m);
        for (int32_t k = 0; k < series; k++) (void)fprintf(p->f, "</td><td>%.4g", error_of(c->of[m], k));
        (void)fputs("</td></tr>\n", p->f);
    }
    (void)fputs("</table></div>\n", p->f);
}

static void group(const report *p, const forecasts *c)
{
    const strata_forecast *f = c->of[c->first];
    const int32_t all = strata_forecast_count(f), n = all < PANELS ? all : PANELS;
    const int64_t h = strata_forecast_horizon(f), rows = series_of(f, 0).rows;
    char from[64], to[64];
    const char *path = p->model[c->first].run[0]->file, *slash = strrchr(path, '/');
    (void)fprintf(p->f, "<p>The last %lld rows of <strong>", (long long)h);
    report_text(p->f, slash ? slash + 1 : path);
    (void)fputs("</strong>, ", p->f);
    report_text(p->f, strata_forecast_date(f, 0, rows, from, sizeof from));
    (void)fputs(" to ", p->f);
    report_text(p->f, strata_forecast_date(f, 0, rows + h - 1, to, sizeof to));
    (void)fputs(", forecast from the rows before them.</p>\n", p->f);
    if (plot_available()) {
        report_legend(p, c->shown);
        (void)fputs("<div class=\"grid\">\n", p->f);
        for (int32_t k = 0; k < n; k++) panel(p, c, k);
        (void)fputs("</div>\n", p->f);
    }
    table(p, c, n);
    if (n < all) (void)fprintf(p->f, "<p class=\"small soft\">The first %d of %d series.</p>\n", (int)n, (int)all);
}

void report_forecasts(const report *p)
{
    bool done[REPORT_MODELS] = { false }, any = false;
    forecasts c;
    for (int k = 0; k < p->models; k++) {
        if (done[k] || !is_forecast(&p->model[k]) || !p->model[k].run[0]->file) continue;
        c.first = -1;
        for (int i = 0; i < p->models; i++) {
            c.of[i] = NULL;
            c.shown[i] = false;
            if (done[i] || !is_forecast(&p->model[i]) || !alike(p->model[k].run[0], p->model[i].run[0])) continue;
            done[i] = true;
            c.of[i] = forecast(p, &p->model[i]);
            c.shown[i] = c.of[i] && !p->model[i].minor;
            if (c.of[i] && c.first < 0) c.first = i;
        }
        if (c.first >= 0 && !any)
            (void)fputs(
                "<h2>Forecasts and what came</h2>\n<p class=\"small soft\">By the best checkpoint of each model’s "
                "first run, in the units of the file; the thin line is what was measured, row 0 the last one "
                "that the models saw. One window is an example and no comparison: that is in the tables of "
                "measures.</p>\n",
                p->f);
        any = any || c.first >= 0;
        if (c.first >= 0) group(p, &c);
        for (int i = 0; i < p->models; i++) strata_forecast_destroy(c.of[i]);
    }
}
