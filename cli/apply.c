/* strata apply: one component on given tensors, so that anyone can check Strata against another framework. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 512, MAX_TEXT = 160 };

typedef struct job {
    const cli *c;
    const char *spec, *in_path, *out_path;
    bool grad;
    strata_context *files; /* reads and writes */
    strata_context *ctx;   /* computes */
    strata_file *in;
    int32_t dtype; /* of every input, of the computation and of every output (lse of bf16 is f32) */
    int bf16;      /* 1: bf16 inputs will do */
    strata_file_entry out[MAX_TENSORS];
    int nout;
    char *names[MAX_TENSORS]; /* owned names of outputs */
    int nnames;
    struct mirror { /* a block of the host and its copy where ctx computes */
        void *host, *device;
        size_t bytes;
        bool output;
    } mirror[16];
    int nmirror;
} job;

/* ---- inputs ----------------------------------------------------------------------------------------------------- */
static double value_at(const strata_tensor *t, int64_t i)
{
    if (t->dtype == STRATA_F64) return ((const double *)t->data)[i];
    if (t->dtype == STRATA_F32) return (double)((const float *)t->data)[i];
    const uint32_t bits = (uint32_t)((const uint16_t *)t->data)[i] << 16; /* bf16 */
    float x;
    memcpy(&x, &bits, sizeof x);
    return (double)x;
}

/* Index of the first value that is not finite, or -1. `empty`: -inf is right, the log-sum-exp of a row without keys. */
static int64_t first_bad(const strata_tensor *t, bool empty)
{
    const int64_t n = strata_tensor_count(t);
    for (int64_t i = 0; i < n; i++) {
        const double x = value_at(t, i);
        if (!isfinite(x) && !(empty && x < 0)) return i;
    }
    return -1;
}

/* A tensor must have the job's type and finite values. */
static int check_tensor(job *j, const char *name, const strata_tensor *t)
{
    if (t->dtype != STRATA_F32 && t->dtype != STRATA_F64 && !(j->bf16 && t->dtype == STRATA_BF16))
        return cli_fail(CLI_INPUT, "%s: tensor '%s' is %s; %s is needed", j->in_path, name, strata_dtype_name(t->dtype),
                        j->bf16 ? "f32, f64 or bf16" : "f32 or f64");
    if (!j->dtype) j->dtype = t->dtype;
    if (t->dtype != j->dtype)
        return cli_fail(CLI_INPUT, "%s: tensor '%s' is %s but the first one is %s", j->in_path, name,
                        strata_dtype_name(t->dtype), strata_dtype_name(j->dtype));
    int64_t bad = first_bad(t, false);
    if (bad >= 0)
        return cli_fail(CLI_INPUT, "%s: tensor '%s' is not finite at element %lld", j->in_path, name, (long long)bad);
    return CLI_OK;
}

/* Required tensor of a given rank; `axes` names them: "(batch, heads, time, d_qk)". */
static int need(job *j, const char *name, int ndim, const char *axes, strata_tensor *t)
{
    char text[MAX_TEXT];
    const strata_status st = strata_file_get(j->in, name, t);
    if (st == STRATA_E_NOTFOUND) return cli_fail(CLI_INPUT, "%s: no tensor '%s' %s", j->in_path, name, axes);
    if (st != STRATA_OK) return cli_status(st, CLI_ON_INPUT, j->in_path);
    if (t->ndim != ndim)
        return cli_fail(CLI_INPUT, "%s: tensor '%s' has shape %s, not %s", j->in_path, name,
                        cli_shape(text, sizeof text, t->shape, t->ndim), axes);
    for (int i = 0; i < ndim; i++)
        if (t->shape[i] < 1)
            return cli_fail(CLI_INPUT, "%s: tensor '%s' has an empty axis: shape %s", j->in_path, name,
                            cli_shape(text, sizeof text, t->shape, t->ndim));
    return check_tensor(j, name, t);
}

