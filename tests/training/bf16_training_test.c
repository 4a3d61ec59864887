/* Training with products of operands rounded to bf16 on the CPU beside training in f64: same start, same batches. */
#include "core/philox.h"
#include "model/model.h"
#include "support/test.h"
#include "train/trainer.h"

enum { VOCAB = 13, BATCH = 3, STEPS = 6 };

static strata_context *context(const char *spec)
{
    strata_context *ctx;
    CHECK_OK(strata_context_create(spec, NULL, &ctx));
    return ctx;
}

static void need_instructions(void)
{
    strata_context *rounding = context("math=bf16");
    const bool can = strcmp(strata_context_math(rounding), "bf16") == 0;
    strata_context_destroy(rounding);
    if (!can) SKIP("no instructions for bf16 products");
}

static sti_trainer *make(const strata_context *ctx, const char *spec, int32_t dtype)
{
    sti_trainer *t = NULL;
    const sti_model_size size = { .dtype = dtype, .batch = BATCH };
    const int64_t vocab = strstr(spec, "inputs=") ? 0 : VOCAB;
    if (sti_trainer_create(ctx, spec, vocab, &size, true, &t) != STRATA_OK) FAIL("%s: %s", spec, strata_last_error());
    t->clip = 1;
    CHECK_OK(sti_trainer_init(t, 3));
    return t;
}

static void put(const sti_trainer *t, void *array, int64_t i, double x)
{
    if (t->plan->graph->dtype == STRATA_F64)
        ((double *)array)[i] = (double)(float)x;
    else
        ((float *)array)[i] = (float)x;
}

static void fill(const sti_trainer *t, int step)
{
    const int64_t n = BATCH * t->plan->graph->time;
    const uint64_t at = (uint64_t)step;
    for (int64_t i = 0; i < n * t->plan->inputs; i++) put(t, t->x, i, sti_normal(1, at, (uint64_t)i));
    for (int64_t i = 0; i < n * t->plan->outputs; i++)
        put(t, t->y, i, i % 5 == 3 ? (double)NAN : sti_normal(2, at, (uint64_t)i));
    for (int64_t i = 0; i < n && !t->plan->inputs; i++) {
        t->tokens[i] = (int32_t)sti_below(1, at, (uint64_t)i, VOCAB);
        t->targets[i] = i % 5 == 3 ? -1 : (int32_t)sti_below(2, at, (uint64_t)i, VOCAB);
    }
}

static double step_loss(sti_trainer *t, int step)
{
    sti_step_sums s;
    fill(t, step);
    CHECK_OK(sti_trainer_grad(t));
    CHECK_OK(sti_trainer_update(t, step, 1e-4));
    CHECK_OK(sti_trainer_read(t, &s));
    CHECK(s.failed == 0 && s.norm > 1e-6);
    return s.loss;
}

/* bf16 keeps 8 bits: logits of size 1, each after some tens of roundings of 2^-9, move a mean of about log 13 by a
 * fraction of a per cent. Small steps keep the runs together afterwards. The masters, moments and sums are f32: bf16
 * and f32 differ, but far less than that. */
static void check(const strata_context *ctx, const char *spec)
{
    sti_trainer *exact = make(ctx, spec, STRATA_F64), *bf16 = make(ctx, spec, STRATA_BF16),
                *f32 = make(ctx, spec, STRATA_F32);
    double differs = 0;
    CHECK_INT(bf16->plan->graph->dtype, STRATA_F32);
    CHECK(!bf16->compute);
    for (int step = 1; step <= STEPS; step++) {
        const double want = step_loss(exact, step), got = step_loss(bf16, step), same = step_loss(f32, step);
        if (!(fabs(got - want) <= (step == 1 ? 0.01 : 0.03) * want))
            FAIL("%s: step %d: %g, f64 %g", spec, step, got, want);
        differs = fmax(differs, fabs(got - same));
    }
    if (!(differs > 0)) FAIL("%s: nothing was rounded", spec);
    sti_trainer_destroy(exact);
    sti_trainer_destroy(bf16);
    sti_trainer_destroy(f32);
}

static void models(void)
{
    static const char *const linear[] = { "dense", "lowrank(rank=3)", "btt(rank=2)", "monarch", "mlr(ranks=2,2)" };
    need_instructions();
    strata_context *ctx = context("threads=2");
    for (size_t i = 0; i < STI_COUNT(linear); i++) {
        char spec[256];
        snprintf(spec, sizeof spec,
                 "decoder layers=2 width=32 context=48 mixers=softmax(heads=2 score=mlr ranks=8,8) linear=%s",
                 linear[i]);
        check(ctx, spec);
    }
    strata_context_destroy(ctx);
}

