/* Generation on token ids or numbers. */

#include "model/session.h"

#include <math.h>
#include <string.h>

#include "core/device.h"
#include "core/philox.h"

enum { CHUNK = 128, STREAM = 0x73616d70 /* keeps draws apart from those of training, also under one seed */ };

struct sti_session {
    const strata_model *model; /* borrowed */
    sti_model_plan *plan;
    sti_model_run run;
    void *chunk; /* the positions of one run: an external buffer is mutable in the walker's eyes */
    int64_t capacity, pos;
    float *logits; /* the newest, on the host */
    /* On a device: its copies of the parameters and of `chunk`. */
    void *params, *placed;
};

static int64_t outputs(const sti_session *s)
{
    return s->plan->graph->buffer[s->plan->logits].width;
}

static strata_status allocate(sti_session *s)
{
    const strata_model *m = s->model;
    const int64_t n = m->plan->graph->params.elements,
                  row = STI_MAX(s->plan->inputs, (int64_t)1) * s->plan->graph->chunk;
    void *logits = NULL;
    STI_TRY(sti_calloc(m->ctx, row, sizeof(float), &s->chunk));
    STI_TRY(sti_calloc(m->ctx, outputs(s), sizeof *s->logits, &logits));
    s->logits = logits;
    if (!sti_on_device(m->ctx)) return STRATA_OK;
    STI_TRY(sti_array_calloc(m->ctx, n, sizeof *m->params, &s->params));
    STI_TRY(sti_array_calloc(m->ctx, row, sizeof(float), &s->placed));
    return sti_to_device(m->ctx, s->params, m->params, (size_t)n * sizeof *m->params);
}

strata_status sti_session_create(const strata_model *m, int64_t capacity, sti_session **out)
{
    *out = NULL;
    if (capacity < 0) return sti_fail(STRATA_E_INVALID, "session: capacity %lld", (long long)capacity);
    if (capacity == 0) capacity = m->plan->context;
    if (m->plan->positions) capacity = STI_MIN(capacity, m->plan->positions);
    sti_session *s = sti_heap(sizeof *s);
    if (!s) return sti_fail(STRATA_E_MEMORY, "out of memory");
    s->model = m;
    s->capacity = capacity;
    const sti_model_size size = { .time = capacity,
                                  .chunk = STI_MIN(capacity, (int64_t)CHUNK),
                                  .base_width = m->base_width };
    strata_status st = sti_model_plan_create(m->ctx, m->plan->spec, m->plan->vocab, &size, &s->plan);
    if (st == STRATA_OK) st = sti_model_run_create(s->plan, &s->run);
    if (st == STRATA_OK) st = allocate(s);
    if (st != STRATA_OK) {
        sti_session_destroy(s);
        return st;
    }
    *out = s;
    return STRATA_OK;
}

void sti_session_destroy(sti_session *s)
{
    if (!s) return;
    strata_free(s->model->ctx, s->chunk);
    strata_free(s->model->ctx, s->logits);
    sti_array_free(s->model->ctx, s->params);
    sti_array_free(s->model->ctx, s->placed);
    sti_model_run_destroy(&s->run);
    sti_model_plan_destroy(s->plan);
    sti_heap_free(s);
}

strata_status sti_session_room(const sti_session *s, int64_t n)
{
    if (n <= s->capacity - s->pos) return STRATA_OK;
    if (s->plan->positions && s->capacity == s->plan->positions)
        return sti_fail(STRATA_E_SPACE, "learned positions end at context=%lld: no room for token %lld",
                        (long long)s->plan->positions, (long long)(s->pos + n));
    return sti_fail(STRATA_E_SPACE, "the session holds %lld tokens: no room for token %lld", (long long)s->capacity,
                    (long long)(s->pos + n));
}

