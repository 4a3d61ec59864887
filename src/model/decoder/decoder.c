/* Decoder-only sequence model of tokens or numbers: embedding or read-in, pre-norm blocks, norm, head. See README.md.
 */

#include "layer/layer.h"
#include "mixer/mixer.h"
#include "model/model.h"
#include "operator/operator.h"

#include <stdio.h>
#include <string.h>

static const sti_key keys[] = {
    { "layers", STI_KEY_INT, "6", "number of blocks", 1, 4096, NULL },
    { "width", STI_KEY_INT, "256", "width of the residual stream", 1, 1 << 20, NULL },
    { "context", STI_KEY_INT, "1024", "training length; learned positions end there", 1, 1 << 24, NULL },
    { "mixers", STI_KEY_CYCLE, "softmax", "pattern of mixers, a|b|c, repeated to the depth", 0, 0, "mixer" },
    { "mlp", STI_KEY_SPEC, "mlp", "position-wise layer of every block", 0, 0, "layer" },
    { "norm", STI_KEY_SPEC, "layernorm", "norm before every mixer and mlp, and before the head", 0, 0, "layer" },
    { "pos", STI_KEY_WORD, "learned", "positions: a learned table, rotated keys, a score bias, or none", 0, 0,
      "learned|rotary|alibi|none" },
    { "tied", STI_KEY_BOOL, "0", "1: the head uses the embedding's weights", 0, 0, NULL },
    { "linear", STI_KEY_SPEC, "dense", "default operator of every linear layer but the head", 0, 0, "operator" },
    { "bias", STI_KEY_BOOL, "0", "1: linear layers and norms have a bias unless they say otherwise", 0, 0, NULL },
    { "inputs", STI_KEY_INT, "", "numbers read at a position; the task knows; empty: tokens", 1, 1 << 20, NULL },
    { "outputs", STI_KEY_INT, "", "numbers given at a position; the task knows", 1, 1 << 20, NULL },
    { "read_in", STI_KEY_SPEC, "", "operator from the inputs to the width; dense", 0, 0, "operator" },
};

static const char *const examples[] = {
    "decoder layers=1 width=8 context=8 mixers=softmax(heads=2)",
    "decoder layers=2 width=8 context=8 mixers=softmax(heads=2 score=mlr levels=2)|softmax(heads=2) pos=rotary tied=1",
    "decoder layers=1 width=8 context=8 mixers=softmax(heads=1) pos=alibi norm=rmsnorm mlp=swiglu bias=1",
    "decoder layers=1 width=8 context=8 mixers=softmax(heads=2) inputs=3 outputs=2",
    NULL,
};

/* Give `s` the pair name=text when its class has the key and the user did not set it. */
static strata_status default_key(sti_spec *s, sti_keys table, const char *name, const char *text)
{
    bool has = false;
    for (int32_t i = 0; i < table.count; i++) has = has || strcmp(table.key[i].name, name) == 0;
    for (int32_t i = 0; i < s->npair; i++) has = has && strcmp(s->pair[i].key, name) != 0;
    if (!has) return STRATA_OK;

    sti_spec *one = NULL;
    sti_text t = { 0 };
    sti_text_add(&t, "%s=%s", name, text);
    strata_status st = t.failed ? sti_fail(STRATA_E_MEMORY, "out of memory") : sti_spec_parse_keys(t.s, s->kind, &one);
    sti_text_free(&t);
    if (st != STRATA_OK) return st;
    size_t n = (size_t)s->npair * sizeof *s->pair;
    sti_pair *p = sti_heap_grow(s->pair, n, n + sizeof *s->pair);
    if (!p) {
        sti_spec_free(one);
        return sti_fail(STRATA_E_MEMORY, "out of memory");
    }
    s->pair = p;
    s->pair[s->npair++] = one->pair[0]; /* moved */
    one->npair = 0;
    sti_spec_free(one);
    return STRATA_OK;
}

/* A copy of a child's spec with the model's defaults filled in; the keys that a class lacks are left alone. */
static strata_status with_defaults(const sti_spec *s, sti_keys table, const sti_values *v, sti_spec **out)
{
    static const char *const linear[] = { "linear", "qkv", "out" };
    sti_spec *c = NULL;
    char *op = sti_spec_text(sti_value_spec(v, "linear", 0), true);
    strata_status st = op ? sti_spec_clone(s, &c) : sti_fail(STRATA_E_MEMORY, "out of memory");
    for (size_t i = 0; i < STI_COUNT(linear) && st == STRATA_OK; i++) st = default_key(c, table, linear[i], op);
    if (st == STRATA_OK) st = default_key(c, table, "bias", sti_value_int(v, "bias") ? "1" : "0");
    sti_heap_free(op);
    if (st != STRATA_OK) {
        sti_spec_free(c);
        return st;
    }
    *out = c;
    return STRATA_OK;
}

