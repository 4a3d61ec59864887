/* The stage array: building, planning of lifetimes, forward and backward walks. */
#include "core/graph.h"

#include <string.h>
#include <time.h>

#include "core/device.h"

strata_status sti_graph_create(const strata_context *ctx, int32_t dtype, int64_t batch, int64_t time, int64_t chunk,
                               int32_t train, double base_width, sti_graph **out)
{
    *out = NULL;
    if (dtype != STRATA_F32 && dtype != STRATA_F64 && !(dtype == STRATA_BF16 && sti_on_device(ctx)))
        return sti_fail(STRATA_E_UNSUPPORTED, "graph: dtype %s is not built on this device; f32 and f64 are",
                        strata_dtype_name(dtype));
    if (batch < 1 || time < 1 || chunk < 1 || chunk > time)
        return sti_fail(STRATA_E_SHAPE, "graph: batch %lld, time %lld, chunk %lld", (long long)batch, (long long)time,
                        (long long)chunk);
    if (train && chunk != time)
        return sti_fail(STRATA_E_INVALID, "graph: training runs whole sequences, but chunk %lld differs from time %lld",
                        (long long)chunk, (long long)time);
    void *p;
    STI_TRY(sti_calloc(ctx, 1, sizeof(sti_graph), &p));
    sti_graph *g = p;
    g->ctx = sti_context_ref(ctx);
    g->dtype = dtype;
    g->train = train;
    g->batch = batch;
    g->time = time;
    g->chunk = chunk;
    g->base_width = base_width;
    *out = g;
    return STRATA_OK;
}

void sti_graph_destroy(sti_graph *g)
{
    if (!g) return;
    for (int32_t i = 0; i < g->nstage; i++) {
        sti_stage *s = &g->stage[i];
        if (s->cls->destroy) s->cls->destroy(s->plan);
        sti_heap_free(s->name);
    }
    sti_heap_free(g->stage);
    sti_heap_free(g->buffer);
    sti_params_free(&g->params);
    strata_context *ctx = g->ctx;
    strata_free(ctx, g);
    strata_context_destroy(ctx);
}

void sti_graph_fail(sti_graph *g, strata_status s)
{
    if (g->status == STRATA_OK) g->status = s;
}

static int32_t failed(sti_graph *g, strata_status s)
{
    sti_graph_fail(g, s);
    return -1;
}

static int32_t add_buffer(sti_graph *g, sti_buffer b)
{
    if (g->status != STRATA_OK) return -1;
    if (b.width < 1) return failed(g, sti_fail(STRATA_E_SHAPE, "graph: a buffer of width %lld", (long long)b.width));
    if (g->nbuffer == g->cap_buffer) {
        int32_t cap = g->cap_buffer ? 2 * g->cap_buffer : 32;
        sti_buffer *p = sti_heap_grow(g->buffer, (size_t)g->cap_buffer * sizeof *p, (size_t)cap * sizeof *p);
        if (!p) return failed(g, sti_fail(STRATA_E_MEMORY, "graph: no memory"));
        g->buffer = p;
        g->cap_buffer = cap;
    }
    b.writer = -1;
    g->buffer[g->nbuffer] = b;
    return g->nbuffer++;
}

int32_t sti_graph_input(sti_graph *g, int64_t width, int32_t dtype, int32_t needs_grad)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->nbuffer; i++) n += g->buffer[i].external;
    if (n == (int32_t)STI_COUNT(((sti_exec *)0)->ext))
        return failed(g, sti_fail(STRATA_E_INVALID, "graph: more than %d inputs", n));
    return add_buffer(g, (sti_buffer){ .width = width, .dtype = dtype, .external = 1, .needs_grad = needs_grad });
}

int32_t sti_graph_buffer(sti_graph *g, int64_t width)
{
    return add_buffer(g, (sti_buffer){ .width = width, .dtype = g->dtype, .needs_grad = 1 });
}

