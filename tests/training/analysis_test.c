/* Attention seen on data, against a second formulation: the first layer in f64 from the parameters of a checkpoint, its
 * scores written out for every scoring, and all means taken over whole matrices. */

#include <strata/analysis.h>

#include "training/training.h"

enum { N = 16, D = 16, H = 2, R = 8, LEVELS = 3, OFFSETS = 2, BLOCK = 4 };

typedef struct scoring {
    const char *spec;
    int levels;
    int rank[LEVELS];
    /* the share of level l (from 0) in the score of (i, j), without the dot product; 0: not covered */
    double (*factor)(int l, int i, int j);
    int softmaxes; /* 2: level 1 has a softmax of its own */
} scoring;

static double standard(int l, int i, int j)
{
    return l == 0 && j <= i ? 1 / sqrt(R) : 0;
}
static double window(int l, int i, int j)
{
    return l == 0 && j <= i && i - j <= 4 ? 1 / sqrt(R) : 0;
}
static double gswa(int l, int i, int j)
{
    return j <= i && (l == 0 || (l == 1 && i - j <= 3)) ? 1 / sqrt(4) : 0;
}
static double counted(int l, int i, int j)
{
    const int same8 = i / 8 == j / 8, same4 = i / 4 == j / 4, rank[] = { 4, 2, 2 };
    const int covered[] = { 1, same8, same4 };
    return j <= i && covered[l] ? 1.0 / rank[l] / (1 + same8 + same4) : 0;
}
static double distances(int l, int i, int j)
{
    return j <= i && (l == 0 || (l == 1 && i - j < 8)) ? 0.25 : 0;
}

static const scoring scorings[] = {
    { "score=standard", 1, { 8 }, standard, 1 },
    { "score=window window=4", 1, { 8 }, window, 1 },
    { "score=gswa ranks=4,4 window=3", 2, { 4, 4 }, gswa, 2 },
    { "score=mlr ranks=4,2,2 gain=count", 3, { 4, 2, 2 }, counted, 1 },
    { "score=mlr ranks=4,4 depth=distance", 2, { 4, 4 }, distances, 1 },
};

static void near(double got, double want, const char *spec, const char *what)
{
    /* q and k went through f32: sums of 16 products of numbers of order 10, divided by at least 2, amplified by at most
     * |k| in a score and passed on by a softmax whose Lipschitz constant is 1 */
    const double bound = 2e-4 * (1 + fabs(want));
    if (!(fabs(got - want) <= bound)) FAIL("%s: %s is %.9g, not %.9g", spec, what, got, want);
    if (fabs(got + 100 * bound - want) <= bound) FAIL("the bound says nothing");
}

/* ---- the model, in f64 ---------------------------------------------------------------------------------------- */
static const float *param(const strata_model *m, const char *name)
{
    for (int32_t i = 0; i < strata_model_param_count(m); i++) {
        strata_param_info info;
        CHECK_OK(strata_model_param(m, i, &info));
        if (!strcmp(info.name, name)) return (const float *)strata_model_params(m) + info.offset;
    }
    FAIL("no parameter %s", name);
}

static void project(const float *w, double x[N][D], double y[N][D])
{
    for (int t = 0; t < N; t++)
        for (int i = 0; i < D; i++) {
            y[t][i] = 0;
            for (int j = 0; j < D; j++) y[t][i] += (double)w[i * D + j] * x[t][j];
        }
}

static void queries_and_keys(const strata_model *m, const char *text, double q[N][D], double k[N][D])
{
    const float *embed = param(m, "embed.weight"), *pos = param(m, "pos.weight"),
                *gain = param(m, "blocks.0.norm1.weight");
    double x[N][D];
    for (int t = 0; t < N; t++) {
        const int id = text[t] == '\n' ? 0 : text[t] - 31;
        double mean = 0, var = 0;
        for (int i = 0; i < D; i++) mean += (x[t][i] = (double)embed[id * D + i] + (double)pos[t * D + i]) / D;
        for (int i = 0; i < D; i++) var += (x[t][i] - mean) * (x[t][i] - mean) / D;
        for (int i = 0; i < D; i++) x[t][i] = (x[t][i] - mean) / sqrt(var + 1e-5) * (double)gain[i];
    }
    project(param(m, "blocks.0.mixer.q.weight"), x, q);
    project(param(m, "blocks.0.mixer.k.weight"), x, k);
}

/* ---- what to expect --------------------------------------------------------------------------------------------- */
typedef struct expected {
    double mass[8], uniform[8], keys, distance, score, level[LEVELS], rank[OFFSETS], entropy[OFFSETS],
        energy[OFFSETS][2];
} expected;

