/* One training step. */

#include "train/trainer.h"

#include <math.h>
#include <string.h>

static strata_status allocate(sti_trainer *t, bool learn)
{
    const sti_graph *g = t->plan->graph;
    const int64_t n = g->params.elements, rows = g->batch * g->time;
    const size_t item = strata_dtype_size(g->dtype);
    void *tokens = NULL, *targets = NULL;
    STI_TRY(sti_calloc(t->ctx, n, item, &t->params));
    if (learn) {
        STI_TRY(sti_calloc(t->ctx, n, item, &t->grads));
        STI_TRY(sti_calloc(t->ctx, n, item, &t->m));
        STI_TRY(sti_calloc(t->ctx, n, item, &t->v));
        STI_TRY(sti_optim_create(t->ctx, &g->params, g->dtype, &t->optim));
    }
    if (t->plan->inputs) {
        STI_TRY(sti_calloc(t->ctx, rows * t->plan->inputs, item, &t->x));
        STI_TRY(sti_calloc(t->ctx, rows * t->plan->outputs, item, &t->y));
        return sti_model_run_create(t->plan, &t->run);
    }
    STI_TRY(sti_calloc(t->ctx, rows, sizeof *t->tokens, &tokens));
    t->tokens = tokens;
    STI_TRY(sti_calloc(t->ctx, rows, sizeof *t->targets, &targets));
    t->targets = targets;
    return sti_model_run_create(t->plan, &t->run);
}

strata_status sti_trainer_create(const strata_context *ctx, const char *spec, int64_t vocab, const sti_model_size *size,
                                 bool learn, sti_trainer **out)
{
    *out = NULL;
    sti_trainer *t = sti_heap(sizeof *t);
    if (!t) return sti_fail(STRATA_E_MEMORY, "out of memory");
    sti_model_size s = *size;
    s.train = 1;
    t->ctx = sti_context_ref(ctx);
    strata_status st = sti_model_plan_create(ctx, spec, vocab, &s, &t->plan);
    if (st == STRATA_OK) st = allocate(t, learn);
    if (st != STRATA_OK) {
        sti_trainer_destroy(t);
        return st;
    }
    strata_cost c = { .size = STRATA_INIT(strata_cost) };
    sti_model_cost(t->plan, 1, t->plan->graph->time, &c);
    t->flops_token = c.flops_fwd + c.flops_bwd;
    t->rule = (sti_adamw){ .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-20 };
    *out = t;
    return STRATA_OK;
}

void sti_trainer_destroy(sti_trainer *t)
{
    if (!t) return;
    sti_model_run_destroy(&t->run);
    sti_optim_destroy(t->optim);
    strata_free(t->ctx, t->params);
    strata_free(t->ctx, t->grads);
    strata_free(t->ctx, t->m);
    strata_free(t->ctx, t->v);
    strata_free(t->ctx, t->tokens);
    strata_free(t->ctx, t->targets);
    strata_free(t->ctx, t->x);
    strata_free(t->ctx, t->y);
    sti_model_plan_destroy(t->plan);
    strata_context_destroy(t->ctx);
    sti_heap_free(t);
}

void sti_trainer_init(sti_trainer *t, uint64_t seed)
{
    sti_params_init(&t->plan->graph->params, t->params, t->plan->graph->dtype, seed, 0);
}

strata_status sti_trainer_loss(sti_trainer *t, int64_t batch, double *total, int64_t *scored)
{
    const sti_graph *g = t->plan->graph;
    sti_exec *e = &t->run.exec;
    e->params = t->params;
    e->dparams = t->grads;
    e->batch = batch;
    e->time = g->time;
    e->ext[0] = t->plan->inputs ? t->x : (void *)t->tokens;
    e->ext[1] = t->plan->inputs ? t->y : (void *)t->targets;
    STI_TRY(sti_graph_forward(g, e));

    const void *loss = sti_graph_data(g, e, t->plan->loss); /* (batch, time, 2): loss, scored */
    double sum = 0, count = 0;
    for (int64_t i = 0; i < batch * g->time; i++) {
        double counted =
            g->dtype == STRATA_F64 ? ((const double *)loss)[2 * i + 1] : (double)((const float *)loss)[2 * i + 1];
        if (counted == 0) continue;
        count += counted;
        sum += g->dtype == STRATA_F64 ? ((const double *)loss)[2 * i] : (double)((const float *)loss)[2 * i];
    }
    *total = sum;
    *scored = (int64_t)count;
    return STRATA_OK;
}

const void *sti_trainer_outputs(const sti_trainer *t)
{
    return sti_graph_data(t->plan->graph, &t->run.exec, t->plan->logits); /* kept: backward of the loss reads it */
}

strata_status sti_trainer_grad(sti_trainer *t, double *loss, int64_t *scored)
{
    STI_TRY(sti_trainer_loss(t, t->plan->graph->batch, loss, scored));
    return sti_graph_backward(t->plan->graph, &t->run.exec);
}

strata_status sti_trainer_update(sti_trainer *t, int64_t step, int64_t accum, double lr, double *norm)
{
    const sti_graph *g = t->plan->graph;
    double scale = 1 / (double)accum, n = scale * sti_optim_norm(t->optim, t->grads);
    *norm = n;
    if (!isfinite(n)) return sti_fail(STRATA_E_NUMERIC, "the gradient norm is %g", n);
    if (t->clip > 0 && n > t->clip) scale *= t->clip / n;
    sti_optim_step(t->optim, &t->rule, lr, step, scale, t->grads, t->params, t->m, t->v);
    memset(t->grads, 0, (size_t)g->params.elements * strata_dtype_size(g->dtype));
    return STRATA_OK;
}
