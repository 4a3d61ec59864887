/* Text to ids: pre-tokens, a cache of those seen before, and for the others the joins in the order of their ranks. */

#include <string.h>

#include "core/context.h"
#include "io/tokenizer/bpe/bpe.h"

enum { KEY_WORDS = 3, LINE_IDS = 9, MAX_LINES_LOG2 = 17 };

/* One pre-token of up to 24 bytes and 9 ids: a cache line. */
typedef struct line {
    uint64_t key[KEY_WORDS]; /* padded with zeros */
    uint32_t bytes, count;   /* bytes 0: empty */
    int32_t id[LINE_IDS - 1];
} line;
_Static_assert(sizeof(line) == 64, "a line of the cache is a cache line");

typedef struct encoder {
    const sti_bpe *b;
    line *cache; /* in sets of two, the more recent first */
    uint64_t mask;
    /* a word being joined, one entry per byte */
    int32_t *token, *next, *prev; /* token -1: joined to the one before */
    uint64_t *heap, *fresh;       /* rank << 32 | position; candidates, and those of the joins of one rank */
    size_t room, heaped, freshened;
} encoder;

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

/* ---- joining ------------------------------------------------------------------------------------------------ */
static strata_status make_room(encoder *e, size_t n)
{
    if (n <= e->room) return STRATA_OK;
    if (n > INT32_MAX) return sti_fail(STRATA_E_UNSUPPORTED, "a word of %zu bytes", n);
    const size_t room = STI_MAX(2 * e->room, n);
    sti_heap_free(e->heap);
    e->room = 0;
    /* a join leaves one token less and makes two candidates */
    e->heap = sti_heap(room * (3 + 2) * sizeof *e->heap + 3 * room * sizeof *e->token);
    if (!e->heap) return no_memory();
    e->fresh = e->heap + 3 * room;
    e->token = (int32_t *)(e->fresh + 2 * room);
    e->next = e->token + room;
    e->prev = e->next + room;
    e->room = room;
    return STRATA_OK;
}

static void push(encoder *e, uint64_t x)
{
    size_t i = e->heaped++;
    for (; i > 0 && e->heap[(i - 1) / 2] > x; i = (i - 1) / 2) e->heap[i] = e->heap[(i - 1) / 2];
    e->heap[i] = x;
}

static uint64_t pop(encoder *e)
{
    const uint64_t top = e->heap[0], x = e->heap[--e->heaped];
    size_t i = 0;
    for (size_t k = 1; k < e->heaped; k = 2 * i + 1) {
        k += k + 1 < e->heaped && e->heap[k + 1] < e->heap[k];
        if (e->heap[k] >= x) break;
        e->heap[i] = e->heap[k];
        i = k;
    }
    e->heap[i] = x;
    return top;
}

/* The pair that begins at `at` may be joined from the next rank on. */
static void consider(encoder *e, int32_t at)
{
    if (at < 0 || e->next[at] < 0) return;
    const int32_t rank = sti_bpe_rank(e->b, e->token[at], e->token[e->next[at]]);
    if (rank >= 0) e->fresh[e->freshened++] = (uint64_t)rank << 32 | (uint32_t)at;
}

static void join(encoder *e, const sti_bpe_merge *m, int32_t at)
{
    const int32_t right = e->token[at] == m->left ? e->next[at] : -1;
    if (right < 0 || e->token[right] != m->right) return; /* one of the two went elsewhere */
    e->token[at] = m->result;
    e->token[right] = -1;
    e->next[at] = e->next[right];
    if (e->next[at] >= 0) e->prev[e->next[at]] = at;
    consider(e, e->prev[at]);
    consider(e, at);
}

/* The published rule: join every occurrence of the pair of lowest rank, from left to right; again with what there is
 * now. */