int32_t sti_graph_sum_buffer(sti_graph *g, int64_t width)
{
    return add_buffer(g, (sti_buffer){ .width = width, .dtype = sti_sum_type(g->dtype), .needs_grad = 1 });
}

void sti_graph_output(sti_graph *g, int32_t buffer)
{
    if (g->status == STRATA_OK && buffer >= 0) g->buffer[buffer].output = 1;
}

static strata_status add_stage(sti_graph *g, const sti_stage_desc *d)
{
    if (g->nstage == g->cap_stage) {
        int32_t cap = g->cap_stage ? 2 * g->cap_stage : 32;
        sti_stage *p = sti_heap_grow(g->stage, (size_t)g->cap_stage * sizeof *p, (size_t)cap * sizeof *p);
        if (!p) return sti_fail(STRATA_E_MEMORY, "graph: no memory");
        g->stage = p;
        g->cap_stage = cap;
    }
    for (int32_t k = 0; k < d->nin; k++)
        if (d->in[k] < 0 || d->in[k] >= g->nbuffer)
            return sti_fail(STRATA_E_INVALID, "%s: input %d is no buffer", d->name, k);
    for (int32_t k = 0; k < d->nout; k++) {
        if (d->out[k] < 0 || d->out[k] >= g->nbuffer)
            return sti_fail(STRATA_E_INVALID, "%s: output %d is no buffer", d->name, k);
        sti_buffer *b = &g->buffer[d->out[k]];
        if (b->writer >= 0 || b->external)
            return sti_fail(STRATA_E_INVALID, "%s: output %d has a writer already", d->name, k);
    }
    sti_stage s = { .cls = d->cls,
                    .plan = d->plan,
                    .graph = g,
                    .nin = d->nin,
                    .nout = d->nout,
                    .keep_in = d->keep_in,
                    .keep_out = d->keep_out,
                    .no_grad = d->no_grad,
                    .pass_grad = d->pass_grad,
                    .grad_over = d->grad_over,
                    .is_sum = d->is_sum,
                    .takes_sum = d->takes_sum,
                    .saved = g->train ? sti_round_up(d->saved, STI_ALIGN) : 0,
                    .work = d->work,
                    .state = sti_round_up(d->state, STI_ALIGN),
                    .state_token_bytes = d->state_token_bytes };
    memcpy(s.in, d->in, sizeof s.in);
    memcpy(s.out, d->out, sizeof s.out);
    if (d->tie) {
        if (d->tie > g->params.count)
            return sti_fail(STRATA_E_INVALID, "%s: tied to parameter %d of %d", d->name, d->tie, g->params.count);
        s.param_base = g->params.p[d->tie - 1].offset;
    } else if (d->params) {
        STI_TRY(sti_params_append(&g->params, d->name, d->params, &s.param_first, &s.param_base));
        s.param_count = d->params->count;
    }
    s.name = sti_strdup(d->name);
    if (!s.name) return sti_fail(STRATA_E_MEMORY, "graph: no memory");
    for (int32_t k = 0; k < d->nout; k++) g->buffer[d->out[k]].writer = g->nstage;
    g->stage[g->nstage++] = s;
    return STRATA_OK;
}

int32_t sti_graph_add(sti_graph *g, const sti_stage_desc *d)
{
    if (g->status == STRATA_OK) {
        strata_status s = add_stage(g, d);
        if (s == STRATA_OK) return g->nstage - 1;
        sti_graph_fail(g, s);
    }
    if (d->cls->destroy && d->plan) d->cls->destroy(d->plan);
    return -1;
}

/* ---- planning ---------------------------------------------------------------------------------------------------- */

/* Time runs 0 … n-1 for the forward calls and n … 2n-1 for the backward calls, stage n-1 first. */
typedef struct life {
    int32_t first, last; /* first > last: not stored */
    size_t bytes, off;
} life;

