#ifndef STI_OPERATOR_H
#define STI_OPERATOR_H
/* Operator classes: y = A x on rows (contracts 1). X is (count, cols), Y is (count, rows); leading stride may exceed
 * the width, the last dimension is contiguous. A class lives in its own folder and exports `sti_op_class_NAME`. */

#include "core/context.h"
#include "core/device.h"
#include "core/graph.h"
#include "core/param.h"
#include "core/spec.h"

typedef enum sti_mode { STI_N, STI_T, STI_H } sti_mode; /* H equals T for real types */

/* Property bits: a property is yes, no, or (neither bit) unknown. */
enum {
    STI_PROP_SYMMETRIC = 1u << 0,
    STI_PROP_PSD = 1u << 1,
    STI_PROP_ORTHOGONAL = 1u << 2,
    STI_PROP_LOWER = 1u << 3,
    STI_PROP_UPPER = 1u << 4,
    STI_PROP_DIAGONAL = 1u << 5
};

typedef struct sti_op_plan sti_op_plan;

typedef struct sti_op_class {
    const char *kind, *summary;
    sti_keys keys; /* without rows and cols, which every stand-alone operator has */
    const char *const
        *examples; /* stand-alone specs ("btt rows=12 cols=8 rank=2"), NULL-terminated: conformance runs them */
    /* Derive p->rows and p->cols where they are 0 and the keys tell them. NULL: they never do. */
    strata_status (*size)(sti_op_plan *p);
    /* Validate p->values for p->rows, p->cols; write resolved defaults back into the values; fill params, work, flops,
     * props and data (or children). */
    strata_status (*plan)(sti_op_plan *p);
    /* mode N: y = alpha A x + beta y; T: x is (count, rows), y is (count, cols). beta = 0 never reads y. */
    void (*apply)(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work);
    /* dparams += d<dy, A x>/dparams (NULL: skip); dx = A^T dy, or += when acc (dx NULL: skip). */
    void (*grad)(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work);
    void (*destroy)(sti_op_plan *p); /* frees p->data; NULL: nothing */
} sti_op_class;

struct sti_op_plan {
    const sti_op_class *cls;
    strata_context *ctx; /* shared */
    sti_values *values;  /* resolved; the canonical text prints them */
    int64_t rows, cols, max_count;
    int32_t dtype;       /* F32 or F64; on a device BF16 too, with sums and dparams in f32 */
    double base_width;   /* learning-rate multipliers are base_width / fan_in, divided by the number of factors */
    sti_params params;   /* offsets relative to the operator's block */
    size_t work;         /* bytes for max_count rows, any call */
    double flops;        /* of one row, forward */
    uint32_t yes, no;    /* property bits */
    sti_op_plan **child; /* compositions; their parameters stand in `params` with a prefix */
    int64_t *child_base;
    int32_t nchild;
    void *data;     /* class data */
    sti_key *keys;  /* rows, cols and the class's keys; owned */
    bool zero_init; /* the output factor starts at 0 */
};

/* ---- for classes ------------------------------------------------------------------------------------------------ */

/* Add the parameter of a factor that maps d_in to d_out, one of `factors`: standard deviation
 * sqrt(min(1, d_out / d_in) / d_in), multiplier base_width / d_in / factors. `output`: the factor nearest y. */
strata_status sti_op_factor(sti_op_plan *p, const char *name, int32_t ndim, const int64_t *shape, int64_t d_in,
                            int64_t d_out, int32_t factors, bool output);
/* Plan a child for panels of `count` rows and append its parameters under "prefix."; zero: it takes zero_init over. */
strata_status sti_op_child(sti_op_plan *p, const char *prefix, const sti_spec *spec, int64_t rows, int64_t cols,
                           int64_t count, bool zero);
/* Child i's parameters within the parent's block (also of a gradient block); NULL stays NULL. */
const void *sti_op_child_params(const sti_op_plan *p, int32_t i, const void *params);
void *sti_op_child_grads(const sti_op_plan *p, int32_t i, void *dparams);
/* Write the canonical texts of children [0, nchild) back into key `name`. */
strata_status sti_op_set_children(sti_op_plan *p, const char *name);
/* Grow p->work by count * width elements (rounded up to a cache line); *at, unless NULL, receives their offset. */
strata_status sti_op_reserve(sti_op_plan *p, int64_t count, int64_t width, size_t *at);
/* The same in numbers of the type of sums. */
strata_status sti_op_reserve_sums(sti_op_plan *p, int64_t count, int64_t width, size_t *at);
/* rows= or cols= written in a spec; 0: not written. */
int64_t sti_op_spec_size(const sti_spec *spec, const char *key);
/* "AxB,CxD" (A*B = rows, C*D = cols) or, when the text is empty, the divisor pairs nearest the square root; f = A B C D
 * and, when the key is empty, its canonical text is set. */
