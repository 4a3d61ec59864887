/* strata report: what the models reached, each with the spread of its seeds. */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef double run_value(const report_run *r);

static double best_loss(const report_run *r)
{
    return r->best;
}
static double training_loss(const report_run *r)
{
    return r->last.loss;
}
static double tokens(const report_run *r)
{
    return (double)r->last.tokens;
}
static double flops(const report_run *r)
{
    return r->last.flops;
}
static double seconds(const report_run *r)
{
    return r->last.seconds;
}
static double throughput(const report_run *r)
{
    return r->last.tokens_per_s;
}

/* Of the runs that have the value. */
static sample over_seeds(const report_model *g, run_value *of)
{
    double v[REPORT_RUNS];
    int n = 0;
    for (int i = 0; i < g->n; i++)
        if (isfinite(v[n] = of(g->run[i]))) n++;
    return sample_of(v, n);
}

const char *report_unit(const report *p)
{
    return p->apart && p->apart[0] == 't' ? "unit of the task" : p->numbers ? "squared error" : "nats";
}

/* ---- the sentence ----------------------------------------------------------------------------------------------- */
/* The model with the least mean of the best validation losses but for `skip`, -1 if none was measured. */
static int best_model(const report *p, int skip)
{
    int best = -1;
    double least = (double)INFINITY;
    for (int k = 0; k < p->models; k++) {
        double mean = over_seeds(&p->model[k], best_loss).mean;
        if (k == skip || !(mean < least)) continue;
        least = mean;
        best = k;
    }
    return best;
}

/* How the model `a` stands to the next one: a lead within the spread of the seeds is not called one. */
static void put_lead_over(const report *p, const report_model *a, const report_model *b)
{
    const sample sa = over_seeds(a, best_loss), sb = over_seeds(b, best_loss);
    const int digits = p->numbers ? 4 : 3;
    const char *unit = p->numbers ? "" : " nats";
    welch w;
    bool spread = welch_interval(&sa, &sb, 1 - 0.05 / (p->models > 2 ? p->models - 1 : 1), &w);
    bool apart = !spread || (w.low > 0 && w.difference > fmax(sa.sd, sb.sd));
    (void)fprintf(p->f, apart ? "; %.*f%s less than <strong>" : "; its lead of %.*f%s over <strong>", digits,
                  sb.mean - sa.mean, unit);
    report_text(p->f, b->name);
    double other = over_seeds(b, flops).mean, ratio = other > 0 ? over_seeds(a, flops).mean / other : 0;
    (void)fputs("</strong>", p->f);
    if (ratio > 0.98 && ratio < 1.02)
        (void)fputs(" at the same compute", p->f);
    else if (ratio > 0)
        (void)fprintf(p->f, " with %.2f times its compute", ratio);
    if (!apart)
        (void)fputs(" is within the spread of the seeds", p->f);
    else if (!spread)
        (void)fputs(", a difference that seeds may make too: several of each model would tell", p->f);
}

void report_lead(const report *p)
{
    int b = best_model(p, -1);
    if (b < 0) {
        (void)fputs("<p class=\"lead\">No validation loss was measured in these runs.</p>\n", p->f);
        return;
    }
    if (!p->one_task) {
        (void)fprintf(p->f, "<p class=\"lead\">The runs have different %s: their losses do not compare.</p>\n",
                      p->apart);
        return;
    }
    const report_model *g = &p->model[b];
    const sample s = over_seeds(g, best_loss);
    (void)fputs("<p class=\"lead\"><strong>", p->f);
    report_text(p->f, g->name);
    if (p->numbers)
        (void)fprintf(p->f, "</strong> reaches a squared error of %.4f on held-out data", s.mean);
    else
        (void)fprintf(p->f, "</strong> reaches %.3f nats per token on held-out text, %.3f bits", s.mean,
                      s.mean / log(2));
    if (s.n > 1) (void)fprintf(p->f, ", in the mean of %d seeds", s.n);
    int second = best_model(p, b);
    if (second >= 0) put_lead_over(p, g, &p->model[second]);
    (void)fputs(".</p>\n", p->f);
}

/* ---- cells ------------------------------------------------------------------------------------------------------ */
static void put_cell(FILE *f, const char *text)
{
    (void)fprintf(f, "<td>%s</td>", text);
}

/* "1.2345 ± 0.0012": mean and standard deviation over the seeds. */
static void put_loss(FILE *f, const sample *s, bool best)
{
    (void)fputs(best ? "<td class=\"best\">" : "<td>", f);
    if (isfinite(s->mean))
        (void)fprintf(f, "%.4f", s->mean);
    else
        (void)fputs("–", f);
    if (isfinite(s->sd)) (void)fprintf(f, " <small>±&nbsp;%.4f</small>", s->sd);
    (void)fputs("</td>", f);
}

