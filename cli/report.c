/* strata report: one self-contained HTML page about one or several runs. */
#include "cli.h"
#include "plot.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_RUNS = PLOT_MAX_SERIES, MAX_KEYS = 256, CURVE = 400, SAMPLE = 700 };

typedef struct run {
    const char *path;
    char name[64];
    int64_t rows;
    strata_progress *row; /* metrics */
    strata_progress last; /* the last row, with the last values of what it lacks */
    double val, best;     /* last and least validation loss, nats; NaN: never measured */
    char *key[MAX_KEYS], *value[MAX_KEYS];
    int nkeys;
    bool numbers;   /* the loss is a squared error, not nats */
    bool has_model; /* a checkpoint was readable */
    char *spec;
    strata_cost cost;
    int64_t context;
    char *sample;
} run;

typedef struct page {
    FILE *f;
    const cli *c;
    run *runs;
    int n;
} page;

/* ---- reading ---------------------------------------------------------------------------------------------------- */
static char *copy(const char *s, size_t n)
{
    char *t = malloc(n + 1);
    if (!t) return NULL;
    memcpy(t, s, n);
    t[n] = 0;
    return t;
}

/* "key = value" lines of config.conf, without comments. */
static void read_config(run *r)
{
    char *path = cli_join(r->path, "config.conf");
    FILE *f = path ? fopen(path, "r") : NULL;
    free(path);
    char line[4096];
    while (f && r->nkeys < MAX_KEYS && fgets(line, sizeof line, f)) {
        char *s = line, *eq = strchr(line, '='), task[64];
        strata_task_info about = { .size = STRATA_INIT(strata_task_info) };
        if (sscanf(line, "# task %63s", task) == 1 && strata_task_describe(task, &about) == STRATA_OK)
            r->numbers = about.numbers != 0;
        while (isspace((unsigned char)*s)) s++;
        if (!eq || *s == '#' || s >= eq) continue;
        char *end = eq, *v = eq + 1;
        while (end > s && isspace((unsigned char)end[-1])) end--;
        while (isspace((unsigned char)*v)) v++;
        size_t n = strlen(v);
        while (n && isspace((unsigned char)v[n - 1])) n--;
        r->key[r->nkeys] = copy(s, (size_t)(end - s));
        r->value[r->nkeys] = copy(v, n);
        if (r->key[r->nkeys] && r->value[r->nkeys]) r->nkeys++;
    }
    if (f) (void)fclose(f);
}

static const char *config_of(const run *r, const char *key)
{
    for (int i = 0; i < r->nkeys; i++)
        if (!strcmp(r->key[i], key)) return r->value[i];
    return NULL;
}

static int read_metrics(run *r)
{
    strata_metrics *m = NULL;
    int rc = cli_status(strata_metrics_open(r->path, &m), CLI_ON_INPUT, r->path);
    if (rc) return rc;
    r->rows = strata_metrics_count(m);
    r->row = calloc((size_t)r->rows + 1, sizeof *r->row);
    if (!r->row) rc = cli_fail(CLI_FAILED, "out of memory");
    r->val = r->best = (double)NAN;
    r->last.loss = r->last.tokens_per_s = (double)NAN;
    for (int64_t i = 0; i < r->rows && !rc; i++) {
        strata_progress *p = &r->row[i];
        rc = cli_status(strata_metrics_at(m, i, p), CLI_ON_INPUT, r->path);
        if (isfinite(p->loss)) r->last.loss = p->loss;
        if (isfinite(p->val_loss)) {
            r->val = p->val_loss;
            if (!(r->best <= p->val_loss)) r->best = p->val_loss;
        }
        r->last.step = p->step;
        r->last.tokens = p->tokens;
        r->last.flops = p->flops;
        r->last.seconds = p->seconds;
    }
    if (r->last.seconds > 0) r->last.tokens_per_s = (double)r->last.tokens / r->last.seconds;
    strata_metrics_close(m);
    return rc;
}

