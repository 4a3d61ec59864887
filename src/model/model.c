/* Model classes, planned models, and what a spec costs. */

#include "model/model.h"

#include <stdio.h>
#include <string.h>

#include "core/device.h"
#include "layer/layer.h"
#include "mixer/mixer.h"
#include "operator/operator.h"

#define X(name) extern const sti_model_class sti_model_class_##name;
#include "registry/model.def"
#undef X

static const sti_model_class *const classes[] = {
#define X(name) &sti_model_class_##name,
#include "registry/model.def"
#undef X
};

int32_t sti_model_class_count(void)
{
    return (int32_t)STI_COUNT(classes);
}

const sti_model_class *sti_model_class_at(int32_t i)
{
    return i >= 0 && i < sti_model_class_count() ? classes[i] : NULL;
}

const sti_model_class *sti_model_class_find(const char *kind)
{
    for (size_t i = 0; i < STI_COUNT(classes); i++)
        if (strcmp(classes[i]->kind, kind) == 0) return classes[i];
    return NULL;
}

static strata_status unknown_kind(const char *kind)
{
    const char *names[STI_COUNT(classes)];
    for (size_t i = 0; i < STI_COUNT(classes); i++) names[i] = classes[i]->kind;
    const char *near = sti_nearest(kind, names, (int32_t)STI_COUNT(classes));
    if (near) return sti_fail(STRATA_E_SPEC, "no model is called \"%s\"; did you mean \"%s\"?", kind, near);
    return sti_fail(STRATA_E_SPEC, "no model is called \"%s\"; there is \"%s\"", kind, names[0]);
}

void sti_model_plan_destroy(sti_model_plan *p)
{
    if (!p) return;
    sti_graph_destroy(p->graph);
    sti_heap_free(p->spec);
    sti_heap_free(p);
}

static bool has_key(const sti_values *v, const char *name)
{
    for (int32_t i = 0; i < v->count; i++)
        if (strcmp(v->v[i].key->name, name) == 0) return true;
    return false;
}

static strata_status set_int(sti_values *v, const char *name, int64_t i)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%lld", (long long)i);
    return sti_values_set(v, name, text);
}

/* Fill in how many numbers the task gives or wants; 0: the spec decides. */
static strata_status settle(sti_values *v, const char *name, int64_t wanted, int64_t *out)
{
    const int64_t said = sti_value_of(v, name)->empty ? 0 : sti_value_int(v, name);
    if (wanted && said && said != wanted)
        return sti_fail(STRATA_E_SPEC, "%s: %s=%lld, but the task has %lld numbers a position", v->kind, name,
                        (long long)said, (long long)wanted);
    if (wanted && !said) STI_TRY(set_int(v, name, wanted));
    *out = wanted ? wanted : said;
    return STRATA_OK;
}

/* Does the model read tokens or numbers, and do spec and task agree on it? */
static strata_status settle_ports(sti_model_plan *p, const sti_model_size *size, sti_values *v)
{
    if (has_key(v, "inputs")) {
        STI_TRY(settle(v, "inputs", size->inputs, &p->inputs));
        STI_TRY(settle(v, "outputs", size->outputs, &p->outputs));
    } else if (size->inputs) {
        return sti_fail(STRATA_E_SPEC, "%s reads tokens, but the task has numbers", v->kind);
    }
    if (!p->inputs != !p->outputs)
        return sti_fail(STRATA_E_SPEC, "%s: inputs=%lld and outputs=%lld: a model of numbers has both", v->kind,
                        (long long)p->inputs, (long long)p->outputs);
    if (p->inputs && p->vocab)
        return sti_fail(STRATA_E_SPEC, "%s: inputs=%lld numbers a position, but there are tokens of a vocabulary",
                        v->kind, (long long)p->inputs);
    if (!p->inputs && (p->vocab < 1 || p->vocab > INT32_MAX))
        return sti_fail(STRATA_E_INVALID, "vocabulary %lld", (long long)p->vocab);
    return STRATA_OK;
}

int64_t sti_model_vocab(const sti_spec *s)
{
    for (int32_t i = 0; i < s->npair; i++)
        if (strcmp(s->pair[i].key, "inputs") == 0) return 0;
    return 96;
}

/* bf16 on the CPU: f32 arrays, and products whose operands are rounded. */
static strata_status make_graph(const strata_context *ctx, const sti_model_size *size, int64_t time, sti_model_plan *p)
{
    const int64_t batch = size->batch ? size->batch : 1, chunk = size->train || !size->chunk ? time : size->chunk;
    const double base_width = size->base_width > 0 ? size->base_width : 768;
    const int32_t dtype = size->dtype ? size->dtype : STRATA_F32;
    if (dtype != STRATA_BF16 || sti_on_device(ctx))
        return sti_graph_create(ctx, dtype, batch, time, chunk, size->train, base_width, &p->graph);
    strata_context *rounding = NULL;
    STI_TRY(sti_context_with_math(ctx, STI_MATH_BF16, &rounding));
    strata_status st = sti_graph_create(rounding, STRATA_F32, batch, time, chunk, size->train, base_width, &p->graph);
    strata_context_destroy(rounding);
    return st;
}

