#ifndef STI_JSON_H
#define STI_JSON_H
/* JSON (RFC 8259), strict: one value, UTF-8 checked, duplicate member names refused, depth and size limited. The whole
 * text becomes an array of nodes; strings and number texts lie in one copy, so the input need not outlive the call.
 *
 *   sti_json *j = NULL;
 *   STI_TRY(sti_json_parse(text, bytes, &j));
 *   const sti_json_node *root = sti_json_root(j), *x = sti_json_get(j, root, "loss");
 *   for (const sti_json_node *c = sti_json_first(j, root); c; c = sti_json_next(j, c)) …
 *   sti_json_free(j);
 */

#include "core/base.h"
#include "core/spec.h"

enum {
    STI_JSON_MAX_BYTES = 1 << 27,
    STI_JSON_MAX_NODES = 1 << 23,
    STI_JSON_MAX_DEPTH = 64,
    STI_JSON_MAX_NUMBER = 400 /* bytes of one number */
};

typedef enum sti_json_type {
    STI_JSON_NULL,
    STI_JSON_BOOL,
    STI_JSON_NUMBER,
    STI_JSON_STRING,
    STI_JSON_ARRAY,
    STI_JSON_OBJECT
} sti_json_type;

typedef struct sti_json_node {
    sti_json_type type;
    bool is_int;   /* NUMBER: written as an integer that fits `i` */
    int32_t count; /* ARRAY, OBJECT: number of children */
    int32_t child; /* index of the first child, 0: none */
    int32_t next;  /* index of the next sibling, 0: none */
    uint32_t key_len;
    uint32_t len;
    const char *key;  /* name of an object's member, NULL otherwise. borrowed from the document, ends in NUL */
    const char *text; /* STRING: unescaped; NUMBER: as written. borrowed likewise; a string may hold NULs, see len */
    int64_t i;        /* NUMBER when is_int; BOOL: 0 or 1 */
    double num;       /* NUMBER: nearest double, infinite beyond its range */
} sti_json_node;

typedef struct sti_json sti_json;

/* E_FORMAT with the position ("line 3, column 7: …"), E_MEMORY. */
strata_status sti_json_parse(const char *text, size_t bytes, sti_json **out);
void sti_json_free(sti_json *j);
const sti_json_node *sti_json_root(const sti_json *j);
const sti_json_node *sti_json_first(const sti_json *j, const sti_json_node *parent);
const sti_json_node *sti_json_next(const sti_json *j, const sti_json_node *node);
/* Member of an object, NULL when absent or when `object` is not one. */
const sti_json_node *sti_json_get(const sti_json *j, const sti_json_node *object, const char *key);
/* The string of a STRING node without inner NULs, else NULL. */
const char *sti_json_string(const sti_json_node *n);

/* ---- writing ------------------------------------------------------------------------------------------------ */

/* Append n bytes as a quoted string: control characters escaped, bytes that are not UTF-8 as U+FFFD. */
void sti_json_put_string(sti_text *t, const char *s, size_t n);
/* Append the shortest of %.15g, %.16g, %.17g that reads back as x; NaN and infinities as null. */
void sti_json_put_number(sti_text *t, double x);

#endif
