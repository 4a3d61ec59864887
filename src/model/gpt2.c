/* GPT-2's layout, read and written by one table. */

#include "model/gpt2.h"

#include <stdio.h>
#include <string.h>

#include "core/context.h"

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

typedef struct slot { /* our parameter is part `part` of `parts` side by side in theirs */
    const char *ours, *theirs;
    int part, parts;
} slot;

static const slot of_model[] = {
    { "embed.weight", "wte.weight", 0, 1 },
    { "pos.weight", "wpe.weight", 0, 1 },
    { "norm.weight", "ln_f.weight", 0, 1 },
    { "norm.bias", "ln_f.bias", 0, 1 },
};
static const slot of_block[] = {
    { "norm1.weight", "ln_1.weight", 0, 1 },
    { "norm1.bias", "ln_1.bias", 0, 1 },
    { "mixer.q.weight", "attn.c_attn.weight", 0, 3 },
    { "mixer.k.weight", "attn.c_attn.weight", 1, 3 },
    { "mixer.v.weight", "attn.c_attn.weight", 2, 3 },
    { "mixer.q.bias", "attn.c_attn.bias", 0, 3 },
    { "mixer.k.bias", "attn.c_attn.bias", 1, 3 },
    { "mixer.v.bias", "attn.c_attn.bias", 2, 3 },
    { "mixer.out.weight", "attn.c_proj.weight", 0, 1 },
    { "mixer.out.bias", "attn.c_proj.bias", 0, 1 },
    { "norm2.weight", "ln_2.weight", 0, 1 },
    { "norm2.bias", "ln_2.bias", 0, 1 },
    { "mlp.up.weight", "mlp.c_fc.weight", 0, 1 },
    { "mlp.up.bias", "mlp.c_fc.bias", 0, 1 },
    { "mlp.down.weight", "mlp.c_proj.weight", 0, 1 },
    { "mlp.down.bias", "mlp.c_proj.bias", 0, 1 },
};

typedef struct name {
    char s[96];
} name;

static name theirs_of(const char *prefix, int64_t layer, const char *what)
{
    name n;
    if (layer < 0)
        (void)snprintf(n.s, sizeof n.s, "%s%s", prefix, what);
    else
        (void)snprintf(n.s, sizeof n.s, "%sh.%lld.%s", prefix, (long long)layer, what);
    return n;
}

static name ours_of(int64_t layer, const char *what)
{
    name n;
    if (layer < 0)
        (void)snprintf(n.s, sizeof n.s, "%s", what);
    else
        (void)snprintf(n.s, sizeof n.s, "blocks.%lld.%s", (long long)layer, what);
    return n;
}

/* ---- sizes ---------------------------------------------------------------------------------------------------- */
static strata_status tensor_of(const strata_file *f, const char *s, int32_t ndim, strata_tensor *t)
{
    if (strata_file_get(f, s, t) != STRATA_OK) return sti_fail(STRATA_E_FORMAT, "tensor \"%s\" of GPT-2 is missing", s);
    if (t->dtype != STRATA_F32) return sti_fail(STRATA_E_FORMAT, "tensor \"%s\" is not f32", s);
    if (t->ndim == ndim) return STRATA_OK;
    return sti_fail(STRATA_E_FORMAT, "tensor \"%s\" has %d dimensions, not %d", s, (int)t->ndim, (int)ndim);
}

static strata_status check_shape(const strata_file *f, const char *s, int64_t rows, int64_t cols)
{
    strata_tensor t;
    STI_TRY(tensor_of(f, s, rows ? 2 : 1, &t));
    if (rows && (t.shape[0] != rows || t.shape[1] != cols))
        return sti_fail(STRATA_E_FORMAT, "tensor \"%s\" is (%lld, %lld), not (%lld, %lld)", s, (long long)t.shape[0],
                        (long long)t.shape[1], (long long)rows, (long long)cols);
    if (!rows && t.shape[0] != cols)
        return sti_fail(STRATA_E_FORMAT, "tensor \"%s\" has %lld numbers, not %lld", s, (long long)t.shape[0],
                        (long long)cols);
    return STRATA_OK;
}

