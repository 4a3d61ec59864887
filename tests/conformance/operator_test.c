/* Every operator class, on each of its examples: against the matrix that the formulas of the READMEs give, written out
 * here in f64 from the parameters alone; gradients against central differences; and the promises of the header. */
#include <strata/operator.h>

#include "core/context.h"
#include "core/philox.h"
#include "core/spec.h"
#include "operator/operator.h"
#include "support/test.h"

/* ---- the matrix of a spec, from its parameters ------------------------------------------------------------------- */

typedef struct block { /* a parameter block in f64; `abs`: the same expression with absolute values, for error bounds */
    const strata_op *op;
    const double *values;
    bool abs;
} block;

static char label[256]; /* what is being tested, for messages */

/* Value of parameter PREFIX.NAME, whose shape must be as stated (0: no such dimension). */
static const double *param(const block *b, const char *prefix, const char *name, int64_t n0, int64_t n1, int64_t n2,
                           int64_t n3)
{
    const int64_t want[4] = { n0, n1, n2, n3 };
    char full[128];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    for (int32_t i = 0; i < strata_op_param_count(b->op); i++) {
        strata_param_info p;
        CHECK_OK(strata_op_param(b->op, i, &p));
        if (strcmp(p.name, full) != 0) continue;
        for (int k = 0; k < 4; k++)
            if ((k < p.ndim ? p.shape[k] : 0) != want[k])
                FAIL("%s: dimension %d of %s is not %lld", label, k, full, (long long)want[k]);
        return b->values + p.offset;
    }
    FAIL("%s: no parameter %s", label, full);
}

static double *zeros(int64_t n)
{
    double *p = calloc((size_t)n + 1, sizeof *p);
    if (!p) FAIL("no memory");
    return p;
}

static sti_item *items(const sti_spec *s, const char *key, int32_t *n)
{
    for (int32_t i = 0; i < s->npair; i++)
        if (strcmp(s->pair[i].key, key) == 0) {
            *n = s->pair[i].nitem;
            return s->pair[i].item;
        }
    *n = 0;
    return NULL;
}

static int64_t number(const sti_spec *s, const char *key)
{
    int32_t n;
    const sti_item *it = items(s, key, &n);
    if (n != 1) FAIL("%s: the canonical text lacks %s", label, key);
    return strtoll(it->word, NULL, 10);
}

static bool word_is(const sti_spec *s, const char *key, const char *word)
{
    int32_t n;
    const sti_item *it = items(s, key, &n);
    return n == 1 && it->word && strcmp(it->word, word) == 0;
}

/* AxB,CxD */
static void shape_of(const sti_spec *s, int64_t f[4])
{
    int32_t n;
    const sti_item *it = items(s, "shape", &n);
    if (n != 2) FAIL("%s: the canonical text lacks shape", label);
    for (int k = 0; k < 2; k++) {
        char *end;
        f[2 * k] = strtoll(it[k].word, &end, 10);
        f[2 * k + 1] = strtoll(end + 1, NULL, 10);
    }
}

static double *matrix(const block *b, const sti_spec *s, const char *prefix, int64_t rows, int64_t cols);

static void btt_matrix(const block *b, const sti_spec *s, const char *prefix, double *w)
{
    int64_t f[4];
    shape_of(s, f);
    const int64_t A = f[0], B = f[1], C = f[2], D = f[3], S = number(s, "rank");
    const double *r = param(b, prefix, "R", C, D, B, S), *l = param(b, prefix, "L", B, A, C, S);
    double gain = 1;
    if (number(s, "cap")) { /* W / max(1, RMS(W) / tau) on each core */
        const double *core[2] = { r, l };
        const int64_t count[2] = { C * D * B * S, B * A * C * S };
        const double in[2] = { (double)D, (double)(C * S) }, out[2] = { (double)(B * S), (double)A };
        for (int k = 0; k < 2; k++) {
            double sum = 0;
            for (int64_t i = 0; i < count[k]; i++) sum += core[k][i] * core[k][i];
            gain /= fmax(1, sqrt(sum / (double)count[k] + 1e-8) / (sqrt(fmin(in[k], out[k])) / in[k]));
        }
    }
    for (int64_t ia = 0; ia < A; ia++)
        for (int64_t ib = 0; ib < B; ib++)
            for (int64_t ic = 0; ic < C; ic++)
                for (int64_t id = 0; id < D; id++) {
                    double sum = 0;
                    for (int64_t is = 0; is < S; is++)
                        sum += l[((ib * A + ia) * C + ic) * S + is] * r[((ic * D + id) * B + ib) * S + is];
                    w[(ia * B + ib) * C * D + ic * D + id] = gain * sum;
                }
}

static void monarch_matrix(const block *b, const sti_spec *s, const char *prefix, int64_t rows, int64_t cols, double *w)
{
    const int64_t k = number(s, "blocks"), l = number(s, "out_blocks"), q = number(s, "inner");
    const int64_t p = (cols + k - 1) / k, sd = (rows + l - 1) / l, r = k * q / l;
    const double *w1 = param(b, prefix, "w1", k, q, p, 0), *w2 = param(b, prefix, "w2", l, sd, r, 0);
    double *u = zeros(k * q);
    for (int64_t j = 0; j < cols; j++) { /* the steps on the unit vector j */
        for (int64_t i = 0; i < k * q; i++) u[i] = 0;
        for (int64_t iq = 0; iq < q; iq++) u[j / p * q + iq] = w1[(j / p * q + iq) * p + j % p];
        for (int64_t is = 0; is < sd; is++)
            for (int64_t il = 0; il < l; il++) {
                double sum = 0;
                for (int64_t ir = 0; ir < r; ir++) sum += w2[(il * sd + is) * r + ir] * u[ir * l + il];
                if (is * l + il < rows) w[(is * l + il) * cols + j] = sum;
            }
    }
    free(u);
}

static void mlr_matrix(const block *b, const sti_spec *s, const char *prefix, int64_t rows, int64_t cols, double *w)
{
    int32_t levels, nparts;
    const sti_item *ranks = items(s, "ranks", &levels), *parts = items(s, "parts", &nparts);
    CHECK_INT(levels, nparts);
    int64_t total = 0, at = 0;
    for (int32_t l = 0; l < levels; l++) total += strtoll(ranks[l].word, NULL, 10);
    const double *B = param(b, prefix, "B", rows, total, 0, 0), *C = param(b, prefix, "C", cols, total, 0, 0);
    for (int32_t l = 0; l < levels; l++) {
        const int64_t r = strtoll(ranks[l].word, NULL, 10), p = strtoll(parts[l].word, NULL, 10);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++)
                if (i / (rows / p) == j / (cols / p))
                    for (int64_t k = at; k < at + r; k++) w[i * cols + j] += B[i * total + k] * C[j * total + k];
        at += r;
    }
}

/* H_1 H_2 … H_k, H_i = I - beta_i v_i v_i^T */
static void householder_matrix(const block *b, const sti_spec *s, const char *prefix, int64_t n, double *w)
{
    const int64_t k = number(s, "k");
    const bool orthogonal = word_is(s, "beta", "orthogonal");
    const double *V = param(b, prefix, "V", k, n, 0, 0);
    const double *beta = orthogonal ? NULL : param(b, prefix, "beta", k, 0, 0, 0);
    double *t = zeros(n);
    for (int64_t i = 0; i < n; i++) w[i * n + i] = 1;
    for (int64_t i = 0; i < k; i++) { /* W = W H_i = W - beta (W v) v^T */
        const double *v = V + i * n;
        double vv = 0;
        for (int64_t j = 0; j < n; j++) vv += v[j] * v[j];
        const double f = orthogonal ? 2 / vv : beta[i];
        for (int64_t r = 0; r < n; r++) {
            t[r] = 0;
            for (int64_t j = 0; j < n; j++) t[r] += w[r * n + j] * v[j];
        }
        for (int64_t r = 0; r < n; r++)
            for (int64_t j = 0; j < n; j++) w[r * n + j] += (b->abs ? f : -f) * t[r] * v[j];
    }
    free(t);
}

