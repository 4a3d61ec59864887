/* Generation of text: the token session of the model between the task's encoder and decoder. */

#include <math.h>
#include <string.h>

#include "model/session.h"
#include "task/registry.h"

struct strata_session {
    sti_session *core;
    sti_task task;
    sti_sampler how;
    double *work;  /* of sti_sample */
    int32_t unfed; /* sampled but not yet consumed token, -1: none */
    char *stop;    /* owned; "" when there is none */
    char *held;    /* bytes that may still become the stop text */
    size_t nstop, nheld;
    int64_t left; /* tokens that may still be drawn */
    bool ended;
};

static strata_status check(const strata_session_config *c)
{
    if (!(c->temperature >= 0) || c->temperature > 1e6)
        return sti_fail(STRATA_E_INVALID, "temperature %g", c->temperature);
    if (c->top_k < 0) return sti_fail(STRATA_E_INVALID, "top_k %d", (int)c->top_k);
    if (!(c->top_p >= 0 && c->top_p <= 1)) return sti_fail(STRATA_E_INVALID, "top_p %g", c->top_p);
    if (c->max_tokens < 0) return sti_fail(STRATA_E_INVALID, "max_tokens %lld", (long long)c->max_tokens);
    if (c->new_tokens < 0) return sti_fail(STRATA_E_INVALID, "new_tokens %lld", (long long)c->new_tokens);
    return STRATA_OK;
}

static strata_status build(const strata_model *m, const strata_session_config *c, strata_session *s)
{
    sti_json *json = NULL;
    strata_config *config = NULL;
    STI_TRY(sti_task_of_model(m, &json, &config, &s->task));
    strata_config_destroy(config);
    sti_json_free(json);
    if (!s->task.cls->encode)
        return sti_fail(STRATA_E_UNSUPPORTED, "%s: the task %s has no text to generate", m->path, s->task.cls->kind);
    STI_TRY(sti_session_create(m, c->max_tokens, &s->core));
    s->how = (sti_sampler){ .seed = c->seed,
                            .temperature = c->temperature > 0 ? c->temperature : 1,
                            .top_k = c->top_k,
                            .top_p = c->top_p > 0 ? c->top_p : 1 };
    s->unfed = -1;
    s->left = c->new_tokens > 0 ? c->new_tokens : INT64_MAX;
    s->stop = sti_strdup(c->stop ? c->stop : "");
    s->nstop = s->stop ? strlen(s->stop) : 0;
    s->held = sti_heap(s->nstop + 2 * STI_TASK_PIECE);
    s->work = sti_heap(2 * (size_t)m->plan->vocab * sizeof *s->work);
    return s->stop && s->held && s->work ? STRATA_OK : sti_fail(STRATA_E_MEMORY, "out of memory");
}

strata_status strata_session_create(const strata_model *m, const strata_session_config *cfg, strata_session **out)
{
    strata_session_config how = { .size = sizeof how }; /* 0: the default */
    if (!out) return sti_fail(STRATA_E_INVALID, "strata_session_create: out is NULL");
    *out = NULL;
    if (!m) return sti_fail(STRATA_E_INVALID, "strata_session_create: the model is NULL");
    if (cfg && cfg->size < sizeof cfg->size)
        return sti_fail(STRATA_E_INVALID, "strata_session_create: cfg.size is not set; use STRATA_INIT");
    if (cfg) memcpy(&how, cfg, STI_MIN(cfg->size, sizeof how));
    STI_TRY(check(&how));
    strata_session *s = sti_heap(sizeof *s);
    strata_status st = s ? build(m, &how, s) : sti_fail(STRATA_E_MEMORY, "out of memory");
    if (st != STRATA_OK) {
        strata_session_destroy(s);
        return st;
    }
    *out = s;
    return STRATA_OK;
}

void strata_session_destroy(strata_session *s)
{
    if (!s) return;
    sti_session_destroy(s->core);
    sti_task_destroy(&s->task);
    sti_heap_free(s->stop);
    sti_heap_free(s->held);
    sti_heap_free(s->work);
    sti_heap_free(s);
}

/* Consume the token that was sampled last. */
static strata_status feed_sampled(strata_session *s)
{
    if (s->unfed < 0) return STRATA_OK;
    STI_TRY(sti_session_feed(s->core, &s->unfed, 1));
    s->unfed = -1;
    return STRATA_OK;
}

strata_status strata_session_prompt(strata_session *s, const char *text, size_t bytes)
{
    if (!s || !text || bytes == 0) return sti_fail(STRATA_E_INVALID, "the prompt is empty");
    int32_t *token = sti_heap(bytes * sizeof *token);
    int64_t n = 0;
    if (!token) return sti_fail(STRATA_E_MEMORY, "out of memory");
    strata_status st = s->task.cls->encode(&s->task, text, bytes, token, &n);
    if (st == STRATA_OK) st = sti_session_room(s->core, n + (s->unfed >= 0));
    if (st == STRATA_OK) st = feed_sampled(s);
    if (st == STRATA_OK) st = sti_session_feed(s->core, token, n);
    sti_heap_free(token);
    return st;
}

/* Sample one token and append its bytes to the held ones; notice the stop text. */
static strata_status sample(strata_session *s)
{
    STI_TRY(sti_session_room(s->core, 1 + (s->unfed >= 0)));
    STI_TRY(feed_sampled(s));
    const float *logits = sti_session_logits(s->core);
    if (!logits) return sti_fail(STRATA_E_INVALID, "nothing to continue: call strata_session_prompt first");
    STI_TRY(sti_sample(logits, s->task.vocab, &s->how, (uint64_t)sti_session_position(s->core), s->work, &s->unfed));
    s->left--;
    s->nheld += s->task.cls->decode(&s->task, s->unfed, s->held + s->nheld);
    for (size_t i = 0; s->nstop > 0 && i + s->nstop <= s->nheld; i++) {
        if (memcmp(s->held + i, s->stop, s->nstop) != 0) continue;
        s->nheld = i;
        s->ended = true;
        break;
    }
    return STRATA_OK;
}

/* Bytes that can go out: all but the longest tail that begins the stop text. */
static size_t releasable(const strata_session *s)
{
    if (s->ended || s->nstop == 0) return s->nheld;
    size_t n = STI_MIN(s->nheld, s->nstop - 1);
    while (n > 0 && memcmp(s->held + s->nheld - n, s->stop, n) != 0) n--;
    return s->nheld - n;
}

static void release(strata_session *s, size_t ready, char *buf, size_t cap, size_t *n)
{
    *n = STI_MIN(ready, cap);
    memcpy(buf, s->held, *n);
    memmove(s->held, s->held + *n, s->nheld - *n);
    s->nheld -= *n;
}

strata_status strata_session_next(strata_session *s, char *buf, size_t cap, size_t *n)
{
    if (!s || !buf || cap == 0 || !n) return sti_fail(STRATA_E_INVALID, "strata_session_next: no buffer");
    while (!s->ended && releasable(s) == 0) {
        if (s->left == 0) {
            s->ended = true;
            break;
        }
        strata_status st = sample(s);
        if (st == STRATA_E_SPACE && s->nheld > 0) { /* no stop text can come any more */
            release(s, s->nheld, buf, cap, n);
            return STRATA_OK;
        }
        STI_TRY(st);
    }
    release(s, releasable(s), buf, cap, n);
    return STRATA_OK;
}
