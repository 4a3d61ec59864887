/* Vocabulary files: merges in the order of their ranks, and optionally a JSON object of ids. */

#include <string.h>

#include "core/context.h"
#include "io/json.h"
#include "io/tokenizer/bpe/bpe.h"
#include "io/utf8.h"

static strata_status no_memory(void)
{
    return sti_fail(STRATA_E_MEMORY, "out of memory");
}

/* ---- alphabet ----------------------------------------------------------------------------------------------- */
void sti_bpe_alphabet_fill(sti_bpe_alphabet *a)
{
    int printable = 0, hidden = 0;
    memset(a->byte, -1, sizeof a->byte);
    for (int b = 0; b < 256; b++) printable += (b > 32 && b < 127) || (b > 160 && b != 173);
    for (int b = 0, p = 0; b < 256; b++) {
        bool shown = (b > 32 && b < 127) || (b > 160 && b != 173);
        int symbol = shown ? b : 256 + hidden;
        a->order[shown ? p++ : printable + hidden++] = (uint8_t)b;
        a->symbol[b] = (uint16_t)symbol;
        a->byte[symbol] = (int16_t)b;
    }
}

void sti_bpe_put(const sti_bpe_alphabet *a, const uint8_t *bytes, size_t n, sti_text *out)
{
    for (size_t i = 0; i < n; i++) {
        const int c = a->symbol[bytes[i]];
        if (c < 0x80)
            sti_text_add(out, "%c", c);
        else
            sti_text_add(out, "%c%c", 0xc0 | c >> 6, 0x80 | (c & 0x3f));
    }
}

/* Bytes of a word written in symbols into out (n bytes of room). false: at s[*stop] stands no symbol. */
static bool read_symbols(const sti_bpe_alphabet *a, const char *word, size_t n, uint8_t *out, size_t *bytes,
                         size_t *stop)
{
    const uint8_t *s = (const uint8_t *)word;
    *bytes = 0;
    for (size_t i = 0; i < n;) {
        size_t k = sti_utf8_length(s + i, n - i);
        uint32_t c = k == 1 ? s[i] : k == 2 ? (uint32_t)(s[i] & 0x1f) << 6 | (s[i + 1] & 0x3fu) : 0xffff;
        *stop = i;
        if (c >= STI_COUNT(a->byte) || a->byte[c] < 0) return false;
        out[(*bytes)++] = (uint8_t)a->byte[c];
        i += k;
    }
    return true;
}

/* ---- tokens by their bytes ---------------------------------------------------------------------------------- */
typedef struct loader {
    const sti_tokenizer *t;
    sti_bpe *b;
    sti_bpe_alphabet alphabet;
    int32_t *slot; /* hash table of tokens, -1: empty */
    uint64_t mask;
    int64_t line;
    uint8_t word[2 * STI_TOKEN_BYTES];
} loader;

static const uint8_t *token_bytes(const sti_bpe *b, int32_t token, size_t *n)
{
    *n = b->start[token + 1] - b->start[token];
    return b->bytes + b->start[token];
}

static uint64_t hash_bytes(const uint8_t *s, size_t n)
{
    uint64_t h = n;
    for (size_t i = 0; i < n; i++) h = (h ^ s[i]) * 0x100000001b3u;
    return sti_bpe_mix(h);
}

/* Where the token with these bytes is, or would be. */
static int32_t *find(const loader *l, const uint8_t *s, size_t n)
{
    for (uint64_t i = hash_bytes(s, n) & l->mask;; i = (i + 1) & l->mask) {
        size_t have = 0;
        if (l->slot[i] < 0) return &l->slot[i];
        const uint8_t *p = token_bytes(l->b, l->slot[i], &have);
        if (have == n && memcmp(p, s, n) == 0) return &l->slot[i];
    }
}

/* A new token at the end; the arrays are large enough for all that the files can hold. */
static int32_t add(loader *l, const uint8_t *s, size_t n)
{
    sti_bpe *b = l->b;
    memcpy(b->bytes + b->start[b->count], s, n);
    b->start[b->count + 1] = b->start[b->count] + (uint32_t)n;
    return b->count++;
}

/* ---- merges ------------------------------------------------------------------------------------------------- */
static strata_status bad_line(const loader *l, const char *why)
{
    return sti_fail(STRATA_E_FORMAT, "%s:%lld: %s", l->t->source[0].name, (long long)l->line, why);
}

