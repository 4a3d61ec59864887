/* Learning the merges. Different words are counted once; every position of a pair is known, so that a join costs what
 * it changes and all of them together no more than the number of bytes in the different words. */

#include <string.h>

#include "core/context.h"
#include "io/tokenizer/bpe/bpe.h"

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

/* A growing array: room for one more element. */
static bool grow(void **p, size_t *cap, size_t used, size_t element)
{
    if (used < *cap) return true;
    const size_t want = *cap ? 2 * *cap : 1024;
    void *q = sti_heap_grow(*p, used * element, want * element);
    if (!q) return false;
    *p = q;
    *cap = want;
    return true;
}

/* ---- words -------------------------------------------------------------------------------------------------- */
typedef struct word {
    const uint8_t *s; /* in the corpus */
    uint32_t bytes;
    uint32_t hash;
    int64_t count; /* 0: empty slot */
} word;

typedef struct words {
    word *slot;
    uint64_t mask;
    int64_t used, bytes;
} words;

static word *find_word(const words *w, const uint8_t *s, uint32_t n, uint32_t hash)
{
    for (uint64_t i = hash & w->mask;; i = (i + 1) & w->mask) {
        word *x = &w->slot[i];
        if (x->count == 0 || (x->hash == hash && x->bytes == n && memcmp(x->s, s, n) == 0)) return x;
    }
}

static strata_status widen(words *w)
{
    const uint64_t size = w->slot ? 2 * (w->mask + 1) : 1 << 14;
    words bigger = { .slot = sti_heap(size * sizeof *w->slot), .mask = size - 1 };
    if (!bigger.slot) return no_memory();
    for (uint64_t i = 0; w->slot && i <= w->mask; i++) {
        const word *x = &w->slot[i];
        if (x->count > 0) *find_word(&bigger, x->s, x->bytes, x->hash) = *x;
    }
    sti_heap_free(w->slot);
    w->slot = bigger.slot;
    w->mask = bigger.mask;
    return STRATA_OK;
}

static strata_status count_word(words *w, const uint8_t *s, size_t n)
{
    uint64_t h = n;
    if (2 * (uint64_t)w->used >= (w->slot ? w->mask + 1 : 0)) STI_TRY(widen(w));
    for (size_t i = 0; i < n; i++) h = (h ^ s[i]) * 0x100000001b3u;
    const uint32_t hash = (uint32_t)(sti_bpe_mix(h) >> 16);
    word *x = find_word(w, s, (uint32_t)n, hash);
    if (x->count++ > 0) return STRATA_OK;
    x->s = s;
    x->bytes = (uint32_t)n;
    x->hash = hash;
    w->used++;
    w->bytes += (int64_t)n;
    return STRATA_OK;
}

/* A file's text ends a word. Words beyond the longest token are counted in pieces. */
static strata_status count_words(const sti_corpus *c, words *w)
{
    for (int32_t f = 0; f < c->count; f++) {
        const uint8_t *s = c->text + c->file[f].offset, *end = s + c->file[f].bytes;
        while (s < end) {
            size_t k = sti_bpe_split(s, (size_t)(end - s));
            for (; k > STI_TOKEN_BYTES; k -= STI_TOKEN_BYTES, s += STI_TOKEN_BYTES)
                STI_TRY(count_word(w, s, STI_TOKEN_BYTES));
            STI_TRY(count_word(w, s, k));
            s += k;
        }
    }
    if (w->bytes > INT32_MAX)
        return sti_fail(STRATA_E_UNSUPPORTED,
                        "the different words have %lld bytes; at most 2^31 - 1 can be learned from",
                        (long long)w->bytes);
    return STRATA_OK;
}

/* ---- pairs -------------------------------------------------------------------------------------------------- */
typedef struct place { /* where a pair begins; a list, ascending within a word */
    int32_t at, next;
} place;

typedef struct pair {
    uint64_t key;
    int64_t count;
    int32_t head, tail; /* of its places, -1: none */
} pair;

typedef struct entry {
    int64_t count;
    int32_t pair;
} entry;

typedef struct learner {
    /* one entry per byte of a different word */
    int32_t *token, *next, *prev; /* token -1: joined to the one before; next, prev -1: the word ends */
    int64_t *weight;              /* how often the word occurs */
    pair *pair;
    size_t pairs, pair_cap;
    int32_t *slot; /* hash table of pairs, -1: empty */
    uint64_t mask;
    place *place;
    size_t places, place_cap;
    int32_t unused; /* list of places to use again, -1: none */
    entry *heap;    /* the best first; counts may be out of date, then too large */
    size_t heaped, heap_cap;
} learner;

static int32_t *find_pair(const learner *l, uint64_t key)
{
    for (uint64_t i = sti_bpe_mix(key) & l->mask;; i = (i + 1) & l->mask)
        if (l->slot[i] < 0 || l->pair[l->slot[i]].key == key) return &l->slot[i];
}