static int same_shape(const job *j, const char *name, const strata_tensor *t, int ndim, const int64_t *shape)
{
    char have[MAX_TEXT], want[MAX_TEXT];
    if (t->ndim == ndim && !memcmp(t->shape, shape, sizeof *shape * (size_t)ndim)) return CLI_OK;
    return cli_fail(CLI_INPUT, "%s: tensor '%s' has shape %s; %s is needed", j->in_path, name,
                    cli_shape(have, sizeof have, t->shape, t->ndim), cli_shape(want, sizeof want, shape, ndim));
}

/* The computing context: f64 inputs run the oracle unless the user names an instruction set. */
static int open_context(job *j)
{
    const char *isa = cli_text(j->c, "isa");
    if (!isa && j->dtype == STRATA_F64) isa = "ref";
    return cli_context(j->c, isa, &j->ctx);
}

/* ---- device -----------------------------------------------------------------------------------------------------
 */
/* Where ctx computes, a copy of a block of the host: *p points to it afterwards. An output is fetched again before it
 * is written. */
static int place(job *j, void **p, size_t bytes, bool output)
{
    struct mirror *m = &j->mirror[j->nmirror];
    if (strata_context_device(j->ctx) == STRATA_CPU) return CLI_OK;
    if (j->nmirror == (int)(sizeof j->mirror / sizeof *m)) return cli_fail(CLI_FAILED, "more than %d blocks", 16);
    int rc = cli_status(strata_device_alloc(j->ctx, bytes, &m->device), CLI_ON_INPUT, NULL);
    if (rc) return rc;
    j->nmirror++;
    m->host = *p;
    m->bytes = bytes;
    m->output = output;
    *p = m->device;
    return cli_status(strata_to_device(j->ctx, m->device, m->host, bytes), CLI_ON_INPUT, NULL);
}

static int place_tensor(job *j, strata_tensor *t, bool output)
{
    int rc = place(j, &t->data, (size_t)strata_tensor_count(t) * strata_dtype_size(t->dtype), output);
    t->device = strata_context_device(j->ctx);
    return rc;
}

static int place_inputs(job *j, strata_tensor *const *t, int n)
{
    int rc = CLI_OK;
    for (int i = 0; i < n && !rc; i++) rc = place_tensor(j, t[i], false);
    return rc;
}

static int fetch_outputs(job *j)
{
    int rc = cli_status(strata_synchronize(j->ctx), CLI_ON_INPUT, NULL);
    for (int i = 0; i < j->nmirror && !rc; i++) {
        const struct mirror *m = &j->mirror[i];
        if (m->output) rc = cli_status(strata_to_host(j->ctx, m->host, m->device, m->bytes), CLI_ON_INPUT, NULL);
    }
    return rc;
}

/* ---- outputs ---------------------------------------------------------------------------------------------------- */
static int add_view(job *j, const char *name, const strata_tensor *t)
{
    if (j->nout == MAX_TENSORS) return cli_fail(CLI_FAILED, "more than %d tensors to write", MAX_TENSORS);
    j->out[j->nout++] = (strata_file_entry){ name, *t };
    return CLI_OK;
}

static void *allocate(const job *j, size_t bytes)
{
    void *p = strata_alloc(j->ctx, bytes ? bytes : 1);
    if (p) memset(p, 0, bytes);
    return p;
}

/* A new output tensor; its memory belongs to *mem. */
static int add_output_of(job *j, int32_t dtype, const char *name, int ndim, const int64_t *shape, void **mem,
                         strata_tensor *t)
{
    strata_tensor v = strata_view(NULL, dtype, ndim, shape);
    size_t bytes;
    if (__builtin_mul_overflow((size_t)strata_tensor_count(&v), strata_dtype_size(dtype), &bytes) ||
        !(*mem = allocate(j, bytes)))
        return cli_fail(CLI_FAILED, "out of memory for tensor '%s'", name);
    v.data = *mem;
    *t = v;
    int rc = add_view(j, name, t);
    return rc ? rc : place_tensor(j, t, true);
}