static strata_status read_part(loader *l, const char *s, size_t n, int32_t *token)
{
    size_t bytes = 0, stop = 0;
    if (n > sizeof l->word) return bad_line(l, "a token is too long");
    if (!read_symbols(&l->alphabet, s, n, l->word, &bytes, &stop))
        return sti_fail(STRATA_E_FORMAT, "%s:%lld: byte %zu of \"%.*s\" is not the symbol of a byte",
                        l->t->source[0].name, (long long)l->line, stop + 1, (int)n, s);
    *token = *find(l, l->word, bytes);
    if (*token >= 0) return STRATA_OK;
    return sti_fail(STRATA_E_FORMAT, "%s:%lld: \"%.*s\" is neither a byte nor made by an earlier line",
                    l->t->source[0].name, (long long)l->line, (int)n, s);
}

static strata_status read_merge(loader *l, const char *s, size_t n)
{
    sti_bpe *b = l->b;
    sti_bpe_merge m = { 0 };
    const char *blank = memchr(s, ' ', n);
    if (!blank || blank == s || blank == s + n - 1 || memchr(blank + 1, ' ', (size_t)(s + n - blank - 1)))
        return bad_line(l, "not two tokens with a blank between them");
    STI_TRY(read_part(l, s, (size_t)(blank - s), &m.left));
    STI_TRY(read_part(l, blank + 1, (size_t)(s + n - blank - 1), &m.right));
    if (sti_bpe_rank(b, m.left, m.right) >= 0) return bad_line(l, "this pair stands in an earlier line");

    size_t nl = 0, nr = 0;
    const uint8_t *left = token_bytes(b, m.left, &nl), *right = token_bytes(b, m.right, &nr);
    if (nl + nr > STI_TOKEN_BYTES) return bad_line(l, "a token is too long");
    memcpy(l->word, left, nl);
    memcpy(l->word + nl, right, nr);
    int32_t *slot = find(l, l->word, nl + nr);
    if (*slot < 0) *slot = add(l, l->word, nl + nr);
    m.result = *slot;

    const uint64_t key = sti_bpe_key(m.left, m.right);
    uint64_t i = sti_bpe_mix(key) & b->mask;
    while (b->pair[i].key != UINT64_MAX) i = (i + 1) & b->mask;
    b->pair[i] = (sti_bpe_pair){ .key = key, .rank = b->merges };
    b->merge[b->merges++] = m;
    return STRATA_OK;
}

static strata_status read_merges(loader *l)
{
    const sti_tokenizer_source *src = &l->t->source[0];
    for (size_t at = 0; at < src->bytes;) {
        const char *s = src->text + at, *end = memchr(s, '\n', src->bytes - at);
        size_t n = end ? (size_t)(end - s) : src->bytes - at;
        at += n + 1;
        l->line++;
        if (n > 0 && s[n - 1] == '\r') n--;
        if (l->line == 1 && n >= 8 && memcmp(s, "#version", 8) == 0) continue;
        if (n > 0) STI_TRY(read_merge(l, s, n));
    }
    return STRATA_OK;
}

/* ---- ids ---------------------------------------------------------------------------------------------------- */
static strata_status bad_token(const loader *l, const sti_json_node *x, const char *why)
{
    return sti_fail(STRATA_E_FORMAT, "%s: \"%.*s\": %s", l->t->source[1].name, (int)STI_MIN(x->key_len, 200u), x->key,
                    why);
}

/* The token of a member's name: one that the merges make, or a new one. */
static strata_status token_of(loader *l, const sti_json_node *x, int32_t *token)
{
    size_t bytes = 0, stop = 0;
    const bool symbols =
        x->key_len <= sizeof l->word && read_symbols(&l->alphabet, x->key, x->key_len, l->word, &bytes, &stop);
    *token = symbols ? *find(l, l->word, bytes) : -1;
    if (*token >= 0) return STRATA_OK;
    if (!symbols) bytes = x->key_len;
    if (bytes > STI_TOKEN_BYTES) return bad_token(l, x, "a token is too long");
    *token = add(l, symbols ? l->word : (const uint8_t *)x->key, bytes);
    return STRATA_OK;
}

static strata_status read_ids(loader *l, const sti_json *j)
{
    sti_bpe *b = l->b;
    const sti_json_node *root = sti_json_root(j);
    if (root->type != STI_JSON_OBJECT)
        return sti_fail(STRATA_E_FORMAT, "%s: not an object of tokens and ids", l->t->source[1].name);
    const int32_t made = b->count, n = root->count;
    for (const sti_json_node *x = sti_json_first(j, root); x; x = sti_json_next(j, x)) {
        int32_t token = -1;
        if (!x->is_int || x->i < 0 || x->i >= n) return bad_token(l, x, "its id is not one of 0 … tokens - 1");
        if (b->token[x->i] >= 0) return bad_token(l, x, "its id belongs to another token too");
        STI_TRY(token_of(l, x, &token));
        if (b->id[token] >= 0) return bad_token(l, x, "the token stands there twice");
        b->id[token] = (int32_t)x->i;
        b->token[x->i] = token;
    }
    for (int32_t i = 0; i < made; i++) {
        sti_text name = { 0 };
        size_t bytes = 0;
        if (b->id[i] >= 0) continue;
        const uint8_t *p = token_bytes(b, i, &bytes);
        sti_bpe_put(&l->alphabet, p, bytes, &name);
        strata_status st = sti_fail(STRATA_E_FORMAT, "%s has no id for \"%s\", which %s makes", l->t->source[1].name,
                                    name.s ? name.s : "", l->t->source[0].name);
        sti_text_free(&name);
        return st;
    }
    return STRATA_OK;
}

