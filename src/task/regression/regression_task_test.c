/* The data of in-context regression, its baselines against closed forms, and a run. */

#include "task/registry.h"
#include "task/regression/baselines.h"
#include "training/training.h"

#define SMALL "decoder layers=2 width=16 mixers=softmax(heads=2) mlp=mlp(ratio=2)"

static strata_config *config(const strata_context *ctx, const char *const *pair)
{
    strata_config *c = NULL;
    CHECK_OK(strata_config_create(ctx, "regression", &c));
    CHECK_OK(strata_config_set(c, "model.spec", SMALL, "test"));
    for (; pair && *pair; pair += 2) CHECK_OK(strata_config_set(c, pair[0], pair[1], "test"));
    return c;
}

static strata_status open_task(const strata_context *ctx, const char *const *pair, int64_t steps, sti_task *t)
{
    strata_config *c = config(ctx, pair);
    strata_status st = sti_task_create(ctx, c, t);
    if (st == STRATA_OK) {
        t->steps = steps;
        st = t->cls->load(t, STI_TASK_TRAIN, NULL, 0, t->length);
        if (st != STRATA_OK) sti_task_destroy(t);
    }
    strata_config_destroy(c);
    return st;
}

/* ---- sequences ---------------------------------------------------------------------------------------------- */

/* dims and points of one sequence, from where it is not zero and not NaN. */
static void extent(const float *x, const float *y, int64_t d, int64_t n, int64_t *dims, int64_t *points)
{
    *dims = *points = 0;
    for (int64_t i = 0; i < n; i++) {
        CHECK(isnan(y[2 * i + 1])); /* nothing is scored where y stands */
        if (isnan(y[2 * i])) continue;
        *points = i + 1;
        for (int64_t j = 0; j < d; j++)
            if (fabsf(x[2 * i * d + j]) > 0 && j >= *dims) *dims = j + 1;
        CHECK(!(fabsf(x[(2 * i + 1) * d] - y[2 * i]) > 0)); /* y_i, 0, … follows x_i */
        for (int64_t j = 1; j < d; j++) CHECK(!(fabsf(x[(2 * i + 1) * d + j]) > 0));
    }
    for (int64_t i = 2 * *points; i < 2 * n; i++)
        for (int64_t j = 0; j < d; j++) CHECK(!(fabsf(x[i * d + j]) > 0));
}

static void sequences_and_curriculum(void)
{
    enum { D = 16, N = 32, B = 3, T = 2 * N };
    static float x[B * T * D], y[B * T], again[T * D], same[T];
    strata_context *ctx = test_context();
    sti_task t;
    CHECK_OK(open_task(ctx, PAIRS("train.accum", "2"), 500001, &t));
    CHECK_INT(t.inputs, D);
    CHECK_INT(t.outputs, 1);
    CHECK_INT(t.length, T);
    /* 15 updates every 2000 steps (0.4 % of the run), dims 4, 5, …, points 8, 10, … */
    const int64_t steps[] = { 0, 1999, 2000, 4000, 23999, 24000, 29999, 30000, 500000 },
                  want[] = { 4, 4, 5, 6, 15, 16, 16, 16, 16 };
    for (size_t k = 0; k < STI_COUNT(steps); k++) {
        int64_t dims, points;
        t.cls->values(&t, 1, 2 * steps[k] + 1, B, T, x, y);
        for (int b = 0; b < B; b++) {
            extent(x + b * T * D, y + b * T, D, N, &dims, &points);
            CHECK_INT(dims, want[k]);
            CHECK_INT(points, 2 * want[k]);
        }
    }
    /* the same sequence whatever the batch is cut into; another one for another seed, index or use */
    t.cls->values(&t, 1, 999999, 1, T, again, same);
    t.cls->values(&t, 1, 333333, B, T, x, y);
    CHECK(memcmp(x, again, sizeof again) == 0);
    CHECK(memcmp(x, x + T * D, sizeof again) != 0);
    t.cls->values(&t, 2, 999999, 1, T, x, y);
    CHECK(memcmp(x, again, sizeof again) != 0);
    CHECK_INT(t.cls->eval_windows(&t, T), 2048);
    t.cls->values(&t, 0, 1000005, 1, T, again, same);
    t.cls->eval_values(&t, 1000005, T, x, y); /* the held-out set has seed 0 too, but a stream of its own */
    CHECK(memcmp(x, again, sizeof again) != 0);
    t.cls->eval_values(&t, 1000005, T, again, same);
    CHECK(memcmp(x, again, sizeof again) == 0);
    sti_task_destroy(&t);

    CHECK_OK(
        open_task(ctx, PAIRS("regression.curriculum", "0", "regression.dims", "3", "regression.points", "5"), 0, &t));
    int64_t dims, points;
    t.cls->values(&t, 1, 0, 1, 10, x, y);
    extent(x, y, 3, 5, &dims, &points);
    CHECK_INT(dims, 3);
    CHECK_INT(points, 5);
    sti_task_destroy(&t);
    strata_context_destroy(ctx);
}