/* A short text from the run's best checkpoint; the seed is fixed, so two reports show the same. */
static void draw_sample(run *r, const strata_model *m, const cli *c)
{
    const char *prompt = cli_text(c, "prompt");
    size_t n = strlen(prompt), len = n;
    strata_session_config cfg = { STRATA_INIT(strata_session_config), .seed = (uint64_t)cli_int(c, "seed"),
                                  .temperature = cli_num(c, "temperature"), .max_tokens = (int64_t)n + SAMPLE };
    strata_session *s = NULL;
    char *text = calloc(1, n + SAMPLE * 8 + 1);
    if (!text) return;
    if (strata_session_create(m, &cfg, &s) != STRATA_OK) { /* learned positions end at the context */
        cfg.max_tokens = 0;
        if (strata_session_create(m, &cfg, &s) != STRATA_OK) s = NULL;
    }
    if (s && strata_session_prompt(s, prompt, n) == STRATA_OK) {
        memcpy(text, prompt, n);
        for (int i = 0; i < SAMPLE; i++) {
            size_t got = 0;
            if (strata_session_next(s, text + len, 8, &got) != STRATA_OK || !got) break;
            len += got;
        }
        text[len] = 0;
        r->sample = text;
    } else {
        free(text);
    }
    strata_session_destroy(s);
}

static int read_run(run *r, const cli *c, const strata_context *ctx)
{
    int rc = read_metrics(r);
    if (rc) return rc;
    read_config(r);
    strata_model *m = NULL;
    if (strata_model_load(ctx, r->path, 1, &m) != STRATA_OK && strata_model_load(ctx, r->path, 0, &m) != STRATA_OK) {
        cli_note("strata: %s: no checkpoint to sample from: %s", r->path, strata_last_error());
        return CLI_OK;
    }
    r->cost.size = STRATA_INIT(strata_cost);
    r->has_model = strata_model_cost(m, 0, &r->cost) == STRATA_OK;
    r->context = strata_model_context(m);
    r->spec = copy(strata_model_spec(m), strlen(strata_model_spec(m)));
    draw_sample(r, m, c);
    strata_model_destroy(m);
    return CLI_OK;
}

static void free_run(run *r)
{
    for (int i = 0; i < r->nkeys; i++) {
        free(r->key[i]);
        free(r->value[i]);
    }
    free(r->row);
    free(r->spec);
    free(r->sample);
}

/* The last part of the path; a number is added where two runs would share it. */
static void name_run(run *runs, int k)
{
    size_t n = strlen(runs[k].path);
    while (n > 1 && runs[k].path[n - 1] == '/') n--;
    size_t start = n;
    while (start > 0 && runs[k].path[start - 1] != '/') start--;
    (void)snprintf(runs[k].name, sizeof runs[k].name, "%.*s", (int)(n - start < 50 ? n - start : 50),
                   runs[k].path + start);
    for (int i = 0; i < k; i++) {
        if (strcmp(runs[i].name, runs[k].name) != 0) continue;
        size_t len = strlen(runs[k].name);
        (void)snprintf(runs[k].name + len, sizeof runs[k].name - len, " (%d)", k + 1);
    }
}

/* ---- HTML ------------------------------------------------------------------------------------------------------- */
/* Bytes of the well-formed UTF-8 character at s, 0 if there is none. */
static int utf8(const char *s)
{
    unsigned char a = (unsigned char)s[0];
    int n = a < 0x80 ? 1 : a >= 0xc2 && a < 0xe0 ? 2 : a >= 0xe0 && a < 0xf0 ? 3 : a >= 0xf0 && a < 0xf5 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if (((unsigned char)s[i] & 0xc0) != 0x80) return 0;
    return n;
}

