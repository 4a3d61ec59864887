/* Sequences that need a state or a memory. See README.md. */

#include <math.h>
#include <string.h>

#include "backend/cpu/threads.h"
#include "core/philox.h"
#include "task/states/group.h"
#include "train/task.h"

static const sti_key keys[] = {
    { "kind", STI_KEY_WORD, "parity", "what the answer depends on", 0, 0,
      "parity|pairs|cycle|arithmetic|brackets|group|recall" },
    { "min", STI_KEY_INT, "3", "shortest sequence in training (not of group and recall)", 2, 1 << 20, NULL },
    { "max", STI_KEY_INT, "40", "longest sequence in training; of group their length", 2, 1 << 20, NULL },
    { "eval_min", STI_KEY_INT, "40", "shortest sequence in evaluations", 2, 1 << 20, NULL },
    { "eval_max", STI_KEY_INT, "256", "longest sequence in evaluations, and the context", 2, 1 << 20, NULL },
    { "vocab", STI_KEY_INT, "0", "cycle, recall: number of tokens; 0: 10, 8192", 0, 1 << 24, NULL },
    { "step", STI_KEY_INT, "1", "cycle: longest step", 1, 1 << 20, NULL },
    { "multiply", STI_KEY_BOOL, "0", "brackets: 1: with products", 0, 0, NULL },
    { "group", STI_KEY_TEXT, "s5", "group: s2 … s5, a3 … a5, a4xz5, z2 … z256", 0, 0, NULL },
    { "letters", STI_KEY_WORD, "all", "group: elements that words are made of", 0, 0, "all|swaps|cycles" },
    { "length", STI_KEY_INT, "64", "recall: length of the sequences", 4, 1 << 20, NULL },
    { "pairs", STI_KEY_INT, "4", "recall: pairs of key and value", 1, 1 << 18, NULL },
    { "passes", STI_KEY_INT, "1", "recall: how often the pairs are shown", 1, 1000, NULL },
    { "power", STI_KEY_NUM, "0.01", "recall: gap g is drawn with weight (g+1)^(power-1)", 1e-6, 10, NULL },
    { "fill", STI_KEY_BOOL, "1", "recall: 1: random tokens between the queries; 0: zeros", 0, 0, NULL },
    { "eval_sequences", STI_KEY_INT, "1000", "held-out sequences", 1, 1 << 24, NULL },
    { "eval_seed", STI_KEY_INT, "0", "fixes the held-out sequences, apart from the training's", 0, 9e18, NULL },
};

enum { TRAIN = 0x73746174, EVAL, MODULUS = 5, DRAWS = 24 /* bits of the number of a draw */ };

typedef struct states states;

/* The random numbers of one sequence, one after the other. */
typedef struct dice {
    uint64_t seed, stream, next;
} dice;

typedef struct generator {
    const char *kind;
    int32_t pad; /* fills what a sequence leaves */
    /* Tokens and targets of a sequence of length n, at most the context; both are filled with pad and -1. */
    void (*make)(const states *s, dice *d, int64_t n, int32_t *tokens, int32_t *targets);
} generator;

struct states {
    const generator *how;
    int64_t min, max, eval_min, eval_max, step, length, pairs, passes, eval_sequences;
    uint64_t eval_seed;
    bool multiply, fill;
    double chance;    /* of a guess among the possible answers */
    sti_group group;  /* of group */
    double *gap_mass; /* of recall: cumulated weights of the gaps. owned */
    int64_t vocab;
};

static int64_t below(dice *d, int64_t n)
{
    return (int64_t)sti_below(d->seed, d->stream, d->next++, (uint64_t)n);
}

/* In [a, b]. */
static int64_t between(dice *d, int64_t a, int64_t b)
{
    return a + below(d, b - a + 1);
}

static int64_t modulo(int64_t a, int64_t m)
{
    return (a % m + m) % m;
}

/* ---- regular languages: one answer, which is the last token --------------------------------------------------- */
static void put_answer(int64_t at, int64_t answer, int32_t *tokens, int32_t *targets)
{
    tokens[at] = (int32_t)answer;
    targets[at - 1] = (int32_t)answer;
}

