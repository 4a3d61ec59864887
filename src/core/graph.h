#ifndef STI_GRAPH_H
#define STI_GRAPH_H
/* A model as an array of stages in topological order, and the walker that runs it.
 *
 * Layers and mixers are leaf stages (a stage class with forward and backward) or builders that append leaf stages to
 * the array: the array is always flat. Buffers are (batch, time, width) contiguous blocks, numbered; each is written by
 * one stage. The planner derives lifetimes (a buffer that no backward needs is reused), gives gradients their own
 * lifetimes, and marks every gradient writer after the first with an accumulate bit. Parameter gradients always
 * accumulate. */

#include <strata/context.h>
#include <strata/tensor.h>

#include "core/base.h"
#include "core/param.h"

enum { STI_MAX_IN = 4, STI_MAX_OUT = 3 };

typedef struct sti_graph sti_graph;
typedef struct sti_stage sti_stage;

/* Counted as contracts section 4: matrix products only, the causal half only. */
typedef struct sti_cost {
    double flops_fwd, flops_bwd;
    double bytes_fwd; /* smallest traffic of the forward pass: inputs, outputs and parameters once */
    double exps;      /* exponentials of the forward pass, listed apart */
} sti_cost;

/* Everything one call of a stage touches; all of it lent by the walker. Buffers are contiguous (batch, time, width). */
typedef struct sti_io {
    int64_t batch, time; /* of this run, at most the planned ones */
    const int64_t *pos;  /* inference: absolute position of each sequence's first token; NULL: 0 */
    const void *params;  /* this stage's parameter block (its sti_params offsets are relative to it) */
    const void *master;  /* the same block in the type of sums: f32 where params are bf16, else params itself */
    void *dparams;       /* += , in the type of sums; NULL when parameters are frozen */
    const void *in[STI_MAX_IN];
    void *out[STI_MAX_OUT];
    void *din[STI_MAX_IN];         /* NULL: not wanted */
    int32_t acc[STI_MAX_IN];       /* 1: din += , 0: din = */
    const void *dout[STI_MAX_OUT]; /* NULL: nobody reads this output (a loss) */
    void *saved;                   /* written by forward (training), read by backward */
    void *work;                    /* scratch, shared by all stages */
    const void *term[2]; /* forward: in[0] is still to be written, as term[0] + term[1] (takes_sum); else NULL */
    void *state;         /* inference: sequence 0's state block of this stage; NULL in training */
    size_t state_stride; /* bytes from one sequence's block to the next one's */
} sti_io;

typedef struct sti_stage_class {
    const char *kind;
    /* With io->state NULL: the training forward. With io->state set: consume and update the state; `time` new tokens.
     */
    strata_status (*forward)(const sti_stage *s, const sti_io *io);
    strata_status (*backward)(const sti_stage *s, const sti_io *io);
    void (*cost)(const sti_stage *s, int64_t batch, int64_t time, sti_cost *c); /* NULL: zero */
    /* NULL: zeroed memory is the empty state. On a device `state` is device memory. */
    void (*state_init)(const sti_stage *s, void *state);
    void (*destroy)(void *plan); /* NULL: nothing to free */
} sti_stage_class;

/* What a class says when it appends a leaf stage. Sizes are for the graph's largest batch and time. */
typedef struct sti_stage_desc {
    const sti_stage_class *cls;
    void *plan;               /* taken over by the graph, also when adding fails */
    const char *name;         /* dotted path, "blocks.0.mixer.q"; copied */
    const sti_params *params; /* copied under the name; NULL: none */
    int32_t tie; /* 0: own parameters; else 1 + index of the graph parameter whose storage this stage shares */
    int32_t nin, nout;
    int32_t in[STI_MAX_IN], out[STI_MAX_OUT]; /* buffer numbers */
    uint32_t keep_in, keep_out;               /* bit k: backward reads in[k] / out[k] */
    uint32_t no_grad;                         /* bit k: in[k] has no gradient (token ids) */
    uint32_t pass_grad;                       /* bit k: din[k] is dout[0]; they may then be the same memory */
    uint32_t is_sum;                          /* 1: out[0] = in[0] + in[1] and nothing else */
    uint32_t takes_sum;                       /* 1: on a device forward can form in[0] itself: see sti_io.term */
    uint32_t grad_over;                       /* bit k: din[k] may be written over in[k], once nobody else reads that */
    size_t saved, work;       /* bytes: kept for backward / scratch of either pass, for the largest batch and time */
    size_t state;             /* bytes per sequence for inference at the largest time */
    double state_token_bytes; /* cache payload bytes per sequence at capacity `time` (the formula, no padding) */
} sti_stage_desc;