/* Text for a page: markup escaped; what is no character (byte models may write anything) becomes U+FFFD. */
static void escape(FILE *f, const char *s)
{
    while (s && *s) {
        int n = utf8(s);
        const char *entity = *s == '&'   ? "&amp;"
                             : *s == '<' ? "&lt;"
                             : *s == '>' ? "&gt;"
                             : *s == '"' ? "&quot;"
                                         : NULL;
        if (entity)
            (void)fputs(entity, f);
        else if (!n || (n == 1 && ((unsigned char)*s < 0x20 || *s == 0x7f) && *s != '\n' && *s != '\t'))
            (void)fputs("\xef\xbf\xbd", f);
        else
            (void)fwrite(s, 1, (size_t)n, f);
        s += n ? n : 1;
    }
}

static const char style[] =
    ":root{--bg:#fdfcfa;--fg:#1c1b1a;--soft:#66625c;--rule:#e2ded7;--panel:#f5f2ec;--axis:#77726b;--grid:#e6e2db;"
    "--c0:#1f5fa8;--c1:#c8501e;--c2:#2b7d4f;--c3:#7b4bb3;--c4:#a37a00;--c5:#b0306a;--c6:#2a8a94;--c7:#6b6b6b}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#171614;--fg:#e9e6e0;--soft:#a29d94;--rule:#35322d;--panel:#211f1c;"
    "--axis:#a29d94;--grid:#2f2c28;--c0:#6fa8e8;--c1:#f08a58;--c2:#6cc08f;--c3:#b493e0;--c4:#d9b03c;--c5:#e57faf;"
    "--c6:#66c3cd;--c7:#a8a8a8}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--bg);color:var(--fg);font:17px/1.55 system-ui,-apple-system,'Segoe UI',sans-serif;"
    "-webkit-text-size-adjust:100%}\n"
    "main{max-width:62rem;margin:0 auto;padding:3rem 1.25rem 4rem}\n"
    "h1{font-size:2.1rem;line-height:1.15;letter-spacing:-.02em;margin:0 0 .4rem;font-weight:650}\n"
    "h2{font-size:1.2rem;margin:3rem 0 .6rem;font-weight:650;letter-spacing:-.01em}\n"
    "h3{font-size:1rem;margin:0 0 .2rem;font-weight:600}\n"
    "p{margin:.4rem 0}.soft{color:var(--soft)}.lead{font-size:1.2rem;line-height:1.45;max-width:44rem;margin:1.4rem "
    "0}\n"
    ".small{font-size:.86rem}code,pre,.mono{font-family:ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',"
    "monospace;font-size:.84em}\n"
    ".dot{display:inline-block;width:.72em;height:.72em;border-radius:50%;margin-right:.5em;vertical-align:-.03em}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;margin:.2rem 0 .6rem;font-size:.92rem}\n"
    ".scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}\n"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.94rem}\n"
    "th{font-weight:500;color:var(--soft);font-size:.82rem;text-align:right;vertical-align:bottom;white-space:nowrap}\n"
    "td{text-align:right;white-space:nowrap}th,td{padding:.5rem 0 .5rem 1.3rem;border-bottom:1px solid var(--rule)}\n"
    "th:first-child,td:first-child{text-align:left;padding-left:0}td.best{font-weight:650}td small{color:var(--soft)}\n"
    ".grid{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:1.6rem "
    "2rem}.wide{grid-column:1/-1}.narrow{display:none}\n"
    "figure{margin:0}figcaption{font-weight:600;font-size:.95rem;margin-bottom:.2rem}\n"
    "svg{display:block;width:100%;height:auto;font-family:inherit}\n"
    ".spec{margin:.3rem 0 1rem}.spec code{overflow-wrap:anywhere;color:var(--soft)}\n"
    ".sample{background:var(--panel);border-left:3px solid var(--rule);padding:1rem "
    "1.2rem;margin:0;white-space:pre-wrap;"
    "overflow-wrap:anywhere;line-height:1.5;border-radius:0 6px 6px 0}\n"
    "details{border-bottom:1px solid var(--rule)}summary{cursor:pointer;padding:.6rem 0;font-weight:500}\n"
    ".conf td,.conf th{text-align:left;white-space:normal;overflow-wrap:anywhere;vertical-align:top;padding:.3rem "
    "1.2rem "
    ".3rem 0}.conf td:first-child{white-space:nowrap}\n"
    "footer{margin-top:3.5rem;border-top:1px solid var(--rule);padding-top:1rem}\n"
    "@media(max-width:44rem){main{padding:1.6rem 1rem "
    "3rem}.grid{grid-template-columns:minmax(0,1fr)}"
    ".broad{display:none}.narrow{display:block}h1{font-size:1.7rem}"
    ".lead{font-size:1.08rem}}\n"
    "@media print{:root{--bg:#fff;--fg:#000;--soft:#444;--rule:#ccc;--panel:#fff;--axis:#444;--grid:#ddd;--c0:#1f5fa8;"
    "--c1:#c8501e;--c2:#2b7d4f;--c3:#7b4bb3}body{font-size:10.5pt}main{max-width:none;padding:0}h2{margin-top:1.6rem}"
    "figure,.sample,tr{break-inside:avoid}h2,h3{break-after:avoid}.scroll{overflow:visible}}\n";