static strata_status plan_fill(const strata_context *ctx, const sti_model_size *size, sti_values *v, sti_model_plan *p)
{
    STI_TRY(settle_ports(p, size, v));
    if (size->context && !sti_value_given(v, "context")) STI_TRY(set_int(v, "context", size->context));
    p->context = sti_value_int(v, "context");
    STI_TRY(make_graph(ctx, size, size->time ? size->time : p->context, p));
    STI_TRY(p->cls->build(p, v));
    sti_graph_output(p->graph, size->train ? p->loss : p->logits);
    return sti_graph_finish(p->graph);
}

static strata_status plan_build(const strata_context *ctx, const sti_spec *s, const sti_model_size *size,
                                sti_model_plan *p)
{
    sti_values *v = NULL;
    strata_status st = sti_values_bind(s, s->kind, p->cls->keys, &v);
    if (st == STRATA_OK) st = plan_fill(ctx, size, v, p);
    if (st == STRATA_OK && !(p->spec = sti_values_text(v, false))) st = sti_fail(STRATA_E_MEMORY, "out of memory");
    sti_values_free(v);
    return st;
}

strata_status sti_model_plan_create(const strata_context *ctx, const char *spec, int64_t vocab,
                                    const sti_model_size *size, sti_model_plan **out)
{
    *out = NULL;
    sti_spec *s = NULL;
    STI_TRY(sti_spec_parse(spec, &s));
    const sti_model_class *cls = sti_model_class_find(s->kind);
    sti_model_plan *p = sti_heap(sizeof *p);
    strata_status st = cls ? sti_fail(STRATA_E_MEMORY, "out of memory") : unknown_kind(s->kind);
    if (p && cls) {
        *p = (sti_model_plan){ .cls = cls, .vocab = vocab, .tokens = -1, .targets = -1, .logits = -1, .loss = -1 };
        st = plan_build(ctx, s, size, p);
        if (st == STRATA_E_SHAPE) st = STRATA_E_SPEC; /* a model states its own sizes: nothing else disagrees */
    }
    sti_spec_free(s);
    if (st == STRATA_OK)
        *out = p;
    else
        sti_model_plan_destroy(p);
    return st;
}

strata_status sti_model_numbers(sti_model_plan *p)
{
    sti_graph *g = p->graph;
    if (!p->inputs) return sti_fail(STRATA_E_SPEC, "%s reads numbers: inputs= and outputs= say how many", p->cls->kind);
    p->tokens = sti_graph_input(g, p->inputs, g->dtype, 0);
    if (g->train) p->targets = sti_graph_input(g, p->outputs, sti_sum_type(g->dtype), 0);
    return g->status;
}

void sti_model_window_rates(sti_model_plan *p)
{
    sti_params *t = &p->graph->params;
    for (int32_t i = 0; i < t->count; i++)
        if (t->p[i].ndim > 1) t->p[i].lr_mult /= 32;
}

strata_status sti_model_squared_error(sti_model_plan *p)
{
    if (p->graph->train) p->loss = sti_graph_squared_error(p->graph, "loss", p->logits, p->targets);
    return p->graph->status;
}

strata_status sti_model_run_create(const sti_model_plan *p, sti_model_run *r)
{
    const sti_graph *g = p->graph;
    *r = (sti_model_run){ .plan = p };
    size_t states = g->train ? 0 : g->state_bytes * (size_t)g->batch;
    const size_t bytes[] = { g->act_bytes, g->train ? g->grad_bytes : 0, g->saved_bytes, g->work_bytes, states };
    for (size_t i = 0; i < STI_COUNT(bytes); i++) {
        strata_status st = sti_array_calloc(g->ctx, 1, STI_MAX(bytes[i], (size_t)STI_ALIGN), &r->block[i]);
        if (st != STRATA_OK) {
            sti_model_run_destroy(r);
            return st;
        }
    }
    r->exec = (sti_exec){ .act = r->block[0], .grad = r->block[1], .saved = r->block[2], .work = r->block[3] };
    if (!g->train) {
        r->exec.state = r->block[4];
        for (int64_t b = 0; b < g->batch; b++)
            sti_graph_state_init(g, (char *)r->block[4] + (size_t)b * g->state_bytes);
    }
    return STRATA_OK;
}

void sti_model_run_destroy(sti_model_run *r)
{
    if (!r || !r->plan) return;
    for (size_t i = 0; i < STI_COUNT(r->block); i++) sti_array_free(r->plan->graph->ctx, r->block[i]);
    *r = (sti_model_run){ 0 };
}