static void product_matrix(const block *b, const sti_spec *s, const char *prefix, int64_t rows, int64_t cols, double *w)
{
    int32_t n, ninner;
    const sti_item *terms = items(s, "terms", &n), *inner = items(s, "inner", &ninner);
    CHECK_INT(ninner, n - 1);
    double *left = NULL;
    int64_t width = rows; /* left is (rows, width) */
    for (int32_t i = 0; i < n; i++) {
        const int64_t next = i + 1 < n ? strtoll(inner[i].word, NULL, 10) : cols;
        char name[128];
        snprintf(name, sizeof name, "%sterms.%d.", prefix, i);
        sti_spec *plain = NULL;
        if (!terms[i].spec) CHECK_OK(sti_spec_parse(terms[i].word, &plain));
        double *m = matrix(b, plain ? plain : terms[i].spec, name, width, next);
        sti_spec_free(plain);
        if (!left)
            left = m;
        else {
            double *c = zeros(rows * next);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t k = 0; k < width; k++)
                    for (int64_t j = 0; j < next; j++) c[r * next + j] += left[r * width + k] * m[k * next + j];
            free(left), free(m);
            left = c;
        }
        width = next;
    }
    memcpy(w, left, (size_t)(rows * cols) * sizeof *w);
    free(left);
}

/* A class without a formula here (its own test has it): the matrix that its f64 `apply` gives, whose bounds come from
 * positive parameters. Ties everything else to `apply`: other types, gradients, transpose, strides. */
static void apply_to_identity(const block *b, const sti_spec *s, const char *prefix, int64_t rows, int64_t cols,
                              double *w)
{
    strata_context *ctx;
    strata_op *op;
    char *text = sti_spec_text(s, false);
    CHECK(text);
    CHECK_OK(strata_context_create("threads=1", NULL, &ctx));
    CHECK_OK(strata_op_create(ctx, text, rows, cols, cols, STRATA_F64, &op));
    double *params = strata_alloc(ctx, strata_op_param_bytes(op)), *x = zeros(cols * cols), *y = zeros(cols * rows);
    CHECK(params);
    memset(params, 0, strata_op_param_bytes(op));
    for (int32_t i = 0; i < strata_op_param_count(op); i++) {
        strata_param_info p;
        CHECK_OK(strata_op_param(op, i, &p));
        int64_t n[4] = { 0 };
        for (int32_t k = 0; k < p.ndim && k < 4; k++) n[k] = p.shape[k];
        memcpy(params + p.offset, param(b, prefix, p.name, n[0], n[1], n[2], n[3]), (size_t)p.count * sizeof *params);
    }
    for (int64_t j = 0; j < cols; j++) x[j * cols + j] = 1;
    const strata_tensor tx = strata_view2(x, STRATA_F64, cols, cols), ty = strata_view2(y, STRATA_F64, cols, rows);
    CHECK_OK(strata_op_apply(op, params, STRATA_OP_N, 1, &tx, 0, &ty, NULL));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) w[i * cols + j] = y[j * rows + i];
    free(x), free(y);
    strata_free(ctx, params);
    sti_heap_free(text);
    strata_op_destroy(op);
    strata_context_destroy(ctx);
}

/* The (rows, cols) matrix of a canonical spec; the caller frees it. */
static double *matrix(const block *b, const sti_spec *s, const char *prefix, int64_t rows, int64_t cols)
{
    double *w = zeros(rows * cols);
    const char *kind = s->kind;
    if (strcmp(kind, "dense") == 0) {
        const double *p = param(b, prefix, "weight", rows, cols, 0, 0);
        memcpy(w, p, (size_t)(rows * cols) * sizeof *w);
    } else if (strcmp(kind, "diagonal") == 0) {
        const double *d = param(b, prefix, "d", rows, 0, 0, 0);
        for (int64_t i = 0; i < rows; i++) w[i * cols + i] = d[i];
    } else if (strcmp(kind, "lowrank") == 0) {
        const int64_t r = number(s, "rank");
        const double *u = param(b, prefix, "U", rows, r, 0, 0), *v = param(b, prefix, "V", cols, r, 0, 0);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++)
                for (int64_t k = 0; k < r; k++) w[i * cols + j] += u[i * r + k] * v[j * r + k];
    } else if (strcmp(kind, "blockdiag") == 0) {
        const int64_t n = number(s, "blocks"), m = rows / n, k = cols / n;
        const double *p = param(b, prefix, "blocks", n, m, k, 0);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++)
                if (i / m == j / k) w[i * cols + j] = p[i * k + j % k];
    } else if (strcmp(kind, "kronecker") == 0) {
        int64_t f[4];
        shape_of(s, f);
        const double *A = param(b, prefix, "A", f[0], f[2], 0, 0), *B = param(b, prefix, "B", f[1], f[3], 0, 0);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++)
                w[i * cols + j] = A[i / f[1] * f[2] + j / f[3]] * B[i % f[1] * f[3] + j % f[3]];
    } else if (strcmp(kind, "btt") == 0)
        btt_matrix(b, s, prefix, w);
    else if (strcmp(kind, "monarch") == 0)
        monarch_matrix(b, s, prefix, rows, cols, w);
    else if (strcmp(kind, "mlr") == 0)
        mlr_matrix(b, s, prefix, rows, cols, w);
    else if (strcmp(kind, "householder") == 0)
        householder_matrix(b, s, prefix, rows, w);
    else if (strcmp(kind, "product") == 0)
        product_matrix(b, s, prefix, rows, cols, w);
    else if (strcmp(kind, "sum") == 0 || strcmp(kind, "scaled") == 0 || strcmp(kind, "transpose") == 0) {
        const bool sum = *kind == 's' && kind[1] == 'u', flip = *kind == 't';
        int32_t n;
        const sti_item *term = items(s, sum ? "terms" : "of", &n);
        double by = 1;
        if (*kind == 's' && kind[1] == 'c') {
            int32_t one;
            const sti_item *it = items(s, "by", &one);
            if (one != 1) FAIL("%s: the canonical text lacks by", label);
            by = strtod(it->word, NULL);
            if (b->abs) by = fabs(by);
        }
        for (int32_t i = 0; i < n; i++) {
            char name[128];
            if (sum)
                snprintf(name, sizeof name, "%sterms.%d.", prefix, i);
            else
                snprintf(name, sizeof name, "%sof.", prefix);
            sti_spec *plain = NULL;
            if (!term[i].spec) CHECK_OK(sti_spec_parse(term[i].word, &plain));
            double *m = matrix(b, plain ? plain : term[i].spec, name, flip ? cols : rows, flip ? rows : cols);
            sti_spec_free(plain);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t c = 0; c < cols; c++) w[r * cols + c] += by * (flip ? m[c * rows + r] : m[r * cols + c]);
            free(m);
        }
    } else
        apply_to_identity(b, s, prefix, rows, cols, w);
    return w;
}

/* ---- one operator under test ------------------------------------------------------------------------------------- */

typedef struct subject {
    strata_context *ctx;
    strata_op *op;
    int32_t dtype;
    int64_t rows, cols, elements;
    void *params;   /* in dtype */
    double *values; /* the same numbers */
    double *w, *wabs;
    void *work; /* NaN-poisoned */
    double eps;
} subject;

enum { MAX_COUNT = 300 };

static double get(const void *p, int32_t dtype, int64_t i)
{
    return dtype == STRATA_F32 ? (double)((const float *)p)[i] : ((const double *)p)[i];
}
static void put(void *p, int32_t dtype, int64_t i, double x)
{
    if (dtype == STRATA_F32)
        ((float *)p)[i] = (float)x;
    else
        ((double *)p)[i] = x;
}
static double noise(uint64_t seed, int64_t i)
{
    return 2 * sti_uniform(seed, 77, (uint64_t)i) - 1;
}