static double variance(const double *x, int n)
{
    double mean = 0, var = 0;
    for (int i = 0; i < n; i++) mean += x[i] / n;
    for (int i = 0; i < n; i++) var += (x[i] - mean) * (x[i] - mean) / n;
    return var;
}

static double dot(const scoring *s, int l, const double *q, const double *k)
{
    double sum = 0;
    int at = 0;
    for (int i = 0; i < l; i++) at += s->rank[i];
    for (int d = at; d < at + s->rank[l]; d++) sum += q[d] * k[d];
    return sum;
}

/* The score of the softmax that begins with level `first`. */
static double score(const scoring *s, int first, const double *q, const double *k, int i, int j)
{
    double sum = 0;
    for (int l = first; l < (s->softmaxes == 2 ? first + 1 : s->levels); l++)
        sum += s->factor(l, i, j) * dot(s, l, q, k);
    return sum;
}

/* Rows of one head; *rows counts rows of more than one key, of scores and of each level. */
static void expect_rows(const scoring *s, double q[N][D], double k[N][D], int h, expected *e, double rows[1 + LEVELS])
{
    for (int first = 0; first < s->softmaxes; first++)
        for (int i = 0; i < N; i++) {
            double p[N], x[N], sum = 0, mean = 0, entropy = 0;
            int n = 0, seen[N];
            for (int j = 0; j < N; j++) {
                if (!(s->factor(first, i, j) > 0)) continue;
                seen[n] = j;
                x[n] = score(s, first, &q[i][h * R], &k[j][h * R], i, j);
                sum += p[n] = exp(x[n]);
                n++;
            }
            for (int a = 0; a < n; a++) {
                int bin = 0;
                while (i - seen[a] >= 1 << bin) bin++;
                p[a] /= sum;
                e->mass[bin] += p[a] / s->softmaxes / (H * N);
                e->uniform[bin] += 1.0 / n / s->softmaxes / (H * N);
                mean += p[a] * (i - seen[a]);
                entropy -= p[a] * log(p[a]);
            }
            e->keys += exp(entropy) / s->softmaxes / (H * N);
            e->distance += mean / s->softmaxes / (H * N);
            if (n > 1) {
                e->score += variance(x, n);
                rows[0]++;
            }
        }
    for (int l = 0; l < s->levels; l++)
        for (int i = 0; i < N; i++) {
            double x[N];
            int n = 0;
            for (int j = 0; j < N; j++)
                if (s->factor(l, i, j) > 0) x[n++] = s->factor(l, i, j) * dot(s, l, &q[i][h * R], &k[j][h * R]);
            if (n < 2) continue;
            e->level[l] += variance(x, n);
            rows[1 + l]++;
        }
}

/* Singular values of a small matrix: its columns made orthogonal, pair by pair. */
static void singular(double a[BLOCK][BLOCK], double *s)
{
    for (int sweep = 0; sweep < 60; sweep++)
        for (int p = 0; p < BLOCK; p++)
            for (int q = p + 1; q < BLOCK; q++) {
                double pp = 0, qq = 0, pq = 0;
                for (int i = 0; i < BLOCK; i++) {
                    pp += a[i][p] * a[i][p];
                    qq += a[i][q] * a[i][q];
                    pq += a[i][p] * a[i][q];
                }
                const double angle = 0.5 * atan2(2 * pq, pp - qq), c = cos(angle), sn = sin(angle);
                for (int i = 0; i < BLOCK; i++) {
                    const double x = a[i][p], y = a[i][q];
                    a[i][p] = c * x + sn * y;
                    a[i][q] = c * y - sn * x;
                }
            }
    for (int p = 0; p < BLOCK; p++) {
        s[p] = 0;
        for (int i = 0; i < BLOCK; i++) s[p] += a[i][p] * a[i][p];
    }
}

static int descending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Every block at every offset of 1 and 2 blocks; rank is NaN where one is masked. energy: the least and the largest
 * rank that 99 % can mean when sums are known to 1e-4 only. */
