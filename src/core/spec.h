#ifndef STI_SPEC_H
#define STI_SPEC_H
/* Spec strings: spec := kind {key=value}; value := word | number | list | kind(...).
 * Keys are separated by blanks, also inside parentheses; list items by commas; alternatives of a per-layer pattern by
 * '|'. Each class declares its keys once in a table of sti_key: the parser, the canonical print, --help and the docs
 * read it. */

#include "core/base.h"

enum { STI_SPEC_MAX_TEXT = 16384, STI_SPEC_MAX_DEPTH = 16, STI_SPEC_MAX_ITEMS = 4096 };

typedef enum sti_key_type {
    STI_KEY_INT,   /* 64-bit integer within [min, max] */
    STI_KEY_NUM,   /* finite number within [min, max] */
    STI_KEY_BOOL,  /* 0 or 1 */
    STI_KEY_WORD,  /* one of `words` */
    STI_KEY_TEXT,  /* any single word (such as shape=32x32,32x32: commas are kept) */
    STI_KEY_INTS,  /* list of integers, each within [min, max] */
    STI_KEY_SPEC,  /* nested spec; `words` names the family ("operator", "mixer", "layer") */
    STI_KEY_SPECS, /* list of nested specs, separated by ',' */
    STI_KEY_CYCLE  /* pattern of nested specs separated by '|' */
} sti_key_type;

typedef struct sti_key {
    const char *name;
    sti_key_type type;
    const char *def;   /* default as text, "" when the default is derived, NULL when the key is required */
    const char *help;  /* one line for --help and the docs */
    double min, max;   /* bounds of INT, NUM and INTS; both 0: no bounds */
    const char *words; /* WORD: "sp|mup"; SPEC, SPECS, CYCLE: the family */
} sti_key;

typedef struct sti_keys { /* a table; `inherit` lets one class share another's keys */
    const sti_key *key;
    int32_t count;
} sti_keys;

#define STI_KEYS(array)                                                                                                \
    {                                                                                                                  \
        (array), (int32_t)STI_COUNT(array)                                                                             \
    }
#define STI_NO_KEYS                                                                                                    \
    {                                                                                                                  \
        NULL, 0                                                                                                        \
    }

/* ---- syntax tree -------------------------------------------------------------------------------------------- */
typedef struct sti_spec sti_spec;
typedef struct sti_item { /* one element of a value: a word/number, or a nested spec */
    char *word;           /* NULL when spec is set */
    sti_spec *spec;
    char sep; /* separator before this item: 0 for the first, ',' or '|' */
} sti_item;
typedef struct sti_pair {
    char *key;
    sti_item *item;
    int32_t nitem;
} sti_pair;
struct sti_spec {
    char *kind;
    sti_pair *pair;
    int32_t npair;
};

/* Parse `text` ("btt rank=2", "btt(rank=2)" and "btt" are all legal). E_SPEC with the position on error. */
strata_status sti_spec_parse(const char *text, sti_spec **out);
/* Parse "key=value key=value" without a kind; the tree's kind is `kind`. */
strata_status sti_spec_parse_keys(const char *text, const char *kind, sti_spec **out);
strata_status sti_spec_clone(const sti_spec *s, sti_spec **out);
void sti_spec_free(sti_spec *s);
/* Text of the tree, as "kind(key=value ...)" when nested, else "kind key=value ..."; heap string, NULL when out of
 * memory. */
char *sti_spec_text(const sti_spec *s, bool nested);

/* ---- values bound to a key table ---------------------------------------------------------------------------- */
typedef struct sti_value {
    const sti_key *key;
    bool given;      /* written by the user (false: default) */
    bool empty;      /* default "" and not given: the class derives it */
    int64_t i;       /* INT, BOOL, WORD (index in words), or the count of ints/specs */
    double num;      /* NUM; also INT as double */
    char *text;      /* WORD, TEXT: the word. owned */
    int64_t *ints;   /* INTS. owned */
    sti_spec **spec; /* SPEC (1), SPECS, CYCLE. owned */
} sti_value;

typedef struct sti_values {
    const char *kind;
    sti_value *v;
    int32_t count;
} sti_values;

/* Check the tree's keys against the table: unknown keys fail with the nearest name, values with the bounds they break,
 * a missing required key with its name. `kind` is borrowed and prefixes messages. */
strata_status sti_values_bind(const sti_spec *s, const char *kind, sti_keys keys, sti_values **out);
void sti_values_free(sti_values *v);
/* Access by name; the name must be in the table (STI_ASSERT). */
const sti_value *sti_value_of(const sti_values *v, const char *name);
int64_t sti_value_int(const sti_values *v, const char *name);
double sti_value_num(const sti_values *v, const char *name);
const char *sti_value_text(const sti_values *v, const char *name); /* "" when empty */
bool sti_value_is(const sti_values *v, const char *name, const char *word);
bool sti_value_given(const sti_values *v, const char *name);
const sti_spec *sti_value_spec(const sti_values *v, const char *name, int32_t i);

/* Canonical text under construction: kind, then every key in table order, resolved values filled in by the class. */
typedef struct sti_text { /* growing heap string */
    char *s;
    size_t len, cap;
    bool failed;
} sti_text;
void sti_text_add(sti_text *t, const char *fmt, ...) STRATA_PRINTF(2, 3);
/* Shortest of 15 to 17 digits that reads back as x, with a '.' in every locale. */
void sti_text_add_number(sti_text *t, double x);
void sti_text_free(sti_text *t);
/* Canonical print of bound values: "kind key=value ..." (every key that is not empty, table order). Nested specs are
 * printed as they stand in the values; classes that resolve defaults first overwrite them with sti_values_set. */
char *sti_values_text(const sti_values *v, bool nested);
/* Replace a value by parsed text (used to store resolved defaults, such as the block list). */
strata_status sti_values_set(sti_values *v, const char *name, const char *text);

/* Nearest of n names by edit distance (NULL if nothing is near): for "did you mean" messages. */
const char *sti_nearest(const char *word, const char *const *names, int32_t n);

/* Strict number parsing: whole string, no trailing junk, finite, '.' for the point in every locale. */
bool sti_parse_i64(const char *s, int64_t *out);
bool sti_parse_f64(const char *s, double *out);

#endif