static void dot(FILE *f, int colour)
{
    (void)fprintf(f, "<span class=\"dot\" style=\"background:var(--c%d)\"></span>", colour);
}

static void legend(const page *p)
{
    (void)fputs("<div class=\"legend\">", p->f);
    for (int i = 0; i < p->n; i++) {
        (void)fputs("<span>", p->f);
        dot(p->f, i);
        escape(p->f, p->runs[i].name);
        (void)fputs("</span>", p->f);
    }
    (void)fputs("</div>\n", p->f);
}

/* The run with the least validation loss, -1 if none was measured. */
static int best_run(const page *p)
{
    int best = -1;
    for (int i = 0; i < p->n; i++)
        if (isfinite(p->runs[i].best) && (best < 0 || p->runs[i].best < p->runs[best].best)) best = i;
    return best;
}

/* Do all runs have squared errors? */
static bool of_numbers(const page *p)
{
    for (int i = 0; i < p->n; i++)
        if (!p->runs[i].numbers) return false;
    return true;
}

static void lead(const page *p)
{
    int b = best_run(p);
    if (b < 0) {
        (void)fputs("<p class=\"lead\">No validation loss was measured in these runs.</p>\n", p->f);
        return;
    }
    const run *r = &p->runs[b];
    (void)fputs("<p class=\"lead\"><strong>", p->f);
    escape(p->f, r->name);
    if (of_numbers(p))
        (void)fprintf(p->f, "</strong> reaches a squared error of %.4f on held-out data", r->best);
    else
        (void)fprintf(p->f, "</strong> reaches %.3f nats per token on held-out text, %.3f bits", r->best,
                      r->best / log(2));
    int second = -1;
    for (int i = 0; i < p->n; i++)
        if (i != b && isfinite(p->runs[i].best) && (second < 0 || p->runs[i].best < p->runs[second].best)) second = i;
    if (second >= 0) {
        (void)fprintf(p->f, of_numbers(p) ? "; %.4f less than <strong>" : "; %.3f nats less than <strong>",
                      p->runs[second].best - r->best);
        escape(p->f, p->runs[second].name);
        double ratio = p->runs[second].last.flops > 0 ? r->last.flops / p->runs[second].last.flops : 0;
        (void)fputs("</strong>", p->f);
        if (ratio > 0.98 && ratio < 1.02)
            (void)fputs(" at the same compute", p->f);
        else if (ratio > 0)
            (void)fprintf(p->f, " with %.2f times its compute", ratio);
    }
    (void)fputs(".</p>\n", p->f);
}

static void number_cell(FILE *f, const char *text)
{
    (void)fprintf(f, "<td>%s</td>", text);
}

