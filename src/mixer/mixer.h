#ifndef STI_MIXER_H
#define STI_MIXER_H
/* Mixer classes: mixing along the sequence. A class lives in its own folder, exports `sti_mixer_class_NAME`, and builds
 * itself out of leaf stages. */

#include "core/graph.h"
#include "core/spec.h"

typedef struct sti_mixer_env { /* what the surrounding model says; 0 / NULL where there is no model */
    int64_t width;             /* of the block; 0 is refused */
    int64_t context;           /* model's context length (default block lists); 0: the graph's time */
    const char *pos;           /* the model's position kind: "learned" "rotary" "alibi" "none" */
} sti_mixer_env;

typedef struct sti_mixer_class {
    const char *kind, *summary;
    sti_keys keys;
    const char *const *examples;                 /* "softmax heads=2 score=mlr ranks=2,1,1", NULL-terminated */
    bool causal;                                 /* every example without causal=0 has a bit-equal past */
    strata_status (*check)(const sti_values *v); /* E_SPEC when the keys contradict each other; NULL: they cannot */
    /* Append the stages that map buffer `in` (width env->width) to the returned buffer. Writes resolved defaults into
     * `v`, whose canonical text goes into checkpoints. -1 on failure (g->status). */
    int32_t (*build)(sti_graph *g, const char *name, sti_values *v, const sti_mixer_env *env, int32_t in);
} sti_mixer_class;

int32_t sti_mixer_class_count(void);
const sti_mixer_class *sti_mixer_class_at(int32_t i);
const sti_mixer_class *sti_mixer_class_find(const char *kind);
/* Bind `spec` to its class and build; *text (may be NULL) receives the canonical nested text, heap string. */
int32_t sti_mixer_build(sti_graph *g, const char *name, const sti_spec *spec, const sti_mixer_env *env, int32_t in,
                        char **text);

#endif