static void parity(const states *s, dice *d, int64_t n, int32_t *tokens, int32_t *targets)
{
    int64_t twos = 0;
    (void)s;
    for (int64_t i = 0; i < n - 1; i++) {
        tokens[i] = (int32_t)between(d, 1, 2);
        twos += tokens[i] == 2;
    }
    put_answer(n - 1, twos % 2 + 1, tokens, targets);
}

static void pairs(const states *s, dice *d, int64_t n, int32_t *tokens, int32_t *targets)
{
    (void)s;
    for (int64_t i = 0; i < n - 1; i++) tokens[i] = (int32_t)between(d, 1, 2);
    put_answer(n - 1, tokens[0] == tokens[n - 2] ? 1 : 2, tokens, targets);
}

static void cycle(const states *s, dice *d, int64_t n, int32_t *tokens, int32_t *targets)
{
    const int64_t around = s->vocab - 2 - 2 * s->step;
    int64_t at = 0;
    for (int64_t i = 0; i < n - 1; i++) {
        const int64_t t = between(d, 1, 2 * s->step + 1);
        tokens[i] = (int32_t)t;
        at += t <= s->step + 1 ? t - 1 : s->step + 1 - t;
    }
    put_answer(n - 1, modulo(at, around) + 2 * s->step + 2, tokens, targets);
}

/* digit (operator digit)* = answer; + 1, - 2, * 3, = 4, digits from 5 */
static void arithmetic(const states *s, dice *d, int64_t n, int32_t *tokens, int32_t *targets)
{
    (void)s;
    n = STI_MAX(n - (n % 2 == 0), 3);
    int64_t sum = 0, term = 0;
    for (int64_t i = 0; i < n - 2; i += 2) {
        const int64_t op = i ? between(d, 1, 3) : 1, digit = below(d, MODULUS);
        if (i) tokens[i - 1] = (int32_t)op;
        tokens[i] = (int32_t)(MODULUS + digit);
        if (op == 3) {
            term = modulo(term * digit, MODULUS);
        } else {
            sum += term;
            term = op == 1 ? digit : -digit;
        }
    }
    tokens[n - 2] = 4;
    put_answer(n - 1, MODULUS + modulo(sum + term, MODULUS), tokens, targets);
}

enum { PLUS = MODULUS, MINUS, TIMES, OPEN, CLOSE, EQUALS, BRACKETS_PAD };

/* An expression of exactly n tokens; its value. */
static int64_t expression(const states *s, dice *d, int64_t n, int32_t *t)
{
    if (n <= 4) { /* digit, -digit, (digit), (-digit) */
        const int64_t digit = below(d, MODULUS);
        if (n >= 3) *t++ = OPEN;
        if (n % 2 == 0) *t++ = MINUS;
        *t++ = (int32_t)digit;
        if (n >= 3) *t = CLOSE;
        return n % 2 == 0 ? -digit : digit;
    }
    const int64_t left = between(d, 1, n - 4), op = PLUS + below(d, s->multiply ? 3 : 2);
    t[0] = OPEN;
    t[1 + left] = (int32_t)op;
    t[n - 1] = CLOSE;
    const int64_t a = expression(s, d, left, t + 1), b = expression(s, d, n - 3 - left, t + left + 2);
    return modulo(op == PLUS ? a + b : op == MINUS ? a - b : a * b, MODULUS);
}

static void brackets(const states *s, dice *d, int64_t n, int32_t *tokens, int32_t *targets)
{
    n = STI_MAX(n, 5);
    const int64_t value = expression(s, d, n - 3, tokens);
    tokens[n - 3] = EQUALS;
    put_answer(n - 2, modulo(value, MODULUS), tokens, targets);
}

/* ---- group words: the running product at every position ------------------------------------------------------- */
static void group(const states *s, dice *d, int64_t n, int32_t *tokens, int32_t *targets)
{
    int32_t product = 0;
    for (int64_t i = 0; i < n; i++) {
        tokens[i] = s->group.letter[below(d, s->group.letters)];
        targets[i] = product = s->group.product[product * s->group.order + tokens[i]];
    }
}

/* ---- multi-query associative recall --------------------------------------------------------------------------- */

