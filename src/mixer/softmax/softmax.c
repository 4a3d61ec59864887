/* The class: keys, resolved defaults, and the chain of stages. */
#include "mixer/softmax/softmax.h"

#include <string.h>

#include "core/name.h"
#include "kernel/norm/norm.h"
#include "kernel/rotary/rotary.h"
#include "mixer/mixer.h"

#define ROTARY_BASE 10000.0
#define NORM_EPS 1e-5

/* clang-format off */
static const sti_key keys[] = {
    { "heads", STI_KEY_INT, "", "query heads (width/64, at least 1)", 1, 1e6, NULL },
    { "kv_heads", STI_KEY_INT, "", "key and value heads (heads)", 1, 1e6, NULL },
    { "d_qk", STI_KEY_INT, "", "width of a query or key of one head (width/heads)", 1, 1e6, NULL },
    { "d_v", STI_KEY_INT, "", "width of a value of one head (width/heads)", 1, 1e6, NULL },
#include "kernel/attention/keys.def"
    { "side", STI_KEY_WORD, "", "bilinear-btt: which side the matrix multiplies (key)", 0, 0, "key|query" },
    { "rank", STI_KEY_INT, "", "bilinear-btt: rank of the block tensor train (1)", 1, 1e6, NULL },
    { "qk_norm", STI_KEY_BOOL, "0", "1: layer norm of queries and keys, gains only", 0, 0, NULL },
    { "pos", STI_KEY_WORD, "inherit", "positions inside the mixer; inherit: what the model says", 0, 0,
      "inherit|rotary|alibi|none" },
    { "qkv", STI_KEY_SPEC, "dense", "structure of the query, key and value projections", 0, 0, "operator" },
    { "out", STI_KEY_SPEC, "dense", "structure of the output projection", 0, 0, "operator" },
    { "bias", STI_KEY_BOOL, "0", "1: biases in the projections", 0, 0, NULL },
};
/* clang-format on */

typedef enum form { PLAIN, CHUNKS, BTT } form;

typedef struct design { /* the resolved values */
    form form;
    bool query_side, bias, norm, rotary;
    int64_t rank;
    sti_attention_sizes n;
    sti_attention_shape shape;
    const sti_spec *qkv, *out;
} design;

static strata_status set_int(sti_values *v, const char *key, int64_t x)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)x);
    return sti_values_set(v, key, text);
}

static int64_t given_or(const sti_values *v, const char *key, int64_t otherwise)
{
    return sti_value_of(v, key)->empty ? otherwise : sti_value_int(v, key);
}

/* width/64 heads, or the next smaller number that divides the width. */
static int64_t default_heads(int64_t width)
{
    int64_t h = STI_MAX(width / 64, 1);
    while (width % h != 0) h--;
    return h;
}

/* Columns of a query or key that the scoring compares. */
static strata_status score_width(const sti_values *v, form f, int64_t width, int64_t heads, int64_t *out)
{
    int64_t want = width;
    if (f == PLAIN) {
        if (sti_value_of(v, "d_qk")->empty && width % heads != 0)
            return sti_fail(STRATA_E_SHAPE, "softmax: heads=%lld does not divide the width %lld; give d_qk",
                            (long long)heads, (long long)width);
        *out = given_or(v, "d_qk", width / heads);
        return STRATA_OK;
    }
    if (f == CHUNKS) {
        const sti_value *ranks = sti_value_of(v, "ranks");
        want = 0;
        for (int64_t l = 0; l < ranks->i && l < STI_ATTENTION_LEVELS; l++) want += ranks->ints[l] << l;
    }
    *out = given_or(v, "d_qk", want);
    if (*out != want)
        return sti_fail(STRATA_E_SHAPE, "softmax: score=%s compares %lld columns but d_qk is %lld",
                        sti_value_text(v, "score"), (long long)want, (long long)*out);
    return STRATA_OK;
}

static strata_status resolve_positions(sti_values *v, const char *outer, design *d)
{
    const char *pos = sti_value_text(v, "pos");
    if (strcmp(pos, "inherit") == 0) {
        const bool own = outer && (strcmp(outer, "rotary") == 0 || strcmp(outer, "alibi") == 0);
        STI_TRY(sti_values_set(v, "pos", own ? outer : "none"));
        pos = sti_value_text(v, "pos");
    }
    d->rotary = strcmp(pos, "rotary") == 0;
    d->shape.alibi = strcmp(pos, "alibi") == 0;
    if (d->rotary && d->form == BTT)
        return sti_fail(STRATA_E_UNSUPPORTED, "softmax: rotary positions with score=bilinear-btt are not built");
    return STRATA_OK;
}

