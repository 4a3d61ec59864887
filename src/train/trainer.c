/* One training step. */

#include "train/trainer.h"

#include <math.h>
#include <string.h>

#include "train/optim_cuda.h"

static int32_t sum_type(const sti_trainer *t)
{
    return sti_sum_type(t->plan->graph->dtype);
}

static size_t block_bytes(const sti_trainer *t)
{
    return (size_t)t->plan->graph->params.elements * strata_dtype_size(sum_type(t));
}

/* The host's array of a batch and its place on the device, which on the CPU is the same. */
static strata_status batch_array(const sti_trainer *t, int64_t count, size_t size, void **host, void **place)
{
    STI_TRY(sti_calloc(t->ctx, count, size, host));
    *place = *host;
    return sti_on_device(t->ctx) ? sti_array_calloc(t->ctx, count, size, place) : STRATA_OK;
}

static strata_status allocate(sti_trainer *t, bool learn)
{
    const sti_graph *g = t->plan->graph;
    const int64_t n = g->params.elements, rows = g->batch * g->time;
    const size_t item = strata_dtype_size(sum_type(t));
    void *tokens = NULL, *targets = NULL, *how = NULL, *sums = NULL;
    STI_TRY(sti_array_calloc(t->ctx, n, item, &t->params));
    if (g->dtype != sum_type(t)) STI_TRY(sti_array_calloc(t->ctx, n, strata_dtype_size(g->dtype), &t->compute));
    if (learn) {
        STI_TRY(sti_array_calloc(t->ctx, n, item, &t->grads));
        STI_TRY(sti_array_calloc(t->ctx, n, item, &t->m));
        STI_TRY(sti_array_calloc(t->ctx, n, item, &t->v));
        STI_TRY(sti_optim_create(t->ctx, &g->params, sum_type(t), &t->optim));
        STI_TRY(sti_array_calloc(t->ctx, 1, sizeof *t->how, &how));
        t->how = how;
    }
    STI_TRY(sti_array_calloc(t->ctx, 1, sizeof *t->sums, &sums));
    t->sums = sums;
    if (t->plan->inputs) {
        STI_TRY(batch_array(t, rows * t->plan->inputs, item, &t->x, &t->ext[0]));
        STI_TRY(batch_array(t, rows * t->plan->outputs, item, &t->y, &t->ext[1]));
        if (!t->compute) return sti_model_run_create(t->plan, &t->run);
        t->upload = t->ext[0]; /* stages read the inputs rounded; targets are never */
        t->ext[0] = NULL;
        STI_TRY(sti_array_calloc(t->ctx, rows * t->plan->inputs, strata_dtype_size(g->dtype), &t->ext[0]));
        return sti_model_run_create(t->plan, &t->run);
    }
    strata_status st = batch_array(t, rows, sizeof *t->tokens, &tokens, &t->ext[0]);
    t->tokens = tokens;
    if (st == STRATA_OK) st = batch_array(t, rows, sizeof *t->targets, &targets, &t->ext[1]);
    t->targets = targets;
    return st == STRATA_OK ? sti_model_run_create(t->plan, &t->run) : st;
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
    if (s.dtype == STRATA_BF16 && !sti_on_device(ctx) && !sti_rounds(t->plan->graph->ctx))
        sti_log(ctx, STRATA_LOG_WARN, "bf16: this processor has no instructions for it; products stay f32");
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
    void *const arrays[] = { t->params, t->compute, t->grads, t->m, t->v, t->how, t->sums, t->upload, t->given };
    sti_recording_free(t->ctx, t->micro);
    sti_recording_free(t->ctx, t->finish);
    sti_model_run_destroy(&t->run);
    sti_optim_destroy(t->optim);
    for (size_t i = 0; i < STI_COUNT(arrays); i++) sti_array_free(t->ctx, arrays[i]);
    if (sti_on_device(t->ctx))
        for (size_t i = 0; i < STI_COUNT(t->ext); i++) sti_array_free(t->ctx, t->ext[i]);
    strata_free(t->ctx, t->tokens);
    strata_free(t->ctx, t->targets);
    strata_free(t->ctx, t->outputs);
    strata_free(t->ctx, t->x);
    strata_free(t->ctx, t->y);
    sti_model_plan_destroy(t->plan);
    strata_context_destroy(t->ctx);
    sti_heap_free(t);
}

/* ---- parameters between host and device --------------------------------------------------------------------- */

static void refresh(sti_trainer *t)
{
    const sti_graph *g = t->plan->graph;
    if (t->compute) sti_array_convert(t->ctx, t->compute, g->dtype, t->params, sum_type(t), g->params.elements);
}

strata_status sti_trainer_init(sti_trainer *t, uint64_t seed)
{
    const sti_params *table = &t->plan->graph->params;
    void *host = t->params;
    if (sti_on_device(t->ctx)) STI_TRY(sti_calloc(t->ctx, (int64_t)block_bytes(t), 1, &host));
    sti_params_init(table, host, sum_type(t), seed, 0);
    strata_status st = STRATA_OK;
    if (host != t->params) {
        st = sti_to_device(t->ctx, t->params, host, block_bytes(t));
        if (st == STRATA_OK) st = sti_device_wait(t->ctx);
        strata_free(t->ctx, host);
    }
    refresh(t);
    return st;
}

