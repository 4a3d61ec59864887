/* Training on a GPU beside training on the CPU in f64: same start, same batches, the losses and gradient norms of every
 * step. Covers every model example, every scoring and every structured layer. Skipped without a GPU. */
#include "core/philox.h"
#include "model/model.h"
#include "support/test.h"
#include "train/trainer.h"

enum { VOCAB = 13, BATCH = 3, STEPS = 8 };

static strata_context *context(const char *spec)
{
    strata_context *ctx = NULL;
    const strata_status s = strata_context_create(spec, NULL, &ctx);
    if (s == STRATA_E_DEVICE) SKIP("no GPU: %s", strata_last_error());
    CHECK_OK(s);
    return ctx;
}

static void fill(sti_trainer *t, int step)
{
    const int64_t n = BATCH * t->plan->graph->time;
    const uint64_t at = (uint64_t)step;
    if (t->plan->inputs) {
        for (int64_t i = 0; i < n * t->plan->inputs; i++) {
            const double x = (double)(float)sti_normal(1, at, (uint64_t)i);
            if (t->plan->graph->dtype == STRATA_F64)
                ((double *)t->x)[i] = x;
            else
                ((float *)t->x)[i] = (float)x;
        }
        for (int64_t i = 0; i < n * t->plan->outputs; i++) {
            const double y = i % 7 == 5 ? (double)NAN : (double)(float)sti_normal(2, at, (uint64_t)i);
            if (t->plan->graph->dtype == STRATA_F64)
                ((double *)t->y)[i] = y;
            else
                ((float *)t->y)[i] = (float)y;
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        t->tokens[i] = (int32_t)sti_below(1, at, (uint64_t)i, VOCAB);
        t->targets[i] = i % 5 == 3 ? -1 : (int32_t)sti_below(2, at, (uint64_t)i, VOCAB);
    }
}

static sti_trainer *make(const strata_context *ctx, const char *spec, int32_t dtype)
{
    sti_trainer *t = NULL;
    sti_spec *tree = NULL;
    const sti_model_size size = { .dtype = dtype, .batch = BATCH };
    CHECK_OK(sti_spec_parse(spec, &tree));
    const int64_t vocab = sti_model_vocab(tree) ? VOCAB : 0;
    sti_spec_free(tree);
    const strata_status s = sti_trainer_create(ctx, spec, vocab, &size, true, &t);
    if (s != STRATA_OK) FAIL("%s: %s", spec, strata_last_error());
    t->clip = 1;
    CHECK_OK(sti_trainer_init(t, 3));
    return t;
}

/* Largest relative difference of losses and norms over the steps; *first: of the first loss, before any update. */
static double compare(const strata_context *cpu, const strata_context *gpu, const char *spec, int32_t dtype, double lr,
                      double *first)
{
    sti_trainer *a = make(cpu, spec, STRATA_F64), *b = make(gpu, spec, dtype);
    const bool trains = a->plan->graph->params.count > 0; /* else: a naive forecast */
    double worst = 0;
    *first = 0;
    for (int step = 1; step <= STEPS; step++) {
        sti_step_sums want, got;
        for (int micro = 0; micro < 2; micro++) {
            fill(a, 2 * step + micro);
            fill(b, 2 * step + micro);
            CHECK_OK(sti_trainer_grad(a));
            CHECK_OK(sti_trainer_grad(b));
        }
        CHECK_OK(sti_trainer_update(a, step, lr));
        CHECK_OK(sti_trainer_update(b, step, lr));
        CHECK_OK(sti_trainer_read(a, &want));
        const strata_status s = sti_trainer_read(b, &got);
        if (s != STRATA_OK) FAIL("%s: step %d: %s", spec, step, strata_last_error());
        CHECK((want.norm > 1e-6) == trains && want.failed == 0);
        if (got.failed != 0 || got.steps != 1) FAIL("%s: step %d: loss %g, norm %g", spec, step, got.loss, got.norm);
        worst = fmax(worst, fabs(got.loss - want.loss) / want.loss);
        if (step == 1) *first = worst;
        if (!trains)
            CHECK(!(got.norm > 0));
        else if (dtype != STRATA_BF16)
            worst = fmax(worst, fabs(got.norm - want.norm) / want.norm);
    }
    sti_trainer_destroy(a);
    sti_trainer_destroy(b);
    return worst;
}

/* As in the golden training test: the longest sums of a pass round with eps sqrt(k), nearly cancelled gradients lose
 * two digits more, and the steps add up. Eight steps, sums of at most 64 x 48 numbers: 55 * 100 * 8 eps of f32. */
static const double bound = 55 * 100 * 8 * 0x1p-24;

static void check(const strata_context *cpu, const strata_context *gpu, const char *spec)
{
    double first;
    /* a rate at which f32 and f64 on the CPU stay together, too: factors of small fan-in multiply it by up to 200 */
    const double f32 = compare(cpu, gpu, spec, STRATA_F32, 3e-4, &first);
    if (!(f32 <= bound)) FAIL("%s: f32 differs by %g", spec, f32);
    /* bf16 keeps 8 bits. Tokens: logits of size 1, each after some tens of roundings of 2^-9, move a mean of about log
     * 13 by a fraction of a per cent. Numbers: outputs no larger than their targets, off by sqrt(30) 2^-9, move a mean
     * of squares by at most twice that. Small steps keep the two runs together afterwards. */
    const double bf16 = compare(cpu, gpu, spec, STRATA_BF16, 1e-4, &first);
    const bool numbers = strstr(spec, "inputs=");
    if (!(first <= (numbers ? 0.02 : 0.01) && bf16 <= (numbers ? 0.04 : 0.03)))
        FAIL("%s: bf16 differs by %g at first, %g later", spec, first, bf16);
}

static void examples(void)
{
    strata_context *gpu = context("device=cuda"), *cpu = context("device=cpu");
    for (int32_t i = 0; i < sti_model_class_count(); i++)
        for (const char *const *e = sti_model_class_at(i)->examples; *e; e++) check(cpu, gpu, *e);
    strata_context_destroy(gpu);
    strata_context_destroy(cpu);
}

static void scorings(void)
{
    static const char *const mixer[] = {
        "softmax(heads=2)",
        "softmax(heads=4 kv_heads=2 qk_norm=1)",
        "softmax(heads=2 score=window window=5)",
        "softmax(heads=2 score=gswa window=4)",
        "softmax(heads=2 score=gswa window=4 form=one)",
        "softmax(heads=2 score=mlr ranks=8,4,4 gain=count)",
        "softmax(heads=2 score=mlr levels=4 depth=distance)",
        "softmax(heads=2 score=mlr levels=2 vranks=12,4)",
        "softmax(heads=2 score=bilinear-mlr ranks=4,2)",
        "softmax(heads=2 score=bilinear-btt)",
        "softmax(heads=2 score=bilinear-btt side=query rank=2)",
        "softmax(heads=2 pos=alibi)",
        "softmax(heads=2 pos=rotary)",
    };
    strata_context *gpu = context("device=cuda"), *cpu = context("device=cpu");
    for (size_t i = 0; i < sizeof mixer / sizeof *mixer; i++) {
        char spec[256];
        (void)snprintf(spec, sizeof spec, "decoder layers=1 width=32 context=20 mixers=%s", mixer[i]);
        check(cpu, gpu, spec);
    }
    strata_context_destroy(gpu);
    strata_context_destroy(cpu);
}

static void layers(void)
{
    static const char *const keys[] = {
        "linear=lowrank(rank=4)",
        "linear=kronecker",
        "linear=monarch",
        "linear=blockdiag(blocks=2)",
        "linear=btt(rank=2)",
        "linear=btt(cap=1)",
        "linear=mlr(ranks=4,2 parts=1,2)",
        "linear=sum(terms=btt,lowrank(rank=2))",
        "linear=product(terms=dense,lowrank(rank=4) inner=16)",
        "linear=scaled(by=0.5 of=dense)",
        "mlp=swiglu norm=rmsnorm tied=1 pos=none bias=1",
    };
    strata_context *gpu = context("device=cuda"), *cpu = context("device=cpu");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char spec[256];
        (void)snprintf(spec, sizeof spec, "decoder layers=1 width=32 context=20 mixers=softmax(heads=2) %s", keys[i]);
        check(cpu, gpu, spec);
    }
    strata_context_destroy(gpu);
    strata_context_destroy(cpu);
}

