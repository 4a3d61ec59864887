/* strata report: curves, one colour per model, the seeds of a model as a band about their mean. */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CURVE = 400 };

typedef struct band { /* of a model: the mean over its seeds, their least and largest value */
    int n;
    double x[CURVE + 2], mean[CURVE + 2], low[CURVE + 2], high[CURVE + 2];
} band;

void report_legend(const report *p, const bool *shown)
{
    (void)fputs("<div class=\"legend\">", p->f);
    for (int k = 0; k < p->models; k++) {
        if (shown && !shown[k]) continue;
        (void)fputs("<span>", p->f);
        report_name(p, k);
        if (!shown && p->model[k].n > 1) (void)fprintf(p->f, " <span class=\"soft\">%d seeds</span>", p->model[k].n);
        (void)fputs("</span>", p->f);
    }
    (void)fputs("</div>\n", p->f);
}

/* A unit in which the largest value has one to three digits before the point. */
static double unit_of(double largest, amount a, char *label, size_t cap)
{
    static const char *const prefix[] = { "", "k", "M", "G", "T", "P", "E" };
    static const char *const words[] = { "", "thousands", "millions", "billions", "trillions", "10^15", "10^18" };
    if (a == BY_SECONDS) {
        double u = largest >= 2 * 3600 ? 3600 : largest >= 180 ? 60 : 1;
        (void)snprintf(label, cap, "training time (%s)", u > 60 ? "hours" : u > 1 ? "minutes" : "seconds");
        return u;
    }
    int k = 0;
    double u = 1;
    while (k < 6 && largest / u >= 1000) {
        u *= 1000;
        k++;
    }
    if (a == BY_FLOPS)
        (void)snprintf(label, cap, "compute (%sFLOP)", prefix[k]);
    else
        (void)snprintf(label, cap, "training tokens%s%s%s", k ? " (" : "", words[k], k ? ")" : "");
    return u;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- points ----------------------------------------------------------------------------------------------------- */
/* At most CURVE points out of n, in place: means over equal numbers of them. @return how many */
static int thin_out(double *x, double *y, int n)
{
    const int per = (n + CURVE - 1) / CURVE;
    int m = 0;
    for (int i = 0; i < n; i += per) {
        const int end = i + per < n ? i + per : n;
        double sx = 0, sy = 0;
        for (int k = i; k < end; k++) {
            sx += x[k];
            sy += y[k];
        }
        x[m] = sx / (end - i);
        y[m++] = sy / (end - i);
    }
    return m;
}

/* A run's curve, without points at 0, which the logarithm in curve_at has no place for. */
static bool collect(const report_run *r, report_curve c, amount a, double unit, band *out)
{
    double *x = calloc((size_t)r->rows * 2 + 1, sizeof *x), *y = x + r->rows;
    int n = 0;
    if (!x) return false;
    const int all = report_points(r, c, a, x, y);
    for (int i = 0; i < all; i++) {
        if (x[i] <= 0) continue;
        x[n] = x[i] / unit;
        y[n++] = y[i];
    }
    out->n = thin_out(x, y, n);
    memcpy(out->x, x, (size_t)out->n * sizeof *x);
    memcpy(out->mean, y, (size_t)out->n * sizeof *y);
    free(x);
    return true;
}

/* All seeds at the points of the first, over the stretch that every seed has. */
static void merge(const band *seed, int n, band *out)
{
    const band *a = &seed[0];
    double left = 0, right = (double)INFINITY;
    out->n = 0;
    for (int s = 0; s < n; s++) {
        if (!seed[s].n) return;
        left = fmax(left, seed[s].x[0]);
        right = fmin(right, seed[s].x[seed[s].n - 1]);
    }
    if (left > right) return;
    int m = 0;
    out->x[m++] = left;
    for (int i = 0; i < a->n; i++)
        if (a->x[i] > left && a->x[i] < right) out->x[m++] = a->x[i];
    if (right > left) out->x[m++] = right;
    for (int i = 0; i < m; i++) {
        double v[REPORT_RUNS];
        for (int s = 0; s < n; s++) v[s] = curve_at(seed[s].x, seed[s].mean, seed[s].n, out->x[i]);
        const sample at = sample_of(v, n);
        out->mean[i] = at.mean;
        out->low[i] = at.min;
        out->high[i] = at.max;
    }
    out->n = m;
}

static bool band_of(const report_model *g, report_curve c, amount a, double unit, band *out)
{
    band *seed = calloc((size_t)g->n, sizeof *seed);
    bool ok = seed != NULL;
    for (int s = 0; ok && s < g->n; s++) ok = collect(g->run[s], c, a, unit, &seed[s]);
    if (ok && g->n == 1) *out = seed[0];
    if (ok && g->n > 1) merge(seed, g->n, out);
    free(seed);
    return ok;
}

/* ---- figures ---------------------------------------------------------------------------------------------------- */
static void figure(const report *p, const char *caption, report_curve c, amount a, const char *class)
{
    bool wide = !strncmp(class, "wide", 4);
    const char *loss = p->one_task && !p->numbers ? "nats per token" : report_unit(p);
    double largest = 0, unit;
    char xlabel[64], title[128];
    plot g = { .title = title,
               .xlabel = xlabel,
               .ylabel = c == THROUGHPUT ? "thousand tokens/s" : loss,
               .width = wide ? 1000 : 540,
               .height = wide ? 400 : 350,
               .from_zero = c == THROUGHPUT };
    band *curve = calloc((size_t)p->models, sizeof *curve);
    double *all = calloc((size_t)p->models * (CURVE + 2), sizeof *all);
    bool ok = curve && all;
    for (int i = 0; i < p->runs; i++) largest = fmax(largest, amount_of(&p->run[i].last, a));
    unit = unit_of(largest, a, xlabel, sizeof xlabel);
    (void)snprintf(title, sizeof title, "%s against %s", caption, xlabel);
    int total = 0;
    for (int k = 0; ok && k < p->models; k++) {
        band *b = &curve[k];
        if (!(ok = band_of(&p->model[k], c, a, unit, b))) break;
        plot_series s = { .x = b->x,
                          .y = b->mean,
                          .n = b->n,
                          .colour = p->model[k].colour,
                          .style = p->model[k].minor ? PLOT_THIN : PLOT_LINE,
                          .dash = p->model[k].ring ? 2 : 0 };
        if (p->model[k].n > 1) {
            s.low = b->low;
            s.high = b->high;
        }
        g.series[g.nseries++] = s;
        for (int i = 0; i < b->n; i++) all[total++] = s.high ? s.high[i] : s.y[i];
    }
    if (ok && c != THROUGHPUT && total > 20) { /* the first steps would flatten the rest */
        qsort(all, (size_t)total, sizeof *all, by_value);
        g.ymax = all[total * 9 / 10] * 1.03;
    }
    char *svg = ok ? plot_svg(&g) : NULL;
    if (svg) {
        (void)fprintf(p->f, "<figure class=\"%s\"><figcaption>%s</figcaption>\n%s</figure>\n", class, caption, svg);
        free(svg);
    }
    free(all);
    free(curve);
}

void report_curves(const report *p)
{
    (void)fputs("<h2>Curves</h2>\n", p->f);
    if (!plot_available()) {
        (void)fputs("<p class=\"soft\">This page has no pictures: gnuplot was not found when it was written.</p>\n",
                    p->f);
        cli_note("strata: gnuplot not found: the page has no pictures");
        return;
    }
    report_legend(p, NULL);
    if (p->seeds)
        (void)fputs(
            "<p class=\"small soft\">A line is the mean over the seeds of a model, its band goes from the least "
            "to the largest of them. Both end where the first seed ends.</p>\n",
            p->f);
    (void)fputs("<div class=\"grid\">\n", p->f);
    figure(p, "Validation loss", VALIDATION, BY_TOKENS, "wide broad");
    figure(p, "Validation loss", VALIDATION, BY_TOKENS, "narrow"); /* the same for small screens */
    figure(p, "Validation loss at equal compute", VALIDATION, BY_FLOPS, "");
    figure(p, "Validation loss at equal time", VALIDATION, BY_SECONDS, "");
    figure(p, "Training loss", TRAINING, BY_TOKENS, "");
    figure(p, "Throughput", THROUGHPUT, BY_TOKENS, "");
    (void)fputs("</div>\n", p->f);
}
