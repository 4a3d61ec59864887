/* JSON: any bytes; the whole tree is walked, and every string and number is written and read back. */
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "io/json.h"

#define MUST(e) ((e) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const sti_json *j, const sti_json_node *n)
{
    if (n->key) MUST(strlen(n->key) <= n->key_len);
    if (n->type == STI_JSON_STRING) {
        sti_text t = { 0 };
        sti_json *again = NULL;
        sti_json_put_string(&t, n->text, n->len);
        MUST(!t.failed && sti_json_parse(t.s, t.len, &again) == STRATA_OK);
        const sti_json_node *m = sti_json_root(again);
        MUST(m->type == STI_JSON_STRING && m->len == n->len && memcmp(m->text, n->text, n->len) == 0);
        sti_json_free(again);
        sti_text_free(&t);
    }
    int32_t count = 0;
    for (const sti_json_node *c = sti_json_first(j, n); c; c = sti_json_next(j, c), count++) walk(j, c);
    MUST((n->type != STI_JSON_ARRAY && n->type != STI_JSON_OBJECT) || count == n->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sti_json *j = NULL;
    if (sti_json_parse((const char *)data, size, &j) == STRATA_OK)
        walk(j, sti_json_root(j));
    else
        MUST(!j && *strata_last_error());
    sti_json_free(j);
    return 0;
}