/* A list and the size that its entries sum to, when both are given. */
static strata_status check_sum(const sti_values *v, const char *list, const char *size)
{
    const sti_value *x = sti_value_of(v, list);
    int64_t sum = 0;
    for (int64_t l = 0; x->given && l < x->i; l++) sum += x->ints[l];
    if (!x->given || !sti_value_given(v, size) || sum == sti_value_int(v, size)) return STRATA_OK;
    return sti_fail(STRATA_E_SPEC, "softmax: %s sum to %lld but %s is %lld", list, (long long)sum, size,
                    (long long)sti_value_int(v, size));
}

static strata_status check(const sti_values *v)
{
    static const char *const btt[] = { "side", "rank" };
    STI_TRY(sti_attention_check(v));
    for (size_t i = 0; i < STI_COUNT(btt); i++)
        if (!sti_value_is(v, "score", "bilinear-btt") && sti_value_given(v, btt[i]))
            return sti_fail(STRATA_E_SPEC, "softmax: %s belongs to score=bilinear-btt, not to score=%s", btt[i],
                            sti_value_text(v, "score"));
    if (sti_value_given(v, "heads") && sti_value_given(v, "kv_heads") &&
        sti_value_int(v, "heads") % sti_value_int(v, "kv_heads") != 0)
        return sti_fail(STRATA_E_SPEC, "softmax: kv_heads=%lld does not divide heads=%lld",
                        (long long)sti_value_int(v, "kv_heads"), (long long)sti_value_int(v, "heads"));
    if (!sti_value_is(v, "score", "bilinear-mlr")) STI_TRY(check_sum(v, "ranks", "d_qk"));
    return check_sum(v, "vranks", "d_v");
}

static strata_status resolve(sti_values *v, const sti_mixer_env *env, const sti_graph *g, design *d)
{
    const int64_t width = env->width;
    *d = (design){ .form = sti_value_is(v, "score", "bilinear-mlr")   ? CHUNKS
                           : sti_value_is(v, "score", "bilinear-btt") ? BTT
                                                                      : PLAIN };
    d->n.heads = given_or(v, "heads", default_heads(width));
    d->n.kv_heads = given_or(v, "kv_heads", d->n.heads);
    d->n.context = env->context > 0 ? env->context : g->time;
    if (d->form == BTT && d->n.kv_heads != d->n.heads)
        return sti_fail(
            STRATA_E_SPEC,
            "softmax: score=bilinear-btt has one matrix for each of %lld heads, so kv_heads=%lld does not fit",
            (long long)d->n.heads, (long long)d->n.kv_heads);
    if (sti_value_of(v, "d_v")->empty && width % d->n.heads != 0)
        return sti_fail(STRATA_E_SHAPE, "softmax: heads=%lld does not divide the width %lld; give d_v",
                        (long long)d->n.heads, (long long)width);
    d->n.d_v = given_or(v, "d_v", width / d->n.heads);
    STI_TRY(score_width(v, d->form, width, d->n.heads, &d->n.d_qk));
    int64_t columns;
    if (!sti_mul_i64(d->n.heads, STI_MAX(d->n.d_qk, d->n.d_v), &columns) || columns > INT32_MAX)
        return sti_fail(STRATA_E_SHAPE, "softmax: %lld heads of %lld columns are too wide", (long long)d->n.heads,
                        (long long)STI_MAX(d->n.d_qk, d->n.d_v));
    STI_TRY(sti_attention_resolve(v, &d->n, &d->shape));
    STI_TRY(resolve_positions(v, env->pos, d));
    STI_TRY(set_int(v, "heads", d->n.heads));
    STI_TRY(set_int(v, "kv_heads", d->n.kv_heads));
    STI_TRY(set_int(v, "d_qk", d->n.d_qk));
    STI_TRY(set_int(v, "d_v", d->n.d_v));
    if (d->form == BTT) {
        d->rank = given_or(v, "rank", 1);
        d->query_side = sti_value_is(v, "side", "query");
        STI_TRY(set_int(v, "rank", d->rank));
        STI_TRY(sti_values_set(v, "side", d->query_side ? "query" : "key"));
    }
    d->bias = sti_value_int(v, "bias") != 0;
    d->norm = sti_value_int(v, "qk_norm") != 0;
    d->qkv = sti_value_spec(v, "qkv", 0);
    d->out = sti_value_spec(v, "out", 0);
    return STRATA_OK;
}