static strata_status check_layer(const strata_file *f, const sti_gpt2 *g, int64_t l)
{
    const int64_t d = g->width, h = g->hidden;
    const struct {
        const char *s;
        int64_t rows, cols;
    } want[] = { { "ln_1.weight", 0, d },          { "ln_1.bias", 0, d },          { "attn.c_attn.weight", d, 3 * d },
                 { "attn.c_attn.bias", 0, 3 * d }, { "attn.c_proj.weight", d, d }, { "attn.c_proj.bias", 0, d },
                 { "ln_2.weight", 0, d },          { "ln_2.bias", 0, d },          { "mlp.c_fc.weight", d, h },
                 { "mlp.c_fc.bias", 0, h },        { "mlp.c_proj.weight", h, d },  { "mlp.c_proj.bias", 0, d } };
    for (size_t i = 0; i < STI_COUNT(want); i++)
        STI_TRY(check_shape(f, theirs_of(g->prefix, l, want[i].s).s, want[i].rows, want[i].cols));
    return STRATA_OK;
}

/* "h.3.attn.bias" without the prefix: 3 and "attn.bias". */
static int64_t split_name(const char *s, const char **what)
{
    int64_t l = 0;
    *what = s;
    if (strncmp(s, "h.", 2) != 0 || s[2] < '0' || s[2] > '9') return -1;
    for (s += 2; *s >= '0' && *s <= '9' && l < 1 << 20; s++) l = 10 * l + (*s - '0');
    if (*s != '.') return -1;
    *what = s + 1;
    return l;
}

static bool is_slot(const slot *table, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(table[i].theirs, what) == 0) return true;
    return false;
}

/* Nothing else is in the file. */
static strata_status check_rest(const strata_file *f, const sti_gpt2 *g)
{
    const size_t skip = strlen(g->prefix);
    for (int32_t i = 0; i < strata_file_count(f); i++) {
        const char *full = NULL, *what = NULL;
        strata_tensor t, wte;
        STI_TRY(strata_file_at(f, i, &full, &t));
        if (strcmp(full, "lm_head.weight") == 0) {
            STI_TRY(check_shape(f, full, g->vocab, g->width));
            STI_TRY(strata_file_get(f, theirs_of(g->prefix, -1, "wte.weight").s, &wte));
            if (memcmp(t.data, wte.data, (size_t)(g->vocab * g->width) * sizeof(float)) == 0) continue;
            return sti_fail(STRATA_E_FORMAT, "lm_head.weight differs from wte.weight: GPT-2's head is tied");
        }
        const bool ours = strncmp(full, g->prefix, skip) == 0;
        const int64_t l = ours ? split_name(full + skip, &what) : -1;
        if (ours && l < 0 && is_slot(of_model, STI_COUNT(of_model), what)) continue;
        if (l >= 0 && l < g->layers &&
            (is_slot(of_block, STI_COUNT(of_block), what) || !strcmp(what, "attn.bias") ||
             !strcmp(what, "attn.masked_bias")))
            continue;
        return sti_fail(STRATA_E_FORMAT, "tensor \"%s\" is not part of GPT-2", full);
    }
    return STRATA_OK;
}

strata_status sti_gpt2_of_file(const strata_file *f, int64_t heads, sti_gpt2 *out)
{
    sti_gpt2 g = { .prefix = "" };
    strata_tensor t;
    if (strata_file_get(f, "transformer.wte.weight", &t) == STRATA_OK) g.prefix = "transformer.";
    STI_TRY(tensor_of(f, theirs_of(g.prefix, -1, "wte.weight").s, 2, &t));
    g.vocab = t.shape[0];
    g.width = t.shape[1];
    STI_TRY(tensor_of(f, theirs_of(g.prefix, -1, "wpe.weight").s, 2, &t));
    g.context = t.shape[0];
    STI_TRY(tensor_of(f, theirs_of(g.prefix, 0, "mlp.c_fc.weight").s, 2, &t));
    g.hidden = t.shape[1];
    if (g.vocab < 1 || g.width < 1 || g.context < 1 || g.hidden < 1 || g.width > 1 << 20 || g.hidden > 1 << 24)
        return sti_fail(STRATA_E_FORMAT,
                        "not the sizes of GPT-2: vocabulary %lld, width %lld, context %lld, hidden %lld",
                        (long long)g.vocab, (long long)g.width, (long long)g.context, (long long)g.hidden);
    STI_TRY(check_shape(f, theirs_of(g.prefix, -1, "wpe.weight").s, g.context, g.width));
    STI_TRY(check_shape(f, theirs_of(g.prefix, -1, "ln_f.weight").s, 0, g.width));
    STI_TRY(check_shape(f, theirs_of(g.prefix, -1, "ln_f.bias").s, 0, g.width));
    while (strata_file_get(f, theirs_of(g.prefix, g.layers, "ln_1.weight").s, &t) == STRATA_OK) {
        STI_TRY(check_layer(f, &g, g.layers));
        g.layers++;
    }
    if (g.layers == 0) return sti_fail(STRATA_E_FORMAT, "tensor \"%sh.0.ln_1.weight\" of GPT-2 is missing", g.prefix);
    STI_TRY(check_rest(f, &g));
    g.heads = heads > 0 ? heads : STI_MAX(g.width / 64, 1);
    if (g.width % g.heads != 0)
        return sti_fail(STRATA_E_SPEC, "%lld heads do not divide the width %lld", (long long)g.heads,
                        (long long)g.width);
    *out = g;
    return STRATA_OK;
}

