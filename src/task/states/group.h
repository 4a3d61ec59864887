#ifndef STI_STATES_GROUP_H
#define STI_STATES_GROUP_H
/* Small groups as multiplication tables. */

#include "core/base.h"

enum { STI_GROUP_ORDER = 256 };

typedef struct sti_group {
    int32_t order;
    uint8_t *product; /* (order, order): index of a b. owned */
    uint8_t letter[STI_GROUP_ORDER];
    int32_t letters; /* elements that words are made of */
} sti_group;

/* name: "sN" and "aN" (N <= 5; permutations of N things and the even ones, in lexicographic order, (a b)(i) = a(b(i))),
 * "zN" (N <= 256; i b = i + b), or "a4xz5" (element 5 a + z). Index 0 is the identity. letters: "all", "swaps"
 * (transpositions and the identity) or "cycles" (of length three). @return OK | E_SPEC | E_MEMORY */
strata_status sti_group_create(const char *name, const char *letters, sti_group *g);
void sti_group_free(sti_group *g);

#endif