static strata_status widen_pairs(learner *l)
{
    const uint64_t size = l->slot ? 2 * (l->mask + 1) : 1 << 14;
    int32_t *slot = sti_heap(size * sizeof *slot);
    if (!slot) return no_memory();
    memset(slot, -1, size * sizeof *slot);
    sti_heap_free(l->slot);
    l->slot = slot;
    l->mask = size - 1;
    for (size_t i = 0; i < l->pairs; i++) *find_pair(l, l->pair[i].key) = (int32_t)i;
    return STRATA_OK;
}

/* The pair that begins at `at` exists from now on. */
static strata_status gain(learner *l, int32_t at)
{
    if (at < 0 || l->next[at] < 0) return STRATA_OK;
    const uint64_t key = sti_bpe_key(l->token[at], l->token[l->next[at]]);
    if (2 * l->pairs >= (l->slot ? l->mask + 1 : 0)) STI_TRY(widen_pairs(l));
    int32_t *slot = find_pair(l, key);
    if (*slot < 0) {
        void *p = l->pair;
        if (!grow(&p, &l->pair_cap, l->pairs, sizeof *l->pair)) return no_memory();
        l->pair = p;
        *slot = (int32_t)l->pairs;
        l->pair[l->pairs++] = (pair){ .key = key, .head = -1, .tail = -1 };
    }
    int32_t node = l->unused;
    if (node >= 0) {
        l->unused = l->place[node].next;
    } else {
        void *p = l->place;
        if (!grow(&p, &l->place_cap, l->places, sizeof *l->place)) return no_memory();
        l->place = p;
        node = (int32_t)l->places++;
    }
    pair *x = &l->pair[*slot];
    l->place[node] = (place){ .at = at, .next = -1 };
    if (x->tail >= 0)
        l->place[x->tail].next = node;
    else
        x->head = node;
    x->tail = node;
    x->count += l->weight[at];
    return STRATA_OK;
}

/* … and no longer; its place stays in the list and is seen to be stale there. */
static void lose(learner *l, int32_t at)
{
    if (at >= 0 && l->next[at] >= 0)
        l->pair[*find_pair(l, sti_bpe_key(l->token[at], l->token[l->next[at]]))].count -= l->weight[at];
}

/* ---- the most frequent pair --------------------------------------------------------------------------------- */
/* Of two equally frequent ones that of the older left token, then of the older right token. */
static bool better(const learner *l, const entry *a, const entry *b)
{
    return a->count != b->count ? a->count > b->count : l->pair[a->pair].key < l->pair[b->pair].key;
}

static strata_status push(learner *l, int32_t p)
{
    const entry x = { .count = l->pair[p].count, .pair = p };
    void *q = l->heap;
    if (x.count < 2) return STRATA_OK;
    if (!grow(&q, &l->heap_cap, l->heaped, sizeof *l->heap)) return no_memory();
    l->heap = q;
    size_t i = l->heaped++;
    for (; i > 0 && better(l, &x, &l->heap[(i - 1) / 2]); i = (i - 1) / 2) l->heap[i] = l->heap[(i - 1) / 2];
    l->heap[i] = x;
    return STRATA_OK;
}

static entry pop(learner *l)
{
    const entry top = l->heap[0], x = l->heap[--l->heaped];
    size_t i = 0;
    for (size_t k = 1; k < l->heaped; k = 2 * i + 1) {
        k += k + 1 < l->heaped && better(l, &l->heap[k + 1], &l->heap[k]);
        if (!better(l, &l->heap[k], &x)) break;
        l->heap[i] = l->heap[k];
        i = k;
    }
    l->heap[i] = x;
    return top;
}

/* -1: no pair occurs twice. */
static strata_status best_pair(learner *l, int32_t *p)
{
    *p = -1;
    while (l->heaped > 0) {
        const entry x = pop(l);
        if (x.count == l->pair[x.pair].count) {
            *p = x.pair;
            return STRATA_OK;
        }
        STI_TRY(push(l, x.pair)); /* with its count of today */
    }
    return STRATA_OK;
}

