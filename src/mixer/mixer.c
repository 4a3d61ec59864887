/* The registry of mixer classes, building one from a spec, and the public strata_mixer: a graph of one mixer. */
#include "mixer/mixer.h"

#include <string.h>

#include <strata/mixer.h>

#include "core/device.h"

#define X(name) extern const sti_mixer_class sti_mixer_class_##name;
#include "registry/mixer.def"
#undef X

static const sti_mixer_class *const classes[] = {
#define X(name) &sti_mixer_class_##name,
#include "registry/mixer.def"
#undef X
};

int32_t sti_mixer_class_count(void)
{
    return (int32_t)STI_COUNT(classes);
}

const sti_mixer_class *sti_mixer_class_at(int32_t i)
{
    return i >= 0 && i < sti_mixer_class_count() ? classes[i] : NULL;
}

const sti_mixer_class *sti_mixer_class_find(const char *kind)
{
    for (size_t i = 0; i < STI_COUNT(classes); i++)
        if (strcmp(classes[i]->kind, kind) == 0) return classes[i];
    return NULL;
}

static strata_status unknown(const char *kind)
{
    const char *names[STI_COUNT(classes)];
    for (size_t i = 0; i < STI_COUNT(classes); i++) names[i] = classes[i]->kind;
    const char *near = sti_nearest(kind, names, (int32_t)STI_COUNT(classes));
    return near ? sti_fail(STRATA_E_SPEC, "unknown mixer %s; did you mean %s?", kind, near)
                : sti_fail(STRATA_E_SPEC, "unknown mixer %s", kind);
}

int32_t sti_mixer_build(sti_graph *g, const char *name, const sti_spec *spec, const sti_mixer_env *env, int32_t in,
                        char **text)
{
    if (text) *text = NULL;
    if (g->status != STRATA_OK || in < 0) return -1;
    const sti_mixer_class *c = sti_mixer_class_find(spec->kind);
    sti_values *v = NULL;
    strata_status s = STRATA_OK;
    int32_t out = -1;
    if (!c)
        s = unknown(spec->kind);
    else if (env->width < 1 || g->buffer[in].width != env->width)
        s = sti_fail(STRATA_E_SHAPE, "%s: input width %lld, but the block's is %lld", c->kind,
                     (long long)g->buffer[in].width, (long long)env->width);
    else
        s = sti_values_bind(spec, c->kind, c->keys, &v);
    if (s == STRATA_OK && c->check) s = c->check(v);
    if (s == STRATA_OK) {
        out = c->build(g, name, v, env, in);
        if (out >= 0 && text && !(*text = sti_values_text(v, true)))
            s = sti_fail(STRATA_E_MEMORY, "%s: no memory", c->kind);
    }
    sti_values_free(v);
    if (s != STRATA_OK) {
        sti_graph_fail(g, s);
        return -1;
    }
    return out;
}

/* ---- public -------------------------------------------------------------------------------------------------------
 */

enum { BASE_WIDTH = 768 };

struct strata_mixer {
    sti_graph *g;
    char *spec;
    int32_t x, y; /* buffers */
    void *act, *grad, *saved, *work;
};

static strata_status allocate(const sti_graph *g, size_t bytes, void **out)
{
    return sti_array_calloc(g->ctx, (int64_t)STI_MAX(bytes, (size_t)STI_ALIGN), 1, out);
}

static strata_status build(strata_mixer *m, const char *text, const strata_mixer_problem *p)
{
    const sti_mixer_env env = { .width = p->width, .context = p->context, .pos = "none" };
    sti_spec *spec = NULL, *canonical = NULL;
    char *nested = NULL;
    sti_graph *g = m->g;
    strata_status s = sti_spec_parse(text, &spec);
    if (s != STRATA_OK) return s;
    m->x = sti_graph_input(g, p->width, g->dtype, 1);
    m->y = sti_mixer_build(g, "", spec, &env, m->x, &nested);
    sti_graph_output(g, m->y);
    s = sti_graph_finish(g);
    if (s == STRATA_OK) s = sti_spec_parse(nested, &canonical);
    if (s == STRATA_OK && !(m->spec = sti_spec_text(canonical, false)))
        s = sti_fail(STRATA_E_MEMORY, "mixer: no memory");
    if (s == STRATA_OK) s = allocate(g, g->act_bytes, &m->act);
    if (s == STRATA_OK) s = allocate(g, g->work_bytes, &m->work);
    if (s == STRATA_OK && g->train) s = allocate(g, g->grad_bytes, &m->grad);
    if (s == STRATA_OK && g->train) s = allocate(g, g->saved_bytes, &m->saved);
    sti_heap_free(nested);
    sti_spec_free(canonical);
    sti_spec_free(spec);
    return s;
}

