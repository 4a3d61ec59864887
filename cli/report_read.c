/* strata report: reading runs and grouping them. */
#include "report.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE = 700 };

static char *copy(const char *s, size_t n)
{
    char *t = malloc(n + 1);
    if (!t) return NULL;
    memcpy(t, s, n);
    t[n] = 0;
    return t;
}

/* Append " more" to a heap string, or make one. */
static bool extend(char **s, const char *more)
{
    const size_t n = *s ? strlen(*s) : 0, m = strlen(more);
    char *grown = realloc(*s, n + m + 2);
    if (!grown) return false;
    if (n) grown[n] = ' ';
    memcpy(grown + n + (n > 0), more, m + 1);
    *s = grown;
    return true;
}

static void add_key(report_run *r, const char *key, size_t nkey, const char *value, size_t nvalue)
{
    if (r->nkeys == REPORT_KEYS) return;
    r->key[r->nkeys] = copy(key, nkey);
    r->value[r->nkeys] = copy(value, nvalue);
    if (r->key[r->nkeys] && r->value[r->nkeys]) r->nkeys++;
}

/* "# data HASH BYTES PATH", "# validation …": the files that the run was trained on. Runs of older versions lack them.
 */
static bool read_data(report_run *r, const char *line)
{
    char hash[64], text[512];
    unsigned long long bytes;
    int path = 0;
    const bool validation = !strncmp(line, "# validation ", 13);
    if (!validation && strncmp(line, "# data ", 7) != 0) return true;
    if (sscanf(strchr(line + 2, ' '), " %63s %llu %n", hash, &bytes, &path) != 2 || !path) return true;
    const char *name = strchr(line + 2, ' ') + path, *slash = strrchr(name, '/');
    if (slash && slash[1] != '\n') name = slash + 1;
    const int n = (int)strcspn(name, "\n");
    if (!r->file && !(r->file = copy(strchr(line + 2, ' ') + path, strcspn(strchr(line + 2, ' ') + path, "\n"))))
        return false;
    (void)snprintf(text, sizeof text, "%.*s, %llu bytes, %.8s…", n < 400 ? n : 400, name, bytes, hash);
    add_key(r, validation ? "validation" : "data", validation ? 10 : 4, text, strlen(text));
    return extend(&r->data, line[2] == 'v' ? "validation" : "data") && extend(&r->data, hash) &&
           (!validation || extend(&r->scored, hash));
}

/* "key = value" lines of config.conf, and what its comments say of task and data. */
static int read_config(report_run *r)
{
    char *path = cli_join(r->path, "config.conf");
    FILE *f = path ? fopen(path, "r") : NULL;
    free(path);
    char line[8192];
    bool ok = true;
    while (f && ok && fgets(line, sizeof line, f)) {
        char *s = line, *eq = strchr(line, '=');
        strata_task_info about = { .size = STRATA_INIT(strata_task_info) };
        if (sscanf(line, "# task %63s", r->task) == 1 && strata_task_describe(r->task, &about) == STRATA_OK)
            r->numbers = about.numbers != 0;
        ok = read_data(r, line);
        while (isspace((unsigned char)*s)) s++;
        if (!eq || *s == '#' || s >= eq) continue;
        char *end = eq, *v = eq + 1;
        while (end > s && isspace((unsigned char)end[-1])) end--;
        while (isspace((unsigned char)*v)) v++;
        size_t n = strlen(v);
        while (n && isspace((unsigned char)v[n - 1])) n--;
        add_key(r, s, (size_t)(end - s), v, n);
    }
    if (f) (void)fclose(f);
    if (ok && !r->data) r->data = copy("", 0);
    if (ok && !r->scored) r->scored = copy(r->data ? r->data : "", r->data ? strlen(r->data) : 0); /* a part of them */
    return ok && r->data && r->scored ? CLI_OK : cli_fail(CLI_FAILED, "out of memory");
}