/* A number in [first, last] that is at none of the places 0, stride, … before `places`. */
static int32_t fresh(dice *d, int64_t first, int64_t last, const int32_t *t, int64_t stride, int64_t places)
{
    for (;;) {
        const int32_t x = (int32_t)between(d, first, last);
        int64_t i = 0;
        while (i < places && t[i * stride] != x) i++;
        if (i == places) return x;
    }
}

/* Gap g in [0, space) with its weight, among those whose slot is still free. Drawing again what is taken is drawing
 * without replacement; when that takes too long, the first free slot does. */
static int64_t free_gap(const states *s, dice *d, int64_t space, const int32_t *slots)
{
    for (int64_t i = 0; i < 64 * space; i++) {
        const double u = sti_uniform(d->seed, d->stream, d->next++) * s->gap_mass[space - 1];
        int64_t low = 0, high = space - 1;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (s->gap_mass[middle] > u)
                high = middle;
            else
                low = middle + 1;
        }
        if (slots[2 * low] == 0) return low;
    }
    int64_t g = 0;
    while (slots[2 * g] != 0) g++;
    return g;
}

static void recall(const states *s, dice *d, int64_t n, int32_t *tokens, int32_t *targets)
{
    const int64_t shown = 2 * s->pairs * s->passes, space = (n - shown) / 2, half = s->vocab / 2;
    for (int64_t i = 0; i < s->pairs; i++) {
        tokens[2 * i] = fresh(d, 1, half - 1, tokens, 2, i);
        tokens[2 * i + 1] = fresh(d, half, s->vocab - 1, tokens + 1, 2, i);
    }
    for (int64_t i = 2 * s->pairs; i < shown; i++) tokens[i] = tokens[i - 2 * s->pairs];
    for (int64_t i = 0; i < s->pairs; i++) {
        const int64_t at = shown + 2 * free_gap(s, d, space, tokens + shown);
        tokens[at] = tokens[2 * i];
        targets[at] = tokens[2 * i + 1];
    }
    for (int64_t i = 0; i < n && s->fill; i++)
        if (tokens[i] == 0) tokens[i] = (int32_t)below(d, s->vocab);
}

static const generator generators[] = {
    { "parity", 0, parity },
    { "pairs", 0, pairs },
    { "cycle", 0, cycle },
    { "arithmetic", 0, arithmetic },
    { "brackets", BRACKETS_PAD, brackets },
    { "group", 0, group },
    { "recall", 0, recall },
};

/* ---- configuration -------------------------------------------------------------------------------------------- */
static bool is(const states *s, const char *kind)
{
    return strcmp(s->how->kind, kind) == 0;
}

static strata_status plan_recall(states *s, double power)
{
    const int64_t shown = 2 * s->pairs * s->passes, space = (s->length - shown) / 2;
    s->min = s->max = s->eval_min = s->eval_max = s->length;
    s->vocab = s->vocab ? s->vocab : 8192;
    s->chance = 1.0 / (double)(s->vocab - s->vocab / 2);
    if (space < s->pairs)
        return sti_fail(STRATA_E_SPEC, "states.length=%lld has no room to show %lld pairs %lld times and ask for them",
                        (long long)s->length, (long long)s->pairs, (long long)s->passes);
    if (s->vocab / 2 - 1 < s->pairs)
        return sti_fail(STRATA_E_SPEC, "states.vocab=%lld has fewer than %lld keys", (long long)s->vocab,
                        (long long)s->pairs);
    s->gap_mass = sti_heap((size_t)space * sizeof *s->gap_mass);
    if (!s->gap_mass) return sti_fail(STRATA_E_MEMORY, "out of memory");
    for (int64_t g = 0; g < space; g++) s->gap_mass[g] = (g ? s->gap_mass[g - 1] : 0) + pow((double)(g + 1), power - 1);
    return STRATA_OK;
}

static strata_status plan_cycle(states *s)
{
    s->vocab = s->vocab ? s->vocab : 10;
    const int64_t around = s->vocab - 2 - 2 * s->step;
    if (around < 2)
        return sti_fail(STRATA_E_SPEC, "states.vocab=%lld and states.step=%lld leave a cycle of %lld",
                        (long long)s->vocab, (long long)s->step, (long long)around);
    s->chance = 1.0 / (double)around;
    return STRATA_OK;
}