static void expect_ranks(const scoring *s, double q[N][D], double k[N][D], expected *e)
{
    for (int o = 0; o < OFFSETS; o++) {
        const int offset = 1 << o;
        double n = 0;
        for (int h = 0; h < H; h++)
            for (int row = offset; row < N / BLOCK; row++) {
                double a[BLOCK][BLOCK], v[BLOCK], sum = 0, entropy = 0;
                bool masked = false;
                for (int i = 0; i < BLOCK; i++)
                    for (int j = 0; j < BLOCK; j++) {
                        const int y = row * BLOCK + i, x = (row - offset) * BLOCK + j;
                        masked = masked || !(s->factor(0, y, x) > 0);
                        a[i][j] = score(s, 0, &q[y][h * R], &k[x][h * R], y, x);
                    }
                if (masked) continue;
                singular(a, v);
                qsort(v, BLOCK, sizeof *v, descending);
                for (int i = 0; i < BLOCK; i++) sum += v[i];
                for (int i = 0; i < BLOCK; i++)
                    if (v[i] > 1e-12 * v[0]) entropy -= v[i] / sum * log(v[i] / sum);
                for (int side = 0; side < 2; side++) {
                    double part = 0;
                    int rank = 0;
                    while (part < (side ? 0.9901 : 0.9899) * sum) part += v[rank++];
                    e->energy[o][side] += rank;
                }
                e->entropy[o] += exp(entropy);
                n++;
            }
        e->entropy[o] /= n;
        e->energy[o][0] /= n;
        e->energy[o][1] /= n;
    }
}

/* ---- the tests -------------------------------------------------------------------------------------------------- */
static void train(strata_context *ctx, const char *spec, int layers)
{
    char text[256];
    snprintf(text, sizeof text, "decoder layers=%d width=%d context=%d mixers=softmax(heads=%d %s)", layers, D, N, H,
             spec);
    const char *data = test_text("t.txt", 2000);
    strata_config *c =
        test_config(ctx, PAIRS("model.spec", text, "train.steps", "60", "train.eval_every", "0", "train.lr", "1e-3"));
    test_remove(test_path("run"));
    CHECK_OK(strata_train(ctx, c, &data, 1, test_path("run"), NULL, NULL));
    strata_config_destroy(c);
}

static void against_definitions(void)
{
    strata_context *ctx = test_context();
    for (size_t n = 0; n < sizeof scorings / sizeof *scorings; n++) {
        const scoring *s = &scorings[n];
        strata_model *m = NULL;
        strata_analysis *a = NULL;
        strata_attention_measures got = { .size = sizeof got };
        expected e = { .keys = 0 };
        double q[N][D], k[N][D], rows[1 + LEVELS] = { 0 };
        train(ctx, s->spec, 1);
        char *text = test_get(test_path("t.txt"), NULL);
        test_put(test_path("one.txt"), text, N + 1); /* one window */
        const char *one = test_path("one.txt");
        const strata_analysis_config how = { .size = sizeof how, .blocks = 100 };
        CHECK_OK(strata_model_load(ctx, test_path("run"), 0, &m));
        CHECK_OK(strata_analysis_create(ctx, test_path("run"), &one, 1, &how, &a));
        CHECK_INT(strata_analysis_count(a), 1);
        CHECK_OK(strata_analysis_at(a, 0, &got));
        queries_and_keys(m, text, q, k);
        for (int h = 0; h < H; h++) expect_rows(s, q, k, h, &e, rows);
        expect_ranks(s, q, k, &e);

        CHECK_INT(got.bins, 5); /* 0, 1, 2-3, 4-7, 8-15 */
        CHECK_INT(got.levels, s->levels);
        for (int b = 0; b < 5; b++) {
            near(got.mass[b], e.mass[b], s->spec, "mass");
            near(got.uniform[b], e.uniform[b], s->spec, "uniform");
        }
        near(got.keys, e.keys, s->spec, "keys");
        near(got.distance, e.distance, s->spec, "distance");
        near(got.score, sqrt(e.score / rows[0]), s->spec, "score");
        CHECK(got.score > 1e-2); /* there is something to see */
        for (int l = 0; l < s->levels; l++) near(got.level[l], sqrt(e.level[l] / rows[1 + l]), s->spec, "level");
        CHECK_INT(got.block, BLOCK);
        CHECK_INT(got.offsets, OFFSETS);
        for (int o = 0; o < OFFSETS; o++) {
            CHECK_INT(got.offset[o], 1 << o);
            CHECK(isnan(got.rank[o]) == isnan(e.entropy[o]) && isnan(got.entropy_rank[o]) == isnan(e.entropy[o]));
            if (isnan(e.entropy[o])) continue;
            near(got.entropy_rank[o], e.entropy[o], s->spec, "entropy rank");
            CHECK(got.rank[o] >= e.energy[o][0] - 1e-9 && got.rank[o] <= e.energy[o][1] + 1e-9);
        }
        strata_analysis_destroy(a);
        strata_model_destroy(m);
        free(text);
    }
    strata_context_destroy(ctx);
    test_clean();
}