const char *report_config(const report_run *r, const char *key)
{
    for (int i = 0; i < r->nkeys; i++)
        if (!strcmp(r->key[i], key)) return r->value[i];
    return NULL;
}

static int read_metrics(report_run *r)
{
    strata_metrics *m = NULL;
    int rc = cli_status(strata_metrics_open(r->path, &m), CLI_ON_INPUT, r->path);
    if (rc) return rc;
    r->rows = strata_metrics_count(m);
    r->row = calloc((size_t)r->rows + 1, sizeof *r->row);
    if (!r->row) rc = cli_fail(CLI_FAILED, "out of memory");
    r->best = (double)NAN;
    r->last.loss = r->last.tokens_per_s = (double)NAN;
    for (int64_t i = 0; i < r->rows && !rc; i++) {
        strata_progress *p = &r->row[i];
        rc = cli_status(strata_metrics_at(m, i, p), CLI_ON_INPUT, r->path);
        if (isfinite(p->loss)) r->last.loss = p->loss;
        if (isfinite(p->val_loss) && !(r->best <= p->val_loss)) r->best = p->val_loss;
        r->last.step = p->step;
        r->last.tokens = p->tokens;
        r->last.flops = p->flops;
        r->last.seconds = p->seconds;
    }
    if (r->last.seconds > 0) r->last.tokens_per_s = (double)r->last.tokens / r->last.seconds;
    strata_metrics_close(m);
    if (!rc && !loss_curve_of(r->row, r->rows, false, &r->curve)) rc = cli_fail(CLI_FAILED, "out of memory");
    return rc;
}

int report_points(const report_run *r, report_curve c, amount a, double *x, double *y)
{
    int n = 0;
    for (int64_t i = 0; i < r->rows; i++) {
        const strata_progress *p = &r->row[i];
        double v = c == VALIDATION ? p->val_loss : c == TRAINING ? p->loss : p->tokens_per_s / 1000;
        if (!isfinite(v)) continue;
        x[n] = amount_of(p, a);
        y[n++] = v;
    }
    return n;
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------ */
/* A short text from a best checkpoint; the seed is fixed, so two reports show the same. */
static void draw_sample(report_model *g, const strata_model *m, const cli *c)
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
        g->sample = text;
    } else {
        free(text);
    }
    strata_session_destroy(s);
}

static void read_layers(report_model *g, const strata_model *m)
{
    const int32_t n = strata_model_attention_count(m);
    g->context = strata_model_context(m);
    g->layer = n > 0 ? calloc((size_t)n, sizeof *g->layer) : NULL;
    for (int32_t i = 0; g->layer && i < n; i++) {
        g->layer[i].size = STRATA_INIT(strata_attention_layer);
        if (strata_model_attention(m, i, 0, &g->layer[i]) == STRATA_OK) g->layers++;
        g->layer[i].name = NULL; /* the model's */
    }
}

/* Attention on data: --data, or what the run keeps apart. */
static void look_at_attention(report_model *g, const char *path, int32_t best, const cli *c, const strata_context *ctx)
{
    const char *data = cli_text(c, "data");
    const strata_analysis_config how = { STRATA_INIT(strata_analysis_config), .best = best,
                                         .sequences = cli_int(c, "attention") };
    if (!g->layers || !how.sequences || g->minor) return;
    if (strata_analysis_create(ctx, path, &data, data ? 1 : 0, &how, &g->analysis) != STRATA_OK)
        cli_note("strata: %s: attention is not measured: %s", path, strata_last_error());
}

