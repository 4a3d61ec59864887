#include "support/rig.h"

#include "core/context.h"
#include "core/philox.h"
#include "core/spec.h"

/* Counting replacement of libc's, in the programs that link this file. */
long rig_allocations;
int posix_memalign(void **out, size_t align, size_t bytes);
int posix_memalign(void **out, size_t align, size_t bytes)
{
    rig_allocations++;
    *out = aligned_alloc(align, (bytes + align - 1) / align * align);
    return *out ? 0 : 12;
}

static void *poisoned(const rig *r, size_t bytes)
{
    void *p = strata_alloc(r->ctx, bytes + 64);
    CHECK(p != NULL);
    memset(p, 0xff, bytes + 64);
    return p;
}

static size_t item(const rig *r)
{
    return strata_dtype_size(r->plan.dtype);
}
static int64_t count(const rig *r)
{
    return r->plan.batch * r->plan.time * r->plan.width;
}

static strata_status build(rig *r, const rig_plan *plan)
{
    *r = (rig){ .plan = *plan };
    CHECK_OK(strata_context_create(plan->context ? plan->context : "threads=1", NULL, &r->ctx));
    CHECK_OK(sti_graph_create(r->ctx, plan->dtype, plan->batch, plan->time, plan->time, plan->train, 768, &r->g));
    r->in = sti_graph_input(r->g, plan->width, plan->dtype, 1);
    r->out = plan->build(r->g, plan->spec, plan->width, r->in, &r->text);
    if (plan->residual && r->out >= 0) {
        extern int32_t sti_graph_sum(sti_graph * g, const char *name, int32_t a, int32_t b);
        r->out = sti_graph_sum(r->g, "residual", r->out, r->in);
    }
    sti_graph_output(r->g, r->out);
    return sti_graph_finish(r->g);
}

/* Numbers that f32 holds exactly, so that both types compute from the same. */
static void draw(void *p, int32_t dtype, int64_t n, uint64_t stream)
{
    for (int64_t i = 0; i < n; i++) near_put(p, dtype, i, (double)(float)sti_normal(11, 1000 + stream, (uint64_t)i));
}

void rig_open(rig *r, const rig_plan *plan)
{
    CHECK_OK(build(r, plan));
    const sti_graph *g = r->g;
    const size_t bytes = (size_t)count(r) * item(r);
    r->param_bytes = (size_t)g->params.elements * item(r);
    r->params = poisoned(r, r->param_bytes);
    r->dparams = poisoned(r, r->param_bytes);
    sti_params_init(&g->params, r->params, plan->dtype, 5, 1);
    for (int64_t i = 0; i < g->params.elements; i++)
        near_put(r->params, plan->dtype, i, (double)(float)near_get(r->params, plan->dtype, i));
    r->act = poisoned(r, g->act_bytes);
    r->grad = poisoned(r, g->grad_bytes);
    r->saved = plan->train ? poisoned(r, g->saved_bytes) : NULL;
    r->work = poisoned(r, g->work_bytes);
    r->state = poisoned(r, g->state_bytes * (size_t)plan->batch);
    if (!plan->train)
        for (int64_t b = 0; b < plan->batch; b++)
            sti_graph_state_init(g, (char *)r->state + (size_t)b * g->state_bytes);
    r->x = poisoned(r, bytes);
    r->y = poisoned(r, bytes);
    r->dy = poisoned(r, bytes);
    r->dx = poisoned(r, bytes);
    draw(r->x, plan->dtype, count(r), 0);
    draw(r->dy, plan->dtype, count(r), 1);
}

void rig_close(rig *r)
{
    void *const all[] = {
        r->params, r->dparams, r->act, r->grad, r->saved, r->work, r->state, r->x, r->y, r->dy, r->dx
    };
    for (size_t i = 0; i < STI_COUNT(all); i++) strata_free(r->ctx, all[i]);
    sti_graph_destroy(r->g);
    sti_heap_free(r->text);
    strata_context_destroy(r->ctx);
    memset(r, 0, sizeof *r);
}

