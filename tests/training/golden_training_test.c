/* Ten training steps of a tiny decoder against NumPy (tests/golden/gen_training.py): forward, every gradient, clipping,
 * accumulation, schedule, AdamW with its multipliers and decay. */

#include <strata/file.h>

#include "support/test.h"
#include "train/trainer.h"

typedef struct golden {
    strata_context *ctx;
    strata_file *file;
    strata_tensor tokens, targets, loss, norm; /* (steps, accum, batch, time) twice, (steps) twice */
} golden;

static golden open_golden(void)
{
    golden g = { 0 };
    CHECK_OK(strata_context_create("threads=1", NULL, &g.ctx));
    CHECK_OK(strata_file_open(g.ctx, "tests/golden/training.safetensors", &g.file));
    CHECK_OK(strata_file_get(g.file, "tokens", &g.tokens));
    CHECK_OK(strata_file_get(g.file, "targets", &g.targets));
    CHECK_OK(strata_file_get(g.file, "loss", &g.loss));
    CHECK_OK(strata_file_get(g.file, "grad_norm", &g.norm));
    return g;
}

static void close_golden(golden *g)
{
    strata_file_close(g->file);
    strata_context_destroy(g->ctx);
}

static double meta(const golden *g, const char *key)
{
    const char *s = strata_file_meta(g->file, key);
    double x = 0;
    if (!s || !sti_parse_f64(s, &x)) FAIL("the golden file has no number \"%s\"", key);
    return x;
}

static sti_trainer *make_trainer(const golden *g, int32_t dtype)
{
    sti_trainer *t = NULL;
    const sti_model_size size = { .dtype = dtype, .batch = g->tokens.shape[2], .base_width = meta(g, "base_width") };
    CHECK_OK(sti_trainer_create(g->ctx, strata_file_meta(g->file, "spec"), (int64_t)meta(g, "vocab"), &size, true, &t));
    t->clip = meta(g, "clip");
    t->rule = (sti_adamw){ meta(g, "beta1"), meta(g, "beta2"), meta(g, "eps"), meta(g, "weight_decay") };
    const sti_params *table = &t->plan->graph->params;
    for (int32_t i = 0; i < table->count; i++) {
        const sti_param *p = &table->p[i];
        char name[128];
        strata_tensor src;
        snprintf(name, sizeof name, "param.%s", p->name);
        if (strata_file_get(g->file, name, &src) != STRATA_OK) FAIL("the golden file has no %s", name);
        CHECK_INT(strata_tensor_count(&src), p->count);
        for (int64_t k = 0; k < p->count; k++) {
            double x = ((const double *)src.data)[k];
            if (dtype == STRATA_F64)
                ((double *)t->params)[p->offset + k] = x;
            else
                ((float *)t->params)[p->offset + k] = (float)x;
        }
    }
    CHECK_INT(table->count, strata_file_count(g->file) - 4); /* nothing in the file is left over */
    return t;
}

/* Largest relative difference of the losses and gradient norms of all steps. */
static double train(const golden *g, sti_trainer *t, double lr_factor)
{
    const sti_schedule schedule = { meta(g, "lr") * lr_factor, meta(g, "min_lr"), (int64_t)meta(g, "warmup"),
                                    g->loss.shape[0], true };
    const int64_t accum = g->tokens.shape[1], n = g->tokens.shape[2] * g->tokens.shape[3];
    double worst = 0;
    for (int64_t step = 1; step <= g->loss.shape[0]; step++) {
        sti_step_sums sums;
        for (int64_t a = 0; a < accum; a++) {
            const int64_t at = ((step - 1) * accum + a) * n;
            memcpy(t->tokens, (const int32_t *)g->tokens.data + at, (size_t)n * sizeof(int32_t));
            memcpy(t->targets, (const int32_t *)g->targets.data + at, (size_t)n * sizeof(int32_t));
            CHECK_OK(sti_trainer_grad(t));
        }
        CHECK_OK(sti_trainer_update(t, step, sti_schedule_rate(&schedule, step)));
        CHECK_OK(sti_trainer_read(t, &sums));
        const double loss = ((const double *)g->loss.data)[step - 1], gold = ((const double *)g->norm.data)[step - 1];
        worst = fmax(worst, fabs(sums.loss - loss) / loss);
        worst = fmax(worst, fabs(sums.norm - gold) / gold);
    }
    return worst;
}

/* One pass rounds its longest sums (24 tokens x 32 columns) with relative error eps sqrt(768) = 28 eps. A step moves
 * every weight by lr f (about 0.01) times a ratio g / sqrt(v) that inherits the relative error of its own g; elements
 * whose gradient nearly cancels lose two more digits, and ten steps add theirs: 28 * 100 * 10 eps. */
static double bound(double eps)
{
    return 28 * 100 * 10 * eps;
}

static void steps_agree(int32_t dtype, double eps)
{
    golden g = open_golden();
    sti_trainer *t = make_trainer(&g, dtype);
    const double worst = train(&g, t, 1);
    if (!(worst <= bound(eps))) FAIL("losses or norms differ by %g, more than %g", worst, bound(eps));
    sti_trainer_destroy(t);

    /* a learning rate that is wrong by 100 times the bound is seen */
    t = make_trainer(&g, dtype);
    const double planted = train(&g, t, 1 + 100 * bound(eps));
    if (!(planted > bound(eps))) FAIL("a planted error of %g went unseen (%g)", 100 * bound(eps), planted);
    sti_trainer_destroy(t);
    close_golden(&g);
}

static void f64(void)
{
    steps_agree(STRATA_F64, 2.220446049250313e-16);
}

static void f32(void)
{
    steps_agree(STRATA_F32, 1.1920929e-7);
}

TESTS(T(f64), T(f32))