/* From the first seed that has a checkpoint: the best one would flatter the model. */
static void read_checkpoint(report_model *g, const cli *c, const strata_context *ctx)
{
    for (int i = 0; i < g->n && !g->has_model; i++) {
        const char *path = g->run[i]->path;
        strata_model *m = NULL;
        int32_t best = strata_model_load(ctx, path, 1, &m) == STRATA_OK;
        if (!best && strata_model_load(ctx, path, 0, &m) != STRATA_OK) {
            cli_note("strata: %s: no checkpoint to sample from: %s", path, strata_last_error());
            continue;
        }
        g->has_model = true;
        g->has_cost = strata_model_cost(m, 0, &g->cost) == STRATA_OK;
        free(g->spec);
        g->spec = copy(strata_model_spec(m), strlen(strata_model_spec(m)));
        read_layers(g, m);
        if (!g->minor) draw_sample(g, m, c);
        strata_model_destroy(m);
        look_at_attention(g, path, best, c, ctx);
    }
}

strata_config *report_load_config(const report_run *r, const strata_context *ctx)
{
    strata_config *c = NULL;
    char *path = cli_join(r->path, "config.conf");
    if (!path || strata_config_create(ctx, r->task, &c) != STRATA_OK || strata_config_load(c, path) != STRATA_OK) {
        strata_config_destroy(c);
        c = NULL;
    }
    free(path);
    return c;
}

static void read_model(report_model *g, const cli *c, const strata_context *ctx)
{
    g->cost.size = STRATA_INIT(strata_cost);
    read_checkpoint(g, c, ctx);
    if (g->has_cost) return;
    strata_config *cfg = report_load_config(g->run[0], ctx);
    g->has_cost = cfg && strata_train_cost(ctx, cfg, &g->cost) == STRATA_OK;
    strata_config_destroy(cfg);
}

static int read_run(report *p, report_run *r)
{
    int rc = read_metrics(r);
    if (!rc) rc = read_config(r);
    if (rc) return rc;
    const report_run *first = &p->run[0];
    p->numbers &= r->numbers;
    if (strcmp(r->task, first->task) != 0)
        p->apart = "tasks";
    else if (*r->scored && *first->scored && strcmp(r->scored, first->scored) != 0 && !p->apart)
        p->apart = "validation data";
    return CLI_OK;
}

int report_read(report *p)
{
    p->run = calloc(REPORT_RUNS, sizeof *p->run);
    p->model = calloc(REPORT_MODELS, sizeof *p->model);
    p->family = calloc(REPORT_MODELS, sizeof *p->family);
    if (!p->run || !p->model || !p->family) return cli_fail(CLI_FAILED, "out of memory");
    if (p->c->nargs > REPORT_RUNS) return cli_fail(CLI_USAGE, "report: at most %d runs on a page", REPORT_RUNS);
    p->numbers = true;
    for (; p->runs < p->c->nargs; p->runs++) {
        p->run[p->runs].path = p->c->arg[p->runs];
        int rc = read_run(p, &p->run[p->runs]);
        if (rc) return rc;
    }
    p->one_task = !p->apart;
    int rc = report_group(p);
    for (int k = 0; !rc && k < p->models; k++) {
        report_model *g = &p->model[k];
        read_model(g, p->c, p->ctx);
        for (int i = 0; i < g->n; i++) p->run[g->run[i] - p->run].curve.still = g->has_cost && g->cost.params == 0;
    }
    if (!rc) report_name_families(p);
    return rc;
}

void report_free(report *p)
{
    for (int i = 0; p->run && i < REPORT_RUNS; i++) {
        for (int k = 0; k < p->run[i].nkeys; k++) {
            free(p->run[i].key[k]);
            free(p->run[i].value[k]);
        }
        free(p->run[i].row);
        free(p->run[i].file);
        free(p->run[i].data);
        free(p->run[i].scored);
        loss_curve_free(&p->run[i].curve);
    }
    for (int k = 0; p->model && k < REPORT_MODELS; k++) {
        free(p->model[k].spec);
        free(p->model[k].sample);
        free(p->model[k].layer);
        strata_analysis_destroy(p->model[k].analysis);
    }
    free(p->run);
    free(p->family);
    free(p->model);
}