static bool overlap(const life *a, const life *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* Lowest free offset for each block, largest blocks first; returns the arena's size. */
static size_t place(life *l, int32_t n, int32_t *order)
{
    size_t total = 0;
    for (int32_t i = 0; i < n; i++) order[i] = i;
    for (int32_t i = 1; i < n; i++) /* insertion sort: n is a few hundred, and equal sizes keep their order */
        for (int32_t j = i; j > 0 && l[order[j]].bytes > l[order[j - 1]].bytes; j--) {
            int32_t t = order[j];
            order[j] = order[j - 1];
            order[j - 1] = t;
        }
    for (int32_t i = 0; i < n; i++) {
        life *x = &l[order[i]];
        if (x->first > x->last) continue;
        x->off = 0;
        for (bool moved = true; moved;) {
            moved = false;
            for (int32_t j = 0; j < i; j++) {
                const life *y = &l[order[j]];
                if (y->first > y->last || !overlap(x, y) || x->off >= y->off + y->bytes || y->off >= x->off + x->bytes)
                    continue;
                x->off = y->off + y->bytes;
                moved = true;
            }
        }
        total = STI_MAX(total, x->off + x->bytes);
    }
    return total;
}

static void live(life *l, int32_t at)
{
    l->first = STI_MIN(l->first, at);
    l->last = STI_MAX(l->last, at);
}

/* Leave sums to the stage behind them where that one can add: on a device the numbers then pass once, not twice. */
static void leave_sums(sti_graph *g)
{
    for (int32_t i = 0; i + 1 < g->nstage; i++) {
        sti_stage *s = &g->stage[i];
        const sti_stage *next = s + 1;
        s->left = s->is_sum && next->takes_sum && next->in[0] == s->out[0];
    }
}

static void data_lives(const sti_graph *g, life *l)
{
    int32_t n = g->nstage;
    for (int32_t i = 0; i < n; i++) {
        const sti_stage *s = &g->stage[i];
        for (int32_t k = 0; k < s->nin; k++) {
            live(&l[s->in[k]], i + s->left);
            if (g->train && (s->keep_in >> k & 1)) live(&l[s->in[k]], 2 * n - 1 - i);
        }
        for (int32_t k = 0; k < s->nout; k++) {
            live(&l[s->out[k]], i);
            if (g->train && (s->keep_out >> k & 1)) live(&l[s->out[k]], 2 * n - 1 - i);
        }
    }
    for (int32_t b = 0; b < g->nbuffer; b++)
        if (g->buffer[b].output) live(&l[b], 2 * n);
}

/* Lifetimes of gradients, and the accumulate bits: the caller or the last reader writes first. */
static void grad_lives(sti_graph *g, life *l)
{
    int32_t n = g->nstage;
    for (int32_t b = 0; b < g->nbuffer; b++) {
        g->buffer[b].has_grad = g->buffer[b].output;
        if (g->buffer[b].output) live(&l[b], n - 1);
    }
    for (int32_t i = n; i-- > 0;) {
        sti_stage *s = &g->stage[i];
        int32_t at = 2 * n - 1 - i;
        for (int32_t k = 0; k < s->nout; k++)
            if (g->buffer[s->out[k]].has_grad) live(&l[s->out[k]], at);
        for (int32_t k = 0; k < s->nin; k++) {
            sti_buffer *b = &g->buffer[s->in[k]];
            if ((s->no_grad >> k & 1) || !b->needs_grad) continue;
            s->acc[k] = b->has_grad;
            b->has_grad = 1;
            live(&l[s->in[k]], at);
        }
    }
}

/* Let gradients take the place of data that their first writer is the last to read: dlogits that of the logits. The
 * block then lives to the end of the gradient. */
static void grads_over(sti_graph *g, life *data, life *grad)
{
    for (int32_t i = 0; i < g->nstage; i++) {
        const sti_stage *s = &g->stage[i];
        const int32_t at = 2 * g->nstage - 1 - i;
        for (int32_t k = 0; k < s->nin; k++) {
            sti_buffer *b = &g->buffer[s->in[k]];
            life *d = &data[s->in[k]], *x = &grad[s->in[k]];
            if (!(s->grad_over >> k & 1) || s->acc[k] || !b->has_grad || b->external || b->output || d->last > at)
                continue;
            b->grad_over = 1;
            d->last = x->last;
            *x = (life){ .first = INT32_MAX, .last = -1, .bytes = x->bytes };
        }
    }
}

/* Is the gradient of buffer b written at a time in (after, until]? */
static bool written(const sti_graph *g, int32_t b, int32_t after, int32_t until)
{
    int32_t n = g->nstage;
    for (int32_t t = after + 1; t <= until; t++) {
        const sti_stage *s = &g->stage[2 * n - 1 - t];
        for (int32_t k = 0; k < s->nin; k++)
            if (s->in[k] == b && !(s->no_grad >> k & 1)) return true;
    }
    return false;
}

/* May the gradient of x, first written at time `at`, join those that have root r? Not while one of them is still to be
 * read when another one is added to. */
static bool may_join(const sti_graph *g, const life *l, const int32_t *root, int32_t r, int32_t x, int32_t at)
{
    for (int32_t y = 0; y < g->nbuffer; y++)
        if (root[y] == r && l[y].last > at && (written(g, x, at, l[y].last) || written(g, y, at, l[x].last)))
            return false;
    return true;
}

/* Does a stage add to the gradient of x, because it reads x twice? */
static bool reads_twice(const sti_stage *s, int32_t x)
{
    int32_t times = 0;
    for (int32_t k = 0; k < s->nin; k++) times += s->in[k] == x;
    return times > 1;
}

/* Let gradients that a stage only hands on share memory: along a residual stream all of them are one block. The life of
 * a root then covers those that joined it, which have none of their own. */
static void share_grads(const sti_graph *g, life *l, int32_t *root)
{
    int32_t n = g->nstage;
    for (int32_t b = 0; b < g->nbuffer; b++) root[b] = b;
    for (int32_t i = n; i-- > 0;) {
        const sti_stage *s = &g->stage[i];
        const int32_t out = s->out[0], at = 2 * n - 1 - i;
        for (int32_t k = 0; k < s->nin; k++) {
            const int32_t x = s->in[k];
            const sti_buffer *a = &g->buffer[x], *b = &g->buffer[out];
            if (!(s->pass_grad >> k & 1) || s->acc[k] || !a->has_grad || !b->has_grad || a->external || b->external ||
                a->output || b->output || a->grad_over || b->grad_over || a->width != b->width || reads_twice(s, x) ||
                !may_join(g, l, root, root[out], x, at))
                continue;
            root[x] = root[out];
        }
    }
    for (int32_t b = 0; b < g->nbuffer; b++) {
        if (root[b] == b) continue;
        live(&l[root[b]], l[b].first);
        live(&l[root[b]], l[b].last);
        l[b].first = INT32_MAX;
        l[b].last = -1;
    }
}

strata_status sti_graph_finish(sti_graph *g)
{
    if (g->status != STRATA_OK) return g->status;
    int32_t n = g->nbuffer;
    life *data = sti_heap((size_t)STI_MAX(n, 1) * sizeof *data), *grad = sti_heap((size_t)STI_MAX(n, 1) * sizeof *grad);
    int32_t *order = sti_heap((size_t)STI_MAX(n, 1) * sizeof *order),
            *root = sti_heap((size_t)STI_MAX(n, 1) * sizeof *root);
    if (!data || !grad || !order || !root) {
        g->status = sti_fail(STRATA_E_MEMORY, "graph: no memory");
        goto out;
    }
    int64_t rows = 0;
    if (!sti_mul_i64(g->batch, g->chunk, &rows))
        g->status = sti_fail(STRATA_E_SHAPE, "graph: batch times time overflows");
    for (int32_t b = 0; b < n && g->status == STRATA_OK; b++) {
        int64_t bytes;
        if (!sti_mul_i64(rows, g->buffer[b].width, &bytes) ||
            !sti_mul_i64(bytes, (int64_t)strata_dtype_size(g->buffer[b].dtype), &bytes) || bytes > INT64_MAX / 4096)
            g->status = sti_fail(STRATA_E_SHAPE, "graph: %lld rows of width %lld overflow", (long long)rows,
                                 (long long)g->buffer[b].width);
        else
            data[b] = grad[b] =
                (life){ .first = INT32_MAX, .last = -1, .bytes = sti_round_up((size_t)bytes, STI_ALIGN) };
    }
    if (g->status != STRATA_OK) goto out;
    if (sti_on_device(g->ctx)) leave_sums(g);
    data_lives(g, data);
    if (g->train) grad_lives(g, grad);
    if (g->train) grads_over(g, data, grad);
    share_grads(g, grad, root);
    for (int32_t b = 0; b < n; b++)
        if (g->buffer[b].external) data[b].last = grad[b].last = -1, data[b].first = grad[b].first = INT32_MAX;
    g->act_bytes = place(data, n, order);
    g->grad_bytes = place(grad, n, order);
    for (int32_t b = 0; b < n; b++) {
        g->buffer[b].off = data[b].off;
        g->buffer[b].grad_off = grad[root[b]].off;
    }
    for (int32_t i = 0; i < g->nstage; i++) {
        sti_stage *s = &g->stage[i];
        s->saved_off = g->saved_bytes;
        g->saved_bytes += s->saved;
        s->state_off = g->state_bytes;
        g->state_bytes += s->state;
        g->work_bytes = STI_MAX(g->work_bytes, sti_round_up(s->work, STI_ALIGN));
    }
out:
    sti_heap_free(data);
    sti_heap_free(grad);
    sti_heap_free(order);
    sti_heap_free(root);
    return g->status;
}

/* ---- running -------------------------------------------------------------------------------------------------------
 */

static int32_t external_index(const sti_graph *g, int32_t buffer)
{
    int32_t k = 0;
    for (int32_t b = 0; b < buffer; b++) k += g->buffer[b].external;
    return k;
}

void *sti_graph_data(const sti_graph *g, const sti_exec *e, int32_t buffer)
{
    const sti_buffer *b = &g->buffer[buffer];
    return b->external ? e->ext[external_index(g, buffer)] : (char *)e->act + b->off;
}

void *sti_graph_grad(const sti_graph *g, const sti_exec *e, int32_t buffer)
{
    const sti_buffer *b = &g->buffer[buffer];
    if (b->external) return e->dext[external_index(g, buffer)];
    if (b->grad_over) return sti_graph_data(g, e, buffer);
    return b->has_grad ? (char *)e->grad + b->grad_off : NULL;
}

static void bind(const sti_graph *g, const sti_stage *s, const sti_exec *e, sti_io *io)
{
    const size_t item = strata_dtype_size(g->dtype), sum = strata_dtype_size(sti_sum_type(g->dtype));
    memset(io, 0, sizeof *io);
    io->batch = e->batch;
    io->time = e->time;
    io->pos = e->pos;
    io->params = e->params ? (const char *)e->params + (size_t)s->param_base * item : NULL;
    io->master = e->master ? (const char *)e->master + (size_t)s->param_base * sum : io->params;
    io->dparams = e->dparams ? (char *)e->dparams + (size_t)s->param_base * sum : NULL;
    for (int32_t k = 0; k < s->nin; k++) io->in[k] = sti_graph_data(g, e, s->in[k]);
    for (int32_t k = 0; k < s->nout; k++) io->out[k] = sti_graph_data(g, e, s->out[k]);
    io->saved = e->saved ? (char *)e->saved + s->saved_off : NULL;
    io->work = e->work;
    io->state = e->state ? (char *)e->state + s->state_off : NULL;
    io->state_stride = g->state_bytes;
}

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Run one pass of stage i and add up its time; pass 0 is forward, 1 backward. */
static strata_status timed(const sti_graph *g, const sti_exec *e, int32_t i, int pass, const sti_io *io)
{
    const sti_stage *s = &g->stage[i];
    strata_status (*call)(const sti_stage *, const sti_io *) = pass ? s->cls->backward : s->cls->forward;
    if (!e->stage_seconds) return call(s, io);
    double *wall = e->stage_seconds + pass * g->nstage + i, *cpu = wall + 2 * g->nstage;
    STI_TRY(sti_device_wait(g->ctx));
    const double w = seconds(CLOCK_MONOTONIC), c = seconds(CLOCK_PROCESS_CPUTIME_ID);
    strata_status st = call(s, io);
    if (st == STRATA_OK) st = sti_device_wait(g->ctx);
    *cpu += seconds(CLOCK_PROCESS_CPUTIME_ID) - c;
    *wall += seconds(CLOCK_MONOTONIC) - w;
    return st;
}

static strata_status check_run(const sti_graph *g, const sti_exec *e)
{
    if (e->batch < 1 || e->batch > g->batch || e->time < 1 || e->time > g->chunk)
        return sti_fail(STRATA_E_SHAPE, "graph: a run of %lld x %lld tokens, planned for %lld x %lld",
                        (long long)e->batch, (long long)e->time, (long long)g->batch, (long long)g->chunk);
    return STRATA_OK;
}

strata_status sti_graph_forward(const sti_graph *g, const sti_exec *e)
{
    STI_TRY(check_run(g, e));
    for (int32_t i = 0; i < g->nstage; i++) {
        const sti_stage *s = &g->stage[i];
        sti_io io;
        if (s->left) continue;
        bind(g, s, e, &io);
        for (int32_t k = 0; i > 0 && s[-1].left && k < 2; k++) io.term[k] = sti_graph_data(g, e, s[-1].in[k]);
        STI_TRY(timed(g, e, i, 0, &io));
    }
    return STRATA_OK;
}

strata_status sti_graph_backward(const sti_graph *g, const sti_exec *e)
{
    if (!g->train) return sti_fail(STRATA_E_INVALID, "graph: backward of a graph that was planned for inference");
    STI_TRY(check_run(g, e));
    for (int32_t i = g->nstage; i-- > 0;) {
        const sti_stage *s = &g->stage[i];
        sti_io io;
        bind(g, s, e, &io);
        for (int32_t k = 0; k < s->nin; k++) {
            const sti_buffer *b = &g->buffer[s->in[k]];
            if ((s->no_grad >> k & 1) || !b->needs_grad) continue;
            io.din[k] = sti_graph_grad(g, e, s->in[k]);
            io.acc[k] = s->acc[k];
        }
        for (int32_t k = 0; k < s->nout; k++) io.dout[k] = sti_graph_grad(g, e, s->out[k]);
        STI_TRY(timed(g, e, i, 1, &io));
    }
    return STRATA_OK;
}

void sti_graph_cost(const sti_graph *g, int64_t batch, int64_t time, sti_cost *c)
{
    memset(c, 0, sizeof *c);
    for (int32_t i = 0; i < g->nstage; i++) {
        sti_cost one = { 0 };
        if (g->stage[i].cls->cost) g->stage[i].cls->cost(&g->stage[i], batch, time, &one);
        c->flops_fwd += one.flops_fwd;
        c->flops_bwd += one.flops_bwd;
        c->bytes_fwd += one.bytes_fwd;
        c->exps += one.exps;
    }
}

void sti_graph_state_init(const sti_graph *g, void *state)
{
    sti_array_zero(g->ctx, state, g->state_bytes);
    for (int32_t i = 0; i < g->nstage; i++) {
        const sti_stage *s = &g->stage[i];
        if (s->cls->state_init && s->state) s->cls->state_init(s, (char *)state + s->state_off);
    }
}
