/* strata report: which runs are seeds of one model, which models are sizes of one family, and what all are called. */
#include "report.h"

#include <ctype.h>
#include <fnmatch.h>
#include <math.h>
#include <string.h>

/* ---- what agrees ------------------------------------------------------------------------------------------------ */
static bool same_value(const report_run *a, const report_run *b, const char *key)
{
    const char *x = report_config(a, key), *y = report_config(b, key);
    return x && y && !strcmp(x, y);
}

/* The next word of a spec that is not a size of the whole model; *at moves behind it. @return its length, 0: the end */
static size_t next_word(const char **at, const char **word)
{
    for (;;) {
        const char *s = *at + strspn(*at, " \t");
        int depth = 0;
        *word = s;
        for (; *s && (depth > 0 || (*s != ' ' && *s != '\t')); s++) depth += (*s == '(') - (*s == ')');
        *at = s;
        if (strncmp(*word, "width=", 6) != 0 && strncmp(*word, "layers=", 7) != 0) return (size_t)(s - *word);
    }
}

/* Do two specs say the same but for width= and layers=? */
static bool same_but_size(const char *a, const char *b)
{
    for (;;) {
        const char *x, *y;
        const size_t n = next_word(&a, &x), m = next_word(&b, &y);
        if (n != m || strncmp(x, y, n) != 0) return false;
        if (n == 0) return true;
    }
}

/* Does every key of a that matters have the same value in b? Seeds may differ, in a family also learning rates and
 * sizes. Data are compared by their hashes. */
static bool covers(const report_run *a, const report_run *b, bool family)
{
    for (int i = 0; i < a->nkeys; i++) {
        const char *key = a->key[i];
        if (!strchr(key, '.') || !strcmp(key, "train.seed") || is_bookkeeping(key)) continue;
        if (family && !strcmp(key, "train.lr")) continue;
        const char *other = report_config(b, key);
        if (!other) return false;
        if (family && !strcmp(key, "model.spec") ? !same_but_size(a->value[i], other) : strcmp(a->value[i], other) != 0)
            return false;
    }
    return true;
}

static bool comparable(const report_run *a, const report_run *b, bool family)
{
    return a->nkeys && !strcmp(a->task, b->task) && !strcmp(a->data, b->data) && covers(a, b, family) &&
           covers(b, a, family);
}

/* Is r one more seed of the model? The same seed once more is not: it would pass for an independent run. */
static bool belongs(const report_model *g, const report_run *r)
{
    for (int i = 0; i < g->n; i++)
        if (same_value(g->run[i], r, "train.seed")) return false;
    return comparable(g->run[0], r, false);
}

/* ---- names ------------------------------------------------------------------------------------------------------ */
/* The last `parts` parts of the run's path. */
static const char *last_parts(const report_run *r, int parts, size_t *len)
{
    size_t n = strlen(r->path);
    while (n > 1 && r->path[n - 1] == '/') n--;
    size_t start = n;
    for (; start > 0; start--)
        if (r->path[start - 1] == '/' && start < n && --parts == 0) break;
    *len = n - start;
    return r->path + start;
}

/* What the names of runs begin with, without the word that numbers them: mlr of mlr-seed1 and mlr-seed2. */
static const char *shared_name(const report_run *const *run, int runs, int parts, size_t *len)
{
    static const char *const ends[] = { "seed", "-s", "_s", ".s", "-", "_", ".", "=" };
    size_t n;
    const char *a = last_parts(run[0], parts, &n);
    const size_t whole = n;
    for (int i = 1; i < runs; i++) {
        size_t m, k = 0;
        const char *b = last_parts(run[i], parts, &m);
        while (k < n && k < m && a[k] == b[k]) k++;
        n = k;
    }
    for (size_t e = 0; runs > 1 && e < sizeof ends / sizeof *ends;) {
        const size_t k = strlen(ends[e]);
        const bool has = n > k && !strncmp(a + n - k, ends[e], k);
        if (has) n -= k;
        e = has ? 0 : e + 1;
    }
    *len = n ? n : whole;
    return a;
}

static void set_name(char *name, size_t cap, const char *s, size_t n)
{
    while (n && isspace((unsigned char)s[n - 1])) n--;
    (void)snprintf(name, cap, "%.*s", (int)(n < cap - 14 ? n : cap - 14), s);
}

static void name_model(report_model *g, int parts)
{
    size_t n;
    const char *s = shared_name(g->run, g->n, parts, &n);
    set_name(g->name, sizeof g->name, s, n);
}

/* Where two models would share a name, the folder is named too; where that does not help, a number is added. */
static void name_models(report *p)
{
    bool clash[REPORT_MODELS] = { false };
    for (int k = 0; k < p->models; k++) name_model(&p->model[k], 1);
    for (int k = 0; k < p->models; k++)
        for (int i = 0; i < p->models; i++)
            clash[k] = clash[k] || (i != k && !strcmp(p->model[i].name, p->model[k].name));
    for (int k = 0; k < p->models; k++)
        if (clash[k]) name_model(&p->model[k], 2);
    for (int k = 0; k < p->models; k++)
        for (int i = 0; i < k; i++) {
            char *name = p->model[k].name;
            const size_t n = strlen(name);
            if (!strcmp(p->model[i].name, name)) (void)snprintf(name + n, sizeof p->model[k].name - n, " (%d)", k + 1);
        }
}