static strata_status plan(const strata_config *c, states *s)
{
    if (is(s, "recall")) return plan_recall(s, sti_config_num(c, "states.power"));
    if (s->vocab && !is(s, "cycle"))
        return sti_fail(STRATA_E_SPEC, "states.vocab is of cycle and recall; %s has its own", s->how->kind);
    if (is(s, "group")) {
        STI_TRY(
            sti_group_create(strata_config_get(c, "states.group"), strata_config_get(c, "states.letters"), &s->group));
        s->min = s->max;
        s->eval_min = s->eval_max;
        s->vocab = s->group.order;
        s->chance = 1.0 / (double)s->vocab;
    } else if (is(s, "cycle")) {
        STI_TRY(plan_cycle(s));
    } else {
        const bool digits = is(s, "arithmetic") || is(s, "brackets");
        s->chance = digits ? 1.0 / MODULUS : 0.5;
        s->vocab = is(s, "brackets") ? MODULUS + 7 : digits ? 2 * MODULUS : 3;
    }
    const int64_t least = is(s, "brackets") ? 5 : is(s, "arithmetic") ? 3 : 2;
    if (s->min > s->max || s->eval_min > s->eval_max)
        return sti_fail(STRATA_E_SPEC,
                        "states.min=%lld max=%lld eval_min=%lld eval_max=%lld: a least length above its "
                        "largest",
                        (long long)s->min, (long long)s->max, (long long)s->eval_min, (long long)s->eval_max);
    if (s->max >= least && s->eval_max >= least) return STRATA_OK;
    return sti_fail(STRATA_E_SPEC, "sequences of %s have at least %lld tokens", s->how->kind, (long long)least);
}

static strata_status create(sti_task *t, const strata_config *c)
{
    states *s = sti_heap(sizeof *s);
    if (!s) return sti_fail(STRATA_E_MEMORY, "out of memory");
    t->data = s;
    s->min = sti_config_int(c, "states.min");
    s->max = sti_config_int(c, "states.max");
    s->eval_min = sti_config_int(c, "states.eval_min");
    s->eval_max = sti_config_int(c, "states.eval_max");
    s->vocab = sti_config_int(c, "states.vocab");
    s->step = sti_config_int(c, "states.step");
    s->multiply = sti_config_int(c, "states.multiply") != 0;
    s->length = sti_config_int(c, "states.length");
    s->pairs = sti_config_int(c, "states.pairs");
    s->passes = sti_config_int(c, "states.passes");
    s->fill = sti_config_int(c, "states.fill") != 0;
    s->eval_sequences = sti_config_int(c, "states.eval_sequences");
    s->eval_seed = (uint64_t)sti_config_int(c, "states.eval_seed");
    for (size_t i = 0; i < STI_COUNT(generators); i++)
        if (sti_config_is(c, "states.kind", generators[i].kind)) s->how = &generators[i];
    STI_TRY(plan(c, s));
    t->vocab = s->vocab;
    t->length = STI_MAX(s->max, s->eval_max);
    return STRATA_OK;
}

static void destroy(sti_task *t)
{
    states *s = t->data;
    if (!s) return;
    sti_group_free(&s->group);
    sti_heap_free(s->gap_mass);
    sti_heap_free(s);
    t->data = NULL;
}

static strata_status load(sti_task *t, sti_task_use use, const char *const *path, int32_t npath, int64_t time)
{
    (void)use;
    (void)path;
    (void)npath;
    if (time == t->length) return STRATA_OK;
    return sti_fail(STRATA_E_SPEC, "the model has context=%lld, but sequences of up to %lld tokens are asked for",
                    (long long)time, (long long)t->length);
}

