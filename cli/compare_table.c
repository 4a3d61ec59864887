/* What the runs of a comparison say. */
#include "compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct row { /* of a model, at the learning rate chosen for it */
    int rate;
    double rate_loss[COMPARE_RATES]; /* mean over the seeds that did not fail */
    int rate_failed[COMPARE_RATES];
    sample loss;
    double x[AMOUNTS];       /* means */
    sample reading[AMOUNTS]; /* losses where the validation curves pass common[axis] */
    sample measure[COMPARE_MEASURES];
} row;

struct compare_table {
    row row[COMPARE_MODELS];
    bool readable;                /* the schedule is constant: points of a curve are results of shorter runs */
    double common[AMOUNTS];       /* the most that all chosen runs reached */
    double level;                 /* of each interval */
    bool fixed[COMPARE_MEASURES]; /* the same in every run: a baseline, which says nothing about the models */
};

/* ---- choosing and reading --------------------------------------------------------------------------------------- */
/* The learning rate with the fewest failed seeds, of those the one with the least mean loss. */
static void choose_rate(const comparison *p, int model, row *r, double *value)
{
    r->rate = 0;
    for (int k = 0; k < p->rates; k++) {
        int n = 0;
        for (int s = 0; s < p->seeds; s++) {
            const compare_run *run = compare_run_of(p, model, k, s);
            if (!run->failed) value[n++] = run->loss;
        }
        r->rate_loss[k] = sample_of(value, n).mean;
        r->rate_failed[k] = p->seeds - n;
        int best = r->rate;
        if (r->rate_failed[k] < r->rate_failed[best] ||
            (r->rate_failed[k] == r->rate_failed[best] && r->rate_loss[k] < r->rate_loss[best]))
            r->rate = k;
    }
}

static void summarise(const comparison *p, int model, row *r, double *value)
{
    double sum[AMOUNTS] = { 0 };
    int n = 0;
    for (int s = 0; s < p->seeds; s++) {
        const compare_run *run = compare_run_of(p, model, r->rate, s);
        if (run->failed) continue;
        value[n++] = run->loss;
        for (int a = 0; a < AMOUNTS; a++) sum[a] += run->x[a];
    }
    r->loss = sample_of(value, n);
    for (int a = 0; a < AMOUNTS; a++) r->x[a] = sum[a] / n;
    for (int k = 0; k < p->measures; k++) {
        n = 0;
        for (int s = 0; s < p->seeds; s++) {
            double v = compare_run_of(p, model, r->rate, s)->measure[k];
            if (isfinite(v)) value[n++] = v;
        }
        r->measure[k] = sample_of(value, n);
    }
}

/* The losses at the largest amounts that all chosen runs reached. */
static bool read_curves(const comparison *p, compare_table *t, double *value)
{
    const loss_curve **run = malloc((size_t)(p->models * p->seeds) * sizeof *run);
    if (!run) return false;
    for (int m = 0; m < p->models; m++)
        for (int s = 0; s < p->seeds; s++) run[m * p->seeds + s] = &compare_run_of(p, m, t->row[m].rate, s)->curve;
    for (int a = 0; a < AMOUNTS; a++) {
        t->common[a] = common_amount(run, p->models * p->seeds, (amount)a);
        for (int m = 0; m < p->models; m++)
            t->row[m].reading[a] = losses_at(run + m * p->seeds, p->seeds, (amount)a, t->common[a], value);
    }
    free(run);
    return true;
}

static void find_fixed(const comparison *p, compare_table *t)
{
    for (int k = 0; k < p->measures; k++) {
        double low = (double)INFINITY, high = -low;
        for (int m = 0; m < p->models; m++) {
            low = fmin(low, t->row[m].measure[k].min);
            high = fmax(high, t->row[m].measure[k].max);
        }
        t->fixed[k] = p->models > 1 && high - low <= 1e-12 * fabs(high);
    }
}

