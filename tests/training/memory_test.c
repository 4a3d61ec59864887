/* What training and generation need: no allocation in a step, memory that grows with the length and not its square, and
 * results that do not depend on the number of threads when asked so. */

#include "core/philox.h"
#include "model/session.h"
#include "train/trainer.h"
#include "training/training.h"

static int64_t allocations;

static void *counted(void *user, size_t bytes)
{
    (void)user;
    allocations++;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void uncounted(void *user, void *p)
{
    (void)user;
    free(p);
}

static strata_context *context(const char *spec)
{
    static const strata_allocator hooks = { counted, uncounted, NULL };
    strata_context *ctx = NULL;
    const strata_context_config cfg = { .size = STRATA_INIT(strata_context_config), .allocator = &hooks };
    CHECK_OK(strata_context_create(spec, &cfg, &ctx));
    return ctx;
}

static sti_trainer *trainer(const strata_context *ctx, const char *spec)
{
    sti_trainer *t = NULL;
    const sti_model_size size = { .batch = 4 };
    CHECK_OK(sti_trainer_create(ctx, spec, 96, &size, true, &t));
    sti_params_init(&t->plan->graph->params, t->params, STRATA_F32, 1, 1);
    for (int64_t i = 0; i < 4 * t->plan->graph->time; i++) {
        t->tokens[i] = (int32_t)sti_below(1, 1, (uint64_t)i, 96);
        t->targets[i] = (int32_t)sti_below(1, 2, (uint64_t)i, 96);
    }
    return t;
}

static void steps(sti_trainer *t, int64_t n, double *last)
{
    for (int64_t i = 1; i <= n; i++) {
        int64_t scored = 0;
        CHECK_OK(sti_trainer_grad(t));
        CHECK_OK(sti_trainer_update(t, i, 1e-3));
        CHECK_OK(sti_trainer_loss(t, 3, last, &scored));
    }
}

static void steps_do_not_allocate(void)
{
    strata_context *ctx = context("threads=2");
    sti_trainer *t = trainer(ctx, TINY);
    const int64_t before = allocations;
    double loss = 0;
    CHECK(before > 0);
    steps(t, 3, &loss);
    CHECK_INT(allocations, before);
    sti_trainer_destroy(t);
    strata_context_destroy(ctx);
}

static void threads_do_not_matter(void)
{
    strata_context *one = context("threads=1 deterministic=1"), *two = context("threads=2 deterministic=1");
    sti_trainer *a = trainer(one, TINY " pos=rotary"), *b = trainer(two, TINY " pos=rotary");
    double x = 0, y = 0;
    steps(a, 5, &x);
    steps(b, 5, &y);
    CHECK(memcmp(&x, &y, sizeof x) == 0);
    CHECK(memcmp(a->params, b->params, (size_t)a->plan->graph->params.elements * sizeof(float)) == 0);
    sti_trainer_destroy(a);
    sti_trainer_destroy(b);
    strata_context_destroy(one);
    strata_context_destroy(two);
}

static void memory_grows_with_the_length(void)
{
    strata_context *ctx = context("threads=1");
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        char spec[128];
        strata_cost c = { .size = STRATA_INIT(strata_cost) };
        snprintf(spec, sizeof spec, "decoder layers=6 width=256 context=%d mixers=softmax(heads=4 score=mlr levels=8)",
                 1024 << i);
        CHECK_OK(strata_cost_of(ctx, spec, 96, 0, 8, 0, &c, NULL));
        bytes[i] = c.activation_bytes + 4 * sizeof(float) * (size_t)c.params;
    }
    CHECK(bytes[0] < (size_t)4 << 30);
    CHECK((double)bytes[1] < 2.05 * (double)bytes[0]);
    strata_context_destroy(ctx);
}

TESTS(T(steps_do_not_allocate), T(threads_do_not_matter), T(memory_grows_with_the_length))