static strata_status join_word(encoder *e, const uint8_t *s, size_t n)
{
    STI_TRY(make_room(e, n));
    const int32_t last = (int32_t)n - 1;
    e->heaped = e->freshened = 0;
    for (int32_t i = 0; i <= last; i++) {
        e->token[i] = e->b->of_byte[s[i]];
        e->next[i] = i < last ? i + 1 : -1;
        e->prev[i] = i - 1;
    }
    for (int32_t i = 0; i < last; i++) consider(e, i);
    for (;;) {
        while (e->freshened > 0) push(e, e->fresh[--e->freshened]);
        if (e->heaped == 0) return STRATA_OK;
        const uint64_t rank = e->heap[0] >> 32;
        while (e->heaped > 0 && e->heap[0] >> 32 == rank) join(e, &e->b->merge[rank], (int32_t)(uint32_t)pop(e));
    }
}

/* ---- output ------------------------------------------------------------------------------------------------- */
static void put(sti_ids *ids, const int32_t *id, uint32_t n)
{
    if (ids->width == 2) {
        uint16_t *to = (uint16_t *)ids->id + ids->count;
        for (uint32_t i = 0; i < n; i++) to[i] = (uint16_t)id[i];
    } else {
        memcpy((int32_t *)ids->id + ids->count, id, n * sizeof *id);
    }
    ids->count += n;
}

/* Ids of a word; they are left in `x` when they fit. */
static strata_status encode_word(encoder *e, const uint8_t *s, size_t n, sti_ids *ids, line *x)
{
    STI_TRY(join_word(e, s, n));
    x->count = 0;
    for (int32_t i = 0; i >= 0; i = e->next[i]) {
        const int32_t id = e->b->id[e->token[i]];
        put(ids, &id, 1);
        if (x->count < STI_COUNT(x->id)) x->id[x->count] = id;
        x->count++;
    }
    return STRATA_OK;
}

/* ---- cache -------------------------------------------------------------------------------------------------- */
static void load_key(uint64_t key[KEY_WORDS], const uint8_t *s, size_t n)
{
    key[0] = key[1] = key[2] = 0;
    memcpy(key, s, n);
}

static uint64_t hash_key(const uint64_t key[KEY_WORDS], size_t n)
{
    uint64_t h = (key[0] ^ n) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 29 ^ key[1]) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 31 ^ key[2]) * 0x94d049bb133111ebu;
    return h ^ h >> 32;
}

static bool same(const line *x, const uint64_t key[KEY_WORDS], size_t n)
{
    return x->bytes == n && x->key[0] == key[0] && x->key[1] == key[1] && x->key[2] == key[2];
}

static strata_status encode_short(encoder *e, const uint8_t *s, size_t n, sti_ids *ids)
{
    line x = { .bytes = (uint32_t)n };
    load_key(x.key, s, n);
    line *set = e->cache + (hash_key(x.key, n) & e->mask) * 2;
    for (int way = 0; way < 2; way++) {
        if (!same(&set[way], x.key, n)) continue;
        put(ids, set[way].id, set[way].count);
        return STRATA_OK;
    }
    STI_TRY(encode_word(e, s, n, ids, &x));
    if (x.count <= STI_COUNT(x.id)) {
        set[1] = set[0];
        set[0] = x;
    }
    return STRATA_OK;
}

strata_status sti_bpe_encode(const sti_bpe *b, const uint8_t *text, size_t n, sti_ids *ids)
{
    int log2 = 3;
    while (log2 < MAX_LINES_LOG2 - 1 && (size_t)1 << log2 < n / 32) log2++;
    encoder e = { .b = b, .mask = ((uint64_t)1 << log2) - 1 };
    strata_status st = (e.cache = sti_heap((size_t)2 * sizeof *e.cache << log2)) ? STRATA_OK : no_memory();
    for (size_t at = 0; at < n && st == STRATA_OK;) {
        const size_t k = sti_bpe_split(text + at, n - at);
        line unused = { 0 };
        st = sti_ids_reserve(ids, (int64_t)k);
        if (st == STRATA_OK)
            st = k <= sizeof unused.key ? encode_short(&e, text + at, k, ids)
                                        : encode_word(&e, text + at, k, ids, &unused);
        at += k;
    }
    sti_heap_free(e.cache);
    sti_heap_free(e.heap);
    return st;
}