char *sti_gpt2_spec(const sti_gpt2 *g)
{
    sti_text t = { 0 };
    sti_text_add(&t,
                 "decoder layers=%lld width=%lld context=%lld mixers=softmax(heads=%lld) mlp=mlp(act=gelu_tanh ratio=",
                 (long long)g->layers, (long long)g->width, (long long)g->context, (long long)g->heads);
    sti_text_add_number(&t, (double)g->hidden / (double)g->width);
    sti_text_add(&t, ") norm=layernorm pos=learned tied=1 bias=1");
    if (!t.failed) return t.s;
    sti_text_free(&t);
    return NULL;
}

/* ---- numbers -------------------------------------------------------------------------------------------------- */
/* Copy between our parameter and its place in their tensor. Tables of rows (embeddings) keep their order; the matrices
 * of blocks are transposed. */
static void copy(const slot *s, const sti_param *p, bool transposed, float *ours, float *theirs, bool to_ours)
{
    const int64_t out = p->shape[0], in = transposed ? p->shape[1] : 1, step = s->parts * out;
    if (!transposed) {
        float *part = theirs + s->part * p->count;
        memcpy(to_ours ? ours : part, to_ours ? part : ours, (size_t)p->count * sizeof *ours);
        return;
    }
    for (int64_t i = 0; i < in; i++) {
        float *row = theirs + i * step + s->part * out;
        for (int64_t o = 0; o < out; o++) {
            if (to_ours)
                ours[o * in + i] = row[o];
            else
                row[o] = ours[o * in + i];
        }
    }
}

static strata_status lacks(const name *n)
{
    return sti_fail(STRATA_E_UNSUPPORTED, "the model has no parameter \"%s\", which GPT-2 has", n->s);
}

static void *readable(const void *p) /* only read; `copy` goes both ways */
{
    union {
        const void *in;
        void *out;
    } u = { .in = p };
    return u.out;
}

static strata_status read_slots(const strata_file *f, const sti_gpt2 *g, int64_t layer, const slot *s, size_t n,
                                const sti_params *table, float *params)
{
    for (size_t i = 0; i < n; i++) {
        const name o = ours_of(layer, s[i].ours), t = theirs_of(g->prefix, layer, s[i].theirs);
        const sti_param *p = sti_params_find(table, o.s);
        strata_tensor x;
        if (!p) return lacks(&o);
        STI_TRY(strata_file_get(f, t.s, &x));
        if (p->count * s[i].parts != strata_tensor_count(&x))
            return sti_fail(STRATA_E_FORMAT, "tensor \"%s\" does not have the %lld numbers of \"%s\"", t.s,
                            (long long)(p->count * s[i].parts), o.s);
        copy(&s[i], p, layer >= 0 && p->ndim == 2, params + p->offset, readable(x.data), true);
    }
    return STRATA_OK;
}

strata_status sti_gpt2_read(const strata_file *f, const sti_gpt2 *g, const sti_params *table, float *params)
{
    STI_TRY(read_slots(f, g, -1, of_model, STI_COUNT(of_model), table, params));
    for (int64_t l = 0; l < g->layers; l++) STI_TRY(read_slots(f, g, l, of_block, STI_COUNT(of_block), table, params));
    return STRATA_OK;
}

/* ---- writing -------------------------------------------------------------------------------------------------- */
/* The text of a key of the decoder's first mixer, NULL when there is none. */
static const char *mixer_word(const sti_spec *s, const char *key)
{
    for (int32_t i = 0; i < s->npair; i++) {
        if (strcmp(s->pair[i].key, "mixers") != 0 || !s->pair[i].item[0].spec) continue;
        const sti_spec *m = s->pair[i].item[0].spec;
        for (int32_t k = 0; k < m->npair; k++)
            if (strcmp(m->pair[k].key, key) == 0) return m->pair[k].item[0].word;
    }
    return NULL;
}

