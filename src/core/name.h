#ifndef STI_NAME_H
#define STI_NAME_H
/* Dotted names of stages and parameters, built in place. */

#include <stdio.h>

typedef struct sti_name {
    char s[400];
} sti_name;

/* "outer.inner", or "inner" when outer is empty. Use: sti_name_join(name, "q").s */
static inline sti_name sti_name_join(const char *outer, const char *inner)
{
    sti_name n;
    snprintf(n.s, sizeof n.s, "%s%s%s", outer, *outer ? "." : "", inner);
    return n;
}

#endif