/* Means over many problems, with standard errors that follow from fourth moments of normals. */
static void moments(void)
{
    enum { D = 6, N = 4, S = 20000 };
    const sti_regression kinds[] = {
        { .dims = D, .points = N },
        { .dims = D, .points = N, .noise = 0.5 },
        { .dims = D, .points = N, .decay = 1 },
        { .dims = D, .points = N, .nonzero = 2 },
    };
    for (size_t k = 0; k < STI_COUNT(kinds); k++) {
        const sti_regression *r = &kinds[k];
        double v[D], xx[D] = { 0 }, yy = 0, cross = 0, sum = 0, total = 0;
        sti_regression_spectrum(r, D, v);
        for (uint64_t s = 0; s < S; s++) {
            float x[N * D], y[N];
            sti_regression_draw(r, 7, STI_REGRESSION_TRAIN, s, D, N, x, D, y, 1);
            for (int i = 0; i < N; i++) {
                for (int j = 0; j < D; j++) xx[j] += (double)x[i * D + j] * (double)x[i * D + j] / (N * S);
                yy += (double)y[i] * (double)y[i] / (N * S);
            }
            cross += (double)x[0] * (double)x[1] / S + (double)x[0] * (double)x[D] / S;
            sum += (double)y[0] / S;
        }
        for (int j = 0; j < D; j++) {
            total += v[j];
            CHECK(fabs(xx[j] / v[j] - 1) < 5 * sqrt(2.0 / (N * S)));
            CHECK(r->decay > 0 ? fabs(v[j] * (j + 1) - v[0]) < 1e-15 : fabs(v[j] * D - 1) < 1e-15);
        }
        CHECK(fabs(total - 1) < 1e-14);
        CHECK(fabs(yy - 1 - r->noise * r->noise) < 0.08);
        CHECK(fabs(cross) < 5 * sqrt(2.0 / S) / D * 2 && fabs(sum) < 5 * sqrt(1.3 / S));
    }
    /* two of six weights: y depends on two coordinates, and every pair of them occurs */
    int pairs[D][D] = { { 0 } };
    for (uint64_t s = 0; s < 600; s++) {
        float x[D * D], y[D];
        sti_regression r = { .dims = D, .points = D, .nonzero = 2 };
        sti_regression_draw(&r, 7, STI_REGRESSION_EVAL, s, D, D, x, D, y, 1);
        int found = 0, hit = 0;
        for (int a = 0; a < D; a++)
            for (int b = a + 1; b < D; b++) { /* does a pair explain the other points too? */
                const double det = (double)x[a] * (double)x[D + b] - (double)x[b] * (double)x[D + a];
                const double wa = ((double)y[0] * (double)x[D + b] - (double)x[b] * (double)y[1]) / det;
                const double wb = ((double)x[a] * (double)y[1] - (double)y[0] * (double)x[D + a]) / det;
                double worst = 0;
                for (int i = 2; i < D; i++)
                    worst = fmax(worst, fabs(wa * (double)x[i * D + a] + wb * (double)x[i * D + b] - (double)y[i]));
                if (!(worst < 1e-4 * (1 + fabs(wa) + fabs(wb)))) continue;
                found++;
                hit = a * D + b;
            }
        if (found == 1) pairs[hit / D][hit % D]++;
    }
    for (int a = 0; a < D; a++)
        for (int b = a + 1; b < D; b++) CHECK(pairs[a][b] > 15 && pairs[a][b] < 75); /* 40 expected of each of 15 */
}