compare_table *compare_tabulate(const comparison *p)
{
    compare_table *t = calloc(1, sizeof *t);
    double *value = calloc((size_t)p->seeds, sizeof *value);
    if (t && value) {
        t->readable = true;
        t->level = 1 - 0.05 / (p->models > 2 ? p->models - 1 : 1);
        for (int m = 0; m < p->models; m++) {
            const char *schedule = strata_config_get(p->model[m].cfg, "train.schedule");
            t->readable = t->readable && schedule && !strcmp(schedule, "constant");
            choose_rate(p, m, &t->row[m], value);
            summarise(p, m, &t->row[m], value);
        }
        find_fixed(p, t);
    }
    if (!t || !value || !read_curves(p, t, value)) {
        free(t);
        t = NULL;
    }
    free(value);
    return t;
}

void compare_table_free(compare_table *t)
{
    free(t);
}

/* ---- verdicts --------------------------------------------------------------------------------------------------- */
typedef struct verdict {
    welch w;
    int sign;        /* of the difference; 0: no verdict */
    const char *why; /* there is none */
} verdict;

/* Of b against a. A verdict needs an interval without 0 and a difference larger than either spread. */
static verdict judge(const comparison *p, const sample *a, const sample *b, double level)
{
    verdict v = { .sign = 0 };
    bool interval = welch_interval(a, b, level, &v.w);
    if (a->n < p->seeds || b->n < p->seeds)
        v.why = a->n + b->n == 0 ? "not measured" : "not known for every seed";
    else if (!interval)
        v.why = "one seed has no spread";
    else if (!(v.w.low > 0 || v.w.high < 0))
        v.why = "the interval holds 0";
    else if (fabs(v.w.difference) <= fmax(a->sd, b->sd))
        v.why = "within the spread of the seeds";
    else
        v.sign = v.w.difference < 0 ? -1 : 1;
    return v;
}

/* Less loss is better; what a task measures may be good or bad, so of that only its direction is said. */
static const char *word_of(const verdict *v, bool loss)
{
    if (v->sign == 0) return "none";
    if (loss) return v->sign < 0 ? "better" : "worse";
    return v->sign < 0 ? "lower" : "higher";
}

/* ---- for people ------------------------------------------------------------------------------------------------- */
/* Width of the first column. */
static int name_width(const comparison *p)
{
    size_t n = sizeof "mean loss by learning rate";
    for (int m = 0; m < p->models; m++)
        if (strlen(p->model[m].name) > n) n = strlen(p->model[m].name);
    return (int)n;
}

/* sign: "+" or "" before numbers above 0 */
static const char *signed_number(char buf[CLI_NUMBER], double v, const char *sign)
{
    double size = fabs(v);
    if (!isfinite(v))
        (void)snprintf(buf, CLI_NUMBER, "-");
    else
        (void)snprintf(buf, CLI_NUMBER, size > 0 && (size < 0.001 || size >= 1e4) ? "%s%.2e" : "%s%.4f",
                       v < 0 ? "" : sign, v);
    return buf;
}

static const char *number(char buf[CLI_NUMBER], double v)
{
    return signed_number(buf, v, "");
}

static void put_number(FILE *f, double v)
{
    char b[CLI_NUMBER];
    (void)fprintf(f, " %9s", number(b, v));
}

static void put_sample(FILE *f, const sample *s)
{
    put_number(f, s->mean);
    put_number(f, s->sd);
    put_number(f, s->min);
    put_number(f, s->max);
}

