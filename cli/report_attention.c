/* strata report: what attention is made of (closed forms of the spec), and what it does on held-out data. */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = 64 };

/* ---- from the spec ---------------------------------------------------------------------------------------------- */
static bool alike(const strata_attention_layer *a, const strata_attention_layer *b)
{
    if (a->heads != b->heads || a->kv_heads != b->kv_heads || a->d_qk != b->d_qk || a->d_v != b->d_v ||
        a->causal != b->causal || a->levels != b->levels)
        return false;
    for (int32_t l = 0; l < a->levels; l++) {
        const strata_attention_level *x = &a->level[l], *y = &b->level[l];
        if (x->softmax != y->softmax || x->rank != y->rank || x->values != y->values || x->reach != y->reach)
            return false;
    }
    return true;
}

/* "32 · 16 · 16": ranks, or reaches. */
static void put_levels(FILE *f, const strata_attention_layer *a, int64_t context, bool reach)
{
    (void)fputs("<td>", f);
    for (int32_t l = 0; l < a->levels; l++) {
        (void)fputs(l ? " · " : "", f);
        if (!reach)
            (void)fprintf(f, "%d", (int)a->level[l].rank);
        else if (a->level[l].reach >= context)
            (void)fputs("all", f);
        else
            (void)fprintf(f, "%lld", (long long)a->level[l].reach);
    }
    (void)fputs("</td>", f);
}

static void put_layers(const report *p, int k, int first, int last)
{
    const report_model *g = &p->model[k];
    const strata_attention_layer *a = &g->layer[first];
    const double full = (double)a->kv_heads * 4.0 * (double)g->context * (double)(a->d_qk + a->d_v);
    (void)fputs("<tr><td>", p->f);
    report_name(p, k);
    (void)fprintf(p->f, first == last ? "</td><td>%d</td>" : "</td><td>%d–%d</td>", first + 1, last + 1);
    (void)fprintf(p->f, "<td>%lld</td>", (long long)a->heads);
    put_levels(p->f, a, g->context, false);
    put_levels(p->f, a, g->context, true);
    (void)fprintf(p->f, "<td>%.2f <small>of %lld</small></td>", a->active_rank, (long long)a->d_qk);
    if (a->cache_bytes > 0)
        (void)fprintf(p->f, "<td>%.0f</td><td>%.1f %%</td></tr>\n", a->cache_bytes / (double)g->context,
                      100 * a->cache_bytes / full);
    else
        (void)fputs("<td>–</td><td>–</td></tr>\n", p->f);
}

static void from_the_spec(const report *p)
{
    (void)fputs("<div class=\"scroll\"><table>\n<tr><th>from the spec</th><th>layers</th><th>heads</th>"
                "<th>ranks</th><th>tokens</th><th>expected<br>active rank</th><th>cache bytes<br>per token</th>"
                "<th>of keys and values<br>kept in full</th></tr>\n",
                p->f);
    for (int k = 0; k < p->models; k++) {
        const report_model *g = &p->model[k];
        for (int i = 0, n; i < g->layers; i = n) {
            for (n = i + 1; n < g->layers && alike(&g->layer[i], &g->layer[n]);) n++;
            put_layers(p, k, i, n - 1);
        }
    }
    (void)fputs("</table></div>\n<p class=\"small soft\">A level compares its rank of columns of a query and a key "
                "within blocks (or distances) of so many tokens. Active rank: columns that a visible pair compares, in "
                "the mean over all visible pairs of a sequence of the context length: the sum over the levels of rank "
                "times the share of the pairs that the level covers. The cache is that of one layer and sequence, in "
                "f32.</p>\n",
                p->f);
}

/* ---- on data ---------------------------------------------------------------------------------------------------- */
static strata_attention_measures measures_of(const strata_analysis *a, int32_t layer)
{
    strata_attention_measures m = { .size = STRATA_INIT(strata_attention_measures) };
    (void)strata_analysis_at(a, layer, &m);
    return m;
}

typedef enum view { MASS, RANK, LEVELS } view;

/* What view `v` shows of one layer. @return how many numbers */
static int values_of(const strata_attention_measures *m, view v, const double **y)
{
    *y = v == MASS ? m->mass : v == RANK ? m->rank : m->level;
    return v == MASS ? m->bins : v == RANK ? m->offsets : m->levels;
}

/* The places of the values on the axis: tics named as gnuplot wants them. */
static void name_tics(const strata_attention_measures *m, view v, char *tics, size_t cap)
{
    const double *unused;
    const int n = values_of(m, v, &unused);
    size_t at = 0;
    tics[0] = 0;
    for (int i = 0; i < n && at < cap; i++) {
        const long long value = v == MASS   ? (i ? 1LL << (i - 1) : 0)
                                : v == RANK ? (long long)(m->offset[i] * m->block)
                                            : i + 1;
        const int k = snprintf(tics + at, cap - at, "%s'%lld' %d", i ? ", " : "", value, i);
        if (k > 0) at += (size_t)k;
    }
}

