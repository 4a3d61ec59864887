/* Every generator against a second reading of its rules, and a run. */

#include "task/registry.h"
#include "task/states/group.h"
#include "training/training.h"

static strata_config *config(const strata_context *ctx, const char *const *pair)
{
    strata_config *c = NULL;
    CHECK_OK(strata_config_create(ctx, "states", &c));
    for (; pair && *pair; pair += 2) CHECK_OK(strata_config_set(c, pair[0], pair[1], "test"));
    return c;
}

static strata_status open_task(const strata_context *ctx, const char *const *pair, sti_task *t)
{
    strata_config *c = config(ctx, pair);
    strata_status st = sti_task_create(ctx, c, t);
    if (st == STRATA_OK) CHECK_OK(t->cls->load(t, STI_TASK_TRAIN, NULL, 0, t->length));
    strata_config_destroy(c);
    return st;
}

/* ---- regular languages ---------------------------------------------------------------------------------------- */
static int64_t parity(const int32_t *t, int64_t n)
{
    int64_t odd = 0;
    for (int64_t i = 0; i < n; i++) odd ^= t[i] - 1;
    return odd ? 2 : 1;
}

static int64_t pairs(const int32_t *t, int64_t n)
{
    int64_t changes = 0;
    for (int64_t i = 1; i < n; i++) changes += t[i] != t[i - 1];
    return changes % 2 ? 2 : 1;
}

static int64_t walk(const int32_t *t, int64_t n) /* vocab 10, step 1: a cycle of six */
{
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        CHECK(t[i] >= 1 && t[i] <= 3);
        at = (at + (t[i] == 2 ? 1 : t[i] == 3 ? 5 : 0)) % 6;
    }
    return at + 4;
}

static int64_t wide_walk(const int32_t *t,
                         int64_t n) /* vocab 13, step 3: a cycle of five; 1 … 7 mean 0 1 2 3 -1 -2 -3 */
{
    static const int64_t move[] = { 0, 0, 1, 2, 3, 4, 3, 2 };
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        CHECK(t[i] >= 1 && t[i] <= 7);
        at = (at + move[t[i]]) % 5;
    }
    return at + 8;
}

static int64_t sums(const int32_t *t, int64_t n) /* products first, on a stack of terms */
{
    int64_t term[256], terms = 0, total = 0;
    CHECK_INT(t[n - 1], 4);
    for (int64_t i = 0; i < n - 1; i += 2) {
        CHECK(t[i] >= 5 && t[i] < 10);
        const int op = i ? t[i - 1] : 1;
        CHECK(op >= 1 && op <= 3);
        if (op == 3)
            term[terms - 1] = term[terms - 1] * (t[i] - 5) % 5;
        else
            term[terms++] = op == 1 ? t[i] - 5 : 5 - (t[i] - 5);
    }
    for (int64_t i = 0; i < terms; i++) total += term[i];
    return 5 + total % 5;
}

/* value := digit | '-' digit | '(' value [op value] ')' */
static int64_t value(const int32_t **t)
{
    int64_t a;
    if (**t == 8) {
        ++*t;
        a = value(t);
        if (**t != 9) {
            const int op = *(*t)++;
            CHECK(op >= 5 && op <= 7);
            const int64_t b = value(t);
            a = op == 5 ? a + b : op == 6 ? a + 5 - b : a * b;
        }
        CHECK_INT(*(*t)++, 9);
    } else {
        const bool minus = **t == 6;
        *t += minus;
        CHECK(**t >= 0 && **t < 5);
        a = minus ? 5 - *(*t)++ : *(*t)++;
    }
    return a % 5;
}

static int64_t bracketed(const int32_t *t, int64_t n)
{
    const int32_t *p = t;
    CHECK_INT(t[n - 1], 10);
    const int64_t v = value(&p);
    CHECK(p == t + n - 1);
    return v;
}