static void poison(subject *s)
{
    memset(s->work, 0xff, strata_op_work_bytes(s->op));
}

/* The oracle from s->values; with its bounds unless they are not wanted. */
static void materialise(subject *s, bool bounds)
{
    sti_spec *spec = NULL;
    CHECK_OK(sti_spec_parse(strata_op_spec(s->op), &spec));
    free(s->w), free(s->wabs);
    const block b = { s->op, s->values, false };
    s->w = matrix(&b, spec, "", s->rows, s->cols);
    s->wabs = NULL;
    if (!bounds) {
        sti_spec_free(spec);
        return;
    }
    double *positive = zeros(s->elements);
    for (int64_t i = 0; i < s->elements; i++) positive[i] = fabs(s->values[i]);
    const block ab = { s->op, positive, true };
    s->wabs = matrix(&ab, spec, "", s->rows, s->cols);
    free(positive);
    sti_spec_free(spec);
}

/* Initialise, then spread: constants become random too, and `gain` moves every tensor away from its start. */
static void set_params(subject *s, double gain)
{
    CHECK_OK(strata_op_init(s->op, 5, s->params));
    for (int32_t i = 0; i < strata_op_param_count(s->op); i++) {
        strata_param_info p;
        CHECK_OK(strata_op_param(s->op, i, &p));
        double sum = 0;
        for (int64_t j = 0; j < p.count; j++) sum += pow(get(s->params, s->dtype, p.offset + j), 2);
        const double rms = sqrt(sum / (double)p.count);
        CHECK(rms > 0);
        for (int64_t j = p.offset; j < p.offset + p.count; j++)
            put(s->params, s->dtype, j, gain * (get(s->params, s->dtype, j) + 0.3 * rms * noise((uint64_t)i + 9, j)));
    }
    for (int64_t i = 0; i < s->elements; i++) s->values[i] = get(s->params, s->dtype, i);
}

static void open_subject(subject *s, const char *spec, int32_t dtype, const char *context, int64_t max_count)
{
    memset(s, 0, sizeof *s);
    snprintf(label, sizeof label, "%s %s", strata_dtype_name(dtype), spec);
    CHECK_OK(strata_context_create(context, NULL, &s->ctx));
    CHECK_OK(strata_op_create(s->ctx, spec, 0, 0, max_count, dtype, &s->op));
    s->dtype = dtype;
    s->rows = strata_op_rows(s->op);
    s->cols = strata_op_cols(s->op);
    s->elements = (int64_t)(strata_op_param_bytes(s->op) / strata_dtype_size(dtype));
    s->params = strata_alloc(s->ctx, strata_op_param_bytes(s->op) + 8);
    s->values = zeros(s->elements);
    s->work = strata_alloc(s->ctx, strata_op_work_bytes(s->op));
    CHECK(s->params && s->work);
    s->eps = dtype == STRATA_F32 ? 0x1p-23 : 0x1p-52;
    set_params(s, 1);
    poison(s);
}

static void close_subject(subject *s)
{
    strata_free(s->ctx, s->work);
    strata_free(s->ctx, s->params);
    free(s->values), free(s->w), free(s->wabs);
    strata_op_destroy(s->op);
    strata_context_destroy(s->ctx);
}

typedef void (*body)(subject *s);

/* Run on every example of every class, in both types. */
static void each(body fn, int32_t only, int64_t max_count)
{
    for (int32_t c = 0; c < sti_op_class_count(); c++) {
        const sti_op_class *cls = sti_op_class_at(c);
        CHECK(cls->examples && cls->examples[0] && cls->examples[1] && cls->examples[2]);
        for (int i = 0; cls->examples[i]; i++)
            for (int32_t dtype = STRATA_F32; dtype <= STRATA_F64; dtype++) {
                if (only && dtype != only) continue;
                subject s;
                open_subject(&s, cls->examples[i], dtype, "threads=2", max_count);
                materialise(&s, true);
                fn(&s);
                close_subject(&s);
            }
    }
}

/* A (count, width) view inside a larger array: odd leading stride, misaligned start, sentinels around. */
typedef struct rows {
    void *store;
    int64_t total, ld, off;
    strata_tensor t;
} rows;

static const double sentinel = 12345.0;

static rows make_rows(int32_t dtype, int64_t count, int64_t width, int64_t pad, uint64_t seed)
{
    rows r = { .ld = width + pad, .off = pad ? 1 : 0 };
    r.total = count * r.ld + r.off + pad;
    r.store = calloc((size_t)r.total + 1, sizeof(double));
    if (!r.store) FAIL("no memory");
    for (int64_t i = 0; i < r.total; i++) put(r.store, dtype, i, sentinel);
    r.t = strata_view2((char *)r.store + (size_t)r.off * strata_dtype_size(dtype), dtype, count, width);
    r.t.stride[0] = r.ld;
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < width; j++)
            put(r.t.data, dtype, i * r.ld + j, seed ? noise(seed, i * width + j) : (double)NAN);
    return r;
}
static double at(const rows *r, int64_t i, int64_t j)
{
    return get(r->t.data, r->t.dtype, i * r->ld + j);
}
static void check_sentinels(const rows *r)
{
    const int64_t width = r->t.shape[1];
    for (int64_t i = 0; i < r->total; i++) {
        const int64_t k = i - r->off;
        const bool inside = k >= 0 && k / r->ld < r->t.shape[0] && k % r->ld < width;
        if (!inside && get(r->store, r->t.dtype, i) != sentinel)
            FAIL("%s: element %lld outside the view was written", label, (long long)i);
    }
}

