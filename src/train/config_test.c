/* Configuration: defaults, sources, errors, files. */

#include "train/config.h"

#include "core/context.h"
#include "support/test.h"

static const sti_key task_keys[] = {
    { "path", STI_KEY_TEXT, "", "a line of text", 0, 0, NULL },
    { "kind", STI_KEY_WORD, "aa", "a word", 0, 0, "aa|bb|b" },
};

static strata_config *make(void)
{
    strata_config *c = NULL;
    CHECK_OK(sti_config_create("toy", (sti_keys)STI_KEYS(task_keys), &c));
    return c;
}

static void defaults_and_sources(void)
{
    strata_config *c = make();
    CHECK_STR(strata_config_get(c, "train.steps"), "1000");
    CHECK_STR(strata_config_get(c, "toy.kind"), "aa");
    CHECK(strata_config_get(c, "nothing") == NULL);
    CHECK_OK(strata_config_set(c, "train.lr", "1e-3", "--set"));
    CHECK(sti_config_num(c, "train.lr") == 1e-3);
    int found = 0;
    for (int32_t i = 0; i < strata_config_count(c); i++) {
        strata_config_item x;
        CHECK_OK(strata_config_at(c, i, &x));
        CHECK(x.help && x.help[0] && x.type);
        if (strcmp(x.key, "train.lr") == 0) {
            CHECK_STR(x.source, "--set");
            CHECK_STR(x.type, "num");
            CHECK_STR(x.def, "3e-3");
            found++;
        } else {
            CHECK_STR(x.source, "default");
        }
    }
    CHECK_INT(found, 1);
    strata_config_item x;
    CHECK_STATUS(strata_config_at(c, 1000, &x), STRATA_E_INVALID);
    strata_config_destroy(c);
}

static void bad_values(void)
{
    strata_config *c = make();
    const struct {
        const char *key, *value, *text;
    } bad[] = {
        { "train.stepz", "1", "train.steps" },
        { "qqqqqqqqqq", "1", "no key" },
        { "train.steps", "ten", "no integer" },
        { "train.steps", "1.5", "no integer" },
        { "train.batch", "0", "between 1" },
        { "train.lr", "nan", "no number" },
        { "train.resume", "yes", "neither 0 nor 1" },
        { "train.schedule", "cosin", "constant|cosine" },
        { "toy.kind", "a", "aa|bb|b" },
        { "toy.kind", "", "aa|bb|b" },
        { "toy.kind", "aa|bb", "aa|bb|b" },
        { "toy.path", "a\nb", "control" },
        { "toy.path", "a #b", "'#'" },
        { "model.spec", "decoder layers=", "model.spec" },
    };
    for (size_t i = 0; i < STI_COUNT(bad); i++) {
        CHECK_STATUS(strata_config_set(c, bad[i].key, bad[i].value, "test"), STRATA_E_SPEC);
        CHECK_ERROR_TEXT(bad[i].text);
    }
    CHECK_STATUS(strata_config_set(c, "train.lr", NULL, "test"), STRATA_E_INVALID);
    CHECK_STR(strata_config_get(c, "train.batch"), "8");
    CHECK_OK(strata_config_set(c, "toy.kind", "b", "test"));
    strata_config_destroy(c);
}

static strata_status parse(strata_config *c, const char *text)
{
    return sti_config_parse(c, text, strlen(text), "run.conf");
}

static void files(void)
{
    strata_config *c = make();
    CHECK_OK(parse(c, "# a comment\n\n  train.lr = 1e-2  # another\r\nmodel.spec=decoder layers=2 mixers=a|b(x=1)\n"
                      "toy.path = with#sign and = sign"));
    CHECK_STR(strata_config_get(c, "train.lr"), "1e-2");
    CHECK_STR(strata_config_get(c, "model.spec"), "decoder layers=2 mixers=a|b(x=1)");
    CHECK_STR(strata_config_get(c, "toy.path"), "with#sign and = sign");
    strata_config_item x;
    for (int32_t i = 0; i < strata_config_count(c); i++) {
        CHECK_OK(strata_config_at(c, i, &x));
        if (strcmp(x.key, "train.lr") == 0) CHECK_STR(x.source, "run.conf:3");
    }
    /* nothing of a bad file is taken */
    CHECK_STATUS(parse(c, "train.steps = 7\ntrain.batch = 0\n"), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("run.conf:2");
    CHECK_STR(strata_config_get(c, "train.steps"), "1000");
    CHECK_STATUS(parse(c, "train.steps 7\n"), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("run.conf:1");
    CHECK_STATUS(sti_config_parse(c, "toy.path = a\0b", 14, "n"), STRATA_E_SPEC);
    CHECK_STATUS(strata_config_load(c, "/nonexistent/run.conf"), STRATA_E_IO);

    /* the written form reads back to the same values */
    char *text = sti_config_text(c);
    strata_config *d = make();
    CHECK_OK(parse(d, text));
    for (int32_t i = 0; i < strata_config_count(c); i++) {
        CHECK_OK(strata_config_at(c, i, &x));
        CHECK_STR(strata_config_get(d, x.key), x.value);
    }
    sti_heap_free(text);
    strata_config_destroy(d);
    strata_config_destroy(c);
}

TESTS(T(defaults_and_sources), T(bad_values), T(files))
