/* AdamW, gradient norm and schedules against closed forms. */

#include "train/optim.h"

#include "support/test.h"

enum { BIG = 40000 };

typedef struct block {
    strata_context *ctx;
    sti_params table;
    sti_optim *optim;
    double *w, *g, *m, *v;
} block;

/* A matrix (two chunks and a tail) with multiplier 3 and a vector with multiplier 1. */
static block make(const char *threads)
{
    block b = { 0 };
    CHECK_OK(strata_context_create(threads, NULL, &b.ctx));
    CHECK_OK(sti_params_add(&b.table, "matrix", 2, (const int64_t[]){ BIG, 1 }, STI_INIT_CONST, 0, 1, 3));
    CHECK_OK(sti_params_add(&b.table, "vector", 1, (const int64_t[]){ 5 }, STI_INIT_CONST, 0, 1, 1));
    CHECK_OK(sti_optim_create(b.ctx, &b.table, STRATA_F64, &b.optim));
    const size_t n = (size_t)b.table.elements;
    b.w = calloc(n, sizeof *b.w);
    b.g = calloc(n, sizeof *b.g);
    b.m = calloc(n, sizeof *b.m);
    b.v = calloc(n, sizeof *b.v);
    CHECK(b.w && b.g && b.m && b.v);
    return b;
}

static void drop(block *b)
{
    free(b->w);
    free(b->g);
    free(b->m);
    free(b->v);
    sti_optim_destroy(b->optim);
    sti_params_free(&b->table);
    strata_context_destroy(b->ctx);
}

/* With a constant gradient the corrected moments are g and g^2 at every step: w moves by lr f g / (|g| + eps). */
static void constant_gradient(void)
{
    block b = make("threads=1");
    const sti_adamw rule = { 0.9, 0.95, 1e-3, 0 };
    const int64_t vector = b.table.p[1].offset;
    for (int64_t i = 0; i < b.table.elements; i++) b.g[i] = -0.02 * (double)(i % 7 + 1);
    for (int t = 1; t <= 20; t++) sti_optim_step(b.optim, &rule, 0.01, t, 0.5, b.g, b.w, b.m, b.v);
    for (int64_t i = 0; i < BIG; i++) {
        double g = 0.5 * b.g[i], want = -20 * 0.01 * 3 * g / (fabs(g) + 1e-3);
        /* 20 sums of rounding, each of size eps |w| */
        if (!(fabs(b.w[i] - want) <= 8 * 2.2e-16 * 20)) FAIL("w[%lld] is %.17g, not %.17g", (long long)i, b.w[i], want);
    }
    CHECK(fabs(b.w[vector] - 20 * 0.01 * 0.5 * 0.02 * 6 / (0.5 * 0.02 * 6 + 1e-3)) > 1e-6); /* not that gradient */
    const double g = fabs(0.5 * b.g[vector]);
    CHECK(fabs(b.w[vector] - 20 * 0.01 * g / (g + 1e-3)) < 1e-14);
    drop(&b);
}

/* Columns with factors of their own, in a tensor whose chunks begin inside a row. */
static void columns(void)
{
    enum { ROWS = 9000, COLS = 5 };
    static const double one[COLS] = { 1, 1, 1, 1, 1 }, factor[COLS] = { 2, 2, 0.5, 4, 4 };
    strata_context *ctx;
    sti_params table = { 0 };
    sti_optim *optim;
    CHECK_OK(strata_context_create("threads=1", NULL, &ctx));
    CHECK_OK(sti_params_add(&table, "C", 2, (const int64_t[]){ ROWS, COLS }, STI_INIT_CONST, 0, 1, 3));
    CHECK_OK(sti_params_columns(&table, COLS, one, factor));
    CHECK_OK(sti_optim_create(ctx, &table, STRATA_F64, &optim));
    double *all = calloc(4 * (size_t)table.elements, sizeof *all);
    CHECK(all);
    double *w = all, *g = w + table.elements, *m = g + table.elements, *v = m + table.elements;
    for (int64_t i = 0; i < ROWS * COLS; i++) {
        w[i] = 2;
        g[i] = 1;
    }
    const sti_adamw rule = { 0.9, 0.95, 1e-20, 0.1 };
    sti_optim_step(optim, &rule, 0.01, 1, 1, g, w, m, v);
    for (int64_t i = 0; i < ROWS * COLS; i++) {
        const double f = 0.01 * 3 * factor[i % COLS], want = 2 - f - f * 0.1 * 2;
        if (!(fabs(w[i] - want) < 1e-14)) FAIL("w[%lld] is %.17g, not %.17g", (long long)i, w[i], want);
    }
    free(all);
    sti_optim_destroy(optim);
    sti_params_free(&table);
    strata_context_destroy(ctx);
}

/* No gradient: matrices shrink by 1 - lr f wd in each step, vectors stay. */
static void decay(void)
{
    block b = make("threads=1");
    const sti_adamw rule = { 0.9, 0.95, 1e-20, 0.1 };
    const int64_t vector = b.table.p[1].offset;
    for (int64_t i = 0; i < b.table.elements; i++) b.w[i] = 2;
    for (int t = 1; t <= 10; t++) sti_optim_step(b.optim, &rule, 0.01, t, 1, b.g, b.w, b.m, b.v);
    const double want = 2 * pow(1 - 0.01 * 3 * 0.1, 10);
    CHECK(fabs(b.w[0] - want) < 1e-14);
    CHECK(fabs(b.w[BIG - 1] - want) < 1e-14);
    for (int i = 0; i < 5; i++) CHECK(b.w[vector + i] == 2);
    drop(&b);
}