static int add_output(job *j, const char *name, int ndim, const int64_t *shape, void **mem, strata_tensor *t)
{
    return add_output_of(j, j->dtype, name, ndim, shape, mem, t);
}

static char *prefixed(job *j, const char *prefix, const char *name)
{
    if (j->nnames == MAX_TENSORS) return NULL;
    size_t a = strlen(prefix), b = strlen(name);
    char *s = malloc(a + b + 1);
    if (!s) return NULL;
    memcpy(s, prefix, a);
    memcpy(s + a, name, b + 1);
    j->names[j->nnames++] = s;
    return s;
}

static int write_output(job *j, const char *canonical)
{
    int rc = fetch_outputs(j);
    if (rc) return rc;
    for (int i = 0; i < j->nout; i++) {
        const int64_t bad = first_bad(&j->out[i].tensor, strcmp(j->out[i].name, "lse") == 0);
        if (bad >= 0)
            return cli_fail(CLI_NUMERIC, "%s: the result '%s' is not finite at element %lld", j->in_path,
                            j->out[i].name, (long long)bad);
    }
    const strata_file_pair meta[] = { { "strata", strata_version() }, { "spec", canonical } };
    strata_status s = strata_file_write(j->files, j->out_path, j->out, j->nout, meta, 2);
    return cli_status(s, CLI_ON_OUTPUT, j->out_path);
}

/* ---- parameters of operators and mixers ---------------------------------------------------------------------------
 */
typedef struct params { /* how to ask either kind of object */
    const strata_op *op;
    const strata_mixer *mixer;
} params;

static int32_t param_count(params p)
{
    return p.op ? strata_op_param_count(p.op) : strata_mixer_param_count(p.mixer);
}
static strata_status param_at(params p, int32_t i, strata_param_info *info)
{
    return p.op ? strata_op_param(p.op, i, info) : strata_mixer_param(p.mixer, i, info);
}

/* Copy param.* into the block; every parameter must be there, and no other. */
static int load_params(job *j, params p, void *block)
{
    size_t e = strata_dtype_size(j->dtype);
    const char *known[MAX_TENSORS];
    int n = 0;
    for (int32_t i = 0; i < param_count(p); i++) {
        strata_param_info info;
        strata_tensor t;
        int rc = cli_status(param_at(p, i, &info), CLI_ON_INPUT, NULL);
        if (rc) return rc;
        char *name = prefixed(j, "param.", info.name);
        if (!name) return cli_fail(CLI_FAILED, "out of memory");
        char want[MAX_TEXT];
        if (strata_file_get(j->in, name, &t) != STRATA_OK)
            return cli_fail(CLI_INPUT, "%s: no tensor '%s' (%s)", j->in_path, name,
                            cli_shape(want, sizeof want, info.shape, info.ndim));
        if ((rc = same_shape(j, name, &t, info.ndim, info.shape)) || (rc = check_tensor(j, name, &t))) return rc;
        memcpy((char *)block + (size_t)info.offset * e, t.data, (size_t)info.count * e);
        if (n < MAX_TENSORS) known[n++] = name;
    }
    for (int32_t i = 0; i < strata_file_count(j->in); i++) {
        const char *name;
        strata_tensor t;
        if (strata_file_at(j->in, i, &name, &t) != STRATA_OK || strncmp(name, "param.", 6) != 0) continue;
        int k = 0;
        while (k < n && strcmp(known[k], name) != 0) k++;
        if (k < n) continue;
        const char *near = cli_nearest(name, known, n);
        return cli_fail(CLI_INPUT, "%s: tensor '%s' is no parameter of this %s%s%s", j->in_path, name,
                        p.op ? "operator" : "mixer", near ? "; the nearest is " : "", near ? near : "");
    }
    return CLI_OK;
}