static void regular_languages(void)
{
    static const struct {
        const char *kind, *vocab, *step;
        int64_t (*answer)(const int32_t *, int64_t);
        int64_t tokens, answers, pad, extra; /* extra: padding between the answer and the length that was drawn */
        bool odd;
    } kinds[] = {
        { "parity", "0", "1", parity, 3, 2, 0, 0, false },   { "pairs", "0", "1", pairs, 3, 2, 0, 0, false },
        { "cycle", "0", "1", walk, 10, 6, 0, 0, false },     { "cycle", "13", "3", wide_walk, 13, 5, 0, 0, false },
        { "arithmetic", "0", "1", sums, 10, 5, 0, 0, true }, { "brackets", "0", "1", bracketed, 12, 5, 11, 1, false },
    };
    enum { T = 60, MIN = 5, MAX = 23, S = 3000 };
    strata_context *ctx = test_context();
    for (size_t k = 0; k < STI_COUNT(kinds); k++) {
        sti_task t;
        int32_t tokens[T], targets[T];
        int64_t length[T + 1] = { 0 }, answer[16] = { 0 };
        CHECK_OK(open_task(ctx,
                           PAIRS("states.kind", kinds[k].kind, "states.vocab", kinds[k].vocab, "states.step",
                                 kinds[k].step, "states.min", "5", "states.max", "23", "states.eval_min", "23",
                                 "states.eval_max", "60", "states.multiply", "1"),
                           &t));
        CHECK_INT(t.vocab, kinds[k].tokens);
        CHECK_INT(t.length, T);
        for (int64_t s = 0; s < S; s++) {
            t.cls->batch(&t, 1, s, 1, T, tokens, targets);
            int64_t at = -1;
            for (int64_t i = 0; i < T; i++)
                if (targets[i] >= 0) {
                    CHECK_INT(at, -1);
                    at = i;
                }
            const int64_t n = at + 2 + kinds[k].extra; /* the answer is the token after the one that is asked */
            CHECK(n >= MIN && n <= MAX && (!kinds[k].odd || n % 2));
            CHECK_INT(targets[at], tokens[at + 1]);
            CHECK_INT(targets[at], kinds[k].answer(tokens, at + 1));
            for (int64_t i = at + 2; i < T; i++) CHECK_INT(tokens[i], kinds[k].pad);
            length[n]++;
            answer[targets[at] % 16]++;
        }
        int seen = 0;
        for (int i = 0; i < 16; i++) seen += answer[i] > S / kinds[k].answers / 2;
        CHECK_INT(seen, kinds[k].answers); /* every answer comes, about equally often */
        for (int64_t n = MIN; n <= MAX; n++) CHECK(kinds[k].odd && n % 2 == 0 ? length[n] == 0 : length[n] > 90);

        int64_t shortest = T, longest = 0;
        for (int64_t w = 0; w < t.cls->eval_windows(&t, T); w++) {
            t.cls->eval_window(&t, w, T, tokens, targets);
            for (int64_t i = 0; i < T; i++)
                if (targets[i] >= 0) {
                    shortest = STI_MIN(shortest, i + 2 + kinds[k].extra);
                    longest = STI_MAX(longest, i + 2 + kinds[k].extra);
                }
        }
        CHECK_INT(shortest, 23);
        CHECK(longest >= T - 1 && longest <= T);
        sti_task_destroy(&t);
    }
    strata_context_destroy(ctx);
}

/* ---- groups --------------------------------------------------------------------------------------------------- */
static void groups(void)
{
    static const struct {
        const char *name, *letters;
        int order, count, commute; /* commute: 1 when it is abelian */
    } known[] = {
        { "s2", "all", 2, 2, 1 },      { "s3", "all", 6, 6, 0 },      { "s4", "swaps", 24, 7, 0 },
        { "s5", "all", 120, 120, 0 },  { "s5", "swaps", 120, 11, 0 }, { "s5", "cycles", 120, 20, 0 },
        { "a3", "all", 3, 3, 1 },      { "a4", "all", 12, 12, 0 },    { "a5", "cycles", 60, 20, 0 },
        { "a4xz5", "all", 60, 60, 0 }, { "z60", "all", 60, 60, 1 },   { "z256", "all", 256, 256, 1 },
    };
    for (size_t k = 0; k < STI_COUNT(known); k++) {
        sti_group g;
        CHECK_OK(sti_group_create(known[k].name, known[k].letters, &g));
        const int n = g.order;
        int commuting = 1;
        CHECK_INT(n, known[k].order);
        CHECK_INT(g.letters, known[k].count);
        for (int a = 0; a < n; a++) {
            int seen[256] = { 0 };
            CHECK(g.product[a] == a && g.product[a * n] == a); /* 0 is the identity */
            for (int b = 0; b < n; b++) {
                seen[g.product[a * n + b]]++;
                commuting &= g.product[a * n + b] == g.product[b * n + a];
                for (int c = 0; c < n; c += 1 + n / 20)
                    CHECK(g.product[g.product[a * n + b] * n + c] == g.product[a * n + g.product[b * n + c]]);
            }
            for (int b = 0; b < n; b++) CHECK_INT(seen[b], 1); /* so it has inverses */
        }
        CHECK_INT(commuting, known[k].commute);
        if (strcmp(known[k].name, "s3") == 0) CHECK_INT(g.product[1 * 6 + 2], 4); /* 021 after 102 is 201 */
        if (*known[k].name == 'z') CHECK_INT(g.product[(n - 1) * n + 2], 1);
        sti_group_free(&g);
    }
    sti_group g;
    static const char *const bad[] = { "s6", "a2", "z1", "z257", "s", "", "d4", "s3x" };
    for (size_t i = 0; i < STI_COUNT(bad); i++) CHECK_STATUS(sti_group_create(bad[i], "all", &g), STRATA_E_SPEC);
    CHECK_STATUS(sti_group_create("z60", "swaps", &g), STRATA_E_SPEC);
    CHECK_STATUS(sti_group_create("a4xz5", "cycles", &g), STRATA_E_SPEC);
    CHECK_STATUS(sti_group_create("a5", "swaps", &g), STRATA_E_SPEC); /* the identity alone */

    strata_context *ctx = test_context();
    sti_task t;
    enum { T = 9 };
    int32_t tokens[T], targets[T];
    CHECK_OK(open_task(
        ctx, PAIRS("states.kind", "group", "states.group", "s4", "states.max", "6", "states.eval_max", "9"), &t));
    CHECK_OK(sti_group_create("s4", "all", &g));
    for (int64_t s = 0; s < 50; s++) {
        t.cls->batch(&t, 1, s, 1, T, tokens, targets);
        int product = 0;
        for (int i = 0; i < T; i++) {
            product = g.product[product * 24 + tokens[i]];
            CHECK_INT(targets[i], i < 6 ? product : -1);
        }
        t.cls->eval_window(&t, s, T, tokens, targets);
        for (int i = 0; i < T; i++) CHECK(targets[i] >= 0);
    }
    sti_group_free(&g);
    sti_task_destroy(&t);
    strata_context_destroy(ctx);
}