/* The slices of a head that rotate apart: one a level. */
static int32_t slices(const sti_attention_shape *s, int64_t *width)
{
    int32_t n = 0;
    for (int32_t p = 0; p < s->parts; p++)
        for (int32_t l = 0; l < s->part[p].levels; l++) width[n++] = s->part[p].level[l].rank;
    return n;
}

/* Projection, norm and rotation of queries (query = true) or keys. */
static int32_t scored(sti_graph *g, const char *name, const design *d, bool query, int32_t in)
{
    const int64_t heads = query ? d->n.heads : d->n.kv_heads;
    const char *leaf = query ? "q" : "k";
    const sti_name own = sti_name_join(name, leaf), norm = sti_name_join(name, query ? "q_norm" : "k_norm");
    int64_t width[STI_ATTENTION_PARTS * STI_ATTENTION_LEVELS];
    const int32_t n = slices(&d->shape, width);
    sti_norm ln = { .width = d->n.d_qk, .eps = NORM_EPS, .center = true };
    int32_t x = in;
    if (d->form == BTT) {
        if (query != d->query_side) return in; /* x itself, shared by the heads */
        x = sti_softmax_btt(g, own.s, heads, d->rank, query, in);
        return d->norm ? sti_graph_norm(g, norm.s, &ln, x) : x;
    }
    if (d->form == CHUNKS) {
        int64_t rank[STI_ATTENTION_LEVELS];
        for (int32_t l = 0; l < n; l++) rank[l] = width[l] >> l;
        x = sti_softmax_chunks(g, own.s, n, rank, heads, in);
        if (d->norm) x = sti_graph_norm_slices(g, norm.s, &ln, n, width, x);
    } else {
        x = sti_graph_linear(g, own.s, d->qkv, heads * d->n.d_qk, in, d->bias, false);
        if (d->norm) x = sti_graph_norm(g, norm.s, &ln, x);
    }
    if (d->rotary)
        x = sti_graph_rotary(g, sti_name_join(name, query ? "q_rotary" : "k_rotary").s, n, width, ROTARY_BASE, x);
    return x;
}

static int32_t build(sti_graph *g, const char *name, sti_values *v, const sti_mixer_env *env, int32_t in)
{
    design d;
    const strata_status s = resolve(v, env, g, &d);
    if (s != STRATA_OK) {
        sti_graph_fail(g, s);
        return -1;
    }
    const int32_t q = scored(g, name, &d, true, in), k = scored(g, name, &d, false, in);
    const int32_t values =
        sti_graph_linear(g, sti_name_join(name, "v").s, d.qkv, d.n.kv_heads * d.n.d_v, in, d.bias, false);
    const int32_t o = sti_softmax_attention(g, sti_name_join(name, "attention").s, &d.shape, q, k, values);
    return sti_graph_linear(g, sti_name_join(name, "out").s, d.out, env->width, o, d.bias, true);
}

static const char *const examples[] = {
    "softmax heads=2",
    "softmax heads=4 kv_heads=2 d_qk=6 d_v=5 bias=1 pos=rotary",
    "softmax heads=2 score=window window=5 pos=alibi",
    "softmax heads=2 score=gswa ranks=4,4 window=3 qk_norm=1",
    "softmax heads=2 score=gswa ranks=4,4 window=3 form=one pos=rotary",
    "softmax heads=2 score=mlr ranks=4,2,2 qk_norm=1 pos=rotary gain=count",
    "softmax heads=2 score=mlr ranks=3,3,2 vranks=4,2,2 depth=distance blocks=16,4,2",
    "softmax heads=2 kv_heads=1 score=mlr levels=2 qkv=lowrank(rank=3) out=btt",
    "softmax heads=2 score=bilinear-mlr ranks=4,2,1 qk_norm=1",
    "softmax heads=2 kv_heads=1 score=bilinear-mlr ranks=2,2 gain=levels scale=mup",
    "softmax heads=2 score=bilinear-btt qk_norm=1",
    "softmax heads=2 score=bilinear-btt side=query rank=2 qk_norm=1",
    "softmax heads=2 causal=0 qk_norm=1",
    NULL
};

const sti_mixer_class sti_mixer_class_softmax = { .kind = "softmax",
                                                  .summary = "softmax attention; score= chooses how queries meet keys",
                                                  .keys = STI_KEYS(keys),
                                                  .examples = examples,
                                                  .causal = true,
                                                  .check = check,
                                                  .build = build };