strata_status sti_trainer_fetch(const sti_trainer *t, sti_trainer_copy *c)
{
    *c = (sti_trainer_copy){ t->params, t->m, t->v };
    if (!sti_on_device(t->ctx)) return STRATA_OK;
    const void *const from[] = { t->params, t->m, t->v };
    float **const to[] = { &c->params, &c->m, &c->v };
    *c = (sti_trainer_copy){ NULL, NULL, NULL };
    for (size_t i = 0; i < STI_COUNT(from); i++) {
        void *p = NULL;
        if (!from[i]) continue;
        strata_status st = sti_calloc(t->ctx, (int64_t)block_bytes(t), 1, &p);
        *to[i] = p;
        if (st == STRATA_OK) st = sti_to_host(t->ctx, p, from[i], block_bytes(t));
        if (st != STRATA_OK) {
            sti_trainer_drop(t, c);
            return st;
        }
    }
    return STRATA_OK;
}

void sti_trainer_drop(const sti_trainer *t, sti_trainer_copy *c)
{
    if (sti_on_device(t->ctx)) {
        strata_free(t->ctx, c->params);
        strata_free(t->ctx, c->m);
        strata_free(t->ctx, c->v);
    }
    *c = (sti_trainer_copy){ NULL, NULL, NULL };
}

strata_status sti_trainer_put(sti_trainer *t, const sti_trainer_copy *c)
{
    const void *const from[] = { c->params, c->m, c->v };
    void *const to[] = { t->params, t->m, t->v };
    for (size_t i = 0; i < STI_COUNT(from); i++)
        if (from[i] && from[i] != to[i]) STI_TRY(sti_to_device(t->ctx, to[i], from[i], block_bytes(t)));
    refresh(t);
    return sti_device_wait(t->ctx);
}

/* ---- steps --------------------------------------------------------------------------------------------------- */

/* sums->total and ->scored += the (batch, time, 2) losses of a forward pass. */
static void add_losses(sti_trainer *t, int64_t batch)
{
    const sti_graph *g = t->plan->graph;
    const void *loss = sti_graph_data(g, &t->run.exec, t->plan->loss);
    const int64_t rows = batch * g->time;
#if STRATA_HAVE_CUDA
    if (sti_on_device(t->ctx)) {
        sti_step_loss_cuda(t->ctx, sum_type(t), rows, loss, t->sums);
        return;
    }
#endif
    double sum = 0, count = 0;
    for (int64_t i = 0; i < rows; i++) {
        const double counted =
            g->dtype == STRATA_F64 ? ((const double *)loss)[2 * i + 1] : (double)((const float *)loss)[2 * i + 1];
        if (counted == 0) continue;
        count += counted;
        sum += g->dtype == STRATA_F64 ? ((const double *)loss)[2 * i] : (double)((const float *)loss)[2 * i];
    }
    t->sums->total += sum;
    t->sums->scored += count;
}

/* Tokens and targets are checked on the host: device kernels cannot refuse them. */
static strata_status check_ids(const sti_trainer *t, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++)
        if (t->tokens[i] < 0 || t->tokens[i] >= t->plan->vocab || t->targets[i] < -1 || t->targets[i] >= t->plan->vocab)
            return sti_fail(STRATA_E_INVALID, "token %d or target %d at %lld is outside the vocabulary of %lld",
                            (int)t->tokens[i], (int)t->targets[i], (long long)i, (long long)t->plan->vocab);
    return STRATA_OK;
}

static strata_status bind_numbers(sti_trainer *t, int64_t rows)
{
    const size_t item = strata_dtype_size(sum_type(t));
    const int64_t inputs = rows * t->plan->inputs, outputs = rows * t->plan->outputs;
    STI_TRY(sti_to_device(t->ctx, t->upload ? t->upload : t->ext[0], t->x, (size_t)inputs * item));
    if (t->upload) sti_array_convert(t->ctx, t->ext[0], t->plan->graph->dtype, t->upload, sum_type(t), inputs);
    return sti_to_device(t->ctx, t->ext[1], t->y, (size_t)outputs * item);
}

static strata_status bind(sti_trainer *t, int64_t batch)
{
    const sti_graph *g = t->plan->graph;
    sti_exec *e = &t->run.exec;
    e->params = t->compute ? t->compute : t->params;
    e->master = t->compute ? t->params : NULL;
    e->dparams = t->grads;
    e->batch = batch;
    e->time = g->time;
    for (size_t i = 0; i < STI_COUNT(t->ext); i++) e->ext[i] = t->ext[i];
    if (!sti_on_device(t->ctx)) return STRATA_OK;
    const size_t rows = (size_t)(batch * g->time), bytes = rows * sizeof *t->tokens;
    if (t->plan->inputs) return bind_numbers(t, (int64_t)rows);
    STI_TRY(check_ids(t, batch * g->time));
    STI_TRY(sti_to_device(t->ctx, t->ext[0], t->tokens, bytes));
    return sti_to_device(t->ctx, t->ext[1], t->targets, bytes);
}