strata_status rig_try(const rig_plan *plan)
{
    rig r;
    const strata_status s = build(&r, plan);
    rig_close(&r);
    return s;
}

static sti_exec exec_of(const rig *r, int64_t batch, int64_t time, const int64_t *pos, const void *x, int with_state)
{
    sti_exec e = { .params = r->params,
                   .act = r->act,
                   .grad = r->grad,
                   .saved = r->saved,
                   .work = r->work,
                   .state = with_state ? r->state : NULL,
                   .pos = pos,
                   .batch = batch,
                   .time = time };
    memcpy(&e.ext[0], &x, sizeof x);
    return e;
}

void rig_forward(rig *r, int64_t batch, int64_t time, const int64_t *pos, const void *x, int with_state)
{
    const sti_exec e = exec_of(r, batch, time, pos, x, with_state);
    memset(r->act, 0xff, r->g->act_bytes);
    memset(r->work, 0xff, r->g->work_bytes);
    if (r->saved) memset(r->saved, 0xff, r->g->saved_bytes);
    const long before = rig_allocations;
    CHECK_OK(sti_graph_forward(r->g, &e));
    CHECK_INT(rig_allocations, before);
    memcpy(r->y, sti_graph_data(r->g, &e, r->out), (size_t)(batch * time * r->plan.width) * item(r));
    for (int64_t i = 0; i < batch * time * r->plan.width; i++) CHECK(isfinite(near_get(r->y, r->plan.dtype, i)));
}

void rig_backward(rig *r, int64_t batch, int64_t time, double start)
{
    sti_exec e = exec_of(r, batch, time, NULL, r->x, 0);
    e.dparams = r->dparams;
    e.dext[0] = r->dx;
    memset(r->grad, 0xff, r->g->grad_bytes);
    memset(r->work, 0xff, r->g->work_bytes);
    memset(r->dx, 0xff, (size_t)count(r) * item(r));
    for (int64_t i = 0; i < r->g->params.elements; i++) near_put(r->dparams, r->plan.dtype, i, start);
    memcpy(sti_graph_grad(r->g, &e, r->out), r->dy, (size_t)(batch * time * r->plan.width) * item(r));
    const long before = rig_allocations;
    CHECK_OK(sti_graph_backward(r->g, &e));
    CHECK_INT(rig_allocations, before);
    for (int64_t i = 0; i < batch * time * r->plan.width; i++) CHECK(isfinite(near_get(r->dx, r->plan.dtype, i)));
}

double rig_norm(const void *p, int32_t dtype, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += near_get(p, dtype, i) * near_get(p, dtype, i);
    return sqrt(s);
}

/* ---- checks ---------------------------------------------------------------------------------------------------------
 */

enum { BATCH = 2, TIME = 11, MANY_BATCH = 12, MANY_TIME = 90 }; /* many: enough for two threads at width 16 */

static double loss(rig *r)
{
    const sti_exec e = exec_of(r, r->plan.batch, r->plan.time, NULL, r->x, 0);
    double sum = 0;
    CHECK_OK(sti_graph_forward(r->g, &e));
    const double *y = sti_graph_data(r->g, &e, r->out), *dy = r->dy;
    for (int64_t i = 0; i < count(r); i++) sum += y[i] * dy[i];
    return sum;
}

/* A central difference of a smooth function in f64 is good to h^2 and eps / h, far below the tolerance. */
static void difference(rig *r, const char *what, double *p, double got, double size)
{
    const double keep = *p, h = 2e-5;
    *p = keep + h;
    const double up = loss(r);
    *p = keep - h;
    const double down = loss(r);
    *p = keep;
    const double want = (up - down) / (2 * h);
    if (!(fabs(want - got) <= 1e-6 * (size + fabs(want))))
        FAIL("%s: gradient of %s is %.9g, differences give %.9g", r->plan.spec, what, got, want);
}