/* By how much rounded products may move a mean of squared errors L of outputs with the mean square y: products of two
 * operands in a row, `products` of them, leave outputs off by d = c 2^-9 sqrt(2 products y), and with them L by at most
 * 2 d sqrt(L) + d^2. */
static double numbers_bound(sti_trainer *exact, double products, double *loss)
{
    const int64_t n = BATCH * exact->plan->graph->time * exact->plan->outputs;
    const void *out;
    double y = 0, sum;
    int64_t scored;
    CHECK_OK(sti_trainer_loss(exact, BATCH, &sum, &scored));
    CHECK_OK(sti_trainer_outputs(exact, &out));
    for (int64_t i = 0; i < n; i++) y += ((const double *)out)[i] * ((const double *)out)[i] / (double)n;
    const double d = 4 * 0x1p-9 * sqrt(2 * products * y);
    *loss = sum / (double)scored;
    return 2 * d * sqrt(*loss) + d * d;
}

static void numbers_check(const strata_context *ctx, const char *spec, double products)
{
    sti_trainer *exact = make(ctx, spec, STRATA_F64), *bf16 = make(ctx, spec, STRATA_BF16),
                *f32 = make(ctx, spec, STRATA_F32), *wrong = make(ctx, spec, STRATA_BF16);
    sti_trainer *const all[] = { exact, bf16, f32, wrong };
    double differs = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) /* natural scale: maps of windows begin at zero */
        sti_params_init(&all[i]->plan->graph->params, all[i]->params, all[i]->plan->graph->dtype, 5, 1);
    const sti_params *table = &wrong->plan->graph->params;
    const sti_param *last = &table->p[table->count - 1];
    for (int64_t i = 0; i < last->count; i++) ((float *)wrong->params)[last->offset + i] *= 2;
    for (int step = 1; step <= STEPS; step++) {
        double want;
        fill(exact, step);
        const double bound = (step == 1 ? 1 : 3) * numbers_bound(exact, products, &want);
        const double same = step_loss(exact, step), got = step_loss(bf16, step), plain = step_loss(f32, step),
                     off = step_loss(wrong, step);
        CHECK(fabs(same - want) <= 1e-12 * want);
        if (!(fabs(got - want) <= bound)) FAIL("%s: step %d: %g, f64 %g, bound %g", spec, step, got, want, bound);
        if (step == 1 && !(fabs(off - want) > bound)) FAIL("%s: doubled weights are not seen: %g, %g", spec, off, want);
        if (!(fabs(plain - want) <= 1e-5 * want)) FAIL("%s: step %d: f32 %g, f64 %g", spec, step, plain, want);
        differs = fmax(differs, fabs(got - plain));
    }
    if (!(differs > 0)) FAIL("%s: nothing was rounded", spec);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) sti_trainer_destroy(all[i]);
}

static void numbers(void)
{
    need_instructions();
    strata_context *ctx = context("threads=2");
    /* read-in, two blocks of four products and the two of attention, head */
    numbers_check(ctx, "decoder layers=2 width=32 context=48 mixers=softmax(heads=2 qk_norm=1) inputs=16 outputs=3",
                  14);
    numbers_check(ctx,
                  "decoder layers=2 width=32 context=48 mixers=softmax(heads=2 score=bilinear-btt qk_norm=1) inputs=16 "
                  "outputs=3",
                  16);
    numbers_check(ctx, "linear inputs=48 outputs=24 context=5", 1);
    numbers_check(ctx, "dlinear inputs=48 outputs=24 kernel=7 context=5", 2);
    strata_context_destroy(ctx);
}

static void count_warnings(void *user, int32_t level, const char *text)
{
    if (level == STRATA_LOG_WARN && strstr(text, "bf16")) ++*(int *)user;
}

/* Without the instructions a run is one in f32, and says so. */
static void without_instructions(void)
{
    const char *spec = "decoder layers=1 width=16 context=24 mixers=softmax(heads=2)";
    int warnings = 0;
    strata_context_config config = { STRATA_INIT(strata_context_config), NULL, count_warnings, &warnings };
    strata_context *ctx;
    CHECK_OK(strata_context_create("isa=avx2 threads=1", &config, &ctx));
    sti_trainer *f32 = make(ctx, spec, STRATA_F32);
    CHECK_INT(warnings, 0);
    sti_trainer *bf16 = make(ctx, spec, STRATA_BF16);
    CHECK_INT(warnings, 1);
    for (int step = 1; step <= 2; step++) CHECK(step_loss(f32, step) == step_loss(bf16, step));
    sti_trainer_destroy(f32);
    sti_trainer_destroy(bf16);
    strata_context_destroy(ctx);
}

TESTS(T(models), T(numbers), T(without_instructions))
