/* The table of scorings, and what they share. */
#include "kernel/attention/score.h"

#include <math.h>
#include <string.h>

static const sti_score *const scores[] = { &sti_score_standard, &sti_score_window,       &sti_score_gswa,
                                           &sti_score_mlr,      &sti_score_bilinear_mlr, &sti_score_bilinear_btt };

static strata_status find(const sti_values *v, const sti_score **out)
{
    const char *name = sti_value_text(v, "score");
    for (size_t i = 0; i < STI_COUNT(scores); i++)
        if (strcmp(scores[i]->name, name) == 0) {
            *out = scores[i];
            return STRATA_OK;
        }
    return sti_fail(STRATA_E_SPEC, "score=%s is not a scoring", name);
}

/* `list` has a blank on both sides of every word. */
static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += n)
        if (at > list && at[-1] == ' ' && at[n] == ' ') return true;
    return false;
}

strata_status sti_attention_check(const sti_values *v)
{
    static const char *const optional[] = { "window", "form", "ranks", "blocks", "levels", "gain", "depth", "vranks" };
    const char *scale = sti_value_text(v, "scale");
    const sti_score *score = NULL;
    STI_TRY(find(v, &score));
    for (size_t i = 0; i < STI_COUNT(optional); i++)
        if (sti_value_given(v, optional[i]) && !has_word(score->keys, optional[i])) {
            if (!*score->keys) return sti_fail(STRATA_E_SPEC, "score=%s has no key %s", score->name, optional[i]);
            return sti_fail(STRATA_E_SPEC, "score=%s has no key %s; its keys are%s", score->name, optional[i],
                            score->keys);
        }
    double number = 0;
    if (strcmp(scale, "sp") != 0 && strcmp(scale, "mup") != 0 && !sti_parse_f64(scale, &number))
        return sti_fail(STRATA_E_SPEC, "scale=%s is neither sp, mup nor a finite number", scale);
    return score->check ? score->check(v) : STRATA_OK;
}

strata_status sti_attention_resolve(sti_values *v, const sti_attention_sizes *n, sti_attention_shape *shape)
{
    const sti_score *score = NULL;
    STI_TRY(sti_attention_check(v));
    STI_TRY(find(v, &score));
    if (n->heads < 1 || n->d_qk < 1 || n->d_v < 1 || n->context < 1)
        return sti_fail(STRATA_E_SHAPE, "attention: heads %lld, d_qk %lld, d_v %lld and context %lld must be positive",
                        (long long)n->heads, (long long)n->d_qk, (long long)n->d_v, (long long)n->context);
    if (n->kv_heads < 1 || n->heads % n->kv_heads != 0)
        return sti_fail(STRATA_E_SHAPE, "attention: kv_heads %lld does not divide heads %lld", (long long)n->kv_heads,
                        (long long)n->heads);
    if (n->d_qk > INT32_MAX || n->d_v > INT32_MAX)
        return sti_fail(STRATA_E_SHAPE, "attention: d_qk %lld or d_v %lld is above %d", (long long)n->d_qk,
                        (long long)n->d_v, INT32_MAX);
    sti_attention_shape s = { .heads = n->heads, .kv_heads = n->kv_heads, .d_qk = n->d_qk, .d_v = n->d_v };
    s.causal = (int32_t)sti_value_int(v, "causal");
    s.parts = 1;
    STI_TRY(score->resolve(v, n, &s));
    *shape = s;
    return STRATA_OK;
}

double sti_score_scale(const sti_values *v, double sp, double mup, double unit)
{
    const char *word = sti_value_text(v, "scale");
    double number = 1;
    if (strcmp(word, "sp") == 0) return sp;
    if (strcmp(word, "mup") == 0) return mup;
    sti_parse_f64(word, &number);
    return number * unit;
}

void sti_score_level(sti_attention_part *p, int64_t offset, int64_t rank, int64_t d_v, int64_t reach, double scale)
{
    p->levels = 1;
    p->offset = (int32_t)offset;
    p->level[0] = (sti_attention_level){ .rank = (int32_t)rank, .vrank = (int32_t)d_v, .reach = reach, .scale = scale };
    p->gain[1] = 1;
}

strata_status sti_score_set_ints(sti_values *v, const char *key, const int64_t *x, int64_t n)
{
    sti_text t = { 0 };
    for (int64_t i = 0; i < n; i++) sti_text_add(&t, "%s%lld", i ? "," : "", (long long)x[i]);
    strata_status s = t.failed ? sti_fail(STRATA_E_MEMORY, "attention: no memory") : sti_values_set(v, key, t.s);
    sti_text_free(&t);
    return s;
}
