/* JSON: every node is well-formed, and a text written from the nodes reads back as the same text. */
#include "io/json.h"

#include "fuzz.h"
#include "io/utf8.h"

static void write_value(sti_text *t, const sti_json *j, const sti_json_node *n)
{
    int32_t count = 0;
    bool object = n->type == STI_JSON_OBJECT;
    switch (n->type) {
    case STI_JSON_NULL: sti_text_add(t, "null"); break;
    case STI_JSON_BOOL: sti_text_add(t, n->i ? "true" : "false"); break;
    case STI_JSON_NUMBER:
        MUST(strlen(n->text) == n->len && (!n->is_int || (double)n->i == n->num));
        sti_json_put_number(t, n->num);
        break;
    case STI_JSON_STRING:
        MUST(n->text[n->len] == '\0' && sti_utf8_valid(n->text, n->len));
        sti_json_put_string(t, n->text, n->len);
        break;
    default:
        sti_text_add(t, object ? "{" : "[");
        for (const sti_json_node *c = sti_json_first(j, n); c; c = sti_json_next(j, c)) {
            if (count++) sti_text_add(t, ",");
            MUST((c->key != NULL) == object);
            if (object) {
                sti_json_put_string(t, c->key, c->key_len);
                sti_text_add(t, ":");
            }
            write_value(t, j, c);
        }
        MUST(count == n->count);
        sti_text_add(t, object ? "}" : "]");
    }
}

static bool rewrite(const char *text, size_t size, sti_text *out)
{
    sti_json *j = NULL;
    if (sti_json_parse(text, size, &j) != STRATA_OK) {
        MUST(!j && *strata_last_error());
        return false;
    }
    write_value(out, j, sti_json_root(j));
    sti_json_free(j);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sti_text once = { 0 }, twice = { 0 };
    if (rewrite((const char *)data, size, &once))
        MUST(rewrite(once.s, once.len, &twice) && once.len == twice.len && memcmp(once.s, twice.s, once.len) == 0);
    sti_text_free(&once);
    sti_text_free(&twice);
    /* any bytes at all are written as a string that reads */
    sti_json_put_string(&once, (const char *)data, size);
    MUST(rewrite(once.s, once.len, &twice));
    sti_text_free(&once);
    sti_text_free(&twice);
    return 0;
}