static void put_models(const comparison *p, const compare_table *t, FILE *f)
{
    char b[CLI_NUMBER];
    (void)fprintf(f, "\n%-*s %10s %11s %8s %8s %12s %8s %5s %9s %9s %9s %9s", name_width(p), "model", "parameters",
                  "FLOPs/token", "tokens", "FLOPs", "time", "lr", "seeds", "loss", "sd", "min", "max");
    for (int k = 0; k < p->measures; k++)
        if (!t->fixed[k]) (void)fprintf(f, " %17s %9s", p->measure[k], "sd");
    (void)fputc('\n', f);
    for (int m = 0; m < p->models; m++) {
        const row *r = &t->row[m];
        (void)fprintf(f, "%-*s %10lld", name_width(p), p->model[m].name, (long long)p->model[m].params);
        (void)fprintf(f, " %11s", cli_si(b, p->model[m].flops_token));
        (void)fprintf(f, " %8s", amount_text(b, BY_TOKENS, r->x[BY_TOKENS]));
        (void)fprintf(f, " %8s", amount_text(b, BY_FLOPS, r->x[BY_FLOPS]));
        (void)fprintf(f, " %12s", amount_text(b, BY_SECONDS, r->x[BY_SECONDS]));
        (void)fprintf(f, " %8.4g %5d", p->rate[r->rate], r->loss.n);
        put_sample(f, &r->loss);
        for (int k = 0; k < p->measures; k++) {
            if (t->fixed[k]) continue;
            (void)fprintf(f, " %17s", number(b, r->measure[k].mean));
            put_number(f, r->measure[k].sd);
        }
        (void)fputc('\n', f);
        if (r->loss.n < p->seeds)
            (void)fprintf(f, "  %d of %d seeds ended with a loss that is not finite, at every learning rate\n",
                          p->seeds - r->loss.n, p->seeds);
    }
}

static void put_rates(const comparison *p, const compare_table *t, FILE *f)
{
    char b[CLI_NUMBER];
    if (p->rates == 1) return;
    (void)fprintf(f, "\n%-*s", name_width(p), "mean loss by learning rate");
    for (int k = 0; k < p->rates; k++) (void)fprintf(f, " %9.4g ", p->rate[k]);
    (void)fputc('\n', f);
    for (int m = 0; m < p->models; m++) {
        const row *r = &t->row[m];
        (void)fprintf(f, "%-*s", name_width(p), p->model[m].name);
        for (int k = 0; k < p->rates; k++)
            (void)fprintf(f, " %9s%c", r->rate_failed[k] ? "failed" : number(b, r->rate_loss[k]),
                          k == r->rate ? '*' : ' ');
        (void)fputc('\n', f);
    }
    for (int m = 0; m < p->models; m++) {
        double at = p->rate[t->row[m].rate], low = at, high = at;
        for (int k = 0; k < p->rates; k++) {
            low = fmin(low, p->rate[k]);
            high = fmax(high, p->rate[k]);
        }
        if (at <= low || at >= high)
            (void)fprintf(f, "%s does best at the %s learning rate tried: others may be better\n", p->model[m].name,
                          at <= low ? "least" : "largest");
    }
}

/* One number of every model, and what it says against the first. `first` is that of model 1, in its row. */
static void put_reading(const comparison *p, const compare_table *t, FILE *f, const sample *first, const char *what)
{
    char low[CLI_NUMBER], high[CLI_NUMBER], interval[2 * CLI_NUMBER + 8];
    const size_t offset = (size_t)((const char *)first - (const char *)&t->row[0]);
    (void)fprintf(f, "%-*s %9s %9s %9s %20s  %s\n", name_width(p), "", what, "sd", "vs 1", "interval", "verdict");
    for (int m = 0; m < p->models; m++) {
        const sample *s = (const sample *)(const void *)((const char *)&t->row[m] + offset);
        (void)fprintf(f, "%-*s", name_width(p), p->model[m].name);
        put_number(f, s->mean);
        put_number(f, s->sd);
        if (m > 0) {
            verdict v = judge(p, first, s, t->level);
            (void)fprintf(f, " %9s", signed_number(low, v.w.difference, "+"));
            (void)snprintf(interval, sizeof interval, "[%s, %s]", number(low, v.w.low), number(high, v.w.high));
            (void)fprintf(f, " %20s  %s%s", isfinite(v.w.low) ? interval : "-",
                          v.sign ? "" : "no verdict: ", v.sign ? word_of(&v, !strcmp(what, "loss")) : v.why);
        }
        (void)fputc('\n', f);
    }
}

