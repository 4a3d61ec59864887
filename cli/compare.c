/* strata compare: models trained alike, and what may be said of their difference. */
#include "compare.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the command line ------------------------------------------------------------------------------------------- */
static int read_rates(comparison *p)
{
    const char *list = cli_text(p->c, "lr");
    if (!list) list = strata_config_get(p->model[0].cfg, "train.lr");
    for (const char *s = list; s && *s;) {
        char *end;
        double v = strtod(s, &end);
        if (end == s || !(v > 0) || v > 1e3 || (*end && *end != ',') || (*end == ',' && !end[1]))
            return cli_fail(CLI_USAGE, "--lr: '%s' is no list of learning rates such as 1e-3,3e-3", list);
        for (int k = 0; k < p->rates; k++)
            if (p->rate[k] >= v && p->rate[k] <= v) return cli_fail(CLI_USAGE, "--lr: %g is there twice", v);
        if (p->rates == COMPARE_RATES) return cli_fail(CLI_USAGE, "--lr: more than %d learning rates", COMPARE_RATES);
        p->rate[p->rates++] = v;
        s = *end ? end + 1 : end;
    }
    return p->rates ? CLI_OK : cli_fail(CLI_USAGE, "--lr: no learning rate");
}

static const char *const budget_option[BUDGETS] = { "tokens", "flops", "seconds", "steps" };
static const char *const budget_key[BUDGETS] = { "train.tokens", "train.flops", "train.seconds", "train.steps" };

static int read_budget(comparison *p)
{
    int given = 0;
    for (int a = 0; a < BUDGETS; a++)
        if (cli_given(p->c, budget_option[a])) {
            given++;
            p->axis = (amount)a;
        }
    if (given != 1)
        return cli_fail(CLI_USAGE,
                        "compare: %s of --tokens, --flops, --seconds and --steps says what the runs have in common",
                        given ? "only one" : "one");
    p->budget = cli_num(p->c, budget_option[p->axis]);
    return CLI_OK;
}

/* The budget into a model's configuration, which must hold nothing beside it that ends a run. */
static int set_budget(const comparison *p, strata_config *cfg)
{
    char text[CLI_NUMBER];
    for (int32_t i = 0; i < strata_config_count(cfg); i++) {
        strata_config_item it;
        if (strata_config_at(cfg, i, &it) != STRATA_OK || !strcmp(it.source, "default")) continue;
        bool ends = false;
        for (int a = 0; a < BUDGETS; a++) ends = ends || !strcmp(it.key, budget_key[a]);
        if (ends)
            return cli_fail(CLI_USAGE, "compare: %s (%s) ends a run too; the budget is --%s", it.key, it.source,
                            budget_option[p->axis]);
    }
    (void)snprintf(text, sizeof text, p->axis == BY_TOKENS || p->axis == BY_STEPS ? "%.0f" : "%.17g", p->budget);
    int rc = cli_status(strata_config_set(cfg, "train.steps", "0", "compare"), CLI_ON_INPUT, NULL);
    if (!rc) rc = cli_status(strata_config_set(cfg, budget_key[p->axis], text, "compare"), CLI_ON_INPUT, NULL);
    if (!rc) rc = cli_status(strata_config_set(cfg, "train.resume", "1", "compare"), CLI_ON_INPUT, NULL);
    return rc;
}

/* Letters, digits and points of a text, the rest as single dashes (none in heads=8); of a long one the first word and
 * the end, where specs differ. */
static void slug(const char *text, char *out, size_t cap)
{
    char all[1024];
    size_t n = 0;
    for (const char *s = text; *s && n + 1 < sizeof all; s++) {
        if (isalnum((unsigned char)*s) || *s == '.')
            all[n++] = *s;
        else if (n && all[n - 1] != '-' && !(*s == '=' && isdigit((unsigned char)s[1])))
            all[n++] = '-';
    }
    while (n && all[n - 1] == '-') n--;
    all[n] = 0;
    size_t head = strcspn(all, "-"), from = 0;
    if (n >= cap) {
        if (head > cap / 3) head = cap / 3;
        from = n - (cap - 2 - head);
        while (all[from] && all[from - 1] != '-') from++;
    } else {
        head = 0;
    }
    (void)snprintf(out, cap, "%.*s%s%s", (int)head, all, head ? "-" : "", all + from);
}

