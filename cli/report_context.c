/* strata report: runs of the task regression: the error after so many examples, beside what is known in closed form. */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { KNOWN = PLOT_DASHES - 1 };

/* Do two runs draw their sequences from the same problem? How they were trained may differ. */
static bool same_problem(const report_run *a, const report_run *b)
{
    static const char *const keys[] = { "dims", "points", "noise", "decay", "nonzero", "ridge" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char key[32];
        (void)snprintf(key, sizeof key, "regression.%s", keys[i]);
        const char *x = report_config(a, key), *y = report_config(b, key);
        if (!x || !y || strcmp(x, y) != 0) return false;
    }
    return true;
}

static bool find_curve(const strata_measures *m, const char *name, strata_measure *out)
{
    for (int32_t i = 0; i < strata_measures_count(m); i++)
        if (strata_measures_at(m, i, out) == STRATA_OK && out->count > 1 && !strcmp(out->name, name)) return true;
    return false;
}

typedef struct curve { /* of a model over its seeds: [4][points] */
    double *x, *mean, *low, *high;
    int n;
} curve;

/* The last evaluations of a model's runs. @return false: none has a curve */
static bool read_curve(const report_model *g, curve *c)
{
    double *value = NULL;
    int seeds = 0;
    for (int s = 0; s < g->n; s++) {
        strata_measure e;
        strata_measures *m = NULL;
        if (strata_metrics_measures(g->run[s]->path, &m) != STRATA_OK || !find_curve(m, "error", &e) ||
            (value && e.count != c->n)) {
            strata_measures_destroy(m);
            continue;
        }
        c->n = (int)e.count;
        if (!value) value = calloc((size_t)e.count * (size_t)g->n, sizeof *value);
        if (value) memcpy(value + (ptrdiff_t)seeds++ * e.count, e.value, (size_t)e.count * sizeof *value);
        strata_measures_destroy(m);
    }
    c->x = seeds ? calloc(4 * (size_t)c->n, sizeof *c->x) : NULL;
    if (c->x) {
        c->mean = c->x + c->n;
        c->low = c->mean + c->n;
        c->high = c->low + c->n;
    }
    for (int i = 0; c->x && i < c->n; i++) {
        double v[REPORT_RUNS];
        for (int s = 0; s < seeds; s++) v[s] = value[(ptrdiff_t)s * c->n + i];
        const sample at = sample_of(v, seeds);
        c->x[i] = i;
        c->mean[i] = at.mean;
        c->low[i] = at.min;
        c->high[i] = at.max;
    }
    free(value);
    return c->x != NULL;
}

/* ---- the page --------------------------------------------------------------------------------------------------- */
static void put_known(const report *p, const strata_measures *known)
{
    int dash = 0;
    (void)fputs("<div class=\"legend\">", p->f);
    for (int32_t i = 0; i < strata_measures_count(known); i++) {
        strata_measure m;
        if (strata_measures_at(known, i, &m) != STRATA_OK || dash == KNOWN) continue;
        (void)fprintf(p->f,
                      "<span><svg class=\"key\" viewBox=\"0 0 44 8\" aria-hidden=\"true\"><path d=\"M0 4H44\" "
                      "stroke-dasharray=\"%s\"/></svg>",
                      plot_dash(++dash));
        report_text(p->f, m.help);
        (void)fputs("</span>", p->f);
    }
    (void)fputs("</div>\n", p->f);
}

static void put_caption(const report *p, const report_run *r)
{
    static const struct {
        const char *key, *text, *otherwise;
    } also[] = { { "regression.noise", "noise of deviation", "0" },
                 { "regression.decay", "input variances that fall as j^−", "0" },
                 { "regression.nonzero", "weights that are not zero:", "0" } };
    const char *dims = report_config(r, "regression.dims");
    (void)fputs("In-context error, ", p->f);
    report_text(p->f, dims ? dims : "?");
    (void)fputs(" dimensions", p->f);
    for (size_t i = 0; i < sizeof also / sizeof *also; i++) {
        const char *v = report_config(r, also[i].key);
        if (!v || !strcmp(v, also[i].otherwise)) continue;
        (void)fprintf(p->f, ", %s ", also[i].text);
        report_text(p->f, v);
    }
}