/* What the curves say at the largest tokens, FLOPs or seconds that all runs reached. */
static void put_curves(const comparison *p, const compare_table *t, FILE *f, amount a)
{
    static const char *const after[AMOUNTS] = { " tokens", "FLOPs", " of training as measured" };
    char b[CLI_NUMBER];
    if (a == p->axis || !isfinite(t->common[a])) return;
    (void)fprintf(f, "\nat %s%s, read from the validation curves\n", amount_text(b, a, t->common[a]), after[a]);
    const sample *first = &t->row[0].reading[a];
    if (first->n < t->row[0].loss.n)
        (void)fprintf(f, "the curve of %s begins later: a smaller train.eval_every gives a reading\n",
                      p->model[0].name);
    else
        put_reading(p, t, f, first, "loss");
}

static void put_verdicts(const comparison *p, const compare_table *t, FILE *f)
{
    (void)fprintf(f, "\n%s, at equal %s\n", p->best ? "least validation loss of each run" : "at the end",
                  amount_name[p->axis]);
    put_reading(p, t, f, &t->row[0].loss, "loss");
    for (int a = 0; a < AMOUNTS && t->readable; a++) put_curves(p, t, f, (amount)a);
    if (!t->readable)
        (void)fputs("\nOther readings need train.schedule=constant: a cosine ends where the run ends.\n", f);
    for (int k = 0; k < p->measures; k++) {
        if (t->fixed[k]) {
            (void)fprintf(f, "\n%s: %.6g in every run\n", p->measure[k], t->row[0].measure[k].mean);
            continue;
        }
        (void)fprintf(f, "\n%s\n", p->measure[k]);
        put_reading(p, t, f, &t->row[0].measure[k], "mean");
    }
    if (p->models < 2) return;
    (void)fputs("\nIntervals are Welch's for the difference of two means, ", f);
    if (p->models > 2)
        (void)fprintf(f, "at %.4g %% each, so that the %d of a block hold together with 95 %%.\n", 100 * t->level,
                      p->models - 1);
    else
        (void)fputs("at 95 %.\n", f);
    (void)fputs(
        "better, worse, lower, higher: the interval does not hold 0, and the difference is larger than either sd.\n"
        "The learning rate of a model is chosen by this validation loss too, from the same list for all.\n",
        f);
}