/* ---- baselines ---------------------------------------------------------------------------------------------- */
static void near_curve(const char *what, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) FAIL("%s is %.6g, not %.6g (+- %.2g)", what, got, want, tolerance);
}

static void least_squares(void)
{
    enum { D = 8, N = 16, S = 6000 };
    strata_context *ctx = test_context();
    double mean[STI_BASELINES * N], theory[STI_BASELINES];
    const sti_regression free = { .dims = D, .points = N };
    CHECK_OK(sti_regression_baselines(ctx, &free, 0, 3, S, mean));
    for (int n = 0; n < N; n++) {
        sti_regression_theory(&free, 0, n, theory);
        CHECK(fabs(theory[STI_BASE_OLS] - fmax(0, (D - n) / (double)D)) < 1e-15);
        /* (w.x)^2 of the m = D - n directions that no example shows: mean m / D, second moment 3 (m^2 + 2 m) / D^2 */
        const double m = n < D ? D - n : 0, spread = sqrt((3 * (m * m + 2 * m) - m * m) / S) / D;
        near_curve("ols", mean[STI_BASE_OLS * N + n], theory[STI_BASE_OLS], 5 * spread + 1e-6);
        near_curve("zero", mean[STI_BASE_ZERO * N + n], 1, 5 * sqrt(2.75 / S));
        CHECK(isnan(mean[STI_BASE_RIDGE * N + n]));
        if (n < D) CHECK(mean[STI_BASE_OLS * N + n] > 5 * spread); /* a curve of zeros would not pass */
    }

    enum { LONG = 30 };
    double noisy[STI_BASELINES * LONG];
    const sti_regression hard = { .dims = D, .points = LONG, .noise = 0.5, .decay = 0.7 };
    CHECK_OK(sti_regression_baselines(ctx, &hard, 0.25, 3, S, noisy));
    for (int n = D + 7; n < LONG; n++) { /* whatever the spectrum: noise^2 (1 + D / (n - D - 1)) */
        sti_regression_theory(&hard, 0.25, n, theory);
        CHECK(fabs(theory[STI_BASE_OLS] - 0.25 * (1 + D / (n - D - 1.0))) < 1e-15);
        near_curve("noisy ols", noisy[STI_BASE_OLS * LONG + n], theory[STI_BASE_OLS], 0.1 * theory[STI_BASE_OLS]);
    }
    const sti_regression few = { .dims = 12, .points = 8, .noise = 0.5 };
    double short_[STI_BASELINES * 8];
    CHECK_OK(sti_regression_baselines(ctx, &few, 0.25, 3, S, short_));
    for (int n = 0; n < 7; n++) { /* fewer examples than dimensions: bias and noise of the shortest solution */
        sti_regression_theory(&few, 0.25, n, theory);
        CHECK(fabs(theory[STI_BASE_OLS] - (0.25 + (12 - n) / 12.0 + 0.25 * n / (12 - n - 1.0))) < 1e-14);
        near_curve("short ols", short_[STI_BASE_OLS * 8 + n], theory[STI_BASE_OLS], 0.1 * theory[STI_BASE_OLS]);
    }
    sti_regression_theory(&few, 0.25, 11, theory);
    CHECK(isinf(theory[STI_BASE_OLS]));
    strata_context_destroy(ctx);
}

