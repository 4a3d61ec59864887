/* Attention seen on data: where its mass goes, of what rank the scores are, what each level adds. */

#include "train/analysis.h"

#include <math.h>
#include <string.h>

#include "backend/cpu/threads.h"
#include "core/device.h"
#include "core/philox.h"
#include "mixer/softmax/softmax.h"
#include "train/spectrum.h"

enum { BINS = 64, OFFSETS = 32, LEVELS = STRATA_ATTENTION_LEVELS };

typedef struct sums { /* of one head, or of all */
    double mass[BINS], uniform[BINS], keys, distance, rows;
    double rank[OFFSETS], entropy_rank[OFFSETS], blocks[OFFSETS];
    double score, score_rows, level[LEVELS], level_rows[LEVELS];
} sums;

typedef struct layer {
    const sti_stage *stage; /* of the trainer's plan */
    char *name;             /* owned */
    int32_t levels;
    sums sum;
} layer;

struct strata_analysis {
    layer *layer; /* owned */
    int32_t layers, bins, offsets;
    int64_t block, offset[OFFSETS];
};

/* ---- scores ------------------------------------------------------------------------------------------------- */
static bool covers(const sti_attention_shape *s, const sti_attention_part *p, int32_t l, int64_t i, int64_t j)
{
    const int64_t reach = p->level[l].reach;
    if (s->causal && j > i) return false;
    if (l > 0 && p->blocks) return i / reach == j / reach;
    return (i > j ? i - j : j - i) < reach;
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

double sti_score_of(const sti_scores *s, int32_t part, int64_t head, int64_t i, int64_t j, double *level)
{
    const sti_attention_shape *h = s->shape;
    const sti_attention_part *p = &h->part[part];
    const float *q = s->q + i * s->q_row + head * s->q_head + p->offset;
    const float *k = s->k + j * s->k_row + head * h->kv_heads / h->heads * s->k_head + p->offset;
    double own[STI_ATTENTION_LEVELS], *part_of = level ? level : own, sum = 0;
    int32_t depth = 0;
    if (!covers(h, p, 0, i, j)) return -HUGE_VAL;
    for (int32_t l = 0; l < p->levels; l++) {
        const int32_t rank = p->level[l].rank;
        part_of[l] = NAN;
        if (covers(h, p, l, i, j)) {
            part_of[l] = p->level[l].scale * dot(q, k, rank);
            sum += part_of[l];
            depth++;
        }
        q += rank;
        k += rank;
    }
    for (int32_t l = 0; l < p->levels; l++) part_of[l] *= p->gain[depth];
    const double slope = h->alibi ? exp2(-8.0 * (double)(head + 1) / (double)h->heads) : 0;
    return p->gain[depth] * sum - slope * (double)(i > j ? i - j : j - i);
}

/* ---- rows --------------------------------------------------------------------------------------------------- */
/* 0, 1, 2-3, 4-7, … */
static int bin_of(int64_t distance)
{
    int k = 0;
    while (distance > 0) {
        distance >>= 1;
        k++;
    }
    return k;
}

typedef struct spread {
    double sum, squares, n;
} spread;

static void spread_add(spread *v, double x)
{
    v->sum += x;
    v->squares += x * x;
    v->n++;
}

/* Adds a row's variance to a sum over rows; a row of one says nothing. */
static void spread_end(const spread *v, double *sum, double *rows)
{
    if (v->n < 2) return;
    *sum += STI_MAX(v->squares / v->n - v->sum / v->n * (v->sum / v->n), 0.0);
    *rows += 1;
}

/* All that one query tells in one softmax; row: room for the scores of a sequence. */
static void see_row(const sti_scores *s, int32_t part, int32_t first_level, int64_t head, int64_t i, double *row,
                    sums *a)
{
    const sti_attention_part *p = &s->shape->part[part];
    spread all = { 0 }, of[STI_ATTENTION_LEVELS] = { { 0 } };
    double level[STI_ATTENTION_LEVELS], top = -HUGE_VAL, total = 0, entropy = 0;
    const int64_t end = s->shape->causal ? i + 1 : s->time;
    for (int64_t j = 0; j < end; j++) {
        row[j] = sti_score_of(s, part, head, i, j, level);
        if (row[j] <= -HUGE_VAL) continue;
        top = STI_MAX(top, row[j]);
        spread_add(&all, row[j]);
        for (int32_t l = 0; l < p->levels; l++)
            if (!isnan(level[l])) spread_add(&of[l], level[l]);
    }
    if (!(all.n > 0)) return;
    const double weight = 1.0 / s->shape->parts;
    for (int64_t j = 0; j < end; j++) total += exp(row[j] - top);
    for (int64_t j = 0; j < end; j++) {
        const int64_t distance = i > j ? i - j : j - i;
        const double prob = exp(row[j] - top) / total;
        const int bin = bin_of(distance);
        if (row[j] <= -HUGE_VAL) continue;
        a->mass[bin] += weight * prob;
        a->uniform[bin] += weight / all.n;
        a->distance += weight * prob * (double)distance;
        if (prob > 0) entropy -= prob * log(prob);
    }
    a->keys += weight * exp(entropy);
    a->rows += weight;
    spread_end(&all, &a->score, &a->score_rows);
    for (int32_t l = 0; l < p->levels; l++)
        spread_end(&of[l], &a->level[first_level + l], &a->level_rows[first_level + l]);
}

/* ---- blocks ------------------------------------------------------------------------------------------------- */
/* Block `row` of queries against the keys `offset` blocks before: rank, when all its pairs are in the mask. */
static void see_block(const sti_scores *s, int64_t head, int64_t block, int64_t row, int64_t offset, double *work,
                      double *rank, double *entropy_rank, double *count)
{
    double *matrix = work;
    for (int64_t i = 0; i < block; i++)
        for (int64_t j = 0; j < block; j++) {
            const double x = sti_score_of(s, 0, head, row * block + i, (row - offset) * block + j, NULL);
            if (x <= -HUGE_VAL) return;
            matrix[i * block + j] = x;
        }
    const sti_ranks r = sti_ranks_of(block, matrix, work + block * block);
    if (isnan(r.entropy)) return;
    *rank += r.energy;
    *entropy_rank += r.entropy;
    *count += 1;
}

/* ---- a head, a layer ---------------------------------------------------------------------------------------- */
typedef struct plan {
    const strata_analysis *a;
    int64_t queries, blocks, window;
    double *work; /* of each thread: each doubles */
    size_t each;
} plan;

/* Item n of `count` spread over [0, size) at random within its share, so that no period of blocks is favoured; all of
 * them where count is size. */
static int64_t pick(int64_t n, int64_t count, int64_t size, uint64_t stream, uint64_t key)
{
    const int64_t from = n * size / count, to = (n + 1) * size / count;
    return from + (int64_t)sti_below(key, stream, (uint64_t)n, (uint64_t)STI_MAX(to - from, (int64_t)1));
}

static void see_head(const plan *p, const sti_scores *s, int64_t head, double *work, sums *a)
{
    const uint64_t key = (uint64_t)(p->window * s->shape->heads + head);
    const int64_t queries = STI_MIN(p->queries, s->time), block = p->a->block;
    for (int64_t n = 0; n < queries; n++) {
        const int64_t i = pick(n, queries, s->time, 0, key);
        for (int32_t part = 0, level = 0; part < s->shape->parts; level += s->shape->part[part++].levels)
            see_row(s, part, level, head, i, work, a);
    }
    for (int32_t o = 0; o < p->a->offsets; o++) {
        const int64_t offset = p->a->offset[o], places = s->time / block - offset, n = STI_MIN(p->blocks, places);
        for (int64_t k = 0; k < n; k++)
            see_block(s, head, block, offset + pick(k, n, places, (uint64_t)o + 1, key), offset, work, &a->rank[o],
                      &a->entropy_rank[o], &a->blocks[o]);
    }
}

static void add(sums *to, const sums *from)
{
    double *a = (double *)to;
    const double *b = (const double *)from;
    for (size_t i = 0; i < sizeof *to / sizeof *a; i++) a[i] += b[i];
}

/* The sums of heads are added in their order, whatever thread saw them. */
static strata_status see_layer(const plan *p, const strata_context *ctx, const sti_scores *s, sums *out)
{
    const int64_t heads = s->shape->heads;
    const int threads = sti_threads(ctx);
    sums *of = sti_heap((size_t)heads * sizeof *of);
    if (!of) return sti_fail(STRATA_E_MEMORY, "out of memory");
#pragma omp parallel for num_threads(threads)
    for (int64_t t = 0; t < threads; t++)
        for (int64_t h = t; h < heads; h += threads) see_head(p, s, h, p->work + (size_t)t * p->each, &of[h]);
    for (int64_t h = 0; h < heads; h++) add(out, &of[h]);
    sti_heap_free(of);
    return STRATA_OK;
}

/* A buffer's first sequence on the host. */
static strata_status fetch(const sti_trainer *t, int32_t buffer, const float **data, void **copy)
{
    const sti_graph *g = t->plan->graph;
    const void *at = sti_graph_data(g, &t->run.exec, buffer);
    const size_t bytes = (size_t)(g->time * g->buffer[buffer].width) * sizeof(float);
    *data = at;
    *copy = NULL;
    if (!sti_on_device(t->ctx)) return STRATA_OK;
    if (!(*copy = sti_heap(bytes))) return sti_fail(STRATA_E_MEMORY, "out of memory");
    *data = *copy;
    return sti_to_host(t->ctx, *copy, at, bytes);
}

/* Positions up to the last that is scored: windows at the end of the data are filled up. */
static int64_t filled(const sti_trainer *t)
{
    const int64_t width = t->plan->outputs;
    for (int64_t n = t->plan->graph->time; n > 0; n--) {
        if (!width && t->targets[n - 1] >= 0) return n;
        for (int64_t i = 0; i < width; i++)
            if (!isnan(((const float *)t->y)[(n - 1) * width + i])) return n;
    }
    return 0;
}

static strata_status see_stage(const plan *p, const sti_trainer *t, layer *l)
{
    const sti_graph *g = t->plan->graph;
    const sti_attention_shape *h = sti_softmax_shape_of(l->stage);
    void *copy[2] = { NULL, NULL };
    sti_scores s = { .shape = h, .time = filled(t) };
    s.q_row = g->buffer[l->stage->in[0]].width;
    s.k_row = g->buffer[l->stage->in[1]].width;
    s.q_head = s.q_row == h->heads * h->d_qk ? h->d_qk : 0;
    s.k_head = s.k_row == h->kv_heads * h->d_qk ? h->d_qk : 0;
    strata_status st = fetch(t, l->stage->in[0], &s.q, &copy[0]);
    if (st == STRATA_OK) st = fetch(t, l->stage->in[1], &s.k, &copy[1]);
    if (st == STRATA_OK) st = see_layer(p, t->ctx, &s, &l->sum);
    sti_heap_free(copy[0]);
    sti_heap_free(copy[1]);
    return st;
}

/* ---- all ---------------------------------------------------------------------------------------------------- */
static strata_status find_layers(const sti_graph *g, strata_analysis *a)
{
    for (int32_t i = 0; i < g->nstage; i++) a->layers += sti_softmax_shape_of(&g->stage[i]) != NULL;
    if (a->layers == 0) return sti_fail(STRATA_E_UNSUPPORTED, "the model has no layer of softmax attention");
    a->layer = sti_heap((size_t)a->layers * sizeof *a->layer);
    if (!a->layer) return sti_fail(STRATA_E_MEMORY, "out of memory");
    layer *l = a->layer;
    for (int32_t i = 0; i < g->nstage; i++) {
        const sti_attention_shape *s = sti_softmax_shape_of(&g->stage[i]);
        if (!s) continue;
        l->stage = &g->stage[i];
        l->name = sti_strdup(l->stage->name);
        if (!l->name) return sti_fail(STRATA_E_MEMORY, "out of memory");
        for (int32_t p = 0; p < s->parts; p++) l->levels += s->part[p].levels;
        l++;
    }
    return STRATA_OK;
}

static void lay_out(strata_analysis *a, int64_t time)
{
    a->bins = bin_of(time - 1) + 1;
    for (a->block = 64; a->block > 4 && a->block > time / 8; a->block /= 2) {}
    if (a->block > time / 4) a->block = 0;
    for (int64_t o = 1; a->block > 0 && (o + 1) * a->block <= time && a->offsets < OFFSETS; o *= 2)
        a->offset[a->offsets++] = o;
}

/* Sums to means. */
static strata_status finish(layer *l)
{
    sums *s = &l->sum;
    for (int k = 0; k < BINS; k++) {
        s->mass[k] /= s->rows;
        s->uniform[k] /= s->rows;
    }
    s->keys /= s->rows;
    s->distance /= s->rows;
    for (int o = 0; o < OFFSETS; o++) { /* 0 / 0 is NaN: not measured */
        s->rank[o] /= s->blocks[o];
        s->entropy_rank[o] /= s->blocks[o];
    }
    s->score = sqrt(s->score / s->score_rows);
    for (int k = 0; k < LEVELS; k++) s->level[k] = sqrt(s->level[k] / s->level_rows[k]);
    if (isfinite(s->keys) && isfinite(s->distance)) return STRATA_OK;
    return sti_fail(STRATA_E_NUMERIC, "%s: the scores are not finite", l->name);
}

static strata_status run(strata_analysis *a, sti_trainer *t, const sti_task *task, const strata_analysis_config *cfg,
                         plan *p)
{
    const int64_t time = t->plan->graph->time, windows = task->cls->eval_windows(task, time);
    const int64_t n = STI_MIN(cfg->sequences, windows);
    if (n < 1) return sti_fail(STRATA_E_SHAPE, "there is no window of data to look at");
    for (int64_t i = 0; i < n; i++) {
        double loss;
        int64_t scored;
        p->window = i;
        sti_run_take(t, task, sti_run_spread(i, windows, n), 0);
        STI_TRY(sti_trainer_loss(t, 1, &loss, &scored));
        for (int32_t k = 0; k < a->layers; k++) STI_TRY(see_stage(p, t, &a->layer[k]));
    }
    for (int32_t k = 0; k < a->layers; k++) STI_TRY(finish(&a->layer[k]));
    return STRATA_OK;
}

strata_status sti_analysis_run(sti_trainer *t, const sti_task *task, const strata_analysis_config *cfg,
                               strata_analysis **out)
{
    const sti_graph *g = t->plan->graph;
    strata_analysis *a = sti_heap(sizeof *a);
    plan p = { .a = a, .queries = cfg->queries, .blocks = cfg->blocks };
    strata_status st = a ? find_layers(g, a) : sti_fail(STRATA_E_MEMORY, "out of memory");
    if (st == STRATA_OK) {
        lay_out(a, g->time);
        p.each = STI_MAX((size_t)g->time, (size_t)(a->block * a->block) + sti_ranks_work(a->block));
        p.work = sti_heap((size_t)sti_threads(t->ctx) * p.each * sizeof *p.work);
        if (!p.work) st = sti_fail(STRATA_E_MEMORY, "out of memory");
    }
    if (st == STRATA_OK) st = run(a, t, task, cfg, &p);
    sti_heap_free(p.work);
    if (st != STRATA_OK) {
        strata_analysis_destroy(a);
        a = NULL;
    }
    *out = a;
    return st;
}

/* ---- what came out ------------------------------------------------------------------------------------------ */
void strata_analysis_destroy(strata_analysis *a)
{
    if (!a) return;
    for (int32_t i = 0; a->layer && i < a->layers; i++) sti_heap_free(a->layer[i].name);
    sti_heap_free(a->layer);
    sti_heap_free(a);
}

int32_t strata_analysis_count(const strata_analysis *a)
{
    return a ? a->layers : 0;
}

strata_status strata_analysis_at(const strata_analysis *a, int32_t i, strata_attention_measures *out)
{
    if (!a || !out || out->size < sizeof out->size)
        return sti_fail(STRATA_E_INVALID, "strata_analysis_at: a NULL argument, or size is not set; use STRATA_INIT");
    if (i < 0 || i >= a->layers) return sti_fail(STRATA_E_INVALID, "layer %d of %d", (int)i, (int)a->layers);
    const layer *l = &a->layer[i];
    const strata_attention_measures m = { .size = out->size,
                                          .name = l->name,
                                          .bins = a->bins,
                                          .mass = l->sum.mass,
                                          .uniform = l->sum.uniform,
                                          .keys = l->sum.keys,
                                          .distance = l->sum.distance,
                                          .block = a->block,
                                          .offsets = a->offsets,
                                          .offset = a->offset,
                                          .rank = l->sum.rank,
                                          .entropy_rank = l->sum.entropy_rank,
                                          .score = l->sum.score,
                                          .levels = l->levels,
                                          .level = l->sum.level };
    memcpy(out, &m, STI_MIN(out->size, sizeof m));
    return STRATA_OK;
}