static strata_status read_sums(const sti_trainer *t, sti_step_sums *s)
{
    return sti_to_host(t->ctx, s, t->sums, sizeof *s);
}

strata_status sti_trainer_loss(sti_trainer *t, int64_t batch, double *loss, int64_t *scored)
{
    sti_step_sums before, after;
    STI_TRY(bind(t, batch));
    STI_TRY(read_sums(t, &before));
    STI_TRY(sti_graph_forward(t->plan->graph, &t->run.exec));
    sti_step_sums alone = before;
    alone.total = alone.scored = 0;
    STI_TRY(sti_to_device(t->ctx, t->sums, &alone, sizeof alone));
    add_losses(t, batch);
    STI_TRY(read_sums(t, &after));
    STI_TRY(sti_to_device(t->ctx, t->sums, &before, sizeof before));
    *loss = after.total;
    *scored = (int64_t)after.scored;
    return STRATA_OK;
}

/* Kept since the forward pass: backward of the loss reads them. */
strata_status sti_trainer_outputs(sti_trainer *t, const void **out)
{
    const sti_graph *g = t->plan->graph;
    const sti_exec *e = &t->run.exec;
    const void *data = sti_graph_data(g, e, t->plan->logits);
    const int64_t width = g->buffer[t->plan->logits].width, n = e->batch * e->time * width;
    const size_t item = strata_dtype_size(sum_type(t));
    *out = data;
    if (!sti_on_device(t->ctx)) return STRATA_OK;
    if (!t->outputs) STI_TRY(sti_calloc(t->ctx, g->batch * g->time * width, item, &t->outputs));
    *out = t->outputs;
    if (g->dtype != sum_type(t)) {
        if (!t->given) STI_TRY(sti_array_calloc(t->ctx, g->batch * g->time * width, item, &t->given));
        sti_array_convert(t->ctx, t->given, sum_type(t), data, g->dtype, n);
        data = t->given;
    }
    return sti_to_host(t->ctx, t->outputs, data, (size_t)n * item);
}

static strata_status micro(void *arg)
{
    sti_trainer *t = arg;
    STI_TRY(sti_graph_forward(t->plan->graph, &t->run.exec));
    add_losses(t, t->plan->graph->batch);
    return sti_graph_backward(t->plan->graph, &t->run.exec);
}

static strata_status finish(void *arg)
{
    sti_trainer *t = arg;
    sti_optim_close(t->optim, t->how, t->grads, t->sums);
    sti_optim_update(t->optim, t->how, t->sums, t->grads, t->params, t->m, t->v, t->compute);
    return STRATA_OK;
}

/* Run fn, on a device as a recording of it; the first call warms up the libraries behind it. Timed stages wait, which
 * a recording cannot. */
static strata_status run(sti_trainer *t, strata_status (*fn)(void *), sti_recording **r, int32_t *calls)
{
    if (t->run.exec.stage_seconds) return fn(t);
    if (*r) return sti_replay(t->ctx, *r);
    if (!sti_on_device(t->ctx) || *calls < 0 || (*calls)++ == 0) return fn(t);
    if (sti_record(t->ctx, fn, t, r) == STRATA_OK) return sti_replay(t->ctx, *r);
    sti_log(t->ctx, STRATA_LOG_WARN, "a step is not recorded but launched: %s", strata_last_error());
    *calls = -1;
    return fn(t);
}

strata_status sti_trainer_grad(sti_trainer *t)
{
    STI_TRY(bind(t, t->plan->graph->batch));
    STI_TRY(run(t, micro, &t->micro, &t->micro_calls));
    t->accum += 1;
    return STRATA_OK;
}

strata_status sti_trainer_update(sti_trainer *t, int64_t step, double lr)
{
    const sti_adamw *a = &t->rule;
    const sti_step_rule how = { .step = (double)step,
                                .lr = lr,
                                .accum = t->accum,
                                .clip = t->clip,
                                .beta1 = a->beta1,
                                .beta2 = a->beta2,
                                .eps = a->eps,
                                .weight_decay = a->weight_decay,
                                .m_hat = 1 / (1 - pow(a->beta1, (double)step)),
                                .v_hat = 1 / (1 - pow(a->beta2, (double)step)) };
    t->accum = 0;
    STI_TRY(sti_to_device(t->ctx, t->how, &how, sizeof how));
    return run(t, finish, &t->finish, &t->finish_calls);
}

strata_status sti_trainer_read(sti_trainer *t, sti_step_sums *out)
{
    STI_TRY(read_sums(t, out));
    sti_step_sums fresh = *out;
    fresh.loss_sum = fresh.steps = 0;
    return sti_to_device(t->ctx, t->sums, &fresh, sizeof fresh);
}