typedef struct children { /* the child specs with defaults, and the canonical texts they resolve to */
    sti_spec **mixer, *mlp, *norm;
    char **mixer_text, *mlp_text, *norm_text; /* NULL until the first one is built */
    int32_t mixers;
} children;

static void children_free(children *c)
{
    for (int32_t i = 0; i < c->mixers; i++) {
        sti_spec_free(c->mixer ? c->mixer[i] : NULL);
        sti_heap_free(c->mixer_text ? c->mixer_text[i] : NULL);
    }
    sti_heap_free(c->mixer);
    sti_heap_free(c->mixer_text);
    sti_spec_free(c->mlp);
    sti_spec_free(c->norm);
    sti_heap_free(c->mlp_text);
    sti_heap_free(c->norm_text);
}

static strata_status layer_child(const sti_values *v, const char *key, sti_spec **out)
{
    const sti_spec *s = sti_value_spec(v, key, 0);
    const sti_layer_class *cls = sti_layer_class_find(s->kind);
    if (!cls) return sti_fail(STRATA_E_SPEC, "decoder: %s: no layer is called \"%s\"", key, s->kind);
    return with_defaults(s, cls->keys, v, out);
}

static strata_status children_create(const sti_values *v, children *c)
{
    c->mixers = (int32_t)sti_value_of(v, "mixers")->i;
    int64_t layers = sti_value_int(v, "layers");
    if (c->mixers > layers)
        return sti_fail(STRATA_E_SPEC, "decoder: mixers lists %lld blocks but layers is %lld", (long long)c->mixers,
                        (long long)layers);
    c->mixer = sti_heap((size_t)c->mixers * sizeof *c->mixer);
    c->mixer_text = sti_heap((size_t)c->mixers * sizeof *c->mixer_text);
    if (!c->mixer || !c->mixer_text) return sti_fail(STRATA_E_MEMORY, "out of memory");
    for (int32_t i = 0; i < c->mixers; i++) {
        const sti_spec *s = sti_value_spec(v, "mixers", i);
        const sti_mixer_class *cls = sti_mixer_class_find(s->kind);
        if (!cls) return sti_fail(STRATA_E_SPEC, "decoder: no mixer is called \"%s\"", s->kind);
        STI_TRY(with_defaults(s, cls->keys, v, &c->mixer[i]));
    }
    STI_TRY(layer_child(v, "mlp", &c->mlp));
    return layer_child(v, "norm", &c->norm);
}

/* Store what the children resolved to. */
static strata_status children_resolve(const children *c, sti_values *v)
{
    sti_text t = { 0 };
    for (int32_t i = 0; i < c->mixers; i++) sti_text_add(&t, "%s%s", i ? "|" : "", c->mixer_text[i]);
    strata_status st = t.failed ? sti_fail(STRATA_E_MEMORY, "out of memory") : sti_values_set(v, "mixers", t.s);
    sti_text_free(&t);
    STI_TRY(st);
    STI_TRY(sti_values_set(v, "mlp", c->mlp_text));
    return sti_values_set(v, "norm", c->norm_text);
}

/* norm or mlp; the first one built tells its canonical text. */
static int32_t layer(sti_graph *g, const sti_spec *s, const char *role, int32_t block, const char *name, int64_t width,
                     int32_t in, char **text)
{
    char path[64];
    if (block < 0)
        (void)snprintf(path, sizeof path, "%s", name);
    else
        (void)snprintf(path, sizeof path, "blocks.%d.%s", (int)block, name);
    return sti_layer_build(g, path, s, role, width, in, *text ? NULL : text);
}

static int32_t sum(sti_graph *g, int32_t block, const char *name, int32_t a, int32_t b)
{
    char path[64];
    (void)snprintf(path, sizeof path, "blocks.%d.%s", (int)block, name);
    return sti_graph_sum(g, path, a, b);
}

