/* strata bench attention and decode: against full attention, with score=standard. */
#include <string.h>

#include "bench.h"
#include "bench_roof.h"

/* ---- attention -------------------------------------------------------------------------------------------------- */
typedef struct att_job {
    strata_attention *att;
    void *mem[9];
    strata_tensor q, k, v, o, lse, dout, dq, dk, dv;
} att_job;

static strata_status att_forward(void *user)
{
    att_job *j = user;
    return strata_attention_forward(j->att, &j->q, &j->k, &j->v, &j->o, &j->lse, NULL);
}
static strata_status att_backward(void *user)
{
    att_job *j = user;
    return strata_attention_backward(j->att, &j->q, &j->k, &j->v, &j->o, &j->lse, &j->dout, &j->dq, &j->dk, &j->dv,
                                     NULL);
}

static int time_attention(bench *b, const char *spec, const char *name, equivalent base[2])
{
    const cli *c = b->c;
    int64_t heads = cli_int(c, "heads"), kv = cli_int(c, "kv-heads"), time = cli_int(c, "time");
    int64_t d = cli_int(c, "d-qk"), dv = cli_int(c, "d-v"), batch = cli_given(c, "batch") ? cli_int(c, "batch") : 1;
    if (!kv) kv = heads;
    if (!dv) dv = d;
    strata_attention_problem p = { STRATA_INIT(strata_attention_problem),
                                   .batch = batch,
                                   .heads = heads,
                                   .kv_heads = kv,
                                   .q_time = time,
                                   .d_qk = d,
                                   .d_v = dv,
                                   .dtype = b->dtype,
                                   .train = 1 };
    att_job j = { 0 };
    strata_attention_info info = { .size = STRATA_INIT(strata_attention_info) };
    strata_status s = strata_attention_create(b->ctx, spec, &p, &j.att);
    if (s == STRATA_OK) s = strata_attention_query(j.att, &info);
    if (s != STRATA_OK) return cli_status(s, CLI_ON_INPUT, NULL);
    const int64_t nq = batch * heads * time, nk = batch * kv * time, parts = info.lse_parts;
    const int64_t n[9] = { nq * d, nk * d, nk * dv, nq * dv, 2 * nq * parts, nq * dv, nq * d, nk * d, nk * dv };
    bool ok = true;
    for (int i = 0; i < 9; i++) ok &= (j.mem[i] = numbers(b, n[i])) != NULL;
    if (!ok) s = STRATA_E_MEMORY;
    int32_t t = b->dtype;
    const int32_t lt = t == STRATA_BF16 ? STRATA_F32 : t;
    j.q = strata_view4(j.mem[0], t, batch, heads, time, d);
    j.k = strata_view4(j.mem[1], t, batch, kv, time, d);
    j.v = strata_view4(j.mem[2], t, batch, kv, time, dv);
    j.o = strata_view4(j.mem[3], t, batch, heads, time, dv);
    j.lse = parts > 1 ? strata_view4(j.mem[4], lt, parts, batch, heads, time)
                      : strata_view3(j.mem[4], lt, batch, heads, time);
    j.dout = strata_view4(j.mem[5], t, batch, heads, time, dv);
    j.dq = strata_view4(j.mem[6], t, batch, heads, time, d);
    j.dk = strata_view4(j.mem[7], t, batch, kv, time, d);
    j.dv = strata_view4(j.mem[8], t, batch, kv, time, dv);
    strata_tensor *const all[] = { &j.q, &j.k, &j.v, &j.o, &j.lse, &j.dout, &j.dq, &j.dk, &j.dv };
    for (int i = 0; i < 9; i++) *all[i] = on_place(b, *all[i]);
    for (int pass = 0; pass < 2 && s == STRATA_OK; pass++) {
        char what[256];
        timing tm;
        (void)snprintf(what, sizeof what, "%s T=%lld, %s", name, (long long)time, pass ? "backward" : "forward");
        s = measure(b, pass ? att_backward : att_forward, &j, &tm);
        if (s != STRATA_OK) break;
        const double flops = pass ? info.flops_bwd : info.flops_fwd;
        print_row(b, &(row){ .what = what,
                             .variant = strata_attention_variant(j.att),
                             .t = tm,
                             .flops = flops,
                             .base = &base[pass] });
        if (base[pass].work <= 0) base[pass] = (equivalent){ tm, flops };
    }
    strata_attention_destroy(j.att);
    for (int i = 0; i < 9; i++) strata_device_free(b->ctx, j.mem[i]);
    return cli_status(s, CLI_ON_OUTPUT, NULL);
}

/* What the instructions for bf16 products reach in registers; the shares below are of the faster. */
static void print_roofs(bench *b)
{
    static const char *const isa[] = { "avx512bf16", "amx" };
    static const char *const what[] = { "bf16 dot products of pairs in registers", "bf16 products in tile registers" };
    for (int tiles = 0; tiles < 2 && (!tiles || !strcmp(strata_context_isa(b->ctx), "amx")); tiles++) {
        double rate = 0;
        for (int i = 0; i < b->repeat; i++) {
            const double now = roof_bf16(strata_context_threads(b->ctx), tiles);
            if (now > rate) rate = now;
        }
        if (rate <= 0) continue;
        const double flops = 1e9, t = flops / rate / strata_context_threads(b->ctx);
        print_row(
            b,
            &(row){ .what = what[tiles], .variant = isa[tiles], .t = { t, t, t, flops / rate, 0, 0 }, .flops = flops });
    }
}

