/* In-context linear regression. See README.md. */

#include <math.h>
#include <string.h>

#include "backend/cpu/threads.h"
#include "task/regression/baselines.h"
#include "train/task.h"

static const sti_key keys[] = {
    { "dims", STI_KEY_INT, "16", "dimension d of the inputs", 1, STI_REGRESSION_DIMS, NULL },
    { "points", STI_KEY_INT, "0", "examples of a sequence, which has twice as many positions; 0: 2 d", 0,
      STI_REGRESSION_POINTS, NULL },
    { "noise", STI_KEY_NUM, "0", "standard deviation of what is added to y", 0, 1e3, NULL },
    { "decay", STI_KEY_NUM, "0", "the variance of input j falls as j^-decay; 0: all the same", 0, 10, NULL },
    { "nonzero", STI_KEY_INT, "0", "weights that are not zero; 0: all", 0, STI_REGRESSION_DIMS, NULL },
    { "curriculum", STI_KEY_NUM, "0.06", "part of the run over which problems grow from 4 dims, 8 points; 0: none", 0,
      1, NULL },
    { "ridge", STI_KEY_NUM, "0", "lambda of the ridge baseline; 0: the noise's variance, which is best", 0, 1e6, NULL },
    { "eval_sequences", STI_KEY_INT, "2048", "held-out sequences", 1, 1 << 24, NULL },
    { "eval_seed", STI_KEY_INT, "0", "fixes the held-out sequences, apart from the training's", 0, 9e18, NULL },
};

enum { UPDATES = 15, FIRST_DIMS = 4, FIRST_POINTS = 8 };

typedef struct regression {
    sti_regression problem;
    double curriculum, ridge;
    int64_t accum, eval_sequences;
    uint64_t eval_seed;
    int64_t every, more_dims, more_points; /* the curriculum: steps between updates (0: none), and their sizes */
} regression;

static strata_status create(sti_task *t, const strata_config *c)
{
    regression *r = sti_heap(sizeof *r);
    if (!r) return sti_fail(STRATA_E_MEMORY, "out of memory");
    t->data = r;
    sti_regression *p = &r->problem;
    *p = (sti_regression){ .dims = sti_config_int(c, "regression.dims"),
                           .points = sti_config_int(c, "regression.points"),
                           .noise = sti_config_num(c, "regression.noise"),
                           .decay = sti_config_num(c, "regression.decay"),
                           .nonzero = sti_config_int(c, "regression.nonzero") };
    if (p->points == 0) p->points = 2 * p->dims;
    if (p->nonzero > p->dims)
        return sti_fail(STRATA_E_SPEC, "regression.nonzero is %lld, but regression.dims %lld", (long long)p->nonzero,
                        (long long)p->dims);
    r->curriculum = sti_config_num(c, "regression.curriculum");
    r->ridge = sti_config_num(c, "regression.ridge");
    if (!(r->ridge > 0)) r->ridge = p->noise * p->noise;
    r->accum = sti_config_int(c, "train.accum");
    r->eval_sequences = sti_config_int(c, "regression.eval_sequences");
    r->eval_seed = (uint64_t)sti_config_int(c, "regression.eval_seed");
    t->inputs = p->dims;
    t->outputs = 1;
    t->length = 2 * p->points;
    return STRATA_OK;
}

static void destroy(sti_task *t)
{
    sti_heap_free(t->data);
    t->data = NULL;
}

static strata_status load(sti_task *t, sti_task_use use, const char *const *path, int32_t npath, int64_t time)
{
    regression *r = t->data;
    const sti_regression *p = &r->problem;
    (void)path;
    (void)npath;
    if (time != t->length)
        return sti_fail(STRATA_E_SPEC, "the model has context=%lld, but %lld examples are %lld positions",
                        (long long)time, (long long)p->points, (long long)t->length);
    if (use == STI_TASK_EVAL || !(r->curriculum > 0)) return STRATA_OK;
    if (t->steps == 0)
        return sti_fail(STRATA_E_SPEC,
                        "regression.curriculum=%g of a run whose end nobody knows: set train.steps or "
                        "train.flops, or regression.curriculum=0",
                        r->curriculum);
    r->every = STI_MAX((int64_t)(r->curriculum * (double)t->steps / UPDATES), (int64_t)1);
    r->more_dims = p->dims > FIRST_DIMS ? sti_ceil_div(p->dims - FIRST_DIMS, UPDATES) : 0;
    r->more_points = p->points > FIRST_POINTS ? sti_ceil_div(p->points - FIRST_POINTS, UPDATES) : 0;
    r->more_points = STI_MAX(r->more_points, 2 * r->more_dims);
    return STRATA_OK;
}