static int add_params(job *j, params p, const char *prefix, void *block)
{
    for (int32_t i = 0; i < param_count(p); i++) {
        strata_param_info info;
        int rc = cli_status(param_at(p, i, &info), CLI_ON_INPUT, NULL);
        if (rc) return rc;
        char *name = prefixed(j, prefix, info.name);
        if (!name) return cli_fail(CLI_FAILED, "more than %d tensors to write", MAX_TENSORS);
        strata_tensor t = strata_view((char *)block + (size_t)info.offset * strata_dtype_size(j->dtype), j->dtype,
                                      info.ndim, info.shape);
        if ((rc = add_view(j, name, &t))) return rc;
    }
    return CLI_OK;
}

/* ---- attention ----------------------------------------------------------------------------------------------------
 */
static int apply_attention(job *j)
{
    enum { O, LSE, DQ, DK, DV, N };
    void *mem[N] = { NULL };
    strata_tensor q, k, v, dout, o, lse, dq, dk, dv;
    strata_attention *att = NULL;
    int rc;
    j->bf16 = 1;
    if ((rc = need(j, "q", 4, "(batch, heads, time, d_qk)", &q))) return rc;
    if ((rc = need(j, "k", 4, "(batch, kv_heads, time, d_qk)", &k))) return rc;
    if ((rc = need(j, "v", 4, "(batch, kv_heads, time, d_v)", &v))) return rc;
    if ((rc = same_shape(j, "k", &k, 4, (int64_t[]){ q.shape[0], k.shape[1], k.shape[2], q.shape[3] }))) return rc;
    if ((rc = same_shape(j, "v", &v, 4, (int64_t[]){ k.shape[0], k.shape[1], k.shape[2], v.shape[3] }))) return rc;
    const int64_t o_shape[] = { q.shape[0], q.shape[1], q.shape[2], v.shape[3] };
    if (j->grad) {
        if ((rc = need(j, "do", 4, "(batch, heads, time, d_v), which --grad needs", &dout))) return rc;
        if ((rc = same_shape(j, "do", &dout, 4, o_shape))) return rc;
    }
    if ((rc = open_context(j))) return rc;
    strata_attention_problem p = { STRATA_INIT(strata_attention_problem),
                                   .batch = q.shape[0],
                                   .heads = q.shape[1],
                                   .kv_heads = k.shape[1],
                                   .q_time = q.shape[2],
                                   .k_time = k.shape[2],
                                   .d_qk = q.shape[3],
                                   .d_v = v.shape[3],
                                   .q_pos = cli_int(j->c, "q-pos"),
                                   .k_pos = cli_int(j->c, "k-pos"),
                                   .context = cli_int(j->c, "context"),
                                   .dtype = j->dtype,
                                   .train = j->grad };
    if ((rc = cli_status(strata_attention_create(j->ctx, j->spec, &p, &att), CLI_ON_INPUT, NULL))) return rc;

    strata_attention_info info = { .size = STRATA_INIT(strata_attention_info) };
    rc = cli_status(strata_attention_query(att, &info), CLI_ON_INPUT, NULL);
    if (!rc) rc = place_inputs(j, (strata_tensor *[]){ &q, &k, &v, &dout }, j->grad ? 4 : 3);
    int lead = info.lse_parts > 1;
    const int64_t lse_shape[] = { info.lse_parts, q.shape[0], q.shape[1], q.shape[2] };
    if (!rc) rc = add_output(j, "o", 4, o_shape, &mem[O], &o);
    int32_t lse_dtype = j->dtype == STRATA_BF16 ? STRATA_F32 : j->dtype;
    if (!rc) rc = add_output_of(j, lse_dtype, "lse", lead ? 4 : 3, lse_shape + !lead, &mem[LSE], &lse);
    if (!rc) rc = cli_status(strata_attention_forward(att, &q, &k, &v, &o, &lse, NULL), CLI_ON_INPUT, NULL);
    if (!rc && j->grad) {
        rc = add_output(j, "dq", 4, q.shape, &mem[DQ], &dq);
        if (!rc) rc = add_output(j, "dk", 4, k.shape, &mem[DK], &dk);
        if (!rc) rc = add_output(j, "dv", 4, v.shape, &mem[DV], &dv);
        if (!rc)
            rc = cli_status(strata_attention_backward(att, &q, &k, &v, &o, &lse, &dout, &dq, &dk, &dv, NULL),
                            CLI_ON_INPUT, NULL);
    }
    if (!rc) rc = write_output(j, strata_attention_spec(att));
    strata_attention_destroy(att);
    for (int i = 0; i < N; i++) strata_free(j->ctx, mem[i]);
    return rc;
}