/* What the measures of a task are made of: outputs that reach the host, and a loss that is exactly theirs beside
 * targets that nothing has rounded. */
static void outputs(void)
{
    static const char *const spec[] = {
        "decoder layers=1 width=32 context=20 mixers=softmax(heads=2) inputs=5 outputs=3",
        "dlinear inputs=24 outputs=7 kernel=5", "seasonal-naive inputs=24 outputs=30 period=7"
    };
    strata_context *gpu = context("device=cuda"), *cpu = context("device=cpu");
    for (size_t i = 0; i < 2 * sizeof spec / sizeof *spec; i++) {
        const int32_t dtype = i % 2 ? STRATA_BF16 : STRATA_F32;
        sti_trainer *a = make(cpu, spec[i / 2], STRATA_F32), *b = make(gpu, spec[i / 2], dtype);
        const void *want, *got;
        double loss, theirs = 0, rounded = 0, off = 0, size = 0;
        int64_t scored;
        sti_params_init(&a->plan->graph->params, a->params, STRATA_F32, 5, 1);
        sti_trainer_copy copy;
        CHECK_OK(sti_trainer_fetch(a, &copy));
        copy.m = copy.v = NULL;
        CHECK_OK(sti_trainer_put(b, &copy));
        fill(a, 1);
        fill(b, 1);
        CHECK_OK(sti_trainer_loss(a, BATCH, &loss, &scored));
        CHECK_OK(sti_trainer_outputs(a, &want));
        CHECK_OK(sti_trainer_loss(b, BATCH, &loss, &scored));
        CHECK_OK(sti_trainer_outputs(b, &got));
        const int64_t n = BATCH * b->plan->graph->time * b->plan->outputs;
        for (int64_t k = 0; k < n; k++) {
            const double y = (double)((const float *)got)[k], x = (double)((const float *)want)[k];
            const float t = ((const float *)b->y)[k];
            off += (y - x) * (y - x);
            size += x * x;
            if (isnan(t)) continue;
            uint32_t bits;
            memcpy(&bits, &t, sizeof bits);
            bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
            float less;
            memcpy(&less, &bits, sizeof less);
            theirs += (y - (double)t) * (y - (double)t);
            rounded += (y - (double)less) * (y - (double)less);
        }
        CHECK(size > 0);
        off = sqrt(off / size);
        /* some tens of roundings: of 2^-24 over sums of tens of numbers, or of 2^-9 */
        if (!(off <= (i % 2 ? 8 * 0x1p-9 : 64 * 0x1p-24))) FAIL("%s: outputs are off by %g", spec[i / 2], off);
        const double exact = 0x1p-23 * theirs; /* rows are rounded to f32, their sum is f64 */
        if (!(fabs(loss - theirs) <= exact)) FAIL("%s: loss %.9g, not %.9g", spec[i / 2], loss, theirs);
        if (!(fabs(loss - rounded) > exact)) FAIL("%s: rounded targets would not be seen", spec[i / 2]);
        sti_trainer_destroy(a);
        sti_trainer_destroy(b);
    }
    strata_context_destroy(gpu);
    strata_context_destroy(cpu);
}