/* ---- recall --------------------------------------------------------------------------------------------------- */
static void recall(void)
{
    enum { T = 32, N = 5, PASSES = 2, SHOWN = 2 * N * PASSES, V = 64 };
    strata_context *ctx = test_context();
    sti_task t;
    int32_t tokens[T], targets[T];
    const char *const *const how[] = {
        PAIRS("states.kind", "recall", "states.length", "32", "states.pairs", "5", "states.passes", "2", "states.vocab",
              "64", "states.fill", "0"),
        PAIRS("states.kind", "recall", "states.length", "32", "states.pairs", "5", "states.passes", "2", "states.vocab",
              "64"),
    };
    for (int fill = 0; fill < 2; fill++) {
        int64_t strays = 0;
        CHECK_OK(open_task(ctx, how[fill], &t));
        CHECK_INT(t.vocab, V);
        for (int64_t s = 0; s < 400; s++) {
            t.cls->batch(&t, 1, s, 1, T, tokens, targets);
            int asked[N] = { 0 };
            for (int i = 0; i < N; i++) {
                CHECK(tokens[2 * i] >= 1 && tokens[2 * i] < V / 2);
                CHECK(tokens[2 * i + 1] >= V / 2 && tokens[2 * i + 1] < V);
                for (int j = 0; j < i; j++)
                    CHECK(tokens[2 * i] != tokens[2 * j] && tokens[2 * i + 1] != tokens[2 * j + 1]);
            }
            CHECK(memcmp(tokens, tokens + 2 * N, 2 * N * sizeof *tokens) == 0);
            for (int i = 0; i < T; i++) {
                if (targets[i] < 0) {
                    strays += i >= SHOWN && tokens[i] != 0;
                    continue;
                }
                CHECK(i >= SHOWN && (i - SHOWN) % 2 == 0);
                int k = 0;
                while (k < N && tokens[2 * k] != tokens[i]) k++;
                CHECK(k < N);
                CHECK_INT(targets[i], tokens[2 * k + 1]);
                asked[k]++;
            }
            for (int i = 0; i < N; i++) CHECK_INT(asked[i], 1);
        }
        CHECK(fill ? strays > 2000 : strays == 0);
        sti_task_destroy(&t);
    }

    /* where the only query stands: weight (g+1)^(a-1) of gap g */
    enum { SLOTS = 15, S = 20000 };
    int64_t count[SLOTS] = { 0 };
    double sum = 0;
    CHECK_OK(open_task(ctx,
                       PAIRS("states.kind", "recall", "states.length", "32", "states.pairs", "1", "states.power", "0.3",
                             "states.vocab", "64"),
                       &t));
    for (int64_t s = 0; s < S; s++) {
        t.cls->batch(&t, 1, s, 1, T, tokens, targets);
        for (int i = 0; i < T; i++)
            if (targets[i] >= 0) count[(i - 2) / 2]++;
    }
    for (int g = 0; g < SLOTS; g++) sum += pow(g + 1, -0.7);
    for (int g = 0; g < SLOTS; g++) {
        const double p = pow(g + 1, -0.7) / sum;
        CHECK(fabs((double)count[g] - S * p) < 5 * sqrt(S * p * (1 - p)));
    }
    sti_task_destroy(&t);

    /* as many queries as slots, and the sizes of the source */
    CHECK_OK(open_task(
        ctx, PAIRS("states.kind", "recall", "states.length", "20", "states.pairs", "5", "states.vocab", "64"), &t));
    t.cls->batch(&t, 1, 0, 1, 20, tokens, targets);
    for (int g = 0; g < 5; g++) CHECK(targets[10 + 2 * g] >= 0);
    sti_task_destroy(&t);
    CHECK_OK(open_task(ctx, PAIRS("states.kind", "recall"), &t));
    CHECK_INT(t.vocab, 8192);
    CHECK_INT(t.length, 64);
    sti_task_destroy(&t);
    strata_context_destroy(ctx);
}