/* Mean of 1 / (c / d + lambda) for chi-square c of k degrees, by Simpson's rule. */
static double mean_inverse(int k, double d, double lambda)
{
    const int steps = 20000;
    const double top = k + 60 + 12 * sqrt(2.0 * k), h = top / steps;
    double sum = 0;
    for (int i = 0; i <= steps; i++) {
        const double c = i * h + 1e-12,
                     density = exp((k / 2.0 - 1) * log(c) - c / 2 - lgamma(k / 2.0) - k / 2.0 * log(2));
        sum += (i == 0 || i == steps ? 1 : i % 2 ? 4 : 2) * density / (c / d + lambda);
    }
    return sum * h / 3;
}

static void ridge(void)
{
    enum { S = 20000 };
    strata_context *ctx = test_context();
    /* one dimension, any number of examples, and one example in any dimension: E tr noise^2 (X'X + noise^2)^-1 / d */
    double one[STI_BASELINES * 9], mean[STI_BASELINES * 80], theory[STI_BASELINES];
    const sti_regression line = { .dims = 1, .points = 9, .noise = 0.7 };
    CHECK_OK(sti_regression_baselines(ctx, &line, 0.49, 3, S, one));
    for (int n = 2; n < 9; n++)
        near_curve("ridge on a line", one[STI_BASE_RIDGE * 9 + n], 0.49 + 0.49 * mean_inverse(n, 1, 0.49), 0.05);
    const sti_regression first = { .dims = 5, .points = 2, .noise = 0.7 };
    double two[STI_BASELINES * 2];
    CHECK_OK(sti_regression_baselines(ctx, &first, 0.49, 3, S, two));
    near_curve("ridge after one", two[STI_BASE_RIDGE * 2 + 1], 0.49 + (4 + 0.49 * mean_inverse(5, 5, 0.49)) / 5, 0.06);

    /* many dimensions: the closed form is their limit; also where lambda is not the best, and V not the identity */
    const struct {
        sti_regression r;
        double lambda;
    } wide[] = {
        { { .dims = 40, .points = 80, .noise = 0.5 }, 0.25 },
        { { .dims = 40, .points = 80, .noise = 0.5 }, 0.05 },
        { { .dims = 40, .points = 80, .noise = 0.5, .decay = 1 }, 0.25 },
        { { .dims = 40, .points = 80, .noise = 0.3, .nonzero = 5 }, 0.09 },
    };
    for (size_t k = 0; k < STI_COUNT(wide); k++) {
        double worst = 0, total = 0;
        CHECK_OK(sti_regression_baselines(ctx, &wide[k].r, wide[k].lambda, 3, 600, mean));
        for (int n = 0; n < 80; n++) {
            sti_regression_theory(&wide[k].r, wide[k].lambda, n, theory);
            const double got = mean[STI_BASE_RIDGE * 80 + n] / theory[STI_BASE_RIDGE] - 1;
            worst = fmax(worst, fabs(got));
            total += got / 80;
        }
        /* of squares of normals: 6 % each at 600 sequences; sequences share their problem, so the mean is not 9
         * times better */
        if (!(worst < 0.3 && fabs(total) < 0.05))
            FAIL("case %zu: ridge off by %.3f, %.3f in the mean", k, worst, total);
    }
    strata_context_destroy(ctx);
}

