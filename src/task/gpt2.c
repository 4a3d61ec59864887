/* GPT-2 weights become a checkpoint of the task text. */

#include <strata/gpt2.h>

#include <stdio.h>
#include <string.h>

#include "model/gpt2.h"
#include "task/registry.h"
#include "train/state.h"

static strata_status set(strata_config *c, const char *key, const char *value)
{
    return strata_config_set(c, key, value, "GPT-2");
}

static strata_status configure(const sti_gpt2 *g, const strata_gpt2_config *cfg, strata_config *c)
{
    char width[32];
    char *spec = sti_gpt2_spec(g);
    strata_status st = spec ? set(c, "model.spec", spec) : sti_fail(STRATA_E_MEMORY, "out of memory");
    (void)snprintf(width, sizeof width, "%lld", (long long)g->width);
    if (st == STRATA_OK) st = set(c, "train.base_width", width);
    if (st == STRATA_OK) st = set(c, "train.batch", "1"); /* of evaluations: the logits are large */
    if (st == STRATA_OK) st = set(c, "text.tokenizer", cfg->tokenizer ? cfg->tokenizer : "bpe");
    if (st == STRATA_OK) st = set(c, "text.vocab", cfg->vocab ? cfg->vocab : "");
    sti_heap_free(spec);
    return st;
}

static strata_status convert(const strata_context *ctx, const strata_file *f, const sti_gpt2 *g, const strata_config *c,
                             const sti_task *task, const char *out_path)
{
    const sti_model_size size = { .base_width = (double)g->width };
    const sti_run_state state = { 0 };
    sti_model_plan *p = NULL;
    void *params = NULL;
    strata_status st = sti_model_plan_create(ctx, strata_config_get(c, "model.spec"), g->vocab, &size, &p);
    if (st == STRATA_OK) st = sti_calloc(ctx, p->graph->params.elements, sizeof(float), &params);
    if (st == STRATA_OK) st = sti_gpt2_read(f, g, &p->graph->params, params);
    if (st == STRATA_OK)
        st = sti_state_write(ctx, out_path, p, &(sti_trainer_copy){ .params = params }, c, task, &state);
    strata_free(ctx, params);
    sti_model_plan_destroy(p);
    return st;
}

strata_status strata_gpt2_import(const strata_context *ctx, const char *path, const strata_gpt2_config *cfg,
                                 const char *out_path)
{
    strata_gpt2_config how = { .size = sizeof how };
    if (!ctx || !path || !out_path) return sti_fail(STRATA_E_INVALID, "strata_gpt2_import: a NULL argument");
    if (cfg && cfg->size < sizeof cfg->size)
        return sti_fail(STRATA_E_INVALID, "strata_gpt2_import: cfg.size is not set; use STRATA_INIT");
    if (cfg) memcpy(&how, cfg, STI_MIN(cfg->size, sizeof how));
    if (how.heads < 0) return sti_fail(STRATA_E_INVALID, "%lld heads", (long long)how.heads);
    strata_file *f = NULL;
    strata_config *c = NULL;
    sti_task task = { 0 };
    sti_gpt2 g;
    strata_status st = strata_file_open(ctx, path, &f);
    if (st != STRATA_OK) return st;
    st = sti_gpt2_of_file(f, how.heads, &g);
    if (st != STRATA_OK) st = sti_fail_prefix(st, "%s", path);
    if (st == STRATA_OK) st = strata_config_create(ctx, "text", &c);
    if (st == STRATA_OK) st = configure(&g, &how, c);
    if (st == STRATA_OK) st = sti_task_create(ctx, c, &task);
    if (st == STRATA_OK && task.vocab != g.vocab)
        st = sti_fail(STRATA_E_SPEC, "%s has %lld tokens, but the vocabulary %lld", path, (long long)g.vocab,
                      (long long)task.vocab);
    if (st == STRATA_OK) st = convert(ctx, f, &g, c, &task, out_path);
    sti_task_destroy(&task);
    strata_config_destroy(c);
    strata_file_close(f);
    return st;
}

strata_status strata_gpt2_export(const strata_model *m, const char *out_path)
{
    if (!m || !out_path) return sti_fail(STRATA_E_INVALID, "strata_gpt2_export: a NULL argument");
    return sti_gpt2_write(m, out_path);
}
