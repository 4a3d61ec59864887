/* The gradient of a whole model against central differences in f64, for every example of every model class. */

#include "core/philox.h"
#include "support/test.h"
#include "train/trainer.h"

enum { VOCAB = 7, BATCH = 2 };

static double mean_loss(sti_trainer *t)
{
    double nats = 0;
    int64_t scored = 0;
    CHECK_OK(sti_trainer_loss(t, BATCH, &nats, &scored));
    return nats / (double)scored;
}

/* Richardson's combination of central differences with steps h and 2h: error O(h^4). */
static double slope(sti_trainer *t, double *w, double h)
{
    const double keep = *w;
    double d[2];
    for (int k = 0; k < 2; k++) {
        const double step = (k + 1) * h;
        *w = keep + step;
        const double up = mean_loss(t);
        *w = keep - step;
        d[k] = (up - mean_loss(t)) / (2 * step);
    }
    *w = keep;
    return (4 * d[0] - d[1]) / 3;
}

static void check_spec(const strata_context *ctx, const char *spec)
{
    sti_trainer *t = NULL;
    const sti_model_size size = { .dtype = STRATA_F64, .batch = BATCH };
    const bool numbers = strstr(spec, "inputs=") != NULL;
    CHECK_OK(sti_trainer_create(ctx, spec, numbers ? 0 : VOCAB, &size, true, &t));
    const sti_graph *g = t->plan->graph;
    sti_params_init(&g->params, t->params, STRATA_F64, 5, 1);
    const int64_t n = BATCH * g->time, out = numbers ? t->plan->outputs : 1;
    for (int64_t i = 0; i < n * t->plan->inputs; i++) ((double *)t->x)[i] = sti_normal(1, 2, (uint64_t)i);
    for (int64_t i = 0; i < n * t->plan->outputs; i++)
        ((double *)t->y)[i] = i % 5 == 3 ? (double)NAN : sti_normal(1, 3, (uint64_t)i);
    for (int64_t i = 0; i < n && !numbers; i++) {
        t->tokens[i] = (int32_t)sti_below(1, 2, (uint64_t)i, VOCAB);
        t->targets[i] = i % 5 == 3 ? -1 : (int32_t)sti_below(1, 3, (uint64_t)i, VOCAB);
    }
    CHECK_OK(sti_trainer_grad(t));
    CHECK(t->sums->scored > 0 && t->sums->scored < (double)(n * out));
    for (int32_t i = 0; i < g->params.count; i++) {
        const sti_param *p = &g->params.p[i];
        const double *grad = (const double *)t->grads + p->offset;
        double *w = (double *)t->params + p->offset, norm = 0;
        for (int64_t k = 0; k < p->count; k++) norm += grad[k] * grad[k];
        norm = sqrt(norm);
        /* a softmax does not see what all keys share: the bias of standard keys has gradient 0 */
        if (!(norm > 1e-8) && !strstr(p->name, "mixer.k.bias")) FAIL("%s: the gradient of %s is zero", spec, p->name);
        for (int64_t probe = 0; probe < 6; probe++) {
            const int64_t k = (int64_t)sti_below(9, (uint64_t)i, (uint64_t)probe, (uint64_t)p->count);
            const double want = slope(t, &w[k], 1e-3 * p->scale);
            /* the loss (about 2) rounds with 2e-15, divided by the step; truncation is of order h^4 */
            const double tol = 1e-11 / (1e-3 * p->scale) + 1e-6 * norm;
            if (!(fabs(grad[k] - want) <= tol))
                FAIL("%s: %s[%lld] has gradient %.12g, differences say %.12g (+- %g)", spec, p->name, (long long)k,
                     grad[k], want, tol);
            if (norm > 1e-8 && fabs(want) > 1e-2 * norm && !(fabs(1.001 * grad[k] - want) > tol))
                FAIL("%s: %s: an error of one in a thousand would go unseen", spec, p->name);
        }
    }
    sti_trainer_destroy(t);
}

static void examples(void)
{
    strata_context *ctx = NULL;
    CHECK_OK(strata_context_create("threads=1", NULL, &ctx));
    for (int32_t i = 0; i < sti_model_class_count(); i++)
        for (const char *const *e = sti_model_class_at(i)->examples; *e; e++) check_spec(ctx, *e);
    strata_context_destroy(ctx);
}

static void structured(void)
{
    static const char *const specs[] = {
        "decoder layers=1 width=12 context=7 mixers=softmax(heads=2 score=mlr levels=2 gain=count qk_norm=1) "
        "linear=btt(rank=2) tied=1",
        "decoder layers=2 width=8 context=6 mixers=softmax(heads=2 score=window window=2)|softmax(heads=4 kv_heads=2) "
        "mlp=swiglu pos=none bias=1",
        "decoder layers=1 width=12 context=5 mixers=softmax(heads=2) inputs=6 outputs=1 read_in=lowrank(rank=2) bias=1",
    };
    strata_context *ctx = NULL;
    CHECK_OK(strata_context_create("threads=1", NULL, &ctx));
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) check_spec(ctx, specs[i]);
    strata_context_destroy(ctx);
}

TESTS(T(examples), T(structured))
