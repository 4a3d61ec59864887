/* strata report: what the models are: specs, samples, configurations. */
#include "report.h"

#include <string.h>

void report_models(const report *p)
{
    (void)fputs("<h2>Models</h2>\n", p->f);
    for (int k = 0; k < p->models; k++) {
        const report_model *g = &p->model[k];
        const char *spec = g->spec ? g->spec : report_config(g->run[0], "model.spec");
        (void)fputs("<h3>", p->f);
        report_name(p, k);
        (void)fputs("</h3>\n<p class=\"spec\"><code>", p->f);
        report_text(p->f, spec ? spec : "unknown");
        (void)fputs("</code></p>\n", p->f);
    }
}

void report_samples(const report *p)
{
    bool any = false;
    for (int k = 0; k < p->models; k++) any |= p->model[k].sample != NULL;
    if (!any) return;
    (void)fprintf(
        p->f,
        "<h2>Samples</h2>\n<p class=\"small soft\">Drawn from the best checkpoint%s, temperature %g, seed %lld."
        "</p>\n<div class=\"grid\">\n",
        p->seeds ? " of each model's first run" : "", cli_num(p->c, "temperature"), (long long)cli_int(p->c, "seed"));
    for (int k = 0; k < p->models; k++) {
        const char *s = p->model[k].sample;
        if (!s) continue;
        while (*s == '\n') s++;
        (void)fprintf(p->f, "<figure%s><figcaption>", p->models == 1 ? " class=\"wide\"" : "");
        report_name(p, k);
        (void)fputs("</figcaption><pre class=\"sample\">", p->f);
        report_text(p->f, s);
        (void)fputs("</pre></figure>\n", p->f);
    }
    (void)fputs("</div>\n", p->f);
}

/* ---- configuration ---------------------------------------------------------------------------------------------- */
static bool agree(const report_run *const *r, int n, const char *key)
{
    const char *first = report_config(r[0], key);
    for (int i = 1; i < n; i++) {
        const char *v = report_config(r[i], key);
        if (!v || !first || strcmp(v, first) != 0) return false;
    }
    return true;
}

static bool same_everywhere(const report *p, const char *key)
{
    const report_run *all[REPORT_RUNS] = { 0 };
    for (int i = 0; i < p->runs; i++) all[i] = &p->run[i];
    return agree(all, p->runs, key);
}

/* The value of a model, or those of its runs. */
static void config_cell(const report *p, const report_model *g, const char *key)
{
    int n = agree(g->run, g->n, key) ? 1 : g->n;
    (void)fputs("<td><code>", p->f);
    for (int i = 0; i < n; i++) {
        const char *v = report_config(g->run[i], key);
        (void)fputs(i ? ", " : "", p->f);
        report_text(p->f, v ? v : "–");
    }
    (void)fputs("</code></td>", p->f);
}

static void config_rows(const report *p, bool differing)
{
    const int columns = differing ? p->models : 1;
    (void)fputs("<div class=\"scroll\"><table class=\"conf\">\n<tr><th>key</th>", p->f);
    for (int k = 0; k < columns; k++) {
        (void)fputs("<th>", p->f);
        if (differing)
            report_name(p, k);
        else
            (void)fputs("value", p->f);
        (void)fputs("</th>", p->f);
    }
    (void)fputs("</tr>\n", p->f);
    for (int r = 0; r < p->runs; r++) {
        for (int k = 0; k < p->run[r].nkeys; k++) {
            const char *key = p->run[r].key[k];
            bool seen = false; /* an earlier run has it and printed it */
            for (int e = 0; e < r; e++) seen |= report_config(&p->run[e], key) != NULL;
            if (seen || same_everywhere(p, key) == differing) continue;
            (void)fputs("<tr><td><code>", p->f);
            report_text(p->f, key);
            (void)fputs("</code></td>", p->f);
            for (int i = 0; i < columns; i++) config_cell(p, &p->model[i], key);
            (void)fputs("</tr>\n", p->f);
        }
    }
    (void)fputs("</table></div>\n", p->f);
}

void report_configuration(const report *p)
{
    bool any = false, differ = false;
    for (int i = 0; i < p->runs; i++) {
        any |= p->run[i].nkeys > 0;
        for (int k = 0; k < p->run[i].nkeys; k++) differ |= !same_everywhere(p, p->run[i].key[k]);
    }
    if (!any) return;
    (void)fputs("<h2>Configuration</h2>\n", p->f);
    if (differ) {
        (void)fputs("<details open><summary>What differs between the runs</summary>\n", p->f);
        config_rows(p, true);
        (void)fputs("</details>\n", p->f);
    }
    (void)fprintf(p->f, "<details><summary>%s</summary>\n", p->runs > 1 ? "What all runs share" : "All values");
    config_rows(p, false);
    (void)fputs("</details>\n", p->f);
}
