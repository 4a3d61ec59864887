/* Fused attention from C, with no model: forward, backward, then the same tokens one by one through the cache.
 *
 *   cc attention.c $(pkg-config --cflags --libs strata) -lm */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <strata/strata.h>

enum { HEADS = 2, TIME = 40, D = 16, N = HEADS * TIME * D };

static void check(strata_status s)
{
    if (s == STRATA_OK) return;
    (void)fprintf(stderr, "%s: %s\n", strata_status_name(s), strata_last_error());
    exit(1);
}

static strata_tensor heads(float *p)
{
    return strata_view4(p, STRATA_F32, 1, HEADS, TIME, D);
}

/* Token t of every head: (heads, 1, D) for keys and values, (1, heads, D) for queries and outputs. */
static strata_tensor token(float *p, int t)
{
    strata_tensor v = strata_view3(p + (size_t)t * D, STRATA_F32, 1, HEADS, D);
    v.stride[1] = (int64_t)TIME * D;
    return v;
}

int main(void)
{
    static float q[N], k[N], v[N], o[N], lse[HEADS * TIME], dout[N], dq[N], dk[N], dv[N], step[N];
    for (int i = 0; i < N; i++) {
        q[i] = sinf(0.7f * (float)i);
        k[i] = cosf(0.3f * (float)i);
        v[i] = sinf(1.1f * (float)i + 1);
        dout[i] = 1;
    }
    strata_context *ctx = NULL;
    check(strata_context_create("threads=1", NULL, &ctx));

    /* 8 dimensions for all pairs, 4 more within blocks of 16 tokens, 4 more within blocks of 8 */
    strata_attention_problem p = {
        .size = STRATA_INIT(strata_attention_problem), .batch = 1, .heads = HEADS, .q_time = TIME, .d_qk = D, .train = 1
    };
    strata_attention *att = NULL;
    check(strata_attention_create(ctx, "score=mlr ranks=8,4,4 blocks=64,16,8", &p, &att));

    strata_tensor tq = heads(q), tk = heads(k), tv = heads(v), to = heads(o), tdo = heads(dout);
    strata_tensor tdq = heads(dq), tdk = heads(dk), tdv = heads(dv);
    strata_tensor tl = strata_view3(lse, STRATA_F32, 1, HEADS, TIME);
    check(strata_attention_forward(att, &tq, &tk, &tv, &to, &tl, NULL));
    check(strata_attention_backward(att, &tq, &tk, &tv, &to, &tl, &tdo, &tdq, &tdk, &tdv, NULL));

    /* Rows of the softmax sum to one, so with dout = 1 the gradients of v sum to the number of outputs. */
    double sum = 0;
    for (int i = 0; i < N; i++) sum += (double)dv[i];
    (void)printf("sum of dv: %.2f of %d\n", sum, N);

    strata_attention_info info = { .size = STRATA_INIT(strata_attention_info) };
    check(strata_attention_query(att, &info));
    (void)printf("visible pairs per head: %.0f\n", info.pairs);

    size_t bytes, payload;
    check(strata_attention_cache_size(att, TIME, &bytes, &payload));
    (void)printf("cache payload: %zu bytes, full keys and values would take %zu\n", payload, 2 * N * sizeof(float));
    void *cache = strata_alloc(ctx, bytes);
    if (!cache) return 1;
    check(strata_attention_cache_init(att, TIME, cache));
    for (int64_t t = 0; t < TIME; t++) {
        strata_tensor q1 = token(q, (int)t), k1 = token(k, (int)t), v1 = token(v, (int)t), o1 = token(step, (int)t);
        check(strata_attention_step(att, cache, 0, &t, &q1, &k1, &v1, &o1, NULL));
    }
    double worst = 0;
    for (int i = 0; i < N; i++) worst = fmax(worst, fabs((double)(step[i] - o[i])));
    (void)printf("token by token equals all at once: %s\n", worst < 1e-5 ? "yes" : "no");

    strata_free(ctx, cache);
    strata_attention_destroy(att);
    strata_context_destroy(ctx);
    return 0;
}
/* Output:
sum of dv: 1280.00 of 1280
visible pairs per head: 820
cache payload: 8448 bytes, full keys and values would take 10240
token by token equals all at once: yes
*/
