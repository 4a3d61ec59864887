#ifndef STRATA_ANALYSIS_H
#define STRATA_ANALYSIS_H
/* What the attention of a model is made of, from its spec; and what it does, measured on data.
 *
 *   strata_analysis *a = NULL;
 *   if (strata_analysis_create(ctx, "runs/a", NULL, 0, NULL, &a) == STRATA_OK)
 *       for (int32_t k = 0; k < strata_analysis_count(a); k++) { strata_attention_measures m = { STRATA_INIT(…) }; … }
 *   strata_analysis_destroy(a);
 */

#include <strata/model.h>

STRATA_BEGIN

/* ---- from the spec ------------------------------------------------------------------------------------------------
 */
enum { STRATA_ATTENTION_LEVELS = 64 };

typedef struct strata_attention_level {
    int32_t softmax;      /* 0; gswa form=two has 0 and 1, whose outputs add up */
    int32_t rank, values; /* columns of q and k of a head; of v */
    int64_t reach;        /* tokens of a block, or the first distance that is not covered; INT64_MAX: everything */
    double share;         /* of the visible pairs of a sequence, those that the level covers */
} strata_attention_level;

typedef struct strata_attention_layer {
    size_t size;      /* STRATA_INIT(strata_attention_layer) */
    const char *name; /* of the stage; lives as long as the model */
    int64_t heads, kv_heads, d_qk, d_v;
    int32_t causal, levels;
    double active_rank; /* columns of q and k that a visible pair compares, in the mean: sum of rank times share */
    double cache_bytes; /* payload of the cache of one sequence, f32; 0: not causal, so there is none */
    strata_attention_level level[STRATA_ATTENTION_LEVELS];
} strata_attention_layer;

/** Softmax attention layers of a model, in order. */
STRATA_API int32_t strata_model_attention_count(const strata_model *m);
/** Closed forms for a sequence of `length` tokens (0: the model's context). @return OK | E_INVALID. Threads: any. */
STRATA_API strata_status strata_model_attention(const strata_model *m, int32_t layer, int64_t length,
                                                strata_attention_layer *out);

/* ---- on data ------------------------------------------------------------------------------------------------------
 */
typedef struct strata_analysis strata_analysis;

typedef struct strata_analysis_config {
    size_t size;       /* STRATA_INIT(strata_analysis_config); every 0 is a default */
    int32_t best;      /* 1: of a run, the checkpoint with the least validation loss, not the newest */
    int64_t sequences; /* windows, spread over the data; 0: 4 */
    int64_t queries;   /* of each window, spread over it; 0: 256. All where there are fewer */
    int64_t blocks;    /* whose rank is taken, of each window, head and distance; 0: 2 */
} strata_analysis_config;

/* Of one layer; arrays live as long as the analysis. Means are over windows, heads and queries alike. The score of a
 * pair is the scaled one that softmax sees. */
typedef struct strata_attention_measures {
    size_t size; /* STRATA_INIT(strata_attention_measures) */
    const char *name;
    /* Distances 0, 1, 2-3, 4-7, …: bin k > 0 begins at 2^(k-1). mass: probability there; uniform: what attention would
     * put there that weighs all visible keys alike; each sums to 1. Two softmaxes: their mean. */
    int32_t bins;
    const double *mass, *uniform;
    double keys;     /* exp(entropy) of the probabilities: keys that an output is a mean of, so to speak */
    double distance; /* mean distance to a key, weighed by its probability */
    /* Scores of `block` consecutive queries with the `block` keys that end offset[k] blocks before the queries' last;
     * of the first softmax; NaN: outside of its mask. With p_i = s_i^2 / sum s^2 of the singular values s:
     * rank: the fewest that hold 99 % of sum s^2; entropy_rank: exp(-sum p ln p). */
    int64_t
        block; /* the largest power of two up to 64 and an eighth of the window, at least 4; 0: too short a window */
    int32_t offsets;
    const int64_t *offset;
    const double *rank, *entropy_rank;
    /* Deviation among the keys of a query (root of the mean variance): of the score, and of what each level adds to it
     * among the keys that it covers; levels as in strata_attention_layer. */
    double score;
    int32_t levels;
    const double *level;
} strata_attention_measures;

/** Run a checkpoint on held-out data and look at its attention.
 *  @param path a run directory or a checkpoint  @param data NULL, 0: the run's own validation data  @param cfg NULL:
 *  defaults  @return OK | E_INVALID | E_IO | E_FORMAT | E_SHAPE (data too short) | E_UNSUPPORTED (no softmax attention)
 *  | E_NUMERIC (scores not finite) | E_MEMORY. The same bits for any number of threads. */
STRATA_API strata_status strata_analysis_create(const strata_context *ctx, const char *path, const char *const *data,
                                                int32_t ndata, const strata_analysis_config *cfg,
                                                strata_analysis **out);
STRATA_API void strata_analysis_destroy(strata_analysis *a); /* accepts NULL */
STRATA_API int32_t strata_analysis_count(const strata_analysis *a);
STRATA_API strata_status strata_analysis_at(const strata_analysis *a, int32_t layer, strata_attention_measures *out);

STRATA_END
#endif