static void table(const page *p)
{
    char b[CLI_NUMBER];
    int best = best_run(p);
    const bool numbers = of_numbers(p);
    (void)fprintf(
        p->f, "<div class=\"scroll\"><table>\n<tr><th>run</th><th>best validation<br>%s</th>%s<th>training<br>%s</th>",
        numbers ? "squared error" : "nats", numbers ? "" : "<th>bits</th>", numbers ? "squared error" : "nats");
    (void)fputs("<th>parameters</th><th>tokens</th><th>FLOPs</th><th>time</th>"
                "<th>tokens/s</th><th>FLOPs<br>per token</th><th>cache bytes<br>per token</th></tr>\n",
                p->f);
    for (int i = 0; i < p->n; i++) {
        const run *r = &p->runs[i];
        (void)fputs("<tr><td>", p->f);
        dot(p->f, i);
        escape(p->f, r->name);
        const char *class = i == best ? " class=\"best\"" : "";
        (void)snprintf(b, sizeof b, "%.4f", r->best);
        (void)fprintf(p->f, "</td><td%s>%s</td>", class, isfinite(r->best) ? b : "–");
        (void)snprintf(b, sizeof b, "%.4f", r->best / log(2));
        if (!numbers) (void)fprintf(p->f, "<td%s>%s</td>", class, isfinite(r->best) ? b : "–");
        (void)snprintf(b, sizeof b, "%.4f", r->last.loss);
        number_cell(p->f, isfinite(r->last.loss) ? b : "–");
        number_cell(p->f, r->has_model ? cli_si(b, (double)r->cost.params) : "–");
        number_cell(p->f, cli_si(b, (double)r->last.tokens));
        number_cell(p->f, cli_si(b, r->last.flops));
        number_cell(p->f, cli_duration(b, r->last.seconds));
        number_cell(p->f, isfinite(r->last.tokens_per_s) ? cli_si(b, r->last.tokens_per_s) : "–");
        number_cell(p->f, r->has_model ? cli_si(b, r->cost.flops_fwd + r->cost.flops_bwd) : "–");
        (void)snprintf(b, sizeof b, "%.0f", r->cost.cache_bytes_per_token);
        number_cell(p->f, r->has_model ? b : "–");
        (void)fputs("</tr>\n", p->f);
    }
    (void)fputs(
        "</table></div>\n<p class=\"small soft\">FLOPs count 2 per multiply-add in matrix products, of attention "
        "only the visible pairs, forward and backward. The cache is that of one sequence at the context "
        "length.</p>\n",
        p->f);
}

/* ---- curves ----------------------------------------------------------------------------------------------------- */
typedef enum axis { BY_TOKENS, BY_FLOPS, BY_TIME } axis;
typedef enum curve { VALIDATION, TRAINING, THROUGHPUT } curve;

static double x_of(const strata_progress *p, axis a)
{
    return a == BY_TOKENS ? (double)p->tokens : a == BY_FLOPS ? p->flops : p->seconds;
}