static void check_gradients(rig_build build_fn, const char *spec, int64_t width)
{
    rig r, res;
    rig_plan plan = {
        .build = build_fn, .spec = spec, .batch = BATCH, .time = TIME, .width = width, .dtype = STRATA_F64, .train = 1
    };
    rig_open(&r, &plan);
    rig_forward(&r, BATCH, TIME, NULL, r.x, 0);
    rig_backward(&r, BATCH, TIME, 0);
    const int64_t n = count(&r);
    const double *dx = r.dx, *dp = r.dparams, size = rig_norm(dx, STRATA_F64, n) / sqrt((double)n);
    CHECK(size > 0);
    for (int64_t i = 0; i < n; i += 1 + n / 60) difference(&r, "x", (double *)r.x + i, dx[i], size);
    for (int32_t k = 0; k < r.g->params.count; k++) {
        const sti_param *p = &r.g->params.p[k];
        const double whole = rig_norm(dp + p->offset, STRATA_F64, p->count);
        if (!(whole > 0)) FAIL("%s: gradient of %s is zero", spec, p->name);
        for (int64_t i = 0; i < p->count; i += 1 + p->count / 12)
            difference(&r, p->name, (double *)r.params + p->offset + i, dp[p->offset + i],
                       whole / sqrt((double)p->count));
    }
    /* dparams adds, and dx adds where x has a second reader */
    plan.residual = 1;
    rig_open(&res, &plan);
    rig_forward(&res, BATCH, TIME, NULL, res.x, 0);
    rig_backward(&res, BATCH, TIME, 3);
    for (int64_t i = 0; i < n; i++) {
        const double want = dx[i] + ((double *)r.dy)[i];
        CHECK(fabs(((double *)res.dx)[i] - want) <= 1e-12 * (fabs(dx[i]) + fabs(want) + size));
    }
    for (int32_t k = 0; k < r.g->params.count; k++)
        for (int64_t i = 0; i < r.g->params.p[k].count; i++) {
            const double want = dp[r.g->params.p[k].offset + i];
            CHECK(fabs(((double *)res.dparams)[r.g->params.p[k].offset + i] - 3 - want) <= 1e-11 * (4 + fabs(want)));
        }
    rig_close(&res);
    rig_close(&r);
}

/* Norm-wise: |x - ref| <= c eps sqrt(k) |ref| (contracts 4); k: longest sum on the path. */
static double distance(const void *x, int32_t dtype, const void *ref, int32_t rtype, int64_t n)
{
    double d = 0;
    for (int64_t i = 0; i < n; i++) d += pow(near_get(x, dtype, i) - near_get(ref, rtype, i), 2);
    return sqrt(d);
}

static void close_to(const char *spec, const char *what, void *x, int32_t dtype, const void *ref, int32_t rtype,
                     int64_t n, double k)
{
    const double eps = dtype == STRATA_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
    const double bound = 8 * eps * sqrt(k) * rig_norm(ref, rtype, n), d = distance(x, dtype, ref, rtype, n);
    if (!(d <= bound)) FAIL("%s: %s is off by %.3g, bound %.3g", spec, what, d, bound);
    const double keep = near_get(x, dtype, n / 2);
    near_put(x, dtype, n / 2, keep + 100 * bound);
    CHECK(distance(x, dtype, ref, rtype, n) > bound);
    near_put(x, dtype, n / 2, keep);
}

static double longest(int64_t width, int64_t time)
{
    return (double)(4 * width + time); /* hidden layers are at most 4 times as wide */
}