/* x += mixer(norm(x)); x += mlp(norm(x)) */
static int32_t block(sti_graph *g, children *c, int32_t i, const sti_mixer_env *env, int32_t x)
{
    char path[64];
    (void)snprintf(path, sizeof path, "blocks.%d.mixer", (int)i);
    char **text = &c->mixer_text[i % c->mixers];
    int32_t h = layer(g, c->norm, "norm", i, "norm1", env->width, x, &c->norm_text);
    h = sti_mixer_build(g, path, c->mixer[i % c->mixers], env, h, *text ? NULL : text);
    x = sum(g, i, "sum1", x, h);
    h = layer(g, c->norm, "norm", i, "norm2", env->width, x, &c->norm_text);
    h = layer(g, c->mlp, "mlp", i, "mlp", env->width, h, &c->mlp_text);
    return sum(g, i, "sum2", x, h);
}

static int32_t head(sti_model_plan *p, const sti_values *v, int32_t x)
{
    sti_graph *g = p->graph;
    sti_spec *dense = NULL;
    int32_t tie = 0;
    double scale = 1;
    if (sti_value_int(v, "tied")) {
        while (tie < g->params.count && strcmp(g->params.p[tie].name, "embed.weight") != 0) tie++;
        tie++; /* 1 + index */
        scale = g->base_width / (double)sti_value_int(v, "width");
    }
    strata_status st = sti_spec_parse("dense", &dense);
    if (st != STRATA_OK) {
        sti_graph_fail(g, st);
        return -1;
    }
    x = sti_graph_head(g, "head", dense, p->inputs ? p->outputs : p->vocab, x, tie, scale);
    sti_spec_free(dense);
    return x;
}

/* The external buffers, and what the first block reads. */
static int32_t read_tokens(sti_model_plan *p, int64_t width)
{
    sti_graph *g = p->graph;
    p->tokens = sti_graph_input(g, 1, STRATA_I32, 0);
    if (g->train) p->targets = sti_graph_input(g, 1, STRATA_I32, 0);
    return sti_graph_embedding(g, "embed", p->vocab, width, p->tokens);
}

static int32_t read_numbers(sti_model_plan *p, const sti_values *v, int64_t width)
{
    sti_graph *g = p->graph;
    if (sti_model_numbers(p) != STRATA_OK) return -1;
    return sti_graph_read_in(g, "read_in", sti_value_spec(v, "read_in", 0), width, p->tokens,
                             sti_value_int(v, "bias") != 0);
}

static strata_status check_ports(const sti_model_plan *p, sti_values *v)
{
    if (!p->inputs && sti_value_given(v, "read_in"))
        return sti_fail(STRATA_E_SPEC, "decoder: read_in is for numbers, but the model reads tokens");
    if (!p->inputs) return STRATA_OK;
    if (sti_value_int(v, "tied"))
        return sti_fail(STRATA_E_SPEC, "decoder: tied=1, but a model of numbers has no embedding");
    return sti_value_given(v, "read_in") ? STRATA_OK : sti_values_set(v, "read_in", "dense");
}

static strata_status build(sti_model_plan *p, sti_values *v)
{
    sti_graph *g = p->graph;
    int64_t width = sti_value_int(v, "width");
    const sti_mixer_env env = { .width = width, .context = p->context, .pos = sti_value_text(v, "pos") };
    bool learned = sti_value_is(v, "pos", "learned");
    children c = { 0 };
    strata_status st = check_ports(p, v);
    if (st == STRATA_OK) st = children_create(v, &c);
    if (st != STRATA_OK) goto out;

    int32_t x = p->inputs ? read_numbers(p, v, width) : read_tokens(p, width);
    if (learned) x = sti_graph_positions(g, "pos", p->context, width, x);
    for (int32_t i = 0; i < (int32_t)sti_value_int(v, "layers") && g->status == STRATA_OK; i++)
        x = block(g, &c, i, &env, x);
    x = layer(g, c.norm, "norm", -1, "norm", width, x, &c.norm_text);
    p->logits = head(p, v, x);
    if (g->train)
        p->loss = (p->inputs ? sti_graph_squared_error : sti_graph_cross_entropy)(g, "loss", p->logits, p->targets);
    p->positions = learned ? p->context : 0;
    st = g->status;
    if (st == STRATA_OK) st = children_resolve(&c, v);
out:
    children_free(&c);
    return st;
}

const sti_model_class sti_model_class_decoder = {
    .kind = "decoder",
    .summary = "decoder-only model of sequences of tokens or numbers, with pre-norm blocks",
    .keys = STI_KEYS(keys),
    .examples = examples,
    .build = build,
};