/* Largest |y - (alpha op(A) x + beta y0)| / bound; HUGE_VAL on NaN. k: the longest sum. */
static double error(const subject *s, bool transposed, double alpha, const rows *x, double beta, const rows *y0,
                    const rows *y)
{
    const int64_t n = transposed ? s->cols : s->rows, m = transposed ? s->rows : s->cols;
    const double c = 8 * s->eps * sqrt((double)(s->rows + s->cols + 16));
    double worst = 0;
    for (int64_t r = 0; r<x->t.shape[0]; r += r> 40 && r < x->t.shape[0] - 8 ? 7 : 1) /* of many rows, a part */
        for (int64_t i = 0; i < n; i++) {
            double sum = 0, abs = 0;
            for (int64_t j = 0; j < m; j++) {
                const int64_t w = transposed ? j * s->cols + i : i * s->cols + j;
                sum += s->w[w] * at(x, r, j);
                abs += s->wabs[w] * fabs(at(x, r, j));
            }
            sum *= alpha, abs *= fabs(alpha);
            if (beta != 0) sum += beta * at(y0, r, i), abs += fabs(beta * at(y0, r, i));
            const double got = at(y, r, i);
            if (isnan(got)) return HUGE_VAL;
            if (got != sum) worst = fmax(worst, abs > 0 ? fabs(got - sum) / (c * abs) : HUGE_VAL);
        }
    return worst;
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void apply_body(subject *s)
{
    static const double ab[][2] = { { 1, 0 }, { -0.7, 0.3 }, { 0.5, 1 }, { 0, 2 } };
    static const int64_t counts[] = { 0, 1, 7, MAX_COUNT };
    for (int pass = 0; pass < 2; pass++) {
        set_params(s, pass ? 1.7 : 0.6);
        materialise(s, true);
        for (int mode = STRATA_OP_N; mode <= STRATA_OP_H; mode++)
            for (size_t ic = 0; ic < STI_COUNT(counts); ic++)
                for (size_t k = 0; k < STI_COUNT(ab); k++) {
                    if (counts[ic] == MAX_COUNT && (k > 1 || mode == STRATA_OP_H)) continue;
                    const bool t = mode != STRATA_OP_N;
                    const double alpha = ab[k][0], beta = ab[k][1];
                    const int64_t in = t ? s->rows : s->cols, out = t ? s->cols : s->rows,
                                  pad = k == 2 ? 0 : 3 + (int64_t)k;
                    rows x = make_rows(s->dtype, counts[ic], in, pad, 3),
                         y = make_rows(s->dtype, counts[ic], out, pad, beta == 0 ? 0 : 4);
                    rows y0 = make_rows(s->dtype, counts[ic], out, pad, 4);
                    poison(s);
                    CHECK_OK(strata_op_apply(s->op, s->params, mode, alpha, &x.t, beta, &y.t, k == 1 ? NULL : s->work));
                    const double e = error(s, t, alpha, &x, beta, &y0, &y);
                    check_sentinels(&y);
                    double planted = 100;
                    if (counts[ic] && k == 0) { /* an error of 100 bounds is seen */
                        double abs = 0;
                        for (int64_t j = 0; j < in; j++) abs += s->wabs[t ? j * s->cols : j] * fabs(at(&x, 0, j));
                        const double bound = 8 * s->eps * sqrt((double)(s->rows + s->cols + 16)) * abs;
                        if (abs > 0) {
                            put(y.t.data, s->dtype, 0, at(&y, 0, 0) + 100 * bound);
                            planted = error(s, t, alpha, &x, beta, &y0, &y);
                        }
                    }
                    free(x.store), free(y.store), free(y0.store);
                    if (!(e <= 1))
                        FAIL("%s: mode %d alpha %g beta %g count %lld: error %g of the bound", label, mode, alpha, beta,
                             (long long)counts[ic], e);
                    if (planted < 10) FAIL("%s: a planted error is not seen", label);
                }
    }
}
static void apply_is_the_matrix(void)
{
    each(apply_body, 0, MAX_COUNT);
}

static void adjoint_body(subject *s)
{
    enum { N = 5 };
    rows x = make_rows(s->dtype, N, s->cols, 0, 3), u = make_rows(s->dtype, N, s->rows, 0, 4);
    rows ax = make_rows(s->dtype, N, s->rows, 0, 0), atu = make_rows(s->dtype, N, s->cols, 0, 0);
    CHECK_OK(strata_op_apply(s->op, s->params, STRATA_OP_N, 1, &x.t, 0, &ax.t, s->work));
    CHECK_OK(strata_op_apply(s->op, s->params, STRATA_OP_T, 1, &u.t, 0, &atu.t, s->work));
    double left = 0, right = 0, abs = 0;
    for (int64_t r = 0; r < N; r++) {
        for (int64_t i = 0; i < s->rows; i++) left += at(&ax, r, i) * at(&u, r, i);
        for (int64_t j = 0; j < s->cols; j++) right += at(&x, r, j) * at(&atu, r, j);
        for (int64_t i = 0; i < s->rows; i++)
            for (int64_t j = 0; j < s->cols; j++)
                abs += fabs(at(&u, r, i)) * s->wabs[i * s->cols + j] * fabs(at(&x, r, j));
    }
    free(x.store), free(u.store), free(ax.store), free(atu.store);
    if (!(fabs(left - right) <= 8 * s->eps * sqrt((double)(s->rows + s->cols + 16)) * abs))
        FAIL("%s: <Ax,u> - <x,A'u> = %g", label, left - right);
}
static void adjoint(void)
{
    each(adjoint_body, 0, MAX_COUNT);
}

static void dense_body(subject *s)
{
    rows a = make_rows(s->dtype, s->rows, s->cols, 5, 0);
    poison(s);
    CHECK_OK(strata_op_to_dense(s->op, s->params, &a.t, s->work));
    check_sentinels(&a);
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t j = 0; j < s->cols; j++) {
            const double e = fabs(at(&a, i, j) - s->w[i * s->cols + j]);
            if (!(e <= 8 * s->eps * sqrt((double)(s->rows + s->cols + 16)) * s->wabs[i * s->cols + j]))
                FAIL("%s: A(%lld,%lld) is off by %g", label, (long long)i, (long long)j, e);
        }
    free(a.store);
}
static void to_dense(void)
{
    each(dense_body, 0, 3);
    each(dense_body, 0, MAX_COUNT);
}

/* <dy, A x> from the oracle */
static double loss(const subject *s, const rows *x, const rows *dy)
{
    double sum = 0;
    for (int64_t r = 0; r < x->t.shape[0]; r++)
        for (int64_t i = 0; i < s->rows; i++) {
            double y = 0;
            for (int64_t j = 0; j < s->cols; j++) y += s->w[i * s->cols + j] * at(x, r, j);
            sum += y * at(dy, r, i);
        }
    return sum;
}

static void grad_body(subject *s)
{
    enum { N = 6, SAMPLES = 24 };
    for (int pass = 0; pass < 2; pass++) {
        set_params(s, pass ? 1.7 : 0.6);
        materialise(s, true);
        rows x = make_rows(s->dtype, N, s->cols, 3, 3), dy = make_rows(s->dtype, N, s->rows, 4, 4);
        rows dx = make_rows(s->dtype, N, s->cols, 5, 0), dx0 = make_rows(s->dtype, N, s->cols, 5, 6);
        double *g = zeros(s->elements), *twice = zeros(s->elements), *skipped = zeros(s->elements);
        poison(s);
        CHECK_OK(strata_op_grad(s->op, s->params, &x.t, &dy.t, g, &dx.t, 0, s->work));
        check_sentinels(&dx);
        if (!(error(s, true, 1, &dy, 0, NULL, &dx) <= 1)) FAIL("%s: dx is not A' dy", label);
        /* dx accumulates when asked to, and comes alone too; parameter gradients always accumulate */
        rows acc = make_rows(s->dtype, N, s->cols, 5, 6);
        memcpy(twice, g, (size_t)s->elements * sizeof *g);
        poison(s);
        CHECK_OK(strata_op_grad(s->op, s->params, &x.t, &dy.t, twice, &acc.t, 1, s->work));
        if (!(error(s, true, 1, &dy, 1, &dx0, &acc) <= 1)) FAIL("%s: dx does not accumulate", label);
        poison(s);
        CHECK_OK(strata_op_grad(s->op, s->params, &x.t, &dy.t, NULL, &dx.t, 0, s->work));
        if (!(error(s, true, 1, &dy, 0, NULL, &dx) <= 1)) FAIL("%s: dx alone is not A' dy", label);
        poison(s);
        CHECK_OK(strata_op_grad(s->op, s->params, &x.t, &dy.t, skipped, NULL, 0, s->work));
        for (int32_t ip = 0; ip < strata_op_param_count(s->op); ip++) {
            strata_param_info p;
            CHECK_OK(strata_op_param(s->op, ip, &p));
            double norm = 0, weight = 0;
            for (int64_t k = p.offset; k < p.offset + p.count; k++) {
                norm += g[k] * g[k];
                weight += s->values[k] * s->values[k];
                if (!(fabs(twice[k] - 2 * g[k]) <= 1e-12 * (fabs(g[k]) + 1)) ||
                    !(fabs(skipped[k] - g[k]) <= 1e-12 * (fabs(g[k]) + 1)))
                    FAIL("%s: the gradient of %s does not accumulate", label, p.name);
            }
            norm = sqrt(norm / (double)p.count);
            if (!(norm > 1e-6)) FAIL("%s: the gradient of %s vanishes", label, p.name);
            const double h = 1e-4 * sqrt(weight / (double)p.count);
            for (int64_t n = 0; n < STI_MIN(p.count, SAMPLES); n++) {
                const int64_t k =
                    p.offset +
                    (p.count <= SAMPLES ? n : (int64_t)sti_below(8, (uint64_t)ip, (uint64_t)n, (uint64_t)p.count));
                const double keep = s->values[k];
                double slope = 0; /* five points: the error falls with h^4 */
                static const double step[4] = { -2, -1, 1, 2 }, coef[4] = { 1 / 12.0, -8 / 12.0, 8 / 12.0, -1 / 12.0 };
                for (int i = 0; i < 4; i++) {
                    s->values[k] = keep + step[i] * h;
                    materialise(s, false);
                    slope += coef[i] * loss(s, &x, &dy) / h;
                }
                s->values[k] = keep;
                if (!(fabs(slope - g[k]) <= 1e-7 * (norm + fabs(g[k]))))
                    FAIL("%s: d/d%s[%lld] is %.12g, not %.12g", label, p.name, (long long)(k - p.offset), g[k], slope);
            }
            materialise(s, true);
        }
        free(x.store), free(dy.store), free(dx.store), free(dx0.store), free(acc.store);
        free(g), free(twice), free(skipped);
    }
}
static void gradients(void)
{
    each(grad_body, STRATA_F64, 6);
}