/* n positions of `row` bytes. */
static strata_status feed(sti_session *s, const void *data, size_t row, int64_t n)
{
    for (int64_t done = 0; done < n;) {
        int64_t k = STI_MIN(n - done, s->plan->graph->chunk);
        memcpy(s->chunk, (const char *)data + (size_t)done * row, (size_t)k * row);
        sti_exec *e = &s->run.exec;
        e->params = s->params ? s->params : s->model->params;
        e->batch = 1;
        e->time = k;
        e->pos = &s->pos;
        e->ext[0] = s->placed ? s->placed : s->chunk;
        if (s->placed) STI_TRY(sti_to_device(s->model->ctx, s->placed, s->chunk, (size_t)k * row));
        STI_TRY(sti_graph_forward(s->plan->graph, e));
        s->pos += k;
        done += k;
        if (done < n) continue;
        const float *all = sti_graph_data(s->plan->graph, e, s->plan->logits);
        STI_TRY(
            sti_to_host(s->model->ctx, s->logits, all + (k - 1) * outputs(s), (size_t)outputs(s) * sizeof *s->logits));
    }
    return STRATA_OK;
}

static strata_status check(const sti_session *s, int64_t n, bool numbers)
{
    if (n < 1) return sti_fail(STRATA_E_INVALID, "session: nothing to feed");
    if (numbers != (s->plan->inputs > 0))
        return sti_fail(STRATA_E_INVALID, "session: the model reads %s", numbers ? "tokens" : "numbers");
    return sti_session_room(s, n);
}

strata_status sti_session_feed(sti_session *s, const int32_t *token, int64_t n)
{
    STI_TRY(check(s, n, false));
    for (int64_t i = 0; i < n; i++)
        if (token[i] < 0 || token[i] >= s->plan->vocab)
            return sti_fail(STRATA_E_INVALID, "token %d is outside the vocabulary of %lld", (int)token[i],
                            (long long)s->plan->vocab);
    return feed(s, token, sizeof *token, n);
}

strata_status sti_session_feed_numbers(sti_session *s, const float *x, int64_t n)
{
    STI_TRY(check(s, n, true));
    return feed(s, x, (size_t)s->plan->inputs * sizeof *x, n);
}

int64_t sti_session_position(const sti_session *s)
{
    return s->pos;
}

const float *sti_session_logits(const sti_session *s)
{
    return s->pos ? s->logits : NULL;
}

/* ---- sampling ----------------------------------------------------------------------------------------------- */

/* Position of the largest p, the smallest id among equals. */
static int64_t largest(const double *p, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (p[i] > p[best]) best = i;
    return best;
}

strata_status sti_sample(const float *logits, int64_t n, const sti_sampler *how, uint64_t index, double *work,
                         int32_t *token)
{
    double max = -HUGE_VAL;
    for (int64_t i = 0; i < n; i++) {
        double x = (double)logits[i];
        if (isnan(x) || x == HUGE_VAL)
            return sti_fail(STRATA_E_NUMERIC, "the logit of token %lld is %g", (long long)i, x);
        max = fmax(max, x);
    }
    if (!isfinite(max)) return sti_fail(STRATA_E_NUMERIC, "every logit is -inf");

    double *p = work, *kept = work + n, sum = 0, mass = 0;
    for (int64_t i = 0; i < n; i++) sum += p[i] = exp(((double)logits[i] - max) / how->temperature);
    int64_t k = how->top_k > 0 && how->top_k < n ? how->top_k : n;
    const bool all = k == n && how->top_p >= 1;
    if (all) {
        memcpy(kept, p, (size_t)n * sizeof *p);
        mass = sum;
    } else { /* take the largest one by one: n is small, and the cut is short */
        double total = 0;
        if (k < n) {
            memcpy(kept, p, (size_t)n * sizeof *p);
            for (int64_t j = 0; j < k; j++) {
                int64_t i = largest(kept, n);
                total += kept[i];
                kept[i] = -1;
            }
        } else {
            total = sum;
        }
        memset(kept, 0, (size_t)n * sizeof *kept);
        for (int64_t j = 0; j < k && (j == 0 || mass < how->top_p * total); j++) {
            int64_t i = largest(p, n);
            kept[i] = p[i];
            mass += p[i];
            p[i] = -1;
        }
    }
    double u = sti_uniform(how->seed, STREAM, index) * mass;
    int64_t pick = -1;
    for (int64_t i = 0; i < n; i++) {
        if (kept[i] <= 0) continue;
        pick = i;
        u -= kept[i];
        if (u < 0) break;
    }
    *token = (int32_t)pick;
    return STRATA_OK;
}