/* Shares by counting pairs; the cache as strata cost has it. */
static void closed_forms(void)
{
    strata_context *ctx = test_context();
    for (size_t n = 0; n < sizeof scorings / sizeof *scorings; n++) {
        const scoring *s = &scorings[n];
        strata_model *m = NULL;
        train(ctx, s->spec, 2);
        CHECK_OK(strata_model_load(ctx, test_path("run"), 0, &m));
        CHECK_INT(strata_model_attention_count(m), 2);
        for (int length = 1; length <= N; length += 5) {
            strata_attention_layer l = { .size = sizeof l };
            strata_cost cost = { .size = sizeof cost };
            double pairs[LEVELS] = { 0 }, all = 0, active = 0;
            CHECK_OK(strata_model_attention(m, 1, length, &l));
            CHECK_OK(strata_model_cost(m, length, &cost));
            CHECK(l.levels == s->levels && l.d_qk == R && l.heads == H && l.causal);
            for (int k = 0; k < s->levels; k++)
                for (int i = 0; i < length; i++)
                    for (int j = 0; j <= i; j++) pairs[k] += s->factor(k, i, j) > 0;
            for (int k = 0; k < s->levels; k++) all = fmax(all, pairs[k]);
            for (int k = 0; k < s->levels; k++) {
                CHECK_INT(l.level[k].rank, s->rank[k]);
                CHECK(fabs(l.level[k].share - pairs[k] / all) < 1e-14);
                active += s->rank[k] * pairs[k] / all;
            }
            CHECK(fabs(l.active_rank - active) < 1e-12);
            CHECK(fabs(2 * l.cache_bytes - cost.cache_bytes) < 1e-6 * cost.cache_bytes);
        }
        strata_attention_layer l = { .size = sizeof l };
        CHECK_STATUS(strata_model_attention(m, 2, 0, &l), STRATA_E_INVALID);
        CHECK_STATUS(strata_model_attention(m, 0, -1, &l), STRATA_E_INVALID);
        CHECK_OK(strata_model_attention(m, 0, 0, &l));
        strata_model_destroy(m);
    }
    strata_context_destroy(ctx);
    test_clean();
}

/* The same bits with other threads; windows that are filled up; what is refused. */
static void calls(void)
{
    strata_context *ctx = test_context(), *two = NULL;
    strata_analysis *a = NULL, *b = NULL;
    strata_attention_measures x = { .size = sizeof x }, y = { .size = sizeof y };
    CHECK_OK(strata_context_create("threads=3", NULL, &two));
    train(ctx, "score=mlr levels=2", 2);
    CHECK_OK(strata_analysis_create(ctx, test_path("run"), NULL, 0, NULL, &a));
    CHECK_OK(strata_analysis_create(two, test_path("run"), NULL, 0, NULL, &b));
    CHECK_INT(strata_analysis_count(a), 2);
    for (int i = 0; i < 2; i++) {
        double sum = 0;
        CHECK_OK(strata_analysis_at(a, i, &x));
        CHECK_OK(strata_analysis_at(b, i, &y));
        CHECK(x.keys >= y.keys && x.keys <= y.keys && !memcmp(x.mass, y.mass, (size_t)x.bins * sizeof *x.mass));
        for (int k = 0; k < x.bins; k++) sum += x.mass[k];
        CHECK(fabs(sum - 1) < 1e-12);
    }
    CHECK_STATUS(strata_analysis_at(a, 2, &x), STRATA_E_INVALID);
    strata_analysis_destroy(a);
    strata_analysis_destroy(b);
    test_put(test_path("short.txt"), "the quick", 9);
    const char *data = test_path("short.txt");
    CHECK_OK(strata_analysis_create(ctx, test_path("run"), &data, 1, NULL, &a));
    CHECK_OK(strata_analysis_at(a, 0, &x));
    CHECK(x.mass[4] < 1e-12 && x.uniform[4] < 1e-12); /* eight positions have no distance of eight */
    strata_analysis_destroy(a);
    CHECK_STATUS(strata_analysis_create(ctx, test_path("none"), NULL, 0, NULL, &a), STRATA_E_IO);
    CHECK(a == NULL);
    CHECK_STATUS(strata_analysis_create(ctx, NULL, NULL, 0, NULL, &a), STRATA_E_INVALID);
    const strata_analysis_config bad = { .size = sizeof bad, .queries = -1 };
    CHECK_STATUS(strata_analysis_create(ctx, test_path("run"), NULL, 0, &bad, &a), STRATA_E_INVALID);
    CHECK_INT(strata_analysis_count(NULL), 0);
    strata_context_destroy(ctx);
    strata_context_destroy(two);
    test_clean();
}

TESTS(T(against_definitions), T(closed_forms), T(calls))