/* Two steps with gradients 1 and -3, by hand. */
static void two_steps(void)
{
    block b = make("threads=1");
    const sti_adamw rule = { 0.9, 0.95, 1e-8, 0.1 };
    b.w[0] = 1;
    b.g[0] = 1;
    sti_optim_step(b.optim, &rule, 0.1, 1, 1, b.g, b.w, b.m, b.v);
    const double w1 = 1 - 0.3 * (1 / (1 + 1e-8)) - 0.3 * 0.1 * 1;
    CHECK(fabs(b.w[0] - w1) < 1e-15);
    b.g[0] = -3;
    sti_optim_step(b.optim, &rule, 0.1, 2, 1, b.g, b.w, b.m, b.v);
    const double m = 0.9 * 0.1 - 3 * 0.1, v = 0.95 * 0.05 + 9 * 0.05;
    const double w2 = w1 - 0.3 * (m / 0.19) / (sqrt(v / 0.0975) + 1e-8) - 0.3 * 0.1 * w1;
    CHECK(fabs(b.w[0] - w2) < 1e-15);
    CHECK(fabs(b.w[0] - (w2 + 0.3 * 0.1 * w1)) > 1e-3); /* the check would see a missing decay */
    drop(&b);
}

static void norm_and_threads(void)
{
    block one = make("threads=1"), two = make("threads=2");
    const int64_t n = one.table.elements, vector = one.table.p[1].offset;
    for (int64_t i = 0; i < BIG; i++) one.g[i] = 0.5;
    for (int64_t i = 0; i < 5; i++) one.g[vector + i] = 2;
    const double want = sqrt(0.25 * BIG + 20), got = sti_optim_norm(one.optim, one.g);
    CHECK(fabs(got - want) <= 4 * 2.2e-16 * want); /* every partial sum is exact here: only the root rounds */

    for (int64_t i = 0; i < n; i++) one.g[i] = two.g[i] = sin((double)i) / 3;
    const double a = sti_optim_norm(one.optim, one.g), b = sti_optim_norm(two.optim, two.g);
    CHECK(memcmp(&a, &b, sizeof a) == 0);
    const sti_adamw rule = { 0.9, 0.95, 1e-20, 0.1 };
    for (int t = 1; t <= 3; t++) {
        sti_optim_step(one.optim, &rule, 0.1, t, 1, one.g, one.w, one.m, one.v);
        sti_optim_step(two.optim, &rule, 0.1, t, 1, two.g, two.w, two.m, two.v);
    }
    CHECK(memcmp(one.w, two.w, (size_t)n * sizeof *one.w) == 0);

    one.g[BIG - 1] = (double)NAN;
    CHECK(isnan(sti_optim_norm(one.optim, one.g)));
    drop(&one);
    drop(&two);
}

/* A gradient of zero with the tiny default eps moves nothing: 0 / (0 + eps). */
static void zero_gradient(void)
{
    block b = make("threads=1");
    const sti_adamw rule = { 0.9, 0.95, 1e-20, 0 };
    b.w[3] = 1.5;
    sti_optim_step(b.optim, &rule, 0.1, 1, 1, b.g, b.w, b.m, b.v);
    CHECK(b.w[3] == 1.5);
    drop(&b);
}

static void schedules(void)
{
    const sti_schedule flat = { .lr = 2, .warmup = 4 };
    CHECK(sti_schedule_rate(&flat, 1) == 0.5);
    CHECK(sti_schedule_rate(&flat, 4) == 2);
    CHECK(sti_schedule_rate(&flat, 1000000) == 2);
    const sti_schedule none = { .lr = 2 };
    CHECK(sti_schedule_rate(&none, 1) == 2);

    const sti_schedule cosine = { .lr = 2, .min_lr = 1, .warmup = 10, .steps = 110, .cosine = true };
    CHECK(fabs(sti_schedule_rate(&cosine, 10) - 2) < 1e-15);
    CHECK(fabs(sti_schedule_rate(&cosine, 60) - 1.5) < 1e-15);                 /* half way */
    CHECK(fabs(sti_schedule_rate(&cosine, 35) - (1.5 + sqrt(0.125))) < 1e-15); /* cos(pi/4) */
    CHECK(fabs(sti_schedule_rate(&cosine, 110) - 1) < 1e-15);
    CHECK(sti_schedule_rate(&cosine, 111) == 1);
    const sti_schedule short_run = { .lr = 2, .min_lr = 1, .warmup = 10, .steps = 5, .cosine = true };
    CHECK(sti_schedule_rate(&short_run, 5) == 1); /* still warming up */
    CHECK(sti_schedule_rate(&short_run, 11) == 1);
}

TESTS(T(constant_gradient), T(decay), T(columns), T(two_steps), T(norm_and_threads), T(zero_gradient), T(schedules))