/* Join every occurrence of pair p, from left to right, to `result`. */
static strata_status join_all(learner *l, int32_t p, int32_t result)
{
    const int32_t left = (int32_t)(l->pair[p].key >> 32), right = (int32_t)(l->pair[p].key & 0xffffffffu);
    const size_t before = l->pairs;
    for (int32_t node = l->pair[p].head; node >= 0; node = l->place[node].next) {
        const int32_t i = l->place[node].at, j = l->token[i] == left ? l->next[i] : -1;
        if (j < 0 || l->token[j] != right) continue;
        lose(l, l->prev[i]);
        lose(l, j);
        l->token[i] = result;
        l->token[j] = -1;
        l->next[i] = l->next[j];
        if (l->next[i] >= 0) l->prev[l->next[i]] = i;
        STI_TRY(gain(l, l->prev[i]));
        STI_TRY(gain(l, i));
    }
    l->place[l->pair[p].tail].next = l->unused;
    l->unused = l->pair[p].head;
    l->pair[p] = (pair){ .key = l->pair[p].key, .head = -1, .tail = -1 };
    /* all pairs with the new token, and only those, are new */
    for (size_t i = before; i < l->pairs; i++) STI_TRY(push(l, (int32_t)i));
    return STRATA_OK;
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */
static strata_status lay_out(learner *l, const words *w, const sti_bpe_alphabet *a)
{
    int32_t of_byte[256], at = 0;
    const size_t n = (size_t)w->bytes;
    for (int32_t i = 0; i < 256; i++) of_byte[a->order[i]] = i;
    l->token = sti_heap(n * sizeof *l->token);
    l->next = sti_heap(n * sizeof *l->next);
    l->prev = sti_heap(n * sizeof *l->prev);
    l->weight = sti_heap(n * sizeof *l->weight);
    if (!l->token || !l->next || !l->prev || !l->weight) return no_memory();
    for (uint64_t s = 0; s <= w->mask; s++) {
        const word *x = &w->slot[s];
        for (uint32_t i = 0; x->count > 0 && i < x->bytes; i++, at++) {
            l->token[at] = of_byte[x->s[i]];
            l->prev[at] = i > 0 ? at - 1 : -1;
            l->next[at] = i + 1 < x->bytes ? at + 1 : -1;
            l->weight[at] = x->count;
        }
    }
    for (int32_t i = 0; i < at; i++) STI_TRY(gain(l, i));
    for (size_t i = 0; i < l->pairs; i++) STI_TRY(push(l, (int32_t)i));
    return STRATA_OK;
}

/* The text of a token, in symbols. */
typedef struct spelling {
    uint8_t *bytes;
    uint32_t *start;
} spelling;

static void spell(const spelling *t, const sti_bpe_alphabet *a, int32_t token, sti_text *out)
{
    sti_bpe_put(a, t->bytes + t->start[token], t->start[token + 1] - t->start[token], out);
}

static uint32_t copy_token(const spelling *t, int32_t token, uint32_t at)
{
    const uint32_t n = t->start[token + 1] - t->start[token];
    memcpy(t->bytes + at, t->bytes + t->start[token], n);
    return at + n;
}

static strata_status learn(learner *l, const sti_bpe_alphabet *a, int32_t vocab, spelling *t, int32_t *count,
                           sti_text *out)
{
    size_t cap = 0;
    t->start = sti_heap(((size_t)vocab + 1) * sizeof *t->start);
    if (!t->start) return no_memory();
    for (*count = 0; *count < vocab; ++*count) {
        const int32_t n = *count;
        int32_t p = -1;
        uint32_t end = t->start[n];
        while (cap < (size_t)end + 2 * STI_TOKEN_BYTES) {
            void *q = t->bytes;
            if (!grow(&q, &cap, cap, 1)) return no_memory();
            t->bytes = q;
        }
        if (n < 256) {
            t->bytes[end] = a->order[n];
            t->start[n + 1] = end + 1;
            continue;
        }
        STI_TRY(best_pair(l, &p));
        if (p < 0) return STRATA_OK;
        const int32_t left = (int32_t)(l->pair[p].key >> 32), right = (int32_t)(l->pair[p].key & 0xffffffffu);
        t->start[n + 1] = copy_token(t, right, copy_token(t, left, end));
        spell(t, a, left, out);
        sti_text_add(out, " ");
        spell(t, a, right, out);
        sti_text_add(out, "\n");
        STI_TRY(join_all(l, p, n));
    }
    return STRATA_OK;
}

strata_status sti_bpe_train(const sti_corpus *c, strata_tokenizer_training *how, sti_text *out)
{
    sti_bpe_alphabet a;
    words w = { 0 };
    learner l = { .unused = -1 };
    spelling t = { 0 };
    int32_t count = 0;
    if (how->vocab > 1 << 24) return sti_fail(STRATA_E_INVALID, "a vocabulary of %d tokens; at most 2^24", how->vocab);
    sti_bpe_alphabet_fill(&a);
    sti_text_add(out, "#version: 0.2\n");
    strata_status st = count_words(c, &w);
    if (st == STRATA_OK) st = lay_out(&l, &w, &a);
    how->words = w.used;
    sti_heap_free(w.slot);
    if (st == STRATA_OK) st = learn(&l, &a, how->vocab, &t, &count, out);
    if (st == STRATA_OK) how->vocab = count;
    sti_heap_free(t.bytes);
    sti_heap_free(t.start);
    sti_heap_free(l.token);
    sti_heap_free(l.next);
    sti_heap_free(l.prev);
    sti_heap_free(l.weight);
    sti_heap_free(l.pair);
    sti_heap_free(l.slot);
    sti_heap_free(l.place);
    sti_heap_free(l.heap);
    return st;
}
