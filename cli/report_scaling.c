/* strata report: losses at the end of runs against the sizes of their models, and the power laws through them. */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CURVE = 60 };

typedef enum measure { BY_PARAMS, BY_COMPUTE, MEASURES } measure;

typedef struct line { /* a family against one measure of size */
    int n;
    double x[REPORT_MODELS], mean[REPORT_MODELS], low[REPORT_MODELS], high[REPORT_MODELS];
    bool fitted, floored;
    power_law fit, floor;
    double at[CURVE], curve[CURVE];
} line;

static double size_of(const report_model *g, measure m)
{
    double sum = 0;
    if (m == BY_PARAMS) return g->has_cost ? (double)g->cost.params : 0;
    for (int i = 0; i < g->n; i++) sum += g->run[i]->last.flops / g->n;
    return sum;
}

static sample end_losses(const report_model *g)
{
    double v[REPORT_RUNS];
    int n = 0;
    for (int i = 0; i < g->n; i++)
        if (g->run[i]->curve.n) v[n++] = g->run[i]->curve.loss[g->run[i]->curve.n - 1];
    return sample_of(v, n);
}

static void draw(const report *p, const report_family *f, measure m, line *l)
{
    l->n = 0;
    for (int i = 0; i < f->n; i++) {
        const report_model *g = &p->model[f->model[i]];
        const sample s = end_losses(g);
        const double x = size_of(g, m);
        if (!(x > 0) || !isfinite(s.mean)) continue;
        l->x[l->n] = x;
        l->mean[l->n] = s.mean;
        l->low[l->n] = s.min;
        l->high[l->n++] = s.max;
    }
    l->fitted = fit_power(l->x, l->mean, l->n, &l->fit);
    l->floored = fit_power_floor(l->x, l->mean, l->n, &l->floor);
    if (!l->fitted) return;
    double low = l->x[0], high = l->x[0];
    for (int i = 1; i < l->n; i++) {
        low = fmin(low, l->x[i]);
        high = fmax(high, l->x[i]);
    }
    for (int i = 0; i < CURVE; i++) {
        l->at[i] = low * pow(high / low, (double)i / (CURVE - 1));
        l->curve[i] = power_at(&l->fit, l->at[i]);
    }
}

/* ---- the page --------------------------------------------------------------------------------------------------- */
static void figure(const report *p, const line *of, measure m)
{
    static const char *const caption[MEASURES] = { "Loss against parameters", "Loss against compute" };
    static const char *const label[MEASURES] = { "parameters", "training compute (FLOP)" };
    plot g = { .title = caption[m],
               .xlabel = label[m],
               .ylabel = p->one_task && !p->numbers ? "nats per token" : report_unit(p),
               .logx = true,
               .logy = true,
               .width = 540,
               .height = 380 };
    for (int i = 0; i < p->families; i++) {
        const line *l = &of[i];
        if (p->family[i].n < 2) continue;
        if (l->fitted && g.nseries < PLOT_MAX_SERIES)
            g.series[g.nseries++] = (plot_series){
                .x = l->at, .y = l->curve, .n = CURVE, .colour = p->family[i].colour, .style = PLOT_THIN, .dash = 2
            };
        if (g.nseries < PLOT_MAX_SERIES)
            g.series[g.nseries++] = (plot_series){ .x = l->x,
                                                   .y = l->mean,
                                                   .n = l->n,
                                                   .low = l->low,
                                                   .high = l->high,
                                                   .colour = p->family[i].colour,
                                                   .style = PLOT_POINTS };
    }
    char *svg = plot_svg(&g);
    if (svg) (void)fprintf(p->f, "<figure><figcaption>%s</figcaption>\n%s</figure>\n", caption[m], svg);
    free(svg);
}

/* "0.123 ± 0.014" */
static void put_interval(FILE *f, double value, double half)
{
    (void)fprintf(f, "%.3f <small>±&nbsp;%.*f</small>", value, half < 0.0095 ? 4 : 3, half);
}