static void check_types(rig_build build_fn, const char *spec, int64_t width)
{
    rig s, d;
    rig_plan plan = {
        .build = build_fn, .spec = spec, .batch = BATCH, .time = TIME, .width = width, .dtype = STRATA_F32, .train = 1
    };
    rig_open(&s, &plan);
    plan.dtype = STRATA_F64;
    rig_open(&d, &plan);
    rig_forward(&s, BATCH, TIME, NULL, s.x, 0);
    rig_forward(&d, BATCH, TIME, NULL, d.x, 0);
    rig_backward(&s, BATCH, TIME, 0);
    rig_backward(&d, BATCH, TIME, 0);
    const double k = longest(width, BATCH * TIME);
    close_to(spec, "y in f32", s.y, STRATA_F32, d.y, STRATA_F64, count(&s), k);
    close_to(spec, "dx in f32", s.dx, STRATA_F32, d.dx, STRATA_F64, count(&s), k);
    close_to(spec, "dparams in f32", s.dparams, STRATA_F32, d.dparams, STRATA_F64, s.g->params.elements, k);
    rig_close(&s);
    rig_close(&d);
}

static void check_smaller(rig_build build_fn, const char *spec, int64_t width)
{
    rig big, small;
    rig_plan plan = {
        .build = build_fn, .spec = spec, .batch = 3, .time = 2 * TIME, .width = width, .dtype = STRATA_F64, .train = 1
    };
    rig_open(&big, &plan);
    plan.spec = big.text; /* resolved blocks: those of the larger plan */
    plan.batch = 1;
    plan.time = TIME - 4;
    rig_open(&small, &plan);
    rig_forward(&big, 1, TIME - 4, NULL, big.x, 0);
    rig_forward(&small, 1, TIME - 4, NULL, small.x, 0);
    rig_backward(&big, 1, TIME - 4, 0);
    rig_backward(&small, 1, TIME - 4, 0);
    const double k = longest(width, TIME);
    close_to(spec, "y of a smaller run", big.y, STRATA_F64, small.y, STRATA_F64, count(&small), k);
    close_to(spec, "dx of a smaller run", big.dx, STRATA_F64, small.dx, STRATA_F64, count(&small), k);
    rig_close(&big);
    rig_close(&small);
}

static void check_text(rig_build build_fn, const char *spec, int64_t width)
{
    rig a, b;
    rig_plan plan = { .build = build_fn, .spec = spec, .batch = 1, .time = TIME, .width = width, .dtype = STRATA_F32 };
    CHECK_OK(build(&a, &plan));
    plan.spec = a.text;
    CHECK_OK(build(&b, &plan));
    CHECK_STR(a.text, b.text);
    CHECK_INT(a.g->params.elements, b.g->params.elements);
    rig_close(&b);
    rig_close(&a);
}

static void check_causal(rig_build build_fn, const char *spec, int64_t width)
{
    rig r;
    const rig_plan plan = {
        .build = build_fn, .spec = spec, .batch = BATCH, .time = TIME, .width = width, .dtype = STRATA_F32, .train = 1
    };
    rig_open(&r, &plan);
    const size_t bytes = (size_t)count(&r) * sizeof(float);
    float *keep = poisoned(&r, bytes), *changed = poisoned(&r, bytes), *x = r.x, *y = r.y;
    rig_forward(&r, BATCH, TIME, NULL, x, 0);
    memcpy(keep, y, bytes);
    for (int64_t t = 1; t < TIME; t += 3) {
        for (int64_t i = 0; i < count(&r); i++)
            changed[i] = x[i] + (i / width % TIME >= t ? 0.5f + (float)(i % 3) : 0.0f);
        rig_forward(&r, BATCH, TIME, NULL, changed, 0);
        for (int64_t b = 0; b < BATCH; b++) {
            const int64_t at = b * TIME * width;
            if (memcmp(y + at, keep + at, (size_t)(t * width) * sizeof *y) != 0)
                FAIL("%s: the future at %lld changes the past", spec, (long long)t);
            CHECK(memcmp(y + at + t * width, keep + at + t * width, (size_t)width * sizeof *y) != 0);
        }
    }
    strata_free(r.ctx, keep);
    strata_free(r.ctx, changed);
    rig_close(&r);
}