/* One "key=value" of a model, from *at on, which moves behind it. */
static int set_own(strata_config *cfg, const compare_model *m, const char **at)
{
    static const char *const common[] = { "model.spec", "train.lr", "train.seed" };
    char key[64], value[512];
    size_t n = strcspn(*at, " \t"), eq = strcspn(*at, "=");
    if (eq >= n || eq >= sizeof key || n - eq > sizeof value)
        return cli_fail(CLI_USAGE, "--model %s: '%.*s' is no key=value", m->text, (int)n, *at);
    (void)snprintf(key, sizeof key, "%.*s", (int)eq, *at);
    (void)snprintf(value, sizeof value, "%.*s", (int)(n - eq - 1), *at + eq + 1);
    for (size_t i = 0; i < sizeof common / sizeof *common; i++)
        if (!strcmp(key, common[i]))
            return cli_fail(CLI_USAGE, "--model %s: %s is not a model's own in a comparison", m->text, key);
    *at += n;
    return cli_status(strata_config_set(cfg, key, value, "--model"), CLI_ON_INPUT, NULL);
}

/* "SPEC; key=value …": the spec, and keys for this model alone. */
static int configure_model(const comparison *p, compare_model *m)
{
    const char *end = strchr(m->text, ';'), *at = end ? end + 1 : "";
    size_t n = end ? (size_t)(end - m->text) : strlen(m->text);
    while (n && m->text[n - 1] == ' ') n--;
    char *spec = malloc(n + 1);
    if (!spec) return cli_fail(CLI_FAILED, "out of memory");
    memcpy(spec, m->text, n);
    spec[n] = 0;
    int rc = cli_configure(p->c, p->ctx, p->task, spec, &m->cfg);
    while (!rc && *(at += strspn(at, " \t"))) rc = set_own(m->cfg, m, &at);
    free(spec);
    return rc;
}

static int read_models(comparison *p)
{
    const char *text;
    int rc = read_budget(p);
    while (!rc && (text = cli_repeated(p->c, "model", p->models))) {
        if (p->models == COMPARE_MODELS) return cli_fail(CLI_USAGE, "compare: more than %d models", COMPARE_MODELS);
        compare_model *m = &p->model[p->models];
        const char *name = cli_repeated(p->c, "name", p->models++);
        char part[42];
        slug(name ? name : text, part, sizeof part);
        m->text = text;
        (void)snprintf(m->name, sizeof m->name, "%d-%s", p->models, part);
        rc = configure_model(p, m);
        if (!rc) rc = set_budget(p, m->cfg);
    }
    if (!rc && cli_repeated(p->c, "name", p->models)) rc = cli_fail(CLI_USAGE, "compare: more --name than --model");
    if (!rc && !p->models) rc = cli_fail(CLI_USAGE, "compare: --model SPEC is needed, one for each model");
    return rc;
}

/* ---- the models ------------------------------------------------------------------------------------------------- */
/* Every model is checked before the first is trained. */
static int cost_models(comparison *p)
{
    int rc = CLI_OK;
    for (int m = 0; m < p->models && !rc; m++) {
        strata_cost k = { .size = STRATA_INIT(strata_cost) };
        rc = cli_status(strata_train_cost(p->ctx, p->model[m].cfg, &k), CLI_ON_INPUT, NULL);
        p->model[m].params = k.params;
        p->model[m].flops_token = k.flops_fwd + k.flops_bwd;
    }
    return rc;
}

static int check_params(const comparison *p)
{
    if (!cli_given(p->c, "params")) return CLI_OK;
    const double tolerance = cli_num(p->c, "params"), first = (double)p->model[0].params;
    for (int m = 1; m < p->models; m++) {
        double off = (double)p->model[m].params - first;
        if (fabs(off) <= tolerance * first) continue;
        return cli_fail(CLI_USAGE, "%s has %lld parameters, %s has %lld: %+.2f %%, but --params %g allows %.2f %%",
                        p->model[m].name, (long long)p->model[m].params, p->model[0].name,
                        (long long)p->model[0].params, 100 * off / first, tolerance, 100 * tolerance);
    }
    return CLI_OK;
}