static const char *const caption_of[] = { [MASS] = "Attention mass against distance",
                                          [RANK] = "Rank of the scores against distance",
                                          [LEVELS] = "Logit scale of the levels" };
static const char *const xlabel_of[] = {
    [MASS] = "from this distance to the next (tokens)", [RANK] = "distance of the block (tokens)", [LEVELS] = "level"
};

static void put_plot(const report *p, plot *g, view v, const strata_attention_measures *m)
{
    static const char *const ylabel[] = { [MASS] = "probability", [RANK] = "rank", [LEVELS] = "deviation" };
    char tics[1024];
    name_tics(m, v, tics, sizeof tics);
    g->title = caption_of[v];
    g->xlabel = xlabel_of[v];
    g->ylabel = ylabel[v];
    g->xtics = tics;
    g->from_zero = true;
    g->width = 540;
    g->height = 330;
    char *svg = plot_svg(g);
    if (svg) (void)fprintf(p->f, "<figure><figcaption>%s</figcaption>\n%s</figure>\n", caption_of[v], svg);
    free(svg);
}

/* Of the layer with the most levels. */
static strata_attention_measures most_levels(const strata_analysis *a)
{
    strata_attention_measures most = measures_of(a, 0);
    for (int32_t i = 1; i < strata_analysis_count(a); i++) {
        const strata_attention_measures m = measures_of(a, i);
        if (m.levels > most.levels) most = m;
    }
    return most;
}

/* Colour of layer i of n on the ramp. */
static int shade(int i, int n)
{
    return PLOT_RAMP + (n > 1 ? i * (PLOT_COLOURS - 1) / (n - 1) : PLOT_COLOURS / 2);
}

/* One line a layer; of many layers some, spread evenly. */
static void layers_plot(const report *p, const strata_analysis *a, view v)
{
    enum { MOST = 12 };
    double x[BINS];
    plot g = { .nseries = 0 };
    const strata_attention_measures first = most_levels(a);
    const int n = strata_analysis_count(a), shown = n < MOST ? n : MOST;
    for (int i = 0; i < BINS; i++) x[i] = i;
    for (int i = 0; i < shown; i++) {
        const int layer = shown > 1 ? i * (n - 1) / (shown - 1) : 0;
        const strata_attention_measures m = measures_of(a, layer);
        plot_series s = { .x = x, .colour = shade(layer, n) };
        s.n = values_of(&m, v, &s.y);
        g.series[g.nseries++] = s;
    }
    if (v == MASS)
        g.series[g.nseries++] =
            (plot_series){ .x = x, .y = first.uniform, .n = first.bins, .colour = PLOT_GREY, .dash = 1 };
    put_plot(p, &g, v, &first);
}

/* One line a model, the mean over its layers; models whose windows are laid out as those of the first. */
static void models_plot(const report *p, int first, view v)
{
    double x[BINS], (*mean)[BINS] = calloc((size_t)p->models, sizeof *mean);
    plot g = { .nseries = 0 };
    const strata_attention_measures m0 = measures_of(p->model[first].analysis, 0);
    for (int i = 0; i < BINS; i++) x[i] = i;
    for (int k = first; mean && k < p->models; k++) {
        const report_model *o = &p->model[k];
        const int n = strata_analysis_count(o->analysis);
        const double *y;
        if (n == 0 || o->context != p->model[first].context) continue;
        int points = 0;
        for (int i = 0; i < n; i++) {
            const strata_attention_measures m = measures_of(o->analysis, i);
            points = values_of(&m, v, &y);
            for (int b = 0; b < points && b < BINS; b++) mean[k][b] += y[b] / n;
        }
        g.series[g.nseries++] = (plot_series){
            .x = x, .y = mean[k], .n = points, .colour = p->model[k].colour, .dash = p->model[k].ring ? 2 : 0
        };
    }
    if (v == MASS)
        g.series[g.nseries++] = (plot_series){ .x = x, .y = m0.uniform, .n = m0.bins, .colour = PLOT_GREY, .dash = 1 };
    put_plot(p, &g, v, &m0);
    free(mean);
}

static void put_number(FILE *f, double v)
{
    (void)fprintf(f, isfinite(v) ? fabs(v) < 9.995 ? "<td>%.2f</td>" : "<td>%.1f</td>" : "<td>–</td>", v);
}