/* ---- a run ---------------------------------------------------------------------------------------------------- */
static void learns(void)
{
    strata_context *ctx = test_context();
    strata_config *c =
        config(ctx, PAIRS("model.spec", "decoder layers=2 width=32 mixers=softmax(heads=2)", "states.kind", "pairs",
                          "states.min", "2", "states.max", "6", "states.eval_min", "2", "states.eval_max", "6",
                          "states.eval_sequences", "200", "train.steps", "120", "train.batch", "32", "train.eval_every",
                          "60", "train.warmup", "10", "train.lr", "1e-3"));
    CHECK_OK(strata_train(ctx, c, NULL, 0, test_path("run"), NULL, NULL));
    strata_config_destroy(c);
    strata_eval_result e = { .size = STRATA_INIT(strata_eval_result) };
    CHECK_OK(strata_evaluate(ctx, test_path("run"), 0, NULL, 0, &e));
    CHECK_STR(e.unit, "token");
    CHECK_INT(e.tokens, 200);
    strata_measure m[3];
    CHECK_INT(strata_measures_count(e.measures), 3);
    for (int i = 0; i < 3; i++) CHECK_OK(strata_measures_at(e.measures, i, &m[i]));
    CHECK_STR(m[0].name, "accuracy");
    if (!(m[0].value[0] > 0.9)) FAIL("accuracy %g, loss %g", m[0].value[0], e.nats);
    CHECK(fabs(m[1].value[0] - (2 * m[0].value[0] - 1)) < 1e-12);
    CHECK_INT(m[2].count, 6);
    CHECK(m[2].value[0] > 0.5 && isnan(m[2].value[5]));
    strata_measures_destroy(e.measures);
    char *rows = test_get(test_path("run/metrics.jsonl"), NULL);
    CHECK(strstr(rows, "\"accuracy\":") && !strstr(rows, "accuracy_at"));
    free(rows);
    strata_context_destroy(ctx);
    test_clean();
}

static void refusals(void)
{
    const struct {
        const char *const *pair;
        const char *text;
    } bad[] = {
        { PAIRS("states.min", "41"), "least length above" },
        { PAIRS("states.vocab", "9"), "parity has its own" },
        { PAIRS("states.kind", "cycle", "states.vocab", "5"), "leave a cycle of 1" },
        { PAIRS("states.kind", "brackets", "states.min", "2", "states.max", "4"), "at least 5" },
        { PAIRS("states.kind", "group", "states.group", "m11"), "\"m11\" is no group" },
        { PAIRS("states.kind", "recall", "states.pairs", "17"), "no room" },
        { PAIRS("states.kind", "recall", "states.vocab", "8"), "fewer than 4 keys" },
    };
    strata_context *ctx = test_context();
    sti_task t;
    for (size_t i = 0; i < STI_COUNT(bad); i++) {
        CHECK_STATUS(open_task(ctx, bad[i].pair, &t), STRATA_E_SPEC);
        CHECK_ERROR_TEXT(bad[i].text);
    }
    CHECK_OK(open_task(ctx, NULL, &t));
    CHECK_STATUS(t.cls->load(&t, STI_TASK_TRAIN, NULL, 0, 128), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("context=128");
    sti_task_destroy(&t);
    strata_context_destroy(ctx);
}

TESTS(T(regular_languages), T(groups), T(recall), T(learns), T(refusals))