/* The models of the problem of model `first`. */
static void figure(const report *p, int first, const char *class, int width, int height, const curve *of,
                   const strata_measures *known)
{
    const report_run *r = p->model[first].run[0];
    plot g = { .title = "Squared error against the number of examples seen",
               .xlabel = "examples seen",
               .ylabel = "squared error",
               .width = width,
               .height = height,
               .from_zero = true };
    double top = 0;
    int dash = 0;
    for (int k = 0; k < p->models; k++) {
        const curve *c = &of[k];
        if (!c->x || !same_problem(r, p->model[k].run[0])) continue;
        plot_series s = { .x = c->x, .y = c->mean, .n = c->n, .colour = p->model[k].colour };
        if (p->model[k].minor) s.style = PLOT_THIN;
        if (p->model[k].ring) s.dash = 2;
        if (p->model[k].n > 1) {
            s.low = c->low;
            s.high = c->high;
        }
        for (int i = 0; i < c->n; i++) top = fmax(top, c->high[i]);
        g.series[g.nseries++] = s;
    }
    for (int32_t i = 0; i < strata_measures_count(known); i++) {
        strata_measure m;
        if (strata_measures_at(known, i, &m) != STRATA_OK || dash == KNOWN || m.count > of[first].n) continue;
        g.series[g.nseries++] =
            (plot_series){ .x = of[first].x, .y = m.value, .n = (int)m.count, .colour = PLOT_GREY, .dash = ++dash };
        top = fmax(top, m.value[0]);
    }
    g.ymax = 1.25 * top; /* the mean of least squares need not exist */
    char *svg = plot_svg(&g);
    if (svg) {
        (void)fprintf(p->f, "<figure class=\"%s\"><figcaption>", class);
        put_caption(p, r);
        (void)fprintf(p->f, "</figcaption>\n%s</figure>\n", svg);
    }
    free(svg);
}

/* Errors after the last example, against the same closed forms. */
static void table(const report *p, int first, const curve *of, const strata_measures *known)
{
    const report_run *r = p->model[first].run[0];
    (void)fprintf(p->f, "<div class=\"scroll\"><table>\n<tr><th>squared error after</th><th>%d examples</th>",
                  of[first].n / 2);
    (void)fprintf(p->f, "<th>%d examples</th></tr>\n", of[first].n - 1);
    for (int k = 0; k < p->models; k++) {
        const curve *c = &of[k];
        if (!c->x || !same_problem(r, p->model[k].run[0])) continue;
        (void)fputs("<tr><td>", p->f);
        report_name(p, k);
        (void)fprintf(p->f, "</td><td>%.4f</td><td>%.4f</td></tr>\n", c->mean[c->n / 2], c->mean[c->n - 1]);
    }
    for (int32_t i = 0; i < strata_measures_count(known); i++) {
        strata_measure m;
        if (strata_measures_at(known, i, &m) != STRATA_OK) continue;
        (void)fputs("<tr><td class=\"soft\">", p->f);
        report_text(p->f, m.help);
        for (int h = 0; h < 2; h++) {
            const double v = m.value[h ? m.count - 1 : m.count / 2];
            (void)fprintf(p->f, isfinite(v) ? "</td><td>%.4f" : "</td><td>–", v);
        }
        (void)fputs("</td></tr>\n", p->f);
    }
    (void)fputs("</table></div>\n", p->f);
}

static void problem(const report *p, int first, const curve *of)
{
    strata_measures *known = NULL;
    strata_config *c = report_load_config(p->model[first].run[0], p->ctx);
    if (!c || strata_task_references(p->ctx, c, &known) != STRATA_OK) known = NULL;
    bool shown[REPORT_MODELS];
    for (int k = 0; k < p->models; k++) shown[k] = of[k].x && same_problem(p->model[first].run[0], p->model[k].run[0]);
    if (plot_available()) {
        report_legend(p, shown);
        put_known(p, known);
        figure(p, first, "broad", 1000, 400, of, known);
        figure(p, first, "narrow", 540, 380, of, known);
    }
    table(p, first, of, known);
    strata_measures_destroy(known);
    strata_config_destroy(c);
}

void report_context_errors(const report *p)
{
    curve *of = calloc((size_t)p->models, sizeof *of);
    bool done[REPORT_MODELS] = { false }, any = false;
    for (int k = 0; of && k < p->models; k++) {
        if (strcmp(p->model[k].run[0]->task, "regression") != 0 || !read_curve(&p->model[k], &of[k])) continue;
        if (!any)
            (void)fputs("<h2>Error in context</h2>\n<p class=\"small soft\">The squared error of the prediction after "
                        "so many examples of the same function, at the last evaluation of the runs, mean and range "
                        "over the seeds. Grey: expectations in closed form of predictors that know the problem (ridge: "
                        "the limit of many dimensions), noise included; no line where the mean does not exist.</p>\n",
                        p->f);
        any = true;
    }
    for (int k = 0; any && k < p->models; k++) {
        if (!of[k].x || done[k]) continue;
        problem(p, k, of);
        for (int i = k; i < p->models; i++)
            done[i] = done[i] || (of[i].x && same_problem(p->model[k].run[0], p->model[i].run[0]));
    }
    for (int k = 0; of && k < p->models; k++) free(of[k].x);
    free(of);
}
