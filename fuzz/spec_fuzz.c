/* Spec strings: whatever parses prints to a text that parses back to itself, alone and bound to a key table. */
#include "core/spec.h"

#include "core/context.h"
#include "fuzz.h"

static const sti_key keys[] = {
    { "int", STI_KEY_INT, "4", "an integer", 1, 99, NULL },
    { "num", STI_KEY_NUM, "0.5", "a number", -1, 1, NULL },
    { "bool", STI_KEY_BOOL, "1", "a switch", 0, 0, NULL },
    { "word", STI_KEY_WORD, "one", "a word", 0, 0, "one|two" },
    { "text", STI_KEY_TEXT, "", "a text", 0, 0, NULL },
    { "ints", STI_KEY_INTS, "", "integers", 1, 1024, NULL },
    { "spec", STI_KEY_SPEC, "dense", "a nested spec", 0, 0, "operator" },
    { "specs", STI_KEY_SPECS, "", "nested specs", 0, 0, "operator" },
    { "cycle", STI_KEY_CYCLE, "", "a pattern", 0, 0, "mixer" },
};

/* `text`, which is freed, parses and prints as itself. */
static void parses_to_itself(char *text, bool nested)
{
    sti_spec *s = NULL;
    MUST(text && sti_spec_parse(text, &s) == STRATA_OK);
    char *again = sti_spec_text(s, nested);
    MUST(again && strcmp(text, again) == 0);
    sti_heap_free(again);
    sti_heap_free(text);
    sti_spec_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > STI_SPEC_MAX_TEXT / 4) return 0; /* canonical text may be longer than what it was made from */
    char *text = malloc(size + 1);
    MUST(text);
    memcpy(text, data, size);
    text[size] = 0;
    sti_spec *s = NULL;
    sti_values *v = NULL;
    if (sti_spec_parse(text, &s) != STRATA_OK) {
        MUST(!s && *strata_last_error());
        goto out;
    }
    parses_to_itself(sti_spec_text(s, false), false);
    parses_to_itself(sti_spec_text(s, true), true);
    if (sti_values_bind(s, s->kind, (sti_keys)STI_KEYS(keys), &v) != STRATA_OK) {
        MUST(!v && *strata_last_error());
        goto out;
    }
    parses_to_itself(sti_values_text(v, false), false);
    parses_to_itself(sti_values_text(v, true), true);
out:
    sti_values_free(v);
    sti_spec_free(s);
    free(text);
    return 0;
}