strata_status sti_op_shape_key(sti_op_plan *p, const char *key, int64_t f[4]);
/* E_SHAPE unless rows equals cols. */
strata_status sti_op_square(const sti_op_plan *p);

/* Rows [first, first + n) of a (count, width) view; elements of a row are contiguous. */
static inline strata_tensor sti_op_rows(const strata_tensor *t, int64_t first, int64_t n)
{
    strata_tensor v = *t;
    v.data = (char *)t->data + (size_t)(first * t->stride[0]) * strata_dtype_size(t->dtype);
    v.shape[0] = n;
    return v;
}
static inline void *sti_op_at(const sti_op_plan *p, void *base, int64_t elements)
{
    return base ? (char *)base + (size_t)elements * strata_dtype_size(p->dtype) : NULL;
}
static inline const void *sti_op_param_at(const sti_op_plan *p, const void *params, int32_t i)
{
    return (const char *)params + (size_t)p->params.p[i].offset * strata_dtype_size(p->dtype);
}
/* Gradients of parameters are in the type of sums (f32 for bf16). */
static inline void *sti_op_sum_at(const sti_op_plan *p, void *base, int64_t elements)
{
    return base ? (char *)base + (size_t)elements * strata_dtype_size(sti_sum_type(p->dtype)) : NULL;
}
static inline void *sti_op_grad_at(const sti_op_plan *p, void *dparams, int32_t i)
{
    return sti_op_sum_at(p, dparams, p->params.p[i].offset);
}

/* ---- for everybody ---------------------------------------------------------------------------------------------- */

/* rows or cols 0: taken from the spec (stand-alone) or from the structure; disagreement is E_SHAPE naming both. */
strata_status sti_op_plan_create(const strata_context *ctx, const sti_spec *spec, int64_t rows, int64_t cols,
                                 int64_t max_count, int32_t dtype, double base_width, sti_op_plan **out);
/* The same with zero_init: the output factor starts at 0 (E_UNSUPPORTED for kinds that no factor makes 0). */
strata_status sti_op_plan_create_zero(const strata_context *ctx, const sti_spec *spec, int64_t rows, int64_t cols,
                                      int64_t max_count, int32_t dtype, double base_width, bool zero_init,
                                      sti_op_plan **out);
void sti_op_plan_destroy(sti_op_plan *p);
void sti_op_apply(const sti_op_plan *p, const void *params, sti_mode mode, double alpha, const strata_tensor *x,
                  double beta, const strata_tensor *y, void *work);
void sti_op_grad(const sti_op_plan *p, const void *params, const strata_tensor *x, const strata_tensor *dy,
                 void *dparams, const strata_tensor *dx, int acc, void *work);
/* Canonical text (all keys, fixed order, resolved); `nested` prints kind(...). Stand-alone text has rows= and cols=. */
char *sti_op_text(const sti_op_plan *p, bool nested, bool standalone);

/* The registry, generated from the folder list. */
int32_t sti_op_class_count(void);
const sti_op_class *sti_op_class_at(int32_t i);
const sti_op_class *sti_op_class_find(const char *kind); /* NULL: unknown */

/* A trainable linear layer as a leaf stage: out = A in + bias. Appends buffer and stage, returns the output buffer.
 * Parameters are NAME.weight, NAME.R … and NAME.bias. zero_init: the last factor starts at 0 (residual outputs). */
int32_t sti_graph_linear(sti_graph *g, const char *name, const sti_spec *spec, int64_t rows, int32_t in, bool bias,
                         bool zero_init);
/* The same for the numbers that a model reads, which are of no particular width: a dense weight starts at
 * N(0, 0.02^2), factors scaled alike, and every multiplier is 1, as for an embedding. */
int32_t sti_graph_read_in(sti_graph *g, const char *name, const sti_spec *spec, int64_t rows, int32_t in, bool bias);

#endif
