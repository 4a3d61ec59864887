/* JSON against tables written from RFC 8259. */
#include "io/json.h"

#include <locale.h>

#include "support/test.h"

static sti_json *parse(const char *text)
{
    sti_json *j = NULL;
    CHECK_OK(sti_json_parse(text, strlen(text), &j));
    return j;
}

static void accepts(void)
{
    static const char *const good[] = {
        "null",
        "true",
        " false\r\n",
        "0",
        "-0",
        "-0.5e-7",
        "1E+2",
        "123456789012345678901234567890",
        "1e999",
        "\"\"",
        "[]",
        "{}",
        "[1,[2,[3]],{}]",
        "{\"\":0}",
        "{\"a\":1,\"b\":1,\"A\":1}",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf\"",
        "\"\x7f\"",
    };
    for (size_t i = 0; i < STI_COUNT(good); i++) sti_json_free(parse(good[i]));
}

static void refuses(void)
{
    static const char *const bad[] = {
        "",
        " ",
        "nul",
        "True",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "Infinity",
        "-Infinity",
        "'a'",
        "\"",
        "\"a",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u123\"",
        "\"\\ud800\"",
        "\"\\ud800x\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"a\nb\"",
        "\"\x01\"",
        "\"\\",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "{1:2}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "1 2",
        "[] x",
        "// c\n1",
        "\xef\xbb\xbf[]",
        /* not UTF-8: stray, overlong, surrogate, above U+10FFFF, cut off */
        "\"\x80\"",
        "\"\xc0\xaf\"",
        "\"\xe0\x80\xaf\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xff\"",
        "\"\xc3\"",
        /* duplicate names, also when spelled differently */
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "[{\"x\":{\"k\":1,\"l\":2,\"k\":3}}]",
    };
    for (size_t i = 0; i < STI_COUNT(bad); i++) {
        sti_json *j = (sti_json *)&j;
        strata_status s = sti_json_parse(bad[i], strlen(bad[i]), &j);
        if (s != STRATA_E_FORMAT || j) FAIL("%s gave %s", bad[i], strata_status_name(s));
    }
    sti_json *j;
    CHECK_STATUS(sti_json_parse("1\0", 2, &j), STRATA_E_FORMAT);
    CHECK_STATUS(sti_json_parse("[1,\n 2,x]", 10, &j), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("line 2, column 4");
}

static void limits(void)
{
    char deep[2 * STI_JSON_MAX_DEPTH + 3];
    sti_json *j;
    for (int extra = 0; extra < 2; extra++) {
        size_t n = STI_JSON_MAX_DEPTH + (size_t)extra;
        memset(deep, '[', n);
        memset(deep + n, ']', n);
        CHECK_STATUS(sti_json_parse(deep, 2 * n, &j), extra ? STRATA_E_FORMAT : STRATA_OK);
        sti_json_free(j);
    }
    char digits[STI_JSON_MAX_NUMBER + 1];
    memset(digits, '7', sizeof digits);
    CHECK_OK(sti_json_parse(digits, STI_JSON_MAX_NUMBER, &j));
    sti_json_free(j);
    CHECK_STATUS(sti_json_parse(digits, sizeof digits, &j), STRATA_E_FORMAT);
    CHECK_STATUS(sti_json_parse(digits, (size_t)STI_JSON_MAX_BYTES + 1, &j), STRATA_E_FORMAT);
}

static void values(void)
{
    sti_json *j = parse("{\"s\":\"a\\u0000b\",\"n\":[-9223372036854775808,9223372036854775808,2.5,1e3],"
                        "\"t\":true,\"e\":\"\\u00e9\\u20ac\\ud83d\\ude00\",\"\\n\":null}");
    const sti_json_node *r = sti_json_root(j), *s = sti_json_get(j, r, "s"), *n = sti_json_get(j, r, "n");
    CHECK_INT(r->count, 5);
    CHECK_INT(s->len, 3);
    CHECK(memcmp(s->text, "a\0b", 4) == 0 && !sti_json_string(s));
    CHECK_INT(n->count, 4);
    n = sti_json_first(j, n);
    CHECK(n->is_int && n->i == INT64_MIN);
    n = sti_json_next(j, n);
    CHECK(!n->is_int && n->num == 0x1p63);
    CHECK_STR(n->text, "9223372036854775808");
    n = sti_json_next(j, n);
    CHECK(!n->is_int && n->num == 2.5);
    n = sti_json_next(j, n);
    CHECK(!n->is_int && n->num == 1000 && !sti_json_next(j, n));
    CHECK(sti_json_get(j, r, "t")->type == STI_JSON_BOOL && sti_json_get(j, r, "t")->i == 1);
    CHECK_STR(sti_json_string(sti_json_get(j, r, "e")), "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    CHECK(sti_json_get(j, r, "\n")->type == STI_JSON_NULL);
    CHECK(!sti_json_get(j, r, "x") && !sti_json_get(j, s, "s"));
    sti_json_free(j);
}

static void many_members(void)
{
    sti_text t = { 0 };
    sti_text_add(&t, "{");
    for (int i = 0; i < 20000; i++) sti_text_add(&t, "\"k%d\":%d,", i, i);
    size_t n = t.len;
    sti_text_add(&t, "\"k%d\":0}", 20000);
    sti_json *j = parse(t.s);
    CHECK_INT(sti_json_get(j, sti_json_root(j), "k19999")->i, 19999);
    sti_json_free(j);
    snprintf(t.s + n, t.cap - n, "\"k%d\":0}", 777);
    CHECK_STATUS(sti_json_parse(t.s, strlen(t.s), &j), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("two members \"k777\"");
    sti_text_free(&t);
}

static void writes_strings(void)
{
    sti_text t = { 0 };
    sti_json_put_string(&t, "a\"\\/\b\f\n\r\t\x01\0\x1f\x7f\xc3\xa9|\xff\xc3|", 19);
    CHECK_STR(t.s, "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u0000\\u001f\x7f\xc3\xa9|\xef\xbf\xbd\xef\xbf\xbd|\"");
    sti_text_free(&t);
    sti_json_put_string(&t, "", 0);
    CHECK_STR(t.s, "\"\"");
    sti_text_free(&t);
}

static void check_number(double x, const char *want)
{
    sti_text t = { 0 };
    sti_json_put_number(&t, x);
    if (want) CHECK_STR(t.s, want);
    if (isfinite(x)) {
        sti_json *j = parse(t.s);
        double back = sti_json_root(j)->num;
        CHECK(memcmp(&back, &x, sizeof x) == 0);
        sti_json_free(j);
    }
    sti_text_free(&t);
}

static void writes_numbers(void)
{
    static const struct {
        double x;
        const char *text;
    } c[] = { { 0, "0" },
              { -0.0, "-0" },
              { 0.1, "0.1" },
              { 1e22, "1e+22" },
              { 0.1 + 0.2, "0.30000000000000004" },
              { 5e-324, "4.94065645841247e-324" },
              { 1.7976931348623157e308, "1.7976931348623157e+308" },
              { (double)NAN, "null" },
              { (double)INFINITY, "null" },
              { -(double)INFINITY, "null" } };
    for (size_t i = 0; i < STI_COUNT(c); i++) check_number(c[i].x, c[i].text);
    uint64_t bits = 88172645463325252u; /* xorshift64 */
    for (int i = 0; i < 20000; i++) {
        double x;
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        memcpy(&x, &bits, sizeof x);
        if (isfinite(x)) check_number(x, NULL);
    }
}

/* A host program may have set a locale whose decimal point is a comma. */
static void any_locale(void)
{
    static const char *const names[] = { "de_DE.UTF-8", "fr_FR.UTF-8", "pt_BR.UTF-8", "ps_AF.UTF-8" };
    int found = 0;
    for (size_t i = 0; i < STI_COUNT(names); i++) {
        if (!setlocale(LC_NUMERIC, names[i])) continue;
        found++;
        double x;
        check_number(-1234.5e-9, "-1.2345e-06");
        CHECK(!sti_parse_f64("0,5", &x) && sti_parse_f64("0.5", &x) && x == 0.5);
        setlocale(LC_NUMERIC, "C");
    }
    if (!found) SKIP("no locale with a decimal comma is installed");
}

TESTS(T(accepts), T(refuses), T(limits), T(values), T(many_members), T(writes_strings), T(writes_numbers),
      T(any_locale))