static void put_name(const report *p, int k)
{
    (void)fputs("<tr><td>", p->f);
    report_name(p, k);
    (void)fputs("</td>", p->f);
    if (p->seeds) (void)fprintf(p->f, "<td>%d</td>", p->model[k].n);
}

static const char seeds_caption[] =
    " Losses are means over the seeds ± their standard deviation; bold is the least mean, whatever its spread.";

/* ---- tables ----------------------------------------------------------------------------------------------------- */
void report_table(const report *p)
{
    char b[CLI_NUMBER];
    const int best = p->one_task ? best_model(p, -1) : -1;
    const char *unit = report_unit(p);
    const bool bits = p->one_task && !p->numbers;
    (void)fprintf(p->f,
                  "<div class=\"scroll\"><table>\n<tr><th>%s</th>%s<th>best validation<br>%s</th>%s<th>training<br>%s"
                  "</th>",
                  p->seeds ? "model" : "run", p->seeds ? "<th>seeds</th>" : "", unit, bits ? "<th>bits</th>" : "",
                  unit);
    (void)fputs("<th>parameters</th><th>tokens</th><th>FLOPs</th><th>time</th>"
                "<th>tokens/s</th><th>FLOPs<br>per token</th><th>cache bytes<br>per token</th></tr>\n",
                p->f);
    for (int k = 0; k < p->models; k++) {
        const report_model *g = &p->model[k];
        const sample loss = over_seeds(g, best_loss), training = over_seeds(g, training_loss);
        const double speed = over_seeds(g, throughput).mean;
        put_name(p, k);
        put_loss(p->f, &loss, k == best);
        if (bits) (void)fprintf(p->f, isfinite(loss.mean) ? "<td>%.4f</td>" : "<td>–</td>", loss.mean / log(2));
        put_loss(p->f, &training, false);
        put_cell(p->f, g->has_cost ? cli_si(b, (double)g->cost.params) : "–");
        put_cell(p->f, cli_si(b, over_seeds(g, tokens).mean));
        put_cell(p->f, cli_si(b, over_seeds(g, flops).mean));
        put_cell(p->f, cli_duration(b, over_seeds(g, seconds).mean));
        put_cell(p->f, isfinite(speed) ? cli_si(b, speed) : "–");
        put_cell(p->f, g->has_cost ? cli_si(b, g->cost.flops_fwd + g->cost.flops_bwd) : "–");
        (void)snprintf(b, sizeof b, "%.0f", g->cost.cache_bytes_per_token);
        put_cell(p->f, g->has_cost ? b : "–");
        (void)fputs("</tr>\n", p->f);
    }
    (void)fprintf(
        p->f,
        "</table></div>\n<p class=\"small soft\">FLOPs count 2 per multiply-add in matrix products, of attention "
        "only the visible pairs, forward and backward. The cache is that of one sequence at the context "
        "length.%s</p>\n",
        p->seeds ? seeds_caption : "");
}

static sample reading(const report_model *g, amount a, double at)
{
    const loss_curve *run[REPORT_RUNS];
    double value[REPORT_RUNS];
    for (int i = 0; i < g->n; i++) run[i] = &g->run[i]->curve;
    return losses_at(run, g->n, a, at, value);
}

static bool constant_rate(const report *p)
{
    for (int i = 0; i < p->runs; i++) {
        const char *schedule = report_config(&p->run[i], "train.schedule");
        if (!schedule || strcmp(schedule, "constant") != 0) return false;
    }
    return true;
}