/* ---- sequences ------------------------------------------------------------------------------------------------ */
static void sequence(const states *s, uint64_t seed, int stream, uint64_t number, int64_t time, int32_t *tokens,
                     int32_t *targets)
{
    dice d = { seed, (uint64_t)stream, number << DRAWS };
    const int64_t n = stream == EVAL ? between(&d, s->eval_min, s->eval_max) : between(&d, s->min, s->max);
    for (int64_t i = 0; i < time; i++) {
        tokens[i] = s->how->pad;
        targets[i] = -1;
    }
    s->how->make(s, &d, n, tokens, targets);
}

static void batch(const sti_task *t, uint64_t seed, int64_t index, int64_t nbatch, int64_t time, int32_t *tokens,
                  int32_t *targets)
{
#pragma omp parallel for num_threads(sti_threads_for(t->ctx, nbatch *time, 1024))
    for (int64_t b = 0; b < nbatch; b++)
        sequence(t->data, seed, TRAIN, (uint64_t)(index * nbatch + b), time, tokens + b * time, targets + b * time);
}

static int64_t eval_windows(const sti_task *t, int64_t time)
{
    (void)time;
    return ((const states *)t->data)->eval_sequences;
}

static void eval_window(const sti_task *t, int64_t window, int64_t time, int32_t *tokens, int32_t *targets)
{
    const states *s = t->data;
    sequence(s, s->eval_seed, EVAL, (uint64_t)window, time, tokens, targets);
}

/* ---- measures ------------------------------------------------------------------------------------------------- */
typedef struct score {
    double *right, *asked; /* (time) */
    int64_t time;
} score;

static void score_destroy(void *p)
{
    score *s = p;
    if (!s) return;
    sti_heap_free(s->right);
    sti_heap_free(s);
}

static strata_status score_create(const sti_task *t, int64_t time, void **out)
{
    (void)t;
    score *s = sti_heap(sizeof *s);
    if (s) s->right = sti_heap(2 * (size_t)time * sizeof *s->right);
    if (!s || !s->right) {
        score_destroy(s);
        return sti_fail(STRATA_E_MEMORY, "out of memory");
    }
    s->asked = s->right + time;
    s->time = time;
    *out = s;
    return STRATA_OK;
}

static void score_answer(const sti_task *t, void *p, const sti_task_answer *a)
{
    score *s = p;
    for (int64_t i = 0; i < a->time; i++) {
        if (a->targets[i] < 0) continue;
        const float *logit = a->out + i * t->vocab;
        int64_t best = 0;
        for (int64_t v = 1; v < t->vocab; v++)
            if (logit[v] > logit[best]) best = v;
        s->right[i] += best == a->targets[i];
        s->asked[i] += 1;
    }
}

static strata_status score_measure(const sti_task *t, const void *p, bool whole, strata_measures *m)
{
    const states *x = t->data;
    const score *s = p;
    double right = 0, asked = 0;
    for (int64_t i = 0; i < s->time; i++) {
        right += s->right[i];
        asked += s->asked[i];
    }
    const double accuracy = right / asked, scaled = (accuracy - x->chance) / (1 - x->chance);
    STI_TRY(sti_measures_add(m, "accuracy", "part of the answers that are right", 1, &accuracy));
    STI_TRY(sti_measures_add(m, "scaled_accuracy", "the same, 0 for guessing and 1 for all", 1, &scaled));
    if (!whole) return STRATA_OK;
    double *at = sti_heap((size_t)s->time * sizeof *at);
    if (!at) return sti_fail(STRATA_E_MEMORY, "out of memory");
    for (int64_t i = 0; i < s->time; i++) at[i] = s->asked[i] > 0 ? s->right[i] / s->asked[i] : (double)NAN;
    strata_status st = sti_measures_add(m, "accuracy_at", "accuracy of the answers at each position", s->time, at);
    sti_heap_free(at);
    return st;
}

const sti_task_class sti_task_class_states = {
    .kind = "states",
    .summary = "small synthetic sequences that need a state or a memory: parity, counting, groups, recall",
    .unit = "token",
    .keys = STI_KEYS(keys),
    .no_files = true,
    .create = create,
    .destroy = destroy,
    .load = load,
    .batch = batch,
    .eval_windows = eval_windows,
    .eval_window = eval_window,
    .score_create = score_create,
    .score_answer = score_answer,
    .score_measure = score_measure,
    .score_destroy = score_destroy,
};