/* ---- the runs --------------------------------------------------------------------------------------------------- */
static int make_runs(comparison *p)
{
    p->run = calloc((size_t)p->seeds * (size_t)p->models * (size_t)p->rates, sizeof *p->run);
    if (!p->run) return cli_fail(CLI_FAILED, "out of memory");
    for (int s = 0; s < p->seeds; s++)
        for (int m = 0; m < p->models; m++)
            for (int k = 0; k < p->rates; k++) {
                char name[128];
                (void)snprintf(name, sizeof name, "%s-lr%.10g-seed%lld", p->model[m].name, p->rate[k],
                               (long long)(p->first_seed + s));
                compare_run *r = compare_run_of(p, m, k, s);
                r->dir = cli_join(p->dir, name);
                if (!r->dir) return cli_fail(CLI_FAILED, "out of memory");
            }
    return CLI_OK;
}

static int train_all(comparison *p)
{
    const int runs = p->seeds * p->models * p->rates;
    int rc = CLI_OK, done = 0;
    cli_catch_interrupts();
    cli_ignore_broken_pipe();
    for (int s = 0; s < p->seeds && !rc; s++)
        for (int m = 0; m < p->models && !rc; m++)
            for (int k = 0; k < p->rates && !rc; k++) {
                rc = cli_interrupted() ? CLI_INTERRUPTED : compare_train(p, m, k, s);
                const compare_run *r = compare_run_of(p, m, k, s);
                if (!rc && r->x[BY_TOKENS] > 0) p->model[m].flops_token = r->x[BY_FLOPS] / r->x[BY_TOKENS];
                done += !rc;
            }
    if (rc == CLI_INTERRUPTED)
        return cli_fail(rc, "interrupted: %d of %d runs are done; the same command goes on from here", done, runs);
    return rc;
}

static int save(const comparison *p, const compare_table *t, const char *name,
                void (*print)(const comparison *, const compare_table *, FILE *))
{
    cli_file o;
    char *path = cli_join(p->dir, name);
    int rc = path ? cli_file_open(&o, path) : cli_fail(CLI_FAILED, "out of memory");
    if (!rc) {
        print(p, t, o.f);
        rc = cli_file_close(&o, true);
    }
    free(path);
    return rc;
}

static int show(const comparison *p)
{
    compare_table *t = compare_tabulate(p);
    if (!t) return cli_fail(CLI_FAILED, "out of memory");
    int rc = save(p, t, "compare.txt", compare_print);
    if (!rc) rc = save(p, t, "compare.json", compare_print_json);
    (cli_flag(p->c, "json") ? compare_print_json : compare_print)(p, t, stdout);
    compare_table_free(t);
    return rc;
}

static int prepare(comparison *p, strata_context **ctx)
{
    const cli *c = p->c;
    if (!p->dir) return cli_fail(CLI_USAGE, "compare: --out DIR is needed");
    int rc = cli_context(c, NULL, ctx);
    p->ctx = *ctx;
    if (!rc) rc = cli_status(strata_task_describe(p->task, &p->about), CLI_ON_INPUT, NULL);
    if (!rc) rc = read_models(p);
    if (!rc) rc = read_rates(p);
    if (rc) return rc;
    p->seeds = (int)cli_int(c, "seeds");
    p->first_seed = strtoll(strata_config_get(p->model[0].cfg, "train.seed"), NULL, 10);
    p->best = cli_flag(c, "best");
    rc = cost_models(p);
    if (!rc) rc = check_params(p);
    if (!rc) rc = cli_find_data(c, &p->about, &p->data);
    return rc ? rc : make_runs(p);
}