void report_equal(const report *p)
{
    static const char *const of[AMOUNTS] = { "tokens", "FLOP", "of training" };
    char b[CLI_NUMBER];
    double at[AMOUNTS];
    const loss_curve *run[REPORT_RUNS];
    if (p->models < 2 || !p->one_task) return;
    for (int i = 0; i < p->runs; i++) run[i] = &p->run[i].curve;
    for (amount a = 0; a < AMOUNTS; a++)
        if (!((at[a] = common_amount(run, p->runs, a)) > 0)) return;
    (void)fprintf(p->f,
                  "<h2>At equal tokens, compute and time</h2>\n<div class=\"scroll\"><table>\n"
                  "<tr><th>validation loss, %s</th>%s",
                  report_unit(p), p->seeds ? "<th>seeds</th>" : "");
    for (amount a = 0; a < AMOUNTS; a++) {
        (void)fprintf(p->f, "<th>at %s<br>%s</th>", amount_text(b, a, at[a]), of[a]);
    }
    (void)fputs("</tr>\n", p->f);
    sample value[REPORT_MODELS][AMOUNTS];
    int best[AMOUNTS] = { -1, -1, -1 };
    for (int k = 0; k < p->models; k++)
        for (amount a = 0; a < AMOUNTS; a++) {
            value[k][a] = reading(&p->model[k], a, at[a]);
            if (isfinite(value[k][a].mean) && (best[a] < 0 || value[k][a].mean < value[best[a]][a].mean)) best[a] = k;
        }
    for (int k = 0; k < p->models; k++) {
        put_name(p, k);
        for (amount a = 0; a < AMOUNTS; a++) put_loss(p->f, &value[k][a], best[a] == k);
        (void)fputs("</tr>\n", p->f);
    }
    (void)fprintf(p->f,
                  "</table></div>\n<p class=\"small soft\">The largest amounts that every run reached, read from the "
                  "validation curves: between two measurements linear in the logarithm of the amount; – where a curve "
                  "begins later.%s%s</p>\n",
                  constant_rate(p) ? ""
                                   : " A learning rate that decays is at its end only where the run ends: before that, "
                                     "a reading is worse than what a shorter run would reach.",
                  p->seeds ? seeds_caption : "");
}

/* ---- measures --------------------------------------------------------------------------------------------------- */
enum { MEASURES = 12 };

typedef struct measured { /* of a model */
    int n;
    char name[MEASURES][32];
    sample value[MEASURES];
} measured;

static int measure_index(measured *m, const char *name)
{
    for (int i = 0; i < m->n; i++)
        if (!strcmp(m->name[i], name)) return i;
    if (m->n == MEASURES || strlen(name) >= sizeof m->name[0]) return -1;
    (void)snprintf(m->name[m->n], sizeof m->name[0], "%s", name);
    return m->n++;
}

/* Single numbers at the last evaluation of the runs. */
static bool read_measures(const report_model *g, measured *out)
{
    double *value = calloc((size_t)g->n * MEASURES, sizeof *value);
    int count[MEASURES] = { 0 };
    out->n = 0;
    for (int s = 0; value && s < g->n; s++) {
        strata_measures *m = NULL;
        if (strata_metrics_measures(g->run[s]->path, &m) != STRATA_OK) continue;
        for (int32_t i = 0; i < strata_measures_count(m); i++) {
            strata_measure x;
            if (strata_measures_at(m, i, &x) != STRATA_OK || x.count != 1 || !isfinite(x.value[0])) continue;
            const int k = measure_index(out, x.name);
            if (k >= 0) value[(ptrdiff_t)k * g->n + count[k]++] = x.value[0];
        }
        strata_measures_destroy(m);
    }
    for (int k = 0; value && k < out->n; k++) out->value[k] = sample_of(value + (ptrdiff_t)k * g->n, count[k]);
    free(value);
    return out->n > 0;
}

void report_measures(const report *p)
{
    measured all = { .n = 0 }, *of = calloc((size_t)p->models, sizeof *of);
    for (int k = 0; of && k < p->models; k++)
        for (int i = 0; read_measures(&p->model[k], &of[k]) && i < of[k].n; i++)
            (void)measure_index(&all, of[k].name[i]);
    if (all.n) {
        (void)fputs("<h2>What the tasks measure</h2>\n<div class=\"scroll\"><table>\n<tr><th>last evaluation</th>",
                    p->f);
        if (p->seeds) (void)fputs("<th>seeds</th>", p->f);
        for (int i = 0; i < all.n; i++) {
            (void)fputs("<th>", p->f);
            report_text(p->f, all.name[i]);
            (void)fputs("</th>", p->f);
        }
        (void)fputs("</tr>\n", p->f);
        for (int k = 0; k < p->models; k++) {
            put_name(p, k);
            for (int i = 0; i < all.n; i++) {
                static const sample none = { 0, (double)NAN, (double)NAN, (double)NAN, (double)NAN };
                int at = -1;
                for (int j = 0; j < of[k].n; j++)
                    if (!strcmp(of[k].name[j], all.name[i])) at = j;
                put_loss(p->f, at < 0 ? &none : &of[k].value[at], false);
            }
            (void)fputs("</tr>\n", p->f);
        }
        (void)fprintf(p->f,
                      "</table></div>\n<p class=\"small soft\">On the validation data%s; <code>strata eval</code> "
                      "measures a checkpoint on the test data.</p>\n",
                      p->seeds ? ", means over the seeds ± their standard deviation" : "");
    }
    free(of);
}
