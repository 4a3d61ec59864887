#ifndef STI_MODEL_H
#define STI_MODEL_H
/* Model classes and planned models. A class lives in its own folder and exports `sti_model_class_NAME`: it turns a spec
 * and what it reads (tokens of a vocabulary, or so many numbers a position) into a graph of stages. A plan is that
 * graph for one purpose (training or inference) and one size; every plan of the same spec has the same parameter table,
 * so a parameter block serves them all. */

#include <strata/model.h>

#include "core/context.h"
#include "core/graph.h"
#include "core/spec.h"

typedef struct sti_model_plan sti_model_plan;

typedef enum sti_model_reads {
    STI_MODEL_SEQUENCE, /* a sequence, whose positions are parts of it */
    STI_MODEL_WINDOW    /* numbers; every position is a series of its own, seen whole: positions are never mixed */
} sti_model_reads;

typedef struct sti_model_class {
    const char *kind, *summary;
    /* Has an INT key "context": the length that training runs at. A class that can read numbers has the INT keys
     * "inputs" and "outputs", default "": empty when it reads tokens. */
    sti_keys keys;
    const char *const *examples;
    sti_model_reads reads;
    /* Append the stages of the model to p->graph, fill the ports of `p`, write resolved defaults back into `v` (its
     * canonical text goes into checkpoints). Failures are recorded in the graph, or returned. */
    strata_status (*build)(sti_model_plan *p, sti_values *v);
} sti_model_class;

int32_t sti_model_class_count(void);
const sti_model_class *sti_model_class_at(int32_t i);
const sti_model_class *sti_model_class_find(const char *kind); /* NULL: unknown */

typedef struct sti_model_size { /* every 0 is a default */
    int32_t dtype;              /* 0: F32; BF16 on the CPU: an F32 graph, products of operands rounded to bf16 */
    int32_t train;              /* 1: with loss and backward */
    int64_t batch;              /* 0: 1 */
    int64_t time;               /* largest run, and the cache capacity in inference; 0: the model's context */
    int64_t chunk;              /* inference: largest number of new tokens per run; 0: time */
    double base_width;          /* 0: 768 */
    /* What the task asks for where the spec is silent: numbers read and given at a position (the spec may not disagree;
     * 0: tokens, or as the spec says), and the context. */
    int64_t inputs, outputs, context;
} sti_model_size;

struct sti_model_plan {
    const sti_model_class *cls;
    sti_graph *graph; /* owned */
    char *spec;       /* canonical text. owned */
    int64_t vocab, context;
    int64_t inputs, outputs; /* numbers read and given at a position, then vocab is 0; 0: the model reads tokens */
    int64_t positions;       /* learned positions end here; 0: they do not end */
    int32_t tokens;          /* external buffer 0: I32 ids; or numbers of the graph's type (batch, time, inputs) */
    int32_t targets; /* external buffer 1, of training plans, else -1: I32, -1 is not scored; or numbers of the type of
                      * sums (batch, time, outputs), NaN is not scored */
    int32_t logits;  /* an output of inference plans: (batch, time, vocab or outputs) */
    int32_t loss;    /* an output of training plans (batch, time, 2): nats or squared error, number scored; else -1 */
};

/* The vocabulary for a spec whose user names none: 96, or 0 when the spec has the key inputs. */
int64_t sti_model_vocab(const sti_spec *spec);
/* vocab: 0 when the model reads numbers. @return OK | E_SPEC | E_MEMORY | E_UNSUPPORTED */
strata_status sti_model_plan_create(const strata_context *ctx, const char *spec, int64_t vocab,
                                    const sti_model_size *size, sti_model_plan **out);
void sti_model_plan_destroy(sti_model_plan *p);

/* Memory of the runs of one plan: activations, gradients, scratch and (inference) `batch` states, made empty. */
typedef struct sti_model_run {
    const sti_model_plan *plan; /* borrowed */
    sti_exec exec;
    void *block[5];
} sti_model_run;
strata_status sti_model_run_create(const sti_model_plan *p, sti_model_run *r);
void sti_model_run_destroy(sti_model_run *r);

/* A loaded checkpoint. */
struct strata_model {
    strata_context *ctx;
    sti_model_plan *plan; /* an inference plan: parameter table, canonical text */
    float *params;        /* owned */
    char *path, *task;    /* owned */
    char *meta;           /* the checkpoint's JSON text. owned */
    double base_width;
    int64_t step, tokens;
};

/* For classes that read numbers only: open the ports (E_SPEC when nobody says how many numbers), and close with the
 * loss. */
strata_status sti_model_numbers(sti_model_plan *p);
/* Lower the learning-rate multipliers of the matrices in the graph, for linear maps of a window: its numbers are nearly
 * equal, so an Adam step moves the output by (rate) x (length), all in one direction. */
void sti_model_window_rates(sti_model_plan *p);
strata_status sti_model_squared_error(sti_model_plan *p);

void sti_model_cost(const sti_model_plan *p, int64_t batch, int64_t length, strata_cost *c);

#endif