/* ---- sequences ---------------------------------------------------------------------------------------------- */

/* x_1 y_1 x_2 y_2 …: y stands in the first coordinate, and is the target where x stands. What the problem does not
 * fill is zero and not scored. */
static void sequence(const sti_regression *p, uint64_t seed, sti_regression_use use, uint64_t problem, int64_t dims,
                     int64_t points, float *x, float *y)
{
    const int64_t d = p->dims;
    memset(x, 0, (size_t)(2 * p->points * d) * sizeof *x);
    for (int64_t i = 0; i < 2 * p->points; i++) y[i] = NAN;
    sti_regression_draw(p, seed, use, problem, dims, points, x, 2 * d, y, 2);
    for (int64_t i = 0; i < points; i++) x[(2 * i + 1) * d] = y[2 * i];
}

static void values(const sti_task *t, uint64_t seed, int64_t index, int64_t nbatch, int64_t time, float *x, float *y)
{
    const regression *r = t->data;
    const sti_regression *p = &r->problem;
    const int64_t update = r->every ? STI_MIN(index / r->accum / r->every, (int64_t)UPDATES) : UPDATES;
    const int64_t dims = r->every ? STI_MIN(p->dims, FIRST_DIMS + update * r->more_dims) : p->dims;
    const int64_t points = r->every ? STI_MIN(p->points, FIRST_POINTS + update * r->more_points) : p->points;
#pragma omp parallel for num_threads(sti_threads_for(t->ctx, nbatch *time * p->dims, 8192))
    for (int64_t b = 0; b < nbatch; b++)
        sequence(p, seed, STI_REGRESSION_TRAIN, (uint64_t)(index * nbatch + b), dims, points, x + b * time * p->dims,
                 y + b * time);
}

static int64_t eval_windows(const sti_task *t, int64_t time)
{
    (void)time;
    return ((const regression *)t->data)->eval_sequences;
}

static void eval_values(const sti_task *t, int64_t window, int64_t time, float *x, float *y)
{
    const regression *r = t->data;
    (void)time;
    sequence(&r->problem, r->eval_seed, STI_REGRESSION_EVAL, (uint64_t)window, r->problem.dims, r->problem.points, x,
             y);
}

/* ---- measures ----------------------------------------------------------------------------------------------- */
typedef struct score {
    double *sum; /* (points) squared errors */
    int64_t answers;
} score;

static void score_destroy(void *p)
{
    score *s = p;
    if (!s) return;
    sti_heap_free(s->sum);
    sti_heap_free(s);
}

