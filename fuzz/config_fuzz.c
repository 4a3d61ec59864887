/* Configuration files: what is accepted prints to a file that reads back to the same values; what is refused changes
 * nothing. */
#include "train/config.h"

#include "core/context.h"
#include "fuzz.h"

static strata_config *fresh(void)
{
    strata_config *c = NULL;
    if (sti_config_create("text", (sti_keys)STI_NO_KEYS, &c) != STRATA_OK) return NULL;
    return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    strata_config *c = fresh(), *d = fresh();
    MUST(c && d);
    char *before = sti_config_text(c);
    const strata_status s = sti_config_parse(c, (const char *)data, size, "run.conf");
    char *once = sti_config_text(c), *twice = NULL;
    MUST(before && once);
    if (s == STRATA_OK) {
        MUST(sti_config_parse(d, once, strlen(once), "run.conf") == STRATA_OK);
        twice = sti_config_text(d);
        MUST(twice && strcmp(once, twice) == 0);
    } else {
        MUST(*strata_last_error() && strcmp(before, once) == 0);
    }
    sti_heap_free(before);
    sti_heap_free(once);
    sti_heap_free(twice);
    strata_config_destroy(c);
    strata_config_destroy(d);
    return 0;
}
