/* Context, errors, Philox, parameter table, spec strings. */
#include "core/context.h"
#include "core/param.h"
#include "core/philox.h"
#include "core/spec.h"
#include "support/test.h"

static void statuses(void)
{
    CHECK_STR(strata_status_name(STRATA_E_SHAPE), "E_SHAPE");
    CHECK_STR(strata_status_name(-999), "E_UNKNOWN");
    CHECK_STATUS(sti_fail(STRATA_E_SPEC, "a %d", 5), STRATA_E_SPEC);
    CHECK_STR(strata_last_error(), "a 5");
    CHECK_STATUS(sti_fail_prefix(STRATA_E_SPEC, "b"), STRATA_E_SPEC);
    CHECK_STR(strata_last_error(), "b: a 5");
    sti_fail(STRATA_E_SPEC, "%s again", strata_last_error());
    CHECK_STR(strata_last_error(), "b: a 5 again");
}

static void contexts(void)
{
    strata_context *c = NULL;
    CHECK_OK(strata_context_create("threads=3 deterministic=1 isa=c", NULL, &c));
    CHECK_INT(strata_context_threads(c), 3);
    CHECK(c->isa <= STI_ISA_C);
    strata_context_destroy(c);
    for (int isa = STI_ISA_REF; isa <= STI_ISA_AMX; isa++) { /* a context may only lower */
        char text[32];
        snprintf(text, sizeof text, "isa=%s", sti_isa_name((sti_isa)isa));
        CHECK_OK(strata_context_create(text, NULL, &c));
        CHECK((int)c->isa <= isa && c->isa <= sti_isa_detect());
        strata_context_destroy(c);
    }
    CHECK_OK(strata_context_create("math=bf16 isa=avx2", NULL, &c));
    CHECK(c->math == STI_MATH_BF16 && strcmp(strata_context_math(c), "f32") == 0); /* not without the instructions */
    strata_context *d;
    CHECK_OK(sti_context_with_math(c, STI_MATH_BF16, &d));
    CHECK(d == c);
    strata_context_destroy(d);
    CHECK_OK(sti_context_with_math(c, STI_MATH_F32, &d));
    CHECK(d != c && d->math == STI_MATH_F32 && d->isa == c->isa && d->threads == c->threads);
    strata_context_destroy(d);
    strata_context_destroy(c);
    CHECK_OK(strata_context_create("math=bf16", NULL, &c));
    CHECK(strcmp(strata_context_math(c), c->isa >= STI_ISA_AVX512BF16 ? "bf16" : "f32") == 0);
    strata_context_destroy(c);
    CHECK_STATUS(strata_context_create("math=f16", NULL, &c), STRATA_E_SPEC);
    CHECK_STATUS(strata_context_create("math=bf16 device=cuda", NULL, &c), STRATA_E_UNSUPPORTED);
    CHECK_STATUS(strata_context_create("treads=3", NULL, &c), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("threads");
    CHECK(!c);
    CHECK_STATUS(strata_context_create("device=cuda", NULL, &c), STRATA_E_DEVICE);
    CHECK_STATUS(strata_context_create("threads=-1", NULL, &c), STRATA_E_SPEC);
}

/* Known answers of the Random123 distribution (kat_vectors): philox 4x32 10. */
static void philox_known_answers(void)
{
    uint32_t r[4];
    sti_philox(0, 0, 0, r);
    CHECK(r[0] == 0x6627e8d5 && r[1] == 0xe169c58d && r[2] == 0xbc57ac4c && r[3] == 0x9b00dbd8);
    sti_philox(UINT64_MAX, UINT64_MAX, UINT64_MAX, r);
    CHECK(r[0] == 0x408f276d && r[1] == 0x41c83b0e && r[2] == 0xa20bc7c6 && r[3] == 0x6d5451fd);
    sti_philox(0x299f31d0a4093822u, 0x0370734413198a2eu, 0x85a308d3243f6a88u, r);
    CHECK(r[0] == 0xd16cfe09 && r[1] == 0x94fdcceb && r[2] == 0x5001e420 && r[3] == 0x24126ea1);
}

static void normals_have_unit_variance(void)
{
    enum { N = 100000 };
    double sum = 0, sq = 0, quart = 0;
    for (int i = 0; i < N; i++) {
        double x = sti_normal(1, 2, (uint64_t)i);
        sum += x;
        sq += x * x;
        quart += x * x * x * x;
    }
    /* six standard errors: var(x) = 1, var(x^2) = 2, var(x^4) = 96 */
    CHECK(fabs(sum / N) < 6 / sqrt(N));
    CHECK(fabs(sq / N - 1) < 6 * sqrt(2.0 / N));
    CHECK(fabs(quart / N - 3) < 6 * sqrt(96.0 / N));
    int64_t count[3] = { 0 };
    for (int i = 0; i < N; i++) count[sti_below(5, 0, (uint64_t)i, 3)]++;
    for (int k = 0; k < 3; k++) CHECK(fabs((double)count[k] - N / 3.0) < 6 * sqrt(N * 2.0 / 9));
}

static void params(void)
{
    sti_params a = { 0 }, b = { 0 };
    CHECK_OK(sti_params_add(&a, "weight", 2, (int64_t[]){ 3, 5 }, STI_INIT_NORMAL, 0.5, 0.5, 2.0));
    CHECK_OK(sti_params_add(&a, "bias", 1, (int64_t[]){ 3 }, STI_INIT_CONST, 0, 1, 1));
    CHECK_INT(a.p[1].offset, 16);
    CHECK_INT(a.elements, 32);
    int32_t first;
    int64_t base;
    CHECK_OK(sti_params_append(&b, "q", &a, &first, &base));
    CHECK_OK(sti_params_append(&b, "k", &a, &first, &base));
    CHECK_INT(first, 2);
    CHECK_INT(base, 32);
    CHECK(sti_params_find(&b, "k.weight") && sti_params_find(&b, "k.weight")->offset == 32);
    CHECK_INT(sti_params_numel(&b), 36);
    double x[64];
    sti_params_init(&b, x, STRATA_F64, 7, 0);
    CHECK(x[0] == 0.5 * sti_normal(7, 0, 0) && x[15] == 0 && x[16] == 0);
    CHECK_STATUS(sti_params_add(&a, "huge", 3, (int64_t[]){ INT64_MAX, 2, 2 }, STI_INIT_CONST, 0, 1, 1),
                 STRATA_E_SHAPE);
    sti_params_free(&a);
    sti_params_free(&b);
}

static const sti_key toy_keys[] = {
    { "rank", STI_KEY_INT, "1", "", 1, 64, NULL },
    { "by", STI_KEY_NUM, "0.1", "", 0, 0, NULL },
    { "score", STI_KEY_WORD, "mlr", "", 0, 0, "standard|mlr" },
    { "blocks", STI_KEY_INTS, "", "", 1, 1e9, NULL },
    { "shape", STI_KEY_TEXT, "", "", 0, 0, NULL },
    { "of", STI_KEY_SPEC, "dense", "", 0, 0, "operator" },
    { "terms", STI_KEY_SPECS, "", "", 0, 0, "operator" },
    { "mixers", STI_KEY_CYCLE, "", "", 0, 0, "mixer" },
};

static strata_status bind(const char *text, sti_values **v)
{
    sti_spec *s = NULL;
    *v = NULL;
    strata_status status = sti_spec_parse(text, &s);
    if (status == STRATA_OK) status = sti_values_bind(s, "toy", (sti_keys)STI_KEYS(toy_keys), v);
    sti_spec_free(s);
    return status;
}

static void specs_bind(void)
{
    sti_values *v;
    CHECK_OK(bind(" toy rank=3 score=standard blocks=8,4,2 shape=2x3,4x5 of=btt(rank=2 shape=2x2,2x2)\n"
                  "terms=btt(rank=1),lowrank(rank=8) mixers=a(x=1)|b ",
                  &v));
    CHECK_INT(sti_value_int(v, "rank"), 3);
    CHECK(sti_value_num(v, "by") == 0.1);
    CHECK(sti_value_is(v, "score", "standard"));
    CHECK_INT(sti_value_of(v, "blocks")->i, 3);
    CHECK_INT(sti_value_of(v, "blocks")->ints[1], 4);
    CHECK_STR(sti_value_text(v, "shape"), "2x3,4x5");
    CHECK_STR(sti_value_spec(v, "of", 0)->kind, "btt");
    CHECK_STR(sti_value_spec(v, "mixers", 1)->kind, "b");
    char *text = sti_values_text(v, true);
    CHECK_STR(text, "toy(rank=3 by=0.1 score=standard blocks=8,4,2 shape=2x3,4x5 of=btt(rank=2 shape=2x2,2x2) "
                    "terms=btt(rank=1),lowrank(rank=8) mixers=a(x=1)|b)");
    sti_values *again;
    CHECK_OK(bind(text, &again));
    char *text2 = sti_values_text(again, true);
    CHECK_STR(text2, text);
    CHECK_OK(sti_values_set(v, "blocks", "16,1"));
    CHECK_INT(sti_value_of(v, "blocks")->ints[0], 16);
    sti_heap_free(text);
    sti_heap_free(text2);
    sti_values_free(v);
    sti_values_free(again);
    CHECK_OK(bind("toy(rank=2)", &v));
    sti_values_free(v);
}

static void bad_specs(void)
{
    static const struct {
        const char *text, *part;
    } bad[] = {
        { "", "expected a kind" },
        { "rank=2", "kind" },
        { "toy rnak=2", "nearest is rank" },
        { "toy rank=0", "[1, 64]" },
        { "toy rank=two", "not an integer" },
        { "toy rank=2 rank=3", "twice" },
        { "toy rank=", "expected a value" },
        { "toy by=nan", "finite" },
        { "toy by=1e999", "finite" },
        { "toy score=foo", "standard|mlr" },
        { "toy of=a(b=1", "missing ')'" },
        { "toy of=a(b=1))", "expected a blank" },
        { "toy of=a,b", "takes one" },
        { "toy terms=a|b", "','" },
        { "toy blocks=a(b=1)", "integers" },
        { "toy blocks=1,,2", "expected a value" },
        { "toy(rank=1) x", "after the closing" },
        { "toy of=a(b=a(b=a(b=a(b=a(b=a(b=a(b=a(b=a(b=a(b=a(b=a(b=a(b=a(b=a(b=a(b=a(b=a(b=1))))))))))))))))))",
          "deep" },
    };
    for (size_t i = 0; i < STI_COUNT(bad); i++) {
        sti_values *v;
        strata_status s = bind(bad[i].text, &v);
        if (s != STRATA_E_SPEC) FAIL("\"%s\" gave %s", bad[i].text, strata_status_name(s));
        if (!strstr(strata_last_error(), bad[i].part))
            FAIL("\"%s\": \"%s\" lacks \"%s\"", bad[i].text, strata_last_error(), bad[i].part);
        CHECK(!v);
    }
}

TESTS(T(statuses), T(contexts), T(philox_known_answers), T(normals_have_unit_variance), T(params), T(specs_bind),
      T(bad_specs))
