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

/* ---- grouping --------------------------------------------------------------------------------------------------- */
static bool same_value(const report_run *a, const report_run *b, const char *key)
{
    const char *x = report_config(a, key), *y = report_config(b, key);
    return x && y && !strcmp(x, y);
}

/* Does every key of a that matters, the seed apart, have the same value in b? Data are compared by their hashes. */
static bool covers(const report_run *a, const report_run *b)
{
    for (int i = 0; i < a->nkeys; i++)
        if (strchr(a->key[i], '.') && strcmp(a->key[i], "train.seed") != 0 && !is_bookkeeping(a->key[i]) &&
            !same_value(a, b, a->key[i]))
            return false;
    return true;
}

/* Is r one more seed of the model? The same seed once more is not: it would pass for an independent run. */
static bool belongs(const report_model *g, const report_run *r)
{
    if (!r->nkeys || strcmp(g->run[0]->task, r->task) != 0 || strcmp(g->run[0]->data, r->data) != 0) return false;
    for (int i = 0; i < g->n; i++)
        if (same_value(g->run[i], r, "train.seed")) return false;
    return covers(g->run[0], r) && covers(r, g->run[0]);
}

/* ---- names ------------------------------------------------------------------------------------------------------ */
/* The last part of the run's path. */
static const char *last_part(const report_run *r, size_t *len)
{
    size_t n = strlen(r->path);
    while (n > 1 && r->path[n - 1] == '/') n--;
    size_t start = n;
    while (start > 0 && r->path[start - 1] != '/') start--;
    *len = n - start;
    return r->path + start;
}

/* What the names of the runs begin with, without the word that numbers them: mlr of mlr-seed1 and mlr-seed2. */
static size_t shared_part(const report_model *g)
{
    size_t n;
    const char *a = last_part(g->run[0], &n);
    for (int i = 1; i < g->n; i++) {
        size_t m, k = 0;
        const char *b = last_part(g->run[i], &m);
        while (k < n && k < m && a[k] == b[k]) k++;
        n = k;
    }
    static const char *const ends[] = { "seed", "-s", "_s", ".s", "-", "_", ".", "=" };
    for (size_t e = 0; g->n > 1 && e < sizeof ends / sizeof *ends;) {
        size_t len = strlen(ends[e]);
        bool has = n > len && !strncmp(a + n - len, ends[e], len);
        if (has) n -= len;
        e = has ? 0 : e + 1;
    }
    return n;
}

/* A number is added where two models would share a name. */
static void name_model(report_model *models, int k)
{
    size_t n;
    report_model *g = &models[k];
    const char *a = last_part(g->run[0], &n);
    size_t shared = shared_part(g);
    if (shared) n = shared;
    (void)snprintf(g->name, sizeof g->name, "%.*s", (int)(n < 50 ? n : 50), a);
    while (n && n <= 50 && isspace((unsigned char)g->name[n - 1])) g->name[--n] = 0;
    for (int i = 0; i < k; i++) {
        if (strcmp(models[i].name, g->name) != 0) continue;
        size_t len = strlen(g->name);
        (void)snprintf(g->name + len, sizeof g->name - len, " (%d)", k + 1);
    }
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

/* From the first seed that has a checkpoint: the best one would flatter the model. */
static void read_checkpoint(report_model *g, const cli *c, const strata_context *ctx)
{
    for (int i = 0; i < g->n && !g->has_model; i++) {
        const char *path = g->run[i]->path;
        strata_model *m = NULL;
        if (strata_model_load(ctx, path, 1, &m) != STRATA_OK && strata_model_load(ctx, path, 0, &m) != STRATA_OK) {
            cli_note("strata: %s: no checkpoint to sample from: %s", path, strata_last_error());
            continue;
        }
        g->cost.size = STRATA_INIT(strata_cost);
        g->has_model = strata_model_cost(m, 0, &g->cost) == STRATA_OK;
        free(g->spec);
        g->spec = copy(strata_model_spec(m), strlen(strata_model_spec(m)));
        draw_sample(g, m, c);
        strata_model_destroy(m);
    }
}

int report_read(report *p, const strata_context *ctx)
{
    p->run = calloc(REPORT_RUNS, sizeof *p->run);
    p->model = calloc(REPORT_MODELS, sizeof *p->model);
    if (!p->run || !p->model) return cli_fail(CLI_FAILED, "out of memory");
    if (p->c->nargs > REPORT_RUNS) return cli_fail(CLI_USAGE, "report: at most %d runs on a page", REPORT_RUNS);
    p->numbers = p->one_task = true;
    for (; p->runs < p->c->nargs; p->runs++) {
        report_run *r = &p->run[p->runs];
        r->path = p->c->arg[p->runs];
        int rc = read_metrics(r);
        if (!rc) rc = read_config(r);
        if (rc) {
            p->runs++; /* to be freed */
            return rc;
        }
        p->numbers &= r->numbers;
        const report_run *first = &p->run[0];
        if (strcmp(r->task, first->task) != 0)
            p->apart = "tasks";
        else if (*r->scored && *first->scored && strcmp(r->scored, first->scored) != 0 && !p->apart)
            p->apart = "validation data";
        p->one_task = !p->apart;
        int k = 0;
        while (k < p->models && !belongs(&p->model[k], r)) k++;
        if (k == REPORT_MODELS)
            return cli_fail(CLI_USAGE,
                            "report: at most %d models on a page (runs that differ only in train.seed are one)",
                            REPORT_MODELS);
        p->model[k].run[p->model[k].n++] = r;
        if (k == p->models) p->models++;
    }
    for (int k = 0; k < p->models; k++) {
        name_model(p->model, k);
        p->seeds |= p->model[k].n > 1;
        read_checkpoint(&p->model[k], p->c, ctx);
        for (int i = 0; i < p->model[k].n; i++)
            p->run[p->model[k].run[i] - p->run].curve.still = p->model[k].has_model && p->model[k].cost.params == 0;
    }
    return CLI_OK;
}

void report_free(report *p)
{
    for (int i = 0; p->run && i < REPORT_RUNS; i++) {
        for (int k = 0; k < p->run[i].nkeys; k++) {
            free(p->run[i].key[k]);
            free(p->run[i].value[k]);
        }
        free(p->run[i].row);
        free(p->run[i].data);
        free(p->run[i].scored);
        loss_curve_free(&p->run[i].curve);
    }
    for (int k = 0; p->model && k < REPORT_MODELS; k++) {
        free(p->model[k].spec);
        free(p->model[k].sample);
    }
    free(p->run);
    free(p->model);
}