/* The gradient of many rows (several panels) is the sum of the gradients of few; in f32 it is that of f64. */
static void grad_long_body(subject *s)
{
    enum { N = 1100, PART = 220 };
    rows x = make_rows(s->dtype, N, s->cols, 1, 3), dy = make_rows(s->dtype, N, s->rows, 2, 4);
    rows dx = make_rows(s->dtype, N, s->cols, 3, 0);
    void *g = calloc((size_t)s->elements + 1, 8), *sum = calloc((size_t)s->elements + 1, 8);
    poison(s);
    CHECK_OK(strata_op_grad(s->op, s->params, &x.t, &dy.t, g, &dx.t, 0, s->work));
    for (int64_t i = 0; i < N; i += PART) {
        strata_tensor xp = x.t, dyp = dy.t;
        xp.shape[0] = dyp.shape[0] = PART;
        xp.data = (char *)x.t.data + (size_t)(i * x.ld) * strata_dtype_size(s->dtype);
        dyp.data = (char *)dy.t.data + (size_t)(i * dy.ld) * strata_dtype_size(s->dtype);
        CHECK_OK(strata_op_grad(s->op, s->params, &xp, &dyp, sum, NULL, 0, s->work));
    }
    if (!(error(s, true, 1, &dy, 0, NULL, &dx) <= 1)) FAIL("%s: dx of many rows", label);
    for (int32_t ip = 0; ip < strata_op_param_count(s->op); ip++) {
        strata_param_info p;
        CHECK_OK(strata_op_param(s->op, ip, &p));
        double diff = 0, norm = 0;
        for (int64_t k = p.offset; k < p.offset + p.count; k++) {
            diff += pow(get(g, s->dtype, k) - get(sum, s->dtype, k), 2);
            norm += pow(get(g, s->dtype, k), 2);
        }
        /* random signs: the gradient is about sqrt(N) terms large, its rounding error eps sqrt(N) of that at most */
        if (!(sqrt(diff) <= 8 * s->eps * sqrt(N) * sqrt(norm)))
            FAIL("%s: the gradient of %s differs by %g of %g", label, p.name, sqrt(diff), sqrt(norm));
    }
    free(x.store), free(dy.store), free(dx.store), free(g), free(sum);
}
static void gradients_of_many_rows(void)
{
    each(grad_long_body, 0, 1100);
}

/* ---- allocation, bits, specs ------------------------------------------------------------------------------------- */

static int64_t allocations;
static void *count_alloc(void *user, size_t bytes)
{
    (void)user;
    allocations++;
    return aligned_alloc(64, (bytes + 64) / 64 * 64);
}
static void count_free(void *user, void *p)
{
    (void)user;
    free(p);
}

static void no_allocation_after_plan(void)
{
    const strata_allocator a = { count_alloc, count_free, NULL };
    const strata_context_config config = { STRATA_INIT(strata_context_config), &a, NULL, NULL };
    for (int32_t c = 0; c < sti_op_class_count(); c++) {
        strata_context *ctx = NULL;
        strata_op *op = NULL;
        CHECK_OK(strata_context_create("threads=2", &config, &ctx));
        CHECK_OK(strata_op_create(ctx, sti_op_class_at(c)->examples[0], 0, 0, 40, STRATA_F32, &op));
        void *params = strata_alloc(ctx, strata_op_param_bytes(op)), *d = calloc(1, strata_op_param_bytes(op) + 1);
        rows x = make_rows(STRATA_F32, 40, strata_op_cols(op), 0, 1),
             y = make_rows(STRATA_F32, 40, strata_op_rows(op), 0, 2);
        const int64_t before = allocations;
        CHECK_OK(strata_op_init(op, 1, params));
        CHECK_OK(strata_op_apply(op, params, STRATA_OP_N, 1, &x.t, 0, &y.t, NULL));
        CHECK_OK(strata_op_apply(op, params, STRATA_OP_T, 1, &y.t, 0, &x.t, NULL));
        CHECK_OK(strata_op_grad(op, params, &x.t, &y.t, d, NULL, 0, NULL));
        CHECK_INT(allocations, before);
        free(x.store), free(y.store), free(d);
        strata_free(ctx, params);
        strata_op_destroy(op);
        strata_context_destroy(ctx);
    }
}

/* Everything an operator computes on fixed inputs. */
static void *results(const char *spec, int32_t dtype, const char *context, size_t *bytes)
{
    subject s;
    open_subject(&s, spec, dtype, context, MAX_COUNT);
    const size_t e = strata_dtype_size(dtype), ny = (size_t)(MAX_COUNT * s.rows), nx = (size_t)(MAX_COUNT * s.cols);
    *bytes = (ny + 2 * nx + (size_t)s.elements) * e;
    char *all = calloc(1, *bytes + 1);
    strata_tensor y = strata_view2(all, dtype, MAX_COUNT, s.rows),
                  xt = strata_view2(all + ny * e, dtype, MAX_COUNT, s.cols);
    strata_tensor dx = strata_view2(all + (ny + nx) * e, dtype, MAX_COUNT, s.cols);
    rows x = make_rows(dtype, MAX_COUNT, s.cols, 1, 3), dy = make_rows(dtype, MAX_COUNT, s.rows, 1, 4);
    CHECK_OK(strata_op_apply(s.op, s.params, STRATA_OP_N, 1, &x.t, 0, &y, s.work));
    CHECK_OK(strata_op_apply(s.op, s.params, STRATA_OP_T, 1, &dy.t, 0, &xt, s.work));
    CHECK_OK(strata_op_grad(s.op, s.params, &x.t, &dy.t, all + (ny + 2 * nx) * e, &dx, 0, s.work));
    free(x.store), free(dy.store);
    close_subject(&s);
    return all;
}

static void same_bits(void)
{
    static const char *const contexts[] = { "threads=1 deterministic=1", "threads=2 deterministic=1",
                                            "threads=3 deterministic=1", "threads=2", "threads=2" };
    for (int32_t c = 0; c < sti_op_class_count(); c++)
        for (int i = 0; sti_op_class_at(c)->examples[i]; i++) {
            const int32_t dtype = i % 2 ? STRATA_F64 : STRATA_F32;
            void *r[5];
            size_t n = 0;
            for (int k = 0; k < 5; k++) r[k] = results(sti_op_class_at(c)->examples[i], dtype, contexts[k], &n);
            const int threads = memcmp(r[0], r[1], n) | memcmp(r[0], r[2], n), again = memcmp(r[3], r[4], n);
            for (int k = 0; k < 5; k++) free(r[k]);
            if (threads) FAIL("%s: deterministic results depend on the thread count", label);
            if (again) FAIL("%s: the second run differs", label);
        }
}

static void canonical_body(subject *s)
{
    strata_op *again = NULL;
    CHECK_OK(strata_op_create(s->ctx, strata_op_spec(s->op), 0, 0, 1, s->dtype, &again));
    char *text = sti_strdup(strata_op_spec(again));
    const int64_t r = strata_op_rows(again), c = strata_op_cols(again);
    const size_t bytes = strata_op_param_bytes(again);
    strata_op_destroy(again);
    const int differs = strcmp(text, strata_op_spec(s->op));
    sti_heap_free(text);
    if (differs || r != s->rows || c != s->cols || bytes != strata_op_param_bytes(s->op))
        FAIL("%s: \"%s\" does not parse back to itself", label, strata_op_spec(s->op));
    CHECK(strata_op_flops(s->op) > 0);
}
static void canonical_text(void)
{
    each(canonical_body, STRATA_F32, 1);
}