/* Tokens in pieces of the given lengths, with the state moved in between, against one training forward. */
static void check_steps(rig_build build_fn, const char *spec, int64_t width, int32_t dtype, const int64_t *piece)
{
    rig whole, r;
    rig_plan plan = {
        .build = build_fn, .spec = spec, .batch = BATCH, .time = TIME, .width = width, .dtype = dtype, .train = 1
    };
    rig_open(&whole, &plan);
    rig_forward(&whole, BATCH, TIME, NULL, whole.x, 0);
    plan.train = 0;
    rig_open(&r, &plan);
    const size_t row = (size_t)width * item(&r), state = r.g->state_bytes * BATCH;
    char *x = poisoned(&r, BATCH * TIME * row), *y = poisoned(&r, BATCH * TIME * row);
    int64_t pos[BATCH] = { 0 };
    for (int64_t t = 0, n; t < TIME; t += n) {
        n = STI_MIN(*piece, TIME - t);
        if (piece[1]) piece++;
        for (size_t b = 0; b < BATCH; b++)
            memcpy(x + b * (size_t)n * row, (char *)whole.x + (b * TIME + (size_t)t) * row, (size_t)n * row);
        pos[0] = pos[1] = t;
        rig_forward(&r, BATCH, n, pos, x, 1);
        for (size_t b = 0; b < BATCH; b++)
            memcpy(y + (b * TIME + (size_t)t) * row, (char *)r.y + b * (size_t)n * row, (size_t)n * row);
        void *moved = poisoned(&r, state);
        memcpy(moved, r.state, state);
        memset(r.state, 0xff, state);
        strata_free(r.ctx, r.state);
        r.state = moved;
    }
    for (int64_t i = 0; i < BATCH * TIME; i++)
        close_to(spec, "a step", y + (size_t)i * row, dtype, (char *)whole.y + (size_t)i * row, dtype, width,
                 4 * longest(width, TIME));
    strata_free(r.ctx, x);
    strata_free(r.ctx, y);
    rig_close(&r);
    rig_close(&whole);
}

/* Sizes at which threads do share the work; the same bits for every number of them, and again in a second call. */
static void check_repeat(rig_build build_fn, const char *spec, int64_t width)
{
    rig first = { 0 }, r;
    for (int t = 1; t <= 3; t++) {
        char context[48];
        snprintf(context, sizeof context, "threads=%d deterministic=1", t);
        const rig_plan plan = { .context = context,
                                .build = build_fn,
                                .spec = spec,
                                .batch = MANY_BATCH,
                                .time = MANY_TIME,
                                .width = width,
                                .dtype = STRATA_F32,
                                .train = 1 };
        rig_open(&r, &plan);
        const size_t bytes = (size_t)count(&r) * item(&r);
        for (int again = 0; again < (t == 2 ? 2 : 1); again++) {
            rig_forward(&r, MANY_BATCH, MANY_TIME, NULL, r.x, 0);
            rig_backward(&r, MANY_BATCH, MANY_TIME, 0);
            if (t > 1 && (memcmp(first.y, r.y, bytes) != 0 || memcmp(first.dx, r.dx, bytes) != 0 ||
                          memcmp(first.dparams, r.dparams, r.param_bytes) != 0))
                FAIL("%s: other bits with %d threads", spec, t);
        }
        if (t == 1)
            first = r;
        else
            rig_close(&r);
    }
    first.plan.context = NULL;
    rig_close(&first);
}

void rig_check(rig_build build_fn, const char *spec, int64_t width, int causal)
{
    static const int64_t one[] = { 1, 0 }, prefill[] = { 5, 1, 0 }, chunks[] = { 4, 3, 0 };
    check_gradients(build_fn, spec, width);
    check_types(build_fn, spec, width);
    check_smaller(build_fn, spec, width);
    check_text(build_fn, spec, width);
    check_repeat(build_fn, spec, width);
    if (!causal) return;
    check_causal(build_fn, spec, width);
    check_steps(build_fn, spec, width, STRATA_F64, one);
    check_steps(build_fn, spec, width, STRATA_F64, chunks);
    check_steps(build_fn, spec, width, STRATA_F32, prefill);
}