/* The best step against the optimum of a Monte-Carlo quadratic: sum(a y) / sum(a^2), a = x_q . X'y. */
static void gradient_step(void)
{
    enum { D = 5, N = 13, S = 20000 };
    const sti_regression kinds[] = { { .dims = D, .points = N },
                                     { .dims = D, .points = N, .noise = 0.8 },
                                     { .dims = D, .points = N, .noise = 0.3, .decay = 1.5 },
                                     { .dims = D, .points = N, .noise = 0.3, .nonzero = 2 } };
    strata_context *ctx = test_context();
    for (size_t k = 0; k < STI_COUNT(kinds); k++) {
        const sti_regression *r = &kinds[k];
        double ay[N] = { 0 }, aa[N] = { 0 }, mean[STI_BASELINES * N], theory[STI_BASELINES];
        for (uint64_t s = 0; s < S; s++) {
            float x[N * D], y[N];
            double sum[D] = { 0 };
            sti_regression_draw(r, 11, STI_REGRESSION_TRAIN, s, D, N, x, D, y, 1);
            for (int n = 0; n < N; n++) {
                double a = 0;
                for (int j = 0; j < D; j++) a += sum[j] * (double)x[n * D + j];
                for (int j = 0; j < D; j++) sum[j] += (double)y[n] * (double)x[n * D + j];
                ay[n] += a * (double)y[n];
                aa[n] += a * a;
            }
        }
        CHECK_OK(sti_regression_baselines(ctx, r, 1, 3, S, mean));
        for (int n = 1; n < N; n++) {
            const double eta = sti_regression_step(r, n), noise = r->noise * r->noise;
            if (!(r->decay > 0)) CHECK(fabs(eta - D / (n + D + 1 + D * noise)) < 1e-14);
            near_curve("eta", ay[n] / aa[n], eta, 0.06 * eta);
            sti_regression_theory(r, 1, n, theory);
            near_curve("step", mean[STI_BASE_STEP * N + n], theory[STI_BASE_STEP], 0.06 * theory[STI_BASE_STEP]);
        }
    }
    strata_context_destroy(ctx);
}

/* ---- runs --------------------------------------------------------------------------------------------------- */
static strata_status train(const char *const *pair, const char *out)
{
    strata_context *ctx = test_context();
    strata_config *c = config(ctx, pair);
    strata_status st = strata_train(ctx, c, NULL, 0, test_path(out), NULL, NULL);
    strata_config_destroy(c);
    strata_context_destroy(ctx);
    return st;
}

static const strata_measure *find(const strata_measures *m, const char *name)
{
    static strata_measure x;
    for (int32_t i = 0; i < strata_measures_count(m); i++) {
        CHECK_OK(strata_measures_at(m, i, &x));
        if (strcmp(x.name, name) == 0) return &x;
    }
    FAIL("no measure %s", name);
}

#define TINY_RUN                                                                                                       \
    "regression.dims", "1", "regression.points", "6", "regression.eval_sequences", "200", "train.batch", "32",         \
        "train.warmup", "10", "train.eval_every", "50", "train.save_every", "50", "train.lr", "3e-4"