static void put_fit(const report *p, const line *l)
{
    if (!l->fitted) {
        (void)fputs("<td>–</td><td>–</td>", p->f);
        return;
    }
    (void)fputs("<td>", p->f);
    put_interval(p->f, l->fit.exponent, l->fit.t * l->fit.exponent_error);
    (void)fputs("</td><td>", p->f);
    const double half = l->floor.t * l->floor.exponent_error;
    if (l->floored && half < l->floor.exponent) {
        put_interval(p->f, l->floor.exponent, half);
        (void)fputs("<br>a = ", p->f);
        put_interval(p->f, l->floor.floor, l->floor.t * l->floor.floor_error);
    } else {
        (void)fputs(l->n < 4 ? "–" : l->floored ? "undetermined" : "none", p->f);
    }
    (void)fputs("</td>", p->f);
}

static void table(const report *p, line *const of[MEASURES])
{
    (void)fputs("<div class=\"scroll\"><table>\n<tr><th>family</th><th>sizes</th>"
                "<th>c in parameters<br>b N<sup>−c</sup></th><th>with a floor<br>a + b N<sup>−c</sup></th>"
                "<th>c in compute<br>b C<sup>−c</sup></th><th>with a floor<br>a + b C<sup>−c</sup></th></tr>\n",
                p->f);
    for (int i = 0; i < p->families; i++) {
        if (p->family[i].n < 2) continue;
        (void)fputs("<tr><td>", p->f);
        report_dot(p->f, p->family[i].colour, false);
        report_text(p->f, p->family[i].name);
        (void)fprintf(p->f, "</td><td>%d</td>", of[BY_PARAMS][i].n);
        for (int m = 0; m < MEASURES; m++) put_fit(p, &of[m][i]);
        (void)fputs("</tr>\n", p->f);
    }
    (void)fputs("</table></div>\n", p->f);
}

static void refuse(const report *p, const line *of)
{
    for (int i = 0; i < p->families; i++) {
        if (p->family[i].n < 2 || of[i].fitted) continue;
        (void)fputs("<p class=\"small soft\">", p->f);
        report_text(p->f, p->family[i].name);
        (void)fprintf(p->f, " has %d %s: an exponent needs at least three.</p>\n", of[i].n,
                      of[i].n == 1 ? "size with a loss" : "sizes with a loss");
    }
}

void report_scaling(const report *p)
{
    int most = 0;
    bool rates = false;
    for (int i = 0; i < p->families; i++) most = p->family[i].n > most ? p->family[i].n : most;
    for (int k = 0; k < p->models; k++) rates = rates || p->model[k].minor;
    line *of[MEASURES];
    of[0] = calloc((size_t)p->families * MEASURES, sizeof *of[0]);
    if (most < 2 || !p->one_task || !of[0]) {
        free(of[0]);
        return;
    }
    of[1] = of[0] + p->families;
    for (int m = 0; m < MEASURES; m++)
        for (int i = 0; i < p->families; i++) draw(p, &p->family[i], (measure)m, &of[m][i]);
    (void)fputs("<h2>Loss against size</h2>\n", p->f);
    table(p, of);
    refuse(p, of[BY_PARAMS]);
    (void)fprintf(p->f,
                  "<p class=\"small soft\">Models that differ in width, layers and learning rate only are sizes of one "
                  "family. A point is the validation loss at the end of the runs, the mean over the seeds%s; its bar "
                  "goes from the least to the largest. c is fitted by least squares through the logarithms of the "
                  "points, with a floor by least squares of relative residuals (none: the points do not bend towards "
                  "one; undetermined: the interval of c holds 0). ± is half of a 95 %% interval: Student’s t times "
                  "the standard error that the points’ distances from the curve give, so with few sizes it is wide. "
                  "N counts all parameters, C the training FLOPs of a run.</p>\n",
                  rates ? ", of several learning rates that with the least mean" : "");
    if (plot_available()) {
        (void)fputs("<div class=\"grid\">\n", p->f);
        for (int m = 0; m < MEASURES; m++) figure(p, of[m], (measure)m);
        (void)fputs("</div>\n", p->f);
    }
    free(of[0]);
}
