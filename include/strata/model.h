#ifndef STRATA_MODEL_H
#define STRATA_MODEL_H
/* Models: load, inspect, cost, generate. */

#include <strata/operator.h>

STRATA_BEGIN

typedef struct strata_model strata_model;
typedef struct strata_session strata_session;

typedef struct strata_cost {
    size_t size;
    int64_t params;               /* without padding, tied ones once */
    double flops_fwd, flops_bwd;  /* per token at the given length, counted for the causal half */
    double exps;                  /* exponentials per token */
    double cache_bytes;           /* cache payload of one sequence at the given length, all layers (the formula) */
    double cache_bytes_per_token; /* the same, divided by the length */
    size_t cache_alloc;           /* bytes really allocated: alignment padding included */
    size_t activation_bytes;      /* training at the given batch and length: kept activations and gradients */
} strata_cost;

/** Cost of a model, mixer or operator from its spec alone.
 *  @param spec "decoder layers=6 width=256 mixers=softmax(score=mlr levels=8)", "softmax …", "btt rank=2 rows=… cols=…"
 *  @param vocab vocabulary of models (0: 96)  @param width of a mixer (0: 256)
 *  @param length tokens per sequence (0: the model's context, else 1024)
 *  @param canonical [NULL: not wanted] heap string for strata_free_text
 *  @return OK | E_SPEC | E_SHAPE | E_MEMORY | E_UNSUPPORTED */
STRATA_API strata_status strata_cost_of(const strata_context *ctx, const char *spec, int64_t vocab, int64_t width,
                                        int64_t batch, int64_t length, strata_cost *cost, char **canonical);
STRATA_API void strata_free_text(char *text);

/** Load a checkpoint file, or the newest checkpoint (best = 1: the best) of a run directory. Corrupt or foreign files
 * give E_FORMAT, unreadable ones E_IO. */
STRATA_API strata_status strata_model_load(const strata_context *ctx, const char *path, int32_t best,
                                           strata_model **out);
STRATA_API void strata_model_destroy(strata_model *m);
STRATA_API const char *strata_model_spec(const strata_model *m); /* canonical, borrowed */
STRATA_API const char *strata_model_task(const strata_model *m); /* "text" */
STRATA_API const char *strata_model_path(const strata_model *m); /* the file that was loaded */
/** JSON text of the checkpoint's metadata (borrowed): model, task, config, data files, progress. */
STRATA_API const char *strata_model_meta(const strata_model *m);
STRATA_API int64_t strata_model_step(const strata_model *m);
STRATA_API int64_t strata_model_tokens(const strata_model *m); /* training tokens seen */
STRATA_API int64_t strata_model_context(const strata_model *m);
STRATA_API int32_t strata_model_param_count(const strata_model *m);
STRATA_API strata_status strata_model_param(const strata_model *m, int32_t i, strata_param_info *info);
STRATA_API const void *strata_model_params(const strata_model *m); /* f32 block, borrowed */
/** Cost at `length` tokens (0: the model's context). */
STRATA_API strata_status strata_model_cost(const strata_model *m, int64_t length, strata_cost *cost);

typedef struct strata_session_config {
    size_t size; /* STRATA_INIT(strata_session_config); every 0 is a default */
    uint64_t seed;
    double temperature; /* 0: 1.0. Greedy is top_k = 1 */
    int32_t top_k;      /* 0: all */
    double top_p;       /* 0: 1.0 */
    int64_t max_tokens; /* cache capacity: prompt and generated tokens together; 0: the model's context */
    const char *stop;   /* NULL, or text that ends the generation (not printed) */
    int64_t new_tokens; /* end after so many tokens; 0: no end. A token of text is one byte or, with bpe, several */
} strata_session_config;

/** Text generation with caches. The model must outlive the session. One thread per session. */
STRATA_API strata_status strata_session_create(const strata_model *m, const strata_session_config *cfg,
                                               strata_session **out);
STRATA_API void strata_session_destroy(strata_session *s);
/** Feed text (prefill). @return OK | E_INVALID (empty, or foreign characters under strict=1) | E_SPACE (too long) */
STRATA_API strata_status strata_session_prompt(strata_session *s, const char *text, size_t bytes);
/** Sample the next token, write its bytes (not NUL-terminated). *n = 0: the stop text or new_tokens was reached.
 *  @return OK | E_SPACE (capacity or learned positions are used up) | E_NUMERIC */
STRATA_API strata_status strata_session_next(strata_session *s, char *buf, size_t cap, size_t *n);

STRATA_END
#endif