void compare_print(const comparison *p, const compare_table *t, FILE *f)
{
    char b[CLI_NUMBER];
    (void)fprintf(f, "task %s, equal %s: %s for every run, %d seed%s from %lld\n", p->task, amount_name[p->axis],
                  amount_text(b, p->axis, p->budget), p->seeds, p->seeds > 1 ? "s" : "", (long long)p->first_seed);
    (void)fprintf(f, "loss: validation, %s%s; lower is better\n", p->about.numbers ? "squared error per " : "nats per ",
                  p->about.unit);
    if (p->measures)
        (void)fprintf(f, "other columns: as strata eval%s measures them on the %s checkpoint\n",
                      p->best ? " --best" : "", p->best ? "best" : "last");
    for (int i = 0; i < p->models; i++) (void)fprintf(f, "%s = %s\n", p->model[i].name, p->model[i].text);
    put_models(p, t, f);
    put_rates(p, t, f);
    put_verdicts(p, t, f);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */
static void json_sample(json *j, const char *name, const sample *s)
{
    char key[64];
    const double value[] = { s->mean, s->sd, s->min, s->max };
    static const char *const part[] = { "", "_sd", "_min", "_max" };
    for (size_t i = 0; i < sizeof value / sizeof *value; i++) {
        (void)snprintf(key, sizeof key, "%s%s", name, part[i]);
        json_num(j, key, value[i]);
    }
}

static void json_run(const comparison *p, int m, int k, int s, FILE *f)
{
    const compare_run *r = compare_run_of(p, m, k, s);
    json j = json_begin(f);
    json_text(&j, "kind", "run");
    json_text(&j, "run", compare_run_name(r));
    json_int(&j, "model", m + 1);
    json_num(&j, "lr", p->rate[k]);
    json_int(&j, "seed", p->first_seed + s);
    json_num(&j, "loss", r->failed ? (double)NAN : r->loss);
    json_int(&j, "failed", r->failed);
    json_num(&j, "tokens", r->x[BY_TOKENS]);
    json_num(&j, "flops", r->x[BY_FLOPS]);
    json_num(&j, "seconds", r->x[BY_SECONDS]);
    for (int i = 0; i < p->measures; i++) json_num(&j, p->measure[i], r->measure[i]);
    json_end(&j);
}

static void json_model(const comparison *p, const compare_table *t, int m, FILE *f)
{
    static const char *const at[AMOUNTS] = { "at_tokens", "at_flops", "at_seconds" };
    static const char *const loss[AMOUNTS] = { "loss_at_tokens", "loss_at_flops", "loss_at_seconds" };
    const row *r = &t->row[m];
    json j = json_begin(f);
    json_text(&j, "kind", "model");
    json_int(&j, "model", m + 1);
    json_text(&j, "name", p->model[m].name);
    json_text(&j, "spec", p->model[m].text);
    json_text(&j, "task", p->task);
    json_text(&j, "equal", amount_name[p->axis]);
    json_num(&j, "budget", p->budget);
    json_int(&j, "params", p->model[m].params);
    json_num(&j, "flops_per_token", p->model[m].flops_token);
    json_num(&j, "tokens", r->x[BY_TOKENS]);
    json_num(&j, "flops", r->x[BY_FLOPS]);
    json_num(&j, "seconds", r->x[BY_SECONDS]);
    json_nums(&j, "lrs", p->rate, p->rates);
    json_nums(&j, "loss_by_lr", r->rate_loss, p->rates);
    json_num(&j, "lr", p->rate[r->rate]);
    json_int(&j, "seeds", r->loss.n);
    json_int(&j, "failed", p->seeds - r->loss.n);
    json_sample(&j, "loss", &r->loss);
    for (int a = 0; a < AMOUNTS && t->readable; a++) {
        json_num(&j, at[a], t->common[a]);
        json_sample(&j, loss[a], &r->reading[a]);
    }
    for (int k = 0; k < p->measures; k++) json_sample(&j, p->measure[k], &r->measure[k]);
    json_end(&j);
}

static void json_verdict(const comparison *p, const compare_table *t, int m, const sample *first, const char *of,
                         const char *at, FILE *f)
{
    const size_t offset = (size_t)((const char *)first - (const char *)&t->row[0]);
    const sample *s = (const sample *)(const void *)((const char *)&t->row[m] + offset);
    verdict v = judge(p, first, s, t->level);
    json j = json_begin(f);
    json_text(&j, "kind", "verdict");
    json_int(&j, "model", m + 1);
    json_int(&j, "against", 1);
    json_text(&j, "of", of);
    json_text(&j, "at", at);
    json_num(&j, "difference", v.w.difference);
    json_num(&j, "low", v.w.low);
    json_num(&j, "high", v.w.high);
    json_num(&j, "dof", v.w.dof);
    json_num(&j, "level", t->level);
    json_text(&j, "verdict", word_of(&v, !strcmp(of, "loss")));
    json_text(&j, "why", v.why);
    json_end(&j);
}

void compare_print_json(const comparison *p, const compare_table *t, FILE *f)
{
    for (int m = 0; m < p->models; m++)
        for (int k = 0; k < p->rates; k++)
            for (int s = 0; s < p->seeds; s++) json_run(p, m, k, s, f);
    for (int m = 0; m < p->models; m++) json_model(p, t, m, f);
    static const char *const at[AMOUNTS] = { "tokens", "flops", "seconds" };
    for (int m = 1; m < p->models; m++) {
        json_verdict(p, t, m, &t->row[0].loss, "loss", "end", f);
        for (int a = 0; a < AMOUNTS && t->readable; a++) json_verdict(p, t, m, &t->row[0].reading[a], "loss", at[a], f);
        for (int k = 0; k < p->measures; k++) json_verdict(p, t, m, &t->row[0].measure[k], p->measure[k], "end", f);
    }
}
