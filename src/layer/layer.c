/* The registry of layer classes, and building one from a spec. */
#include "layer/layer.h"

#include <string.h>

#include "core/context.h"

#define X(name) extern const sti_layer_class sti_layer_class_##name;
#include "registry/layer.def"
#undef X

static const sti_layer_class *const classes[] = {
#define X(name) &sti_layer_class_##name,
#include "registry/layer.def"
#undef X
};

int32_t sti_layer_class_count(void)
{
    return (int32_t)STI_COUNT(classes);
}

const sti_layer_class *sti_layer_class_at(int32_t i)
{
    return i >= 0 && i < sti_layer_class_count() ? classes[i] : NULL;
}

const sti_layer_class *sti_layer_class_find(const char *kind)
{
    for (size_t i = 0; i < STI_COUNT(classes); i++)
        if (strcmp(classes[i]->kind, kind) == 0) return classes[i];
    return NULL;
}

static strata_status unknown(const char *kind, const char *role)
{
    const char *names[STI_COUNT(classes)];
    int32_t n = 0;
    for (size_t i = 0; i < STI_COUNT(classes); i++)
        if (strcmp(classes[i]->role, role) == 0) names[n++] = classes[i]->kind;
    const char *near = sti_nearest(kind, names, n);
    return near ? sti_fail(STRATA_E_SPEC, "unknown %s layer %s; did you mean %s?", role, kind, near)
                : sti_fail(STRATA_E_SPEC, "unknown %s layer %s", role, kind);
}

int32_t sti_layer_build(sti_graph *g, const char *name, const sti_spec *spec, const char *role, int64_t width,
                        int32_t in, char **text)
{
    if (text) *text = NULL;
    if (g->status != STRATA_OK || in < 0) return -1;
    const sti_layer_class *c = sti_layer_class_find(spec->kind);
    sti_values *v = NULL;
    strata_status s = STRATA_OK;
    int32_t out = -1;
    if (!c)
        s = unknown(spec->kind, role);
    else if (strcmp(c->role, role) != 0)
        s = sti_fail(STRATA_E_SPEC, "%s is a layer of role %s, but %s is wanted", c->kind, c->role, role);
    else if (g->buffer[in].width != width)
        s = sti_fail(STRATA_E_SHAPE, "%s: input width %lld, but the layer's is %lld", c->kind,
                     (long long)g->buffer[in].width, (long long)width);
    else
        s = sti_values_bind(spec, c->kind, c->keys, &v);
    if (s == STRATA_OK) {
        out = c->build(g, name, v, width, in);
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