static void bad_specs(void)
{
    static const struct {
        const char *spec;
        int64_t rows, cols;
        strata_status status;
        const char *text;
    } bad[] = {
        { "dens", 4, 4, STRATA_E_SPEC, "the nearest is dense" },
        { "dense rank=2", 4, 4, STRATA_E_SPEC, "unknown key rank" },
        { "dense", 0, 0, STRATA_E_SPEC, "rows= and cols= are needed" },
        { "dense rows=4 cols=3", 4, 5, STRATA_E_SHAPE, "cols=3, but 5" },
        { "dense rows=0", 4, 4, STRATA_E_SPEC, "rows=0" },
        { "dense", -4, 4, STRATA_E_SHAPE, "-4" },
        { "diagonal", 4, 5, STRATA_E_SHAPE, "rows=4 and cols=5" },
        { "diagonal rows=4 cols=5", 0, 0, STRATA_E_SPEC, "rows=4 and cols=5" },
        { "lowrank rank=0", 4, 4, STRATA_E_SPEC, "rank=0" },
        { "blockdiag blocks=3", 6, 8, STRATA_E_SHAPE, "blocks=3" },
        { "mlr", 8, 8, STRATA_E_SPEC, "key ranks is required" },
        { "mlr ranks=2,2,2", 8, 6, STRATA_E_SHAPE, "parts=4 of level 3 does not divide rows=8 and cols=6" },
        { "mlr ranks=2,2 parts=1", 8, 8, STRATA_E_SPEC, "2 ranks, but 1 parts" },
        { "mlr ranks=2,2 parts=4,2", 8, 8, STRATA_E_SPEC, "do not nest" },
        { "kronecker shape=2x3,2x2", 6, 5, STRATA_E_SHAPE, "4 cols, not 5" },
        { "kronecker shape=2x3", 6, 5, STRATA_E_SPEC, "AxB,CxD" },
        { "btt shape=2x3,4x-2", 6, 8, STRATA_E_SPEC, "AxB,CxD" },
        { "btt shape=0x3,4x2", 6, 8, STRATA_E_SPEC, "from 1" },
        { "btt shape=3x3,4x2", 6, 8, STRATA_E_SHAPE, "9 rows, not 6" },
        { "btt shape=3x3,4x2 rows=8 cols=8", 0, 0, STRATA_E_SPEC, "9 rows, not 8" },
        { "btt rank=2 cap=2", 6, 8, STRATA_E_SPEC, "cap=2" },
        { "monarch blocks=3 out_blocks=2 inner=1", 6, 6, STRATA_E_SPEC, "out_blocks=2" },
        { "householder", 4, 5, STRATA_E_SHAPE, "rows=4 and cols=5" },
        { "householder beta=often", 4, 4, STRATA_E_SPEC, "beta=often" },
        { "sum", 4, 4, STRATA_E_SPEC, "terms" },
        { "sum terms=dense,blockdiag(blocks=3)", 6, 8, STRATA_E_SHAPE, "blocks=3" },
        { "sum terms=dense(rows=6),dense(rows=7)", 6, 8, STRATA_E_SHAPE, "rows=7" },
        { "product terms=dense,dense", 6, 8, STRATA_E_SPEC, "inner=" },
        { "product terms=dense,dense inner=2,2", 6, 8, STRATA_E_SPEC, "inner=" },
        { "product terms=dense(cols=3),dense(rows=4)", 6, 8, STRATA_E_SPEC, "3" },
        { "scaled of=dense by=x", 6, 8, STRATA_E_SPEC, "by=x" },
        { "transpose of=dense(rows=5)", 6, 8, STRATA_E_SHAPE, "rows=5" },
    };
    strata_context *ctx = NULL;
    CHECK_OK(strata_context_create(NULL, NULL, &ctx));
    for (size_t i = 0; i < STI_COUNT(bad); i++) {
        char kind[32];
        snprintf(kind, sizeof kind, "%.*s", (int)strcspn(bad[i].spec, " "), bad[i].spec);
        if (i && !sti_op_class_find(kind)) continue;
        strata_op *op = (strata_op *)1;
        const strata_status s = strata_op_create(ctx, bad[i].spec, bad[i].rows, bad[i].cols, 4, STRATA_F32, &op);
        if (s != bad[i].status || op || !strstr(strata_last_error(), bad[i].text))
            FAIL("%s: %s (%s)", bad[i].spec, strata_status_name(s), strata_last_error());
    }
    strata_op *op = NULL;
    CHECK_STATUS(strata_op_create(ctx, "dense", 3, 3, 4, STRATA_BF16, &op), STRATA_E_DTYPE);
    CHECK_STATUS(strata_op_create(ctx, "dense", 3, 3, 0, STRATA_F32, &op), STRATA_E_SHAPE);
    /* sizes past 32 bits: the plan alone, since an operator brings its workspace */
    sti_spec *dense = NULL;
    sti_op_plan *big = NULL;
    CHECK_OK(sti_spec_parse("dense", &dense));
    CHECK_OK(sti_op_plan_create(ctx, dense, 2147483647, 2147483647, 1, STRATA_F32, 1, &big));
    CHECK(big->params.elements >= 2147483647LL * 2147483647LL);
    sti_op_plan_destroy(big);
    sti_spec_free(dense);
    strata_context_destroy(ctx);
}

static void bad_calls(void)
{
    subject s;
    open_subject(&s, "dense rows=3 cols=5", STRATA_F32, NULL, 4);
    float buf[64] = { 0 };
    const strata_tensor x = strata_view2(buf, STRATA_F32, 4, 5), y = strata_view2(buf + 32, STRATA_F32, 4, 3);
    strata_tensor t;
    CHECK_OK(strata_op_apply(s.op, s.params, 0, 1, &x, 0, &y, NULL));
    CHECK_STATUS(strata_op_apply(s.op, s.params, 1, 1, &x, 0, &y, NULL), STRATA_E_SHAPE);
    CHECK_STATUS(strata_op_apply(s.op, s.params, 7, 1, &x, 0, &y, NULL), STRATA_E_INVALID);
    CHECK_STATUS(strata_op_apply(s.op, NULL, 0, 1, &x, 0, &y, NULL), STRATA_E_INVALID);
    CHECK_STATUS(strata_op_apply(s.op, s.params, 0, 1, NULL, 0, &y, NULL), STRATA_E_INVALID);
    t = strata_view2(buf, STRATA_F64, 4, 5);
    CHECK_STATUS(strata_op_apply(s.op, s.params, 0, 1, &t, 0, &y, NULL), STRATA_E_DTYPE);
    t = strata_view2(buf, STRATA_F32, 5, 5);
    CHECK_STATUS(strata_op_apply(s.op, s.params, 0, 1, &t, 0, &y, NULL), STRATA_E_SHAPE);
    CHECK_ERROR_TEXT("5 rows, but the plan is for 4");
    t = strata_view2(buf, STRATA_F32, 3, 5);
    CHECK_STATUS(strata_op_apply(s.op, s.params, 0, 1, &t, 0, &y, NULL), STRATA_E_SHAPE);
    t = x;
    t.stride[0] = 4;
    CHECK_STATUS(strata_op_apply(s.op, s.params, 0, 1, &t, 0, &y, NULL), STRATA_E_SHAPE);
    t = x;
    t.stride[1] = 2;
    CHECK_STATUS(strata_op_apply(s.op, s.params, 0, 1, &t, 0, &y, NULL), STRATA_E_SHAPE);
    t = strata_view3(buf, STRATA_F32, 1, 4, 5);
    CHECK_STATUS(strata_op_apply(s.op, s.params, 0, 1, &t, 0, &y, NULL), STRATA_E_SHAPE);
    t = x;
    t.data = NULL;
    CHECK_STATUS(strata_op_grad(s.op, s.params, &t, &y, NULL, &x, 0, NULL), STRATA_E_INVALID);
    strata_param_info info;
    CHECK_STATUS(strata_op_param(s.op, 1, &info), STRATA_E_INVALID);
    CHECK_STATUS(strata_op_to_dense(s.op, s.params, &x, NULL), STRATA_E_SHAPE);
    close_subject(&s);
}