/* ---- cost --------------------------------------------------------------------------------------------------- */
static void graph_cost(const sti_graph *g, int64_t batch, int64_t length, strata_cost *c)
{
    sti_cost total = { 0 };
    double tokens = (double)batch * (double)length;
    sti_graph_cost(g, batch, length, &total);
    c->params = sti_params_numel(&g->params);
    c->flops_fwd = total.flops_fwd / tokens;
    c->flops_bwd = total.flops_bwd / tokens;
    c->exps = total.exps / tokens;
    if (g->train) {
        c->activation_bytes = g->act_bytes + g->grad_bytes + g->saved_bytes + g->work_bytes;
    } else {
        c->cache_bytes = 0;
        for (int32_t i = 0; i < g->nstage; i++) c->cache_bytes += g->stage[i].state_token_bytes;
        c->cache_bytes_per_token = c->cache_bytes / (double)length;
        c->cache_alloc = g->state_bytes;
    }
}

void sti_model_cost(const sti_model_plan *p, int64_t batch, int64_t length, strata_cost *c)
{
    graph_cost(p->graph, batch, length, c);
}

static strata_status model_cost(const strata_context *ctx, const char *spec, int64_t vocab, int64_t batch,
                                int64_t length, strata_cost *c, char **text)
{
    for (int32_t train = 1; train >= 0; train--) {
        sti_model_plan *p = NULL;
        const sti_model_size size = { .train = train, .batch = batch, .time = length };
        STI_TRY(sti_model_plan_create(ctx, spec, vocab, &size, &p));
        sti_model_cost(p, batch, length ? length : p->context, c);
        if (!train && !(*text = sti_strdup(p->spec))) {
            sti_model_plan_destroy(p);
            return sti_fail(STRATA_E_MEMORY, "out of memory");
        }
        sti_model_plan_destroy(p);
    }
    return STRATA_OK;
}

static strata_status mixer_cost(const strata_context *ctx, const sti_spec *s, int64_t width, int64_t batch,
                                int64_t length, strata_cost *c, char **text)
{
    const sti_mixer_env env = { .width = width, .context = length, .pos = "none" };
    for (int32_t train = 1; train >= 0; train--) {
        sti_graph *g = NULL;
        STI_TRY(sti_graph_create(ctx, STRATA_F32, batch, length, length, train, 768, &g));
        int32_t x = sti_graph_input(g, width, STRATA_F32, train);
        x = sti_mixer_build(g, "mixer", s, &env, x, train ? NULL : text);
        if (g->status == STRATA_OK) sti_graph_output(g, x);
        strata_status st = sti_graph_finish(g);
        if (st == STRATA_OK) graph_cost(g, batch, length, c);
        sti_graph_destroy(g);
        STI_TRY(st);
    }
    return STRATA_OK;
}

static strata_status operator_cost(const strata_context *ctx, const sti_spec *s, int64_t count, strata_cost *c,
                                   char **text)
{
    sti_op_plan *p = NULL;
    STI_TRY(sti_op_plan_create(ctx, s, 0, 0, count, STRATA_F32, 768, &p));
    c->params = sti_params_numel(&p->params);
    c->flops_fwd = p->flops;
    c->flops_bwd = 2 * p->flops;
    c->activation_bytes = p->work;
    *text = sti_op_text(p, false, true);
    sti_op_plan_destroy(p);
    return *text ? STRATA_OK : sti_fail(STRATA_E_MEMORY, "out of memory");
}

strata_status strata_cost_of(const strata_context *ctx, const char *spec, int64_t vocab, int64_t width, int64_t batch,
                             int64_t length, strata_cost *cost, char **canonical)
{
    if (canonical) *canonical = NULL;
    if (cost && cost->size < sizeof cost->size)
        return sti_fail(STRATA_E_INVALID, "cost: size is not set; use STRATA_INIT");
    if (!ctx || !spec || !cost || vocab < 0 || width < 0 || batch < 0 || length < 0)
        return sti_fail(STRATA_E_INVALID, "cost: a NULL or negative argument");
    strata_cost c = { .size = cost->size };
    char *text = NULL;
    sti_spec *s = NULL;
    STI_TRY(sti_spec_parse(spec, &s));
    batch = batch ? batch : 1;
    strata_status st;
    if (sti_mixer_class_find(s->kind))
        st = mixer_cost(ctx, s, width ? width : 256, batch, length ? length : 1024, &c, &text);
    else if (sti_op_class_find(s->kind))
        st = operator_cost(ctx, s, batch * (length ? length : 1024), &c, &text);
    else
        st = model_cost(ctx, spec, vocab ? vocab : sti_model_vocab(s), batch, length, &c, &text);
    sti_spec_free(s);
    if (st != STRATA_OK) {
        sti_heap_free(text);
        return st;
    }
    memcpy(cost, &c, STI_MIN(cost->size, sizeof c));
    if (canonical)
        *canonical = text;
    else
        sti_heap_free(text);
    return STRATA_OK;
}

void strata_free_text(char *text)
{
    sti_heap_free(text);
}