static int run_compare(cli *c)
{
    strata_context *ctx = NULL;
    comparison *p = calloc(1, sizeof *p);
    if (!p) return cli_fail(CLI_FAILED, "out of memory");
    p->c = c;
    p->task = c->arg[0];
    p->dir = cli_text(c, "out");
    p->about.size = STRATA_INIT(strata_task_info);
    int rc = prepare(p, &ctx);
    if (!rc) rc = train_all(p);
    if (!rc) rc = show(p);
    for (int i = 0; p->run && i < p->seeds * p->models * p->rates; i++) compare_run_free(&p->run[i]);
    free(p->run);
    free(p->data.found);
    for (int m = 0; m < p->models; m++) strata_config_destroy(p->model[m].cfg);
    strata_context_destroy(ctx);
    free(p);
    return rc;
}

static const cli_option options[] = {
    { "model", 'm', CLI_TEXT, "SPEC", "\"SPEC\" or \"SPEC; key=value …\"; repeat it, the first is compared with", NULL,
      0, 0 },
    { "name", 'n', CLI_TEXT, "NAME", "a short name for a model, in the order of --model", NULL, 0, 0 },
    { "out", 'o', CLI_TEXT, "DIR", "holds a run directory per model, learning rate and seed, and the results", NULL, 0,
      0 },
    { "tokens", 0, CLI_NUM, "N", "equal tokens: every run ends after N positions", NULL, 1, 9e15 },
    { "flops", 0, CLI_NUM, "X", "equal FLOPs: every run ends after X training FLOPs", NULL, 1, 1e30 },
    { "seconds", 0, CLI_NUM, "S", "equal time: every run ends after S seconds of training", NULL, 1e-6, 1e9 },
    { "steps", 0, CLI_NUM, "N", "equal steps: every run ends after N steps, with one train.batch equal sequences", NULL,
      1, 9e15 },
    { "params", 0, CLI_NUM, "PART", "equal parameters too: refuse models further than this part off the first", NULL, 0,
      1e6 },
    { "seeds", 0, CLI_INT, "N", "seeds of each, counted up from train.seed", "3", 1, COMPARE_SEEDS },
    { "lr", 0, CLI_TEXT, "LIST", "learning rates, 1e-3,3e-3; without it train.lr alone", NULL, 0, 0 },
    { "best", 0, CLI_FLAG, NULL, "what counts is a run's least validation loss, not the one at its end", NULL, 0, 0 },
    { "config", 'c', CLI_TEXT, "FILE", "read 'section.key = value' lines", NULL, 0, 0 },
    { "set", 's', CLI_TEXT, "KEY=VALUE", "set one value; repeatable", NULL, 0, 0 },
    { "json", 0, CLI_FLAG, NULL, "one JSON object per run, model and verdict", NULL, 0, 0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_compare = {
    "compare",
    "TASK [DATA…] --model SPEC --model SPEC … --out DIR --tokens N",
    "Train several models alike and say what their difference is worth",
    "Every model is trained with every learning rate of --lr and every seed, on the same data in the same order, each\n"
    "run to the same tokens, FLOPs, seconds or steps. Of the learning rates the one with the least mean validation\n"
    "loss over the seeds counts. The table has mean, standard deviation, range and number of seeds; a model is called\n"
    "better or worse than the first only when Welch's interval for the difference (95 % for all models together) does\n"
    "not hold 0 and the difference is larger than the standard deviation of either. With one seed there is no\n"
    "verdict. What the task measures (accuracy, error on test data) is compared in the same way.\n"
    "After the warm-up the learning rate is constant, so the validation curves also tell the losses at the largest\n"
    "tokens, FLOPs and seconds that all runs reached; train.eval_every says how finely.\n"
    "Ctrl-C stops with 130, and the same command goes on where it stopped: runs that are done are not trained again,\n"
    "so models (at the end), learning rates and seeds can be added. A run started with other keys is refused.\n"
    "DIR/compare.txt and DIR/compare.json hold the results, strata report DIR/*/ has the curves.",
    "strata compare text book.txt --out cmp --tokens 2e6 --lr 1e-3,3e-3 \\\n"
    "    --model \"decoder layers=4 width=128 mixers=softmax(heads=4)\" \\\n"
    "    --model \"decoder layers=4 width=128 mixers=softmax(heads=4 score=mlr ranks=16,8,8)\"",
    1,
    -1,
    options,
    run_compare,
};