/* ---- initialisation ---------------------------------------------------------------------------------------------- */

static const struct {
    const char *spec, *name;
    double std, lr; /* written out from contracts 2 with base width 768 */
} start[] = {
    { "dense rows=40 cols=160", "weight", 0.039528470752104741, 4.8 }, /* sqrt((40/160)/160) */
    { "dense rows=160 cols=40", "weight", 0.15811388300841897, 19.2 }, /* sqrt(1/40) */
    { "diagonal rows=4000", "d", 1, 1 },
    { "lowrank rows=400 cols=100 rank=16", "V", 0.04, 3.84 },                       /* sqrt(.16/100), 768/100/2 */
    { "lowrank rows=400 cols=100 rank=16", "U", 0.25, 24 },                         /* sqrt(1/16), 768/16/2 */
    { "blockdiag rows=120 cols=240 blocks=6", "blocks", 0.1118033988749895, 19.2 }, /* sqrt(.5/40) */
    { "kronecker shape=32x32,64x16", "A", 0.088388347648318447, 6 },                /* sqrt(.5/64) */
    { "kronecker shape=32x32,64x16", "B", 0.25, 24 },
    { "btt rank=4 shape=16x64,32x32", "R", 0.17677669529663687, 12 },       /* sqrt(1/32), 768/32/2 */
    { "btt rank=4 shape=16x64,32x32", "L", 0.03125, 3 },                    /* in 32*4, out 16: sqrt(.125/128) */
    { "monarch rows=64 cols=128 blocks=8", "w1", 0.17677669529663687, 24 }, /* in 16, out 8: sqrt(.5/16) */
    { "monarch rows=64 cols=128 blocks=8", "w2", 0.35355339059327379, 48 }, /* in 8, out 8 */
};

static void initialisation(void)
{
    strata_context *ctx = NULL;
    CHECK_OK(strata_context_create(NULL, NULL, &ctx));
    for (size_t i = 0; i < STI_COUNT(start); i++) {
        char kind[32];
        snprintf(kind, sizeof kind, "%.*s", (int)strcspn(start[i].spec, " "), start[i].spec);
        if (!sti_op_class_find(kind)) continue;
        strata_op *op = NULL;
        CHECK_OK(strata_op_create(ctx, start[i].spec, 0, 0, 1, STRATA_F64, &op));
        double *w = strata_alloc(ctx, strata_op_param_bytes(op));
        CHECK_OK(strata_op_init(op, 11, w));
        bool found = false;
        for (int32_t k = 0; k < strata_op_param_count(op); k++) {
            strata_param_info p;
            CHECK_OK(strata_op_param(op, k, &p));
            if (strcmp(p.name, start[i].name) != 0) continue;
            found = true;
            double mean = 0, square = 0;
            for (int64_t j = 0; j < p.count; j++) mean += w[p.offset + j], square += w[p.offset + j] * w[p.offset + j];
            mean /= (double)p.count;
            const double std = sqrt(square / (double)p.count), n = sqrt((double)p.count);
            if (fabs(mean) > 5 * start[i].std / n || fabs(std / start[i].std - 1) > 5 / n / sqrt(2))
                FAIL("%s: %s has mean %g, std %g, not %g", start[i].spec, p.name, mean, std, start[i].std);
            if (fabs(p.lr_mult / start[i].lr - 1) > 1e-12)
                FAIL("%s: %s has multiplier %g, not %g", start[i].spec, p.name, p.lr_mult, start[i].lr);
        }
        CHECK(found);
        strata_free(ctx, w);
        strata_op_destroy(op);
    }
    strata_context_destroy(ctx);
}

/* Each level of an MLR starts as a low-rank pair on its own block. */
static void mlr_levels_start_alike(void)
{
    enum { ROWS = 256, COLS = 512, R = 24 };
    static const int64_t rank[3] = { 16, 4, 4 };
    strata_context *ctx = NULL;
    strata_op *op = NULL;
    CHECK_OK(strata_context_create(NULL, NULL, &ctx));
    CHECK_OK(strata_op_create(ctx, "mlr ranks=16,4,4", ROWS, COLS, 1, STRATA_F64, &op));
    double *w = strata_alloc(ctx, strata_op_param_bytes(op));
    CHECK_OK(strata_op_init(op, 11, w));
    for (int which = 0; which < 2; which++) {
        strata_param_info p;
        CHECK_OK(strata_op_param(op, which, &p));
        CHECK_STR(p.name, which ? "C" : "B");
        CHECK(fabs(p.lr_mult / (which ? 768.0 / COLS / 2 : 768.0 / 16 / 2) - 1) < 1e-12);
        int64_t col = 0;
        for (int l = 0; l < 3; l++) {
            const double n = COLS >> l, m = ROWS >> l, r = (double)rank[l];
            const double want = which ? sqrt(fmin(1, r / n) / n) : sqrt(fmin(1, m / r) / r) / sqrt(3);
            double sum = 0;
            for (int64_t i = 0; i < p.shape[0]; i++)
                for (int64_t c = col; c < col + rank[l]; c++) sum += pow(w[p.offset + i * R + c], 2);
            const double count = (double)(p.shape[0] * rank[l]);
            if (fabs(sqrt(sum / count) / want - 1) > 5 / sqrt(2 * count))
                FAIL("%s level %d: std %g, not %g", p.name, l + 1, sqrt(sum / count), want);
            col += rank[l];
        }
    }
    strata_free(ctx, w);
    strata_op_destroy(op);
    strata_context_destroy(ctx);
}

/* zero_init: the operator starts at 0 with one factor only at rest, or refuses. */
static void zero_start(void)
{
    strata_context *ctx = NULL;
    CHECK_OK(strata_context_create(NULL, NULL, &ctx));
    for (int32_t c = 0; c < sti_op_class_count(); c++)
        for (int i = 0; sti_op_class_at(c)->examples[i]; i++) {
            sti_spec *spec = NULL;
            sti_op_plan *p = NULL;
            snprintf(label, sizeof label, "%s", sti_op_class_at(c)->examples[i]);
            CHECK_OK(sti_spec_parse(label, &spec));
            const strata_status s = sti_op_plan_create_zero(ctx, spec, 0, 0, 2, STRATA_F64, 768, true, &p);
            sti_spec_free(spec);
            if (s == STRATA_E_UNSUPPORTED && strstr(label, "householder")) continue;
            CHECK_OK(s);
            double *w = zeros(p->params.elements), *work = strata_alloc(ctx, p->work + 64);
            rows x = make_rows(STRATA_F64, 2, p->cols, 0, 3), y = make_rows(STRATA_F64, 2, p->rows, 0, 0);
            sti_params_init(&p->params, w, STRATA_F64, 1, 0);
            sti_op_apply(p, w, STI_N, 1, &x.t, 0, &y.t, work);
            for (int64_t k = 0; k < 2 * p->rows; k++)
                if (at(&y, k / p->rows, k % p->rows) != 0) FAIL("%s does not start at 0", label);
            free(x.store), free(y.store), free(w);
            strata_free(ctx, work);
            sti_op_plan_destroy(p);
        }
    strata_context_destroy(ctx);
}