static void learns(void)
{
    CHECK_OK(train(PAIRS(TINY_RUN, "train.steps", "300", "regression.curriculum", "0"), "run"));
    strata_context *ctx = test_context();
    strata_eval_result e = { .size = STRATA_INIT(strata_eval_result) };
    CHECK_OK(strata_evaluate(ctx, test_path("run"), 0, NULL, 0, &e));
    CHECK_STR(e.unit, "number");
    CHECK_INT(e.tokens, 200 * 6);
    CHECK(isnan(e.bits));
    const strata_measure error = *find(e.measures, "error"), zero = *find(e.measures, "zero");
    CHECK_INT(error.count, 6);
    double mean = 0;
    for (int i = 0; i < 6; i++) mean += error.value[i] / 6;
    CHECK(fabs(mean - e.nats) < 1e-5);
    CHECK(fabs(find(e.measures, "last_error")->value[0] - error.value[5]) < 1e-15);
    CHECK(fabs(find(e.measures, "step_theory")->value[1] - 2.0 / 3) < 1e-15);
    /* A start that learns nothing stays at 1; after so few steps the last bits of a kernel decide between 0.35 and 0.6.
     */
    if (!(error.value[5] < 0.75 * zero.value[5])) FAIL("error %g, predicting zero %g", error.value[5], zero.value[5]);
    strata_measures_destroy(e.measures);

    char *rows = test_get(test_path("run/metrics.jsonl"), NULL); /* curves are in the rows of evaluations */
    int n = 0;
    for (const char *p = rows; (p = strstr(p, "\"error\":[")) != NULL; p++) n++;
    CHECK_INT(n, 6);
    CHECK(!strstr(rows, "ols"));
    free(rows);

    /* a caller of an older library, whose result has no measures */
    strata_eval_result old = { .size = offsetof(strata_eval_result, unit) };
    CHECK_OK(strata_evaluate(ctx, test_path("run"), 0, NULL, 0, &old));
    CHECK(fabs(old.nats - e.nats) < 1e-15 && !old.unit && !old.measures);

    const char *file = "file";
    CHECK_STATUS(strata_evaluate(ctx, test_path("run"), 0, &file, 1, &e), STRATA_E_INVALID);
    CHECK_ERROR_TEXT("reads no files");
    strata_model *m = NULL;
    strata_session *s = NULL;
    CHECK_OK(strata_model_load(ctx, test_path("run"), 0, &m));
    CHECK(strstr(strata_model_spec(m), "context=12") && strstr(strata_model_spec(m), "inputs=1 outputs=1"));
    CHECK_STATUS(strata_session_create(m, NULL, &s), STRATA_E_UNSUPPORTED);
    strata_cost cost = { .size = STRATA_INIT(strata_cost) };
    CHECK_OK(strata_model_cost(m, 0, &cost));
    CHECK(cost.params > 0);
    strata_model_destroy(m);
    strata_context_destroy(ctx);
    test_clean();
}

static void resume_has_the_same_bits(void)
{
    CHECK_OK(train(PAIRS(TINY_RUN, "train.steps", "20"), "whole"));
    CHECK_OK(train(PAIRS(TINY_RUN, "train.steps", "20", "train.seconds", "1e-9"), "parts")); /* one step */
    CHECK(test_exists(test_path("parts/step-1.safetensors")));
    CHECK_OK(train(PAIRS(TINY_RUN, "train.steps", "20", "train.resume", "1"), "parts"));
    strata_context *ctx = test_context();
    strata_model *a = NULL, *b = NULL;
    CHECK_OK(strata_model_load(ctx, test_path("whole"), 0, &a));
    CHECK_OK(strata_model_load(ctx, test_path("parts"), 0, &b));
    strata_param_info last;
    CHECK_INT(strata_model_step(a), 20);
    CHECK_OK(strata_model_param(a, strata_model_param_count(a) - 1, &last));
    CHECK(memcmp(strata_model_params(a), strata_model_params(b), (size_t)(last.offset + last.count) * sizeof(float)) ==
          0);
    strata_model_destroy(a);
    strata_model_destroy(b);
    strata_context_destroy(ctx);
    test_clean();
}

static void refusals(void)
{
    static const struct {
        const char *key, *value, *text;
    } bad[] = {
        { "model.spec", "decoder context=64", "context=64, but 6 examples are 12 positions" },
        { "model.spec", "decoder inputs=3 outputs=1", "inputs=3, but the task has 1" },
        { "model.spec", "decoder tied=1", "tied=1" },
        { "regression.nonzero", "2", "regression.nonzero is 2" },
        { "train.steps", "0", "set train.steps" },
    };
    for (size_t i = 0; i < STI_COUNT(bad); i++) {
        CHECK_STATUS(train(PAIRS(TINY_RUN, "train.steps", "4", "train.seconds", "5", bad[i].key, bad[i].value), "run"),
                     STRATA_E_SPEC);
        CHECK_ERROR_TEXT(bad[i].text);
    }
    test_clean();
}

TESTS(T(sequences_and_curriculum), T(moments), T(least_squares), T(ridge), T(gradient_step), T(learns),
      T(resume_has_the_same_bits), T(refusals))