/* A family is called what the names of its runs begin with, up to the word in which they part. */
static void name_family(const report *p, report_family *f)
{
    const report_run *run[REPORT_RUNS];
    int runs = 0;
    size_t n;
    if (*f->name) return;
    for (int k = 0; k < p->models; k++)
        for (int i = 0; &p->family[p->model[k].family] == f && i < p->model[k].n; i++) run[runs++] = p->model[k].run[i];
    const char *s = shared_name(run, runs, 1, &n);
    size_t word = n;
    while (word && isalnum((unsigned char)s[word - 1])) word--;
    while (word && !isalnum((unsigned char)s[word - 1])) word--;
    set_name(f->name, sizeof f->name, s, f->n > 1 && isalnum((unsigned char)s[n]) && word ? word : n);
}

/* ---- families --------------------------------------------------------------------------------------------------- */
double report_end_loss(const report_model *g)
{
    double v[REPORT_RUNS];
    int n = 0;
    for (int i = 0; i < g->n; i++)
        if (g->run[i]->curve.n) v[n++] = g->run[i]->curve.loss[g->run[i]->curve.n - 1];
    return sample_of(v, n).mean;
}

static const char *spec_of(const report_model *g)
{
    const char *spec = report_config(g->run[0], "model.spec");
    return spec ? spec : g->name;
}

/* The family that --family NAME=PATTERN asks for, -1: none. */
static int named_family(const report *p, const report_model *g, const char **name, size_t *len)
{
    const char *text;
    for (int i = 0; (text = cli_repeated(p->c, "family", i)); i++) {
        const char *eq = strchr(text, '=');
        if (!eq || fnmatch(eq + 1, g->run[0]->path, 0) != 0) continue;
        *name = text;
        *len = (size_t)(eq - text);
        return i;
    }
    return -1;
}

/* Put model k at its size; of several learning rates the one with the least loss stays. */
static void join(report *p, report_family *f, int k)
{
    report_model *g = &p->model[k];
    for (int i = 0; i < f->n; i++) {
        report_model *other = &p->model[f->model[i]];
        if (strcmp(spec_of(other), spec_of(g)) != 0) continue;
        const bool better = report_end_loss(g) < report_end_loss(other) || !isfinite(report_end_loss(other));
        *(better ? &other->minor : &g->minor) = true;
        if (better) f->model[i] = k;
        return;
    }
    f->model[f->n++] = k;
}

static void find_families(report *p)
{
    int asked[REPORT_MODELS];
    for (int k = 0; k < p->models; k++) {
        const char *name = "";
        size_t len = 0;
        const report_model *g = &p->model[k];
        const int want = named_family(p, g, &name, &len);
        int i = 0;
        for (; i < p->families; i++) {
            const report_model *first = &p->model[p->family[i].model[0]];
            if (want >= 0 ? asked[i] == want : asked[i] < 0 && comparable(first->run[0], g->run[0], true)) break;
        }
        report_family *f = &p->family[i];
        if (i == p->families) {
            *f = (report_family){ .n = 0 };
            (void)snprintf(f->name, sizeof f->name, "%.*s", (int)len, name);
            asked[p->families++] = want;
        }
        p->model[k].family = i;
        join(p, f, k);
    }
}

/* Each model a colour of its own, or, where there are more models than colours, each family. */
static void colour(report *p)
{
    const bool own = p->models <= PLOT_COLOURS;
    for (int k = 0; k < p->models; k++) {
        const int i = own ? k : p->model[k].family;
        p->model[k].colour = i % PLOT_COLOURS;
        p->model[k].ring = i >= PLOT_COLOURS;
    }
    for (int i = 0; i < p->families; i++) p->family[i].colour = p->model[p->family[i].model[0]].colour;
}

/* By the number of parameters. */
static void sort_sizes(const report *p, report_family *f)
{
    for (int i = 1; i < f->n; i++)
        for (int k = i; k > 0; k--) {
            const int a = f->model[k - 1], b = f->model[k];
            if (p->model[a].cost.params <= p->model[b].cost.params) break;
            f->model[k - 1] = b;
            f->model[k] = a;
        }
}

int report_group(report *p)
{
    for (int i = 0; i < p->runs; i++) {
        int k = 0;
        while (k < p->models && !belongs(&p->model[k], &p->run[i])) k++;
        if (k == REPORT_MODELS)
            return cli_fail(CLI_USAGE,
                            "report: at most %d models on a page (runs that differ only in train.seed are one)",
                            REPORT_MODELS);
        report_model *g = &p->model[k];
        g->run[g->n++] = &p->run[i];
        if (k == p->models) p->models++;
        p->seeds = p->seeds || g->n > 1;
    }
    name_models(p);
    find_families(p);
    colour(p);
    return CLI_OK;
}

void report_name_families(report *p)
{
    for (int i = 0; i < p->families; i++) {
        sort_sizes(p, &p->family[i]);
        name_family(p, &p->family[i]);
    }
}