/* rank(W) = min(rows, cols, c b s) for BTT with random cores: Gram-Schmidt on the rows counts it. */
static void btt_rank(void)
{
    static const struct {
        const char *spec;
        int64_t rank;
    } c[] = { { "btt shape=4x2,2x6 rank=1", 4 },
              { "btt shape=6x2,2x6 rank=2", 8 },
              { "btt shape=4x3,3x4 rank=3", 12 },
              { "btt shape=9x1,1x7 rank=3", 3 } };
    for (size_t i = 0; i < STI_COUNT(c); i++) {
        subject s;
        open_subject(&s, c[i].spec, STRATA_F64, NULL, 1);
        double *a = zeros(s.rows * s.cols);
        const strata_tensor t = strata_view2(a, STRATA_F64, s.rows, s.cols);
        CHECK_OK(strata_op_to_dense(s.op, s.params, &t, NULL));
        int64_t rank = 0;
        for (int64_t r = 0; r < s.rows; r++) {
            double *v = a + r * s.cols, before = 0, after = 0;
            for (int64_t j = 0; j < s.cols; j++) before += v[j] * v[j];
            for (int again = 0; again < 2; again++)
                for (int64_t k = 0; k < rank; k++) {
                    const double *q = a + k * s.cols;
                    double dot = 0;
                    for (int64_t j = 0; j < s.cols; j++) dot += q[j] * v[j];
                    for (int64_t j = 0; j < s.cols; j++) v[j] -= dot * q[j];
                }
            for (int64_t j = 0; j < s.cols; j++) after += v[j] * v[j];
            if (after <= 1e-20 * before) continue;
            for (int64_t j = 0; j < s.cols; j++) a[rank * s.cols + j] = v[j] / sqrt(after);
            rank++;
        }
        free(a);
        close_subject(&s);
        if (rank != c[i].rank) FAIL("%s has rank %lld, not %lld", c[i].spec, (long long)rank, (long long)c[i].rank);
    }
}

/* A property bit that says yes (or no) holds (or fails) for the matrix. */
static void properties(void)
{
    for (int32_t c = 0; c < sti_op_class_count(); c++)
        for (int i = 0; sti_op_class_at(c)->examples[i]; i++) {
            subject s;
            open_subject(&s, sti_op_class_at(c)->examples[i], STRATA_F64, NULL, 1);
            materialise(&s, false);
            sti_spec *spec = NULL;
            sti_op_plan *p = NULL;
            CHECK_OK(sti_spec_parse(strata_op_spec(s.op), &spec));
            CHECK_OK(sti_op_plan_create(s.ctx, spec, 0, 0, 1, STRATA_F64, 768, &p));
            const uint32_t yes = p->yes, no = p->no;
            sti_op_plan_destroy(p);
            sti_spec_free(spec);
            uint32_t is = ~0u;
            const int64_t n = s.rows;
            if (s.rows != s.cols) is &= ~(uint32_t)(STI_PROP_SYMMETRIC | STI_PROP_PSD | STI_PROP_ORTHOGONAL);
            for (int64_t r = 0; r < s.rows; r++)
                for (int64_t j = 0; j < s.cols; j++) {
                    const double w = s.w[r * s.cols + j];
                    if (w != 0 && r != j) is &= ~(uint32_t)STI_PROP_DIAGONAL;
                    if (w != 0 && j > r) is &= ~(uint32_t)STI_PROP_LOWER;
                    if (w != 0 && j < r) is &= ~(uint32_t)STI_PROP_UPPER;
                    if (s.rows != s.cols) continue;
                    if (fabs(w - s.w[j * n + r]) > 1e-12) is &= ~(uint32_t)STI_PROP_SYMMETRIC;
                    double dot = 0;
                    for (int64_t k = 0; k < n; k++) dot += s.w[r * n + k] * s.w[j * n + k];
                    if (fabs(dot - (r == j)) > 1e-12) is &= ~(uint32_t)STI_PROP_ORTHOGONAL;
                }
            close_subject(&s);
            if (yes & no || (yes & ~is) || (no & is & ~(uint32_t)STI_PROP_PSD))
                FAIL("%s: properties yes %x, no %x, but the matrix has %x", label, yes, no, is);
        }
}

/* ---- the linear stage -------------------------------------------------------------------------------------------- */

static void linear_stage(void)
{
    enum { BATCH = 2, TIME = 5, IN = 6, OUT = 4, N = BATCH * TIME };
    strata_context *ctx = NULL;
    sti_graph *g = NULL;
    sti_spec *spec = NULL;
    CHECK_OK(strata_context_create("threads=2", NULL, &ctx));
    CHECK_OK(sti_graph_create(ctx, STRATA_F64, BATCH, TIME, TIME, 1, 768, &g));
    CHECK_OK(sti_spec_parse("dense", &spec));
    const int32_t in = sti_graph_input(g, IN, STRATA_F64, 1),
                  out = sti_graph_linear(g, "lin", spec, OUT, in, true, true);
    sti_graph_output(g, out);
    CHECK_OK(sti_graph_finish(g));
    const sti_param *w = sti_params_find(&g->params, "lin.weight"), *b = sti_params_find(&g->params, "lin.bias");
    CHECK(w && b && w->init == STI_INIT_CONST && w->init_value == 0 && b->init == STI_INIT_CONST && b->lr_mult == 1);
    double *params = zeros(g->params.elements), *dparams = zeros(g->params.elements);
    sti_params_init(&g->params, params, STRATA_F64, 3, 1);
    double x[N * IN], dx[N * IN];
    for (int i = 0; i < N * IN; i++) x[i] = noise(1, i), dx[i] = (double)NAN;
    sti_exec e = { .params = params, .dparams = dparams, .batch = BATCH, .time = TIME, .ext = { x }, .dext = { dx } };
    e.act = strata_alloc(ctx, g->act_bytes), e.grad = strata_alloc(ctx, g->grad_bytes);
    e.saved = strata_alloc(ctx, g->saved_bytes), e.work = strata_alloc(ctx, g->work_bytes);
    CHECK_OK(sti_graph_forward(g, &e));
    const double *y = sti_graph_data(g, &e, out), *weight = params + w->offset, *bias = params + b->offset;
    double *dy = sti_graph_grad(g, &e, out);
    for (int r = 0; r < N; r++)
        for (int i = 0; i < OUT; i++) {
            double sum = bias[i];
            for (int j = 0; j < IN; j++) sum += weight[i * IN + j] * x[r * IN + j];
            CHECK(fabs(y[r * OUT + i] - sum) < 1e-13);
            dy[r * OUT + i] = noise(2, r * OUT + i);
        }
    double kept[N * OUT];
    memcpy(kept, dy, sizeof kept);
    dparams[b->offset] = 7; /* gradients accumulate */
    CHECK_OK(sti_graph_backward(g, &e));
    for (int i = 0; i < OUT; i++) {
        double db = i ? 0 : 7;
        for (int r = 0; r < N; r++) db += kept[r * OUT + i];
        CHECK(fabs(dparams[b->offset + i] - db) < 1e-13);
        for (int j = 0; j < IN; j++) {
            double dw = 0;
            for (int r = 0; r < N; r++) dw += kept[r * OUT + i] * x[r * IN + j];
            CHECK(fabs(dparams[w->offset + i * IN + j] - dw) < 1e-13);
        }
    }
    for (int r = 0; r < N; r++)
        for (int j = 0; j < IN; j++) {
            double sum = 0;
            for (int i = 0; i < OUT; i++) sum += weight[i * IN + j] * kept[r * OUT + i];
            CHECK(fabs(dx[r * IN + j] - sum) < 1e-13);
        }
    sti_cost c = { 0 };
    sti_graph_cost(g, BATCH, TIME, &c);
    CHECK(c.flops_fwd == 2.0 * N * IN * OUT && c.flops_bwd == 2 * c.flops_fwd);
    strata_free(ctx, e.act), strata_free(ctx, e.grad), strata_free(ctx, e.saved), strata_free(ctx, e.work);
    free(params), free(dparams);
    sti_spec_free(spec);
    sti_graph_destroy(g);
    strata_context_destroy(ctx);
}

TESTS(T(apply_is_the_matrix), T(adjoint), T(to_dense), T(gradients), T(gradients_of_many_rows),
      T(no_allocation_after_plan), T(same_bits), T(canonical_text), T(bad_specs), T(bad_calls), T(initialisation),
      T(mlr_levels_start_alike), T(zero_start), T(btt_rank), T(properties), T(linear_stage))