static void numbers(const report *p, const strata_analysis *a)
{
    const strata_attention_measures m0 = measures_of(a, 0);
    const int n = strata_analysis_count(a), levels = most_levels(a).levels;
    int end[2] = { 0, 0 }, ends = 0; /* the nearest and the furthest blocks that some layer has scores of */
    for (int i = 0; i < n; i++) {
        const strata_attention_measures m = measures_of(a, i);
        for (int o = 0; o < m.offsets; o++) {
            if (!isfinite(m.rank[o])) continue;
            if (!ends || o < end[0]) end[0] = o;
            if (!ends || o > end[1]) end[1] = o;
            ends = end[1] > end[0] ? 2 : 1;
        }
    }
    (void)fputs("<div class=\"scroll\"><table>\n<tr><th>layer</th><th>keys</th><th>mean<br>distance</th>"
                "<th>deviation<br>of scores</th>",
                p->f);
    for (int l = 0; l < levels && levels > 1; l++) (void)fprintf(p->f, "<th>level %d</th>", l + 1);
    for (int e = 0; e < ends; e++) {
        const long long distance = (long long)(m0.offset[end[e]] * m0.block);
        (void)fprintf(p->f, "<th>rank<br>at %lld</th><th>entropy rank<br>at %lld</th>", distance, distance);
    }
    (void)fputs("</tr>\n", p->f);
    for (int i = 0; i < n; i++) {
        const strata_attention_measures m = measures_of(a, i);
        (void)fprintf(p->f, "<tr><td><span class=\"dot\" style=\"color:var(--l%d)\"></span>%d</td>",
                      shade(i, n) - PLOT_RAMP, i + 1);
        put_number(p->f, m.keys);
        put_number(p->f, m.distance);
        put_number(p->f, m.score);
        for (int l = 0; l < levels && levels > 1; l++) put_number(p->f, l < m.levels ? m.level[l] : (double)NAN);
        for (int e = 0; e < ends; e++) {
            put_number(p->f, m.rank[end[e]]);
            put_number(p->f, m.entropy_rank[end[e]]);
        }
        (void)fputs("</tr>\n", p->f);
    }
    (void)fputs("</table></div>\n", p->f);
}

static void on_data(const report *p, int k, bool open)
{
    const strata_analysis *a = p->model[k].analysis;
    const strata_attention_measures m = most_levels(a);
    (void)fprintf(p->f, "<details%s><summary>", open ? " open" : "");
    report_name(p, k);
    (void)fputs(", layer by layer</summary>\n", p->f);
    if (plot_available()) {
        (void)fputs("<div class=\"grid\">\n", p->f);
        layers_plot(p, a, MASS);
        if (m.offsets > 1) layers_plot(p, a, RANK);
        if (m.levels > 1) layers_plot(p, a, LEVELS);
        (void)fputs("</div>\n", p->f);
    }
    numbers(p, a);
    (void)fputs("</details>\n", p->f);
}

static void explain(const report *p, const strata_attention_measures *m)
{
    (void)fprintf(
        p->f,
        "<p class=\"small soft\">On held-out data, %lld %s a model, with the best checkpoint of its first run; "
        "means over windows, heads and queries. <em>Mass</em>: the probability that attention puts at "
        "distances 0, 1, 2–3, 4–7 …; dotted, what weighing all visible keys alike would put there. "
        "<em>Keys</em>: exp(entropy) of the probabilities of a query. <em>Deviation</em>: of the scaled "
        "scores among the keys of a query, root of the mean variance; of a level: of what it adds to the "
        "score, among the keys that it covers.",
        (long long)cli_int(p->c, "attention"), cli_int(p->c, "attention") > 1 ? "windows" : "window");
    if (m->block)
        (void)fprintf(p->f,
                      " <em>Rank</em>: of a block of scores before softmax, %lld consecutive queries by %lld keys that "
                      "far before them: the fewest singular values that hold 99 %% of the sum of their squares. "
                      "<em>Entropy rank</em>: exp(−Σ p ln p) with p the squares over their sum.",
                      (long long)m->block, (long long)m->block);
    (void)fputs("</p>\n", p->f);
}

void report_attention(const report *p)
{
    int layers = 0, seen = 0, first = -1;
    for (int k = p->models - 1; k >= 0; k--) {
        layers += p->model[k].layers;
        if (!strata_analysis_count(p->model[k].analysis)) continue;
        seen++;
        first = k;
    }
    if (!layers) return;
    (void)fputs("<h2>Attention</h2>\n", p->f);
    from_the_spec(p);
    if (first < 0) return;
    const strata_attention_measures m = measures_of(p->model[first].analysis, 0);
    explain(p, &m);
    if (seen > 1 && plot_available()) {
        bool shown[REPORT_MODELS];
        for (int k = 0; k < p->models; k++)
            shown[k] =
                strata_analysis_count(p->model[k].analysis) > 0 && p->model[k].context == p->model[first].context;
        (void)fputs("<h3>Means over the layers</h3>\n", p->f);
        report_legend(p, shown);
        (void)fputs("<div class=\"grid\">\n", p->f);
        models_plot(p, first, MASS);
        if (m.offsets > 1) models_plot(p, first, RANK);
        (void)fputs("</div>\n", p->f);
    }
    for (int k = 0; k < p->models; k++)
        if (strata_analysis_count(p->model[k].analysis)) on_data(p, k, seen <= 2);
}