static strata_status score_create(const sti_task *t, int64_t time, void **out)
{
    (void)t;
    score *s = sti_heap(sizeof *s);
    if (s) s->sum = sti_heap((size_t)time * sizeof *s->sum);
    if (s && s->sum) {
        *out = s;
        return STRATA_OK;
    }
    score_destroy(s);
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

static void score_answer(const sti_task *t, void *p, const sti_task_answer *a)
{
    const regression *r = t->data;
    score *s = p;
    for (int64_t i = 0; i < r->problem.points; i++) {
        const double e = (double)a->out[2 * i] - (double)a->y[2 * i];
        s->sum[i] += e * e;
    }
    s->answers++;
}

/* How many sequences the baselines are measured on: their cost is of order points dims^2 each. */
static int64_t baseline_sequences(const regression *r)
{
    const double d = (double)r->problem.dims, each = 14 * d * d * (double)r->problem.points;
    const double most = STI_MAX(2e10 / each, 32.0);
    return most < (double)r->eval_sequences ? (int64_t)most : r->eval_sequences;
}

static const struct {
    const char *name, *help, *theory;
} base[STI_BASELINES] = {
    [STI_BASE_ZERO] = { "zero", "predict 0", "zero_theory" },
    [STI_BASE_OLS] = { "ols", "least squares, the shortest solution where there are many", "ols_theory" },
    [STI_BASE_RIDGE] = { "ridge", "ridge regression", "ridge_theory" },
    [STI_BASE_STEP] = { "step", "one gradient step of the best length", "step_theory" },
};

/* Without lambda, ridge is least squares. */
static bool has_base(const regression *r, int k)
{
    return k != STI_BASE_RIDGE || r->ridge > 0;
}

/* Expected errors, (STI_BASELINES, points). */
static void expect(const regression *r, double *theory)
{
    for (int64_t i = 0; i < r->problem.points; i++) {
        double e[STI_BASELINES];
        sti_regression_theory(&r->problem, r->ridge, i, e);
        for (int k = 0; k < STI_BASELINES; k++) theory[k * r->problem.points + i] = e[k];
    }
}

static strata_status references(const sti_task *t, strata_measures *m)
{
    const regression *r = t->data;
    const int64_t n = r->problem.points;
    double *theory = sti_heap(STI_BASELINES * (size_t)n * sizeof *theory);
    strata_status st = theory ? STRATA_OK : sti_fail(STRATA_E_MEMORY, "out of memory");
    if (st == STRATA_OK) expect(r, theory);
    for (int k = 0; k < STI_BASELINES && st == STRATA_OK; k++)
        if (has_base(r, k)) st = sti_measures_add(m, base[k].theory, base[k].help, n, theory + k * n);
    sti_heap_free(theory);
    return st;
}

static strata_status add_baselines(const sti_task *t, double *work, strata_measures *m)
{
    const regression *r = t->data;
    const sti_regression *p = &r->problem;
    const int64_t n = p->points, sequences = baseline_sequences(r);
    double *theory = work + STI_BASELINES * n;
    STI_TRY(sti_regression_baselines(t->ctx, p, r->ridge, r->eval_seed, sequences, work));
    expect(r, theory);
    STI_TRY(sti_measures_add(m, "baseline_sequences", "sequences that the baselines are measured on", 1,
                             &(double){ (double)sequences }));
    for (int k = 0; k < STI_BASELINES; k++) {
        if (!has_base(r, k)) continue;
        STI_TRY(sti_measures_add(m, base[k].name, base[k].help, n, work + k * n));
        STI_TRY(sti_measures_add(m, base[k].theory, "its expectation", n, theory + k * n));
    }
    return STRATA_OK;
}

static strata_status score_measure(const sti_task *t, const void *p, bool whole, strata_measures *m)
{
    const regression *r = t->data;
    const score *s = p;
    const int64_t n = r->problem.points;
    double *work = sti_heap((2 * STI_BASELINES + 1) * (size_t)n * sizeof *work);
    if (!work) return sti_fail(STRATA_E_MEMORY, "out of memory");
    double *error = work + 2 * STI_BASELINES * n;
    for (int64_t i = 0; i < n; i++) error[i] = s->answers ? s->sum[i] / (double)s->answers : (double)NAN;
    strata_status st = sti_measures_add(m, "last_error", "squared error at the last example", 1, &error[n - 1]);
    if (st == STRATA_OK)
        st = sti_measures_add(m, "error", "squared error of the model after so many examples", n, error);
    if (st == STRATA_OK && whole) st = add_baselines(t, work, m);
    sti_heap_free(work);
    return st;
}

const sti_task_class sti_task_class_regression = {
    .kind = "regression",
    .summary = "in-context linear regression: read examples (x, y) of a random linear function, predict the next y",
    .unit = "number",
    .keys = STI_KEYS(keys),
    .no_files = true,
    .create = create,
    .destroy = destroy,
    .load = load,
    .values = values,
    .eval_windows = eval_windows,
    .eval_values = eval_values,
    .score_create = score_create,
    .score_answer = score_answer,
    .score_measure = score_measure,
    .score_destroy = score_destroy,
    .references = references,
};