strata_status strata_mixer_create(const strata_context *ctx, const char *spec, const strata_mixer_problem *problem,
                                  strata_mixer **out)
{
    if (!out) return sti_fail(STRATA_E_INVALID, "mixer: out is NULL");
    *out = NULL;
    if (!ctx || !spec || !problem) return sti_fail(STRATA_E_INVALID, "mixer: context, spec or problem is NULL");
    if (problem->size < offsetof(strata_mixer_problem, context))
        return sti_fail(STRATA_E_INVALID, "mixer: problem.size is %zu; set it with STRATA_INIT", problem->size);
    strata_mixer_problem p = { 0 };
    memcpy(&p, problem, STI_MIN(problem->size, sizeof p));
    if (p.batch < 1 || p.time < 1 || p.width < 1)
        return sti_fail(STRATA_E_SHAPE, "mixer: batch %lld, time %lld and width %lld must be positive",
                        (long long)p.batch, (long long)p.time, (long long)p.width);
    if (!p.dtype) p.dtype = STRATA_F32;
    if (p.dtype != STRATA_F32 && p.dtype != STRATA_F64)
        return sti_fail(STRATA_E_DTYPE, "mixer: computes in f32 or f64, not %s", strata_dtype_name(p.dtype));
    strata_mixer *m = sti_heap(sizeof *m);
    if (!m) return sti_fail(STRATA_E_MEMORY, "mixer: no memory");
    strata_status s = sti_graph_create(ctx, p.dtype, p.batch, p.time, p.time, p.train, BASE_WIDTH, &m->g);
    if (s == STRATA_OK) s = build(m, spec, &p);
    if (s != STRATA_OK) {
        strata_mixer_destroy(m);
        return s;
    }
    *out = m;
    return STRATA_OK;
}

void strata_mixer_destroy(strata_mixer *m)
{
    if (!m) return;
    if (m->g) {
        sti_array_free(m->g->ctx, m->act);
        sti_array_free(m->g->ctx, m->grad);
        sti_array_free(m->g->ctx, m->saved);
        sti_array_free(m->g->ctx, m->work);
    }
    sti_graph_destroy(m->g);
    sti_heap_free(m->spec);
    sti_heap_free(m);
}

static strata_status null_argument(void)
{
    return sti_fail(STRATA_E_INVALID, "mixer: a NULL argument");
}

int32_t strata_mixer_param_count(const strata_mixer *m)
{
    return m ? m->g->params.count : 0;
}

strata_status strata_mixer_param(const strata_mixer *m, int32_t i, strata_param_info *info)
{
    if (!m || !info) return null_argument();
    if (i < 0 || i >= m->g->params.count)
        return sti_fail(STRATA_E_INVALID, "mixer: parameter %d of %d", i, m->g->params.count);
    const sti_param *p = &m->g->params.p[i];
    *info = (strata_param_info){
        .name = p->name, .ndim = p->ndim, .offset = p->offset, .count = p->count, .lr_mult = p->lr_mult
    };
    memcpy(info->shape, p->shape, sizeof p->shape);
    return STRATA_OK;
}

size_t strata_mixer_param_bytes(const strata_mixer *m)
{
    return m ? (size_t)m->g->params.elements * strata_dtype_size(m->g->dtype) : 0;
}

const char *strata_mixer_spec(const strata_mixer *m)
{
    return m ? m->spec : NULL;
}

strata_status strata_mixer_init(const strata_mixer *m, uint64_t seed, void *params)
{
    if (!m || !params) return null_argument();
    sti_params_init(&m->g->params, params, m->g->dtype, seed, 0);
    return STRATA_OK;
}

double strata_mixer_flops(const strata_mixer *m, int64_t batch, int64_t time, int32_t backward)
{
    sti_cost c;
    if (!m || batch < 1 || time < 1) return 0;
    sti_graph_cost(m->g, batch, time, &c);
    return backward ? c.flops_bwd : c.flops_fwd;
}