/* The same steps twice give the same bits, although one of the two replays recordings from its second step on. */
static void repeats(void)
{
    strata_context *gpu = context("device=cuda");
    const char *spec = "decoder layers=2 width=64 context=48 mixers=softmax(heads=2 score=mlr levels=4 gain=count)";
    for (int32_t dtype = STRATA_F32; dtype <= STRATA_BF16; dtype += STRATA_BF16 - STRATA_F32) {
        sti_trainer *t[2] = { make(gpu, spec, dtype), make(gpu, spec, dtype) };
        sti_trainer_copy copy[2];
        t[1]->micro_calls = t[1]->finish_calls = -1; /* launches only */
        for (int i = 0; i < 2; i++) {
            for (int step = 1; step <= 4; step++) {
                fill(t[i], step);
                CHECK_OK(sti_trainer_grad(t[i]));
                CHECK_OK(sti_trainer_update(t[i], step, 1e-2));
            }
            CHECK_OK(sti_trainer_fetch(t[i], &copy[i]));
        }
        CHECK(t[0]->micro && t[0]->finish && !t[1]->micro);
        const size_t bytes = (size_t)t[0]->plan->graph->params.elements * sizeof(float);
        CHECK(memcmp(copy[0].params, copy[1].params, bytes) == 0);
        CHECK(memcmp(copy[0].v, copy[1].v, bytes) == 0);
        for (int i = 0; i < 2; i++) {
            sti_trainer_drop(t[i], &copy[i]);
            sti_trainer_destroy(t[i]);
        }
    }
    strata_context_destroy(gpu);
}

/* A loss that is not finite stops the updates at its step; what was before stays. */
static void failure(void)
{
    strata_context *gpu = context("device=cuda");
    sti_trainer *t = make(gpu, "decoder layers=1 width=32 context=20 mixers=softmax(heads=2)", STRATA_F32);
    sti_trainer_copy before, after;
    sti_step_sums sums;
    fill(t, 1);
    CHECK_OK(sti_trainer_grad(t));
    CHECK_OK(sti_trainer_update(t, 1, 1e-3));
    CHECK_OK(sti_trainer_fetch(t, &before));
    const float kept = before.params[0];
    before.params[0] = NAN; /* of the embedding */
    CHECK_OK(sti_trainer_put(t, &before));
    for (int64_t i = 0; i < BATCH * t->plan->graph->time; i++) t->tokens[i] = 0;
    for (int step = 2; step <= 3; step++) {
        CHECK_OK(sti_trainer_grad(t));
        CHECK_OK(sti_trainer_update(t, step, 1e-3));
    }
    CHECK_OK(sti_trainer_read(t, &sums));
    CHECK(sums.failed == 2 && sums.steps == 1 && !isfinite(sums.loss));
    CHECK_OK(sti_trainer_fetch(t, &after));
    CHECK(isnan(after.params[0]) && isfinite(kept));
    for (int64_t i = 1; i < t->plan->graph->params.elements; i++)
        if (memcmp(&after.params[i], &before.params[i], sizeof(float)) != 0) FAIL("element %lld moved", (long long)i);
    sti_trainer_drop(t, &before);
    sti_trainer_drop(t, &after);
    sti_trainer_destroy(t);
    strata_context_destroy(gpu);
}

TESTS(T(examples), T(scorings), T(layers), T(outputs), T(repeats), T(failure))
