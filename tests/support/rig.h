#ifndef RIG_H
#define RIG_H
/* A graph of one component under test, with the memory of a run: every arena and output is filled with NaN before each
 * call, parameters and inputs are drawn at their natural scale and are the same numbers in f32 and f64.
 *
 * The checks below hold for every mixer and every layer that maps (batch, time, width) to (batch, time, width). */

#include "core/graph.h"
#include "support/near.h"

/* Append the component to g and return its output buffer; `text` (may be NULL) receives its canonical spec. */
typedef int32_t (*rig_build)(sti_graph *g, const char *spec, int64_t width, int32_t in, char **text);

typedef struct rig_plan {
    const char *context; /* context spec; NULL: "threads=1" */
    rig_build build;
    const char *spec;
    int64_t batch, time, width;
    int32_t dtype, train;
    int residual; /* 1: the output is component(x) + x, so that x has two readers */
} rig_plan;

typedef struct rig {
    rig_plan plan;
    strata_context *ctx;
    sti_graph *g;
    int32_t in, out;
    char *text;
    void *params, *dparams, *act, *grad, *saved, *work, *state;
    size_t param_bytes;
    void *x, *y, *dy, *dx; /* (batch, time, width) */
} rig;

extern long rig_allocations; /* calls of posix_memalign, through which all of Strata's memory comes */

/* Fails the test when the spec does not build. */
void rig_open(rig *r, const rig_plan *plan);
void rig_close(rig *r);
/* Status of building only; nothing is kept. */
strata_status rig_try(const rig_plan *plan);

/* y = graph(x) for the first batch sequences and time tokens of a run. With state: pos as given. */
void rig_forward(rig *r, int64_t batch, int64_t time, const int64_t *pos, const void *x, int with_state);
/* dx and dparams (which start at `start`) from dy. Needs rig_forward with the same sizes before it. */
void rig_backward(rig *r, int64_t batch, int64_t time, double start);
double rig_norm(const void *p, int32_t dtype, int64_t n);

/* Everything at once; `causal`: the past must not see the future, and steps must equal forward. */
void rig_check(rig_build build, const char *spec, int64_t width, int causal);

#endif