/* ---- operator -----------------------------------------------------------------------------------------------------
 */
static bool params_fit(const job *j, const strata_op *op)
{
    for (int32_t i = 0; i < strata_op_param_count(op); i++) {
        strata_param_info info;
        strata_tensor t;
        char name[256];
        if (strata_op_param(op, i, &info) != STRATA_OK) return false;
        int n = snprintf(name, sizeof name, "param.%s", info.name);
        if (n < 0 || (size_t)n >= sizeof name || strata_file_get(j->in, name, &t) != STRATA_OK) return false;
        if (t.ndim != info.ndim || memcmp(t.shape, info.shape, sizeof *t.shape * (size_t)t.ndim) != 0) return false;
    }
    return true;
}

/* The operator of the spec on `cols` inputs. Where the spec leaves rows open, it is the number for which the spec's
 * parameters have the shapes in the file: an axis of a parameter, or a product of two. */
static strata_status create_operator(job *j, int64_t cols, int64_t count, int64_t dy_cols, strata_op **out)
{
    strata_status s = strata_op_create(j->ctx, j->spec, 0, cols, count, j->dtype, out);
    if (s != STRATA_E_SPEC && s != STRATA_E_SHAPE && (s != STRATA_OK || params_fit(j, *out))) return s;
    int64_t axis[64], n = 0;
    axis[n++] = 1;
    axis[n++] = cols;
    if (dy_cols) axis[n++] = dy_cols;
    for (int32_t i = 0; i < strata_file_count(j->in); i++) {
        const char *name;
        strata_tensor t;
        if (strata_file_at(j->in, i, &name, &t) != STRATA_OK || strncmp(name, "param.", 6) != 0) continue;
        for (int d = 0; d < t.ndim && n < 64; d++) axis[n++] = t.shape[d];
    }
    for (int64_t a = 0; a < n; a++) {
        for (int64_t b = 0; b <= a; b++) {
            int64_t rows;
            strata_op *op = NULL;
            if (__builtin_mul_overflow(axis[a], axis[b], &rows) || rows < 1 || rows > (1 << 24)) continue;
            if (strata_op_create(j->ctx, j->spec, rows, cols, count, j->dtype, &op) != STRATA_OK) continue;
            if (params_fit(j, op)) {
                strata_op_destroy(*out);
                *out = op;
                return STRATA_OK;
            }
            strata_op_destroy(op);
        }
    }
    if (*out) return STRATA_OK; /* the spec fixes the size: load_params names the tensor that does not fit */
    s = strata_op_create(j->ctx, j->spec, dy_cols ? dy_cols : cols, cols, count, j->dtype, out);
    return s;
}