/* (batch, time, width) of the mixer's width and type, dense. */
static strata_status check(const strata_mixer *m, const char *name, const strata_tensor *t)
{
    const int64_t width = m->g->buffer[m->x].width;
    if (!t || !t->data) return sti_fail(STRATA_E_INVALID, "mixer: %s is NULL", name);
    if (t->device != m->g->ctx->device)
        return sti_fail(STRATA_E_DEVICE, "mixer: %s is on the %s, but the plan computes on the %s", name,
                        t->device ? "GPU" : "CPU", m->g->ctx->device ? "GPU" : "CPU");
    if (t->dtype != m->g->dtype)
        return sti_fail(STRATA_E_DTYPE, "mixer: %s is %s, but the plan is for %s", name, strata_dtype_name(t->dtype),
                        strata_dtype_name(m->g->dtype));
    if (t->ndim != 3 || t->shape[2] != width)
        return sti_fail(STRATA_E_SHAPE, "mixer: %s has %d dimensions and width %lld; (batch, time, %lld) is wanted",
                        name, t->ndim, (long long)(t->ndim > 0 ? t->shape[t->ndim - 1] : 0), (long long)width);
    if (!strata_tensor_contiguous(t)) return sti_fail(STRATA_E_SHAPE, "mixer: %s is not contiguous", name);
    return STRATA_OK;
}

static strata_status check_same(const strata_mixer *m, const char *name, const strata_tensor *t, const strata_tensor *x)
{
    STI_TRY(check(m, name, t));
    if (t->shape[0] != x->shape[0] || t->shape[1] != x->shape[1])
        return sti_fail(STRATA_E_SHAPE, "mixer: %s is (%lld, %lld, …), but x is (%lld, %lld, …)", name,
                        (long long)t->shape[0], (long long)t->shape[1], (long long)x->shape[0], (long long)x->shape[1]);
    return STRATA_OK;
}

static sti_exec exec_of(const strata_mixer *m, const void *params, const strata_tensor *x)
{
    return (sti_exec){ .params = params,
                       .act = m->act,
                       .grad = m->grad,
                       .saved = m->saved,
                       .work = m->work,
                       .batch = x->shape[0],
                       .time = x->shape[1],
                       .ext = { x->data } };
}

static size_t bytes_of(const strata_tensor *t)
{
    return (size_t)strata_tensor_count(t) * strata_dtype_size(t->dtype);
}

static strata_status run(strata_mixer *m, const sti_exec *e, const strata_tensor *y)
{
    STI_TRY(sti_graph_forward(m->g, e));
    sti_array_copy(m->g->ctx, y->data, sti_graph_data(m->g, e, m->y), bytes_of(y));
    return STRATA_OK;
}

strata_status strata_mixer_forward(strata_mixer *m, const void *params, const strata_tensor *x, const strata_tensor *y)
{
    if (!m || !params) return null_argument();
    STI_TRY(check(m, "x", x));
    STI_TRY(check_same(m, "y", y, x));
    const sti_exec e = exec_of(m, params, x);
    return run(m, &e, y);
}

strata_status strata_mixer_backward(strata_mixer *m, const void *params, const strata_tensor *x,
                                    const strata_tensor *dy, void *dparams, const strata_tensor *dx)
{
    if (!m || !params) return null_argument();
    if (!m->g->train) return sti_fail(STRATA_E_INVALID, "mixer: planned with train=0, so there is no backward");
    STI_TRY(check(m, "x", x));
    STI_TRY(check_same(m, "dy", dy, x));
    if (dx) STI_TRY(check_same(m, "dx", dx, x));
    sti_exec e = exec_of(m, params, x);
    e.dparams = dparams;
    e.dext[0] = dx ? dx->data : NULL;
    sti_array_copy(m->g->ctx, sti_graph_grad(m->g, &e, m->y), dy->data, bytes_of(dy));
    return sti_graph_backward(m->g, &e);
}

size_t strata_mixer_state_bytes(const strata_mixer *m)
{
    return !m || m->g->train ? 0 : m->g->state_bytes;
}

strata_status strata_mixer_state_init(const strata_mixer *m, void *state)
{
    if (!m || !state) return null_argument();
    if (m->g->train) return sti_fail(STRATA_E_INVALID, "mixer: planned with train=1, so there is no state");
    sti_graph_state_init(m->g, state);
    return STRATA_OK;
}

strata_status strata_mixer_step(strata_mixer *m, const void *params, void *state, const int64_t *pos,
                                const strata_tensor *x, const strata_tensor *y)
{
    if (!m || !params || !state || !pos) return null_argument();
    if (m->g->train) return sti_fail(STRATA_E_INVALID, "mixer: planned with train=1, so there is no step");
    STI_TRY(check(m, "x", x));
    STI_TRY(check_same(m, "y", y, x));
    for (int64_t b = 0; b < x->shape[0]; b++)
        if (pos[b] < 0 || pos[b] > m->g->time - x->shape[1])
            return sti_fail(STRATA_E_SPACE, "mixer: %lld tokens after %lld pass the planned %lld",
                            (long long)x->shape[1], (long long)pos[b], (long long)m->g->time);
    sti_exec e = exec_of(m, params, x);
    e.state = state;
    e.pos = pos;
    return run(m, &e, y);
}