struct sti_stage {
    const sti_stage_class *cls;
    void *plan;
    char *name;
    const sti_graph *graph;
    int32_t nin, nout, in[STI_MAX_IN], out[STI_MAX_OUT];
    uint32_t keep_in, keep_out, no_grad, pass_grad, grad_over, is_sum, takes_sum;
    int32_t left;            /* set by the planner: a sum whose forward the next stage does */
    int32_t acc[STI_MAX_IN]; /* set by the planner */
    int32_t param_first, param_count;
    int64_t param_base; /* element offset of the block */
    size_t saved_off, saved, work, state_off, state;
    double state_token_bytes;
};

typedef struct sti_buffer {
    int64_t width;
    int32_t dtype;    /* the graph's, or STRATA_I32 for token ids */
    int32_t writer;   /* stage, or -1: a graph input */
    int32_t external; /* lives outside the arena: memory is passed to each run */
    int32_t needs_grad;
    int32_t output;       /* kept to the end; the caller writes its gradient */
    int32_t has_grad;     /* set by the planner: somebody writes a gradient */
    int32_t grad_over;    /* set by the planner: the gradient is written over the data */
    size_t off, grad_off; /* offsets in the activation and gradient arenas */
} sti_buffer;

struct sti_graph {
    strata_context *ctx; /* shared */
    int32_t dtype;       /* of buffers: F32, F64, or BF16 on a device (statistics and losses are then F32) */
    int32_t train;       /* 1: plan backward; 0: inference, activations are reused at once */
    int64_t batch, time; /* largest run; in inference time is also the cache capacity in tokens */
    int64_t chunk;       /* largest number of new tokens of one run: time when training */
    double base_width;   /* for learning-rate multipliers (768) */
    sti_stage *stage;
    int32_t nstage, cap_stage;
    sti_buffer *buffer;
    int32_t nbuffer, cap_buffer;
    sti_params params;
    size_t act_bytes, grad_bytes, saved_bytes, work_bytes, state_bytes; /* state: per sequence */
    strata_status status; /* first failure while building; later calls do nothing */
};

strata_status sti_graph_create(const strata_context *ctx, int32_t dtype, int64_t batch, int64_t time, int64_t chunk,
                               int32_t train, double base_width, sti_graph **out);
void sti_graph_destroy(sti_graph *g);

/* Builders. On failure they record g->status (with the detail text) and return -1; a builder chain is checked once, by
 * sti_graph_finish. */
int32_t sti_graph_input(sti_graph *g, int64_t width, int32_t dtype, int32_t needs_grad); /* an external buffer */
int32_t sti_graph_buffer(sti_graph *g, int64_t width);
int32_t sti_graph_sum_buffer(sti_graph *g, int64_t width);    /* of the type of sums: a loss */
int32_t sti_graph_add(sti_graph *g, const sti_stage_desc *d); /* stage number */
void sti_graph_fail(sti_graph *g, strata_status s);           /* record a failure whose detail text is set */
/* Mark a buffer as an output: it lives to the end of forward, in the arena, and its gradient comes from the caller. */
void sti_graph_output(sti_graph *g, int32_t buffer);
/* Assign offsets. After it the graph is immutable. */
strata_status sti_graph_finish(sti_graph *g);

/* Memory of one run: everything borrowed. Sizes from the graph; inputs are bound by buffer number. */
typedef struct sti_exec {
    const void *params; /* of the graph's dtype */
    const void *master; /* BF16 graphs: the F32 parameters; else NULL */
    void *dparams;      /* in the type of sums; NULL: parameter gradients are not wanted */
    void *act, *grad, *saved, *work;
    void *state;        /* NULL in training; else batch * state_bytes */
    const int64_t *pos; /* (batch) or NULL */
    int64_t batch, time;
    void *ext[8], *dext[8]; /* data and gradient of external buffer k in order of creation; dext may be NULL */
    double *stage_seconds;  /* NULL, or 4 * nstage sums: wall time of forward and backward, CPU time of both (bench) */
} sti_exec;

strata_status sti_graph_forward(const sti_graph *g, const sti_exec *e);
/* Gradients of output buffers must be in the grad arena (sti_graph_grad) before the call; loss stages write none. */
strata_status sti_graph_backward(const sti_graph *g, const sti_exec *e);
void *sti_graph_data(const sti_graph *g, const sti_exec *e, int32_t buffer);
void *sti_graph_grad(const sti_graph *g, const sti_exec *e, int32_t buffer);
void sti_graph_cost(const sti_graph *g, int64_t batch, int64_t time, sti_cost *c);
/* Make one sequence's block the empty state. */
void sti_graph_state_init(const sti_graph *g, void *state);

#endif