static int apply_operator(job *j)
{
    enum { PARAMS, Y, DX, DPARAMS, N };
    void *mem[N] = { NULL };
    strata_tensor x, dy = { 0 }, y, dx;
    strata_op *op = NULL;
    int rc;
    if ((rc = need(j, "x", 2, "(count, cols)", &x))) return rc;
    if (j->grad && (rc = need(j, "dy", 2, "(count, rows), which --grad needs", &dy))) return rc;
    if ((rc = open_context(j))) return rc;
    rc = cli_status(create_operator(j, x.shape[1], x.shape[0], j->grad ? dy.shape[1] : 0, &op), CLI_ON_INPUT, NULL);
    if (rc) return rc;

    size_t bytes = strata_op_param_bytes(op);
    params p = { op, NULL };
    const int64_t y_shape[] = { x.shape[0], strata_op_rows(op) };
    mem[PARAMS] = allocate(j, bytes);
    mem[DPARAMS] = allocate(j, bytes);
    if (!mem[PARAMS] || !mem[DPARAMS]) rc = cli_fail(CLI_FAILED, "out of memory");
    if (!rc) rc = load_params(j, p, mem[PARAMS]);
    if (!rc && j->grad) rc = same_shape(j, "dy", &dy, 2, y_shape);
    void *w = mem[PARAMS], *dw = mem[DPARAMS];
    if (!rc) rc = place_inputs(j, (strata_tensor *[]){ &x, &dy }, j->grad ? 2 : 1);
    if (!rc) rc = place(j, &w, bytes, false);
    if (!rc) rc = place(j, &dw, bytes, true);
    if (!rc) rc = add_output(j, "y", 2, y_shape, &mem[Y], &y);
    if (!rc) rc = cli_status(strata_op_apply(op, w, STRATA_OP_N, 1, &x, 0, &y, NULL), CLI_ON_INPUT, NULL);
    if (!rc && j->grad) {
        rc = add_output(j, "dx", 2, x.shape, &mem[DX], &dx);
        if (!rc) rc = cli_status(strata_op_grad(op, w, &x, &dy, dw, &dx, 0, NULL), CLI_ON_INPUT, NULL);
        if (!rc) rc = add_params(j, p, "dparam.", mem[DPARAMS]);
    }
    if (!rc) rc = write_output(j, strata_op_spec(op));
    strata_op_destroy(op);
    for (int i = 0; i < N; i++) strata_free(j->ctx, mem[i]);
    return rc;
}

/* ---- mixer --------------------------------------------------------------------------------------------------------
 */
static int apply_mixer(job *j)
{
    enum { PARAMS, Y, DX, DPARAMS, N };
    void *mem[N] = { NULL };
    strata_tensor x, dy, y, dx;
    strata_mixer *m = NULL;
    bool init = cli_given(j->c, "init");
    int rc;
    if ((rc = need(j, "x", 3, "(batch, time, width)", &x))) return rc;
    if (j->grad && (rc = need(j, "dy", 3, "(batch, time, width), which --grad needs", &dy))) return rc;
    if (j->grad && (rc = same_shape(j, "dy", &dy, 3, x.shape))) return rc;
    if ((rc = open_context(j))) return rc;
    strata_mixer_problem p = {
        STRATA_INIT(strata_mixer_problem),   .batch = x.shape[0], .time = x.shape[1], .width = x.shape[2],
        .context = cli_int(j->c, "context"), .dtype = j->dtype,   .train = 1
    };
    if ((rc = cli_status(strata_mixer_create(j->ctx, j->spec, &p, &m), CLI_ON_INPUT, NULL))) return rc;

    size_t bytes = strata_mixer_param_bytes(m);
    params ps = { NULL, m };
    mem[PARAMS] = allocate(j, bytes);
    mem[DPARAMS] = allocate(j, bytes);
    if (!mem[PARAMS] || !mem[DPARAMS]) rc = cli_fail(CLI_FAILED, "out of memory");
    if (!rc && init) {
        rc = cli_status(strata_mixer_init(m, (uint64_t)cli_int(j->c, "init"), mem[PARAMS]), CLI_ON_INPUT, NULL);
        if (!rc) rc = add_params(j, ps, "param.", mem[PARAMS]);
    } else if (!rc) {
        rc = load_params(j, ps, mem[PARAMS]);
    }
    void *w = mem[PARAMS], *dw = mem[DPARAMS];
    if (!rc) rc = place_inputs(j, (strata_tensor *[]){ &x, &dy }, j->grad ? 2 : 1);
    if (!rc) rc = place(j, &w, bytes, false);
    if (!rc) rc = place(j, &dw, bytes, true);
    if (!rc) rc = add_output(j, "y", 3, x.shape, &mem[Y], &y);
    if (!rc) rc = cli_status(strata_mixer_forward(m, w, &x, &y), CLI_ON_INPUT, NULL);
    if (!rc && j->grad) {
        rc = add_output(j, "dx", 3, x.shape, &mem[DX], &dx);
        if (!rc) rc = cli_status(strata_mixer_backward(m, w, &x, &dy, dw, &dx), CLI_ON_INPUT, NULL);
        if (!rc) rc = add_params(j, ps, "dparam.", mem[DPARAMS]);
    }
    if (!rc) rc = write_output(j, strata_mixer_spec(m));
    strata_mixer_destroy(m);
    for (int i = 0; i < N; i++) strata_free(j->ctx, mem[i]);
    return rc;
}