/* Sizes of a model, if it is one that GPT-2's layout can hold. */
static strata_status of_loaded(const strata_model *m, sti_gpt2 *g)
{
    const sti_params *table = &m->plan->graph->params;
    const sti_param *e = sti_params_find(table, "embed.weight"), *p = sti_params_find(table, "pos.weight"),
                    *up = sti_params_find(table, "blocks.0.mlp.up.weight");
    sti_spec *s = NULL;
    *g = (sti_gpt2){ .prefix = "", .vocab = m->plan->vocab };
    STI_TRY(sti_spec_parse(m->plan->spec, &s));
    const char *heads = mixer_word(s, "heads");
    if (e && p && up && heads && sti_parse_i64(heads, &g->heads)) {
        g->width = e->shape[1];
        g->context = p->shape[0];
        g->hidden = up->shape[0];
        while (sti_params_find(table, ours_of(g->layers, "norm1.weight").s)) g->layers++;
    }
    sti_spec_free(s);
    if (g->layers == 0)
        return sti_fail(STRATA_E_UNSUPPORTED,
                        "GPT-2's layout holds decoders of softmax and mlp with learned positions, "
                        "not \"%s\"",
                        m->plan->spec);
    char *want = sti_gpt2_spec(g);
    sti_model_plan *plan = NULL;
    const sti_model_size size = { .base_width = m->base_width };
    strata_status st = want ? sti_model_plan_create(m->ctx, want, g->vocab, &size, &plan) : no_memory();
    sti_heap_free(want);
    if (st == STRATA_OK && strcmp(plan->spec, m->plan->spec) != 0)
        st = sti_fail(STRATA_E_UNSUPPORTED, "GPT-2's layout holds \"%s\", not \"%s\"", plan->spec, m->plan->spec);
    sti_model_plan_destroy(plan);
    if (st != STRATA_OK) return st;
    if (m->base_width < (double)g->width || m->base_width > (double)g->width)
        return sti_fail(STRATA_E_UNSUPPORTED,
                        "the tied head scales its logits by base_width/width = %g/%lld, GPT-2's does not "
                        "(train.base_width=%lld)",
                        m->base_width, (long long)g->width, (long long)g->width);
    return STRATA_OK;
}

typedef struct writer {
    strata_file_entry *entry;
    name *names;
    float *data; /* of all tensors */
    int32_t count;
    int64_t used;
} writer;

static strata_status write_slots(writer *w, const strata_model *m, int64_t layer, const slot *s, size_t n)
{
    const sti_params *table = &m->plan->graph->params;
    for (size_t i = 0; i < n; i++) {
        const name o = ours_of(layer, s[i].ours);
        const sti_param *p = sti_params_find(table, o.s);
        if (!p) return lacks(&o);
        const bool transposed = layer >= 0 && p->ndim == 2;
        strata_tensor *t = &w->entry[w->count - (s[i].part > 0)].tensor;
        if (s[i].part == 0) {
            float *at = w->data + w->used;
            *t = p->ndim == 1 ? strata_view1(at, STRATA_F32, s[i].parts * p->count)
                 : transposed ? strata_view2(at, STRATA_F32, p->shape[1], s[i].parts * p->shape[0])
                              : strata_view2(at, STRATA_F32, p->shape[0], p->shape[1]);
            w->names[w->count] = theirs_of("", layer, s[i].theirs);
            w->entry[w->count].name = w->names[w->count].s;
            w->used += s[i].parts * p->count;
            w->count++;
        }
        copy(&s[i], p, transposed, readable(m->params + p->offset), t->data, false);
    }
    return STRATA_OK;
}

strata_status sti_gpt2_write(const strata_model *m, const char *path)
{
    sti_gpt2 g;
    STI_TRY(of_loaded(m, &g));
    const size_t most = STI_COUNT(of_model) + (size_t)g.layers * STI_COUNT(of_block);
    writer w = { .entry = sti_heap(most * sizeof *w.entry),
                 .names = sti_heap(most * sizeof *w.names),
                 .data = sti_heap((size_t)m->plan->graph->params.elements * sizeof *w.data) };
    strata_status st = w.entry && w.names && w.data ? STRATA_OK : no_memory();
    if (st == STRATA_OK) st = write_slots(&w, m, -1, of_model, STI_COUNT(of_model));
    for (int64_t l = 0; l < g.layers && st == STRATA_OK; l++) st = write_slots(&w, m, l, of_block, STI_COUNT(of_block));
    /* the value that other readers ask for */
    if (st == STRATA_OK)
        st = strata_file_write(m->ctx, path, w.entry, w.count, &(strata_file_pair){ "format", "pt" }, 1);
    sti_heap_free(w.entry);
    sti_heap_free(w.names);
    sti_heap_free(w.data);
    return st;
}