/* A unit in which the largest value has one to three digits before the point. */
static double unit_of(double largest, axis a, char *label, size_t cap)
{
    static const char *const prefix[] = { "", "k", "M", "G", "T", "P", "E" };
    static const char *const words[] = { "", "thousands", "millions", "billions", "trillions", "10^15", "10^18" };
    if (a == BY_TIME) {
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

static double y_of(const strata_progress *p, curve c)
{
    return c == VALIDATION ? p->val_loss : c == TRAINING ? p->loss : p->tokens_per_s / 1000;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Points of a curve, at most CURVE of them: means over equal numbers of rows. */
static int collect(const run *r, curve c, axis a, double unit, double *x, double *y)
{
    int64_t have = 0, k = 0;
    for (int64_t i = 0; i < r->rows; i++) have += isfinite(y_of(&r->row[i], c)) != 0;
    int64_t per = (have + CURVE - 1) / CURVE;
    int n = 0;
    double sx = 0, sy = 0;
    for (int64_t i = 0; i < r->rows; i++) {
        if (!isfinite(y_of(&r->row[i], c))) continue;
        sx += x_of(&r->row[i], a) / unit;
        sy += y_of(&r->row[i], c);
        if (++k % per && k != have) continue;
        int64_t m = k % per ? k % per : per;
        x[n] = sx / (double)m;
        y[n++] = sy / (double)m;
        sx = sy = 0;
    }
    return n;
}

static void figure(const page *p, const char *caption, curve c, axis a, const char *class)
{
    bool wide = !strncmp(class, "wide", 4);
    static const char *const ylabel[] = { "nats per token", "nats per token", "thousand tokens per second" };
    double largest = 0, unit;
    char xlabel[64], title[128];
    plot g = { .title = title,
               .xlabel = xlabel,
               .ylabel = c != THROUGHPUT && of_numbers(p) ? "squared error" : ylabel[c],
               .width = wide ? 1000 : 540,
               .height = wide ? 400 : 350,
               .from_zero = c == THROUGHPUT };
    double *mem = calloc((size_t)p->n * 3 * CURVE, sizeof *mem), *all;
    if (!mem) return;
    all = mem + (size_t)p->n * 2 * CURVE;
    for (int i = 0; i < p->n; i++) largest = fmax(largest, x_of(&p->runs[i].last, a));
    unit = unit_of(largest, a, xlabel, sizeof xlabel);
    (void)snprintf(title, sizeof title, "%s against %s", caption, xlabel);
    int total = 0;
    for (int i = 0; i < p->n; i++) {
        double *x = mem + (size_t)i * 2 * CURVE, *y = x + CURVE;
        int n = collect(&p->runs[i], c, a, unit, x, y);
        g.series[g.nseries++] = (plot_series){ x, y, n, i, false };
        for (int k = 0; k < n; k++) all[total++] = y[k];
    }
    if (c != THROUGHPUT && total > 20) { /* the first steps would flatten the rest */
        qsort(all, (size_t)total, sizeof *all, by_value);
        g.ymax = all[total * 9 / 10] * 1.03;
    }
    char *svg = plot_svg(&g);
    if (svg) {
        (void)fprintf(p->f, "<figure class=\"%s\"><figcaption>%s</figcaption>\n%s</figure>\n", class, caption, svg);
        free(svg);
    }
    free(mem);
}

static void curves(const page *p)
{
    (void)fputs("<h2>Curves</h2>\n", p->f);
    if (!plot_available()) {
        (void)fputs("<p class=\"soft\">This page has no pictures: gnuplot was not found when it was written.</p>\n",
                    p->f);
        cli_note("strata: gnuplot not found: the page has no pictures");
        return;
    }
    legend(p);
    (void)fputs("<div class=\"grid\">\n", p->f);
    figure(p, "Validation loss", VALIDATION, BY_TOKENS, "wide broad");
    figure(p, "Validation loss", VALIDATION, BY_TOKENS, "narrow"); /* the same for small screens */
    figure(p, "Validation loss at equal compute", VALIDATION, BY_FLOPS, "");
    figure(p, "Validation loss at equal time", VALIDATION, BY_TIME, "");
    figure(p, "Training loss", TRAINING, BY_TOKENS, "");
    figure(p, "Throughput", THROUGHPUT, BY_TOKENS, "");
    (void)fputs("</div>\n", p->f);
}

/* ---- models, samples, configuration -------------------------------------------------------------------------------
 */
static void models(const page *p)
{
    (void)fputs("<h2>Models</h2>\n", p->f);
    for (int i = 0; i < p->n; i++) {
        const run *r = &p->runs[i];
        const char *spec = r->spec ? r->spec : config_of(r, "model.spec");
        (void)fputs("<h3>", p->f);
        dot(p->f, i);
        escape(p->f, r->name);
        (void)fputs("</h3>\n<p class=\"spec\"><code>", p->f);
        escape(p->f, spec ? spec : "unknown");
        (void)fputs("</code></p>\n", p->f);
    }
}

static void samples(const page *p)
{
    bool any = false;
    for (int i = 0; i < p->n; i++) any |= p->runs[i].sample != NULL;
    if (!any) return;
    (void)fprintf(p->f,
                  "<h2>Samples</h2>\n<p class=\"small soft\">Drawn from the best checkpoint, temperature %g, seed %lld."
                  "</p>\n<div class=\"grid\">\n",
                  cli_num(p->c, "temperature"), (long long)cli_int(p->c, "seed"));
    for (int i = 0; i < p->n; i++) {
        const char *s = p->runs[i].sample;
        if (!s) continue;
        while (*s == '\n') s++;
        (void)fprintf(p->f, "<figure%s><figcaption>", p->n == 1 ? " class=\"wide\"" : "");
        dot(p->f, i);
        escape(p->f, p->runs[i].name);
        (void)fputs("</figcaption><pre class=\"sample\">", p->f);
        escape(p->f, s);
        (void)fputs("</pre></figure>\n", p->f);
    }
    (void)fputs("</div>\n", p->f);
}

static bool same_everywhere(const page *p, const char *key)
{
    const char *first = config_of(&p->runs[0], key);
    for (int i = 1; i < p->n; i++) {
        const char *v = config_of(&p->runs[i], key);
        if (!v || !first || strcmp(v, first) != 0) return false;
    }
    return true;
}

static void config_rows(const page *p, bool differing)
{
    (void)fputs("<div class=\"scroll\"><table class=\"conf\">\n<tr><th>key</th>", p->f);
    for (int i = 0; i < (differing ? p->n : 1); i++) {
        (void)fputs("<th>", p->f);
        if (differing) dot(p->f, i);
        escape(p->f, differing ? p->runs[i].name : "value");
        (void)fputs("</th>", p->f);
    }
    (void)fputs("</tr>\n", p->f);
    for (int r = 0; r < p->n; r++) {
        for (int k = 0; k < p->runs[r].nkeys; k++) {
            const char *key = p->runs[r].key[k];
            bool seen = false; /* an earlier run has it and printed it */
            for (int e = 0; e < r; e++) seen |= config_of(&p->runs[e], key) != NULL;
            if (seen || same_everywhere(p, key) == differing) continue;
            (void)fputs("<tr><td><code>", p->f);
            escape(p->f, key);
            (void)fputs("</code></td>", p->f);
            for (int i = 0; i < (differing ? p->n : 1); i++) {
                const char *v = config_of(&p->runs[i], key);
                (void)fputs("<td><code>", p->f);
                escape(p->f, v ? v : "–");
                (void)fputs("</code></td>", p->f);
            }
            (void)fputs("</tr>\n", p->f);
        }
    }
    (void)fputs("</table></div>\n", p->f);
}

static void configuration(const page *p)
{
    bool any = false, differ = false;
    for (int i = 0; i < p->n; i++) {
        any |= p->runs[i].nkeys > 0;
        for (int k = 0; k < p->runs[i].nkeys; k++) differ |= !same_everywhere(p, p->runs[i].key[k]);
    }
    if (!any) return;
    (void)fputs("<h2>Configuration</h2>\n", p->f);
    if (differ) {
        (void)fputs("<details open><summary>What differs between the runs</summary>\n", p->f);
        config_rows(p, true);
        (void)fputs("</details>\n", p->f);
    }
    (void)fprintf(p->f, "<details><summary>%s</summary>\n", p->n > 1 ? "What all runs share" : "All values");
    config_rows(p, false);
    (void)fputs("</details>\n", p->f);
}

static void write_page(const page *p)
{
    const char *title = cli_text(p->c, "title"), *note;
    char date[64] = "";
    time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm)) (void)strftime(date, sizeof date, "%e %B %Y, %H:%M UTC", &tm);
    (void)fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                "<meta name=\"color-scheme\" content=\"light dark\">\n<title>",
                p->f);
    escape(p->f, title);
    (void)fprintf(p->f, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n<h1>", style);
    escape(p->f, title);
    (void)fprintf(p->f, "</h1>\n<p class=\"soft\">%d %s · Strata %s · %s</p>\n", p->n, p->n == 1 ? "run" : "runs",
                  strata_version(), date + (date[0] == ' '));
    lead(p);
    for (int i = 0; (note = cli_repeated(p->c, "note", i)); i++) {
        (void)fputs("<p>", p->f);
        escape(p->f, note);
        (void)fputs("</p>\n", p->f);
    }
    table(p);
    curves(p);
    samples(p);
    models(p);
    configuration(p);
    (void)fputs("<footer class=\"small soft\">Made by <code>strata report", p->f);
    for (int i = 0; i < p->n; i++) {
        (void)fputc(' ', p->f);
        escape(p->f, p->runs[i].path);
    }
    (void)fputs(of_numbers(p) ? "</code>. Losses are mean squared errors."
                              : "</code>. Losses are natural logarithms per token; bits are nats / ln 2.",
                p->f);
    (void)fputs("</footer>\n</main>\n</body>\n</html>\n", p->f);
}

/* ---- command ---------------------------------------------------------------------------------------------------- */
static int run_report(cli *c)
{
    strata_context *ctx = NULL;
    const char *out = cli_text(c, "output");
    run *runs = calloc(MAX_RUNS, sizeof *runs);
    page p = { NULL, c, runs, c->nargs };
    if (!runs) return cli_fail(CLI_FAILED, "out of memory");
    int rc = CLI_OK;
    if (!out) rc = cli_fail(CLI_USAGE, "report: -o FILE.html is needed");
    if (!rc && c->nargs > MAX_RUNS) rc = cli_fail(CLI_USAGE, "report: at most %d runs on a page", MAX_RUNS);
    if (!rc) rc = cli_context(c, NULL, &ctx);
    for (int i = 0; i < c->nargs && !rc; i++) {
        runs[i].path = c->arg[i];
        name_run(runs, i);
        rc = read_run(&runs[i], c, ctx);
    }
    cli_file file = { NULL, NULL, NULL };
    if (!rc) rc = cli_file_open(&file, out);
    if (!rc) {
        p.f = file.f;
        write_page(&p);
        rc = cli_file_close(&file, true);
    }
    for (int i = 0; i < MAX_RUNS; i++) free_run(&runs[i]);
    free(runs);
    strata_context_destroy(ctx);
    return rc;
}

static const cli_option options[] = {
    { "output", 'o', CLI_TEXT, "FILE", "the page; - for stdout", NULL, 0, 0 },
    { "title", 0, CLI_TEXT, "TEXT", "heading", "Training report", 0, 0 },
    { "note", 0, CLI_TEXT, "TEXT", "a paragraph below the heading; repeatable", NULL, 0, 0 },
    { "prompt", 'p', CLI_TEXT, "TEXT", "text that the samples continue", "\n", 0, 0 },
    { "temperature", 't', CLI_NUM, "X", "of the samples", "0.8", 1e-3, 1e3 },
    { "seed", 0, CLI_INT, "N", "of the samples", "1", 0, 9e15 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_report = {
    "report",
    "RUN… -o FILE.html",
    "Write a page about runs: curves, costs, samples, configuration",
    "The page is one HTML file without outside references: losses against tokens, compute and time for all runs side "
    "by\n"
    "side, throughput, a sample of each, and what differs between their configurations. Pictures need gnuplot.",
    "strata report runs/standard runs/mlr -o report.html --title \"Standard and MLR attention\"",
    1,
    -1,
    options,
    run_report,
};