/* ---- command ------------------------------------------------------------------------------------------------------
 */
static int run_apply(cli *c)
{
    static const struct {
        const char *family;
        int (*run)(job *j);
    } kinds[] = { { "attention", apply_attention }, { "operator", apply_operator }, { "mixer", apply_mixer } };
    static const char *const names[] = { "attention", "operator", "mixer" };
    job *j = calloc(1, sizeof *j);
    if (!j) return cli_fail(CLI_FAILED, "out of memory");
    j->c = c;
    j->spec = c->arg[1];
    j->in_path = c->arg[2];
    j->out_path = c->arg[3];
    j->grad = cli_flag(c, "grad");

    int rc = -1;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && rc < 0; i++) {
        if (strcmp(c->arg[0], kinds[i].family) != 0) continue;
        /* what is wrong in itself is said before the input is opened */
        rc = cli_status(strata_spec_check(kinds[i].family, j->spec), CLI_ON_INPUT, NULL);
        if (!rc && cli_given(c, "init") && i != 2) rc = cli_fail(CLI_USAGE, "apply %s: --init is for mixers", names[i]);
        if (!rc) rc = cli_context(c, NULL, &j->files);
        if (!rc) rc = cli_status(strata_file_open(j->files, j->in_path, &j->in), CLI_ON_INPUT, j->in_path);
        if (!rc) rc = kinds[i].run(j);
    }
    if (rc < 0) {
        const char *near = cli_nearest(c->arg[0], names, 3);
        rc = cli_fail(CLI_USAGE, "apply: '%s' is none of attention, operator, mixer%s%s%s", c->arg[0],
                      near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    strata_file_close(j->in);
    for (int i = 0; i < j->nmirror; i++) strata_device_free(j->ctx, j->mirror[i].device);
    strata_context_destroy(j->ctx);
    strata_context_destroy(j->files);
    for (int i = 0; i < j->nnames; i++) free(j->names[i]);
    free(j);
    return rc;
}

static const cli_option options[] = {
    { "grad", 'g', CLI_FLAG, NULL, "also run backward; the input must hold do or dy", NULL, 0, 0 },
    { "init", 0, CLI_INT, "SEED", "mixer: initialise the parameters, and write them", NULL, 0, 9e15 },
    { "context", 0, CLI_INT, "N", "length that default block lists divide; 0: the input's", "0", 0, 1e9 },
    { "q-pos", 0, CLI_INT, "N", "attention: absolute position of the first query", "0", 0, 1e9 },
    { "k-pos", 0, CLI_INT, "N", "attention: absolute position of the first key", "0", 0, 1e9 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_apply = {
    "apply",
    "attention|operator|mixer SPEC IN OUT [--grad]",
    "Run one component on the tensors of a safetensors file",
    "attention  in: q (batch, heads, time, d_qk), k, v, optional do    out: o, lse; with --grad dq, dk, dv\n"
    "operator   in: x (count, cols), param.*, optional dy              out: y; with --grad dx, dparam.*\n"
    "mixer      in: x (batch, time, width), param.*, optional dy       out: y; with --grad dx, dparam.*\n"
    "\n"
    "The computation runs in the input's type through the same entry points as training; f64 input runs the\n"
    "reference variant in f64. Parameter names and layouts: strata help keys operator KIND.",
    "strata apply attention \"score=mlr ranks=8,4,4 gain=count\" in.safetensors out.safetensors --grad\n"
    "strata apply operator \"btt rank=2\" in.safetensors out.safetensors\n"
    "strata apply mixer \"softmax heads=4\" x.safetensors y.safetensors --init 1",
    4,
    4,
    options,
    run_apply,
};