/* Without a file of ids the tokens are numbered as they are made. */
static void number(sti_bpe *b)
{
    for (int32_t i = 0; i < b->count; i++) b->id[i] = b->token[i] = i;
}

/* ---- both files --------------------------------------------------------------------------------------------- */
static uint64_t table_size(uint64_t n)
{
    uint64_t size = 64;
    while (size < 2 * n) size *= 2;
    return size;
}

static strata_status make_room(loader *l, const sti_json *j)
{
    const sti_tokenizer *t = l->t;
    size_t lines = 1, bytes = 256;
    for (size_t i = 0; i < t->source[0].bytes; i++) lines += t->source[0].text[i] == '\n';
    for (int32_t i = 0; i < t->sources; i++) bytes += t->source[i].bytes; /* a token is written out where it is made */
    const size_t tokens = 256 + lines + (j ? (size_t)sti_json_root(j)->count : 0);
    const uint64_t slots = table_size(tokens), pairs = table_size(lines);
    sti_bpe *b = l->b;
    b->bytes = sti_heap(bytes);
    b->start = sti_heap((tokens + 1) * sizeof *b->start);
    b->id = sti_heap(tokens * sizeof *b->id);
    b->token = sti_heap(tokens * sizeof *b->token);
    b->merge = sti_heap(lines * sizeof *b->merge);
    b->pair = sti_heap(pairs * sizeof *b->pair);
    l->slot = sti_heap(slots * sizeof *l->slot);
    if (!b->bytes || !b->start || !b->id || !b->token || !b->merge || !b->pair || !l->slot) return no_memory();
    memset(b->id, -1, tokens * sizeof *b->id);
    memset(b->token, -1, tokens * sizeof *b->token);
    memset(l->slot, -1, slots * sizeof *l->slot);
    for (uint64_t i = 0; i < pairs; i++) b->pair[i].key = UINT64_MAX;
    b->mask = pairs - 1;
    l->mask = slots - 1;
    return STRATA_OK;
}

static strata_status read_both(loader *l, sti_json **j)
{
    const sti_tokenizer_source *src = l->t->source;
    if (l->t->sources > 1) {
        strata_status st = sti_json_parse(src[1].text, src[1].bytes, j);
        if (st != STRATA_OK) return sti_fail_prefix(st, "%s", src[1].name);
    }
    if (!sti_utf8_valid(src[0].text, src[0].bytes)) return sti_fail(STRATA_E_FORMAT, "%s: not UTF-8 text", src[0].name);
    STI_TRY(make_room(l, *j));
    for (int32_t i = 0; i < 256; i++) {
        const uint8_t byte = l->alphabet.order[i];
        int32_t *slot = find(l, &byte, 1);
        l->b->of_byte[byte] = *slot = add(l, &byte, 1);
    }
    STI_TRY(read_merges(l));
    if (*j) return read_ids(l, *j);
    number(l->b);
    return STRATA_OK;
}

strata_status sti_bpe_load(const sti_tokenizer *t, sti_bpe **out)
{
    sti_json *j = NULL;
    loader *l = sti_heap(sizeof *l);
    strata_status st = l && (l->b = sti_heap(sizeof *l->b)) ? STRATA_OK : no_memory();
    if (st == STRATA_OK) {
        l->t = t;
        sti_bpe_alphabet_fill(&l->alphabet);
        st = read_both(l, &j);
    }
    *out = l ? l->b : NULL;
    if (st != STRATA_OK) {
        sti_bpe_free(*out);
        *out = NULL;
    }
    if (l) sti_heap_free(l->slot);
    sti_heap_free(l);
    sti_json_free(j);
    return st;
}

void sti_bpe_free(sti_bpe *b)
{
    if (!b) return;
    sti_heap_free(b->bytes);
    sti_heap_free(b->start);
    sti_heap_free(b->id);
    sti_heap_free(b->token);
    sti_heap_free(b->merge);
    sti_heap_free(b->pair);
    sti_heap_free(b);
}
