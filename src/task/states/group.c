#include "task/states/group.h"

#include <string.h>

#include "core/context.h"
#include "core/spec.h"

enum { MOST = 5 }; /* things that are permuted */

typedef struct permutation {
    uint8_t to[MOST];
} permutation;

typedef struct permutations {
    int32_t things, count;
    permutation p[120];
} permutations;

static bool is_even(const permutation *p, int32_t n)
{
    int inversions = 0;
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = i + 1; j < n; j++) inversions += p->to[i] > p->to[j];
    return inversions % 2 == 0;
}

/* The next one in lexicographic order; false after the last. */
static bool next(permutation *p, int32_t n)
{
    int32_t i = n - 2, j = n - 1;
    while (i >= 0 && p->to[i] > p->to[i + 1]) i--;
    if (i < 0) return false;
    while (p->to[j] < p->to[i]) j--;
    uint8_t t = p->to[i];
    p->to[i] = p->to[j];
    p->to[j] = t;
    for (int32_t a = i + 1, b = n - 1; a < b; a++, b--) {
        t = p->to[a];
        p->to[a] = p->to[b];
        p->to[b] = t;
    }
    return true;
}

static void list(permutations *all, int32_t things, bool even)
{
    permutation p = { { 0, 1, 2, 3, 4 } };
    all->things = things;
    all->count = 0;
    do {
        if (!even || is_even(&p, things)) all->p[all->count++] = p;
    } while (next(&p, things));
}

static int32_t index_of(const permutations *all, const permutation *p)
{
    int32_t i = 0;
    while (memcmp(all->p[i].to, p->to, (size_t)all->things) != 0) i++;
    return i;
}

/* Products of permutations, and of a cyclic part of `cyclic` elements beside them. */
static void multiply(const permutations *all, int32_t cyclic, sti_group *g)
{
    for (int32_t a = 0; a < all->count; a++)
        for (int32_t b = 0; b < all->count; b++) {
            permutation c = all->p[0];
            for (int32_t i = 0; i < all->things; i++) c.to[i] = all->p[a].to[all->p[b].to[i]];
            const int32_t ab = index_of(all, &c);
            for (int32_t x = 0; x < cyclic; x++)
                for (int32_t y = 0; y < cyclic; y++)
                    g->product[(a * cyclic + x) * g->order + b * cyclic + y] =
                        (uint8_t)(ab * cyclic + (x + y) % cyclic);
        }
}

/* Things that p moves. */
static int32_t moved(const permutation *p, int32_t things)
{
    int32_t n = 0;
    for (int32_t i = 0; i < things; i++) n += p->to[i] != i;
    return n;
}

static bool is_letter(const char *letters, const permutation *p, int32_t things)
{
    const int32_t n = moved(p, things);
    return strcmp(letters, "swaps") == 0 ? n == 0 || n == 2 : n == 3;
}

static strata_status choose(const char *name, const char *letters, const permutations *all, sti_group *g)
{
    const bool every = strcmp(letters, "all") == 0;
    if (!every && all->count != g->order)
        return sti_fail(STRATA_E_SPEC, "states.letters=%s of %s, which does not consist of permutations", letters,
                        name);
    for (int32_t i = 0; i < g->order; i++)
        if (every || is_letter(letters, &all->p[i], all->things)) g->letter[g->letters++] = (uint8_t)i;
    if (g->letters > (strcmp(letters, "swaps") == 0)) return STRATA_OK;
    return sti_fail(STRATA_E_SPEC, "%s has no element for states.letters=%s", name, letters);
}

strata_status sti_group_create(const char *name, const char *letters, sti_group *g)
{
    permutations all = { 0 };
    int64_t n = 0, cyclic = 1;
    const bool number = *name && sti_parse_i64(name + 1, &n);
    if (strcmp(name, "a4xz5") == 0) {
        list(&all, 4, true);
        cyclic = 5;
    } else if ((*name == 's' || *name == 'a') && number && n >= 2 + (*name == 'a') && n <= MOST) {
        list(&all, (int32_t)n, *name == 'a');
    } else if (*name == 'z' && number && n >= 2 && n <= STI_GROUP_ORDER) {
        list(&all, 1, false);
        cyclic = n;
    } else {
        return sti_fail(STRATA_E_SPEC, "\"%.40s\" is no group: there are s2 … s5, a3 … a5, a4xz5 and z2 … z256", name);
    }
    *g = (sti_group){ .order = all.count * (int32_t)cyclic };
    g->product = sti_heap((size_t)g->order * (size_t)g->order);
    if (!g->product) return sti_fail(STRATA_E_MEMORY, "out of memory");
    multiply(&all, (int32_t)cyclic, g);
    strata_status st = choose(name, letters, &all, g);
    if (st != STRATA_OK) sti_group_free(g);
    return st;
}

void sti_group_free(sti_group *g)
{
    sti_heap_free(g->product);
    *g = (sti_group){ 0 };
}