int bench_attention(bench *b, const char *spec)
{
    equivalent base[2] = { 0 };
    if (b->rounds) print_roofs(b);
    int rc = time_attention(b, "score=standard", "score=standard", base);
    return rc || !strcmp(spec, "score=standard") ? rc : time_attention(b, spec, spec, base);
}

/* ---- decode ----------------------------------------------------------------------------------------------------- */
typedef struct decode_job {
    strata_attention *att;
    void *mem[6]; /* q, k, v, o; keys and values that fill the cache */
    void *cache;
    int64_t *pos;
    size_t bytes;
    strata_tensor q, k, v, o;
} decode_job;

static strata_status decode_step(void *user)
{
    decode_job *j = user;
    return strata_attention_step(j->att, j->cache, j->bytes, j->pos, &j->q, &j->k, &j->v, &j->o, NULL);
}

enum { FILL = 1024 }; /* tokens appended at once */

/* A full cache but for the last token of each sequence, which every timed step appends again. */
static strata_status fill_cache(const bench *b, const decode_job *j, int64_t batch, int64_t kv, int64_t context,
                                int64_t d, int64_t dv)
{
    strata_status s = STRATA_OK;
    for (int64_t i = 0; i < batch && s == STRATA_OK; i++) {
        void *cache = (char *)j->cache + (size_t)i * j->bytes;
        s = strata_attention_cache_init(j->att, context, cache);
        for (int64_t at = 0; at < context - 1 && s == STRATA_OK; at += FILL) {
            const int64_t n = context - 1 - at < FILL ? context - 1 - at : FILL;
            const strata_tensor k = on_place(b, strata_view3(j->mem[4], b->dtype, kv, n, d)),
                                v = on_place(b, strata_view3(j->mem[5], b->dtype, kv, n, dv));
            s = strata_attention_cache_append(j->att, cache, at, &k, &v);
        }
        j->pos[i] = context - 1;
    }
    return s;
}

static int time_decode(bench *b, const char *spec, int64_t batch, equivalent *base)
{
    const cli *c = b->c;
    int64_t heads = cli_int(c, "heads"), kv = cli_int(c, "kv-heads"), context = cli_int(c, "context");
    int64_t d = cli_int(c, "d-qk"), dv = cli_int(c, "d-v");
    if (!kv) kv = heads;
    if (!dv) dv = d;
    strata_attention_problem p = { STRATA_INIT(strata_attention_problem),
                                   .batch = batch,
                                   .heads = heads,
                                   .kv_heads = kv,
                                   .q_time = 1,
                                   .k_time = context,
                                   .q_pos = context - 1,
                                   .d_qk = d,
                                   .d_v = dv,
                                   .context = context,
                                   .dtype = b->dtype };
    decode_job j = { 0 };
    size_t payload = 0;
    strata_status s = strata_attention_create(b->ctx, spec, &p, &j.att);
    if (s == STRATA_OK) s = strata_attention_cache_size(j.att, context, &j.bytes, &payload);
    if (s != STRATA_OK) {
        strata_attention_destroy(j.att);
        return cli_status(s, CLI_ON_INPUT, NULL);
    }
    const int64_t n[6] = { batch * heads * d,  batch * kv * d, batch * kv * dv,
                           batch * heads * dv, kv * FILL * d,  kv * FILL * dv };
    bool ok = strata_device_alloc(b->ctx, (size_t)batch * j.bytes, &j.cache) == STRATA_OK;
    ok &= (j.pos = strata_alloc(b->ctx, (size_t)batch * sizeof *j.pos)) != NULL;
    for (int i = 0; i < 6; i++) ok &= (j.mem[i] = numbers(b, n[i])) != NULL;
    if (!ok) {
        s = STRATA_E_MEMORY;
    } else {
        j.q = on_place(b, strata_view3(j.mem[0], b->dtype, batch, heads, d));
        j.k = on_place(b, strata_view3(j.mem[1], b->dtype, batch, kv, d));
        j.v = on_place(b, strata_view3(j.mem[2], b->dtype, batch, kv, dv));
        j.o = on_place(b, strata_view3(j.mem[3], b->dtype, batch, heads, dv));
        s = fill_cache(b, &j, batch, kv, context, d, dv);
    }
    timing t;
    if (s == STRATA_OK) s = measure(b, decode_step, &j, &t);
    if (s == STRATA_OK) {
        char what[256];
        const double bytes = (double)payload * (double)batch;
        (void)snprintf(what, sizeof what, "%s cache %lld, batch %lld", spec, (long long)context, (long long)batch);
        row r = { .what = what, .variant = strata_attention_variant(j.att), .t = t, .bytes = bytes, .base = base };
        print_row(b, &r);
        if (base->work <= 0) *base = (equivalent){ t, bytes };
    }
    strata_attention_destroy(j.att);
    strata_device_free(b->ctx, j.cache);
    strata_free(b->ctx, j.pos);
    for (int i = 0; i < 6; i++) strata_device_free(b->ctx, j.mem[i]);
    return cli_status(s, CLI_ON_OUTPUT, NULL);
}

int bench_decode(bench *b, const char *spec)
{
    static const int64_t batches[] = { 1, 4, 16, 64 };
    const bool given = cli_given(b->c, "batch");
    int rc = CLI_OK;
    for (int i = 0; i < (given ? 1 : 4) && !rc; i++) {
        const int64_t batch = given ? cli_int(b->c, "batch") : batches[i];
        equivalent base = { 0 };
        rc = time_decode(b, "score=standard", batch, &base);
        if (!rc && strcmp(spec, "score=standard") != 0) rc = time_decode(b, spec, batch, &base);
    }
    return rc;
}
